//! A pin: what the rules remember of a flow, in 24 bytes.

use std::num::{NonZeroU8, NonZeroU32};

use super::{CONFIRM_TIME, LEADER_DELAY, LEADER_MOVES_MAX, PacketKind, PinningView};
use crate::id::{FirewallId, PathSetId};
use crate::path::{FirewallGroup, PathSet};
use crate::time::{Duration, Instant};

named_enum! {
    /// How certain a pin is.
    pub enum PinState {
        /// A SYN was sent to the firewall, and no packet has returned.
        Opening = "opening",
        /// The flow was hashed in mid-stream, or learned, and is not confirmed yet.
        Tentative = "tentative",
        /// A packet of the flow has returned from the firewall.
        Confirmed = "confirmed",
    }
}

named_enum! {
    /// How the firewall of a pin was found.
    pub enum PinnedBy {
        /// By the rendezvous hash.
        Hash = "hash",
        /// By a packet that arrived from it.
        Learned = "learned",
    }
}

/// The firewall of a flow toward one of its ends, with what the rules remember of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin {
    /// The set from which the firewall was taken. Packets toward this end go through its group.
    pub set: PathSetId,
    /// The firewall.
    pub firewall: FirewallId,
    /// How certain the pin is.
    pub state: PinState,
    /// How its firewall was found.
    pub pinned_by: PinnedBy,
    /// The failure count of the firewall when it was pinned, modulo 2^16.
    pub(super) failure_count: u16,
    /// The firewall from which a SYN arrived while another one was pinned.
    pub(super) syn_from: MaybeFirewall,
    /// When the first near packet since the last packet from the pin's firewall was sent; `None` if it was answered.
    pub(super) unanswered_since: Option<Stamp>,
    /// The dispute about the firewall, if there is one.
    pub(super) dispute: Option<Dispute>,
    /// The number of rotations so far.
    pub rotations: u8,
    /// The number of persistent changes that a confirmed leader has followed so far.
    pub leader_moves: u8,
}

/// A dispute: packets that arrived from a firewall which is not the pin's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Dispute {
    /// When the first of them arrived.
    pub(super) since: Stamp,
    pub(super) firewall: FirewallId,
    /// How many arrived in a row, saturating.
    pub(super) packets: NonZeroU8,
}

/// An `Option<FirewallId>` in two bytes. The largest number means none, because no configuration has 65,536 firewalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct MaybeFirewall(u16);

/// A time in whole milliseconds, modulo 49 days. A flow that waits for an answer that long is judged one second late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stamp(NonZeroU32);

impl Pin {
    /// The upper limit of the size of a pin, of which a session has two.
    pub const SIZE_MAX: usize = 24;

    pub(super) fn new(view: &PinningView<'_>, firewall: FirewallId, state: PinState, pinned_by: PinnedBy) -> Self {
        let failure_count = view.group.slot_of(firewall).map_or(0, |slot| view.set.failure_count(slot) as u16);
        Self::fresh(view.set_id, firewall, state, pinned_by, failure_count)
    }

    /// A pin that another node made in `set_id`. If the firewall has failed here, the pin counts as one from before that,
    /// so that `on-failure` applies to it. Nothing is known of packets under way.
    pub fn copied(
        set_id: PathSetId,
        firewall: FirewallId,
        state: PinState,
        pinned_by: PinnedBy,
        group: &FirewallGroup,
        set: &PathSet,
    ) -> Self {
        let failure_count = group.slot_of(firewall).map_or(0, |slot| {
            let has_failed = (set.up | set.starting) & (1 << slot) == 0;
            set.failure_count(slot).wrapping_sub(u32::from(has_failed)) as u16
        });
        Self::fresh(set_id, firewall, state, pinned_by, failure_count)
    }

    /// A pin of which nothing has happened yet.
    const fn fresh(
        set: PathSetId,
        firewall: FirewallId,
        state: PinState,
        pinned_by: PinnedBy,
        failure_count: u16,
    ) -> Self {
        Self {
            set,
            firewall,
            state,
            pinned_by,
            failure_count,
            unanswered_since: None,
            dispute: None,
            syn_from: MaybeFirewall::NONE,
            rotations: 0,
            leader_moves: 0,
        }
    }

    /// The pin as numbers for [`Pin::from_words`]. The upper 16 bits of the last one are 0, and no pin is all zeros.
    #[inline]
    pub fn to_words(&self) -> [u64; 3] {
        let state = match self.state {
            PinState::Opening => 1,
            PinState::Tentative => 2,
            PinState::Confirmed => 3,
        };
        let learned = match self.pinned_by {
            PinnedBy::Hash => 0,
            PinnedBy::Learned => 1 << 2,
        };
        let asked = self.unanswered_since.map_or(0, |stamp| stamp.0.get());
        let (since, brought, packets) = self
            .dispute
            .map_or((0, 0, 0), |dispute| (dispute.since.0.get(), dispute.firewall.0, dispute.packets.get()));
        let quarters =
            |[a, b, c, d]: [u16; 4]| u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48;
        [
            quarters([self.set.0, self.firewall.0, self.failure_count, self.syn_from.0]),
            u64::from(asked) | u64::from(since) << 32,
            quarters([
                brought,
                u16::from_le_bytes([packets, self.rotations]),
                u16::from_le_bytes([self.leader_moves, state | learned]),
                0,
            ]),
        ]
    }

    /// Reads the numbers that [`Pin::to_words`] wrote. All zeros are no pin; any other numbers are some pin.
    #[inline]
    pub fn from_words([place, times, rest]: [u64; 3]) -> Option<Self> {
        let quarter = |word: u64, number: u32| (word >> (16 * number)) as u16;
        let [packets, turns] = quarter(rest, 1).to_le_bytes();
        let [leader_moves, flags] = quarter(rest, 2).to_le_bytes();
        let state = match flags & 3 {
            0 => return None,
            1 => PinState::Opening,
            2 => PinState::Tentative,
            _ => PinState::Confirmed,
        };
        let stamp = |millis: u32| NonZeroU32::new(millis).map(Stamp);
        let dispute = stamp((times >> 32) as u32).zip(NonZeroU8::new(packets));
        Some(Self {
            set: PathSetId(quarter(place, 0)),
            firewall: FirewallId(quarter(place, 1)),
            state,
            pinned_by: if flags & 1 << 2 == 0 { PinnedBy::Hash } else { PinnedBy::Learned },
            failure_count: quarter(place, 2),
            syn_from: MaybeFirewall(quarter(place, 3)),
            unanswered_since: stamp(times as u32),
            dispute: dispute.map(|(since, packets)| Dispute { since, firewall: FirewallId(quarter(rest, 0)), packets }),
            rotations: turns,
            leader_moves,
        })
    }

    /// True if the firewall is up in the set.
    #[inline]
    pub fn is_up(&self, group: &FirewallGroup, set: &PathSet) -> bool {
        group.slot_of(self.firewall).is_some_and(|slot| set.is_up(slot))
    }

    /// True if the firewall is down and failed after it was pinned, so that `on-failure` applies. A firewall that has
    /// left the group counts as failed.
    pub fn has_failed(&self, group: &FirewallGroup, set: &PathSet) -> bool {
        match group.slot_of(self.firewall) {
            Some(slot) => !set.is_up(slot) && set.failure_count(slot) as u16 != self.failure_count,
            None => true,
        }
    }

    /// All firewalls that the pin mentions: its own, and those from which packets arrived instead.
    pub fn firewalls(&self) -> impl Iterator<Item = FirewallId> {
        [Some(self.firewall), self.syn_from.get(), self.dispute.map(|dispute| dispute.firewall)].into_iter().flatten()
    }

    /// True if packets were sent to the firewall and none has returned since.
    pub fn is_unanswered(&self) -> bool {
        self.unanswered_since.is_some()
    }

    pub(super) fn is_unanswered_for_long(&self, now: Instant) -> bool {
        self.unanswered_since.is_some_and(|asked| asked.elapsed(now) >= CONFIRM_TIME)
    }

    pub(super) fn record_answer(&mut self, packet: PacketKind) {
        self.dispute = None;
        self.syn_from = MaybeFirewall::NONE;
        match packet {
            PacketKind::Syn => {}
            PacketKind::SynAck | PacketKind::AckOrReset | PacketKind::Other => self.unanswered_since = None,
        }
    }

    pub(super) fn record_dispute(&mut self, from: FirewallId, now: Instant) {
        self.dispute = Some(match self.dispute {
            Some(dispute) if dispute.firewall == from => {
                Dispute { packets: dispute.packets.saturating_add(1), ..dispute }
            }
            Some(_) | None => Dispute { since: Stamp::at(now), firewall: from, packets: NonZeroU8::MIN },
        });
    }

    pub(super) fn dispute_is_persistent(&self, view: &PinningView<'_>, now: Instant) -> bool {
        let Some(dispute) = self.dispute else { return false };
        let leads = view.leader && self.state == PinState::Confirmed;
        let patience = if leads { LEADER_DELAY } else { CONFIRM_TIME };
        let may_move = !leads || self.leader_moves < LEADER_MOVES_MAX;
        may_move && dispute.packets.get() >= 2 && dispute.since.elapsed(now) >= patience
    }
}

impl MaybeFirewall {
    pub(super) const NONE: Self = Self(u16::MAX);

    pub(super) fn get(self) -> Option<FirewallId> {
        (self != Self::NONE).then_some(FirewallId(self.0))
    }
}

impl From<FirewallId> for MaybeFirewall {
    fn from(firewall: FirewallId) -> Self {
        Self(firewall.0)
    }
}

impl Stamp {
    pub(super) fn at(now: Instant) -> Self {
        Self(NonZeroU32::new(now.as_millis() as u32).unwrap_or(NonZeroU32::MIN))
    }

    pub(super) fn elapsed(self, now: Instant) -> Duration {
        Duration::from_millis(u64::from(Self::at(now).0.get().wrapping_sub(self.0.get())))
    }
}

const _: () = assert!(size_of::<Option<Pin>>() <= Pin::SIZE_MAX);

#[cfg(test)]
pub(super) mod tests;
