mod other_nodes;
mod starting;

use proptest::prelude::*;

use super::pin::tests::any_pin;
use super::*;
use crate::path::rendezvous;
use crate::path::testing::group;

/// The firewall of the pin, the firewall that packets come from, and a third one.
const PIN: FirewallId = FirewallId(0);
const F: FirewallId = FirewallId(1);
const G: FirewallId = FirewallId(2);

const T: Instant = Instant::from_millis(1_000_000);

fn later(millis: u64) -> Instant {
    T + Duration::from_millis(millis)
}

struct World {
    group: FirewallGroup,
    set: PathSet,
    hash: FlowHash,
    preferred: Option<FirewallId>,
    tcp: bool,
    leader: bool,
}

impl World {
    /// Three firewalls that are all up; the hash prefers them in the order `PIN`, `F`, `G`.
    fn new() -> Self {
        let (group, set) = group(0, ["fw0", "fw1", "fw2"]);
        let in_order = |hash: &FlowHash| rendezvous::rank(&group, *hash).iter().map(|scored| scored.slot).eq([0, 1, 2]);
        let hash = (0..).map(FlowHash).find(in_order).expect("a sixth of all flows");
        Self { group, set, hash, preferred: None, tcp: true, leader: false }
    }

    fn view(&self) -> PinningView<'_> {
        PinningView {
            group: &self.group,
            set_id: PathSetId(0),
            set: &self.set,
            hash: self.hash,
            preferred: self.preferred,
            tcp: self.tcp,
            leader: self.leader,
        }
    }

    fn falls(&mut self, firewall: FirewallId) {
        self.set.up &= !(1 << firewall.0);
        self.set.selectable &= self.set.up;
        self.set.failure_counts[firewall.index()] += 1;
    }

    /// Makes a firewall one that is not up, and was not at any time since the pin was made.
    fn was_never_up(&mut self, firewall: FirewallId) {
        self.set.up &= !(1 << firewall.0);
        self.set.selectable &= self.set.up;
    }

    fn pin(&self, state: PinState) -> Pin {
        Pin::new(&self.view(), PIN, state, PinnedBy::Hash)
    }

    fn near(&self, pin: Option<Pin>, packet: PacketKind, now: Instant) -> (Pin, Option<PinChange>) {
        match decide_near(pin, packet, &self.view(), now) {
            NearDecision::Send { pin, change } => (pin, change),
            other => panic!("expected a firewall, got {other:?}"),
        }
    }

    fn far(&self, pin: Option<Pin>, from: FirewallId, packet: PacketKind, now: Instant) -> (Pin, Option<PinChange>) {
        decide_far(pin, from, packet, &self.view(), now)
    }
}

use PacketKind::{AckOrReset, Other as Data, Syn, SynAck};
use PinChange::{Corrected, Followed, Hashed, Learned, Reselected, Rotated};
use PinState::{Confirmed, Opening, Tentative};

/// The pin after a packet: firewall, state and change.
type Outcome = (FirewallId, PinState, Option<PinChange>);

#[test]
fn the_table_for_packets_from_the_near_side() {
    let new = |state| (PIN, state, Some(Hashed));
    let kept = |state| (PIN, state, None);
    let table: [(Option<PinState>, PacketKind, Outcome); 12] = [
        (None, Syn, new(Opening)),
        (None, SynAck, new(Tentative)),
        (None, Data, new(Tentative)),
        (Some(Opening), Syn, kept(Opening)),
        (Some(Opening), SynAck, kept(Opening)),
        (Some(Opening), Data, kept(Opening)),
        (Some(Tentative), Syn, kept(Opening)),
        (Some(Tentative), SynAck, kept(Tentative)),
        (Some(Tentative), Data, kept(Tentative)),
        (Some(Confirmed), Syn, kept(Confirmed)),
        (Some(Confirmed), SynAck, kept(Confirmed)),
        (Some(Confirmed), Data, kept(Confirmed)),
    ];
    let world = World::new();
    for (state, packet, expected) in table {
        let (pin, change) = world.near(state.map(|state| world.pin(state)), packet, T);
        assert_eq!((pin.firewall, pin.state, change), expected, "{state:?}, near {packet:?}");
        assert_eq!(pin.unanswered_since, Some(Stamp::at(T)), "{state:?}, near {packet:?}");
    }
}

#[test]
fn the_table_for_packets_whose_pin_failed() {
    let reselected = |state| (F, state, Some(Reselected));
    let mut world = World::new();
    let before = [Opening, Tentative, Confirmed].map(|state| world.pin(state));
    world.falls(PIN);
    for pin in before {
        for (packet, expected) in
            [(Syn, reselected(Opening)), (SynAck, reselected(Tentative)), (Data, reselected(Tentative))]
        {
            let (after, change) = world.near(Some(pin), packet, T);
            assert_eq!((after.firewall, after.state, change), expected, "{:?}, near {packet:?}", pin.state);
        }
        let with_syn = Pin { syn_from: G.into(), ..pin };
        let (after, change) = world.near(Some(with_syn), SynAck, T);
        assert_eq!((after.firewall, after.state, change), (G, Confirmed, Some(Followed)), "N1 comes first");
    }
}

#[test]
fn the_table_for_packets_from_a_firewall() {
    let stays = |state| (PIN, state, None);
    let adopts = |state, change| (F, state, Some(change));
    // The columns are: from the pin a SYN, another packet; from F, which is up, a SYN, another packet; from F, which is
    // not up, a SYN, another packet.
    let table: [(Option<PinState>, [Option<Outcome>; 6]); 4] = [
        (
            None,
            [
                None,
                None,
                Some(adopts(Tentative, Learned)),
                Some(adopts(Tentative, Learned)),
                Some(adopts(Tentative, Learned)),
                Some(adopts(Tentative, Learned)),
            ],
        ),
        (
            Some(Opening),
            [
                Some(stays(Confirmed)),
                Some(stays(Confirmed)),
                Some(adopts(Tentative, Corrected)),
                Some(adopts(Confirmed, Corrected)),
                Some(stays(Opening)),
                Some(stays(Opening)),
            ],
        ),
        (
            Some(Tentative),
            [
                Some(stays(Tentative)),
                Some(stays(Confirmed)),
                Some(adopts(Tentative, Corrected)),
                Some(adopts(Confirmed, Corrected)),
                Some(stays(Tentative)),
                Some(stays(Tentative)),
            ],
        ),
        (
            Some(Confirmed),
            [
                Some(stays(Confirmed)),
                Some(stays(Confirmed)),
                Some(stays(Confirmed)),
                Some(stays(Confirmed)),
                Some(stays(Confirmed)),
                Some(stays(Confirmed)),
            ],
        ),
    ];
    for (state, row) in table {
        for (column, expected) in row.into_iter().enumerate() {
            let Some(expected) = expected else { continue };
            let mut world = World::new();
            let pin = state.map(|state| world.pin(state));
            let from = if column < 2 { PIN } else { F };
            if column >= 4 {
                world.falls(F);
            }
            for packet in if column % 2 == 0 { &[Syn][..] } else { &[SynAck, Data] } {
                let (pin, change) = world.far(pin, from, *packet, T);
                assert_eq!((pin.firewall, pin.state, change), expected, "{state:?}, column {column}, {packet:?}");
            }
        }
    }
}

#[test]
fn a_confirmed_pin_that_is_down_adopts_the_firewall_that_a_packet_comes_from() {
    let mut world = World::new();
    let pin = world.pin(Confirmed);
    world.falls(PIN);
    for (packet, state) in [(Syn, Tentative), (SynAck, Confirmed), (Data, Confirmed)] {
        let (pin, change) = world.far(Some(pin), F, packet, T);
        assert_eq!((pin.firewall, pin.state, pin.pinned_by, change), (F, state, PinnedBy::Learned, Some(Followed)));
    }
}

#[test]
fn a_syn_ack_goes_where_its_syn_came_from() {
    let mut world = World::new();
    let (noted, change) = world.far(Some(world.pin(Confirmed)), F, Syn, T);
    assert_eq!((noted.firewall, change), (PIN, None), "a stale SYN moves nothing");

    let (plain, _) = world.near(Some(noted), Data, T);
    assert_eq!(plain.firewall, PIN, "an established host answers a stale SYN with a plain ACK");
    let (followed, change) = world.near(Some(plain), SynAck, T);
    assert_eq!((followed.firewall, followed.state, change), (F, Confirmed, Some(Followed)));

    let (answered, _) = world.far(Some(noted), PIN, Data, T);
    assert_eq!(world.near(Some(answered), SynAck, T).0.firewall, PIN, "the pin spoke since");
    world.falls(F);
    assert_eq!(world.near(Some(noted), SynAck, T).0.firewall, PIN, "it is down");
}

#[test]
fn a_dispute_is_followed_when_it_persists() {
    for (leader, patience) in [(false, 1000), (true, 3000)] {
        let world = World { leader, ..World::new() };
        let (first, _) = world.far(Some(world.pin(Confirmed)), F, Data, T);
        let (second, _) = world.far(Some(first), F, Data, later(patience - 1));
        assert_eq!(second.firewall, PIN);
        let (third, change) = world.far(Some(second), F, Data, later(patience));
        assert_eq!((third.firewall, third.state, change), (F, Confirmed, Some(Followed)), "leader {leader}");

        let (answered, _) = world.far(Some(second), PIN, Data, later(patience - 1));
        let (again, _) = world.far(Some(answered), F, Data, later(patience + 1));
        assert_eq!(again.firewall, PIN, "a packet from the pin ended the dispute");
        let (by_another, _) = world.far(Some(second), G, Data, later(patience));
        assert_eq!(by_another.firewall, PIN, "a third firewall begins another dispute");
    }
}

#[test]
fn one_packet_is_no_dispute_however_old() {
    let world = World::new();
    let (pin, _) = world.far(Some(world.pin(Confirmed)), F, Data, T);
    assert_eq!(pin.firewall, PIN);
    let mut fresh = world.pin(Confirmed);
    (0..300).for_each(|_| fresh.record_dispute(G, T));
    assert_eq!(world.far(Some(fresh), F, Data, later(60_000)).0.firewall, PIN);
}

#[test]
fn a_confirmed_leader_follows_three_times_and_no_more() {
    let world = World { leader: true, ..World::new() };
    let mut pin = world.pin(Confirmed);
    let mut now = T;
    let mut moves = 0;
    for round in 0..20 {
        let from = if pin.firewall == PIN { F } else { PIN };
        for _ in 0..2 {
            let (next, change) = world.far(Some(pin), from, Data, now);
            moves += u32::from(change.is_some());
            pin = next;
            now += LEADER_DELAY;
        }
        assert!(moves <= 3, "round {round}");
    }
    assert_eq!(moves, 3);
}

#[test]
fn an_unanswered_tentative_tcp_pin_tries_every_firewall_twice() {
    let world = World::new();
    let (mut pin, _) = world.near(None, Data, T);
    assert_eq!(world.near(Some(pin), Data, later(999)).0.firewall, PIN, "the answer may still come");
    let mut tried = Vec::new();
    for round in 1..=20 {
        let (next, change) = world.near(Some(pin), Data, later(1000 * round));
        assert_eq!(change, (round <= 6).then_some(Rotated));
        tried.push(next.firewall);
        pin = next;
    }
    assert_eq!(tried[..6], [F, G, PIN, F, G, PIN]);
    let (answered, _) = world.far(Some(pin), pin.firewall, Data, later(30_000));
    assert_eq!((answered.state, answered.is_unanswered()), (Confirmed, false));

    let one_way = World { tcp: false, ..World::new() };
    let (pin, _) = one_way.near(None, Data, T);
    assert_eq!(one_way.near(Some(pin), Data, later(60_000)).0.firewall, PIN, "one-way UDP is not scattered");
}

#[test]
fn with_other_engines_on_its_side_a_pin_stays_where_the_hash_puts_it() {
    let mut world = World::new();
    world.group.has_mates = true;
    let (mut pin, _) = world.near(None, Data, T);
    for round in 1..=20 {
        let (next, change) = world.near(Some(pin), Data, later(1000 * round));
        assert_eq!((next.firewall, change), (PIN, None), "the answers may go by another engine");
        pin = next;
    }
    // Neither does a firewall lose it that takes no new flows.
    world.set.selectable &= !(1 << PIN.0);
    assert_eq!(world.near(Some(pin), Data, later(21_000)).1, None);
    world.set.selectable |= 1 << PIN.0;
    // A pin that is not what the hash says goes on trying, and ends at the one that it is.
    let (learned, _) = world.far(None, F, Syn, T);
    let (asked, _) = world.near(Some(learned), Data, T);
    let (next, change) = world.near(Some(asked), Data, later(1000));
    assert_eq!((next.firewall, change), (G, Some(Rotated)));
    let (next, change) = world.near(Some(next), Data, later(2000));
    assert_eq!((next.firewall, change), (PIN, Some(Rotated)));
    assert_eq!(world.near(Some(next), Data, later(3000)).1, None);
}

#[test]
fn silence_after_a_bare_acknowledgement_says_nothing() {
    // An engine that restarted sees a keep-alive and its acknowledgement, and then nothing until the next request.
    let world = World::new();
    for first in [world.far(None, PIN, AckOrReset, T).0, world.near(None, AckOrReset, T).0] {
        let (acknowledged, _) = world.near(Some(first), AckOrReset, later(1));
        let (asked, change) = world.near(Some(acknowledged), Data, later(5000));
        assert_eq!((asked.firewall, change), (PIN, None), "the firewall that brought the flow keeps it");

        let (waiting, _) = world.near(Some(asked), AckOrReset, later(7000));
        assert_eq!(waiting.firewall, PIN, "an acknowledgement does not rotate");
        let (turned, change) = world.near(Some(waiting), Data, later(7000));
        assert_eq!((turned.firewall, change), (F, Some(Rotated)), "a request without answer does");
    }
}

#[test]
fn a_firewall_that_this_engine_alone_believes_down_is_used_while_it_answers() {
    let mut world = World::new();
    world.was_never_up(F);
    let (pin, _) = world.far(None, F, Syn, T);
    let (pin, change) = world.near(Some(pin), SynAck, later(10));
    assert_eq!((pin.firewall, change), (F, None));
    let (pin, _) = world.far(Some(pin), F, Data, later(20));
    let (pin, _) = world.near(Some(pin), Data, later(5000));
    assert_eq!(pin.firewall, F, "it answered what was asked");
    let (pin, change) = world.near(Some(pin), Data, later(6000));
    assert_eq!((pin.firewall, change), (PIN, Some(Reselected)), "asked T ago");
}

#[test]
fn a_syn_goes_to_a_live_firewall_whatever_on_failure_says() {
    for on_failure in [OnFailure::Reselect, OnFailure::Reset, OnFailure::Keep, OnFailure::Drop] {
        let mut world = World::new();
        world.group.on_failure = on_failure;
        let (pin, _) = world.near(None, Syn, T);
        world.falls(PIN);
        let (pin, change) = world.near(Some(pin), Syn, later(1000));
        assert_eq!((pin.firewall, pin.state, change), (F, Opening, Some(Reselected)), "{on_failure:?}");
    }
}

#[test]
fn on_failure_acts_on_a_fall() {
    let fell = |on_failure, tcp| {
        let mut world = World { tcp, ..World::new() };
        world.group.on_failure = on_failure;
        let pin = world.pin(Confirmed);
        world.falls(PIN);
        decide_near(Some(pin), Data, &world.view(), T)
    };
    let firewall = |near| match near {
        NearDecision::Send { pin, .. } => Some(pin.firewall),
        NearDecision::NoPath | NearDecision::Failed(_) => None,
    };
    assert_eq!(firewall(fell(OnFailure::Reselect, true)), Some(F));
    assert_eq!(firewall(fell(OnFailure::Keep, true)), Some(PIN));
    assert_eq!(firewall(fell(OnFailure::Reset, false)), Some(F), "reset acts on TCP, the rest is reselected");
    assert_eq!(fell(OnFailure::Reset, true), NearDecision::Failed(FailedFlow::Reset));
    assert_eq!(fell(OnFailure::Drop, true), NearDecision::Failed(FailedFlow::Drop));
    assert_eq!(fell(OnFailure::Drop, false), NearDecision::Failed(FailedFlow::Drop));

    let mut world = World::new();
    world.group.on_failure = OnFailure::Drop;
    world.was_never_up(F);
    let (learned, _) = world.far(None, F, Data, T);
    let (asked, _) = world.near(Some(learned), Data, T);
    assert_eq!(firewall(decide_near(Some(asked), Data, &world.view(), later(1000))), Some(PIN), "it never fell");
}

#[test]
fn a_firewall_that_came_back_between_two_packets_keeps_its_flow() {
    let mut world = World::new();
    let pin = world.pin(Confirmed);
    world.falls(PIN);
    world.set.up |= 1;
    assert!(!pin.has_failed(&world.group, &world.set));
    assert_eq!(world.near(Some(pin), Data, T).0.firewall, PIN);
}

#[test]
fn a_firewall_that_left_the_group_has_failed() {
    let world = World::new();
    let pin = Pin { firewall: FirewallId(77), ..world.pin(Confirmed) };
    assert!(pin.has_failed(&world.group, &world.set));
    assert_eq!(world.near(Some(pin), Data, T), {
        let (expected, _) = world.near(None, Data, T);
        (expected, Some(Reselected))
    });
}

#[test]
fn a_preferred_firewall_is_taken_while_it_is_selectable() {
    let mut world = World { preferred: Some(G), ..World::new() };
    assert_eq!(world.near(None, Syn, T).0.firewall, G);
    world.set.selectable = 0b011;
    assert_eq!(world.near(None, Syn, T).0.firewall, PIN, "the group decides");
}

#[test]
fn with_nothing_selectable_new_flows_take_what_is_up() {
    let mut world = World::new();
    world.set.selectable = 0;
    world.set.up = 0b100;
    assert_eq!(world.near(None, Syn, T).0.firewall, G);
}

#[test]
fn too_few_live_firewalls_are_no_path() {
    let mut world = World::new();
    let pin = world.pin(Confirmed);
    world.group.min_up = 3;
    world.falls(G);
    assert_eq!(decide_near(None, Syn, &world.view(), T), NearDecision::NoPath);
    assert_eq!(decide_near(Some(pin), Data, &world.view(), T), NearDecision::NoPath, "existing flows too");
    world.set.starting = 0b100;
    assert_eq!(world.near(Some(pin), Data, T).0.firewall, PIN, "what is starting is not missing");
}

proptest! {
    #[test]
    fn a_steady_packet_is_answered_as_the_rules_say(pin in any_pin(), up in 0..8_u64, from in 0..3_u16, leader: bool, tcp: bool) {
        let mut world = World { leader, tcp, ..World::new() };
        (world.set.up, world.set.selectable) = (up, up);
        for packet in [Syn, SynAck, AckOrReset, Data] {
            if let Some(after) = decide_near_steady(&pin, packet, tcp, &world.group, &world.set, T) {
                let send = NearDecision::Send { pin: after, change: None };
                prop_assert_eq!(decide_near(Some(pin), packet, &world.view(), T), send);
                prop_assert_eq!(after.firewall, pin.firewall);
            }
            if let Some(after) = decide_far_steady(&pin, FirewallId(from), packet) {
                prop_assert_eq!(decide_far(Some(pin), FirewallId(from), packet, &world.view(), T), (after, None));
            }
        }
    }

    #[test]
    fn a_move_has_a_reason_and_a_reason_is_a_move(pin in any_pin(), up in 1..8_u64, from in 0..3_u16, leader: bool, tcp: bool) {
        let mut world = World { leader, tcp, ..World::new() };
        (world.set.up, world.set.selectable) = (up, up);
        for packet in [Syn, SynAck, AckOrReset, Data] {
            let (after, change) = decide_far(Some(pin), FirewallId(from), packet, &world.view(), T);
            prop_assert_eq!(change.is_some(), after.firewall != pin.firewall);
            prop_assert!(after.firewall == pin.firewall || after.firewall == FirewallId(from));
            let NearDecision::Send { pin: after, change } = decide_near(Some(pin), packet, &world.view(), T) else {
                prop_assert!(false, "one is up");
                return Ok(());
            };
            prop_assert!(after.firewall == pin.firewall || change.is_some());
            prop_assert!(after.is_up(&world.group, &world.set) || change.is_none(), "a move goes to a live firewall");
        }
    }
}
