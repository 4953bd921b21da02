//! The laboratory: the sandwich in one process, one thread and virtual time, with faults from a seed and checkers that stand
//! apart from the nodes.
//!
//! ```text
//!  hosts ── outer engine ──┬── fw1 ──┬── inner engine ── hosts        every cable: delay, loss, duplicates, disorder,
//!  (smoltcp, mini hosts)   ├── fw2 ──┤                                turned bits, cuts
//!                          └── fwN ──┘  model firewalls: the oracle
//! ```
//!
//! The engines are the production [`crate::engine::Controller`] and [`crate::engine::Forwarder`], configured by the text of
//! a file; only time, wires and the boxes around them are models. The firewalls drop what a strict Linux firewall drops
//! and count it: while those counters stand still, every session goes through one firewall in both directions.
//!
//! [`run::run`] plays one seed: a plan, traffic, faults, the end of faults, and what must be true then. The same seed gives
//! the same run, byte for byte. [`laboratory::Laboratory`] is for stories told by hand, as `tests/simulation.rs` does.

pub mod appliance;
pub mod check;
pub mod farm;
pub mod fault;
pub mod firewall;
pub mod host;
pub mod laboratory;
pub mod packet;
pub mod reassembly;
pub mod rng;
pub mod run;
pub mod sandwich;
pub mod station;
pub mod world;
