//! The identity of a flow: the 5-tuple of a packet, and its canonical form that both directions share.

use std::net::IpAddr;

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
        let (low, high, direction) = if self.is_low_to_high() {
            (self.source, self.destination, Direction::LowToHigh)
        } else {
            (self.destination, self.source, Direction::HighToLow)
        };
        (CanonicalKey::of(self.protocol, low, high), direction)
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
        match (source.address, destination.address) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let number = |address, port| u64::from(u32::from(address)) << 16 | u64::from(port);
                number(from, source.port) <= number(to, destination.port)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => (u128::from(from), source.port) <= (u128::from(to), destination.port),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => source <= destination,
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
    /// The key of two ends that are already in order.
    #[inline]
    fn of(protocol: u8, low: Endpoint, high: Endpoint) -> Self {
        match (low.address, high.address) {
            (IpAddr::V4(low_address), IpAddr::V4(high_address)) => Self::V4(CanonicalV4 {
                low: low_address.octets(),
                high: high_address.octets(),
                low_port: low.port,
                high_port: high.port,
                protocol,
            }),
            // Both ends of a flow are of one family. If a caller breaks that promise, the IPv4-mapped form gives a
            // well-defined key that no real flow has.
            (IpAddr::V6(_), IpAddr::V6(_)) | (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                Self::V6(CanonicalV6 {
                    low: octets_v6(low.address),
                    high: octets_v6(high.address),
                    low_port: low.port,
                    high_port: high.port,
                    protocol,
                })
            }
        }
    }

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

fn octets_v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
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
