//! A set and a map of IP addresses for lookups that happen for every packet and hardly ever succeed.

use std::collections::HashMap;
use std::net::IpAddr;

/// A map from addresses to values. A small Bloom filter in front of it answers most lookups of other addresses without
/// hashing.
#[derive(Debug, Clone, Default)]
pub struct AddressMap<V> {
    /// The filter: each address in the map has set one bit, which others may share.
    filter: [u64; FILTER_BITS / 64],
    values: HashMap<IpAddr, V, ahash::RandomState>,
}

/// A set of addresses.
pub type AddressSet = AddressMap<()>;

/// Bits of the filter. With a hundred addresses in the map about one of twenty other addresses is looked up in vain.
const FILTER_BITS: usize = 2048;

impl<V> AddressMap<V> {
    /// The value of an address.
    #[inline]
    pub fn get(&self, address: &IpAddr) -> Option<&V> {
        if self.may_hold(address) { self.values.get(address) } else { None }
    }

    /// True if the address is in the map.
    #[inline]
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.may_hold(address) && self.values.contains_key(address)
    }

    /// Adds an address. An address that is in the map already keeps its value.
    pub fn insert(&mut self, address: IpAddr, value: V) {
        let trace = filter_bit(&address);
        self.filter[trace / 64] |= 1 << (trace % 64);
        self.values.entry(address).or_insert(value);
    }

    #[inline]
    fn may_hold(&self, address: &IpAddr) -> bool {
        let trace = filter_bit(address);
        self.filter[trace / 64] & 1 << (trace % 64) != 0
    }
}

impl<V> Extend<(IpAddr, V)> for AddressMap<V> {
    fn extend<T: IntoIterator<Item = (IpAddr, V)>>(&mut self, entries: T) {
        entries.into_iter().for_each(|(address, value)| self.insert(address, value));
    }
}

impl Extend<IpAddr> for AddressSet {
    fn extend<T: IntoIterator<Item = IpAddr>>(&mut self, addresses: T) {
        addresses.into_iter().for_each(|address| self.insert(address, ()));
    }
}

impl FromIterator<IpAddr> for AddressSet {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(addresses: T) -> Self {
        let mut set = Self::default();
        set.extend(addresses);
        set
    }
}

/// The filter bit of an address, by Fibonacci hashing, which spreads adjacent addresses.
#[inline]
fn filter_bit(address: &IpAddr) -> usize {
    let number = match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            bits as u64 ^ ((bits >> 64) as u64).rotate_left(17)
        }
    };
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - FILTER_BITS.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn address() -> impl Strategy<Value = IpAddr> {
        let near = prop_oneof![0_u128..64, any::<u128>()];
        (any::<bool>(), near).prop_map(|(wide, number)| match wide {
            true => IpAddr::from(number.to_be_bytes()),
            false => IpAddr::from((number as u32).to_be_bytes()),
        })
    }

    proptest! {
        #[test]
        fn it_answers_as_a_plain_map_would(
            known in prop::collection::vec((address(), any::<u8>()), 0..300),
            asked in prop::collection::vec(address(), 0..100),
        ) {
            let mut map = AddressMap::default();
            let mut plain = BTreeMap::new();
            for (address, value) in known {
                map.insert(address, value);
                plain.entry(address).or_insert(value);
            }
            for address in asked.iter().chain(plain.keys()) {
                prop_assert_eq!(map.get(address), plain.get(address));
                prop_assert_eq!(map.contains(address), plain.contains_key(address));
            }
        }
    }
}
