//! Counts how many things each source holds and limits how often it begins one, in memory of a fixed size however many
//! sources there are.
//!
//! A source is a prefix that is taken to belong to one sender: an IPv4 address, or a /64 of IPv6 (a host chooses the
//! lower half of its address itself, RFC 4291 section 2.5.1, and the smallest network that is assigned to anybody is a
//! /64, RFC 6177).
//!
//! Both are count-min sketches (Cormode and Muthukrishnan, 2005): [`ROWS`] rows of cells, of which a source has one in
//! each, chosen by a keyed hash. Other sources can only make a cell larger, so that the smallest of a source's cells is
//! nearest to the truth.

mod rates;
mod tally;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

pub use rates::SourceRates;
pub use tally::SourceTally;

/// The number of cells of a source. Each may be shared with another source by chance, but hardly ever are all of them
/// shared with sources of large values.
pub const ROWS: usize = 4;

/// The network that a source address is taken to belong to: itself, or a /64 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourcePrefix(IpAddr);

impl SourcePrefix {
    /// The prefix of an address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        })
    }
}

impl fmt::Display for SourcePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

/// Determines the cells of a source. Sources of one family never share a key, only cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceKey(u64);

/// Makes keys that are unpredictable without the seed, so that nobody can choose addresses that share cells.
#[derive(Debug, Clone, Copy)]
pub struct SourceHasher {
    seed: u64,
}

impl SourceHasher {
    /// A hasher with this secret.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The key of the prefix of an address.
    pub fn key(&self, address: IpAddr) -> SourceKey {
        let prefix = match address {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        SourceKey(mix(self.seed ^ prefix))
    }
}

impl SourceKey {
    /// The index of the source's cell in each row. The rows lie one after the other and have `columns` cells each, a
    /// power of two.
    fn cells(self, columns: u32) -> [usize; ROWS] {
        let other = mix(self.0);
        let words = [self.0 as u32, (self.0 >> 32) as u32, other as u32, (other >> 32) as u32];
        std::array::from_fn(|row| row * columns as usize + (words[row] & (columns - 1)) as usize)
    }
}

/// The finalizer of SplitMix64: a bijection.
const fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_ipv4_address_or_a_network_of_one_host() {
        let prefix = |address: &str| SourcePrefix::of(address.parse().unwrap()).to_string();
        assert_eq!(prefix("198.51.100.7"), "198.51.100.7");
        assert_eq!(prefix("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");

        let key = |address: &str| SourceHasher::new(7).key(address.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("198.51.100.7"), key("198.51.100.8"));
    }
}
