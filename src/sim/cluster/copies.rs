//! What must be true of the copies of sessions at the nodes of a side. It is judged from the tables of the nodes, as they
//! are every few milliseconds, and from what the nodes say was acknowledged.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::session::{ConversationState, TcpState};
use crate::sim::packet::Tuple;
use crate::sim::sim_engine::HeldSession;
use crate::time::{Duration, Instant};

/// The time between two looks at the tables.
pub(super) const EVERY: Duration = Duration::from_millis(20);
/// Two passes, which come every second with the timeouts of the model, and the time in which copies expire.
const TWO_PASSES: Duration = Duration::from_millis(2500);
/// How much longer than the session a copy may live: for so long a stream keeps what nobody takes, and ages are those
/// of the time when they were told.
const LATE: Duration = Duration::from_secs(6);
/// What changes in this time may not have been told when the next look finds everything acknowledged.
const UNTOLD: Duration = Duration::from_millis(20);
/// A node that stood still works off what waited, for so long.
const AWAKE: Duration = Duration::from_millis(500);

/// A node as one look finds it.
#[derive(Debug, Clone, Default)]
pub struct NodeTable {
    /// Whether it runs.
    pub is_alive: bool,
    /// Whether it may forward.
    pub is_router: bool,
    /// Whether its table has no more room, or something that it was told was refused.
    pub refuses: bool,
    /// Its sessions.
    pub sessions: Vec<HeldSession>,
    /// The other nodes at which everything has arrived that this one told.
    pub told: Vec<usize>,
}

/// The checkers of one side.
#[derive(Debug)]
pub struct CopyChecks {
    paused_until: Vec<Instant>,
    /// The last look at each node while it was alive.
    last: Vec<NodeTable>,
    /// By teller and listener: what was needed at a time, and is told as soon as a later look says so.
    telling: BTreeMap<(usize, usize), (Instant, Vec<HeldSession>)>,
    /// By teller and listener: what the listener has acknowledged.
    acknowledged: BTreeMap<(usize, usize), Vec<HeldSession>>,
    /// When each flow was last a session of a router.
    alive_at: BTreeMap<Tuple, Instant>,
    /// Differences between the router and another node, and since when they are there.
    differences: BTreeMap<(usize, Tuple), Instant>,
}

impl CopyChecks {
    /// Nothing has been seen of so many nodes.
    pub fn new(count: usize) -> Self {
        Self {
            paused_until: vec![Instant::ZERO; count],
            last: vec![NodeTable::default(); count],
            telling: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            alive_at: BTreeMap::new(),
            differences: BTreeMap::new(),
        }
    }

    /// A node starts, with nothing in its memory.
    pub(super) fn restarted(&mut self, number: usize) {
        self.telling.retain(|(teller, listener), _| ![*teller, *listener].contains(&number));
        self.acknowledged.retain(|(teller, listener), _| ![*teller, *listener].contains(&number));
        self.last[number] = NodeTable::default();
    }

    /// A node stands still until then.
    pub(super) fn paused(&mut self, number: usize, until: Instant) {
        self.paused_until[number] = self.paused_until[number].max(until);
    }

    /// A look at all nodes. `quiet_since` is the time of the last fault, if none lasts.
    pub fn look(&mut self, nodes: Vec<NodeTable>, quiet_since: Option<Instant>, now: Instant) -> Vec<String> {
        let mut wrong = Vec::new();
        for node in nodes.iter().filter(|node| node.is_router) {
            self.alive_at.extend(node.sessions.iter().map(|session| (session.outside, now)));
        }
        for (number, node) in nodes.iter().enumerate().filter(|(_, node)| node.is_alive) {
            wrong.extend(shared_inside(&node.sessions).map(|what| format!("node {number}: {what}")));
            if !node.is_router && now >= self.paused_until[number] + AWAKE {
                wrong.extend(self.outlived(&node.sessions, now).map(|what| format!("node {number}: {what}")));
            }
        }
        self.hear_acknowledgements(&nodes, now);
        wrong.extend(self.lasting_differences(&nodes, quiet_since, now));
        for (last, node) in self.last.iter_mut().zip(nodes) {
            if node.is_alive {
                *last = node;
            }
        }
        wrong
    }

    /// A copy lives longer than its session and the timeout together.
    fn outlived(&self, sessions: &[HeldSession], now: Instant) -> Option<String> {
        let session = sessions.iter().find(|session| {
            let alive_at = self.alive_at.get(&session.outside).copied().unwrap_or_default();
            session.is_copy && now > alive_at + session.timeout + LATE
        })?;
        let alive_at = self.alive_at.get(&session.outside).copied().unwrap_or_default();
        Some(format!(
            "{} is held {} ms after its session, with a timeout of {} ms",
            session.outside,
            now.since(alive_at).as_millis(),
            session.timeout.as_millis()
        ))
    }

    fn hear_acknowledgements(&mut self, nodes: &[NodeTable], now: Instant) {
        for (teller, node) in nodes.iter().enumerate() {
            for listener in (0..nodes.len()).filter(|listener| *listener != teller) {
                if !node.is_router || !nodes[listener].is_alive {
                    self.telling.remove(&(teller, listener));
                    continue;
                }
                let is_told = node.told.contains(&listener);
                let is_old = |(at, _): &(Instant, _)| now >= *at + UNTOLD;
                if is_told && self.telling.get(&(teller, listener)).is_some_and(is_old) {
                    let (_, sessions) = self.telling.remove(&(teller, listener)).expect("it is there");
                    self.acknowledged.insert((teller, listener), sessions);
                }
                let needed = || node.sessions.iter().filter(|session| session.needs_copy).copied().collect();
                self.telling.entry((teller, listener)).or_insert_with(|| (now, needed()));
            }
        }
    }

    /// A node becomes the router: what it has acknowledged of a session that still lives is in its table.
    pub(super) fn takes_over(&mut self, number: usize, table: &NodeTable, now: Instant) -> Vec<String> {
        let held: BTreeMap<Tuple, &HeldSession> =
            table.sessions.iter().map(|session| (session.outside, session)).collect();
        let mut wrong = Vec::new();
        for ((teller, _), sessions) in self.acknowledged.iter().filter(|((_, listener), _)| *listener == number) {
            if table.refuses {
                continue;
            }
            let still = |session: &&HeldSession| {
                // A copy may know of a last packet that is a turn of passes older, and one-way sessions wait for a pass.
                let is_sure = now < session.last_seen + session.timeout / 2;
                let may_end =
                    matches!(session.state, ConversationState::Tcp(TcpState::Closing) | ConversationState::OneWay);
                let lives = self.last[*teller].sessions.iter().any(|live| is_same(live, session));
                is_sure && !may_end && lives
            };
            for session in sessions.iter().filter(still) {
                if !held.get(&session.outside).is_some_and(|held| is_same(held, session)) {
                    let found = held.get(&session.outside);
                    wrong.push(format!(
                        "node {number} takes over and lost {session:?}, which it had acknowledged: {found:?}"
                    ));
                }
            }
        }
        self.acknowledged.clear();
        self.telling.clear();
        wrong
    }

    /// Copies differ from what the only router needs, for longer than two passes after the last fault.
    fn lasting_differences(&mut self, nodes: &[NodeTable], quiet_since: Option<Instant>, now: Instant) -> Vec<String> {
        let routers: Vec<usize> = (0..nodes.len()).filter(|number| nodes[*number].is_router).collect();
        let ([router], Some(quiet_since)) = (&routers[..], quiet_since) else {
            self.differences.clear();
            return Vec::new();
        };
        let (mut present, mut wrong) = (BTreeMap::new(), Vec::new());
        let others = nodes.iter().enumerate().filter(|(number, node)| number != router && node.is_alive);
        for (number, other) in others.filter(|(_, node)| !node.refuses) {
            for (flow, what) in differences(&nodes[*router].sessions, &other.sessions) {
                let since = self.differences.get(&(number, flow)).copied().unwrap_or(now);
                let since = since.max(quiet_since);
                if now.since(since) > TWO_PASSES {
                    wrong.push(format!("node {number} has other copies than node {router} needs: {what}"));
                }
                present.insert((number, flow), since);
            }
        }
        self.differences = if wrong.is_empty() { present } else { BTreeMap::new() };
        wrong
    }
}

/// Two sessions have the same translated flow.
fn shared_inside(sessions: &[HeldSession]) -> Option<String> {
    let mut insides = BTreeMap::new();
    sessions.iter().find_map(|session| {
        let before = insides.insert(session.inside?, session.outside)?;
        Some(format!("{before} and {} are both {} inside", session.outside, session.inside?))
    })
}

fn is_same(one: &HeldSession, other: &HeldSession) -> bool {
    (one.outside, one.inside, one.server) == (other.outside, other.inside, other.server)
}

/// What the router needs and the other node does not have as it is, and what that one has besides.
fn differences(router: &[HeldSession], other: &[HeldSession]) -> Vec<(Tuple, String)> {
    let by_flow = |sessions: &[HeldSession]| -> BTreeMap<Tuple, HeldSession> {
        sessions.iter().map(|session| (session.outside, *session)).collect()
    };
    let (needed, held) = (by_flow(router), by_flow(other));
    let mut found = Vec::new();
    for (flow, session) in needed.iter().filter(|(_, session)| session.needs_copy) {
        let equal = held.get(flow).is_some_and(|held| {
            let pins = session.firewalls.iter().zip(held.firewalls);
            let mut pins = pins.filter(|(told, _)| told.is_some());
            is_same(held, session) && held.state == session.state && pins.all(|(told, held)| *told == held)
        });
        if !equal {
            found.push((*flow, format!("{session:?} is held as {:?}", held.get(flow))));
        }
    }
    let is_extra = |flow: &Tuple| needed.get(flow).is_none_or(|session| !session.needs_copy);
    for (flow, session) in held.iter().filter(|(flow, session)| session.is_copy && is_extra(flow)) {
        found.push((*flow, format!("{session:?} is needed no more: {:?}", needed.get(flow))));
    }
    found
}
