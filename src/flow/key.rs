//! The identity of a flow.

use std::net::IpAddr;

use crate::wire::Family;
use crate::wire::frame::Tuple;

/// One end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Address.
    pub address: IpAddr,
    /// TCP, UDP or SCTP port; ICMP identifier; 0 where the protocol has neither.
    pub port: u16,
}

/// A 5-tuple as one packet shows it: source first. Both ends have the same family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// IP protocol number.
    pub protocol: u8,
    /// Where the packet comes from.
    pub source: Endpoint,
    /// Where it goes to.
    pub destination: Endpoint,
}

/// How a packet's source and destination map to the low and high end of its [`CanonicalKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The source is the low end.
    LowToHigh,
    /// The source is the high end.
    HighToLow,
}

/// A flow whichever way its packets go: the ends in order of (address, port), big endian.
///
/// Compact on purpose (it is the key of the session table): 13 bytes of content for IPv4, 37 for IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CanonicalKey {
    /// IPv4.
    V4(CanonicalV4),
    /// IPv6.
    V6(CanonicalV6),
}

/// IPv4 form of [`CanonicalKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CanonicalV4 {
    /// Low address.
    pub low: [u8; 4],
    /// High address.
    pub high: [u8; 4],
    /// Port of the low end.
    pub low_port: u16,
    /// Port of the high end.
    pub high_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// IPv6 form of [`CanonicalKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CanonicalV6 {
    /// Low address.
    pub low: [u8; 16],
    /// High address.
    pub high: [u8; 16],
    /// Port of the low end.
    pub low_port: u16,
    /// Port of the high end.
    pub high_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl FlowKey {
    /// The same flow seen from the other end.
    pub fn reversed(self) -> Self {
        Self { protocol: self.protocol, source: self.destination, destination: self.source }
    }

    /// Address family of both ends.
    pub fn family(&self) -> Family {
        Family::of(self.source.address)
    }

    /// The direction-free form, and which way this packet goes.
    pub fn canonical(&self) -> (CanonicalKey, Direction) {
        todo!()
    }
}

impl From<Tuple> for FlowKey {
    fn from(tuple: Tuple) -> Self {
        Self {
            protocol: tuple.protocol,
            source: Endpoint { address: tuple.source, port: tuple.source_port },
            destination: Endpoint { address: tuple.destination, port: tuple.destination_port },
        }
    }
}

impl CanonicalKey {
    /// The packet view of the flow: a key whose packets go in `direction`.
    pub fn oriented(&self, direction: Direction) -> FlowKey {
        let _ = direction;
        todo!()
    }
}

impl Direction {
    /// The other way.
    pub const fn reversed(self) -> Self {
        match self {
            Self::LowToHigh => Self::HighToLow,
            Self::HighToLow => Self::LowToHigh,
        }
    }
}
