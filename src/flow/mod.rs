//! Which packets belong together: the 5-tuple, its canonical form, its hash, and the fragments that lost their ports.

pub mod fragments;
pub mod hash;
pub mod key;
pub mod text;

pub use fragments::{FragmentKey, FragmentLimits, FragmentTable};
pub use hash::{FlowHash, FlowHasher, HashMode, Seed};
pub use key::{CanonicalKey, Direction, Endpoint, FlowKey};
