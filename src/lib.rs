//! **fwlb**: every session through one firewall, in both directions.
//!
//! ```text
//!               ┌────────────┐    ┌──── fw1 ────┐    ┌────────────┐
//!  clients ─────┤ fwlb outer ├────┤             ├────┤ fwlb inner ├───── servers
//!               └────────────┘    └──── fw2 ────┘    └────────────┘
//!                 picks a firewall  stateful, strict   returns the same way
//!                 per session
//! ```
//!
//! An *engine* stands on each side of a *group* of active-active, stateful firewalls. It decides about every packet in
//! a fixed order:
//!
//! 1. The packets of a known *session* stay on its firewall.
//! 2. The first packet of an unknown flow that arrives *from* a firewall pins the flow to that firewall (*learned*).
//! 3. An unknown flow that has to be sent *to* a firewall takes the one that a keyed, symmetric, weighted rendezvous
//!    *hash* over the live firewalls gives.
//!
//! The hash is the rule, and the session remembers the exceptions.
//!
//! # Where to find what
//!
//! | layer | decides | never does |
//! | --- | --- | --- |
//! | [`time`], [`id`], [`random`], [`mod@named_enum`] | nothing: instants as values, numbers of configured things, repeatable randomness, names of enums | read a clock |
//! | [`wire`] | whether bytes are a legal packet, and how packets are edited and built | know policy |
//! | [`flow`] | which packets belong to one flow, and its hash | know which side it is on |
//! | [`nat`] | what changes in a translated packet; which source port stands for a client | know why |
//! | [`session`] | what is remembered of a flow, how long, and what is forgotten first | let a lock out |
//! | [`path`] | which firewall a flow takes: rendezvous, the pinning rules, what "up" means | touch bytes |
//! | [`slb`] | which server a session takes: services, schedulers, stickiness | touch bytes |
//! | [`health`], [`neighbor`] | when a path or server is up; which MAC address a neighbour has | open sockets, read the clock |
//! | [`ha`] | which engine of a cluster is active, and what its nodes tell each other | touch sessions |
//! | [`config`] | what the operator meant | touch files or devices |
//! | [`engine`] | the appliance without an operating system: [`engine::Forwarder`] and [`engine::Controller`] | do I/O |
//! | [`sim`] | the simulation: virtual time, model firewalls, faults, checkers | touch private parts |
//! | [`io`] | nothing; the only system calls and the only `unsafe` | decide |
//! | [`runtime`] | the only threads: packet workers, control thread, management | packet logic |
//! | [`api`], [`client`] | what is served (JSON, OpenAPI, metrics, captures, the console), and how it is asked for | know threads |
//! | [`lab`] | the demonstration network of engines and firewalls in network namespaces | packet logic |
//! | [`cli`] | what the user asks for, and how answers are printed; one file per subcommand | be imported |
//!
//! # Invariants
//!
//! - Time is an argument. The core never reads a clock and owns no thread, so that the same two structs run in the
//!   rack and in the simulation.
//! - Every frame ends in exactly one verdict and every verdict in one counter:
//!   `received = forwarded + hairpinned + punted + dropped`.
//! - Every table has a capacity, and a counter for what did not fit.
//! - `ahash`, whose result differs between builds, never chooses a path. The pinning hash is specified in
//!   [`flow::hash`] with test vectors.
//!
//! `tests/architecture.rs` checks which module may import which, that none import one another in a circle, and where
//! `unsafe`, system calls and clocks are allowed.

#[macro_use]
pub mod named_enum;

#[cfg(feature = "appliance")]
pub mod api;
#[cfg(feature = "appliance")]
pub mod cli;
#[cfg(feature = "appliance")]
pub mod client;
pub mod config;
pub mod engine;
pub mod flow;
pub mod ha;
pub mod health;
pub mod id;
#[cfg(feature = "appliance")]
pub mod io;
#[cfg(feature = "appliance")]
pub mod lab;
pub mod nat;
pub mod neighbor;
pub mod path;
pub mod random;
#[cfg(feature = "appliance")]
pub mod runtime;
pub mod session;
#[cfg(feature = "simulation")]
pub mod sim;
pub mod slb;
pub mod time;
pub mod wire;
