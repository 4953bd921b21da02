//! Says in sentences who is active, why, and what would happen next.

use super::status::millis;
use super::{Machine, Peer};
use crate::ha::Role;
use crate::ha::claim::Claim;
use crate::ha::explained::{ExplainedHaView, ExplainedNodeView, Rule};
use crate::ha::hello::Hello;
use crate::ha::out::{Reason, RoleChange};
use crate::ha::score::Fault;
use crate::ha::settings::NodeKind;
use crate::time::{Duration, Instant};
use crate::wire::vrrp::active_down_interval;

/// A node that could take over.
struct Candidate<'a> {
    name: &'a str,
    claim: Claim,
    priority: u8,
    is_ready: bool,
}

/// What a node brings along when it is compared with the active one.
#[derive(Clone, Copy)]
struct Standing {
    deductions: u16,
    base: u8,
}

impl Machine {
    /// `explain ha`.
    pub fn explain(&self, now: Instant) -> ExplainedHaView {
        let view = self.status(now);
        let active = self.active_name(now);
        let nodes: Vec<_> = std::iter::once(self.explain_self(now))
            .chain(self.peers.iter().map(|peer| self.explain_peer(peer, now)))
            .collect();
        let next = self.next(now);
        let mut story = self.who(active, now);
        for one in &view.deductions {
            let of = format!("{} {}: {}", one.kind, one.subject, one.detail);
            story.push(format!("{} points are taken from its priority {} for {of}.", one.points, view.base));
        }
        if view.deductions.is_empty() {
            story.push(format!("Nothing is taken from its priority {}.", view.base));
        }
        story.extend(nodes.iter().map(|node| node.why.clone()));
        story.push(self.if_it_died(active, next.as_ref()));
        ExplainedHaView {
            engine: view.engine,
            role: view.role,
            active: active.map(str::to_owned),
            rule: self.rule().into(),
            story,
            deductions: view.deductions,
            moved: self.decided().map(|(at, change)| self.role_change_view(*at, change, now)),
            nodes,
            next: next.map(|next| next.name.to_owned()),
        }
    }

    fn active_name(&self, now: Instant) -> Option<&str> {
        if self.role.forwards() {
            return Some(&self.config.my_node().name);
        }
        let node = self.active_node(now)?;
        self.config.nodes.get(node.index()).map(|node| node.name.as_str())
    }

    /// The change by which this node has its role. A role that nobody took is had since before it was offered.
    fn decided(&self) -> Option<&(Instant, RoleChange)> {
        let is_return = |change: &RoleChange| change.reason == Reason::NotTaken;
        let of_role = |entry: &&(Instant, RoleChange)| entry.1.to == self.role && !is_return(&entry.1);
        self.history.iter().rev().find(of_role).or_else(|| self.history.back())
    }

    /// The rule by which this node has its role. Of a role that it gave away that is why it left.
    fn rule(&self) -> Rule {
        let Some((_, change)) = self.decided() else { return Rule::Start };
        let left = || self.history.iter().rev().find(|(_, change)| change.to == Role::Leaving);
        match &change.reason {
            Reason::Taken(_) => left().map_or(Rule::Handover, |(_, change)| rule_of(&change.reason)),
            reason => rule_of(reason),
        }
    }

    /// Who is active, since when and by what change.
    fn who(&self, active: Option<&str>, now: Instant) -> Vec<String> {
        let me = self.config.my_node().name.as_str();
        let who = match active {
            Some(name) if name == me => format!("{me}, this node, is {}, in term {}.", self.role, self.term),
            Some(name) => format!("{name} is active, in term {}; this node, {me}, is {}.", self.term, self.role),
            None => format!("No node is known to be active; this one, {me}, is {}.", self.role),
        };
        let mut story = vec![who];
        let ago = |at: Instant| for_how_long(now.since(at));
        match self.decided() {
            None => story.push(format!("It started {} ago, and nothing has moved since.", ago(self.started))),
            Some((at, change)) => {
                let by = change.by.as_ref().and_then(|by| by.operator.as_ref());
                let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
                let words = self.change_words(change);
                story.push(format!("It has been {} for {}{by}: {words}.", change.to, ago(*at)));
                let left = self.history.iter().rev().find(|(_, change)| change.to == Role::Leaving);
                if let (Reason::Taken(_), Some((_, left))) = (&change.reason, left) {
                    story.push(format!("It gave the role away because of this: {}.", self.change_words(left)));
                }
            }
        }
        story
    }

    fn explain_self(&self, now: Instant) -> ExplainedNodeView {
        let name = &self.config.my_node().name;
        let fault = self.faults().into_iter().next();
        let active = || self.active_node(now).and_then(|node| self.peers.iter().find(|peer| peer.node == node));
        let (rule, why) = match (self.role, fault) {
            (Role::Active | Role::Leaving, Some(fault)) => {
                (self.rule(), format!("{name} may not be active, as {fault}, and is until another node has the role."))
            }
            (Role::Active | Role::Leaving, None) => (self.rule(), format!("{name} may be active.")),
            (Role::Fault | Role::Listen | Role::Standby, Some(fault)) => {
                (rule_of(&Reason::Fault(fault.clone())), format!("{name} takes no role, as {fault}."))
            }
            (Role::Fault, None) => {
                (Rule::Fault, format!("{name} takes no role, as its fault was over too short a time ago."))
            }
            (Role::Listen, None) => (Rule::Listen, format!("{name} listens whether another node is active.")),
            (Role::Standby, None) if !self.health.sync.is_ready => (Rule::Copies, lacks_copies(name)),
            (Role::Standby, None) => match active() {
                None => (Rule::Silence, format!("{name} waits until the active node has been silent for long enough.")),
                Some(active) => {
                    let hello = active.fresh(now);
                    let theirs = Standing {
                        deductions: hello.map_or(0, |hello| hello.deductions),
                        base: hello.map_or(active.priority, |hello| hello.base),
                    };
                    self.compare(name, self.standing(), &active.name, theirs, None)
                }
            },
        };
        let could_take_over = self.role == Role::Standby && self.is_eligible();
        ExplainedNodeView { name: name.clone(), role: Some(self.role.into()), could_take_over, rule: rule.into(), why }
    }

    fn explain_peer(&self, peer: &Peer, now: Instant) -> ExplainedNodeView {
        let name = &peer.name;
        let fresh = peer.fresh(now);
        let by_router = Self::hears_router(peer, now).then_some(Role::Active);
        let (rule, why) = match fresh {
            None if by_router.is_some() => (Rule::Active, format!("{name} advertises that it is the active router.")),
            None if peer.kind == NodeKind::Vrrp => {
                let why = "is a router that speaks while it is active only: whether it could take over is not known";
                (Rule::Unheard, format!("{name} {why}."))
            }
            None => {
                let ago = peer.heard.map(|heard| format!(", since {}", for_how_long(now.since(heard))));
                (Rule::Unheard, format!("{name} is heard on no path{}.", ago.unwrap_or_default()))
            }
            Some(hello) => match hello.role {
                Role::Active if self.role == Role::Active => (Rule::Claim, self.two_active(peer, hello)),
                Role::Active => (Rule::Active, format!("{name} says that it is active.")),
                Role::Leaving => (Rule::Handover, format!("{name} gives the role away.")),
                _ if hello.is_in_maintenance => {
                    (Rule::Maintenance, format!("{name} is in maintenance until `fwlb ha ready` is said there."))
                }
                Role::Fault => {
                    (Rule::Fault, format!("{name} is at fault; `fwlb explain ha` there says what is wrong."))
                }
                Role::Listen => {
                    (Rule::Listen, format!("{name} listens: it has just started, stood still, or was at fault."))
                }
                Role::Standby if !hello.is_eligible => {
                    (Rule::Stop, format!("{name} stops, or is about to be at fault."))
                }
                Role::Standby if peer.is_untaken(now) => {
                    let ago = peer.untaken.map(|untaken| for_how_long(now.since(untaken))).unwrap_or_default();
                    (
                        Rule::Untaken,
                        format!("{name} was given the role {ago} ago and did not take it: does it hear this node?"),
                    )
                }
                Role::Standby if !hello.is_ready => (Rule::Copies, lacks_copies(name)),
                Role::Standby => {
                    let theirs = Standing { deductions: hello.deductions, base: hello.base };
                    match self.role.forwards() {
                        true => {
                            self.compare(name, theirs, &self.config.my_node().name, self.standing(), Some((peer, now)))
                        }
                        false => (Rule::Active, format!("{name} is a standby, and ready.")),
                    }
                }
            },
        };
        ExplainedNodeView {
            name: name.clone(),
            role: fresh.map(|hello| hello.role).or(by_router).map(Into::into),
            could_take_over: peer.fresh_standby(now).is_some(),
            rule: rule.into(),
            why,
        }
    }

    /// Which of two active nodes stays, and by what.
    fn two_active(&self, peer: &Peer, hello: &Hello) -> String {
        let me = &self.config.my_node().name;
        let wins = if peer.claim(hello, self.config.margin) > self.claim() { &peer.name } else { me };
        format!(
            "{} says that it is active too: {wins} stays, as the fewer deductions win, in steps of {}, then the later term, then \
             the higher priority; it has {} points, term {} and priority {}, {me} has {}, {} and {}.",
            peer.name,
            self.config.margin,
            hello.deductions,
            hello.last_active,
            hello.base,
            self.points(),
            self.last_active,
            self.config.my_node().priority
        )
    }

    fn standing(&self) -> Standing {
        Standing { deductions: self.points(), base: self.config.my_node().priority }
    }

    /// Why a ready standby does not get the role of the active node. What keeps a move off is known there alone.
    fn compare(
        &self,
        name: &str,
        its: Standing,
        active: &str,
        theirs: Standing,
        here: Option<(&Peer, Instant)>,
    ) -> (Rule, String) {
        let margin = self.config.margin;
        let points = format!("{} points of deductions against {} of {active}", its.deductions, theirs.deductions);
        if its.deductions + margin <= theirs.deductions {
            let held = here.and_then(|(_, now)| {
                let (last, hold) = self.last_move?;
                Some((hold.saturating_sub(now.since(last)), now.since(last))).filter(|(left, _)| !left.is_zero())
            });
            return (
                Rule::Hold,
                match held {
                    Some((left, since)) => format!(
                        "{name} is ready and better off, {points}, but the role moved {} ago, which keeps it for {} more.",
                        for_how_long(since),
                        for_how_long(left)
                    ),
                    None => format!(
                        "{name} is ready and better off, {points}, and gets the role when it has been so for {}.",
                        for_how_long(self.config.damping)
                    ),
                },
            );
        }
        if its.base > theirs.base && its.deductions < theirs.deductions + margin {
            let priorities =
                format!("{name} is ready and has the higher priority, {} against {}", its.base, theirs.base);
            return (
                Rule::Priority,
                match self.config.preempt {
                    None => format!("{priorities}, which decides at a start only, as `preempt` is \"never\"."),
                    Some(after) => {
                        format!("{priorities}, and gets the role after {} (`preempt`).", for_how_long(after))
                    }
                },
            );
        }
        let needs = format!("it gets the role once it has {margin} fewer (`margin`)");
        (Rule::Score, format!("{name} is ready, and stays standby with {points}: {needs}."))
    }

    /// The node that would take over if the active one fell silent.
    fn next(&self, now: Instant) -> Option<Candidate<'_>> {
        let me = self.config.my_node();
        let own = (self.role == Role::Standby && self.is_eligible()).then(|| Candidate {
            name: &me.name,
            claim: self.claim(),
            priority: self.priority(),
            is_ready: self.health.sync.is_ready,
        });
        let others = self.peers.iter().filter_map(|peer| {
            let hello = peer.fresh_standby(now)?;
            let claim = peer.claim(hello, self.config.margin);
            let is_ready = self.has_all_copies(peer.node, hello);
            Some(Candidate { name: &peer.name, claim, priority: hello.priority, is_ready })
        });
        own.into_iter().chain(others).max_by_key(|candidate| candidate.claim)
    }

    fn if_it_died(&self, active: Option<&str>, next: Option<&Candidate<'_>>) -> String {
        let Some(active) = active else {
            return "Whoever may be active takes the role when it has heard nobody for long enough.".to_owned();
        };
        let has_routers = self.peers.iter().any(|peer| peer.kind == NodeKind::Vrrp && peer.name != active);
        let Some(next) = next else {
            return match has_routers {
                true => format!("If {active} died now, only a router of VRRP alone could take over, if it runs."),
                false => format!("If {active} died now, nobody could take over, and the traffic would stop."),
            };
        };
        let interval = match self.role.forwards() {
            true => self.pace.promised(),
            false => self.active.map_or(self.config.interval, |(_, _, interval)| interval),
        };
        let copies = match next.is_ready {
            true => "with copies of the sessions that need them",
            false => "without all copies of sessions: those that it lacks would break",
        };
        format!(
            "If {active} died now, {} would take over about {} ms after the last hello, if a neighbour answers it, {copies}.",
            next.name,
            active_down_interval(next.priority, interval).as_millis()
        )
    }
}

fn lacks_copies(name: &str) -> String {
    format!("{name} lacks copies of sessions: it takes over from a node that dies, and gets the role in no other way.")
}

fn rule_of(reason: &Reason) -> Rule {
    match reason {
        Reason::Start | Reason::BestClaim | Reason::NobodyElse => Rule::Start,
        Reason::Recovered => Rule::Listen,
        Reason::ActiveHeard(_) => Rule::Active,
        Reason::Silence(..) | Reason::StoodStill(_) => Rule::Silence,
        Reason::Stopped(_) | Reason::Stop => Rule::Stop,
        Reason::Handover(_) | Reason::Taken(_) => Rule::Handover,
        Reason::NotTaken => Rule::Untaken,
        Reason::BetterClaim(_) => Rule::Claim,
        Reason::Score(_) => Rule::Score,
        Reason::Preempted(_) => Rule::Priority,
        Reason::Order => Rule::Order,
        Reason::Fault(Fault::Maint) => Rule::Maintenance,
        Reason::Fault(Fault::Worker | Fault::Control | Fault::Links) => Rule::Fault,
    }
}

/// A time for people: in milliseconds below a second, else in the largest unit of which there are two.
fn for_how_long(time: Duration) -> String {
    let ms = millis(time);
    let units = [(86_400_000, "days"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    match units.into_iter().find(|(unit, _)| ms >= unit * 2) {
        Some((unit, name)) => format!("{} {name}", ms / unit),
        None => format!("{ms} ms"),
    }
}
