//! The pinning rules against the world of PINNING.md: random scripts of faults, an exhaustive search in small settings, and
//! the counterexamples that broke simpler rules, each by name.

mod counterexamples;
mod judge;
mod random;
mod search;
mod world;
