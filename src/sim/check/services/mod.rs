//! Checks what services promise on the cables of their engine: it models every session from the packets that the engine
//! receives and sends.
//!
//! It checks that translation is a bijection (no two live sessions share a translated tuple, a port rests before it is
//! used again, replies get back the client's addresses), that a session keeps one server, that a server which is down
//! or drained by the snapshot of the packet gets no new session, that round robin and stickiness are exact, that
//! `on-failure` is obeyed, and that resets have the exact sequence numbers.

mod opening;
mod turns;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::{ForwardingMode, OnFailure};
use crate::engine::{Snapshot, Verdict};
use crate::sim::check::frame;
use crate::sim::farm::{FarmPlan, server_address, server_at, server_mac, server_name, service_name};
use crate::sim::packet::{Packet, Tuple, protocol, split_ethernet};
use crate::sim::sandwich::SandwichPlan;
use crate::sim::side::Side;
use crate::sim::sim_engine::{BoundFlow, HandledFrame, SimEngine};
use crate::sim::world::completed;
use crate::slb;
use crate::time::{Duration, Instant};

use turns::Turns;

/// A broken promise about a flow.
#[derive(Debug)]
pub struct Finding {
    /// Name of the promise.
    pub promise: &'static str,
    /// What was observed.
    pub what: String,
    /// The flow as its client's packets show it.
    pub outside: Tuple,
}

/// The checkers of the services of one engine.
#[derive(Debug)]
pub struct ServiceChecks {
    farm: FarmPlan,
    side: Side,
    port_reuse_time: Duration,
    /// Models of sessions, by the flow as its client's packets show it.
    models: BTreeMap<Tuple, SessionModel>,
    /// The client's tuple of a flow, by the server's tuple.
    by_server_tuple: BTreeMap<Tuple, Tuple>,
    /// For each translated tuple, the client's tuple of its session, and when that was last seen alive.
    alive: BTreeMap<Tuple, (Tuple, Instant)>,
    /// The tuple with which the first fragment of a datagram left, by the datagram as received.
    datagrams: BTreeMap<(IpAddr, IpAddr, u8, u32), Tuple>,
    sticky: BTreeMap<(usize, IpAddr), (usize, Instant)>,
    turns: Vec<Turns>,
    /// When a server's going down was published, by service, server, family (true: IPv6) and how often it went down.
    failures: BTreeMap<(usize, usize, bool, u32), Instant>,
    findings: Vec<Finding>,
    /// Number of new sessions, by service and server.
    pub opened: BTreeMap<(usize, usize), u64>,
}

/// The model of a session.
#[derive(Debug, Clone)]
struct SessionModel {
    service: usize,
    server: usize,
    /// The flow as the server sees it, client first.
    inside: Tuple,
    /// When the engine opened the session, which identifies it.
    created: Option<Instant>,
    server_failures: u32,
    last: Instant,
    /// The next sequence number toward the client, and toward the server, by what was forwarded.
    next: [Option<u32>; 2],
    /// Whether a reset was seen to the client, and to the server.
    reset: [bool; 2],
}

/// An end of a session.
#[derive(Debug, Clone, Copy)]
enum End {
    Client,
    Server,
}

/// A frame and what the engine did with it.
struct JudgedFrame<'a> {
    handled: &'a HandledFrame,
    before: Packet,
    after: Packet,
    engine: &'a SimEngine,
    now: Instant,
}

/// The IP packet of a frame, with its checksum finished.
pub(super) fn packet_of(frame: &crate::sim::sim_engine::CableFrame) -> Option<Packet> {
    let frame = completed(frame.clone());
    split_ethernet(&frame.bytes).and_then(|(.., payload)| Packet::parse(payload))
}

impl ServiceChecks {
    /// A server's sessions are found and reset within this time after it went down (`docs/design.md`, section 6), ticks
    /// included.
    const RESET_WITHIN: Duration = Duration::from_millis(1300);
    const DATAGRAMS_MAX: usize = 10_000;

    /// The checkers of the services of one engine; `rest` is how long a freed port is not used again.
    pub fn new(plan: &SandwichPlan, side: Side, rest: Duration) -> Self {
        Self {
            farm: plan.farm.clone(),
            side,
            port_reuse_time: rest,
            models: BTreeMap::new(),
            by_server_tuple: BTreeMap::new(),
            alive: BTreeMap::new(),
            datagrams: BTreeMap::new(),
            sticky: BTreeMap::new(),
            turns: plan.farm.services.iter().map(|_| Turns::default()).collect(),
            failures: BTreeMap::new(),
            findings: Vec::new(),
            opened: BTreeMap::new(),
        }
    }

    /// Forgets everything, because the engine was killed.
    pub fn restarted(&mut self) {
        self.models.clear();
        self.by_server_tuple.clear();
        self.alive.clear();
        self.datagrams.clear();
        self.sticky.clear();
        self.turns.fill_with(Turns::default);
        self.failures.clear();
    }

    /// Broken promises since the last call.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// The flow of a packet as its client's packets show it, and the server of its session.
    pub fn flow_of(&self, tuple: Tuple) -> Option<(Tuple, usize)> {
        let outside = [tuple, tuple.reversed()].into_iter().find_map(|tuple| {
            if self.models.contains_key(&tuple) { Some(tuple) } else { self.by_server_tuple.get(&tuple).copied() }
        })?;
        Some((outside, self.models.get(&outside)?.server))
    }

    /// Checks what the engine did with a frame; returns whether it belongs to a service and may be translated.
    pub fn handled(&mut self, handled: &HandledFrame, engine: &SimEngine, now: Instant) -> bool {
        if self.farm.services.is_empty() {
            return false;
        }
        let (Some(before), Some(after)) = (packet_of(&handled.before), packet_of(&handled.after)) else { return false };
        let passed = JudgedFrame { handled, before, after, engine, now };
        match handled.verdict {
            Verdict::Forward(_) | Verdict::Hairpin(_) => {}
            // A packet that waits for its server's MAC address is translated already; one for the engine itself is
            // unchanged.
            Verdict::Punted if passed.before == passed.after => {
                self.not_bound(&passed);
                return false;
            }
            Verdict::Punted => {}
            // Encapsulated: the tunnelled packets are checked when they are sent.
            Verdict::Replaced if self.is_tunneled(passed.before.tuple()) => {}
            Verdict::Dropped(_) | Verdict::Replaced => {
                self.not_bound(&passed);
                return false;
            }
        }
        if passed.before.fragment.is_some_and(|piece| piece.offset > 0) {
            return self.later_fragment(&passed);
        }
        let coming = passed.before.tuple();
        if let Some(service) = self.farm.service_at(self.side, coming.protocol, coming.destination) {
            self.check_to_server(service, coming, &passed);
        } else if let Some(outside) = self.live_outside(coming.reversed(), engine) {
            self.check_to_client(outside, &passed);
        } else {
            return false;
        }
        if let Some(piece) = passed.before.fragment {
            if self.datagrams.len() >= Self::DATAGRAMS_MAX {
                self.datagrams.clear();
            }
            let Packet { source, destination, protocol, .. } = passed.before;
            self.datagrams.insert((source, destination, protocol, piece.id), passed.after.tuple());
        }
        true
    }

    /// Notes a packet to a service that was not forwarded. It may have opened a session all the same, if its server was
    /// chosen before the path to it failed. Otherwise it may have used up a turn, and may have moved a sticky client.
    fn not_bound(&mut self, passed: &JudgedFrame<'_>) {
        let coming = passed.before.tuple();
        let Some(service) = self.farm.service_at(self.side, coming.protocol, coming.destination) else { return };
        if let Some(placed) = passed.engine.bound_flow(coming)
            && let Some(server) = self.number_of(placed, &passed.handled.snapshot)
        {
            let is_known = self.models.get(&coming).is_some_and(|shadow| shadow.created == Some(placed.created));
            if !is_known && !passed.before.is_icmp_error() {
                self.open(service, server, coming, placed.inside, Some(placed), passed);
            }
            return;
        }
        self.turns[service].set_unknown();
        self.sticky.remove(&(service, coming.source.0));
    }

    fn later_fragment(&mut self, passed: &JudgedFrame<'_>) -> bool {
        let Packet { source, destination, protocol, fragment: piece, .. } = passed.before;
        let Some(piece) = piece else { return false };
        let Some(leaving) = self.datagrams.get(&(source, destination, protocol, piece.id)).copied() else {
            return false;
        };
        self.check_bytes(leaving, leaving, passed);
        true
    }

    /// Whether the packet goes into a tunnel.
    fn is_tunneled(&self, coming: Tuple) -> bool {
        let service = self.farm.service_at(self.side, coming.protocol, coming.destination);
        service.is_some_and(|service| self.farm.services[service].mode == ForwardingMode::Tunnel)
    }

    /// The client's tuple of a live session, by the server's tuple.
    fn live_outside(&self, inside: Tuple, engine: &SimEngine) -> Option<Tuple> {
        let outside = *self.by_server_tuple.get(&inside)?;
        engine.bound_flow(outside).is_some_and(|placed| placed.inside == inside).then_some(outside)
    }

    fn find(&mut self, promise: &'static str, outside: Tuple, what: String) {
        self.findings.push(Finding { promise, what, outside });
    }

    /// Checks that nothing but addresses, ports, checksums and TTL changed.
    fn check_bytes(&mut self, leaving: Tuple, outside: Tuple, passed: &JudgedFrame<'_>) {
        // An encapsulated packet leaves in other frames, which the checker of tunnels sees; this frame's memory was
        // only working space.
        if passed.handled.verdict == Verdict::Replaced {
            return;
        }
        if let Some(wrong) = frame::translated(&passed.before, &passed.after, leaving) {
            self.find("transparency", outside, format!("{}: {wrong}", self.side.name()));
        }
        if passed.handled.before.offload != passed.handled.after.offload {
            let (before, after) = (passed.handled.before.offload, passed.handled.after.offload);
            self.find("transparency", outside, format!("offload state went from {before:?} to {after:?}"));
        }
    }

    /// Checks a packet from a client to its server.
    fn check_to_server(&mut self, service: usize, outside: Tuple, passed: &JudgedFrame<'_>) {
        let leaving = passed.after.tuple();
        let placed = passed.engine.bound_flow(outside);
        self.check_bytes(leaving, outside, passed);
        let Some(server) = self.server_of(service, leaving, passed) else {
            let (verdict, to) =
                (passed.handled.verdict, split_ethernet(&passed.handled.after.bytes).map(|split| split.0));
            let what = format!("{outside} left as {leaving} to {to:?} ({verdict:?}), which is none of its servers");
            return self.find("translation", outside, what);
        };
        self.check_translation(service, server, outside, leaving);
        let created = placed.map(|placed| placed.created);
        match self.models.get(&outside) {
            Some(shadow) if created.is_none() || shadow.created == created => {
                if (shadow.inside, shadow.server) != (leaving, server) {
                    let was = (server_name(shadow.server), shadow.inside);
                    let what = format!(
                        "{outside} went to {} as {leaving}, before to {} as {}",
                        server_name(server),
                        was.0,
                        was.1
                    );
                    self.find("a session keeps its server", outside, what);
                }
                self.check_failed_server(service, server, outside, passed);
            }
            Some(_) | None if passed.before.is_icmp_error() => {}
            Some(_) | None => self.open(service, server, outside, leaving, placed, passed),
        }
        self.advance(outside, End::Server, passed);
    }

    /// The server that got a packet.
    fn server_of(&self, service: usize, leaving: Tuple, passed: &JudgedFrame<'_>) -> Option<usize> {
        match self.farm.services[service].mode {
            ForwardingMode::Nat | ForwardingMode::FullNat => server_at(leaving.destination.0),
            // The packet is unchanged, and only its next hop or its tunnel shows the server. While the next hop is
            // resolved, and until the tunnelled packet is seen, the engine's own record has to do.
            ForwardingMode::Direct | ForwardingMode::Tunnel
                if matches!(passed.handled.verdict, Verdict::Punted | Verdict::Replaced) =>
            {
                let placed = passed.engine.bound_flow(passed.before.tuple())?;
                self.number_of(placed, &passed.handled.snapshot)
            }
            ForwardingMode::Direct | ForwardingMode::Tunnel => {
                let (destination, ..) = split_ethernet(&passed.handled.after.bytes)?;
                (0..self.farm.servers).find(|server| server_mac(*server) == destination)
            }
        }
    }

    fn number_of(&self, placed: BoundFlow, snapshot: &Snapshot) -> Option<usize> {
        let (_, server) = snapshot.services.server(placed.service, placed.server)?;
        (0..self.farm.servers).find(|number| server_name(*number) == server.name)
    }

    /// Checks that the translated tuple is what the service's mode demands.
    fn check_translation(&mut self, service: usize, server: usize, outside: Tuple, leaving: Tuple) {
        let plan = &self.farm.services[service];
        let v4 = outside.source.0.is_ipv4();
        let destination = (server_address(server, v4), plan.server_port());
        let right = match plan.mode {
            ForwardingMode::Nat => leaving == Tuple { destination, ..outside },
            ForwardingMode::FullNat => {
                let own = !plan.snat || FarmPlan::snat(v4).contains(&leaving.source.0);
                own && leaving.destination == destination && leaving.source.0 != outside.source.0
            }
            ForwardingMode::Direct | ForwardingMode::Tunnel => leaving == outside,
        };
        if !right {
            self.find("translation", outside, format!("{outside} left as {leaving} in mode {:?}", plan.mode));
        }
    }

    /// The service and the server in the snapshot by which a packet was decided.
    fn in_snapshot(&self, service: usize, server: usize, snapshot: &Snapshot) -> Option<(slb::Service, slb::Server)> {
        let seen = snapshot.services.all().iter().find(|seen| seen.name == service_name(service))?;
        let server = seen.servers.iter().find(|seen| seen.name == server_name(server))?.clone();
        Some((seen.as_ref().clone(), server))
    }

    /// Checks a packet of a known session to a server that went down: only `keep` lets it pass.
    fn check_failed_server(&mut self, service: usize, server: usize, outside: Tuple, passed: &JudgedFrame<'_>) {
        let Some(shadow) = self.models.get(&outside) else { return };
        let Some((_, seen)) = self.in_snapshot(service, server, &passed.handled.snapshot) else { return };
        let family = usize::from(outside.source.0.is_ipv6());
        let fell = !seen.up[family] && seen.failure_counts[family] != shadow.server_failures;
        if fell && self.farm.services[service].on_failure() != OnFailure::Keep {
            let policy = self.farm.services[service].on_failure();
            let what = format!("{outside} went on to {}, which fell; on-failure is {policy:?}", server_name(server));
            self.find("on-failure", outside, what);
        }
    }

    /// Checks a packet from a server to its client.
    fn check_to_client(&mut self, outside: Tuple, passed: &JudgedFrame<'_>) {
        let leaving = passed.after.tuple();
        if leaving != outside.reversed() {
            let what = format!("{} came back as {leaving}, its client waits for {}", outside, outside.reversed());
            self.find("un-translation", outside, what);
        }
        self.check_bytes(leaving, outside, passed);
        self.advance(outside, End::Client, passed);
    }

    /// Notes how far the sequence numbers toward an end were forwarded.
    fn advance(&mut self, outside: Tuple, end: End, passed: &JudgedFrame<'_>) {
        let Some(shadow) = self.models.get_mut(&outside) else { return };
        shadow.last = passed.now;
        let (Some(sequence), Some(length)) = (passed.before.tcp_sequence(), passed.before.tcp_length()) else { return };
        let next = sequence.wrapping_add(length);
        let known = &mut shadow.next[end as usize];
        if known.is_none_or(|known| (next.wrapping_sub(known) as i32) > 0) {
            *known = Some(next);
        }
    }

    /// Checks a TCP reset that the engine made and that refuses no segment. After a server went down, the first reset
    /// to each end must be acceptable there: RFC 5961 demands exactly the next sequence number.
    pub fn reset_sent(&mut self, packet: &Packet, engine: &SimEngine) {
        let tuple = packet.tuple();
        let (outside, end) = match (self.models.contains_key(&tuple.reversed()), self.by_server_tuple.get(&tuple)) {
            (true, _) => (tuple.reversed(), End::Client),
            (false, Some(outside)) => (*outside, End::Server),
            (false, None) => return,
        };
        let Some(snapshot) = engine.snapshot() else { return };
        let Some(shadow) = self.models.get(&outside).cloned() else { return };
        let Some((_, seen)) = self.in_snapshot(shadow.service, shadow.server, snapshot) else { return };
        let family = usize::from(outside.source.0.is_ipv6());
        if seen.failure_counts[family] == shadow.server_failures || shadow.reset[end as usize] {
            return;
        }
        if let Some(shadow) = self.models.get_mut(&outside) {
            shadow.reset[end as usize] = true;
        }
        if let (Some(next), Some(sequence)) = (shadow.next[end as usize], packet.tcp_sequence())
            && next != sequence
        {
            let what = format!("the reset of {outside} to its {end:?} has sequence number {sequence}, not {next}");
            self.find("resets are acceptable", outside, what);
        }
    }

    /// Checks the engine's own session table: no tuple twice, no session that should have been ended.
    pub fn bookkeeping(&mut self, engine: &SimEngine, now: Instant) {
        if self.farm.services.is_empty() {
            return;
        }
        let Some(snapshot) = engine.snapshot() else { return };
        let mut owners: BTreeMap<Tuple, Tuple> = BTreeMap::new();
        for placed in engine.bound_flows() {
            for tuple in [placed.outside.canonical(), placed.inside.canonical()] {
                if let Some(other) = owners.insert(tuple, placed.outside).filter(|other| *other != placed.outside) {
                    let what = format!("{} and {other}, both live, share {tuple}", placed.outside);
                    self.find("bijection", placed.outside, what);
                }
            }
            self.alive.insert(placed.inside, (placed.outside, now));
            self.check_overdue_resets(&placed, snapshot, now);
        }
    }

    /// Checks that `reset` ends the TCP sessions of a server soon after it went down.
    fn check_overdue_resets(&mut self, placed: &BoundFlow, snapshot: &Snapshot, now: Instant) {
        let Some((service, server)) = snapshot.services.server(placed.service, placed.server) else { return };
        let v6 = placed.outside.source.0.is_ipv6();
        let (up, falls) = (server.up[usize::from(v6)], server.failure_counts[usize::from(v6)]);
        let resets = placed.outside.protocol == protocol::TCP && service.on_failure == OnFailure::Reset;
        if up || falls == placed.server_failures || !resets {
            return;
        }
        let key = (placed.service.index(), placed.server.index(), v6, falls);
        let since = *self.failures.entry(key).or_insert(now);
        if now.since(since) > Self::RESET_WITHIN {
            let what = format!("{} lives, its server {} fell long ago", placed.outside, server.name);
            self.find("on-failure", placed.outside, what);
        }
    }
}
