//! The engine without an operating system: everything that decides about packets, firewalls and servers. It does no
//! I/O, starts no thread and reads no clock; its owner, [`crate::runtime`] or [`crate::sim`], does.
//!
//! [`Forwarder`] is the data plane, one per packet worker: it runs to completion, cannot fail, and never waits for the
//! controller. [`Controller`] is the control plane, one per engine: neighbours, health, ICMP; its owner asks it through
//! `poll_*` what is to be done. Two things connect them: a [`Snapshot`] (controller to forwarder, replaced as a whole)
//! and [`Punt`]s (forwarder to controller, through a bounded queue).

pub mod addresses;
pub mod change;
pub mod controller;
pub mod copies;
pub mod counters;
pub mod explain;
pub mod forwarder;
mod ha_health;
pub mod handover;
pub mod histogram;
pub mod ledger;
mod limit;
pub mod plan;
pub mod route;
pub mod selection;
mod shared_role;
pub mod snapshot;
#[doc(hidden)]
pub mod testbed;
pub mod trace;
pub mod verdict;
pub mod view;

pub use controller::{ClusterRole, Controller, Event};
pub use copies::{CopiedEngine, CopyKeeper, Sessions};
pub use counters::{Counters, CountersCell};
pub use forwarder::Forwarder;
pub use ha_health::ha_health;
pub use ledger::SessionLedger;
pub use selection::SessionMatcher;
pub use shared_role::{Permission, SharedRole};
pub use snapshot::Snapshot;
pub use verdict::{DropReason, Punt, PuntQueue, PuntReason, Transmit, Verdict};

/// A batch of packets with the verdicts of this engine.
pub type Batch<'a> = crate::wire::batch::Batch<'a, Verdict>;
/// A packet with a verdict of this engine.
pub type Packet<'a> = crate::wire::batch::Packet<'a, Verdict>;
