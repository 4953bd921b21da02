//! What changes on the way through a virtual service, and the ports that stand for clients.
//!
//! A translated flow has two *legs*: outside, the client and the virtual address; inside, the real server and either the
//! client (`nat`) or an address of the engine's own (`full-nat`).
//!
//! ```text
//!   client ── 198.51.100.7:40000 > 203.0.113.80:80 ──▶ engine ── 198.51.100.7:40000 > 10.10.20.11:8080 ──▶ server
//!               outside                                            inside
//! ```

mod other_port;
pub mod ports;

use crate::flow::FlowKey;
use crate::wire::frame::{Frame, Tuple, Untranslatable};
use crate::wire::offload::Offload;

pub use other_port::other_ports;
pub use ports::{NoPort, PoolKey, PortPool, PortPools};

/// Which way a packet goes through the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the client toward the server.
    Inward,
    /// From the server toward the client.
    Outward,
}

/// Both legs of a translated flow, each as the client's packets show it: source first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Translation {
    /// Client to virtual address.
    pub outside: FlowKey,
    /// Client, or what stands for it, to real server.
    pub inside: FlowKey,
}

impl Translation {
    /// What a packet that goes `way` shows when it leaves.
    pub fn leaving(&self, way: Way) -> FlowKey {
        match way {
            Way::Inward => self.inside,
            Way::Outward => self.outside.reversed(),
        }
    }

    /// What a packet that goes `way` shows when it comes.
    pub fn coming(&self, way: Way) -> FlowKey {
        match way {
            Way::Inward => self.outside,
            Way::Outward => self.inside.reversed(),
        }
    }

    /// Translates a packet of the flow that goes `way`, a fragment too.
    pub fn apply(&self, frame: &mut Frame<'_>, offload: &Offload, way: Way) -> Result<(), Untranslatable> {
        frame.translate(&tuple(&self.leaving(way)), offload)
    }

    /// Translates an ICMP error about a packet of the flow. The error goes `way`, so the packet that it quotes went the other
    /// way, and had left the engine already.
    ///
    /// An error by the quoted packet's destination itself seems to come from that destination as the receiver knows it; one
    /// by a router on the way keeps the router's address (RFC 5508 section 7.1).
    pub fn apply_error(&self, frame: &mut Frame<'_>, offload: &Offload, way: Way) -> Result<(), Untranslatable> {
        let (seen, meant) = (self.coming(way).reversed(), self.leaving(way).reversed());
        let from_destination = frame.source() == seen.destination.address;
        let source = if from_destination { meant.destination.address } else { frame.source() };
        frame.translate_error(&tuple(&meant), source, meant.source.address, offload)
    }
}

fn tuple(flow: &FlowKey) -> Tuple {
    Tuple {
        protocol: flow.protocol,
        source: flow.source.address,
        source_port: flow.source.port,
        destination: flow.destination.address,
        destination_port: flow.destination.port,
    }
}

#[cfg(test)]
mod tests;
