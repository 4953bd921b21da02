//! The appliance without an operating system.
//!
//! [`Forwarder`] is the fast half, one per packet worker: it runs to completion, cannot fail, never waits for the
//! controller. [`Controller`] is the slow half, one per engine: neighbours, health, ICMP; what it wants done it says
//! through `poll_*`. Between them: a [`Snapshot`] (controller to forwarder, one swap) and [`Punt`]s (forwarder to
//! controller, a bounded queue).
//!
//! Nothing here does I/O, starts a thread or reads a clock: whoever owns the two halves does, as [`crate::runtime`].

pub mod addresses;
pub mod controller;
pub mod counters;
pub mod explain;
pub mod forwarder;
pub mod histogram;
pub mod ledger;
mod limit;
pub mod plan;
pub mod route;
pub mod selection;
pub mod snapshot;
#[doc(hidden)]
pub mod testbed;
pub mod trace;
pub mod verdict;
pub mod view;

pub use controller::{Controller, Event};
pub use counters::{Counters, CountersCell};
pub use forwarder::Forwarder;
pub use ledger::Ledger;
pub use selection::Selection;
pub use snapshot::Snapshot;
pub use verdict::{DropReason, Punt, PuntQueue, PuntReason, Transmit, Verdict};

/// A batch of packets with this engine's verdicts.
pub type Batch<'a> = crate::wire::batch::Batch<'a, Verdict>;
/// A packet with this engine's verdict.
pub type Packet<'a> = crate::wire::batch::Packet<'a, Verdict>;
