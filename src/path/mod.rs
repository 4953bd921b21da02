//! Which firewall a flow takes: the rendezvous selection, the pinning rules R, and what "up" means for a set of paths.
//!
//! A *path* is (firewall, peer, address family). A [`PathSet`] contains the paths of one group toward one peer (or
//! every peer) in one family; a flow takes its firewall from one set.
//!
//! Everything here is decided from keys, hashes and verdicts. This module never reads the bytes of a packet, and does
//! not know how paths are probed.

pub mod liveness;
pub mod pinning;
pub mod rendezvous;
#[cfg(test)]
pub mod testing;

use crate::flow::FlowHasher;
use crate::id::{FirewallId, GroupId, PeerId};
use crate::wire::Family;

named_enum! {
    /// What happens to the sessions of a firewall or server that went down (key `on-failure`).
    #[derive(Default)]
    pub enum OnFailure {
        /// Sessions take another live firewall or server with their next packet.
        #[default]
        Reselect = "reselect",
        /// TCP sessions end: each engine sends an RST to the end on its own side. Other sessions are reselected.
        Reset = "reset",
        /// Sessions stay pinned to the firewall, or at the server.
        Keep = "keep",
        /// Packets of these sessions are dropped until the flow begins again, by a SYN or after its idle timeout.
        Drop = "drop",
    }
}

impl OnFailure {
    /// The action for a flow of TCP, or of another protocol. Only a TCP connection can be reset: with `reset`, a flow of
    /// any other protocol is reselected.
    #[inline]
    pub const fn for_flow(self, is_tcp: bool) -> Self {
        match self {
            Self::Reset if !is_tcp => Self::Reselect,
            Self::Reselect | Self::Reset | Self::Keep | Self::Drop => self,
        }
    }
}

named_enum! {
    /// What happens to packets while fewer than `min-up` firewalls are live (key `below-min`).
    #[derive(Default)]
    pub enum BelowMin {
        /// They are dropped (fail closed).
        #[default]
        Drop = "drop",
        /// They are routed past the firewalls (fail open).
        Bypass = "bypass",
    }
}

named_enum! {
    /// The administrative state of a firewall, server or service.
    #[derive(Default)]
    #[schema(as = Admin)]
    pub enum AdminState {
        /// In service.
        #[default]
        Ready = "ready",
        /// Takes no new flows; existing ones stay until they end or `drain-timeout` passes.
        Drain = "drain",
        /// Out of service at once, for maintenance.
        Maint = "maint",
    }
}

/// A firewall as the selection needs it. Its slot, which is its bit in a path set, is its position in
/// [`FirewallGroup::members`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Its number, unique in the engine.
    pub id: FirewallId,
    /// Its name, which enters the hash.
    pub name: String,
    /// Its weight, 1 to 256.
    pub weight: u16,
    /// Whether it is a spare, which takes flows only in place of a firewall that is down.
    pub spare: bool,
}

/// A group as the selection needs it, with at most [`FirewallGroup::MEMBERS_MAX`] firewalls in the order of the
/// configuration.
#[derive(Debug, Clone)]
pub struct FirewallGroup {
    /// Its number.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// The keyed hash of the group.
    pub hasher: FlowHasher,
    /// Its firewalls, by slot.
    pub members: Vec<GroupMember>,
    /// What happens to the sessions of a firewall that went down.
    pub on_failure: OnFailure,
    /// The number of live firewalls below which `below_min` applies.
    pub min_up: u16,
    /// What happens to packets while too few firewalls are live.
    pub below_min: BelowMin,
    /// Another engine of this side may forward packets of the same flows, so that this one may see one direction only.
    pub has_mates: bool,
}

impl FirewallGroup {
    /// The largest number of members of a group, which have one bit each in a [`PathSet`].
    pub const MEMBERS_MAX: usize = 64;

    /// The slot of a firewall in this group. Members usually have consecutive numbers, so that the first guess finds
    /// it.
    #[inline]
    pub fn slot_of(&self, firewall: FirewallId) -> Option<usize> {
        let is_it = |slot: &usize| self.members.get(*slot).is_some_and(|member| member.id == firewall);
        let first = self.members.first()?.id.index();
        let guess = firewall.index().checked_sub(first).filter(is_it);
        guess.or_else(|| self.members.iter().position(|member| member.id == firewall))
    }
}

/// A set of slots of a group, as a bit mask.
pub type Slots = u64;

/// The paths of one group toward one peer (or all of them) in one family, as the packet path needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathSet {
    /// The group.
    pub group: GroupId,
    /// The peer to which the paths lead; `None` for every peer of the group.
    pub peer: Option<PeerId>,
    /// The address family of the paths.
    pub family: Family,
    /// Members that carry packets: up in the judgement of this engine and of the peer, not in maintenance, and without
    /// an expired drain deadline.
    pub up: Slots,
    /// The members of `up` that take new flows: not draining, and past their `hold`.
    pub selectable: Slots,
    /// Members without a first verdict. They are not in `up` and therefore not chosen, but packets that arrive from
    /// them are learned, and they do not count as missing.
    pub starting: Slots,
    /// For each slot, how often the member went from up to down. An expired drain deadline counts too.
    pub failure_counts: Vec<u32>,
}

impl PathSet {
    /// True while fewer than `min_up` members are live. A member that is starting counts as live here, because its
    /// state is not known yet and its learned sessions are kept.
    #[inline]
    pub fn below_min(&self, group: &FirewallGroup) -> bool {
        (self.up | self.starting).count_ones() < u32::from(group.min_up)
    }

    /// True if the member in `slot` carries packets.
    #[inline]
    pub fn is_up(&self, slot: usize) -> bool {
        self.up & (1 << slot) != 0
    }

    /// The members that new flows may take: those that are selectable or, if there are none, all that are up, even
    /// while draining or in their hold.
    pub const fn candidates(&self) -> Slots {
        if self.selectable == 0 { self.up } else { self.selectable }
    }

    /// How often the member in `slot` went from up to down.
    pub fn failure_count(&self, slot: usize) -> u32 {
        self.failure_counts.get(slot).copied().unwrap_or(0)
    }
}
