//! What engines on the two sides advertise to each other, and what an engine concludes when it receives nothing.

use super::paths::{SECOND, every_peer, started, up};
use super::sandwich::{INNER, OUTER, Sandwich, text};
use crate::config::AdminState;
use crate::engine::controller::Order;
use crate::time::Duration;

#[test]
fn a_lost_peer_is_told_from_dead_firewalls_and_the_live_set_is_kept() {
    let mut sandwich = started(3);
    sandwich.cut([false; 2]);
    sandwich.run(2 * SECOND);

    for engine in [OUTER, INNER] {
        assert_eq!(sandwich.peer(engine).state.name(), "lost");
        assert_eq!(sandwich.alarms(engine), ["peer_lost"]);
        let set = every_peer(&sandwich, engine);
        assert_eq!((set.up, set.failure_counts.as_slice()), (0b111, &[0, 0, 0][..]));
    }

    sandwich.cut([true; 2]);
    sandwich.run(3 * SECOND);
    for engine in [OUTER, INNER] {
        assert_eq!(sandwich.peer(engine).state.name(), "up");
        assert!(sandwich.alarms(engine).is_empty());
        assert_eq!(every_peer(&sandwich, engine).failure_counts, [0, 0, 0]);
    }
}

#[test]
fn a_lost_peer_is_lost_again_and_not_down_when_its_firewalls_answer_again() {
    let mut sandwich = started(2);
    sandwich.cut([false; 2]);
    sandwich.run(2 * SECOND);
    (0..2).for_each(|firewall| sandwich.firewalls[firewall].answers = false);
    sandwich.run(3 * SECOND);
    assert_eq!((sandwich.peer(OUTER).state.name(), every_peer(&sandwich, OUTER).up), ("down", 0));
    assert!(sandwich.alarms(OUTER).iter().all(|kind| kind == "below_min"), "{:?}", sandwich.alarms(OUTER));

    (0..2).for_each(|firewall| sandwich.firewalls[firewall].answers = true);
    sandwich.run(2 * SECOND);

    let set = every_peer(&sandwich, OUTER);
    assert_eq!((set.up, set.selectable, set.failure_counts.as_slice()), (0b11, 0b11, &[1, 1][..]));
    assert_eq!((sandwich.peer(OUTER).state.name(), sandwich.alarms(OUTER)), ("lost", vec!["peer_lost".to_owned()]));
    sandwich.cut([true; 2]);
    sandwich.run(3 * SECOND);
    assert_eq!((sandwich.peer(OUTER).state.name(), every_peer(&sandwich, OUTER).up), ("up", 0b11));
    assert!(sandwich.alarms(OUTER).is_empty());
}

#[test]
fn an_engine_without_a_link_does_not_say_that_its_peer_is_lost() {
    let mut sandwich = started(2);
    sandwich.set_device(OUTER, false);
    sandwich.run(2 * SECOND);
    let mut alarms = sandwich.alarms(OUTER);
    alarms.dedup();
    assert_eq!(alarms, ["below_min", "link_down"]);
}

#[test]
fn drain_and_maint_travel_and_end_on_both_sides() {
    let mut sandwich = started(2);
    let now = sandwich.now;
    let order = Order { reason: Some("new firmware".to_owned()), by: Some("anna".to_owned()), at: None };
    sandwich.engines[OUTER].set_admin(None, "fw2", Some(AdminState::Drain), &order, now).unwrap();
    sandwich.run(Duration::from_millis(100));

    for engine in [OUTER, INNER] {
        assert_eq!(sandwich.states(engine), ["up", "drain"]);
        assert_eq!((every_peer(&sandwich, engine).up, every_peer(&sandwich, engine).selectable), (0b11, 0b01));
    }
    assert_eq!(sandwich.firewall(INNER, 1).reason.as_deref(), Some("set at outer by anna: \"new firmware\""));
    assert_eq!(sandwich.firewall(OUTER, 1).override_, Some(AdminState::Drain));
    assert_eq!(sandwich.engines[OUTER].overrides()[0].by.as_deref(), Some("anna"));
    assert_eq!(sandwich.changes(OUTER, "admin", "perimeter/fw2"), ["drain"]);

    let now = sandwich.now;
    sandwich.engines[INNER]
        .set_admin(Some("perimeter"), "fw1", Some(AdminState::Maint), &Order::default(), now)
        .unwrap();
    sandwich.run(Duration::from_millis(100));
    assert_eq!(sandwich.states(OUTER), ["maint", "drain"]);
    assert_eq!(every_peer(&sandwich, OUTER).up, 0b10);

    let now = sandwich.now;
    sandwich.engines[INNER].set_admin(None, "fw1", None, &Order::default(), now).unwrap();
    sandwich.engines[OUTER].set_admin(None, "fw2", None, &Order::default(), now).unwrap();
    sandwich.run(3 * SECOND);
    assert_eq!((sandwich.states(OUTER), sandwich.states(INNER)), (vec!["up".into(); 2], vec!["up".into(); 2]));
    assert!(sandwich.engines[OUTER].overrides().is_empty());

    let now = sandwich.now;
    let unknown = sandwich.engines[OUTER].set_admin(None, "fw9", None, &Order::default(), now).unwrap_err();
    assert_eq!(unknown.to_string(), "no firewall fw9; there is perimeter/fw1, perimeter/fw2");
}

#[test]
fn a_drain_deadline_takes_the_firewall_out() {
    let mut sandwich = up(Sandwich::with(2, "drain-timeout = \"3s\"", ""));
    let now = sandwich.now;
    sandwich.engines[OUTER].set_admin(None, "fw2", Some(AdminState::Drain), &Order::default(), now).unwrap();
    sandwich.run(2 * SECOND);
    assert_eq!((every_peer(&sandwich, OUTER).up, every_peer(&sandwich, INNER).up), (0b11, 0b11));
    sandwich.run(2 * SECOND);
    assert_eq!((every_peer(&sandwich, OUTER).up, every_peer(&sandwich, INNER).up), (0b01, 0b01));
}

#[test]
fn other_weights_are_told_by_the_digest_and_take_nothing_down() {
    let outer = text(OUTER, 2, "a secret of both", "", "", "5-tuple");
    let inner = text(INNER, 2, "a secret of both", "", "", "5-tuple") + "weight = 3";
    let sandwich = up(Sandwich::of([outer, inner], 2));
    for engine in [OUTER, INNER] {
        assert_eq!(
            (sandwich.alarms(engine), sandwich.peer(engine).digest.name()),
            (vec!["digest_differs".into()], "differs")
        );
    }
}

#[test]
fn another_seed_is_told_within_a_second_and_takes_nothing_down_and_is_not_believed() {
    let outer = text(OUTER, 2, "a secret of one", "", "", "5-tuple");
    let inner = text(INNER, 2, "a secret of another", "", "", "5-tuple");
    let mut sandwich = up(Sandwich::of([outer, inner.clone()], 2));
    for engine in [OUTER, INNER] {
        assert_eq!(
            (sandwich.alarms(engine), sandwich.peer(engine).digest.name()),
            (vec!["digest_differs".into()], "differs")
        );
        assert_eq!(sandwich.peer(engine).peer_engine, None);
    }
    let now = sandwich.now;
    sandwich.engines[OUTER].set_admin(None, "fw2", Some(AdminState::Maint), &Order::default(), now).unwrap();
    sandwich.run(SECOND);
    assert_eq!(sandwich.states(INNER), ["up", "up"]);

    let now_same = text(OUTER, 2, "a secret of another", "", "", "5-tuple");
    sandwich.restart(OUTER, &now_same, 12);
    sandwich.run(SECOND);
    assert!(sandwich.alarms(INNER).is_empty(), "{:?}", sandwich.alarms(INNER));
    assert_eq!(sandwich.peer(INNER).digest.name(), "same");
}

#[test]
fn source_on_one_side_meets_destination_on_the_other() {
    let outer = text(OUTER, 2, "a secret of both", "", "", "source");
    let inner = text(INNER, 2, "a secret of both", "", "", "destination");
    assert!(up(Sandwich::of([outer, inner], 2)).alarms(OUTER).is_empty());
}

#[test]
fn a_restarted_engine_takes_nothing_down_at_its_peer() {
    let mut sandwich = started(2);
    let same = text(OUTER, 2, "a secret of both", "", "", "5-tuple");
    sandwich.restart(OUTER, &same, 12);
    sandwich.run(3 * SECOND);
    assert_eq!(every_peer(&sandwich, INNER).failure_counts, [0, 0]);
    assert_eq!((every_peer(&sandwich, OUTER).up, every_peer(&sandwich, INNER).up), (0b11, 0b11));
    assert_eq!(sandwich.counter(INNER, "probes_replayed"), 0);
}
