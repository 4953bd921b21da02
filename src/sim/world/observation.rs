//! What the checkers observe.

use crate::engine::change::StateChange;
use crate::id::LinkId;
use crate::sim::firewall::JudgedPacket;
use crate::sim::packet::{Datagram, Tuple};
use crate::sim::sim_engine::{CableFrame, HandledFrame};
use crate::sim::world::NodeId;
use crate::wire::MacAddr;

/// An observation.
#[derive(Debug, Clone)]
pub enum Observation {
    /// A firewall decided about a packet.
    Judged {
        /// The firewall.
        node: NodeId,
        /// The packet and the decision.
        sighting: JudgedPacket,
    },
    /// An engine decided about a frame.
    Handled {
        /// The engine.
        node: NodeId,
        /// The frame before and after, with its verdict.
        handled: Box<HandledFrame>,
    },
    /// An engine sent a frame.
    Sent {
        /// The engine.
        node: NodeId,
        /// The link.
        link: LinkId,
        /// The frame.
        frame: CableFrame,
    },
    /// An engine reported a state change.
    Changed {
        /// The engine.
        node: NodeId,
        /// The change.
        event: Box<StateChange>,
    },
    /// A cable impaired a packet.
    Impaired {
        /// The flow as the packet showed it.
        tuple: Tuple,
        /// The datagram of a later fragment, which shows no ports.
        datagram: Option<Datagram>,
        /// Whether it was lost or damaged, and not just delayed or duplicated.
        lost: bool,
    },
    /// A frame was sent to a MAC address that no interface on the segment has.
    UnknownDestination {
        /// The sender.
        node: NodeId,
        /// The destination.
        destination: MacAddr,
    },
}
