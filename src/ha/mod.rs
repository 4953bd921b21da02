//! High availability: which engine of a cluster is the virtual router, and how its nodes agree.
//!
//! A *cluster* is the engines of one side of the firewalls, each a *node*. One node is *active*: it owns the floating
//! addresses, the VIPs and the virtual MAC addresses of all its links together. Everything here is pure: time is an
//! argument, bytes and values go in and come out.
//!
//! | module | decides |
//! | --- | --- |
//! | [`machine`] | the role of this node: fault, listen, standby, active, leaving |
//! | [`claim`] | who of two that are, or want to be, active has the better claim |
//! | [`score`] | what the node's own health takes from its priority |
//! | [`legs`] | which links hear somebody, and which are dead |
//! | [`hello`] | what nodes send each other in every interval, as a value and as bytes |
//! | [`alarm`] | what can be wrong with a cluster |
//! | [`frame`] | the frames that carry hellos and advertisements |
//! | [`association`] | keys, sealing, and which packets were seen before |
//! | [`copies`] | which sessions another node is told of, and what becomes of what it tells |
//! | [`records`] | what is told, as values and as bytes |
//! | [`stream`] | how it arrives: once, and in order |
//! | [`view`] | `show ha` as JSON |
//! | [`explained`] | `explain ha` as JSON |
//!
//! The owner of the loop, a thread of its own, calls the machine and does what the [`Out`] says:
//!
//! 1. Frames of [`crate::wire::vrrp`] go to [`Machine::handle_advertisement`].
//! 2. Datagrams of UDP port [`PORT`] go to [`Associations::open`]; a hello goes on to [`Machine::handle_hello`].
//! 3. [`Machine::handle_health`] takes what the controller and the watchdog see, [`Machine::handle_station`] that a
//!    station outside the cluster was heard, [`Machine::handle_witness`] what the far side reports.
//! 4. [`Machine::handle_timeout`] is due at [`Machine::poll_timeout`]. Frames that wait are read before it.
//! 5. After each call: [`Machine::role_word`] is what packet workers compare with the time of their batch.

pub mod alarm;
pub mod association;
pub mod claim;
pub mod copies;
pub mod explained;
mod fields;
pub mod frame;
pub mod hello;
pub mod legs;
pub mod machine;
pub mod out;
pub mod records;
pub mod score;
pub mod settings;
pub mod stream;
pub mod view;

pub use alarm::{Alarm, AlarmChange, AlarmKind};
pub use association::{Associations, Opened};
pub use copies::{Copies, CopyHost, CopyStatus};
pub use hello::Hello;
pub use machine::{Advertised, Machine};
pub use out::{
    Advertise, Forwarding, Order, OrderRefused, OrderedBy, Out, Path, Reason, RoleChange, RoleWord, WitnessReport,
};
pub use score::{Deduction, DeductionKind, Fault, GatewayHealth, GroupHealth, Health, SyncState};
pub use settings::{HaConfig, INTERVAL_MAX, Lease, LegConfig, LegId, NodeConfig, NodeId, NodeKind, VrrpVersion};

/// The UDP port of hellos and of the session stream.
pub const PORT: u16 = 9605;

named_enum! {
    /// The role of a node. The order is that of the numbers in a hello.
    #[derive(Default)]
    #[schema(as = NodeRole)]
    pub enum Role {
        /// It may not become active: a part of it stands still, its links are down, or it is in maintenance.
        Fault = "fault",
        /// It has just started, or stood still for a while, and listens for an active node before it sends anything but hellos.
        #[default]
        Listen = "listen",
        /// It follows the active node and takes over when that falls silent.
        Standby = "standby",
        /// It is the virtual router on all its links.
        Active = "active",
        /// It gives the role away and forwards until the other node has taken it.
        Leaving = "leaving",
    }
}

impl Role {
    /// True for a node that forwards: the active one, and one that leaves, until another node has taken the role.
    pub const fn forwards(self) -> bool {
        matches!(self, Self::Active | Self::Leaving)
    }
}
