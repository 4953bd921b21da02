//! Which role follows from what is known now.

use super::peers::HeardRouter;
use super::{COULD_TAKE_OVER, Machine, Peer, WITNESS_LIFE};
use crate::ha::Role;
use crate::ha::claim::Claim;
use crate::ha::hello::Hello;
use crate::ha::out::{Out, Reason, WitnessReport};
use crate::ha::score::Fault;
use crate::ha::settings::{NodeId, NodeKind};
use crate::time::{Duration, Instant};

/// How long a fault must be over, unless it came back soon after the one before.
pub(super) const RECOVERY: Duration = Duration::from_secs(1);
/// How long a move that follows the score keeps the next one off.
const HOLD: Duration = Duration::from_secs(10);
/// The longest such time, while the role flaps, and the longest for which a fault that comes back must be over.
const HOLD_MAX: Duration = Duration::from_secs(160);
/// For how long a node waits for one with a better claim that does not take the role.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often another active node whose claim is worse is answered.
const REASSERT: Duration = Duration::from_secs(1);

impl Machine {
    /// Changes the role until it is the one that follows from what is known.
    pub(super) fn elect(&mut self, now: Instant, out: &mut Out) {
        // Each role leads to the next at most once.
        for _ in Role::ALL {
            let next = match self.role {
                Role::Fault => self.after_fault(now),
                Role::Listen => self.after_listen(now, out),
                Role::Standby => self.after_standby(now, out),
                Role::Active => self.after_active(now, out),
                Role::Leaving => self.after_leaving(now, out),
            };
            let Some((role, reason)) = next else { return };
            self.take_role(role, reason, now, out);
        }
    }

    fn after_fault(&mut self, now: Instant) -> Option<(Role, Reason)> {
        if !self.faults().is_empty() {
            self.fault_over = None;
            return None;
        }
        let over = *self.fault_over.get_or_insert(now);
        (now.since(over) >= self.recovery(now) && !self.stopping).then(|| {
            self.recovered = Some(now);
            self.listen_until = now + self.config.interval * 4;
            (Role::Listen, Reason::Recovered)
        })
    }

    /// The node is at fault. If it was not for long since the last time, it must be without faults for twice as long.
    pub(super) fn note_fault(&mut self, now: Instant) {
        self.recovery = match self.recovered {
            Some(recovered) if now.since(recovered) < HOLD_MAX => (self.recovery * 2).min(HOLD_MAX),
            Some(_) | None => RECOVERY,
        };
    }

    /// How long this node must be without faults before it can be active again. A node that flaps is better than none.
    pub(super) fn recovery(&self, now: Instant) -> Duration {
        if self.active_node(now).is_some() { self.recovery } else { RECOVERY }
    }

    fn after_listen(&mut self, now: Instant, out: &mut Out) -> Option<(Role, Reason)> {
        if let Some(fault) = self.faults().into_iter().next() {
            return Some((Role::Fault, Reason::Fault(fault)));
        }
        if let Some(node) = self.active_node(now) {
            return Some((Role::Standby, Reason::ActiveHeard(node)));
        }
        let is_better = |peer: &Peer| {
            let hello = peer.fresh(now).filter(|hello| hello.is_eligible);
            hello.is_some_and(|hello| peer.claim(hello, self.config.margin) > self.claim())
        };
        let is_over = now >= self.listen_until;
        let better = self.peers.iter().any(is_better) && now < self.listen_until + PATIENCE;
        if self.stopping || better {
            return None;
        }
        // Only at the start: after a standstill the first frames that are read are old ones.
        let is_start = self.history.is_empty() && !self.peers.is_empty();
        if is_start && self.peers.iter().all(|peer| peer.fresh(now).is_some()) {
            return Some((Role::Active, Reason::BestClaim));
        }
        let hears = self.legs.hears_outside(self.since);
        if !hears && now + self.config.interval * 2 >= self.listen_until {
            self.ask(now, out);
        }
        (is_over && hears).then_some((Role::Active, Reason::NobodyElse))
    }

    fn after_standby(&mut self, now: Instant, out: &mut Out) -> Option<(Role, Reason)> {
        if let Some(fault) = self.faults().into_iter().next() {
            return Some((Role::Fault, Reason::Fault(fault)));
        }
        if self.stopping {
            return None;
        }
        if let Some(node) = self.offered_by(now) {
            self.note_move(now);
            return Some((Role::Active, Reason::Handover(node)));
        }
        let since = self.since + self.config.start_delay;
        let (node, heard, missed, down) = match (self.silence(), self.router_down()) {
            (None, None) => (None, self.since, since, since),
            (Some((missed, down)), router) => {
                let (node, heard, _) = self.active.unwrap_or((self.config.me, self.since, self.config.interval));
                (Some(node), heard, missed, router.map_or(down, |(_, router)| down.max(router.down_at)))
            }
            (None, Some((node, router))) => {
                let late = router.heard + router.interval * 3 / 2;
                (Some(node), router.heard, late, router.down_at)
            }
        };
        if now >= missed {
            self.ask(now, out);
        }
        if now < down || self.is_seen_by_witness(heard, now) {
            return None;
        }
        // Who hears that the other one stops is not cut off, if that is the last that was heard.
        let stops = |(_, router): &(NodeId, &HeardRouter)| router.priority == 0 && router.heard >= heard;
        let stopped = self.router_down().filter(stops).map(|(node, _)| node);
        let asked = self.asked.map_or(now, |(first, _)| first);
        if stopped.is_none() && !self.legs.hears_outside(asked) {
            return None;
        }
        let reason = stopped.map_or(Reason::Silence(node, now.since(heard)), Reason::Stopped);
        Some((Role::Active, reason))
    }

    fn after_active(&mut self, now: Instant, out: &mut Out) -> Option<(Role, Reason)> {
        if let Some(node) = self.better_active(now) {
            self.active = Some((node, now, self.config.interval));
            return Some((Role::Standby, Reason::BetterClaim(node)));
        }
        self.reassert_to_losers(now, out);
        let faults = self.faults();
        if let Some(fault) = faults.first().cloned() {
            let Some(successor) = self.successor(now).filter(|node| !self.is_untaken(*node, now)) else {
                // Alone it stays: a node at fault is better than none. Without a link it serves nobody, and has to
                // listen before it sends again: another node may have become active.
                return faults.contains(&Fault::Links).then_some((Role::Fault, Reason::Fault(Fault::Links)));
            };
            self.leave(Reason::Fault(fault), Some(successor), None, now, out);
            return None;
        }
        self.judge_standbys(now);
        let (damping, hold) = (self.config.damping, self.last_move);
        let may_move = hold.is_none_or(|(last, hold)| now.since(last) >= hold);
        let better = self.best_of(now, |peer| peer.better_since.is_some_and(|since| now.since(since) >= damping));
        if let Some(node) = better.filter(|_| may_move) {
            self.note_move(now);
            self.leave(Reason::Score(node), Some(node), None, now, out);
            return None;
        }
        let preempt = self.config.preempt.filter(|_| may_move)?;
        let node = self.best_of(now, |peer| peer.preempts_since.is_some_and(|since| now.since(since) >= preempt))?;
        self.note_move(now);
        self.leave(Reason::Preempted(node), Some(node), None, now, out);
        None
    }

    /// Notes since when standby nodes are better, or could preempt.
    fn judge_standbys(&mut self, now: Instant) {
        let (points, margin, mine) = (self.points(), self.config.margin, self.config.my_node().priority);
        let lacking = &self.health.sync.lacking;
        for peer in &mut self.peers {
            let may_take = |hello: &&Hello| hello.is_ready && !lacking.contains(&peer.node) && !peer.is_untaken(now);
            let standby = peer.fresh_standby(now).filter(may_take);
            let is_better = standby.is_some_and(|hello| hello.deductions + margin <= points);
            let preempts = standby.is_some_and(|hello| hello.base > mine && hello.deductions < points + margin);
            peer.better_since = is_better.then(|| peer.better_since.unwrap_or(now));
            peer.preempts_since = preempts.then(|| peer.preempts_since.unwrap_or(now));
        }
    }

    /// The standby that gets the role when this node has to give it away: one that has not just failed to take it, one
    /// that has all copies, then the one with the fewest deductions in steps of the margin, then the one of the highest
    /// priority.
    pub(super) fn successor(&self, now: Instant) -> Option<NodeId> {
        self.best_of(now, |_| true)
    }

    /// The best successor of those that may be one. When it was active itself says nothing about a standby.
    fn best_of(&self, now: Instant, may_be: impl Fn(&Peer) -> bool) -> Option<NodeId> {
        let rank = |peer: &Peer| {
            let hello = peer.fresh_standby(now)?;
            let claim = Claim::new(peer.node, hello.deductions, self.config.margin, 0, hello.base);
            Some((!peer.is_untaken(now), self.has_all_copies(peer.node, hello), claim, peer.node))
        };
        self.peers.iter().filter(|peer| may_be(peer)).filter_map(rank).max().map(|(.., node)| node)
    }

    fn is_untaken(&self, node: NodeId, now: Instant) -> bool {
        self.peers.iter().any(|peer| peer.node == node && peer.is_untaken(now))
    }

    /// A move that follows the score keeps the next one off, for twice as long if it follows another one closely.
    pub(super) fn note_move(&mut self, now: Instant) {
        let hold = match self.last_move {
            Some((last, hold)) if now.since(last) < hold * 2 => (hold * 2).min(HOLD_MAX),
            Some(_) | None => HOLD,
        };
        self.last_move = Some((now, hold));
    }

    /// A node that is active, by its own words or by those of the far side.
    pub(super) fn active_node(&self, now: Instant) -> Option<NodeId> {
        let by_hello = self.peers.iter().find(|peer| peer.fresh_forwarding(now).is_some()).map(|peer| peer.node);
        let of_router = || self.router_down().filter(|(_, router)| now < router.down_at).map(|(node, _)| node);
        let by_witness = || {
            let is_alive = |report: WitnessReport| report.role.forwards() && now < report.heard + WITNESS_LIFE;
            self.peers.iter().find(|peer| peer.witness.is_some_and(is_alive)).map(|peer| peer.node)
        };
        by_hello.or_else(of_router).or_else(by_witness)
    }

    /// The active node that gives the role to this one.
    fn offered_by(&self, now: Instant) -> Option<NodeId> {
        let offers = |peer: &&Peer| {
            peer.fresh(now).is_some_and(|hello| {
                hello.role == Role::Leaving && hello.successor == Some(self.config.me) && hello.term >= self.term
            })
        };
        self.peers.iter().find(offers).map(|peer| peer.node)
    }

    /// Another active node with a better claim.
    fn better_active(&self, now: Instant) -> Option<NodeId> {
        let mine = self.claim();
        let wins = |peer: &Peer, hello: &Hello| peer.claim(hello, self.config.margin) > mine;
        let better = |peer: &&Peer| match peer.fresh(now) {
            Some(_) => peer.speaking_active(now).is_some_and(|hello| wins(peer, hello)),
            None => self.witnessed_claim(peer, now).is_some_and(|claim| claim > mine),
        };
        self.peers.iter().find(better).map(|peer| peer.node)
    }

    /// The claim of a node that only the far side hears as active. What the far side heard before this node itself
    /// became active counts for nothing: it may have been the end of the one before.
    pub(super) fn witnessed_claim(&self, peer: &Peer, now: Instant) -> Option<Claim> {
        let report = peer.witness.filter(|report| report.role == Role::Active)?;
        let counts = report.heard > self.since + self.config.interval * 2 && now < report.heard + WITNESS_LIFE;
        let deductions = u16::from(peer.priority.saturating_sub(report.priority));
        counts.then(|| Claim::new(peer.node, deductions, self.config.margin, report.term, peer.priority))
    }

    /// True if the far side heard the active node clearly after this one heard it last: after more than the interval in
    /// which a node that died may have been heard there alone.
    pub(super) fn is_seen_by_witness(&self, heard: Instant, now: Instant) -> bool {
        let later = |heard: Instant| heard + self.config.interval * 5 / 4;
        let sees = |peer: &Peer| {
            peer.witness.is_some_and(|report| {
                let after = later(peer.heard.map_or(heard, |own| own.max(heard)));
                report.role.forwards() && report.heard > after && now < report.heard + WITNESS_LIFE
            })
        };
        self.peers.iter().any(sees)
    }

    /// Announces to the neighbours, and to a losing active node, who the virtual router is.
    fn reassert_to_losers(&mut self, now: Instant, out: &mut Out) {
        if self.peers.iter().any(|peer| peer.speaking_active(now).is_some()) {
            self.reassert(now, out);
        } else if self.reasserted.is_some_and(|last| now.since(last) >= REASSERT) {
            self.reasserted = None;
        }
    }

    pub(super) fn reassert(&mut self, now: Instant, out: &mut Out) {
        if self.reasserted.is_some_and(|last| now.since(last) < REASSERT) {
            return;
        }
        self.reasserted = Some(now);
        self.announce_at.push(now + REASSERT);
        self.announce_at.sort_unstable();
        self.announce_at.dedup();
        out.announce = true;
        self.pace.hurry(now);
        self.speak(out, now);
    }

    fn ask(&mut self, now: Instant, out: &mut Out) {
        let (first, last) = self.asked.unwrap_or((now, Instant::ZERO));
        if self.asked.is_none() || now.since(last) >= self.config.interval {
            self.asked = Some((first, now));
            out.ask = true;
        }
    }

    /// True if no other engine could take the role, nor has it, nor could have within the last second. One that did not
    /// take it counts for nothing for a while, nor while it is offered it once more.
    pub(super) fn is_alone(&self, now: Instant) -> bool {
        let is_offered_again = |peer: &Peer| {
            let leaving = self.leaving.as_ref().filter(|leaving| leaving.successor == Some(peer.node));
            leaving.is_some() && peer.untaken.is_some()
        };
        let is_standby = |peer: &Peer| {
            if peer.is_untaken(now) || is_offered_again(peer) {
                return false;
            }
            let could = |hello: &Hello| hello.role == Role::Standby && hello.is_eligible || hello.role.forwards();
            peer.hello.as_ref().is_some_and(could) && peer.heard.is_some_and(|heard| now.since(heard) < COULD_TAKE_OVER)
        };
        let mut engines = self.peers.iter().filter(|peer| peer.kind == NodeKind::Fwlb).peekable();
        engines.peek().is_some() && !engines.any(is_standby)
    }
}
