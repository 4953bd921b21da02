//! The pinning hash: SipHash-1-3 over a canonical form of the flow, keyed by the group's seed. It is fully specified
//! here, so that every engine with the same seed computes the same number.
//!
//! # Specification
//!
//! `||` is concatenation; all numbers are big endian.
//!
//! ```text
//! path key    = SipHash-2-4-128(key = "fwlb-pinning-key", seed text)      16 bytes, as the algorithm emits them
//! flow hash   = SipHash-1-3(path key, 01 || family || protocol || low end || high end)
//! member hash = SipHash-1-3(path key, flow hash (8 bytes) || name (UTF-8))
//! end         = address (4 or 16 bytes) || port (2 bytes)
//! family      = 04 or 06
//! ```
//!
//! *Low* and *high* end are ordered by (address, port) as unsigned big-endian numbers, so that both directions of a
//! flow give the same bytes: 15 for IPv4, 39 for IPv6. The other modes use less of the flow:
//!
//! | mode | what differs |
//! | --- | --- |
//! | `5-tuple` | nothing |
//! | `3-tuple` | both ports are 0 |
//! | `addresses` | both ports and the protocol are 0 |
//! | `source`, `destination` | the protocol is 0, and one end with port 0 stands alone: 9 bytes for IPv4, 21 for IPv6 |
//!
//! An engine in mode `source` and its peer in mode `destination` hash the same address, so that they agree. Flows with an
//! end in the prefixes of an [`Affinity`] have a mode of their own.
//!
//! # Test vectors
//!
//! Seed text `correct horse battery staple`, path key `5baeb651602c673bef2272b3dad9490f`:
//!
//! | mode | protocol | source | port | destination | port | flow hash | member hash of `fw1` |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | `5-tuple` | 6 | 198.51.100.7 | 40000 | 203.0.113.80 | 443 | `960d91e984fdc976` | `aa7bd4962e3c5a26` |
//! | `5-tuple` | 17 | 2001:db8::7 | 53 | 2001:db8:80::80 | 5353 | `37355ceec385e3f3` | `2e420be4d6217888` |
//! | `3-tuple` | 6 | 198.51.100.7 | 40000 | 203.0.113.80 | 443 | `e0fe668222185bf7` | `4d5a7699a23d5202` |
//! | `3-tuple` | 17 | 2001:db8::7 | 53 | 2001:db8:80::80 | 5353 | `34ee89476528eddb` | `e5409ca5fae219fe` |
//! | `addresses` | 6 | 198.51.100.7 | 40000 | 203.0.113.80 | 443 | `f0c3e4bb841e5b85` | `2774907ef42feb67` |
//! | `addresses` | 17 | 2001:db8::7 | 53 | 2001:db8:80::80 | 5353 | `ac5444d59006c4de` | `0cce4f10a6e0c928` |
//! | `source` | 6 | 198.51.100.7 | 40000 | 203.0.113.80 | 443 | `ea0385c2d2b3122c` | `85a17f99b2b6dd0f` |
//! | `source` | 17 | 2001:db8::7 | 53 | 2001:db8:80::80 | 5353 | `e36174fac0f3a13b` | `45656cfd2ea7f680` |
//! | `destination` | 6 | 198.51.100.7 | 40000 | 203.0.113.80 | 443 | `b65566a3e6f714b3` | `c1a794806ed2bc00` |
//! | `destination` | 17 | 2001:db8::7 | 53 | 2001:db8:80::80 | 5353 | `66ddc2dddc9149c4` | `0d2902d92c4c97f4` |
//!
//! More vectors are in `tests/vectors/flow_hash.tsv`. They come from an independent implementation in Python beside
//! that file.

mod affinity;

use std::hash::Hasher as _;
use std::net::IpAddr;
use std::sync::Arc;

use siphasher::sip::{SipHasher13, SipHasher24};
use siphasher::sip128;

use crate::flow::key::{CanonicalKey, CanonicalV4, CanonicalV6};
use crate::flow::{Endpoint, FlowKey};

pub use affinity::{Affinity, AffinityRule};

/// The SipHash key for deriving path keys. It is public: it only separates this use of SipHash from others.
const PATH_KEY_DERIVATION: &[u8; 16] = b"fwlb-pinning-key";
/// The public SipHash key for deriving digest keys.
const DIGEST_KEY_DERIVATION: &[u8; 16] = b"fwlb-digests-key";
/// The first byte of the canonical form: the version of this specification.
const VERSION: u8 = 1;

/// The secret of a group, as one 128-bit SipHash key for each use, derived from the configured seed text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed {
    path: [u8; 16],
    digest: [u8; 16],
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(secret)")
    }
}

named_enum! {
    /// Which parts of a flow enter the hash (key `hash` of a group in `docs/configuration.md`).
    #[derive(Default)]
    pub enum HashMode {
        /// Addresses, ports and protocol.
        #[default]
        FiveTuple = "5-tuple",
        /// Addresses and protocol.
        ThreeTuple = "3-tuple",
        /// Addresses.
        Addresses = "addresses",
        /// The near address: the source of packets that are sent to the firewalls.
        Source = "source",
        /// The far address: the destination of packets that are sent to the firewalls.
        Destination = "destination",
    }
}

impl HashMode {
    /// How many flows share one hash: 0 (each has its own) to 3 (all of one address). `source` and `destination` are one
    /// mode seen from both sides of the firewalls, and have the same number.
    pub const fn breadth(self) -> u8 {
        match self {
            Self::FiveTuple => 0,
            Self::ThreeTuple => 1,
            Self::Addresses => 2,
            Self::Source | Self::Destination => 3,
        }
    }
}

/// The hash of one flow in one group. It is the same for both directions except in the modes `source` and
/// `destination`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowHash(pub u64);

/// Hashes the flows and the firewall names of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowHasher {
    seed: Seed,
    mode: HashMode,
    /// `None` if there are no rules.
    affinity: Option<Arc<Affinity>>,
}

impl Seed {
    /// Derives the keys from the bytes of the configured text.
    pub fn from_text(text: &str) -> Self {
        let derive = |key: &[u8; 16]| sip128::SipHasher24::new_with_key(key).hash(text.as_bytes()).as_bytes();
        Self { path: derive(PATH_KEY_DERIVATION), digest: derive(DIGEST_KEY_DERIVATION) }
    }

    /// A keyed 64-bit digest of `bytes` (SipHash-2-4), by which engines compare their configuration and authenticate
    /// messages.
    ///
    /// Its key is not the path key, so that digests sent to other engines reveal nothing about where flows go.
    pub fn digest(&self, bytes: &[u8]) -> u64 {
        SipHasher24::new_with_key(&self.digest).hash(bytes)
    }
}

impl FlowHasher {
    /// A hasher for a group with this seed and mode.
    pub fn new(seed: Seed, mode: HashMode) -> Self {
        Self { seed, mode, affinity: None }
    }

    /// The same hasher, with rules for the flows of some hosts.
    pub fn with_affinity(self, affinity: Affinity) -> Self {
        Self { affinity: Some(affinity).filter(|affinity| *affinity != Affinity::default()).map(Arc::new), ..self }
    }

    /// The affinity rule that applies to `flow`.
    #[inline]
    pub fn affinity(&self, flow: &FlowKey) -> Option<AffinityRule> {
        self.affinity.as_deref()?.rule(flow)
    }

    /// The hash of `flow`, whose source must be the end on the near side of the firewalls.
    ///
    /// The orientation matters only to [`HashMode::Source`] and [`HashMode::Destination`]; in all other modes both
    /// directions give the same number.
    #[inline]
    pub fn flow_hash(&self, flow: &FlowKey) -> FlowHash {
        match self.affinity(flow).map_or(self.mode, |rule| rule.mode) {
            HashMode::FiveTuple => self.two_ended(flow),
            HashMode::ThreeTuple => self.two_ended(&without_ports(flow, flow.protocol)),
            HashMode::Addresses => self.two_ended(&without_ports(flow, 0)),
            HashMode::Source => self.one_ended(flow.source.address),
            HashMode::Destination => self.one_ended(flow.destination.address),
        }
    }

    /// The pseudo-random number of the pair of `flow` and the firewall called `name`, from which its rendezvous score
    /// is computed.
    #[inline]
    pub fn member_hash(&self, flow: FlowHash, name: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.seed.path);
        hasher.write(&flow.0.to_be_bytes());
        hasher.write(name.as_bytes());
        hasher.finish()
    }

    fn two_ended(&self, flow: &FlowKey) -> FlowHash {
        match flow.canonical().0 {
            CanonicalKey::V4(key) => self.hash(&canonical_v4(&key)),
            CanonicalKey::V6(key) => self.hash(&canonical_v6(&key)),
        }
    }

    fn one_ended(&self, address: IpAddr) -> FlowHash {
        match address {
            IpAddr::V4(address) => {
                let mut bytes = [0; 9];
                bytes[..3].copy_from_slice(&[VERSION, 4, 0]);
                bytes[3..7].copy_from_slice(&address.octets());
                self.hash(&bytes)
            }
            IpAddr::V6(address) => {
                let mut bytes = [0; 21];
                bytes[..3].copy_from_slice(&[VERSION, 6, 0]);
                bytes[3..19].copy_from_slice(&address.octets());
                self.hash(&bytes)
            }
        }
    }

    fn hash(&self, bytes: &[u8]) -> FlowHash {
        FlowHash(SipHasher13::new_with_key(&self.seed.path).hash(bytes))
    }
}

fn without_ports(flow: &FlowKey, protocol: u8) -> FlowKey {
    let bare = |end: Endpoint| Endpoint { address: end.address, port: 0 };
    FlowKey { protocol, source: bare(flow.source), destination: bare(flow.destination) }
}

fn canonical_v4(key: &CanonicalV4) -> [u8; 15] {
    let mut bytes = [0; 15];
    bytes[..3].copy_from_slice(&[VERSION, 4, key.protocol]);
    bytes[3..7].copy_from_slice(&key.low);
    bytes[7..9].copy_from_slice(&key.low_port.to_be_bytes());
    bytes[9..13].copy_from_slice(&key.high);
    bytes[13..15].copy_from_slice(&key.high_port.to_be_bytes());
    bytes
}

fn canonical_v6(key: &CanonicalV6) -> [u8; 39] {
    let mut bytes = [0; 39];
    bytes[..3].copy_from_slice(&[VERSION, 6, key.protocol]);
    bytes[3..19].copy_from_slice(&key.low);
    bytes[19..21].copy_from_slice(&key.low_port.to_be_bytes());
    bytes[21..37].copy_from_slice(&key.high);
    bytes[37..39].copy_from_slice(&key.high_port.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests;
