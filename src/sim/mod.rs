//! The simulation: the sandwich in one process, one thread and virtual time, with faults drawn from a seed, and
//! checkers that are independent of the nodes. It never touches a device, a clock or private parts of the engines.
//!
//! ```text
//!  hosts ── outer engine ──┬── fw1 ──┬── inner engine ── hosts       every cable: delay, loss, duplicates, reordering,
//!  (smoltcp, mini hosts)   ├── fw2 ──┤                               flipped bits, cuts
//!                          └── fwN ──┘  model firewalls: the oracle
//! ```
//!
//! The engines are the production [`crate::engine::Controller`] and [`crate::engine::Forwarder`], configured by the
//! text of a file; only time, cables and the boxes around them are models. The firewalls drop what a strict Linux
//! firewall drops and count it: while those counters stand still, every session goes through one firewall in both
//! directions.
//!
//! [`run::run`] runs one seed: a plan, traffic, faults, the end of faults, and what must be true then. The same seed
//! gives the same run, byte for byte. [`scenario::Scenario`] is for scenarios written by hand, as in
//! `tests/simulation.rs`.

pub mod check;
pub mod cluster;
pub mod farm;
pub mod fault;
pub mod firewall;
pub mod host;
pub mod interface;
pub mod packet;
pub mod reassembly;
pub mod rng;
pub mod run;
pub mod sandwich;
pub mod scenario;
pub mod side;
pub mod sim_engine;
pub mod world;
