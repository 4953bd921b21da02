//! What somebody who watches is shown of the packets: each frame as it came and as it left, with the story of both.
//!
//! ```text
//!   Forwarder (one per worker) ─┐ Watch: which frames are meant, what became of them
//!   Controller's owner ─────────┴─▶ Sink (bounded, never waits) ─▶ Sighting ─▶ whoever writes it down
//! ```
//!
//! Nobody watches as a rule: then a packet costs one look at an empty list. What is meant is decided before a frame is
//! copied, and where the sink has no room nothing is copied. A translated flow is one flow: a filter that means one of its
//! legs means both.

mod filter;
mod story;
mod watch;

use std::fmt;
use std::sync::Arc;

use crate::engine::{PuntReason, Verdict};
use crate::flow::FlowKey;
use crate::id::{FirewallId, LinkId};
use crate::session::{Bound, Session};
use crate::time::Instant;
use crate::wire::offload::Offload;
use crate::wire::pcapng::Direction;
use crate::wire::vlan::VlanTag;

pub use filter::{Drops, Filter, UnknownDrop};
pub use watch::{Claimed, Decided, Seen, Watch};

/// A frame that was seen on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// When.
    pub at: Instant,
    /// Where.
    pub link: LinkId,
    /// Whether it was received or sent there.
    pub direction: Direction,
    /// Its outer tag.
    pub vlan: Option<VlanTag>,
    /// Checksum and segmentation work that was left undone.
    pub offload: Offload,
    /// Bytes of the whole frame without its outer tag.
    pub length: usize,
    /// So much of them as was asked for.
    pub bytes: Vec<u8>,
    /// What became of it.
    pub story: Story,
}

/// What is to be said about a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Story {
    /// Its end, or where it comes from.
    pub part: Part,
    /// The firewall that let it pass before.
    pub from: Option<FirewallId>,
    /// The firewall that it is sent to.
    pub to: Option<FirewallId>,
    /// The session of its flow, with this frame counted.
    pub session: Option<Remembered>,
}

/// The engine's part in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It was received, and this was decided.
    Decided {
        /// What.
        verdict: Verdict,
        /// Why the controller has it, if it has.
        punt: Option<PuntReason>,
    },
    /// It is a later fragment that came before the first of its datagram, and waits for that.
    Held,
    /// It was sent on; it, or what it is a piece of, was received here.
    Carried(LinkId),
    /// A packet worker made it: a reset.
    Reset,
    /// The engine made it, or the controller sends it once its neighbour answered.
    Made,
}

/// A session as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// Its flow, first packet's source first.
    pub flow: FlowKey,
    /// What was known of it.
    pub session: Session,
    /// Where a service placed it.
    pub bound: Option<Bound>,
}

/// The bounded way to somebody who watches.
pub trait Sink: fmt::Debug + Send {
    /// Counts a frame on `link` that is meant, and asks whether there is room for it: if not, it is counted as lost and is
    /// not to be put.
    fn has_room(&mut self, link: LinkId) -> bool;

    /// Takes a frame, or counts it as lost. Never waits.
    fn put(&mut self, sighting: Sighting);
}

/// One who watches: what is meant, and where it goes.
#[derive(Debug)]
pub struct Tap {
    /// Which frames.
    pub filter: Arc<Filter>,
    /// Bytes kept of a frame, at most.
    pub snaplen: usize,
    /// Where they go.
    pub sink: Box<dyn Sink>,
}
