//! When a path or a real server is up: rise, fall, hold, flap damping; and the probes that tell.
//!
//! A prober makes frames and reads answers, a monitor makes verdicts of them. Neither opens a socket or reads a clock, and
//! what a verdict means for a firewall is decided in [`crate::path::liveness`].

pub mod history;
pub mod monitor;
pub mod prober;
pub mod service_monitor;
pub mod service_prober;

use crate::time::Duration;

/// `[group.check]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is sent.
    pub kind: CheckKind,
    /// Time between probes.
    pub interval: Duration,
    /// A probe that is not answered within this has failed; may exceed the interval.
    pub timeout: Duration,
    /// Consecutive failures until down, 1..=255.
    pub fall: u8,
    /// Consecutive successes until up, 1..=255.
    pub rise: u8,
    /// Good for this long before it takes new flows again.
    pub hold: Duration,
}

impl Default for Check {
    /// What holds where the file says nothing.
    fn default() -> Self {
        Self {
            kind: CheckKind::Icmp,
            interval: Duration::from_millis(50),
            timeout: Duration::from_millis(100),
            fall: 5,
            rise: 10,
            hold: Duration::from_secs(2),
        }
    }
}

/// What a path probe is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// ICMP echo.
    Icmp,
    /// TCP handshake with the peer's port.
    Tcp {
        /// Destination port.
        port: u16,
    },
    /// UDP datagram to the peer's port.
    Udp {
        /// Destination port.
        port: u16,
    },
    /// No probes: the path is as up as its link and neighbour.
    None,
}

/// `[service.check]`: how a real server is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCheck {
    /// What is asked.
    pub kind: ServiceCheckKind,
    /// Port to ask; `None`: the server's.
    pub port: Option<u16>,
    /// Time between checks; longer than `timeout`.
    pub interval: Duration,
    /// Time for one answer.
    pub timeout: Duration,
    /// Consecutive failures until down, 1..=255. The first check of all decides alone.
    pub fall: u8,
    /// Consecutive successes until up, 1..=255. The first check of all decides alone.
    pub rise: u8,
    /// Time between checks while down.
    pub dead_interval: Duration,
    /// No success for this long is down, whatever `fall` says.
    pub down_after: Option<Duration>,
}

/// What a check asks of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceCheckKind {
    /// ICMP echo.
    Icmp,
    /// A TCP handshake, ended by FIN.
    Tcp,
    /// SYN, SYN-ACK, RST: never a connection.
    HalfOpen,
    /// An HTTP request.
    Http {
        /// What is asked for, `/` by default.
        path: String,
        /// Host header; `None`: the server's address.
        host: Option<String>,
        /// Status codes that are well.
        status: Vec<std::ops::RangeInclusive<u16>>,
        /// What the body must contain as well.
        body: Option<String>,
    },
    /// Nothing: the server is up.
    None,
}
