//! Tests the pinning rules in a small model (`docs/pinning.md`): random scripts of faults, an exhaustive search in
//! small settings, and the counterexamples that broke simpler rules.

mod action;
mod counterexamples;
mod judge;
mod mates;
mod random;
mod search;
mod settings;
mod world;
