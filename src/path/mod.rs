//! Which firewall: the rendezvous selection, the pinning rules R, and what "up" means for a set of paths.
//!
//! A *path* is (firewall, peer, family). A [`PathSet`] gathers the paths of one group toward one peer (or every peer) for
//! one family: a flow takes its firewall from one set.
//!
//! Everything is decided from keys, hashes and verdicts: no bytes of a packet are read here, and how a path is probed is not
//! known.

pub mod liveness;
pub mod pinning;
pub mod rendezvous;

use crate::flow::FlowHasher;
use crate::id::{FirewallId, GroupId, PeerId};
use crate::wire::Family;

/// What becomes of the sessions of a firewall that went down (INTERFACE.md, `on-failure`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnFailure {
    /// They take another live firewall with their next packet.
    #[default]
    Reselect,
    /// TCP: each engine sends RST to the end on its own side; the rest is reselected.
    Reset,
    /// They stay pinned to it.
    Keep,
    /// Their packets are dropped until the flow is new again: opened by a SYN, or idle for its time.
    Drop,
}

impl OnFailure {
    /// The word by which operators know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reselect => "reselect",
            Self::Reset => "reset",
            Self::Keep => "keep",
            Self::Drop => "drop",
        }
    }
}

/// What happens while fewer than `min-up` firewalls are live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BelowMin {
    /// Fail closed.
    #[default]
    Drop,
    /// Route past the firewalls.
    Bypass,
}

/// Administrative state of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Admin {
    /// In service.
    #[default]
    Ready,
    /// No new flows; live ones stay until they end or `drain-timeout` passes.
    Drain,
    /// Out of service at once.
    Maint,
}

/// A firewall as selection sees it. Its slot (bit) in a path set is its position in [`Group::members`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Engine-wide number.
    pub id: FirewallId,
    /// Enters the hash.
    pub name: String,
    /// 1..=256.
    pub weight: u16,
    /// Takes over only for a member that is down.
    pub spare: bool,
}

/// A group as selection sees it: at most [`Group::MEMBERS_MAX`] members, in order of configuration.
#[derive(Debug, Clone)]
pub struct Group {
    /// Number.
    pub id: GroupId,
    /// Name.
    pub name: String,
    /// Keyed hash of the group.
    pub hasher: FlowHasher,
    /// The firewalls.
    pub members: Vec<Member>,
    /// For the sessions of a firewall that went down.
    pub on_failure: OnFailure,
    /// Fewer live firewalls than this: `below_min` applies.
    pub min_up: u16,
    /// Fail closed or open.
    pub below_min: BelowMin,
}

impl Group {
    /// Members of a group at most: one bit each in a [`PathSet`].
    pub const MEMBERS_MAX: usize = 64;

    /// The slot of a firewall in this group. Members are usually numbered in a row, so the first look finds it.
    #[inline]
    pub fn slot_of(&self, firewall: FirewallId) -> Option<usize> {
        let is_it = |slot: &usize| self.members.get(*slot).is_some_and(|member| member.id == firewall);
        let first = self.members.first()?.id.index();
        let guess = firewall.index().checked_sub(first).filter(is_it);
        guess.or_else(|| self.members.iter().position(|member| member.id == firewall))
    }
}

/// Slots of a group as bits.
pub type Slots = u64;

/// The paths of one group toward one peer (or all of them) in one family, as the packet path sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathSet {
    /// The group.
    pub group: GroupId,
    /// The peer that the paths lead to; `None`: every peer of the group.
    pub peer: Option<PeerId>,
    /// Address family.
    pub family: Family,
    /// Members that carry packets: up in this engine's view and in the peer's, not maint, no passed drain deadline.
    pub up: Slots,
    /// The members of `up` that take new flows: not draining, past their `hold`.
    pub selectable: Slots,
    /// Members without a first verdict: not `up`, so they are not chosen, but what arrives from them is learned and they
    /// do not count as missing.
    pub starting: Slots,
    /// Per slot, how often the member went from up to down (a passed drain deadline counts too).
    pub falls: Vec<u32>,
}

impl PathSet {
    /// True while fewer than `min_up` members are live. A member that is starting counts as live here: what becomes of
    /// it is not known, and its learned sessions are kept.
    #[inline]
    pub fn below_min(&self, group: &Group) -> bool {
        (self.up | self.starting).count_ones() < u32::from(group.min_up)
    }

    /// True if the member in `slot` carries packets.
    #[inline]
    pub fn is_up(&self, slot: usize) -> bool {
        self.up & (1 << slot) != 0
    }

    /// Whom new flows go to: those that take them; where there are none, all that are up, draining or in their hold.
    pub const fn chosen_from(&self) -> Slots {
        if self.selectable == 0 { self.up } else { self.selectable }
    }

    /// How often the member in `slot` went from up to down.
    pub fn falls(&self, slot: usize) -> u32 {
        self.falls.get(slot).copied().unwrap_or(0)
    }
}
