//! The pinning rules R (PINNING.md section 2): how a flow keeps, takes or changes its firewall, as a pure function.

use crate::flow::FlowHash;
use crate::id::{FirewallId, PathSetId};
use crate::path::{Group, PathSet};
use crate::time::{Duration, Instant};

/// T: longer than detection plus packet life plus a round trip.
pub const CONFIRM_TIME: Duration = Duration::from_secs(1);

/// How sure the engine is of a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PinState {
    /// A SYN was sent to the firewall; nothing came back.
    Opening,
    /// Hashed in mid-stream, or learned and not yet confirmed.
    Tentative,
    /// A packet of the flow came back from the firewall.
    Confirmed,
}

/// How the pin came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PinnedBy {
    /// Rendezvous hash.
    Hash,
    /// The firewall that a packet arrived from.
    Learned,
}

/// What the rules look at in a packet. Protocols without flags are always [`PacketKind::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// TCP SYN without ACK.
    Syn,
    /// TCP SYN with ACK.
    SynAck,
    /// Anything else.
    Other,
}

/// Packets from a firewall that is not the pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Other {
    /// The firewall.
    pub firewall: FirewallId,
    /// How many came in a row, saturating.
    pub packets: u8,
    /// Since when.
    pub since: Instant,
}

/// The firewall of one flow toward one of its ends, with what the rules remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// The set that the firewall was taken from; packets toward this end go through its group.
    pub set: PathSetId,
    /// The firewall.
    pub firewall: FirewallId,
    /// How sure.
    pub state: PinState,
    /// How it came to be.
    pub pinned_by: PinnedBy,
    /// The firewall's falls when pinned.
    pub fall: u32,
    /// Time of the first near packet since the last packet from the pin; `None` if answered.
    pub asked: Option<Instant>,
    /// A dispute.
    pub other: Option<Other>,
    /// The firewall that brought a SYN while the pin was another.
    pub syn_from: Option<FirewallId>,
    /// Rotations so far.
    pub turns: u8,
    /// Moves as a confirmed leader so far.
    pub leader_moves: u8,
}

/// Why a pin was made or changed; each has its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PinChange {
    /// A new flow took a firewall by hash.
    Hashed,
    /// A new flow arrived from a firewall (`pin_learned`).
    Learned,
    /// An unconfirmed pin adopted the firewall that answered (`pin_corrected`).
    Corrected,
    /// A confirmed pin followed its peer: persistence, N1, or adopt-on-down (`pin_followed`).
    Followed,
    /// An unanswered tentative TCP pin tried the next firewall (`pin_rotated`).
    Rotated,
    /// The pin's firewall failed (`pin_reselected`).
    Reselected,
}

/// The set as the rules see it, with what identifies the flow in it.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The group.
    pub group: &'a Group,
    /// Number of `set`.
    pub set_id: PathSetId,
    /// The paths.
    pub set: &'a PathSet,
    /// The flow's hash in the group.
    pub hash: FlowHash,
    /// A firewall that the route prefers while it is up (`firewall =` of a route).
    pub preferred: Option<FirewallId>,
    /// TCP: rotation is allowed.
    pub tcp: bool,
    /// This engine leads the flow: its near side has the smaller endpoint of the canonical key.
    pub leader: bool,
}

/// What the rules answer to a packet from the near side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Near {
    /// Send it to `pin.firewall`; the pin is to be stored.
    Send {
        /// The pin after this packet.
        pin: Pin,
        /// What changed, if anything.
        change: Option<PinChange>,
    },
    /// No member is up (or too few are).
    NoPath,
    /// The pin's firewall failed and the group's `on-failure` is not to reselect: the session's fate is the caller's.
    Failed,
}

/// Rules for a packet that has to be sent to the group.
pub fn near(pin: Option<Pin>, packet: PacketKind, view: &View<'_>, now: Instant) -> Near {
    let _ = (pin, packet, view, now);
    todo!()
}

/// Rules for a packet that arrives from `from`, a firewall of the group. It is forwarded whatever comes out.
pub fn far(
    pin: Option<Pin>,
    from: FirewallId,
    packet: PacketKind,
    view: &View<'_>,
    now: Instant,
) -> (Pin, Option<PinChange>) {
    let _ = (pin, from, packet, view, now);
    todo!()
}
