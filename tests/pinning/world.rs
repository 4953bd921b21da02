//! One flow, N firewalls, and an engine on each side of them that never talks to the other: the smallest model in which
//! pinning rules can go wrong. The engines use [`near`] and [`far`] of the product; everything else is a model. Nothing
//! is random.

use fwlb::id::{FirewallId, GroupId, PathSetId};
use fwlb::path::PathSet;
use fwlb::path::pinning::{NearDecision, PacketKind, Pin, PinState, PinningView, decide_far, decide_near};
use fwlb::time::{Duration, Instant};
use fwlb::wire::Family;

use crate::settings::{Kind, Settings};

/// The outer engine, and the side in front of it.
pub const O: usize = 0;
/// The inner engine, and the side behind it.
pub const I: usize = 1;

/// A step of time, slightly longer than the confirm time.
pub const TICK: Duration = Duration::from_millis(1100);

/// The largest number of firewalls.
pub const FIREWALLS_MAX: usize = 4;

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
            NearDecision::Failed(_) => panic!("on-failure is reselect"),
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

    pub fn harm(&mut self, firewall: usize) {
        self.hurt |= self.home == Some(firewall);
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
