//! The pinning hash: SipHash-1-3 over hand-written canonical bytes, keyed by the group's seed. Portable and specified;
//! every engine that knows the seed computes the same number.

use crate::flow::FlowKey;

/// The secret of a group, as a 128-bit SipHash key: SipHash-2-4-128 of the seed text under a fixed documented key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed {
    key: [u8; 16],
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(secret)")
    }
}

/// What of a flow enters the hash (INTERFACE.md, `hash`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HashMode {
    /// Addresses, ports and protocol.
    #[default]
    FiveTuple,
    /// Addresses and protocol.
    ThreeTuple,
    /// Addresses.
    Addresses,
    /// The address of the end on the near side (source of what is sent to the firewalls).
    Source,
    /// The address of the end on the far side (destination of what is sent to the firewalls).
    Destination,
}

/// The hash of one flow in one group; symmetric for the symmetric modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowHash(pub u64);

/// Hashes flows and member names for one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowHasher {
    seed: Seed,
    mode: HashMode,
}

impl Seed {
    /// Derives the key from the configured text.
    pub fn from_text(text: &str) -> Self {
        let _ = text;
        todo!()
    }

    /// A keyed 64-bit digest of `bytes`, for seed checks and message authentication between engines.
    pub fn digest(&self, bytes: &[u8]) -> u64 {
        let _ = (bytes, self.key);
        todo!()
    }
}

impl FlowHasher {
    /// A hasher for a group with this seed and mode.
    pub fn new(seed: Seed, mode: HashMode) -> Self {
        Self { seed, mode }
    }

    /// The hash of `flow`, whose source is the near side and whose destination is behind the firewalls.
    pub fn flow(&self, flow: &FlowKey) -> FlowHash {
        let _ = (flow, self.seed, self.mode);
        todo!()
    }

    /// The pseudo-random weight of the member called `name` for the flow with hash `flow`.
    pub fn member(&self, flow: FlowHash, name: &str) -> u64 {
        let _ = (flow, name);
        todo!()
    }
}
