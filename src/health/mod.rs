//! When a path or a real server is up: the probes, and the verdicts with rise, fall, hold and flap damping.
//!
//! A prober builds frames and reads answers; a monitor turns the outcomes into verdicts. Neither opens a socket or
//! reads a clock. What a verdict means for a firewall is decided in [`crate::path::liveness`].

pub mod history;
pub mod monitor;
pub mod prober;
pub mod service_monitor;
pub mod service_prober;

use crate::time::Duration;

/// How the paths of a group are checked (`[group.check]` in the configuration).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathCheck {
    /// The kind of probe.
    pub kind: PathCheckKind,
    /// Time between two probes.
    pub interval: Duration,
    /// Time after which a probe without an answer has failed. It may exceed the interval.
    pub timeout: Duration,
    /// Consecutive failures until a path is down, 1 to 255.
    pub fall: u8,
    /// Consecutive successes until a path is up, 1 to 255.
    pub rise: u8,
    /// Time for which a returned path must stay up before it takes new flows again.
    pub hold: Duration,
}

impl Default for PathCheck {
    /// The values that apply where the configuration says nothing.
    fn default() -> Self {
        Self {
            kind: PathCheckKind::Icmp,
            interval: Duration::from_millis(50),
            timeout: Duration::from_millis(100),
            fall: 5,
            rise: 10,
            hold: Duration::from_secs(2),
        }
    }
}

/// The kind of a path probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathCheckKind {
    /// An ICMP echo request.
    Icmp,
    /// A TCP handshake with a port of the peer engine.
    Tcp {
        /// Destination port.
        port: u16,
    },
    /// A UDP datagram to a port of the peer engine.
    Udp {
        /// Destination port.
        port: u16,
    },
    /// No probes. The path is up if its link is up and its next hop answers.
    None,
}

/// How the real servers of a service are checked (`[service.check]` in the configuration).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCheck {
    /// The kind of check.
    pub kind: ServiceCheckKind,
    /// Destination port of the check; `None` for the server's own port.
    pub port: Option<u16>,
    /// Time between two checks while the server is up. It is longer than `timeout`.
    pub interval: Duration,
    /// Time after which a check without an answer has failed.
    pub timeout: Duration,
    /// Consecutive failures until the server is down, 1 to 255. The very first check alone decides.
    pub fall: u8,
    /// Consecutive successes until the server is up, 1 to 255. The very first check alone decides.
    pub rise: u8,
    /// Time between two checks while the server is down.
    pub dead_interval: Duration,
    /// Time without a success after which the server is down, however few failures there were.
    pub down_after: Option<Duration>,
}

/// The kind of a server check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceCheckKind {
    /// An ICMP echo request.
    Icmp,
    /// A TCP handshake, closed by FIN.
    Tcp,
    /// A half-open TCP handshake: SYN, SYN-ACK, then RST. The server never gets a connection.
    HalfOpen,
    /// An HTTP request over TCP.
    Http {
        /// The request target; `/` by default.
        path: String,
        /// The Host header; `None` for the server's address.
        host: Option<String>,
        /// The status codes of a healthy server.
        status: Vec<std::ops::RangeInclusive<u16>>,
        /// A text that the body must contain too.
        body: Option<String>,
    },
    /// No check: the server counts as up.
    None,
}

impl ServiceCheckKind {
    /// True if the check goes to a TCP port of the server.
    pub const fn has_port(&self) -> bool {
        !matches!(self, Self::Icmp | Self::None)
    }
}
