//! Longest prefix match: from a destination address to a next hop or a group of firewalls.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::id::{FirewallId, LinkId, PathSetId};

/// Where packets to a prefix are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FibEntry {
    /// To the destination itself, which is a neighbour on this link.
    Connected(LinkId),
    /// To a next hop.
    Via(NextHop),
    /// Through the firewalls of a group.
    Group {
        /// The set of paths from which the firewall is chosen.
        set: PathSetId,
        /// The firewall that is taken while it is up, instead of the one that the hash gives.
        preferred: Option<FirewallId>,
        /// The next hop that leads past the firewalls, for `below-min = "bypass"`.
        bypass: Option<NextHop>,
    },
}

/// A neighbour on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The link that leads to the neighbour.
    pub link: LinkId,
    /// The neighbour's IP address.
    pub address: IpAddr,
}

/// The routes of both families. The prefixes divide the address space into ranges, and a lookup is a binary search in
/// them: its cost grows with the logarithm of the number of routes and not, as in a trie, with the length of the
/// prefixes.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    prefixes: BTreeMap<IpNet, FibEntry>,
    v4: RangeTable<u32>,
    v6: RangeTable<u128>,
}

/// The address space as consecutive ranges, each with its target.
#[derive(Debug, Clone, Default)]
struct RangeTable<A> {
    /// The first address of each range, ascending; addresses before the first range have no route.
    starts: Vec<A>,
    targets: Vec<Option<FibEntry>>,
}

impl RouteTable {
    /// Adds a route, which replaces one to the same prefix. Bits of `prefix` beyond its length are ignored. Every call
    /// rebuilds all ranges: to add many routes use [`Extend`] or collect them.
    pub fn insert(&mut self, prefix: IpNet, target: FibEntry) {
        self.extend([(prefix, target)]);
    }

    /// The target of the longest prefix that contains `destination`.
    #[inline]
    pub fn lookup(&self, destination: IpAddr) -> Option<FibEntry> {
        match destination {
            IpAddr::V4(address) => self.v4.lookup(address.to_bits()),
            IpAddr::V6(address) => self.v6.lookup(address.to_bits()),
        }
    }
}

impl<A: Copy + Ord> RangeTable<A> {
    #[inline]
    fn lookup(&self, address: A) -> Option<FibEntry> {
        let run = self.starts.partition_point(|start| *start <= address).checked_sub(1)?;
        self.targets[run]
    }

    /// Makes the ranges of prefixes (first and last address, target), which are sorted by first address, shorter
    /// prefixes first. `next` gives the successor of an address, and `None` for the last one.
    fn new(prefixes: impl Iterator<Item = (A, A, FibEntry)>, next: impl Fn(A) -> Option<A>) -> Self {
        let mut ranges = Self { starts: Vec::new(), targets: Vec::new() };
        // The prefixes that contain the current address, from outermost to innermost, each with its last address and
        // its target.
        let mut around: Vec<(A, FibEntry)> = Vec::new();
        for (first, last, target) in prefixes {
            while let Some((end, _)) = around.pop_if(|(end, _)| *end < first) {
                ranges.begin(next(end), around.last().map(|(_, target)| *target));
            }
            ranges.begin(Some(first), Some(target));
            around.push((last, target));
        }
        while let Some((end, _)) = around.pop() {
            ranges.begin(next(end), around.last().map(|(_, target)| *target));
        }
        ranges
    }

    /// Begins a range at `start`; `None` means that the address space has ended. A range that began at the same address
    /// is empty and is replaced.
    fn begin(&mut self, start: Option<A>, target: Option<FibEntry>) {
        let Some(start) = start else { return };
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.targets.pop();
        }
        self.starts.push(start);
        self.targets.push(target);
    }
}

impl Extend<(IpNet, FibEntry)> for RouteTable {
    fn extend<T: IntoIterator<Item = (IpNet, FibEntry)>>(&mut self, routes: T) {
        self.prefixes.extend(routes.into_iter().map(|(prefix, target)| (prefix.trunc(), target)));
        let v4 = self.prefixes.iter().filter_map(|(prefix, target)| match prefix {
            IpNet::V4(prefix) => Some((prefix.network().to_bits(), prefix.broadcast().to_bits(), *target)),
            IpNet::V6(_) => None,
        });
        self.v4 = RangeTable::new(v4, |address| address.checked_add(1));
        let v6 = self.prefixes.iter().filter_map(|(prefix, target)| match prefix {
            IpNet::V4(_) => None,
            IpNet::V6(prefix) => Some((prefix.network().to_bits(), prefix.broadcast().to_bits(), *target)),
        });
        self.v6 = RangeTable::new(v6, |address| address.checked_add(1));
    }
}

impl FromIterator<(IpNet, FibEntry)> for RouteTable {
    fn from_iter<T: IntoIterator<Item = (IpNet, FibEntry)>>(routes: T) -> Self {
        let mut table = Self::default();
        table.extend(routes);
        table
    }
}

#[cfg(test)]
mod tests {
    use ipnet::Ipv4Net;
    use proptest::prelude::*;

    use super::*;

    fn link(number: u16) -> FibEntry {
        FibEntry::Connected(LinkId(number))
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
        fn the_ranges_agree_with_a_linear_search(
            routes in proptest::collection::vec((prop_oneof![any::<u32>(), 0..256u32, u32::MAX - 256..], 0u8..=32), 0..40),
            destinations in proptest::collection::vec(prop_oneof![any::<u32>(), 0..256u32, u32::MAX - 256..], 20),
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
                // The later of two equal prefixes wins, which is the one that `max_by_key` returns.
                let expected = routes.iter().filter(|(prefix, _)| prefix.contains(&destination));
                let expected = expected.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, target)| *target);
                prop_assert_eq!(table.lookup(destination.into()), expected);
            }
        }
    }
}
