//! The pinning rules R: how a flow keeps, takes or changes its firewall, as a pure function of the pin, the packet, the
//! state of the paths ([`PinningView`]) and the time. `docs/pinning.md` says why the rules are as they are.
//!
//! Two engines that never exchange flows have to agree on the firewall of each flow. The hash gives both the same
//! answer; the pin remembers where the flow really is. A pin is *opening* or *tentative* until a packet returns from
//! its firewall, which makes it *confirmed*. An unconfirmed pin *adopts* the firewall from which a packet arrives. A
//! confirmed pin follows only a *persistent* change: at least two packets, [`CONFIRM_TIME`] (T) apart, and none from
//! the pin's firewall in between. One of two engines *leads* the flow and waits longer, so that two confirmed engines
//! do not follow each other in circles.
//!
//! A *near* packet comes from the engine's own side and is sent to the group. The letter f stands for another firewall
//! than that of the pin.
//!
//! | state \ event | near SYN | near SYN/ACK | near other | from pin: SYN | from pin: other | from f, up | from f, not up |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | none | best, Opening | best, Tentative | best, Tentative | | | learn f, Tentative | learn f, Tentative |
//! | Opening | pin | N1 else pin | pin | Confirmed | Confirmed | **adopt** f | persist |
//! | Tentative | pin, Opening | N1 else pin | N2 else pin | pin | Confirmed | **adopt** f | persist |
//! | Confirmed | pin | N1 else pin | pin | pin | answered | pin not up: **adopt** f; SYN: note it; else persist | persist |
//! | failed pin | best, Opening | N1 else `on-failure` | `on-failure` | as above | as above | as above | as above |
//!
//! - **best**: the firewall that the route prefers, if it is selectable; else the rendezvous choice among the
//!   selectable members; else that among the members that are up.
//! - **failed**: the pin's firewall is not up; and it failed since it was pinned, or has left packets unanswered for T,
//!   or the packet is a SYN. A pin that was learned from a firewall which only this engine believes down is used while
//!   the firewall answers.
//! - **`on-failure`** acts if the firewall failed since it was pinned. `reselect`: best, Tentative. `keep`: the pin.
//!   `drop`: the session has failed. `reset`: the same for TCP, while other protocols are reselected. Any other failed
//!   pin is reselected. A SYN opens a new conversation, so that it goes to a live firewall whatever `on-failure` says.
//!   If the firewall has left the group, `keep` means `reselect`.
//! - **N1** (follow the SYN): a SYN came from another firewall, and that one is up: take it, Confirmed. A SYN/ACK thus
//!   goes where its SYN came from. An established host answers a stale SYN with a plain ACK, which moves nothing.
//! - **N2** (rotate): a TCP flow that has been unanswered for T, and rotated fewer than 2N times for N members, takes
//!   the next member in rank order that is up, Tentative. An engine with others on its side does not rotate a pin that is
//!   what the hash says, of all members or of those that take new flows: the answer may go by another engine.
//! - **unanswered**: a near packet that wants an answer was sent, and none came. A bare acknowledgement or a reset
//!   wants none, so that it neither makes the flow unanswered nor rotates it. Otherwise an engine that restarted would
//!   take an idle connection off the firewall that just delivered its packet.
//! - **no verdict yet**: a TCP packet that continues a connection without a session is dropped while a firewall without
//!   a first verdict would be the best of all. An engine that was just started would otherwise send it to a firewall
//!   that does not know the connection. A SYN takes a firewall that is up.
//! - **adopt** f: pin f, Tentative if the packet was a SYN, else Confirmed, and forget everything else.
//! - **note it**: N1 will follow this SYN. It also counts as a packet of the dispute, but moves nothing.
//! - **persist**: adopt f with the second or a later packet in a row from f, if the first of them was T ago. A
//!   confirmed leader waits 3T, and does this at most [`LEADER_MOVES_MAX`] times. Any packet from the pin's firewall
//!   ends the dispute.
//!
//! Every packet from a firewall is forwarded whatever the table says: the table moves pins and drops nothing.

mod pin;

use crate::flow::{Direction, FlowHash};
use crate::id::{FirewallId, PathSetId};
use crate::path::{FirewallGroup, OnFailure, PathSet, Slots, rendezvous};
use crate::time::{Duration, Instant};

use pin::Stamp;
pub use pin::{Pin, PinState, PinnedBy};

/// T: longer than the detection of a failure, the lifetime of a packet in the network and a round trip together.
pub const CONFIRM_TIME: Duration = Duration::from_secs(1);

/// How long a dispute has to last before a confirmed leader follows it.
pub const LEADER_DELAY: Duration = Duration::from_secs(3);

/// How often a confirmed leader follows a persistent change, which ends every circle.
pub const LEADER_MOVES_MAX: u8 = 3;

/// The kind of a packet, as the rules distinguish it. Packets of protocols without flags are always
/// [`PacketKind::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// A TCP SYN without ACK.
    Syn,
    /// A TCP SYN with ACK.
    SynAck,
    /// A TCP segment that only acknowledges or resets: no SYN, no FIN, no data. It wants no answer, so that silence
    /// after it means nothing.
    AckOrReset,
    /// Any other packet.
    Other,
}

/// How a pin was made or changed. Each kind has its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PinChange {
    /// A new flow took a firewall by the hash (`pin_hashed`).
    Hashed,
    /// A new flow arrived from a firewall (`pin_learned`).
    Learned,
    /// An unconfirmed pin adopted the firewall that answered (`pin_corrected`).
    Corrected,
    /// A confirmed pin followed its peer, by persistence, by N1, or because its own firewall was down (`pin_followed`).
    Followed,
    /// A tentative TCP pin without an answer tried the next firewall (`pin_rotated`).
    Rotated,
    /// The pin's firewall failed (`pin_reselected`).
    Reselected,
}

impl PinChange {
    /// All changes in the order of declaration.
    pub const ALL: [Self; 6] =
        [Self::Hashed, Self::Learned, Self::Corrected, Self::Followed, Self::Rotated, Self::Reselected];

    /// The name of the counter.
    pub const fn counter(self) -> &'static str {
        match self {
            Self::Hashed => "pin_hashed",
            Self::Learned => "pin_learned",
            Self::Corrected => "pin_corrected",
            Self::Followed => "pin_followed",
            Self::Rotated => "pin_rotated",
            Self::Reselected => "pin_reselected",
        }
    }
}

/// The set of paths as the rules see it, with what they need to know of the flow. If the flow has a pin, it is the
/// pin's set.
#[derive(Debug, Clone, Copy)]
pub struct PinningView<'a> {
    /// The group.
    pub group: &'a FirewallGroup,
    /// The number of `set`.
    pub set_id: PathSetId,
    /// The set of paths.
    pub set: &'a PathSet,
    /// The hash of the flow in the group.
    pub hash: FlowHash,
    /// The firewall that the route prefers while it is up (`firewall =` of a route).
    pub preferred: Option<FirewallId>,
    /// Whether the flow is TCP, which permits rotation.
    pub tcp: bool,
    /// Whether this engine leads the flow; see [`leads`].
    pub leader: bool,
}

/// What the rules decide for a packet from the near side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NearDecision {
    /// Send the packet to `pin.firewall`, and store the pin.
    Send {
        /// The pin after this packet.
        pin: Pin,
        /// How the pin changed, if it did.
        change: Option<PinChange>,
    },
    /// There is no path: too few members are up ([`PathSet::below_min`]), so that the group's `below_min` applies; or
    /// no member is up but one is starting, so that the packet is dropped until the first verdict, a fraction of a
    /// second later.
    NoPath,
    /// Drop the packet: the pin's firewall failed or left the group, and `on-failure` lets the flow take no other. A
    /// later SYN opens the flow again.
    Failed(FailedFlow),
}

/// What happens to a flow whose firewall failed or left the group, and that may take no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedFlow {
    /// Its session ends, and its ends are reset.
    Reset,
    /// Its session stays, and its packets are dropped until a SYN opens it anew or it has been idle for its time. If it
    /// were forgotten at once, its next packet would take another firewall.
    Drop,
}

/// Whether an engine whose near side sends packets in `direction` leads the flow: it does if its end is the low end of
/// the canonical key. Both engines know this without communication, and it survives restarts.
pub const fn leads(direction: Direction) -> bool {
    match direction {
        Direction::LowToHigh => true,
        Direction::HighToLow => false,
    }
}

/// Applies the rules to a packet that has to be sent to the group.
pub fn decide_near(pin: Option<Pin>, packet: PacketKind, view: &PinningView<'_>, now: Instant) -> NearDecision {
    let Some(mut pin) = pin else {
        return choose(view, packet, PinChange::Hashed, now);
    };
    if packet == PacketKind::SynAck
        && let Some(pin) = follow_syn(&pin, view, now)
    {
        return send(pin, Some(PinChange::Followed), view);
    }
    if let Some(failure) = failure(&pin, packet, view, now) {
        match on_failure(failure, view) {
            FailureAction::Reselect => return choose(view, packet, PinChange::Reselected, now),
            FailureAction::Fail(flow) => return NearDecision::Failed(flow),
            FailureAction::Keep => {}
        }
    }
    match (pin.state, packet) {
        (PinState::Tentative, PacketKind::Syn) => pin.state = PinState::Opening,
        (PinState::Tentative, PacketKind::Other) => {
            if let Some(pin) = rotate(&pin, view, now) {
                return send(pin, Some(PinChange::Rotated), view);
            }
        }
        (PinState::Tentative, PacketKind::SynAck | PacketKind::AckOrReset)
        | (PinState::Opening | PinState::Confirmed, _) => {}
    }
    if pin.unanswered_since.is_none() && packet != PacketKind::AckOrReset {
        pin.unanswered_since = Some(Stamp::at(now));
    }
    send(pin, None, view)
}

/// Applies the rules to a packet that arrives from `from`, a firewall of the group. The packet is forwarded in any
/// case.
pub fn decide_far(
    pin: Option<Pin>,
    from: FirewallId,
    packet: PacketKind,
    view: &PinningView<'_>,
    now: Instant,
) -> (Pin, Option<PinChange>) {
    let Some(mut pin) = pin else {
        return (Pin::new(view, from, PinState::Tentative, PinnedBy::Learned), Some(PinChange::Learned));
    };
    let moves = match (pin.state, arrival(&pin, from, view), packet) {
        (PinState::Opening, ArrivedFrom::Pin, _)
        | (
            PinState::Tentative | PinState::Confirmed,
            ArrivedFrom::Pin,
            PacketKind::SynAck | PacketKind::AckOrReset | PacketKind::Other,
        ) => {
            pin.state = PinState::Confirmed;
            pin.record_answer(packet);
            false
        }
        (PinState::Tentative | PinState::Confirmed, ArrivedFrom::Pin, PacketKind::Syn) => {
            pin.record_answer(packet);
            false
        }
        (PinState::Opening | PinState::Tentative, ArrivedFrom::Up, _) => true,
        (PinState::Confirmed, ArrivedFrom::Up, _) if !pin.is_up(view.group, view.set) => true,
        (PinState::Confirmed, ArrivedFrom::Up, PacketKind::Syn) => {
            pin.syn_from = from.into();
            pin.record_dispute(from, now);
            false
        }
        (PinState::Confirmed, ArrivedFrom::Up, PacketKind::SynAck | PacketKind::AckOrReset | PacketKind::Other)
        | (PinState::Opening | PinState::Tentative | PinState::Confirmed, ArrivedFrom::Down, _) => {
            pin.record_dispute(from, now);
            pin.dispute_is_persistent(view, now)
        }
    };
    if moves { adopt(&pin, from, packet, view) } else { (pin, None) }
}

/// A shortcut for the most common packets, which needs only the pin and the protocol of the flow. It returns the pin
/// after the packet if [`decide_near`] would send it to the same firewall, and `None` if [`decide_near`] has to decide.
#[inline]
pub fn decide_near_steady(
    pin: &Pin,
    packet: PacketKind,
    tcp: bool,
    group: &FirewallGroup,
    set: &PathSet,
    now: Instant,
) -> Option<Pin> {
    let asked = match (packet, pin.state) {
        // It may be time to try the next firewall.
        (PacketKind::Other, PinState::Tentative) if tcp && pin.unanswered_since.is_some() => return None,
        (PacketKind::Other, PinState::Opening | PinState::Tentative | PinState::Confirmed) => {
            pin.unanswered_since.or_else(|| Some(Stamp::at(now)))
        }
        (PacketKind::AckOrReset, PinState::Opening | PinState::Tentative | PinState::Confirmed) => pin.unanswered_since,
        (PacketKind::Syn | PacketKind::SynAck, _) => return None,
    };
    let is_steady = pin.is_up(group, set) && !set.below_min(group);
    is_steady.then_some(Pin { unanswered_since: asked, ..*pin })
}

/// A shortcut for the most common packets, which arrive from the pin's own firewall. It returns the pin that
/// [`decide_far`] would return, and `None` if [`decide_far`] has to decide.
#[inline]
pub fn decide_far_steady(pin: &Pin, from: FirewallId, packet: PacketKind) -> Option<Pin> {
    let opens = matches!(packet, PacketKind::Syn | PacketKind::SynAck);
    let is_steady = pin.state == PinState::Confirmed && !opens && pin.firewall == from;
    is_steady.then(|| {
        let mut pin = *pin;
        pin.record_answer(packet);
        pin
    })
}

/// Which firewall a packet arrived from, compared with the pin's.
#[derive(Debug, Clone, Copy)]
enum ArrivedFrom {
    Pin,
    /// Another firewall, which is up.
    Up,
    /// Another firewall, which is not up.
    Down,
}

fn arrival(pin: &Pin, from: FirewallId, view: &PinningView<'_>) -> ArrivedFrom {
    if pin.firewall == from {
        return ArrivedFrom::Pin;
    }
    match view.group.slot_of(from) {
        Some(slot) if view.set.is_up(slot) => ArrivedFrom::Up,
        Some(_) | None => ArrivedFrom::Down,
    }
}

/// Why a pin cannot be used.
enum PinFailure {
    /// Its firewall failed since it was pinned.
    Failed,
    /// Its firewall has left the group, so that the pin cannot be kept.
    Left,
    /// Its firewall was not up at any time while pinned, and does not answer.
    Silent,
    /// Its firewall is not up, and the packet opens a new conversation.
    Opens,
}

fn failure(pin: &Pin, packet: PacketKind, view: &PinningView<'_>, now: Instant) -> Option<PinFailure> {
    if pin.is_up(view.group, view.set) {
        return None;
    }
    match packet {
        PacketKind::Syn => Some(PinFailure::Opens),
        PacketKind::SynAck | PacketKind::AckOrReset | PacketKind::Other
            if view.group.slot_of(pin.firewall).is_none() =>
        {
            Some(PinFailure::Left)
        }
        PacketKind::SynAck | PacketKind::AckOrReset | PacketKind::Other if pin.has_failed(view.group, view.set) => {
            Some(PinFailure::Failed)
        }
        PacketKind::SynAck | PacketKind::AckOrReset | PacketKind::Other => {
            pin.is_unanswered_for_long(now).then_some(PinFailure::Silent)
        }
    }
}

/// What `on-failure` means for one packet.
enum FailureAction {
    Reselect,
    Fail(FailedFlow),
    Keep,
}

fn on_failure(failure: PinFailure, view: &PinningView<'_>) -> FailureAction {
    match (failure, view.group.on_failure.for_flow(view.tcp)) {
        (PinFailure::Opens | PinFailure::Silent, _) | (PinFailure::Failed | PinFailure::Left, OnFailure::Reselect) => {
            FailureAction::Reselect
        }
        (PinFailure::Failed | PinFailure::Left, OnFailure::Reset) => FailureAction::Fail(FailedFlow::Reset),
        (PinFailure::Failed | PinFailure::Left, OnFailure::Drop) => FailureAction::Fail(FailedFlow::Drop),
        (PinFailure::Failed, OnFailure::Keep) => FailureAction::Keep,
        (PinFailure::Left, OnFailure::Keep) => FailureAction::Reselect,
    }
}

fn opening_state(packet: PacketKind) -> PinState {
    match packet {
        PacketKind::Syn => PinState::Opening,
        PacketKind::SynAck | PacketKind::AckOrReset | PacketKind::Other => PinState::Tentative,
    }
}

fn send(pin: Pin, change: Option<PinChange>, view: &PinningView<'_>) -> NearDecision {
    if view.set.below_min(view.group) { NearDecision::NoPath } else { NearDecision::Send { pin, change } }
}

/// Pins the flow to the best firewall.
fn choose(view: &PinningView<'_>, packet: PacketKind, change: PinChange, now: Instant) -> NearDecision {
    let Some(firewall) = best(view) else { return NearDecision::NoPath };
    if change == PinChange::Hashed && packet != PacketKind::Syn && awaits_first_verdict(view) {
        return NearDecision::NoPath;
    }
    let asked = (packet != PacketKind::AckOrReset).then(|| Stamp::at(now));
    let pin = Pin { unanswered_since: asked, ..Pin::new(view, firewall, opening_state(packet), PinnedBy::Hash) };
    send(pin, Some(change), view)
}

/// True for TCP if a firewall without a first verdict would be the best once it is up. Then the engine was just
/// started, and for a connection that continues that firewall has the state, so that no other would let the packet
/// pass. The verdict is a fraction of a second away.
fn awaits_first_verdict(view: &PinningView<'_>) -> bool {
    let is_starting = |slot: usize| view.set.starting & (1 << slot) != 0;
    let would_take = view.set.selectable | view.set.starting;
    let preferred = view.preferred.and_then(|firewall| view.group.slot_of(firewall));
    let best = || rendezvous::select(view.group, would_take, view.hash);
    view.tcp
        && view.set.starting != 0
        && preferred.filter(|slot| would_take & (1 << slot) != 0).or_else(best).is_some_and(is_starting)
}

/// The firewall that a new flow takes.
pub fn best(view: &PinningView<'_>) -> Option<FirewallId> {
    let is_selectable = |slot: usize| view.set.selectable & (1 << slot) != 0;
    let preferred =
        view.preferred.and_then(|firewall| view.group.slot_of(firewall)).filter(|&slot| is_selectable(slot));
    let slot = preferred
        .or_else(|| rendezvous::select(view.group, view.set.selectable, view.hash))
        .or_else(|| rendezvous::select(view.group, view.set.up, view.hash))?;
    Some(view.group.members[slot].id)
}

/// The home of a flow: the firewall that its route prefers, else the one that the hash gives among all members, whatever
/// lives. It depends on the configuration alone. While it takes new flows, it is also [`best`].
pub fn home(view: &PinningView<'_>) -> Option<FirewallId> {
    let preferred = view.preferred.filter(|firewall| view.group.slot_of(*firewall).is_some());
    preferred.or_else(|| {
        let slot = rendezvous::select(view.group, Slots::MAX, view.hash)?;
        Some(view.group.members[slot].id)
    })
}

/// Applies rule N1.
fn follow_syn(pin: &Pin, view: &PinningView<'_>, now: Instant) -> Option<Pin> {
    let firewall = pin.syn_from.get()?;
    let slot = view.group.slot_of(firewall)?;
    view.set.is_up(slot).then(|| Pin {
        unanswered_since: Some(Stamp::at(now)),
        leader_moves: pin.leader_moves,
        ..Pin::new(view, firewall, PinState::Confirmed, PinnedBy::Learned)
    })
}

/// Applies rule N2. Returns `None` if there is no other firewall to try.
fn rotate(pin: &Pin, view: &PinningView<'_>, now: Instant) -> Option<Pin> {
    let turns_max = 2 * view.group.members.len();
    if !view.tcp || !pin.is_unanswered_for_long(now) || usize::from(pin.rotations) >= turns_max {
        return None;
    }
    if view.group.has_mates && [best(view), home(view)].contains(&Some(pin.firewall)) {
        return None;
    }
    let slot = view.group.slot_of(pin.firewall)?;
    let next = rendezvous::next_after(view.group, view.set.up, view.hash, slot).filter(|&next| next != slot)?;
    Some(Pin {
        unanswered_since: Some(Stamp::at(now)),
        rotations: pin.rotations + 1,
        leader_moves: pin.leader_moves,
        ..Pin::new(view, view.group.members[next].id, PinState::Tentative, PinnedBy::Hash)
    })
}

/// Moves the pin to the firewall that the packet came from.
fn adopt(pin: &Pin, from: FirewallId, packet: PacketKind, view: &PinningView<'_>) -> (Pin, Option<PinChange>) {
    let (state, change) = match (packet, pin.state) {
        (PacketKind::Syn, PinState::Opening | PinState::Tentative) => (PinState::Tentative, PinChange::Corrected),
        (PacketKind::Syn, PinState::Confirmed) => (PinState::Tentative, PinChange::Followed),
        (PacketKind::SynAck | PacketKind::AckOrReset | PacketKind::Other, PinState::Opening | PinState::Tentative) => {
            (PinState::Confirmed, PinChange::Corrected)
        }
        (PacketKind::SynAck | PacketKind::AckOrReset | PacketKind::Other, PinState::Confirmed) => {
            (PinState::Confirmed, PinChange::Followed)
        }
    };
    let left_by_choice = view.leader && pin.state == PinState::Confirmed && pin.is_up(view.group, view.set);
    let leader_moves = pin.leader_moves + u8::from(left_by_choice);
    (Pin { leader_moves, ..Pin::new(view, from, state, PinnedBy::Learned) }, Some(change))
}

#[cfg(test)]
mod tests;
