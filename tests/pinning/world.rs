//! One flow, N firewalls, and an engine on each side of them that never talks to the other: the smallest model in which
//! pinning rules can go wrong. The engines use [`near`] and [`far`] of the product; everything else is a model. Nothing
//! is random.

use fwlb::flow::{FlowHash, FlowHasher, HashMode, Seed};
use fwlb::id::{FirewallId, GroupId, PathSetId};
use fwlb::path::pinning::{NearDecision, PacketKind, Pin, PinState, PinningView, decide_far, decide_near};
use fwlb::path::{BelowMin, FirewallGroup, GroupMember, OnFailure, PathSet, rendezvous};
use fwlb::time::{Duration, Instant};
use fwlb::wire::Family;

/// The outer engine, and the side in front of it.
pub const O: usize = 0;
/// The inner engine, and the side behind it.
pub const I: usize = 1;

/// A step of time, slightly longer than the confirm time.
pub const TICK: Duration = Duration::from_millis(1100);

/// The largest number of firewalls.
pub const FIREWALLS_MAX: usize = 4;

/// How a firewall keeps state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It drops packets without state.
    Strict,
    /// It picks up connections in mid-stream if its policy permits them.
    Loose,
    /// All firewalls share their state.
    Synced,
}

/// The kind of flow, by its first packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opener {
    Side(usize),
    Both,
}

/// Settings that do not change during a run.
#[derive(Clone, Debug)]
pub struct Settings {
    pub firewalls: usize,
    pub kind: Kind,
    pub tcp: bool,
    /// True if the firewalls permit new flows from both sides, and not only from the opener's.
    pub both_may_open: bool,
    pub opener: Opener,
    /// The hash of the flow, per engine. Different hashes stand for different seeds.
    pub hashes: [FlowHash; 2],
    /// The engine that leads.
    pub leader: usize,
    /// True if packets may be delayed in front of the firewall as well as behind it.
    pub two_stage: bool,
    /// The largest number of packets in flight.
    pub flight_max: usize,
    /// True if T exceeds detection and packet lifetime: time passes only while views are correct and nothing is in
    /// flight.
    pub patient: bool,
    /// A firewall that the inner engine does not know.
    pub unknown: Option<usize>,
    pub group: FirewallGroup,
}

/// A packet of the flow in flight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Packet {
    pub kind: Segment,
    /// The side that sent it.
    pub from: usize,
    pub firewall: usize,
    /// True if it has passed the firewall.
    pub passed: bool,
}

/// The kind of packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Segment {
    Syn,
    SynAck,
    Data,
    /// A packet of a protocol without flags.
    Datagram,
}

/// The state of a connection in a firewall.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Conntrack {
    None,
    /// A SYN came from this side.
    Syn(usize),
    /// SYNs came from both sides.
    Crossed,
    Established,
}

/// The state of TCP at an end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum End {
    Idle,
    SynSent,
    SynReceived,
    Established,
}

/// One engine with its view and its session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Engine {
    /// The firewalls that its probes find up, as bits.
    pub up: u64,
    pub draining: u64,
    /// The drain deadline has passed.
    pub ended: u64,
    /// Its probes are blocked.
    pub blocked: u64,
    pub falls: [u32; FIREWALLS_MAX],
    pub pin: Option<Pin>,
}

/// The state of the model.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    pub now: Instant,
    /// For each firewall, the sides whose packets pass.
    pub passes: [[bool; 2]; FIREWALLS_MAX],
    pub conntrack: [Conntrack; FIREWALLS_MAX],
    pub engines: [Engine; 2],
    pub ends: [End; 2],
    pub flight: Vec<Packet>,
    /// The number of faults that may still happen.
    pub faults_left: u8,
    /// The firewall that both engines had confirmed while it had the established connection.
    pub home: Option<usize>,
    /// True if `home` has been disturbed since.
    pub hurt: bool,
    /// True if no engine was restarted since.
    pub clean: bool,
}

/// Counts of what happened.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    pub moves: u32,
    pub lost: u32,
    /// Packets of an open connection that arrived, per side.
    pub received: [u32; 2],
    /// Packets of an established flow that did not go to its healthy strict firewall, or that this dropped.
    pub wronged: bool,
    /// Pins that left a healthy home.
    pub left_home: bool,
}

/// An action that changes the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The end on this side sends what it has to send.
    Send(usize),
    /// The packet at this position takes its next step.
    Deliver(usize),
    Lose(usize),
    Duplicate(usize),
    /// The firewall fails; with a side, only packets of that side still pass.
    Fail(usize, Option<usize>),
    /// The firewall recovers; `rebooted` means without its state.
    Heal(usize, bool),
    /// An engine's view becomes correct.
    SeeDown(usize, usize),
    SeeUp(usize, usize),
    /// An engine takes a healthy firewall for down.
    Alarm(usize, usize),
    /// An engine forgets its sessions.
    Restart(usize),
    Drain(usize, usize),
    /// The drain deadline passes in one engine's view.
    Deadline(usize, usize),
    /// The policy of a firewall blocks the probes of one engine.
    Block(usize, usize),
    Tick,
}

impl Settings {
    /// Strict firewalls, TCP opened from outside, equal seeds, and the outer engine leads.
    pub fn strict(firewalls: usize) -> Self {
        let members = (0..firewalls).map(|slot| GroupMember {
            id: FirewallId::from(slot),
            name: format!("fw{slot}"),
            weight: 1,
            spare: false,
        });
        let group = FirewallGroup {
            id: GroupId(0),
            name: "perimeter".to_owned(),
            hasher: FlowHasher::new(Seed::from_text("pinning"), HashMode::FiveTuple),
            members: members.collect(),
            on_failure: OnFailure::Reselect,
            min_up: 1,
            below_min: BelowMin::Drop,
        };
        let identity: Vec<_> = (0..firewalls).collect();
        let hash = hash_that_ranks(&group, &identity);
        Self {
            firewalls,
            kind: Kind::Strict,
            tcp: true,
            both_may_open: true,
            opener: Opener::Side(O),
            hashes: [hash, hash],
            leader: O,
            two_stage: false,
            flight_max: 3,
            patient: false,
            unknown: None,
            group,
        }
    }

    /// Sets the order in which each engine prefers the firewalls.
    pub fn ranked(mut self, outer: &[usize], inner: &[usize]) -> Self {
        self.hashes = [hash_that_ranks(&self.group, outer), hash_that_ranks(&self.group, inner)];
        self
    }

    fn may_open(&self, side: usize) -> bool {
        self.both_may_open || self.opens(side)
    }

    pub fn opens(&self, side: usize) -> bool {
        match self.opener {
            Opener::Side(opener) => opener == side,
            Opener::Both => true,
        }
    }

    fn all(&self) -> u64 {
        (1 << self.firewalls) - 1
    }

    /// The firewall whose state a firewall uses.
    pub fn conntrack_of(&self, firewall: usize) -> usize {
        match self.kind {
            Kind::Strict | Kind::Loose => firewall,
            Kind::Synced => 0,
        }
    }
}

/// A flow for which the rendezvous hash gives this order of firewalls.
pub fn hash_that_ranks(group: &FirewallGroup, order: &[usize]) -> FlowHash {
    let is_it =
        |hash: &FlowHash| rendezvous::rank(group, *hash).iter().map(|scored| scored.slot).eq(order.iter().copied());
    (0..).map(FlowHash).find(is_it).expect("every order has its flows")
}

impl Engine {
    fn new(up: u64, blocked: u64) -> Self {
        Self { up, draining: 0, ended: 0, blocked, falls: [0; FIREWALLS_MAX], pin: None }
    }

    /// Whether a firewall is up by the rules of the model.
    pub fn is_up(&self, firewall: usize) -> bool {
        self.up & !self.ended & (1 << firewall) != 0
    }

    fn set(&self, firewalls: usize) -> PathSet {
        let up = self.up & !self.ended;
        PathSet {
            group: GroupId(0),
            peer: None,
            family: Family::V4,
            up,
            selectable: up & !self.draining,
            starting: 0,
            failure_counts: self.falls[..firewalls].to_vec(),
        }
    }

    pub fn pinned_to(&self) -> Option<usize> {
        self.pin.map(|pin| pin.firewall.index())
    }
}

impl World {
    pub fn new(settings: &Settings) -> Self {
        let unknown = settings.unknown.map_or(0, |firewall| 1 << firewall);
        Self {
            now: Instant::from_millis(1_000_000),
            passes: [[true; 2]; FIREWALLS_MAX],
            conntrack: [Conntrack::None; FIREWALLS_MAX],
            engines: [Engine::new(settings.all(), 0), Engine::new(settings.all() & !unknown, unknown)],
            ends: [End::Idle; 2],
            flight: Vec::new(),
            faults_left: 0,
            home: None,
            hurt: false,
            clean: true,
        }
    }

    pub fn is_healthy(&self, firewall: usize) -> bool {
        self.passes[firewall] == [true; 2]
    }

    /// True if both engines use the same firewall, or one of them has no session.
    pub fn is_symmetric(&self) -> bool {
        let [outer, inner] = [O, I].map(|side| self.engines[side].pinned_to());
        outer.is_none() || inner.is_none() || outer == inner
    }

    pub fn can_send(&self, settings: &Settings, side: usize) -> bool {
        self.ends[side] != End::Idle || settings.opens(side)
    }

    /// The end on `side` sends what it has to send.
    pub fn emit(&mut self, settings: &Settings, side: usize, tally: &mut Tally) {
        let segment = match (settings.tcp, self.ends[side]) {
            (false, _) => Segment::Datagram,
            (true, End::Idle | End::SynSent) => {
                self.ends[side] = End::SynSent;
                Segment::Syn
            }
            (true, End::SynReceived) => Segment::SynAck,
            (true, End::Established) => Segment::Data,
        };
        self.send(settings, side, segment, tally);
    }

    /// Sends a packet from an end through its engine to a firewall.
    fn send(&mut self, settings: &Settings, side: usize, segment: Segment, tally: &mut Tally) {
        let home = self.home.filter(|_| !self.hurt && self.clean);
        let before = self.engines[side].pin;
        let set = self.engines[side].set(settings.firewalls);
        let pin = match decide_near(before, kind(segment), &view(settings, side, &set), self.now) {
            NearDecision::Send { pin, .. } => pin,
            NearDecision::NoPath => {
                tally.lost += 1;
                return;
            }
            NearDecision::Failed => panic!("on-failure is reselect"),
        };
        self.store(side, pin, tally);
        let firewall = pin.firewall.index();
        if let Some(home) = home
            && firewall != home
            && settings.kind == Kind::Strict
            && self.conntrack[firewall] != Conntrack::Established
            && [O, I].iter().all(|&side| self.engines[side].is_up(home))
        {
            tally.wronged = true;
        }
        let mut packet = Packet { kind: segment, from: side, firewall, passed: false };
        if !settings.two_stage {
            if !self.filter(settings, &packet) {
                self.dropped(settings, &packet, tally);
                return;
            }
            packet.passed = true;
        }
        if self.flight.len() < settings.flight_max {
            self.flight.push(packet);
            self.flight.sort();
        } else {
            tally.lost += 1;
        }
    }

    /// Moves the packet at `place` one step: through its firewall, or from there to the other end.
    pub fn deliver(&mut self, settings: &Settings, place: usize, tally: &mut Tally) {
        let mut packet = self.flight.remove(place);
        if !packet.passed {
            if self.filter(settings, &packet) {
                packet.passed = true;
                self.flight.push(packet);
                self.flight.sort();
            } else {
                self.dropped(settings, &packet, tally);
            }
            return;
        }
        let side = 1 - packet.from;
        let set = self.engines[side].set(settings.firewalls);
        let from = FirewallId::from(packet.firewall);
        let (pin, _) =
            decide_far(self.engines[side].pin, from, kind(packet.kind), &view(settings, side, &set), self.now);
        self.store(side, pin, tally);
        tally.received[side] += u32::from(packet.kind >= Segment::Data);
        self.hear(settings, side, packet.kind, tally);
        self.note_home(settings);
    }

    /// Delivers a packet to the end on `side`.
    fn hear(&mut self, settings: &Settings, side: usize, segment: Segment, tally: &mut Tally) {
        match (segment, self.ends[side]) {
            (Segment::Datagram, _) => self.ends = [End::Established; 2],
            (Segment::Syn, End::Idle | End::SynSent | End::SynReceived) => {
                self.ends[side] = End::SynReceived;
                self.send(settings, side, Segment::SynAck, tally);
            }
            (Segment::Syn | Segment::SynAck, End::Established) => self.send(settings, side, Segment::Data, tally),
            (Segment::SynAck, End::SynSent | End::SynReceived) => {
                self.ends[side] = End::Established;
                self.send(settings, side, Segment::Data, tally);
            }
            (Segment::Data, End::SynReceived) => self.ends[side] = End::Established,
            (Segment::SynAck, End::Idle) | (Segment::Data, End::Idle | End::SynSent | End::Established) => {}
        }
    }

    /// Whether a firewall passes a packet, which updates its state.
    fn filter(&mut self, settings: &Settings, packet: &Packet) -> bool {
        if !self.passes[packet.firewall][packet.from] {
            return false;
        }
        let at = settings.conntrack_of(packet.firewall);
        let state = self.conntrack[at];
        let may = settings.may_open(packet.from);
        let picks_up = may && settings.kind != Kind::Strict;
        let (next, passes) = match (packet.kind, state) {
            (_, Conntrack::Established) | (Segment::Syn, Conntrack::Crossed) => (state, true),
            (Segment::Datagram, _) if may => (Conntrack::Established, true),
            (Segment::Datagram, _) => (state, false),
            (Segment::Syn, Conntrack::None) if may => (Conntrack::Syn(packet.from), true),
            (Segment::Syn, Conntrack::None) => (state, false),
            (Segment::Syn, Conntrack::Syn(side)) if side == packet.from => (state, true),
            (Segment::Syn, Conntrack::Syn(_)) => (if may { Conntrack::Crossed } else { state }, may),
            (Segment::SynAck, Conntrack::Syn(side)) if side == packet.from => (state, false),
            (Segment::SynAck, Conntrack::Syn(_) | Conntrack::Crossed) => (Conntrack::Established, true),
            (Segment::SynAck, Conntrack::None) => (state, false),
            (Segment::Data, Conntrack::None) if picks_up => (Conntrack::Established, true),
            (Segment::Data, Conntrack::Syn(_)) if may && settings.kind == Kind::Loose => (Conntrack::Established, true),
            (Segment::Data, Conntrack::None | Conntrack::Syn(_) | Conntrack::Crossed) => (state, false),
        };
        self.conntrack[at] = next;
        passes
    }

    fn dropped(&mut self, settings: &Settings, packet: &Packet, tally: &mut Tally) {
        tally.lost += 1;
        let at_home = self.home == Some(packet.firewall) && !self.hurt && self.clean;
        if at_home && settings.kind == Kind::Strict && self.passes[packet.firewall][packet.from] {
            tally.wronged = true;
        }
    }

    fn store(&mut self, side: usize, pin: Pin, tally: &mut Tally) {
        if let Some(before) = self.engines[side].pinned_to()
            && before != pin.firewall.index()
        {
            tally.moves += 1;
            tally.left_home |= self.home == Some(before) && !self.hurt;
        }
        self.engines[side].pin = Some(pin);
    }

    fn note_home(&mut self, settings: &Settings) {
        let [Some(outer), Some(inner)] = [self.engines[O].pin, self.engines[I].pin] else { return };
        let firewall = outer.firewall.index();
        let agreed = outer.firewall == inner.firewall
            && [outer.state, inner.state] == [PinState::Confirmed; 2]
            && self.conntrack[settings.conntrack_of(firewall)] == Conntrack::Established
            && self.engines.iter().all(|engine| engine.is_up(firewall))
            && self.is_healthy(firewall)
            && self.ends == [End::Established; 2];
        if agreed && (self.hurt || self.home.is_none()) {
            (self.home, self.hurt, self.clean) = (Some(firewall), false, true);
        }
    }

    fn harm(&mut self, firewall: usize) {
        self.hurt |= self.home == Some(firewall);
    }

    pub fn see_down(&mut self, side: usize, firewall: usize) {
        let engine = &mut self.engines[side];
        if engine.up & (1 << firewall) != 0 {
            engine.up &= !(1 << firewall);
            engine.falls[firewall] += 1;
            self.harm(firewall);
        }
    }

    /// Whether probes of `side` through the firewall are answered.
    pub fn probes_pass(&self, side: usize, firewall: usize) -> bool {
        self.is_healthy(firewall) && self.engines[side].blocked & (1 << firewall) == 0
    }

    fn is_settled(&self, settings: &Settings) -> bool {
        let is_true = |side: usize, firewall: usize| {
            self.probes_pass(side, firewall) == (self.engines[side].up & (1 << firewall) != 0)
        };
        self.flight.is_empty() && [O, I].iter().all(|&side| (0..settings.firewalls).all(|f| is_true(side, f)))
    }

    /// Whether an action is possible in this state.
    pub fn allows(&self, settings: &Settings, action: Action) -> bool {
        let sees_up = |side: usize, firewall: usize| self.engines[side].up & (1 << firewall) != 0;
        let has = |bits: u64, firewall: usize| bits & (1 << firewall) != 0;
        let fault = self.faults_left > 0;
        match action {
            Action::Send(side) => self.flight.len() < settings.flight_max && self.can_send(settings, side),
            Action::Deliver(place) | Action::Lose(place) => place < self.flight.len(),
            Action::Duplicate(place) => fault && place < self.flight.len() && self.flight.len() < settings.flight_max,
            Action::Fail(firewall, _) => fault && self.is_healthy(firewall),
            // No packet lives until a firewall has recovered.
            Action::Heal(firewall, _) => {
                !self.is_healthy(firewall) && self.flight.iter().all(|packet| packet.firewall != firewall)
            }
            Action::SeeDown(side, firewall) => !self.probes_pass(side, firewall) && sees_up(side, firewall),
            Action::SeeUp(side, firewall) => self.probes_pass(side, firewall) && !sees_up(side, firewall),
            Action::Alarm(side, firewall) => fault && sees_up(side, firewall),
            Action::Restart(side) => fault && self.engines[side].pin.is_some(),
            Action::Drain(side, firewall) => fault && !has(self.engines[side].draining, firewall),
            Action::Deadline(side, firewall) => fault && !has(self.engines[side].ended, firewall),
            Action::Block(side, firewall) => fault && !has(self.engines[side].blocked, firewall),
            Action::Tick => !settings.patient || self.is_settled(settings),
        }
    }

    /// Performs an action.
    pub fn step(&mut self, settings: &Settings, action: Action, tally: &mut Tally) {
        match action {
            Action::Duplicate(_)
            | Action::Fail(..)
            | Action::Alarm(..)
            | Action::Restart(_)
            | Action::Drain(..)
            | Action::Deadline(..)
            | Action::Block(..) => self.faults_left -= 1,
            Action::Send(_)
            | Action::Deliver(_)
            | Action::Lose(_)
            | Action::Heal(..)
            | Action::SeeDown(..)
            | Action::SeeUp(..)
            | Action::Tick => {}
        }
        match action {
            Action::Send(side) => self.emit(settings, side, tally),
            Action::Deliver(place) => self.deliver(settings, place, tally),
            Action::Lose(place) => {
                self.flight.remove(place);
                tally.lost += 1;
            }
            Action::Duplicate(place) => {
                self.flight.push(self.flight[place]);
                self.flight.sort();
            }
            Action::Fail(firewall, half) => {
                self.passes[firewall] = [O, I].map(|side| half == Some(side));
                self.harm(firewall);
            }
            Action::Heal(firewall, rebooted) => {
                self.passes[firewall] = [true; 2];
                if rebooted && settings.kind != Kind::Synced {
                    self.conntrack[firewall] = Conntrack::None;
                }
            }
            Action::SeeDown(side, firewall) | Action::Alarm(side, firewall) => self.see_down(side, firewall),
            Action::SeeUp(side, firewall) => self.engines[side].up |= 1 << firewall,
            Action::Restart(side) => {
                self.engines[side].pin = None;
                self.clean = false;
            }
            Action::Drain(side, firewall) => self.engines[side].draining |= 1 << firewall,
            Action::Deadline(side, firewall) => {
                let engine = &mut self.engines[side];
                engine.draining |= 1 << firewall;
                engine.ended |= 1 << firewall;
                engine.falls[firewall] += 1;
                self.harm(firewall);
            }
            Action::Block(side, firewall) => {
                self.engines[side].blocked |= 1 << firewall;
                self.harm(firewall);
            }
            Action::Tick => self.now += TICK,
        }
    }

    /// Delivers everything in flight.
    pub fn drain_flight(&mut self, settings: &Settings, tally: &mut Tally) {
        for _ in 0..40 {
            if self.flight.is_empty() {
                return;
            }
            self.deliver(settings, 0, tally);
        }
        self.flight.clear();
    }
}

fn view<'a>(settings: &'a Settings, side: usize, set: &'a PathSet) -> PinningView<'a> {
    PinningView {
        group: &settings.group,
        set_id: PathSetId(0),
        set,
        hash: settings.hashes[side],
        preferred: None,
        tcp: settings.tcp,
        leader: settings.leader == side,
    }
}

fn kind(segment: Segment) -> PacketKind {
    match segment {
        Segment::Syn => PacketKind::Syn,
        Segment::SynAck => PacketKind::SynAck,
        Segment::Data | Segment::Datagram => PacketKind::Other,
    }
}
