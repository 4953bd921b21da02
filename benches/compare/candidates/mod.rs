//! The candidates of the comparison. Each waits in a lane of its own, ready to forward, until its turn.

mod engine;
mod haproxy;
mod kernel;
pub mod minimal;
mod testpmd;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Result;

pub use self::engine::{Duty, Engine, accepts};
pub use self::minimal::Sending;
use crate::generator::Traffic;
use crate::lane::{self, Lane};
use crate::placement::Placement;
use crate::process::Process;

/// The kind of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// This program, with a real configuration.
    Fwlb(Engine),
    /// DPDK's own forwarder over AF_PACKET, in the mode that looks at no header and only writes MAC addresses.
    TestpmdPacket,
    /// The same over AF_XDP.
    TestpmdXdp,
    /// Our own forwarder over the ring of `io`, which looks at no header.
    Minimal(Sending),
    /// The kernel as a router.
    IpForward,
    /// The kernel as a load balancer: nftables, destination NAT, conntrack.
    Nftables,
    /// HAProxy as a TCP proxy.
    Haproxy,
}

impl Kind {
    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fwlb(_) => "fwlb",
            Self::TestpmdPacket | Self::TestpmdXdp => "testpmd",
            Self::Minimal(Sending::Messages) => "minimal",
            Self::Minimal(Sending::Ring) => "minimal, same sending",
            Self::IpForward => "ip_forward",
            Self::Nftables => "nftables",
            Self::Haproxy => "HAProxy",
        }
    }

    /// Whether clients send to the VIP.
    const fn is_balancer(self) -> bool {
        match self {
            Self::Fwlb(engine) => matches!(engine.duty, Duty::Balance),
            Self::Nftables | Self::Haproxy => true,
            Self::TestpmdPacket | Self::TestpmdXdp | Self::Minimal(_) | Self::IpForward => false,
        }
    }
}

/// A candidate in its lane.
#[derive(Debug)]
pub struct Candidate {
    /// Its kind.
    pub kind: Kind,
    /// Its processes; the kernel has none. They end before their lane does.
    processes: Vec<Process>,
    /// Whether it would use the core while another candidate has its turn.
    spins: bool,
    /// Its lane.
    pub lane: Lane,
    /// The directory of its files.
    directory: PathBuf,
}

impl Candidate {
    /// Builds the lane and starts the candidate in it; `directory` takes its files.
    pub fn start(kind: Kind, placement: Placement, directory: &Path) -> Result<Self> {
        let lane = Lane::new(placement)?;
        let mut spins = false;
        let processes = match kind {
            Kind::Fwlb(configuration) => {
                spins = configuration.busy_poll;
                vec![engine::start(&lane, configuration, directory)?]
            }
            Kind::TestpmdPacket | Kind::TestpmdXdp => {
                spins = true;
                vec![testpmd::start(&lane, kind == Kind::TestpmdXdp, directory)?]
            }
            Kind::Minimal(sending) => vec![minimal::start(&lane, sending, directory)?],
            Kind::IpForward => {
                kernel::forward(&lane)?;
                Vec::new()
            }
            Kind::Nftables => {
                kernel::balance(&lane)?;
                Vec::new()
            }
            Kind::Haproxy => vec![haproxy::start(&lane, directory)?],
        };
        let candidate = Self { kind, processes, spins, lane, directory: directory.to_owned() };
        candidate.rest()?;
        Ok(candidate)
    }

    /// Begins its turn.
    pub fn wake(&self) -> Result<()> {
        if self.spins {
            self.processes.iter().try_for_each(Process::thaw)?;
        }
        Ok(())
    }

    /// Ends its turn.
    pub fn rest(&self) -> Result<()> {
        if self.spins {
            self.processes.iter().try_for_each(Process::freeze)?;
        }
        Ok(())
    }

    /// The packets that the generator has to send into its lane.
    pub fn traffic(&self) -> Traffic {
        Traffic { to: self.address(), from: server() }
    }

    /// The address at which the servers are reached through it.
    pub fn address(&self) -> Ipv4Addr {
        let text = if self.kind.is_balancer() { lane::VIP } else { lane::SERVERS[0] };
        text.parse().expect("an address")
    }

    /// Number of live sessions of fwlb; other candidates are not asked.
    pub fn sessions(&self) -> Result<u64> {
        engine::sessions(&self.lane, &self.directory)
    }
}

fn server() -> Ipv4Addr {
    lane::SERVERS[0].parse().expect("an address")
}
