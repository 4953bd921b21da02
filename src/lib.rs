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
//! An *engine* stands on each side of a *group* of active-active, stateful firewalls. It decides every packet in a fixed
//! order: a known *session* stays on its firewall; the first packet of an unknown flow that arrives *from* a firewall
//! pins the flow to it (*learned*); an unknown flow that has to be sent *to* a firewall goes where a keyed, symmetric,
//! weighted rendezvous *hash* over the live firewalls puts it. The hash is the default; the session remembers the
//! exceptions.
//!
//! # Where to find what
//!
//! | layer | decides | never does |
//! | --- | --- | --- |
//! | [`time`], [`id`] | nothing | read a clock |
//! | [`wire`] | whether bytes are a legal packet | know policy |
//! | [`flow`] | which packets belong together | know which side it is on |
//! | [`nat`] | what changes in a translated packet; which port stands for a client | know why |
//! | [`session`] | what is remembered, how long, and what is forgotten first | leak a map guard |
//! | [`path`] | which firewall: rendezvous, the pinning rules, what "up" means | touch bytes |
//! | [`slb`] | which server: services, schedulers, stickiness | touch bytes |
//! | [`health`], [`neighbor`] | when a path or a server is up; who answers at which MAC | open sockets, read the clock |
//! | [`config`] | what the operator meant | touch files or devices |
//! | [`engine`] | the appliance without an operating system: [`engine::Forwarder`] and [`engine::Controller`] | do I/O |
//! | [`sim`] | the laboratory: virtual time, model firewalls, faults, checkers | touch private parts |
//! | [`io`] | nothing; the only system calls and the only `unsafe` | decide |
//! | [`runtime`] | the only threads: packet workers, control thread, management | packet logic |
//! | [`api`], [`client`] | what is served (JSON, OpenAPI, metrics, captures, the console), and the other end of it | know threads |
//! | [`lab`] | the sandwich in network namespaces | packet logic |
//! | [`cli`] | what is asked for and how answers are printed; one file per subcommand | be imported |
//!
//! # Invariants
//!
//! - Time is an argument. The core never reads a clock and holds no thread; the same two structs run in the rack and in
//!   the laboratory.
//! - Every frame ends in exactly one verdict and every verdict in one counter:
//!   `received = forwarded + hairpinned + punted + dropped`.
//! - Every table has a capacity; meeting it is counted.
//! - `ahash` never chooses a path. The pinning hash is written out in [`flow::hash`] with test vectors.
//!
//! `tests/architecture.rs` holds against the code which room may import which, and where `unsafe`, system calls and clocks
//! are allowed.

pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod engine;
pub mod flow;
pub mod health;
pub mod id;
pub mod io;
pub mod lab;
pub mod nat;
pub mod neighbor;
pub mod path;
pub mod runtime;
pub mod session;
pub mod sim;
pub mod slb;
pub mod time;
pub mod wire;
