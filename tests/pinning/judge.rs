//! Judges a state: events stop, the engines' views become correct, traffic of some pattern continues for a while, and
//! then the flow must work; after that, new flows must work, too.

use crate::settings::{Kind, Opener, Settings};
use crate::world::{Conntrack, End, I, O, TICK, Tally, World};

/// Which side sends until the judgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    OuterFirst,
    InnerFirst,
    AtOnce,
    /// Only this side sends on its own.
    Only(usize),
}

pub const PATTERNS: [Pattern; 5] =
    [Pattern::OuterFirst, Pattern::InnerFirst, Pattern::AtOnce, Pattern::Only(O), Pattern::Only(I)];

/// Rounds of traffic, one tick each.
const ROUNDS: u32 = 20;

/// The last rounds, in which no pin may move any more.
const LATE: u32 = 4;

/// The promises that were broken, by the questions P1 to P6 (`docs/pinning.md`, section 3).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// P1: a pin still moves at the end.
    pub livelock: bool,
    /// P2: the flow left the healthy firewall that had its state.
    pub left_home: bool,
    /// P4, P6: a working firewall has the state, and yet a side gets no packets.
    pub dead: bool,
    /// P4: the two directions take different firewalls.
    pub split: bool,
    /// P3: a new flow does not work.
    pub new_flow: bool,
    /// P3: a flow with the same tuple, over what is left of the sessions, does not work.
    pub same_tuple: bool,
    /// P5: a healthy strict firewall dropped a packet of its flow, or another firewall got it.
    pub wronged: bool,
}

struct Outcome {
    late_moves: u32,
    late_received: [u32; 2],
}

impl Outcome {
    fn is_served(&self) -> bool {
        self.late_received[O] > 0 && self.late_received[I] > 0
    }
}

/// Judges a state.
pub fn settle(settings: &Settings, before: &World, pattern: Pattern) -> Verdict {
    let mut world = before.clone();
    let mut tally = Tally::default();
    for side in [O, I] {
        for firewall in 0..settings.firewalls {
            if world.probes_pass(side, firewall) {
                world.engines[side].up |= 1 << firewall;
            } else {
                world.see_down(side, firewall);
            }
        }
    }
    let works = |firewall: usize| world.engines.iter().all(|engine| engine.is_up(firewall));
    if !(0..settings.firewalls).any(works) {
        return Verdict::default();
    }
    world.drain_flight(settings, &mut tally);
    let was_established = before.ends == [End::Established; 2];
    let is_held = |firewall: usize| world.conntrack[settings.conntrack_of(firewall)] == Conntrack::Established;
    let home = world.home.filter(|&home| !world.hurt && is_held(home));

    let outcome = run(settings, &mut world, pattern, &mut tally);

    let mut verdict = Verdict { livelock: outcome.late_moves > 0, wronged: tally.wronged, ..Verdict::default() };
    let opener_speaks = settings.both_may_open
        || match (settings.opener, pattern) {
            (Opener::Both, _) | (_, Pattern::OuterFirst | Pattern::InnerFirst | Pattern::AtOnce) => true,
            (Opener::Side(opener), Pattern::Only(side)) => opener == side,
        };
    let can_live_on = match settings.kind {
        Kind::Strict => was_established && opener_speaks && !settings.tcp,
        Kind::Loose => was_established && opener_speaks,
        Kind::Synced => was_established && before.conntrack[0] == Conntrack::Established,
    };
    if home.is_some() || can_live_on {
        verdict.dead = !outcome.is_served();
        verdict.split = !world.is_symmetric();
        verdict.left_home = home.is_some() && world.engines.iter().any(|engine| engine.pinned_to() != home);
    }
    verdict.new_flow = !opens(settings, before, &world, pattern, false);
    verdict.same_tuple = !opens(settings, before, &world, pattern, true);
    verdict
}

/// Whether a new connection works afterwards: of another flow, or with the same tuple over what is left of the
/// sessions.
fn opens(settings: &Settings, before: &World, after: &World, pattern: Pattern, same_tuple: bool) -> bool {
    let mut world = before.clone();
    world.now = after.now;
    world.engines = after.engines.clone();
    world.passes = after.passes;
    world.conntrack = after.conntrack;
    world.flight.clear();
    world.ends = [End::Idle; 2];
    world.home = None;
    for state in &mut world.conntrack {
        if !same_tuple || *state != Conntrack::Established {
            *state = Conntrack::None;
        }
    }
    if !same_tuple {
        world.engines[O].pin = None;
        world.engines[I].pin = None;
    }
    let pattern = match (pattern, settings.opener) {
        (Pattern::Only(_), Opener::Side(I)) => Pattern::Only(I),
        (Pattern::Only(_), Opener::Side(_) | Opener::Both) => Pattern::Only(O),
        (Pattern::OuterFirst | Pattern::InnerFirst | Pattern::AtOnce, _) => pattern,
    };
    let outcome = run(settings, &mut world, pattern, &mut Tally::default());
    outcome.is_served() && world.is_symmetric()
}

fn run(settings: &Settings, world: &mut World, pattern: Pattern, tally: &mut Tally) -> Outcome {
    let mut outcome = Outcome { late_moves: 0, late_received: [0; 2] };
    for round in 0..ROUNDS {
        let before = *tally;
        let speak = |world: &mut World, side: usize, tally: &mut Tally| {
            if world.can_send(settings, side) {
                world.emit(settings, side, tally);
            }
        };
        match pattern {
            Pattern::OuterFirst | Pattern::InnerFirst => {
                let first = if pattern == Pattern::OuterFirst { O } else { I };
                for side in [first, 1 - first] {
                    speak(world, side, tally);
                    world.drain_flight(settings, tally);
                }
            }
            Pattern::AtOnce => {
                speak(world, O, tally);
                speak(world, I, tally);
                world.drain_flight(settings, tally);
            }
            Pattern::Only(side) => one_sided_round(settings, world, side, tally),
        }
        world.now += TICK;
        if round + LATE >= ROUNDS {
            outcome.late_moves += tally.moves - before.moves;
            for side in [O, I] {
                outcome.late_received[side] += tally.received[side] - before.received[side];
            }
        }
    }
    outcome
}

/// `side` sends; the other side answers what arrives, and completes the handshake that it is in.
fn one_sided_round(settings: &Settings, world: &mut World, side: usize, tally: &mut Tally) {
    let other = 1 - side;
    let heard = tally.received[other];
    let must_be_opened = world.ends[side] == End::Idle && !world.can_send(settings, side);
    if must_be_opened && world.ends[other] != End::Established && world.can_send(settings, other) {
        world.emit(settings, other, tally);
        world.drain_flight(settings, tally);
    }
    if world.can_send(settings, side) {
        world.emit(settings, side, tally);
    }
    world.drain_flight(settings, tally);
    if tally.received[other] > heard {
        world.emit(settings, other, tally);
        world.drain_flight(settings, tally);
    }
    for unfinished in [End::SynSent, End::SynReceived] {
        if world.ends[other] == unfinished {
            world.emit(settings, other, tally);
            world.drain_flight(settings, tally);
        }
    }
}
