//! What a check goes to.

use crate::wire::emit::{AddressPair, MacPair};

/// The addresses, ports and limits of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckTarget {
    /// Source and destination hardware address.
    pub macs: MacPair,
    /// The engine's address and the server's address.
    pub addresses: AddressPair,
    /// Source port, or identifier of the echo; one of [`PORTS`](super::PORTS).
    pub source_port: u16,
    /// Sequence number of the SYN (RFC 6528), above those of any earlier connection between the same ends.
    pub sequence: u32,
    /// Destination port at the server.
    pub port: u16,
    /// The MTU: length of the largest IP packet in bytes.
    pub mtu: u16,
}
