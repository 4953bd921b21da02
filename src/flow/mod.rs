//! Which packets belong together: the 5-tuple, its canonical form, its hash, and the fragments without ports; and how
//! many flows each source has.
//!
//! A flow has two ends and no sides. Nothing here knows which end is behind the firewalls, or which firewall the flow
//! takes.

pub mod fragments;
pub mod hash;
pub mod key;
pub mod pattern;
pub mod prefix_table;
pub mod source;
pub mod text;

pub use fragments::{FragmentKey, FragmentLimits, FragmentTable};
pub use hash::{Affinity, AffinityRule, FlowHash, FlowHasher, HashMode, Seed};
pub use key::{CanonicalKey, Direction, Endpoint, FlowKey};
pub use pattern::FlowPattern;
pub use prefix_table::PrefixTable;
pub use source::{SourceHasher, SourceKey, SourcePrefix, SourceRates, SourceTally};
