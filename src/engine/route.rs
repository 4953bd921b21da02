//! Longest prefix match to a next hop or a group.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use crate::id::{FirewallId, LinkId, PathSetId};

/// Where packets to a prefix go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// On the link itself: the next hop is the destination.
    Connected(LinkId),
    /// To a next hop on a link.
    Via(NextHop),
    /// Through a group of firewalls.
    Group {
        /// The paths to choose from.
        set: PathSetId,
        /// The firewall that the route prefers while it is up.
        preferred: Option<FirewallId>,
        /// The way round the group, where `below-min` is `bypass`.
        bypass: Option<NextHop>,
    },
}

/// A neighbour on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The link.
    pub link: LinkId,
    /// The neighbour's address.
    pub address: IpAddr,
}

/// All routes, both families.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    v4: PrefixMap<Ipv4Net, Target>,
    v6: PrefixMap<Ipv6Net, Target>,
}

impl RouteTable {
    /// Adds a route; the same prefix twice keeps the later (validation refuses it before). Bits of `prefix` beyond its
    /// length are ignored.
    pub fn insert(&mut self, prefix: IpNet, target: Target) {
        match prefix {
            IpNet::V4(prefix) => self.v4.insert(prefix.trunc(), target),
            IpNet::V6(prefix) => self.v6.insert(prefix.trunc(), target),
        };
    }

    /// The target of the longest prefix that holds `destination`.
    pub fn lookup(&self, destination: IpAddr) -> Option<Target> {
        match destination {
            IpAddr::V4(address) => self.v4.get_lpm(&address.into()).map(|(_, target)| *target),
            IpAddr::V6(address) => self.v6.get_lpm(&address.into()).map(|(_, target)| *target),
        }
    }
}

impl Extend<(IpNet, Target)> for RouteTable {
    fn extend<T: IntoIterator<Item = (IpNet, Target)>>(&mut self, routes: T) {
        for (prefix, target) in routes {
            self.insert(prefix, target);
        }
    }
}

impl FromIterator<(IpNet, Target)> for RouteTable {
    fn from_iter<T: IntoIterator<Item = (IpNet, Target)>>(routes: T) -> Self {
        let mut table = Self::default();
        table.extend(routes);
        table
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn link(number: u16) -> Target {
        Target::Connected(LinkId(number))
    }

    fn table(routes: &[(&str, u16)]) -> RouteTable {
        routes.iter().map(|(prefix, number)| (prefix.parse().unwrap(), link(*number))).collect()
    }

    #[test]
    fn the_longest_prefix_wins_in_both_families() {
        let table = table(&[
            ("0.0.0.0/0", 0),
            ("10.0.0.0/8", 1),
            ("10.1.0.0/16", 2),
            ("10.1.0.7/32", 3),
            ("::/0", 4),
            ("fd00::/8", 5),
            ("fd00:1::/64", 6),
        ]);

        for (destination, number) in [
            ("192.0.2.1", 0),
            ("10.200.0.1", 1),
            ("10.1.0.8", 2),
            ("10.1.0.7", 3),
            ("2001:db8::1", 4),
            ("fd00:2::1", 5),
            ("fd00:1::ffff", 6),
        ] {
            assert_eq!(table.lookup(destination.parse().unwrap()), Some(link(number)), "{destination}");
        }
    }

    #[test]
    fn without_a_default_route_a_stranger_has_no_target() {
        let table = table(&[("10.0.0.0/8", 1)]);

        assert_eq!(table.lookup("192.0.2.1".parse().unwrap()), None);
        assert_eq!(table.lookup("2001:db8::1".parse().unwrap()), None);
    }

    #[test]
    fn an_interface_address_with_its_length_is_the_subnet() {
        let table = table(&[("10.1.0.1/24", 7), ("fd00:1::1/64", 8)]);

        assert_eq!(table.lookup("10.1.0.200".parse().unwrap()), Some(link(7)));
        assert_eq!(table.lookup("fd00:1::200".parse().unwrap()), Some(link(8)));
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_a_linear_search(
            routes in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..40),
            destinations in proptest::collection::vec(any::<u32>(), 20),
        ) {
            let routes: Vec<_> = routes
                .into_iter()
                .enumerate()
                .map(|(number, (bits, length))| {
                    (Ipv4Net::new(bits.into(), length).unwrap().trunc(), link(u16::try_from(number).unwrap()))
                })
                .collect();
            let table: RouteTable = routes.iter().map(|(prefix, target)| ((*prefix).into(), *target)).collect();

            for destination in destinations.into_iter().map(std::net::Ipv4Addr::from) {
                // The later of two equal prefixes wins, which is what `max_by_key` answers.
                let expected = routes.iter().filter(|(prefix, _)| prefix.contains(&destination));
                let expected = expected.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, target)| *target);
                prop_assert_eq!(table.lookup(destination.into()), expected);
            }
        }
    }
}
