//! The traces that broke simpler rules (`docs/pinning.md`, section 4), each with what the rules must do instead.

use fwlb::path::pinning::PinState;

use crate::action::Action;
use crate::judge::{PATTERNS, Pattern, Verdict, settle};
use crate::settings::{Kind, Opener, Settings};
use crate::world::{Conntrack, End, I, O, Segment, Tally, World};

/// A world with the helpers of its script.
struct Story {
    settings: Settings,
    world: World,
    tally: Tally,
}

impl Story {
    fn new(settings: Settings) -> Self {
        let mut world = World::new(&settings);
        world.faults_left = u8::MAX;
        Self { settings, world, tally: Tally::default() }
    }

    fn does(&mut self, actions: &[Action]) -> &mut Self {
        for &action in actions {
            assert!(self.world.allows(&self.settings, action), "{action:?} in {:?}", self.world);
            self.world.step(&self.settings, action, &mut self.tally);
        }
        self
    }

    /// Delivers all packets in flight of this kind that `side` sent through `firewall`, through to the other end.
    fn arrives(&mut self, segment: Segment, side: usize, firewall: usize) -> &mut Self {
        let is_it = |packet: &crate::world::Packet| {
            packet.kind == segment && packet.from == side && packet.firewall == firewall
        };
        let place = self.world.flight.iter().position(is_it).expect("the packet is in flight");
        self.world.deliver(&self.settings, place, &mut self.tally);
        self
    }

    /// Delivers everything in flight, answers included.
    fn all_arrives(&mut self) -> &mut Self {
        self.world.drain_flight(&self.settings, &mut self.tally);
        self
    }

    /// A handshake from the opener without faults.
    fn established(&mut self) -> &mut Self {
        let Opener::Side(opener) = self.settings.opener else { panic!("one side opens") };
        self.does(&[Action::Send(opener)]).all_arrives();
        assert_eq!(self.world.ends, [End::Established; 2]);
        self
    }

    fn pins(&self) -> [Option<usize>; 2] {
        [O, I].map(|side| self.world.engines[side].pinned_to())
    }

    /// Asserts that every pattern of traffic works from here on, and new flows, too.
    fn recovers(&self) {
        for pattern in PATTERNS {
            self.recovers_under(pattern);
        }
    }

    fn recovers_under(&self, pattern: Pattern) {
        assert_eq!(settle(&self.settings, &self.world, pattern), Verdict::default(), "{pattern:?}");
    }
}

#[test]
fn a_stale_syn_does_not_steal_the_follower() {
    let mut story = Story::new(Settings::strict(2));
    // The first SYN is delayed; the second takes the other firewall, where the handshake completes.
    story.does(&[Action::Send(O), Action::Alarm(O, 0), Action::Send(O)]).arrives(Segment::Syn, O, 1);
    story.arrives(Segment::SynAck, I, 1).arrives(Segment::Data, O, 1);
    assert_eq!(story.pins(), [Some(1), Some(1)]);

    story.arrives(Segment::Syn, O, 0);

    assert_eq!(story.pins(), [Some(1), Some(1)], "the stale SYN moves nothing");
    story.all_arrives().does(&[Action::SeeUp(O, 0)]).recovers();
    assert_eq!(story.pins(), [Some(1), Some(1)]);
}

#[test]
fn a_simultaneous_open_under_different_seeds_ends_on_one_firewall() {
    for kind in [Kind::Strict, Kind::Loose, Kind::Synced] {
        let settings = Settings { kind, opener: Opener::Both, ..Settings::strict(2) }.ranked(&[0, 1], &[1, 0]);
        let mut story = Story::new(settings);
        story.does(&[Action::Send(O), Action::Send(I)]);
        assert_eq!(story.pins(), [Some(0), Some(1)]);
        story.recovers();
    }
}

#[test]
fn two_engines_that_have_both_learned_do_not_swap_for_ever() {
    for leader in [O, I] {
        let mut story = Story::new(Settings { leader, ..Settings::strict(2) });
        story.does(&[Action::Send(O), Action::Alarm(O, 0), Action::Send(O)]).arrives(Segment::Syn, O, 1);
        story.arrives(Segment::SynAck, I, 1);
        story.does(&[Action::Restart(O)]).all_arrives();
        story.does(&[Action::SeeUp(O, 0), Action::Send(O), Action::Send(I)]);
        story.recovers();
    }
}

#[test]
fn a_restart_does_not_bind_a_flow_to_the_wrong_firewall() {
    let mut story = Story::new(Settings::strict(2));
    story.does(&[Action::Alarm(O, 0)]).established();
    assert_eq!(story.pins(), [Some(1), Some(1)]);
    story.does(&[Action::SeeUp(O, 0), Action::Restart(O), Action::Send(O)]);
    assert_eq!(story.pins()[O], Some(0), "the hash is wrong, the firewall drops");

    story.does(&[Action::Send(I)]).all_arrives();

    assert_eq!(story.pins(), [Some(1), Some(1)], "the first packet from the right firewall corrects it");
    story.recovers();
}

#[test]
fn after_a_restart_the_side_that_alone_speaks_finds_its_firewall_by_rotation() {
    for firewalls in 2..=4 {
        let order: Vec<_> = (0..firewalls).collect();
        let mut inner = order.clone();
        inner.rotate_right(1);
        let settings = Settings { opener: Opener::Side(I), ..Settings::strict(firewalls) }.ranked(&order, &inner);
        let mut story = Story::new(settings);
        story.established().does(&[Action::Restart(O)]);
        story.recovers_under(Pattern::Only(O));
        story.does(&[Action::Restart(I)]).recovers_under(Pattern::Only(O));
    }
}

#[test]
fn a_false_alarm_does_not_take_a_flow_off_for_good() {
    let mut story = Story::new(Settings::strict(2));
    story.established().does(&[Action::Alarm(O, 0), Action::Send(O)]);
    assert_eq!(story.pins()[O], Some(1), "reselected, and dropped by the strict firewall");

    story.does(&[Action::SeeUp(O, 0), Action::Send(I)]).all_arrives();

    assert_eq!(story.pins(), [Some(0), Some(0)], "back with the first packet from the firewall that holds the state");
    story.recovers();
}

#[test]
fn a_firewall_whose_probes_are_blocked_one_way_still_serves_what_opens_through_it() {
    let settings = Settings { opener: Opener::Side(I), ..Settings::strict(2) };
    let mut story = Story::new(settings);
    story.does(&[Action::Block(O, 0), Action::SeeDown(O, 0)]).established();
    assert_eq!(story.pins(), [Some(0), Some(0)], "learned from a firewall that this engine alone believes down");
    story.does(&[Action::Tick, Action::Send(O)]).all_arrives();
    assert_eq!(story.pins(), [Some(0), Some(0)]);
    for pattern in [Pattern::OuterFirst, Pattern::InnerFirst, Pattern::AtOnce, Pattern::Only(I)] {
        story.recovers_under(pattern);
    }
}

#[test]
fn a_dead_firewall_is_not_trusted_for_ever() {
    let settings = Settings { kind: Kind::Synced, ..Settings::strict(2) };
    let mut story = Story::new(settings);
    story.established().does(&[Action::Restart(O), Action::Send(I)]);
    story.does(&[Action::Alarm(O, 0)]).all_arrives();
    assert_eq!(story.pins()[O], Some(0), "learned from a firewall that is down in this view");
    story.does(&[Action::Fail(0, None), Action::Send(O), Action::Tick, Action::SeeDown(I, 0), Action::Send(O)]);
    assert_eq!(story.pins()[O], Some(1), "it did not answer");
    story.recovers();
}

#[test]
fn a_confirmed_leader_follows_what_persists() {
    // A late packet moves the leader to a firewall that lost its state; the other engine does not move.
    let mut story = Story::new(Settings { kind: Kind::Strict, leader: O, ..Settings::strict(2) });
    story.established().does(&[Action::Restart(O)]);
    story.does(&[Action::Alarm(O, 0), Action::Send(O), Action::SeeUp(O, 0)]);
    assert_eq!(story.pins(), [Some(1), Some(0)]);
    story.recovers();
}

#[test]
fn a_late_syn_ack_from_the_old_path_takes_no_synced_flow_off() {
    let mut story = Story::new(Settings { kind: Kind::Synced, ..Settings::strict(2) });
    story.does(&[Action::Send(O)]).arrives(Segment::Syn, O, 0);
    // The SYN-ACK through firewall 0 is delayed; a second one arrives through firewall 1.
    story.does(&[Action::Fail(0, None), Action::SeeDown(O, 0), Action::SeeDown(I, 0), Action::Send(I)]);
    story.arrives(Segment::SynAck, I, 1);
    assert_eq!(story.world.engines[O].pin.map(|pin| pin.state), Some(PinState::Confirmed));
    assert_eq!(story.pins(), [Some(1), Some(1)]);

    story.arrives(Segment::SynAck, I, 0).all_arrives();

    assert_eq!(story.pins(), [Some(1), Some(1)]);
    story.recovers();
}

#[test]
fn rotation_ends_on_a_flow_that_is_dead() {
    let mut story = Story::new(Settings::strict(3));
    story.established().does(&[Action::Restart(O)]);
    // Every firewall has rebooted: no answer will ever come back.
    story.world.conntrack = [Conntrack::None; 4];
    let mut moves = Vec::new();
    for _ in 0..40 {
        let before = story.tally.moves;
        story.does(&[Action::Send(O), Action::Tick]);
        moves.push(story.tally.moves - before);
    }
    assert_eq!(moves.iter().sum::<u32>(), 6, "2N turns");
    assert!(moves[10..].iter().all(|&moves| moves == 0));
    for pattern in PATTERNS {
        let verdict = settle(&story.settings, &story.world, pattern);
        assert!(!verdict.livelock && !verdict.new_flow && !verdict.same_tuple, "{verdict:?}");
    }
}
