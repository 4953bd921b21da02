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
    ///
    /// Ends that are equal (LAND) count as [`Direction::LowToHigh`].
    #[inline]
    pub fn canonical(&self) -> (CanonicalKey, Direction) {
        let (low, high, direction) = if self.is_low_to_high() {
            (self.source, self.destination, Direction::LowToHigh)
        } else {
            (self.destination, self.source, Direction::HighToLow)
        };
        (CanonicalKey::of(self.protocol, low, high), direction)
    }

    /// Which way this packet goes.
    #[inline]
    pub fn direction(&self) -> Direction {
        if self.is_low_to_high() { Direction::LowToHigh } else { Direction::HighToLow }
    }

    /// `source <= destination`, with both ends of a family as one number each.
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
    /// Of ends in order.
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
            // Both ends of a flow have one family. Should a caller break that promise, the mapped form keeps the key
            // well defined and apart from every real flow.
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

    /// Address family of both ends.
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

    /// The packet view of the flow: a key whose packets go in `direction`.
    pub fn oriented(&self, direction: Direction) -> FlowKey {
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
    /// The other way.
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

            prop_assert_eq!(key.oriented(direction), flow);
            prop_assert_eq!(key.oriented(direction.reversed()), flow.reversed());
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
