//! The role of this node: one machine for all links together.
//!
//! ```text
//!            fault over             an active is heard
//!   ┌─────┐ ───────────> ┌──────┐ ──────────────────> ┌───────┐
//!   │fault│              │listen│                     │standby│ <──────────────┐
//!   └─────┘ <─────────── └──────┘ ──┐                 └───────┘                │ taken,
//!                fault      ^       │ nobody active       │ silence, handover  │ better claim
//!                           │       └──────────────> ┌────v───┐ ───────────────┤
//!                           └─────────────────────── │ active │ ──> leaving ───┘
//!                              it stood still        └────────┘
//! ```
//!
//! Nodes of this program believe sealed hellos only. Advertisements count for nodes of kind `vrrp`, and for nodes whose
//! hellos were never opened, for want of the same key.

mod alarms;
mod election;
mod explain;
mod leaving;
mod pace;
mod peers;
mod reload;
mod speak;
mod status;
#[cfg(test)]
pub(in crate::ha) mod testing;
mod vrrp;

use std::collections::{BTreeMap, VecDeque};

use crate::ha::Role;
use crate::ha::alarm::Alarm;
use crate::ha::claim::Claim;
use crate::ha::hello::Hello;
use crate::ha::legs::Legs;
use crate::ha::out::{
    Forwarding, Order, OrderRefused, OrderedBy, Out, Path, Reason, RoleChange, RoleWord, WitnessReport,
};
use crate::ha::score::{self, Deduction, Fault, Health};
use crate::ha::settings::{HaConfig, Lease, LegId, NodeId, NodeKind};
use crate::time::{Duration, Instant};
use crate::wire::Family;
use crate::wire::vrrp::{ChecksumForm, active_down_interval};

use leaving::Leaving;
use pace::Pace;
use peers::Peer;
pub use vrrp::Advertised;

/// A standby that was heard within this time could take over, so that the lease applies.
const COULD_TAKE_OVER: Duration = Duration::from_secs(1);
/// How often neighbours are announced again after a takeover.
const ANNOUNCE_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// The number of changes of role that are remembered.
const HISTORY: usize = 20;
/// How long the far side is believed about an active node, which it hears several times in this time.
const WITNESS_LIFE: Duration = Duration::from_millis(300);

/// See the module.
#[derive(Debug, Clone)]
pub struct Machine {
    config: HaConfig,
    started: Instant,
    /// The number of hellos that it has said.
    round: u64,
    role: Role,
    /// Since when it has this role.
    since: Instant,
    /// The highest term that it knows of.
    term: u32,
    /// The term in which it was last active.
    last_active: u32,
    peers: Vec<Peer>,
    legs: Legs,
    health: Health,
    maintenance: Option<OrderedBy>,
    deductions: Vec<Deduction>,
    pace: Pace,
    /// When everything was judged last.
    settled: Instant,
    /// When listening ends.
    listen_until: Instant,
    /// Since when no fault stands.
    fault_over: Option<Instant>,
    /// When the last fault ended, and for how long the one of now must be over: longer if they come soon after another.
    recovered: Option<Instant>,
    recovery: Duration,
    /// The active node that was heard last, when, and its interval.
    active: Option<(NodeId, Instant, Duration)>,
    /// When the neighbours were asked because the active node was silent, and when last.
    asked: Option<(Instant, Instant)>,
    leaving: Option<Leaving>,
    stopping: bool,
    announce_at: Vec<Instant>,
    /// The last move that followed the score, and how long the next one has to wait.
    last_move: Option<(Instant, Duration)>,
    /// When this node last answered another active one whose claim is worse.
    reasserted: Option<Instant>,
    /// A stranger that uses a VRID of this cluster: the link, its address, and when.
    stranger: Option<(LegId, std::net::IpAddr, Instant)>,
    checksums: BTreeMap<(LegId, Family), ChecksumForm>,
    alarms: BTreeMap<Alarm, (String, Instant)>,
    /// What is wrong and not an alarm yet, and since when.
    suspected: BTreeMap<Alarm, Instant>,
    history: VecDeque<(Instant, RoleChange)>,
    /// The number of changes of role.
    transitions: u64,
}

impl Machine {
    /// A node that has just started and listens. Its first round is due at once.
    pub fn new(config: HaConfig, now: Instant) -> Self {
        let peers = config.others().map(|(node, config)| Peer::new(node, config)).collect();
        let legs = Legs::new(&config, now);
        let listen_until = now + config.start_delay;
        Self {
            started: now,
            round: 0,
            role: Role::Listen,
            since: now,
            term: 0,
            last_active: 0,
            peers,
            legs,
            health: Health::default(),
            maintenance: None,
            deductions: Vec::new(),
            pace: Pace::new(config.interval, now),
            settled: now,
            listen_until,
            fault_over: None,
            recovered: None,
            recovery: election::RECOVERY,
            active: None,
            asked: None,
            leaving: None,
            stopping: false,
            announce_at: Vec::new(),
            last_move: None,
            reasserted: None,
            stranger: None,
            checksums: BTreeMap::new(),
            alarms: BTreeMap::new(),
            suspected: BTreeMap::new(),
            history: VecDeque::new(),
            transitions: 0,
            config,
        }
    }

    /// The configuration.
    pub fn config(&self) -> &HaConfig {
        &self.config
    }

    /// Takes a hello that was opened, from the path on which it came.
    pub fn handle_hello(&mut self, path: Path, node: NodeId, hello: Hello, now: Instant) -> Out {
        let mut out = self.awake(now);
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.node == node && peer.kind == NodeKind::Fwlb) else {
            return out;
        };
        let (role, term, interval) = (hello.role, hello.term, hello.interval);
        let is_news = peer.hear(path, hello, now);
        if let Path::Leg(leg) = path {
            self.legs.hear_node(leg, node, now);
        }
        if is_news {
            self.term = self.term.max(term);
            if role.forwards() {
                self.active = Some((node, now, interval));
                self.asked = None;
            }
        }
        self.settle_if(is_news, now, &mut out);
        out
    }

    /// A frame of a station outside the cluster arrived on a leg. It need not be called for every frame: once for each
    /// interval is enough, and for each answer after [`Out::ask`].
    pub fn handle_station(&mut self, leg: LegId, now: Instant) -> Out {
        let mut out = self.awake(now);
        self.legs.hear_station(leg, now);
        // A dead link that hears somebody again has until the next round; a node that waits for this answer has not.
        self.settle_if(self.asked.is_some(), now, &mut out);
        out
    }

    /// Takes what a far engine says about a node of this cluster.
    pub fn handle_witness(&mut self, report: WitnessReport, now: Instant) -> Out {
        let mut out = self.awake(now);
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.node == report.node)
            && peer.witness.is_none_or(|known| known.heard <= report.heard)
        {
            peer.witness = Some(report);
            self.term = self.term.max(report.term);
        }
        self.settle(now, &mut out);
        out
    }

    /// Takes what the engine sees of itself.
    pub fn handle_health(&mut self, health: Health, now: Instant) -> Out {
        let mut out = self.awake(now);
        for leg in 0..self.config.legs.len() {
            let leg = LegId(leg as u16);
            self.legs.set_carrier(leg, score::has_carrier(&health, leg), now);
        }
        self.health = health;
        self.settle(now, &mut out);
        out
    }

    /// Takes an order.
    pub fn handle_order(&mut self, order: Order, now: Instant) -> Result<Out, OrderRefused> {
        let mut out = self.awake(now);
        match order {
            Order::Failover { to, force, by } => self.order_failover(to, force, by, now, &mut out)?,
            Order::Maint { by } => self.maintenance = Some(by),
            // Whoever orders it has seen to the faults.
            Order::Ready => (self.maintenance, self.recovered, self.recovery) = (None, None, election::RECOVERY),
            Order::Stop => {
                self.stopping = true;
                if self.role == Role::Active {
                    self.leave(Reason::Stop, self.successor(now), None, now, &mut out);
                }
            }
        }
        self.settle(now, &mut out);
        Ok(out)
    }

    /// Does what is due. Frames that wait to be read are handled before it.
    pub fn handle_timeout(&mut self, now: Instant) -> Out {
        let mut out = self.awake(now);
        if now >= self.pace.due {
            self.pace.begin_round(now);
            self.settle(now, &mut out);
            self.speak(&mut out, now);
        } else {
            self.settle(now, &mut out);
        }
        let due = self.announce_at.iter().any(|at| *at <= now);
        self.announce_at.retain(|at| *at > now);
        out.announce |= due && self.role == Role::Active;
        if self.legs.wants_asking(now) && out.hello.is_some() {
            out.ask = true;
        }
        out
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Instant {
        let mut timers = Vec::new();
        match self.role {
            Role::Fault => timers.extend(self.fault_over.map(|over| over + self.recovery(self.settled))),
            Role::Listen => timers.push(self.listen_until),
            Role::Standby => {
                timers.extend(self.silence().map(|(missed, down)| [missed, down]).into_iter().flatten());
                timers.extend(self.router_down().map(|(_, router)| router.down_at));
            }
            Role::Active => timers.extend(&self.announce_at),
            Role::Leaving => timers.extend(self.leaving.as_ref().map(|leaving| leaving.deadline)),
        }
        // What was due before and had no effect is looked at in the next round.
        timers.into_iter().filter(|at| *at > self.settled).fold(self.pace.due, Instant::min)
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The highest term that this node knows of.
    pub fn term(&self) -> u32 {
        self.term
    }

    /// What packet workers may do.
    pub fn role_word(&self) -> RoleWord {
        let (forwarding, until) = match self.role {
            Role::Fault | Role::Listen | Role::Standby => (Forwarding::Silent, Instant::ZERO),
            // The other node may have the virtual MAC address at any moment: a frame from it would turn the switches back.
            Role::Leaving => (Forwarding::Lingering, self.lease()),
            Role::Active => (Forwarding::Router, self.lease()),
        };
        RoleWord { role: self.role, forwarding, until }
    }

    /// True once the program may end after [`Order::Stop`].
    pub fn may_end(&self) -> bool {
        self.stopping && !self.role.forwards()
    }

    /// The form of checksum that the routers of a leg use, for advertisements over IPv4.
    pub fn checksum_form(&self, leg: LegId, family: Family) -> ChecksumForm {
        self.checksums.get(&(leg, family)).copied().unwrap_or_default()
    }

    /// The deductions from the priority.
    pub fn deductions(&self) -> &[Deduction] {
        &self.deductions
    }

    /// The priority that is advertised, 1..=254. That of an active node at fault is 1, so that any other router that may
    /// preempt takes the role (RFC 9568 section 6.4.2); while none does, this node keeps it.
    pub fn priority(&self) -> u8 {
        match self.role == Role::Active && !self.faults().is_empty() {
            true => 1,
            false => score::priority(self.config.my_node().priority, self.points()),
        }
    }

    fn points(&self) -> u16 {
        score::total(&self.deductions)
    }

    /// Excuses the silence of others while this node itself did not run, and gives up the role after a standstill in
    /// which another node could have taken it.
    fn awake(&mut self, now: Instant) -> Out {
        let mut out = Out::default();
        let late = self.pace.lateness(now);
        if let Some(still) = self.stood_still(now) {
            self.leaving = None;
            self.listen_until = now + self.config.interval * 4;
            self.take_role(Role::Listen, Reason::StoodStill(still), now, &mut out);
            // What was heard before says nothing about who is active now.
            self.peers.iter_mut().for_each(Peer::forget);
        }
        if late > self.pace.interval() / 2 {
            self.legs.excuse(late, now);
            self.peers.iter_mut().for_each(|peer| peer.excuse(late, now));
            if let Some((_, heard, _)) = &mut self.active {
                *heard = (*heard + late).min(now);
            }
            self.pace.excuse(now);
        }
        out
    }

    /// How long this node did not speak, if it was active and that is longer than its lease, or than a second where no
    /// lease applied.
    fn stood_still(&self, now: Instant) -> Option<Duration> {
        let end = match self.has_lease() {
            true => self.pace.lease_end(),
            false => self.pace.spoke + COULD_TAKE_OVER.max(self.pace.promised() * 4),
        };
        (self.role.forwards() && now >= end).then(|| now.since(self.pace.spoke))
    }

    fn lease(&self) -> Instant {
        if self.has_lease() { self.pace.lease_end() } else { Instant::from_nanos(u64::MAX) }
    }

    /// True if another node could take over, judged by when this node spoke last.
    fn has_lease(&self) -> bool {
        let could = |peer: &Peer| {
            let is_standby = peer.hello.as_ref().is_some_and(|hello| hello.role == Role::Standby && hello.is_eligible);
            is_standby && peer.heard.is_some_and(|heard| self.pace.spoke.since(heard) < COULD_TAKE_OVER)
        };
        match self.config.lease {
            Lease::Always => true,
            Lease::Auto => self.peers.iter().any(could),
        }
    }

    /// The faults that stand.
    fn faults(&self) -> Vec<Fault> {
        let mut faults = self.health.faults.clone();
        faults.extend(score::all_links_down(&self.config, &self.health).then_some(Fault::Links));
        faults.extend(self.maintenance.as_ref().map(|_| Fault::Maint));
        faults
    }

    /// True if this node could be active.
    fn is_eligible(&self) -> bool {
        !self.stopping && self.faults().is_empty()
    }

    fn claim(&self) -> Claim {
        let base = self.config.my_node().priority;
        Claim::new(self.config.me, self.points(), self.config.margin, self.last_active, base)
    }

    fn judge_legs(&mut self, now: Instant) {
        let others_live = self.peers.iter().any(|peer| peer.fresh(now).is_some());
        let dead = |leg| self.legs.is_dead(leg, others_live, now);
        self.deductions = score::deductions(&self.config, &self.health, dead);
    }

    /// Judges everything again.
    fn settle(&mut self, now: Instant, out: &mut Out) {
        self.settled = now;
        self.judge_legs(now);
        self.elect(now, out);
        if out.role.is_some() {
            self.pace.hurry(now);
            self.speak(out, now);
        }
        self.judge_alarms(now, out);
    }

    /// Judges everything again after a frame, if the frame may change what follows, or the time before it did: copies
    /// and forged frames may come in any number.
    fn settle_if(&mut self, is_news: bool, now: Instant, out: &mut Out) {
        if is_news || out.role.is_some() {
            self.settle(now, out);
        }
    }

    fn take_role(&mut self, to: Role, reason: Reason, now: Instant, out: &mut Out) {
        // Two changes in one call are reported as one, from the first role to the last.
        let first = out.role.take().map(|change| (change.from, change.lasted));
        let (from, lasted) = first.unwrap_or((self.role, now.since(self.since)));
        if to == Role::Active {
            let takes_over = self.role != Role::Leaving;
            if takes_over {
                self.term = self.term.saturating_add(1);
                self.last_active = self.term;
            }
            out.announce = true;
            self.announce_at = ANNOUNCE_AGAIN.map(|after| now + after).to_vec();
        }
        let by = self.leaving.as_ref().and_then(|leaving| leaving.by.clone()).or_else(|| match reason {
            Reason::Fault(Fault::Maint) => self.maintenance.clone(),
            _ => None,
        });
        let change = RoleChange { from, to, reason, term: self.term, lasted, by };
        self.history.push_back((now, change.clone()));
        self.transitions += 1;
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        if to == Role::Fault {
            self.note_fault(now);
        }
        if !to.forwards() {
            self.announce_at.clear();
        }
        out.role = (from != to).then_some(change);
        (self.role, self.since) = (to, now);
        (self.asked, self.reasserted, self.fault_over) = (None, None, None);
        for peer in &mut self.peers {
            (peer.better_since, peer.preempts_since) = (None, None);
        }
    }

    /// When the first hello of the active node is missed, and when it counts as silent; `None` if none was heard. Among
    /// several standby nodes the one with the best claim is first.
    fn silence(&self) -> Option<(Instant, Instant)> {
        let (_, heard, interval) = self.active?;
        let is_before_me = |peer: &&Peer| {
            peer.fresh_standby(self.pace.spoke)
                .is_some_and(|hello| peer.claim(hello, self.config.margin) > self.claim())
        };
        let rank = self.peers.iter().filter(is_before_me).count() as u32;
        let down = heard + active_down_interval(self.priority(), interval) + interval * rank;
        Some((heard + interval * 3 / 2, down))
    }
}

#[cfg(test)]
mod tests;
