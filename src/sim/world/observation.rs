//! What the checkers are told of the world.

use crate::engine::view::EventView;
use crate::id::LinkId;
use crate::sim::appliance::{Frame, Handled};
use crate::sim::firewall::Sighting;
use crate::sim::packet::{Datagram, Tuple};
use crate::sim::world::NodeId;
use crate::wire::MacAddr;

/// What the checkers are told.
#[derive(Debug, Clone)]
pub enum Observation {
    /// A firewall judged a packet.
    Sighted {
        /// Which firewall.
        node: NodeId,
        /// What it saw.
        sighting: Sighting,
    },
    /// An engine decided about a frame.
    Handled {
        /// Which engine.
        node: NodeId,
        /// The frame before and after.
        handled: Box<Handled>,
    },
    /// An engine put a frame on a wire.
    Sent {
        /// Which engine.
        node: NodeId,
        /// By which link.
        link: LinkId,
        /// The frame.
        frame: Frame,
    },
    /// An engine told of a change.
    Changed {
        /// Which engine.
        node: NodeId,
        /// What.
        event: Box<EventView>,
    },
    /// A cable did something to a packet of this flow.
    Impaired {
        /// The flow as the packet showed it.
        tuple: Tuple,
        /// The datagram of a later fragment, which shows no ports.
        datagram: Option<Datagram>,
        /// Lost or damaged, not just late or doubled.
        lost: bool,
    },
    /// A frame went to a hardware address that nobody on the segment has.
    Nobody {
        /// Who sent it.
        node: NodeId,
        /// To whom.
        destination: MacAddr,
    },
}
