//! The identity of a flow: the 5-tuple of a packet, and its canonical form that both directions share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::Family;
use crate::wire::frame::Tuple;

/// One end of a flow: an address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// IP address.
    pub address: IpAddr,
    /// TCP, UDP or SCTP port, or ICMP identifier; 0 if the protocol has neither.
    pub port: u16,
}

/// The 5-tuple of a packet, source first. Both ends are of the same address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// IP protocol number.
    pub protocol: u8,
    /// The end that sent the packet.
    pub source: Endpoint,
    /// The end that the packet is sent to.
    pub destination: Endpoint,
}

/// The direction of a packet relative to the low and high end of its [`CanonicalKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the low to the high end.
    LowToHigh,
    /// From the high to the low end.
    HighToLow,
}

/// A flow without direction: its ends are ordered by (address, port) as big-endian numbers.
///
/// The session table uses it as its key, so that it is compact: 13 bytes of content for IPv4, 37 for IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CanonicalKey {
    /// An IPv4 flow.
    V4(CanonicalV4),
    /// An IPv6 flow.
    V6(CanonicalV6),
}

/// The IPv4 form of [`CanonicalKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CanonicalV4 {
    /// Address of the low end.
    pub low: [u8; 4],
    /// Address of the high end.
    pub high: [u8; 4],
    /// Port of the low end.
    pub low_port: u16,
    /// Port of the high end.
    pub high_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// The IPv6 form of [`CanonicalKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CanonicalV6 {
    /// Address of the low end.
    pub low: [u8; 16],
    /// Address of the high end.
    pub high: [u8; 16],
    /// Port of the low end.
    pub low_port: u16,
    /// Port of the high end.
    pub high_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl FlowKey {
    /// The 5-tuple of packets in the opposite direction.
    pub fn reversed(self) -> Self {
        Self { protocol: self.protocol, source: self.destination, destination: self.source }
    }

    /// The address family of both ends.
    pub fn family(&self) -> Family {
        Family::of(self.source.address)
    }

    /// The canonical key of the flow, and the direction of this packet.
    ///
    /// If both ends are equal (a LAND packet), the direction is [`Direction::LowToHigh`].
    #[inline]
    pub fn canonical(&self) -> (CanonicalKey, Direction) {
        // Numbers are put in order rather than ends: a compiler moves an end, which may be of either family, byte by byte.
        let Self { protocol, source, destination } = self;
        match (&source.address, &destination.address) {
            (IpAddr::V4(from), IpAddr::V4(to)) => canonical_v4(*protocol, (from, source.port), (to, destination.port)),
            (IpAddr::V6(from), IpAddr::V6(to)) => canonical_v6(*protocol, (from, source.port), (to, destination.port)),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => self.canonical_of_two_families(),
        }
    }

    /// Both ends of a flow are of one family. If a caller breaks that promise, the IPv4-mapped form gives a well-defined
    /// key that no real flow has.
    #[cold]
    #[inline(never)]
    fn canonical_of_two_families(&self) -> (CanonicalKey, Direction) {
        let Self { protocol, source, destination } = self;
        let (from, to) = (as_v6(&source.address), as_v6(&destination.address));
        canonical_v6(*protocol, (&from, source.port), (&to, destination.port))
    }

    /// The direction of this packet relative to the canonical key.
    #[inline]
    pub fn direction(&self) -> Direction {
        if self.is_low_to_high() { Direction::LowToHigh } else { Direction::HighToLow }
    }

    /// Whether `source <= destination`; an address and its port are compared as one number.
    #[inline]
    fn is_low_to_high(&self) -> bool {
        let Self { source, destination, .. } = self;
        match (&source.address, &destination.address) {
            (IpAddr::V4(from), IpAddr::V4(to)) => number_v4(from, source.port) <= number_v4(to, destination.port),
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                (u128::from(*from), source.port) <= (u128::from(*to), destination.port)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                self.canonical_of_two_families().1 == Direction::LowToHigh
            }
        }
    }
}

impl From<Tuple> for FlowKey {
    #[inline(always)]
    fn from(tuple: Tuple) -> Self {
        Self {
            protocol: tuple.protocol,
            source: Endpoint { address: tuple.source, port: tuple.source_port },
            destination: Endpoint { address: tuple.destination, port: tuple.destination_port },
        }
    }
}

impl From<FlowKey> for Tuple {
    fn from(flow: FlowKey) -> Self {
        Self {
            protocol: flow.protocol,
            source: flow.source.address,
            source_port: flow.source.port,
            destination: flow.destination.address,
            destination_port: flow.destination.port,
        }
    }
}

impl CanonicalKey {
    /// The address family of both ends.
    pub const fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }

    /// IP protocol number.
    pub const fn protocol(&self) -> u8 {
        match self {
            Self::V4(key) => key.protocol,
            Self::V6(key) => key.protocol,
        }
    }

    /// The low end.
    pub fn low(&self) -> Endpoint {
        match self {
            Self::V4(key) => Endpoint { address: IpAddr::from(key.low), port: key.low_port },
            Self::V6(key) => Endpoint { address: IpAddr::from(key.low), port: key.low_port },
        }
    }

    /// The high end.
    pub fn high(&self) -> Endpoint {
        match self {
            Self::V4(key) => Endpoint { address: IpAddr::from(key.high), port: key.high_port },
            Self::V6(key) => Endpoint { address: IpAddr::from(key.high), port: key.high_port },
        }
    }

    /// The 5-tuple of packets of this flow that go in `direction`.
    pub fn in_direction(&self, direction: Direction) -> FlowKey {
        let (source, destination) = match direction {
            Direction::LowToHigh => (self.low(), self.high()),
            Direction::HighToLow => (self.high(), self.low()),
        };
        FlowKey { protocol: self.protocol(), source, destination }
    }
}

/// An IPv4 address with its port, as one number.
#[inline]
fn number_v4(address: &Ipv4Addr, port: u16) -> u64 {
    u64::from(u32::from(*address)) << 16 | u64::from(port)
}

/// The key of an IPv4 flow, and the direction of its packet.
#[inline]
fn canonical_v4(protocol: u8, from: (&Ipv4Addr, u16), to: (&Ipv4Addr, u16)) -> (CanonicalKey, Direction) {
    let key = |low: u64, high: u64| {
        let address = |end: u64| ((end >> 16) as u32).to_be_bytes();
        let (low_port, high_port) = (low as u16, high as u16);
        CanonicalKey::V4(CanonicalV4 { low: address(low), high: address(high), low_port, high_port, protocol })
    };
    in_order(number_v4(from.0, from.1), number_v4(to.0, to.1), key)
}

/// The key of an IPv6 flow, and the direction of its packet.
#[inline]
fn canonical_v6(protocol: u8, from: (&Ipv6Addr, u16), to: (&Ipv6Addr, u16)) -> (CanonicalKey, Direction) {
    let key = |(low, low_port): (u128, u16), (high, high_port): (u128, u16)| {
        CanonicalKey::V6(CanonicalV6 {
            low: low.to_be_bytes(),
            high: high.to_be_bytes(),
            low_port,
            high_port,
            protocol,
        })
    };
    in_order((u128::from(*from.0), from.1), (u128::from(*to.0), to.1), key)
}

/// An address in the form of IPv6.
fn as_v6(address: &IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => *address,
    }
}

/// The key that `key` makes of two ends in order, and the direction of a packet between them.
#[inline]
fn in_order<T: PartialOrd>(from: T, to: T, key: impl Fn(T, T) -> CanonicalKey) -> (CanonicalKey, Direction) {
    if from <= to { (key(from, to), Direction::LowToHigh) } else { (key(to, from), Direction::HighToLow) }
}

impl Direction {
    /// The opposite direction.
    pub const fn reversed(self) -> Self {
        match self {
            Self::LowToHigh => Self::HighToLow,
            Self::HighToLow => Self::LowToHigh,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint(v6: bool) -> impl Strategy<Value = Endpoint> {
        (any::<u128>(), any::<u16>()).prop_map(move |(bits, port)| Endpoint {
            address: if v6 { IpAddr::from(bits.to_be_bytes()) } else { IpAddr::from((bits as u32).to_be_bytes()) },
            port,
        })
    }

    fn flow() -> impl Strategy<Value = FlowKey> {
        any::<bool>().prop_flat_map(|v6| {
            (any::<u8>(), endpoint(v6), endpoint(v6)).prop_map(|(protocol, source, destination)| FlowKey {
                protocol,
                source,
                destination,
            })
        })
    }

    proptest! {
        #[test]
        fn both_directions_have_one_canonical_key(flow in flow()) {
            let (key, direction) = flow.canonical();
            let (reversed, other) = flow.reversed().canonical();

            prop_assert_eq!(key, reversed);
            prop_assert!(direction != other || flow.source == flow.destination);
            prop_assert_eq!((flow.direction(), flow.reversed().direction()), (direction, other));
            prop_assert!(key.low() <= key.high());
        }

        #[test]
        fn a_canonical_key_gives_the_flow_back(flow in flow()) {
            let (key, direction) = flow.canonical();

            prop_assert_eq!(key.in_direction(direction), flow);
            prop_assert_eq!(key.in_direction(direction.reversed()), flow.reversed());
            prop_assert_eq!(key.family(), flow.family());
        }
    }

    #[test]
    fn the_port_orders_ends_with_one_address() {
        let address = IpAddr::from([10, 0, 0, 1]);
        let flow = FlowKey {
            protocol: 6,
            source: Endpoint { address, port: 256 },
            destination: Endpoint { address, port: 255 },
        };

        let (key, direction) = flow.canonical();

        assert_eq!((key.low().port, key.high().port, direction), (255, 256, Direction::HighToLow));
    }

    #[test]
    fn an_ipv4_key_stays_small() {
        assert_eq!(size_of::<CanonicalV4>(), 14);
        assert_eq!(size_of::<CanonicalV6>(), 38);
    }
}
