//! Network address translation of the flows of virtual services, and the source ports that it uses for clients. Why a
//! flow is translated is decided elsewhere.
//!
//! A translated flow has two *legs*. The outside leg runs between the client and the virtual address. The inside leg
//! runs between the real server and either the client (mode `nat`) or an address of the engine (mode `full-nat`).
//!
//! ```text
//!   client ── 198.51.100.7:40000 > 203.0.113.80:80 ──▶ engine ── 198.51.100.7:40000 > 10.10.20.11:8080 ──▶ server
//!               outside                                            inside
//! ```

mod alternative_port;
pub mod ports;

use crate::flow::FlowKey;
use crate::wire::frame::{Frame, Tuple, Untranslatable};
use crate::wire::offload::Offload;

pub use alternative_port::alternative_source_ports;
pub use ports::{NoPort, PoolKey, PortPool, PortPools, ports_of_node};

/// The direction of a packet of a translated flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NatDirection {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// Both legs of a translated flow, each as the packets of the client show it: source first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Translation {
    /// From the client to the virtual address.
    pub outside: FlowKey,
    /// From the client, or the engine's address that stands for it, to the real server.
    pub inside: FlowKey,
}

impl Translation {
    /// The 5-tuple of a packet in direction `way` after translation.
    pub fn after(&self, way: NatDirection) -> FlowKey {
        match way {
            NatDirection::ToServer => self.inside,
            NatDirection::ToClient => self.outside.reversed(),
        }
    }

    /// The 5-tuple of a packet in direction `way` before translation.
    pub fn before(&self, way: NatDirection) -> FlowKey {
        match way {
            NatDirection::ToServer => self.outside,
            NatDirection::ToClient => self.inside.reversed(),
        }
    }

    /// Translates a packet of the flow in direction `way`. Fragments are translated too.
    pub fn apply(&self, frame: &mut Frame<'_>, offload: &Offload, way: NatDirection) -> Result<(), Untranslatable> {
        frame.translate(&tuple(&self.after(way)), offload)
    }

    /// Translates an ICMP error about a packet of the flow. The error itself goes in direction `way`; the packet that
    /// it quotes went in the other direction and was already translated.
    ///
    /// If the error comes from the destination of the quoted packet, its source becomes the address by which the
    /// receiver knows that destination. If it comes from a router on the way, it keeps the router's address (RFC 5508
    /// section 7.1).
    pub fn apply_to_icmp_error(
        &self,
        frame: &mut Frame<'_>,
        offload: &Offload,
        way: NatDirection,
    ) -> Result<(), Untranslatable> {
        let (seen, meant) = (self.before(way).reversed(), self.after(way).reversed());
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
