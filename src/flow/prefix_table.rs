//! Longest prefix match for both families.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// A value for each of some prefixes. The prefixes divide the address space into ranges, and a lookup is a binary search
/// in them: its cost grows with the logarithm of the number of prefixes and not, as in a trie, with their length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixTable<T> {
    prefixes: BTreeMap<IpNet, T>,
    v4: RangeTable<u32, T>,
    v6: RangeTable<u128, T>,
}

/// The address space as consecutive ranges, each with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RangeTable<A, T> {
    /// The first address of each range, ascending; addresses before the first range have no value.
    starts: Vec<A>,
    values: Vec<Option<T>>,
}

impl<T> Default for PrefixTable<T> {
    fn default() -> Self {
        let (v4, v6) = (
            RangeTable { starts: Vec::new(), values: Vec::new() },
            RangeTable { starts: Vec::new(), values: Vec::new() },
        );
        Self { prefixes: BTreeMap::new(), v4, v6 }
    }
}

impl<T: Copy> PrefixTable<T> {
    /// Adds a prefix, which replaces an equal one. Bits beyond its length are ignored. Every call rebuilds all ranges: to
    /// add many prefixes use [`Extend`] or collect them.
    pub fn insert(&mut self, prefix: IpNet, value: T) {
        self.extend([(prefix, value)]);
    }

    /// The value of the longest prefix that contains `address`.
    #[inline]
    pub fn lookup(&self, address: IpAddr) -> Option<T> {
        match address {
            IpAddr::V4(address) => self.v4.lookup(address.to_bits()),
            IpAddr::V6(address) => self.v6.lookup(address.to_bits()),
        }
    }
}

impl<A: Copy + Ord, T: Copy> RangeTable<A, T> {
    #[inline]
    fn lookup(&self, address: A) -> Option<T> {
        let run = self.starts.partition_point(|start| *start <= address).checked_sub(1)?;
        self.values[run]
    }

    /// Makes the ranges of prefixes (first and last address, value), which are sorted by first address, shorter
    /// prefixes first. `next` gives the successor of an address, and `None` for the last one.
    fn new(prefixes: impl Iterator<Item = (A, A, T)>, next: impl Fn(A) -> Option<A>) -> Self {
        let mut ranges = Self { starts: Vec::new(), values: Vec::new() };
        // The prefixes that contain the current address, from outermost to innermost, each with its last address and
        // its value.
        let mut around: Vec<(A, T)> = Vec::new();
        for (first, last, value) in prefixes {
            while let Some((end, _)) = around.pop_if(|(end, _)| *end < first) {
                ranges.begin(next(end), around.last().map(|(_, value)| *value));
            }
            ranges.begin(Some(first), Some(value));
            around.push((last, value));
        }
        while let Some((end, _)) = around.pop() {
            ranges.begin(next(end), around.last().map(|(_, value)| *value));
        }
        ranges
    }

    /// Begins a range at `start`; `None` means that the address space has ended. A range that began at the same address
    /// is empty and is replaced.
    fn begin(&mut self, start: Option<A>, value: Option<T>) {
        let Some(start) = start else { return };
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.values.pop();
        }
        self.starts.push(start);
        self.values.push(value);
    }
}

impl<T: Copy> Extend<(IpNet, T)> for PrefixTable<T> {
    fn extend<I: IntoIterator<Item = (IpNet, T)>>(&mut self, prefixes: I) {
        self.prefixes.extend(prefixes.into_iter().map(|(prefix, value)| (prefix.trunc(), value)));
        let v4 = self.prefixes.iter().filter_map(|(prefix, value)| match prefix {
            IpNet::V4(prefix) => Some((prefix.network().to_bits(), prefix.broadcast().to_bits(), *value)),
            IpNet::V6(_) => None,
        });
        self.v4 = RangeTable::new(v4, |address| address.checked_add(1));
        let v6 = self.prefixes.iter().filter_map(|(prefix, value)| match prefix {
            IpNet::V4(_) => None,
            IpNet::V6(prefix) => Some((prefix.network().to_bits(), prefix.broadcast().to_bits(), *value)),
        });
        self.v6 = RangeTable::new(v6, |address| address.checked_add(1));
    }
}

impl<T: Copy> FromIterator<(IpNet, T)> for PrefixTable<T> {
    fn from_iter<I: IntoIterator<Item = (IpNet, T)>>(prefixes: I) -> Self {
        let mut table = Self::default();
        table.extend(prefixes);
        table
    }
}

#[cfg(test)]
mod tests {
    use ipnet::Ipv4Net;
    use proptest::prelude::*;

    use super::*;

    fn table(prefixes: &[(&str, u16)]) -> PrefixTable<u16> {
        prefixes.iter().map(|(prefix, number)| (prefix.parse().unwrap(), *number)).collect()
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
            assert_eq!(table.lookup(destination.parse().unwrap()), Some(number), "{destination}");
        }
    }

    #[test]
    fn an_address_within_no_prefix_has_no_value() {
        let table = table(&[("10.0.0.0/8", 1)]);

        assert_eq!(table.lookup("192.0.2.1".parse().unwrap()), None);
        assert_eq!(table.lookup("2001:db8::1".parse().unwrap()), None);
    }

    #[test]
    fn an_interface_address_with_its_length_is_the_subnet() {
        let table = table(&[("10.1.0.1/24", 7), ("fd00:1::1/64", 8)]);

        assert_eq!(table.lookup("10.1.0.200".parse().unwrap()), Some(7));
        assert_eq!(table.lookup("fd00:1::200".parse().unwrap()), Some(8));
    }

    proptest! {
        #[test]
        fn the_ranges_agree_with_a_linear_search(
            prefixes in proptest::collection::vec((prop_oneof![any::<u32>(), 0..256u32, u32::MAX - 256..], 0u8..=32), 0..40),
            destinations in proptest::collection::vec(prop_oneof![any::<u32>(), 0..256u32, u32::MAX - 256..], 20),
        ) {
            let prefixes: Vec<_> = prefixes
                .into_iter()
                .enumerate()
                .map(|(number, (bits, length))| {
                    (Ipv4Net::new(bits.into(), length).unwrap().trunc(), u16::try_from(number).unwrap())
                })
                .collect();
            let table: PrefixTable<u16> = prefixes.iter().map(|(prefix, value)| ((*prefix).into(), *value)).collect();

            for destination in destinations.into_iter().map(std::net::Ipv4Addr::from) {
                // The later of two equal prefixes wins, which is the one that `max_by_key` returns.
                let expected = prefixes.iter().filter(|(prefix, _)| prefix.contains(&destination));
                let expected = expected.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, value)| *value);
                prop_assert_eq!(table.lookup(destination.into()), expected);
            }
        }
    }
}
