//! Shows packets to captures: each frame as it was received and as it was sent, with what the engine did with it. It
//! never delays or changes a packet.
//!
//! ```text
//!   Forwarder (one per worker) ─┐ FrameTracer: which frames a capture wants, and what happened to them
//!   owner of the Controller ────┴─▶ Sink (bounded, never waits) ─▶ CapturedFrame ─▶ the capture's writer
//! ```
//!
//! Without captures a packet costs one look at an empty list. Whether a frame is wanted is decided before it is copied,
//! and if the sink has no room nothing is copied. The two legs of a translated flow are one flow: a filter that matches
//! one leg selects both.

mod describe;
mod filter;
mod tracer;

use std::fmt;
use std::sync::Arc;

use crate::engine::{PuntReason, Verdict};
use crate::flow::FlowKey;
use crate::id::{FirewallId, LinkId};
use crate::session::{Placement, Session};
use crate::time::Instant;
use crate::wire::offload::Offload;
use crate::wire::pcapng::CaptureDirection;
use crate::wire::vlan::VlanTag;

pub use filter::{DropFilter, Filter, UnknownDropReason};
pub use tracer::{FlowFound, FrameOnLink, FrameTracer, VerdictReached};

/// A frame that was seen on a link, and what the engine did with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedFrame {
    /// When it was seen.
    pub at: Instant,
    /// The link that it was seen on.
    pub link: LinkId,
    /// Whether it was received or sent.
    pub direction: CaptureDirection,
    /// Its outer 802.1Q tag.
    pub vlan: Option<VlanTag>,
    /// Checksum and segmentation that were left to a device.
    pub offload: Offload,
    /// Length of the whole frame without its outer tag, in bytes.
    pub length: usize,
    /// The beginning of the frame, up to the capture's snap length.
    pub bytes: Vec<u8>,
    /// What the engine did with it.
    pub context: FrameContext,
}

/// What the engine did with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameContext {
    /// The verdict, or the origin of a frame that was sent.
    pub event: FrameEvent,
    /// The firewall that the frame, or the one that caused it, came from.
    pub from: Option<FirewallId>,
    /// The firewall that it is sent to.
    pub to: Option<FirewallId>,
    /// The session of its flow, in which this frame is counted already.
    pub session: Option<SessionCopy>,
}

/// The verdict about a received frame, or the origin of a sent one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameEvent {
    /// The frame was received and got a verdict.
    Decided {
        /// The verdict.
        verdict: Verdict,
        /// Why the controller got it; `None` if it did not.
        punt: Option<PuntReason>,
    },
    /// The frame is a later fragment that waits for the first of its datagram.
    Held,
    /// The frame was forwarded. It, or the frame that it is a piece of, was received on this link.
    Forwarded(LinkId),
    /// A packet worker made the frame: it is a TCP reset.
    Reset,
    /// The controller sent the frame: it made it, or kept it until the neighbour was resolved.
    FromController,
}

/// A copy of a session as it was at that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCopy {
    /// Its flow, in the direction of the first packet.
    pub flow: FlowKey,
    /// The session.
    pub session: Session,
    /// The server that a service gave it to.
    pub bound: Option<Placement>,
}

/// The bounded queue to a capture.
pub trait CaptureSink: fmt::Debug + Send {
    /// Counts a wanted frame on `link`; true if there is room for it. Otherwise it is counted as lost and must not be
    /// put.
    fn has_room(&mut self, link: LinkId) -> bool;

    /// Takes a frame, or counts it as lost. Never waits.
    fn put(&mut self, sighting: CapturedFrame);
}

/// A capture: which frames it wants, and where they go.
#[derive(Debug)]
pub struct Tap {
    /// Which frames it wants.
    pub filter: Arc<Filter>,
    /// Snap length: the largest number of bytes that is kept of a frame.
    pub snaplen: usize,
    /// The queue that takes the frames.
    pub sink: Box<dyn CaptureSink>,
}
