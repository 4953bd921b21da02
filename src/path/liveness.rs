//! From verdicts about single paths to the sets that the packet path uses: own view and the peer's, administrative state,
//! drain deadlines, lost peers, `hold`.
//!
//! The controller tells what it learned ([`Liveness::path`], [`Liveness::neighbor`], [`Liveness::told`],
//! [`Liveness::set_admin`]) and then calls [`Liveness::evaluate`], also when [`Liveness::poll_timeout`] is due. Nothing
//! changes between two evaluations.
//!
//! # When is a member up?
//!
//! In a set a member is *up* if every path that the set needs is live in this engine's judgement, and the peer does not
//! object, and the member is not in maintenance and its drain deadline has not passed. A peer that was not heard for
//! [`TOLD_LIFE`], or that has no verdict of its own yet, does not object; as each engine advertises its own judgement only
//! ([`Liveness::advertise`]), two engines never wait for each other. Every step from up to not up is a *fall*.
//!
//! # Is the firewall dead, or the peer?
//!
//! When all live paths to a peer fail together, the peer is *lost*, not the firewalls: the live set stays as it is, so that
//! nothing is reselected, reset or dropped. Three rules tell the cases apart, for each (peer, family) alone:
//!
//! - A down verdict waits while every other live path to the peer is missing probes too. It ends when one of them answers
//!   (then the verdict holds) or when all are down (then the peer is lost).
//! - A firewall that does not answer ARP or ND has failed whatever the peer does: no verdict about it waits.
//! - At the start, the first paths that rise wait until every path has its first verdict, at most the same grace time: a
//!   flow that the engine forgot must not go through a firewall that merely was judged earlier than its own.
//! - When the first path to a lost peer is back, the old set stays for a grace time more, so that the others can follow;
//!   after it the verdicts hold. A path that never fell need not pass its `hold` again.

mod firewall;
mod values;

use crate::id::{FirewallId, GroupId, PathSetId, PeerId};
use crate::path::{Admin, PathSet, Slots};
use crate::time::{Duration, Instant};
use crate::wire::Family;

use firewall::Firewall;
pub use values::{
    Change, FirewallState, LivenessConfig, LivenessGroup, PathHealth, PathKey, PeerState, Reason, SetKey, Status, Told,
    Verdict,
};

/// How long an advertisement of a peer counts.
pub const TOLD_LIFE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct Liveness {
    groups: Vec<LivenessGroup>,
    firewalls: Vec<Option<Firewall>>,
    peers: Vec<Option<Status<PeerState>>>,
    legs: Vec<Leg>,
    set_keys: Vec<SetKey>,
    sets: Vec<PathSet>,
    below_min: Vec<bool>,
}

/// All paths to one peer in one family, as bits by slot.
#[derive(Debug)]
struct Leg {
    group: GroupId,
    peer: PeerId,
    family: Family,
    /// The paths that there are.
    exists: Slots,
    /// Verdicts of this engine; neither: starting.
    up: Slots,
    down: Slots,
    failing: Slots,
    past_hold: Slots,
    /// What this engine believes, lost peers considered.
    live: Slots,
    /// Those of `live` that were past their hold at some time since they rose.
    takes_new: Slots,
    phase: Phase,
    /// When the peer advertised last.
    heard: Option<Instant>,
    told_down: Slots,
    told_drain: Slots,
    told_maint: Slots,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is live yet; after the first path has risen, the others have until then for their first verdict.
    Starting { until: Option<Instant> },
    /// Verdicts hold.
    Heard,
    /// All live paths failed together.
    Lost,
    /// A path is back; the old set stays until then.
    Back { until: Instant },
}

impl Liveness {
    /// Everything is starting.
    pub fn new(config: LivenessConfig, now: Instant) -> Self {
        let mut liveness = Self {
            groups: config.groups,
            firewalls: Vec::new(),
            peers: Vec::new(),
            legs: Vec::new(),
            sets: Vec::new(),
            below_min: vec![false; config.sets.len()],
            set_keys: config.sets,
        };
        for (group, settings) in liveness.groups.iter().enumerate() {
            for (slot, &(id, admin)) in settings.members.iter().enumerate() {
                let firewall = Firewall::new(GroupId::from(group), slot, admin, now);
                *slot_in(&mut liveness.firewalls, id.index()) = Some(firewall);
            }
        }
        for path in &config.paths {
            liveness.add_path(*path, now);
        }
        liveness.legs.sort_by_key(|leg| (leg.peer, leg.family));
        for key in &liveness.set_keys {
            let members = liveness.groups[key.group.index()].members.len();
            liveness.sets.push(PathSet {
                group: key.group,
                peer: key.peer,
                family: key.family,
                up: 0,
                selectable: 0,
                starting: 0,
                falls: vec![0; members],
            });
        }
        liveness.evaluate(now);
        liveness
    }

    /// What this engine's probes say of a path. Paths that are not configured are ignored.
    pub fn path(&mut self, path: PathKey, health: PathHealth) {
        let Some((leg, bit)) = self.leg_of(path) else { return };
        put(&mut leg.up, bit, health.verdict == Verdict::Up);
        put(&mut leg.down, bit, health.verdict == Verdict::Down);
        put(&mut leg.failing, bit, health.failing);
        put(&mut leg.past_hold, bit, health.verdict == Verdict::Up && health.takes_new);
    }

    /// Whether a firewall answers ARP or ND since its probes began to fail. Until this says no, it is believed to.
    pub fn neighbor(&mut self, firewall: FirewallId, family: Family, answers: bool) {
        if let Some(Some(firewall)) = self.firewalls.get_mut(firewall.index()) {
            firewall.silent[family_index(family)] = !answers;
        }
    }

    /// What a peer advertised in a probe of this family. The caller sees to it that an older advertisement never comes
    /// after a newer one. Firewalls that are not between the two engines are ignored.
    pub fn told(&mut self, peer: PeerId, family: Family, told: &[Told], now: Instant) {
        let Some(leg) = self.legs.iter_mut().find(|leg| leg.peer == peer && leg.family == family) else { return };
        leg.heard = Some(now);
        (leg.told_down, leg.told_drain, leg.told_maint) = (0, 0, 0);
        let members = &self.groups[leg.group.index()].members;
        for told in told {
            let Some(slot) = members.iter().position(|&(id, _)| id == told.firewall) else { continue };
            put(&mut leg.told_down, 1 << slot, told.verdict == Verdict::Down);
            put(&mut leg.told_drain, 1 << slot, told.admin == Admin::Drain);
            put(&mut leg.told_maint, 1 << slot, told.admin == Admin::Maint);
        }
    }

    /// The administrative state as commanded here, overrides included.
    pub fn set_admin(&mut self, firewall: FirewallId, admin: Admin) {
        if let Some(Some(firewall)) = self.firewalls.get_mut(firewall.index()) {
            firewall.admin = admin;
        }
    }

    /// Judges everything anew; says what changed.
    pub fn evaluate(&mut self, now: Instant) -> Vec<Change> {
        for leg in &mut self.legs {
            let group = &self.groups[leg.group.index()];
            let silent = silent_slots(group, &self.firewalls, leg.family);
            leg.advance(silent, group.grace, now);
        }
        self.evaluate_admin(now);
        let mut changes = Vec::new();
        self.evaluate_firewalls(now, &mut changes);
        self.evaluate_peers(now, &mut changes);
        self.evaluate_sets(&mut changes);
        changes
    }

    /// The sets, by [`PathSetId`].
    pub fn sets(&self) -> &[PathSet] {
        &self.sets
    }

    /// State of a firewall; `None` if it is not configured.
    pub fn firewall(&self, firewall: FirewallId) -> Option<Status<FirewallState>> {
        self.firewalls.get(firewall.index())?.as_ref().map(|firewall| firewall.status)
    }

    /// The administrative state that holds, wherever it was commanded.
    pub fn effective_admin(&self, firewall: FirewallId) -> Option<Admin> {
        self.firewalls.get(firewall.index())?.as_ref().map(|firewall| firewall.effective.0)
    }

    /// State of a peer; `None` if no path leads to it.
    pub fn peer(&self, peer: PeerId) -> Option<Status<PeerState>> {
        self.peers.get(peer.index()).copied().flatten()
    }

    /// What to tell a peer in probes of this family: this engine's own judgement and commands, in order of slots.
    pub fn advertise(&self, peer: PeerId, family: Family) -> impl Iterator<Item = Told> + '_ {
        let leg = self.legs.iter().find(move |leg| leg.peer == peer && leg.family == family);
        leg.into_iter().flat_map(move |leg| {
            let members = self.groups[leg.group.index()].members.iter().enumerate();
            members.filter(|(slot, _)| leg.exists & (1 << slot) != 0).filter_map(move |(slot, &(id, _))| {
                let firewall = self.firewalls[id.index()].as_ref()?;
                Some(Told { firewall: id, verdict: leg.judgement(1 << slot), admin: firewall.admin })
            })
        })
    }

    /// When [`Liveness::evaluate`] wants to be called though nothing new was learned.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let legs = self.legs.iter().flat_map(Leg::timeouts);
        let drains = self.firewalls.iter().flatten().filter(|firewall| !firewall.deadline_passed);
        legs.chain(drains.filter_map(|firewall| firewall.deadline)).min()
    }

    fn add_path(&mut self, path: PathKey, now: Instant) {
        let firewall = self.firewalls.get(path.firewall.index()).and_then(Option::as_ref);
        let Some((group, slot)) = firewall.map(|firewall| (firewall.group, firewall.slot)) else { return };
        let known = self.legs.iter().position(|leg| leg.peer == path.peer && leg.family == path.family);
        let leg = known.unwrap_or_else(|| {
            self.legs.push(Leg::new(group, path.peer, path.family));
            self.legs.len() - 1
        });
        self.legs[leg].exists |= 1 << slot;
        let status = Status { state: PeerState::Down, reason: Reason::Starting, since: now };
        slot_in(&mut self.peers, path.peer.index()).get_or_insert(status);
    }

    fn leg_of(&mut self, path: PathKey) -> Option<(&mut Leg, Slots)> {
        let slot = self.firewalls.get(path.firewall.index())?.as_ref()?.slot;
        let leg = self.legs.iter_mut().find(|leg| leg.peer == path.peer && leg.family == path.family)?;
        (leg.exists & (1 << slot) != 0).then_some((leg, 1 << slot))
    }

    /// What holds administratively: the strictest of what was commanded here and at the peers; and the drain deadlines.
    fn evaluate_admin(&mut self, now: Instant) {
        for firewall in self.firewalls.iter_mut().flatten() {
            let legs = self.legs.iter().filter(|leg| leg.group == firewall.group);
            let told = legs.map(|leg| (leg.told_admin(1 << firewall.slot), Some(leg.peer)));
            let effective = told.fold((firewall.admin, None), |strictest, told| {
                if severity(told.0) > severity(strictest.0) { told } else { strictest }
            });
            let timeout = self.groups[firewall.group.index()].drain_timeout;
            firewall.deadline = match (firewall.effective.0, effective.0) {
                (Admin::Drain, Admin::Drain) => firewall.deadline,
                (Admin::Ready | Admin::Maint, Admin::Drain) => timeout.map(|timeout| now + timeout),
                (Admin::Ready | Admin::Drain | Admin::Maint, Admin::Ready | Admin::Maint) => None,
            };
            firewall.effective = effective;
            firewall.deadline_passed = firewall.deadline.is_some_and(|deadline| deadline <= now);
        }
    }

    fn evaluate_firewalls(&mut self, now: Instant, changes: &mut Vec<Change>) {
        for (index, firewall) in self.firewalls.iter_mut().enumerate() {
            let Some(firewall) = firewall else { continue };
            let (state, reason) = firewall.judge(&self.legs);
            let from = firewall.status.state;
            if (from, firewall.status.reason) != (state, reason) {
                let since = if from == state { firewall.status.since } else { now };
                firewall.status = Status { state, reason, since };
                changes.push(Change::Firewall { firewall: FirewallId::from(index), from, to: state, reason });
            }
        }
    }

    fn evaluate_peers(&mut self, now: Instant, changes: &mut Vec<Change>) {
        for (index, status) in self.peers.iter_mut().enumerate() {
            let Some(status) = status else { continue };
            let peer = PeerId::from(index);
            let (state, reason) = judge_peer(self.legs.iter().filter(|leg| leg.peer == peer));
            let from = status.state;
            let since = if from == state { status.since } else { now };
            *status = Status { state, reason, since };
            if from != state {
                changes.push(Change::Peer { peer, from, to: state });
            }
        }
    }

    fn evaluate_sets(&mut self, changes: &mut Vec<Change>) {
        for (index, key) in self.set_keys.iter().enumerate() {
            let group = &self.groups[key.group.index()];
            let members = || group.members.iter().enumerate();
            let in_service = |wanted: &dyn Fn(&Firewall) -> bool| -> Slots {
                let firewalls =
                    members().filter_map(|(slot, &(id, _))| Some((slot, self.firewalls[id.index()].as_ref()?)));
                firewalls.filter(|(_, firewall)| wanted(firewall)).fold(0, |slots, (slot, _)| slots | 1 << slot)
            };
            let carries = in_service(&|firewall| firewall.effective.0 != Admin::Maint && !firewall.deadline_passed);
            let ready = in_service(&|firewall| firewall.effective.0 == Admin::Ready);

            let is_needed = |leg: &&Leg| {
                leg.group == key.group && leg.family == key.family && key.peer.is_none_or(|peer| leg.peer == peer)
            };
            let mut legs = self.legs.iter().filter(is_needed).peekable();
            let all = if legs.peek().is_some() { Slots::MAX } else { 0 };
            let (live, takes_new, undecided) = legs.fold((all, all, all), |(live, takes_new, undecided), leg| {
                let usable = leg.live & !leg.told_down;
                (live & usable, takes_new & leg.takes_new, undecided & (usable | leg.starting() & !leg.told_down))
            });

            let up = live & carries;
            let set = &mut self.sets[index];
            // Past its hold is better, but a member that was told to drain is no better than one in its hold.
            let (settled, held) = (up & takes_new & ready, up & ready);
            let (selectable, starting) = (if settled != 0 { settled } else { held }, undecided & !live & carries);
            let changed = (set.up, set.selectable, set.starting) != (up, selectable, starting);
            for slot in (0..group.members.len()).filter(|slot| set.up & !up & (1 << slot) != 0) {
                set.falls[slot] = set.falls[slot].wrapping_add(1);
            }
            (set.up, set.selectable, set.starting) = (up, selectable, starting);
            if changed {
                changes.push(Change::Set(PathSetId::from(index)));
            }
            let below = (up | starting).count_ones() < u32::from(group.min_up);
            if below != self.below_min[index] {
                self.below_min[index] = below;
                changes.push(Change::BelowMin { set: PathSetId::from(index), below });
            }
        }
    }
}

impl Leg {
    fn new(group: GroupId, peer: PeerId, family: Family) -> Self {
        Self {
            group,
            peer,
            family,
            exists: 0,
            up: 0,
            down: 0,
            failing: 0,
            past_hold: 0,
            live: 0,
            takes_new: 0,
            phase: Phase::Starting { until: None },
            heard: None,
            told_down: 0,
            told_drain: 0,
            told_maint: 0,
        }
    }

    /// Decides which verdicts hold. `silent` are the firewalls that do not answer ARP or ND.
    fn advance(&mut self, silent: Slots, grace: Duration, now: Instant) {
        let undecided = self.exists & !self.up & !self.down;
        self.phase = match self.phase {
            Phase::Starting { .. } if self.up == 0 => Phase::Starting { until: None },
            Phase::Starting { until: None } if undecided != 0 => Phase::Starting { until: Some(now + grace) },
            Phase::Starting { until: Some(until) } if undecided != 0 && now < until => self.phase,
            Phase::Starting { .. } => Phase::Heard,
            Phase::Heard | Phase::Lost | Phase::Back { .. } => self.phase,
        };
        if !matches!(self.phase, Phase::Starting { .. }) {
            self.live |= self.up;
        }
        let failed = self.live & self.down;
        let standing = self.live & self.up;
        let mut fallen = failed & silent;
        self.phase = match self.phase {
            Phase::Starting { .. } => self.phase,
            Phase::Heard if failed & !silent == 0 => Phase::Heard,
            Phase::Heard if standing == 0 => Phase::Lost,
            Phase::Heard if standing & !self.failing == 0 => Phase::Heard,
            Phase::Heard => {
                fallen = failed;
                Phase::Heard
            }
            Phase::Lost | Phase::Back { .. } if failed & !silent == 0 => Phase::Heard,
            Phase::Lost | Phase::Back { .. } if standing == 0 => Phase::Lost,
            Phase::Lost => Phase::Back { until: now + grace },
            Phase::Back { until } if now < until => Phase::Back { until },
            Phase::Back { .. } => {
                fallen = failed;
                Phase::Heard
            }
        };
        self.live &= !fallen;
        self.takes_new = (self.takes_new | self.past_hold) & self.live;
        let told_is_old = self.heard.is_some_and(|heard| heard + TOLD_LIFE <= now);
        if told_is_old && !self.is_lost() {
            self.heard = None;
            (self.told_down, self.told_drain, self.told_maint) = (0, 0, 0);
        }
    }

    /// No verdict yet, or it waits for the others of the start.
    fn starting(&self) -> Slots {
        let judged = match self.phase {
            Phase::Starting { .. } => self.down,
            Phase::Heard | Phase::Lost | Phase::Back { .. } => self.up | self.down,
        };
        self.exists & !judged & !self.live
    }

    /// The peer was heard and is not any more.
    fn is_lost(&self) -> bool {
        match self.phase {
            Phase::Starting { .. } | Phase::Heard => false,
            Phase::Lost | Phase::Back { .. } => true,
        }
    }

    fn judgement(&self, bit: Slots) -> Verdict {
        if self.live & bit != 0 {
            Verdict::Up
        } else if self.starting() & bit != 0 {
            Verdict::Starting
        } else {
            Verdict::Down
        }
    }

    fn trouble(&self, bit: Slots) -> Option<Reason> {
        match self.judgement(bit) {
            Verdict::Starting => Some(Reason::Starting),
            Verdict::Down => Some(Reason::Probes(self.peer, self.family)),
            Verdict::Up if self.told_down & bit != 0 => Some(Reason::Objection(self.peer, self.family)),
            Verdict::Up => None,
        }
    }

    fn told_admin(&self, bit: Slots) -> Admin {
        if self.told_maint & bit != 0 {
            Admin::Maint
        } else if self.told_drain & bit != 0 {
            Admin::Drain
        } else {
            Admin::Ready
        }
    }

    fn timeouts(&self) -> impl Iterator<Item = Instant> + use<> {
        let (expiry, grace) = match self.phase {
            Phase::Starting { until } => (self.heard.map(|heard| heard + TOLD_LIFE), until),
            Phase::Heard => (self.heard.map(|heard| heard + TOLD_LIFE), None),
            Phase::Lost => (None, None),
            Phase::Back { until } => (None, Some(until)),
        };
        expiry.into_iter().chain(grace)
    }
}

fn judge_peer<'a>(legs: impl Iterator<Item = &'a Leg> + Clone) -> (PeerState, Reason) {
    let first = |wanted: &dyn Fn(&Leg) -> bool| legs.clone().find(|leg| wanted(leg)).map(|leg| (leg.peer, leg.family));
    let lost = first(&Leg::is_lost);
    let up = first(&|leg| leg.live != 0);
    let down = first(&|leg| leg.down != 0);
    match (lost, up, down) {
        (Some((peer, family)), _, _) => (PeerState::Lost, Reason::Probes(peer, family)),
        (None, Some(_), _) => (PeerState::Up, Reason::Well),
        (None, None, Some((peer, family))) => (PeerState::Down, Reason::Probes(peer, family)),
        (None, None, None) => (PeerState::Down, Reason::Starting),
    }
}

fn silent_slots(group: &LivenessGroup, firewalls: &[Option<Firewall>], family: Family) -> Slots {
    let is_silent =
        |id: FirewallId| firewalls[id.index()].as_ref().is_some_and(|firewall| firewall.silent[family_index(family)]);
    let silent = group.members.iter().enumerate().filter(|(_, (id, _))| is_silent(*id));
    silent.fold(0, |slots, (slot, _)| slots | 1 << slot)
}

fn severity(admin: Admin) -> u8 {
    match admin {
        Admin::Ready => 0,
        Admin::Drain => 1,
        Admin::Maint => 2,
    }
}

fn family_index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

fn put(slots: &mut Slots, bit: Slots, value: bool) {
    if value { *slots |= bit } else { *slots &= !bit }
}

/// The entry at `index` of a list that grows as needed.
fn slot_in<T>(list: &mut Vec<Option<T>>, index: usize) -> &mut Option<T> {
    if list.len() <= index {
        list.resize_with(index + 1, || None);
    }
    &mut list[index]
}

#[cfg(test)]
mod tests;
