//! The pinning rules against the world of `docs/pinning.md`, section 3: random scripts of faults, an exhaustive search in small settings, and
//! the counterexamples that broke simpler rules, each by name.

mod counterexamples;
mod judge;
mod random;
mod search;
mod world;
