//! The nodes, their paths, and the virtual time that moves them.

use std::collections::BTreeMap;

use super::super::node as node_config;
use super::*;
use crate::ha::{Associations, Opened};
use crate::random::SplitMix64;

const KEY: &[u8] = b"a key of thirty-two bytes or more";
/// Two links and the path for synchronisation.
const PATHS: [Path; 3] = [Path::Leg(LegId(0)), Path::Leg(LegId(1)), Path::Sync];

/// An engine with its own clock.
pub struct Node {
    pub running: Option<(Machine, Associations)>,
    /// Its clock runs by so many millionths fast, or slow.
    skew: i64,
    /// It does nothing until then; frames wait.
    pub paused_until: Instant,
    /// Whether its packet workers run while its thread does not.
    pub workers_run: bool,
    waiting: Vec<Frame>,
    health: Health,
    starts: u8,
    moves: Vec<(Instant, RoleChange)>,
}

#[derive(Clone)]
pub struct Frame {
    to: usize,
    path: usize,
    /// `None`: a station outside the cluster.
    datagram: Option<Vec<u8>>,
}

pub struct World {
    pub now: Instant,
    random: SplitMix64,
    pub nodes: Vec<Node>,
    frames: BTreeMap<(Instant, u64), Frame>,
    sequence: u64,
    /// `cut[path][from][to]`.
    pub cut: [[[bool; 3]; 3]; 3],
    /// The share of datagrams that are lost on each path, in percent.
    pub loss: [u64; 3],
    /// Whether stations outside answer node `n` on link `l`.
    pub outside: [[bool; 2]; 3],
    /// Whether the far side and node `n` hear each other; it reports every node to the others.
    pub far: [bool; 3],
    reported: Instant,
    /// How late timers are, at most, in microseconds.
    pub late_max: u64,
    /// Since when two nodes of one component forward.
    overlap_since: Option<Instant>,
    pub longest_overlap: Duration,
}

impl World {
    pub fn new(nodes: u8, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let node = |_| Node {
            running: None,
            skew: (random.next_u64() % 20_001) as i64 - 10_000,
            paused_until: Instant::ZERO,
            workers_run: true,
            waiting: Vec::new(),
            health: Health::default(),
            starts: 0,
            moves: Vec::new(),
        };
        let nodes: Vec<_> = (0..nodes).map(node).collect();
        let mut world = Self {
            now: Instant::from_millis(10_000),
            random,
            nodes,
            frames: BTreeMap::new(),
            sequence: 0,
            cut: Default::default(),
            loss: [0; 3],
            outside: [[true; 2]; 3],
            far: [true; 3],
            reported: Instant::ZERO,
            late_max: 3000,
            overlap_since: None,
            longest_overlap: Duration::ZERO,
        };
        (0..world.nodes.len()).for_each(|node| world.start(node));
        world
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound
    }

    pub fn local(&self, node: usize, at: Instant) -> Instant {
        let skew = i128::from(self.nodes[node].skew);
        Instant::from_nanos((i128::from(at.as_nanos()) * (1_000_000 + skew) / 1_000_000) as u64)
    }

    /// When the clock of a node shows `at`.
    pub fn global(&self, node: usize, at: Instant) -> Instant {
        let skew = i128::from(self.nodes[node].skew);
        Instant::from_nanos((i128::from(at.as_nanos()) * 1_000_000 / (1_000_000 + skew)) as u64 + 1)
    }

    pub fn start(&mut self, node: usize) {
        let (count, local) = (self.nodes.len() as u8, self.local(node, self.now));
        let start = [self.nodes[node].starts + 1, node as u8 + 1].repeat(8);
        let associations = Associations::new(
            NodeId(node as u8),
            usize::from(count),
            &[KEY],
            *start.first_chunk().expect("16 bytes"),
            ms(30),
        );
        let machine = Machine::new(node_config(count, node as u8), local);
        let state = &mut self.nodes[node];
        state.starts += 1;
        state.running = Some((machine, associations));
        state.waiting.clear();
        self.set_health(node, Health::default());
    }

    pub fn crash(&mut self, node: usize) {
        self.nodes[node].running = None;
    }

    pub fn set_health(&mut self, node: usize, health: Health) {
        self.nodes[node].health = health.clone();
        self.call(node, |machine, now| machine.handle_health(health, now));
    }

    pub fn call(&mut self, node: usize, call: impl FnOnce(&mut Machine, Instant) -> Out) {
        let local = self.local(node, self.now);
        let Some((machine, _)) = &mut self.nodes[node].running else { return };
        let out = call(machine, local);
        self.take(node, out);
    }

    pub fn take(&mut self, from: usize, out: Out) {
        if let Some(change) = out.role {
            assert!(is_legal(&change), "node {from}: {change:?}");
            self.nodes[from].moves.push((self.now, change));
        }
        if out.ask {
            for leg in 0..2 {
                if self.outside[from][leg] {
                    self.send(Frame { to: from, path: leg, datagram: None });
                }
            }
        }
        let Some(hello) = out.hello else { return };
        let bytes = hello.encode();
        let local = self.local(from, self.now);
        for path in 0..PATHS.len() {
            let Some((_, associations)) = &mut self.nodes[from].running else { return };
            let datagrams = associations.round(&bytes, local);
            for (to, datagram) in datagrams {
                let is_lost = self.below(100) < self.loss[path];
                if !is_lost && !self.cut[path][from][to.index()] {
                    let frame = Frame { to: to.index(), path, datagram: Some(datagram) };
                    if self.below(20) == 0 {
                        self.send(frame.clone());
                    }
                    self.send(frame);
                }
            }
        }
    }

    /// Delivers after 0.05 to 1 ms, so that frames overtake each other, and one of twenty after several rounds.
    pub fn send(&mut self, frame: Frame) {
        let longest = if self.below(20) == 0 { 90_000 } else { 950 };
        let after = Duration::from_micros(50 + self.below(longest));
        self.sequence += 1;
        self.frames.insert((self.now + after, self.sequence), frame);
    }

    pub fn deliver(&mut self, frame: Frame) {
        let node = frame.to;
        if self.nodes[node].running.is_none() {
            return;
        }
        if self.now < self.nodes[node].paused_until {
            self.nodes[node].waiting.push(frame);
            return;
        }
        let local = self.local(node, self.now);
        match (frame.datagram, PATHS[frame.path]) {
            (None, Path::Leg(leg)) => self.call(node, |machine, now| machine.handle_station(leg, now)),
            (None, Path::Sync) => {}
            (Some(bytes), path) => {
                let Some((_, associations)) = &mut self.nodes[node].running else { return };
                if let Ok(Opened::Body(from, _, body)) = associations.open(&bytes, local) {
                    let hello = Hello::decode(&body).expect("what is sealed is well-formed");
                    self.call(node, |machine, now| machine.handle_hello(path, from, hello, now));
                }
            }
        }
    }

    /// When a node runs next: its timer, a little late, or the end of its pause.
    pub fn due(&self, node: usize) -> Option<Instant> {
        let (machine, _) = self.nodes[node].running.as_ref()?;
        let due = self.global(node, machine.poll_timeout()).max(self.now);
        Some(due.max(self.nodes[node].paused_until))
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timer = (0..self.nodes.len()).filter_map(|node| Some((self.due(node)?, node))).min();
            let frame = self.frames.first_key_value().map(|((at, _), _)| *at);
            let next = [timer.map(|(at, _)| at), frame, Some(self.reported + ms(50))].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            // Leases end between two events.
            self.judge(next);
            self.now = next.max(self.now);
            if self.now >= self.reported + ms(50) {
                self.report_as_witness();
            } else if frame.is_some_and(|at| at <= self.now) {
                let (_, frame) = self.frames.pop_first().expect("peeked");
                self.deliver(frame);
            } else if let Some((_, node)) = timer {
                let late = Duration::from_micros(self.below(self.late_max.max(1)));
                self.now += late;
                for frame in std::mem::take(&mut self.nodes[node].waiting) {
                    self.deliver(frame);
                }
                self.call(node, Machine::handle_timeout);
            }
            self.judge(self.now);
        }
        self.now = end.max(self.now);
    }

    pub fn report_as_witness(&mut self) {
        self.reported = self.now;
        let runs = |node: &Node| node.running.is_some() && node.paused_until <= self.now;
        let heard: Vec<_> = self.nodes.iter().zip(self.far).map(|(node, far)| far && runs(node)).collect();
        for (about, _) in heard.iter().enumerate().filter(|(_, heard)| **heard) {
            let Some((machine, _)) = &self.nodes[about].running else { continue };
            let (role, term, priority) = (machine.role(), machine.last_active, machine.priority());
            for to in (0..self.nodes.len()).filter(|to| *to != about && heard[*to]) {
                let heard = self.local(to, self.now);
                let report = WitnessReport { node: NodeId(about as u8), role, term, priority, heard };
                self.call(to, |machine, now| machine.handle_witness(report, now));
            }
        }
    }

    /// True if packet workers of a node forward as the virtual router at `at`.
    pub fn forwards(&self, node: usize, at: Instant) -> bool {
        self.forwarding(node, at) == Forwarding::Router
    }

    /// True if packet workers of some node forward.
    pub fn is_carried(&self) -> bool {
        (0..self.nodes.len()).any(|node| self.forwarding(node, self.now) != Forwarding::Silent)
    }

    fn forwarding(&self, node: usize, at: Instant) -> Forwarding {
        let Some((machine, _)) = &self.nodes[node].running else { return Forwarding::Silent };
        let (state, word) = (&self.nodes[node], machine.role_word());
        let runs = state.workers_run || at >= state.paused_until;
        if runs && self.local(node, at) < word.until { word.forwarding } else { Forwarding::Silent }
    }

    /// True if two nodes hear each other on some path.
    pub fn hear_each_other(&self, a: usize, b: usize) -> bool {
        let open = |from: usize, to: usize| (0..3).any(|path| !self.cut[path][from][to]);
        let runs = |node: usize| self.now >= self.nodes[node].paused_until;
        open(a, b) && open(b, a) && runs(a) && runs(b)
    }

    /// Notes for how long two nodes that hear each other forward both.
    pub fn judge(&mut self, at: Instant) {
        let count = self.nodes.len();
        let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
        let both = |(a, b): (usize, usize)| self.forwards(a, at) && self.forwards(b, at) && self.hear_each_other(a, b);
        match pairs.clone().any(both) {
            true => {
                let since = *self.overlap_since.get_or_insert(at);
                self.longest_overlap = self.longest_overlap.max(at.since(since));
            }
            false => self.overlap_since = None,
        }
    }

    pub fn roles(&self) -> Vec<Role> {
        self.nodes.iter().map(|node| node.running.as_ref().map_or(Role::Fault, |(machine, _)| machine.role())).collect()
    }

    pub fn active(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|node| self.forwards(*node, self.now))
    }

    pub fn changes(&self) -> usize {
        self.nodes.iter().map(|node| node.moves.len()).sum()
    }

    /// What went on, for a failing seed.
    pub fn story(&self) -> String {
        let mut story: Vec<_> = self
            .nodes
            .iter()
            .enumerate()
            .flat_map(|(node, state)| state.moves.iter().map(move |(at, change)| (*at, node, change)))
            .collect();
        story.sort_by_key(|(at, ..)| *at);
        let line = |(at, node, change): &(Instant, usize, &RoleChange)| {
            format!(
                "{:>8} ms: node {node} {} -> {}: {:?}, term {}",
                at.as_millis(),
                change.from,
                change.to,
                change.reason,
                change.term
            )
        };
        story.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Which role follows which for which reason; a call may make two steps at once.
fn is_legal(change: &RoleChange) -> bool {
    use Role::{Active, Fault, Leaving, Listen, Standby};
    match change.reason {
        Reason::Start => false,
        Reason::ActiveHeard(_) => matches!((change.from, change.to), (Listen | Fault | Active | Leaving, Standby)),
        Reason::BestClaim | Reason::NobodyElse => {
            matches!((change.from, change.to), (Listen | Fault | Leaving, Active))
        }
        Reason::Silence(..) | Reason::Stopped(_) => matches!((change.from, change.to), (Standby | Listen, Active)),
        Reason::Handover(_) => matches!((change.from, change.to), (Standby, Active)),
        Reason::Taken(_) | Reason::Stop => {
            matches!((change.from, change.to), (Active | Leaving, Standby | Fault | Leaving))
        }
        Reason::NotTaken => matches!((change.from, change.to), (Leaving, Active)),
        Reason::BetterClaim(_) => matches!((change.from, change.to), (Active, Standby)),
        Reason::Score(_) | Reason::Preempted(_) | Reason::Order => {
            matches!((change.from, change.to), (Active, Leaving))
        }
        Reason::StoodStill(_) => matches!((change.from, change.to), (Active | Leaving, Listen)),
        Reason::Fault(_) => {
            matches!(
                (change.from, change.to),
                (Listen | Standby, Fault) | (Active, Leaving) | (Active | Leaving, Fault)
            )
        }
        Reason::Recovered => matches!((change.from, change.to), (Fault, Listen)),
    }
}
