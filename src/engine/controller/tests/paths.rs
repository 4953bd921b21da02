//! What is up: detection, and everything that must not be taken for a failure.

use super::sandwich::{INNER, OUTER, Sandwich, engine_v4, firewall_mac, text};
use crate::config::Admin;
use crate::engine::controller::Order;
use crate::id::{DeviceId, FirewallId, PathSetId};
use crate::path::PathSet;
use crate::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn started(firewalls: usize) -> Sandwich {
    up(Sandwich::new(firewalls))
}

pub(super) fn up(mut sandwich: Sandwich) -> Sandwich {
    sandwich.run(SECOND);
    for engine in [OUTER, INNER] {
        assert!(sandwich.states(engine).iter().all(|state| state == "up"), "{:?}", sandwich.states(engine));
    }
    sandwich
}

/// The set of every peer over IPv4.
fn every_peer(sandwich: &Sandwich, engine: usize) -> PathSet {
    sandwich.engines[engine].snapshot().path_sets[PathSetId(0).index()].clone()
}

#[test]
fn members_start_down_and_are_up_after_rise_without_hold() {
    let mut sandwich = Sandwich::new(3);
    assert_eq!(sandwich.states(OUTER), ["down", "down", "down"]);
    assert_eq!(every_peer(&sandwich, OUTER).starting, 0b111);

    sandwich.run(Duration::from_millis(700));

    for engine in [OUTER, INNER] {
        assert_eq!(sandwich.states(engine), ["up", "up", "up"]);
        let set = every_peer(&sandwich, engine);
        assert_eq!((set.up, set.selectable, set.starting), (0b111, 0b111, 0));
        assert_eq!(sandwich.peer(engine).state, "up");
        assert_eq!(sandwich.peer(engine).digest, "same");
        assert!(sandwich.alarms(engine).is_empty(), "{:?}", sandwich.alarms(engine));
    }
    assert_eq!(sandwich.peer(OUTER).peer_engine.as_deref(), Some("inner"));
    let check = &sandwich.firewall(OUTER, 0).checks[0];
    assert_eq!((check.peer.as_str(), check.family.as_str(), check.rtt_us), ("inner", "ipv4", Some(600)));
}

#[test]
fn a_dead_firewall_is_out_on_both_sides_within_350_ms_and_the_others_do_not_fall() {
    for offset in 0..25 {
        let mut sandwich = started(3);
        sandwich.run(Duration::from_millis(2 * offset));
        sandwich.kill(0);
        let outer = sandwich.run_until(OUTER, 0, "down", SECOND);
        let inner = outer + sandwich.run_until(INNER, 0, "down", SECOND);
        assert!(inner <= Duration::from_millis(351), "{outer:?} {inner:?}");
        sandwich.run(SECOND);
        for engine in [OUTER, INNER] {
            let set = every_peer(&sandwich, engine);
            assert_eq!((set.up, set.falls.as_slice()), (0b110, &[1, 0, 0][..]));
        }
    }
}

#[test]
fn a_half_dead_firewall_is_out_on_both_sides() {
    for forwards in [[true, false], [false, true]] {
        let mut sandwich = started(2);
        sandwich.firewalls[1].forwards = forwards;
        sandwich.run_until(OUTER, 1, "down", Duration::from_millis(400));
        sandwich.run_until(INNER, 1, "down", Duration::from_millis(100));
        assert_eq!((every_peer(&sandwich, OUTER).up, every_peer(&sandwich, INNER).up), (0b01, 0b01));
        assert!(sandwich.alarms(OUTER).is_empty());
    }
}

#[test]
fn recovery_brings_it_back_and_new_flows_wait_for_hold() {
    let mut sandwich = started(2);
    sandwich.kill(0);
    sandwich.run_until(OUTER, 0, "down", SECOND);
    sandwich.run(SECOND);
    sandwich.heal(0);

    let back = sandwich.run_until(OUTER, 0, "up", 5 * SECOND);

    assert!(back <= Duration::from_millis(1_800), "{back:?}");
    sandwich.run(Duration::from_millis(200));
    assert_eq!((every_peer(&sandwich, OUTER).up, every_peer(&sandwich, OUTER).selectable), (0b11, 0b10));
    sandwich.run(2 * SECOND);
    assert_eq!(every_peer(&sandwich, OUTER).selectable, 0b11);
}

#[test]
fn a_flapping_firewall_is_held_longer_each_time() {
    let mut sandwich = started(2);
    let mut held = Vec::new();
    for _ in 0..4 {
        sandwich.kill(0);
        sandwich.run_until(OUTER, 0, "down", SECOND);
        sandwich.heal(0);
        sandwich.run_until(OUTER, 0, "up", 5 * SECOND);
        let start = sandwich.now;
        while every_peer(&sandwich, OUTER).selectable != 0b11 {
            sandwich.run(Duration::from_millis(50));
        }
        held.push(sandwich.now.since(start).as_secs());
    }
    assert_eq!(held.iter().map(|held| held.next_power_of_two()).collect::<Vec<_>>(), [2, 4, 8, 16], "{held:?}");
}

#[test]
fn a_lost_peer_is_told_from_dead_firewalls_and_the_live_set_is_kept() {
    let mut sandwich = started(3);
    sandwich.cut([false; 2]);
    sandwich.run(2 * SECOND);

    for engine in [OUTER, INNER] {
        assert_eq!(sandwich.peer(engine).state, "lost");
        assert_eq!(sandwich.alarms(engine), ["peer_lost"]);
        let set = every_peer(&sandwich, engine);
        assert_eq!((set.up, set.falls.as_slice()), (0b111, &[0, 0, 0][..]));
    }

    sandwich.cut([true; 2]);
    sandwich.run(3 * SECOND);
    for engine in [OUTER, INNER] {
        assert_eq!(sandwich.peer(engine).state, "up");
        assert!(sandwich.alarms(engine).is_empty());
        assert_eq!(every_peer(&sandwich, engine).falls, [0, 0, 0]);
    }
}

#[test]
fn a_lost_peer_is_lost_again_and_not_down_when_its_firewalls_answer_again() {
    let mut sandwich = started(2);
    sandwich.cut([false; 2]);
    sandwich.run(2 * SECOND);
    (0..2).for_each(|firewall| sandwich.firewalls[firewall].answers = false);
    sandwich.run(3 * SECOND);
    assert_eq!((sandwich.peer(OUTER).state.as_str(), every_peer(&sandwich, OUTER).up), ("down", 0));
    assert!(sandwich.alarms(OUTER).iter().all(|kind| kind == "below_min"), "{:?}", sandwich.alarms(OUTER));

    (0..2).for_each(|firewall| sandwich.firewalls[firewall].answers = true);
    sandwich.run(2 * SECOND);

    let set = every_peer(&sandwich, OUTER);
    assert_eq!((set.up, set.selectable, set.falls.as_slice()), (0b11, 0b11, &[1, 1][..]));
    assert_eq!((sandwich.peer(OUTER).state.as_str(), sandwich.alarms(OUTER)), ("lost", vec!["peer_lost".to_owned()]));
    sandwich.cut([true; 2]);
    sandwich.run(3 * SECOND);
    assert_eq!((sandwich.peer(OUTER).state.as_str(), every_peer(&sandwich, OUTER).up), ("up", 0b11));
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
fn firewalls_that_all_die_are_down_and_below_the_minimum() {
    let mut sandwich = started(2);
    sandwich.kill(0);
    sandwich.kill(1);
    sandwich.run(SECOND);

    assert_eq!(sandwich.states(OUTER), ["down", "down"]);
    assert_eq!(every_peer(&sandwich, OUTER).up, 0);
    // One for each family, and not another pair for the group's only peer.
    assert_eq!(sandwich.alarms(OUTER).iter().filter(|kind| *kind == "below_min").count(), 2);
}

#[test]
fn one_in_a_hundred_frames_lost_each_way_takes_nothing_down_in_ten_minutes() {
    let mut sandwich = started(2);
    sandwich.loss = 10;

    sandwich.run(600 * SECOND);

    assert!(sandwich.counter(OUTER, "probes_missed") > 500);
    for engine in [OUTER, INNER] {
        for set in &sandwich.engines[engine].snapshot().path_sets {
            assert_eq!(set.falls, [0, 0]);
        }
    }
}

#[test]
fn an_engine_that_stops_for_five_seconds_blames_nobody_and_sends_no_burst() {
    let mut sandwich = started(2);
    sandwich.run(Duration::from_millis(33));
    sandwich.stopped_until[OUTER] = sandwich.now + 5 * SECOND;
    sandwich.run(5 * SECOND - Duration::from_millis(1));
    let before = sandwich.counter(OUTER, "probes_sent");

    sandwich.run(Duration::from_millis(20));

    assert!(sandwich.counter(OUTER, "probes_sent") - before <= 4, "one a path");
    sandwich.run(3 * SECOND);
    assert_eq!(every_peer(&sandwich, OUTER).falls, [0, 0]);
    assert!(sandwich.changes(OUTER, "path", "perimeter/fw1 to inner ipv4").len() <= 1, "only its start");
    assert_eq!(sandwich.peer(OUTER).state, "up");
}

/// Runs for a while in which punts are refused all the time.
fn run_with_punt_loss(sandwich: &mut Sandwich, duration: Duration) {
    let end = sandwich.now + duration;
    while sandwich.now < end {
        sandwich.run(Duration::from_millis(20));
        for engine in [OUTER, INNER] {
            let now = sandwich.now;
            sandwich.engines[engine].handle_punt_loss(3, now);
            sandwich.drain(engine);
        }
    }
}

#[test]
fn misses_do_not_count_while_punts_are_refused() {
    let mut sandwich = started(2);
    for _ in 0..20 {
        // Fewer probes in a row than an idle engine excuses.
        sandwich.firewalls[0].forwards = [false; 2];
        run_with_punt_loss(&mut sandwich, Duration::from_millis(240));
        sandwich.firewalls[0].forwards = [true; 2];
        run_with_punt_loss(&mut sandwich, Duration::from_millis(200));
    }
    for engine in [OUTER, INNER] {
        assert_eq!(every_peer(&sandwich, engine).falls, [0, 0]);
        assert!(sandwich.counter(engine, "probes_excused") > 50);
    }
}

#[test]
fn a_dead_firewall_is_found_in_twice_the_time_while_punts_are_refused_for_ever() {
    for is_silent in [false, true] {
        let mut sandwich = started(2);
        run_with_punt_loss(&mut sandwich, SECOND);
        assert_eq!(sandwich.states(OUTER), ["up", "up"]);
        if is_silent {
            sandwich.kill(0)
        } else {
            sandwich.firewalls[0].forwards = [false; 2]
        }
        run_with_punt_loss(&mut sandwich, Duration::from_millis(700));
        assert_eq!(
            (sandwich.states(OUTER), sandwich.states(INNER)),
            (vec!["down".into(), "up".into()], vec!["down".into(), "up".into()])
        );
    }
}

#[test]
fn an_engine_that_stands_still_again_and_again_blames_nobody_and_finds_the_dead() {
    let mut sandwich = started(2);
    for turn in 0..60 {
        if turn == 40 {
            sandwich.kill(0);
        }
        sandwich.stopped_until[OUTER] = sandwich.now + Duration::from_millis(120);
        sandwich.run(Duration::from_millis(200));
        let expected = match turn {
            0..40 => Some([0, 0]),
            44.. => Some([1, 0]),
            _ => None,
        };
        let falls = every_peer(&sandwich, OUTER).falls;
        assert!(expected.is_none_or(|expected| falls == expected), "turn {turn}: {falls:?}");
    }
}

#[test]
fn a_link_that_goes_down_takes_its_paths_down_at_once_and_back_after_rise() {
    let mut sandwich = started(2);
    sandwich.set_device(OUTER, false);
    assert_eq!(sandwich.states(OUTER), ["down", "down"]);
    assert!(!sandwich.engines[OUTER].snapshot().links[0].up);
    assert!(sandwich.alarms(OUTER).contains(&"link_down".to_owned()));

    sandwich.run(SECOND);
    sandwich.set_device(OUTER, true);
    sandwich.run(SECOND);

    assert_eq!(sandwich.states(OUTER), ["up", "up"]);
    assert!(!sandwich.alarms(OUTER).contains(&"link_down".to_owned()));
    let now = sandwich.now;
    sandwich.engines[OUTER].handle_device(DeviceId(0), None, now);
    assert_eq!(sandwich.states(OUTER), ["down", "down"]);
}

#[test]
fn an_engine_that_loses_its_only_link_keeps_every_session_where_it_was() {
    let mut sandwich = started(2);
    sandwich.set_device(OUTER, false);
    let set = every_peer(&sandwich, OUTER);
    assert_eq!((set.up, set.falls.as_slice()), (0, &[0, 0][..]));
    assert_eq!(sandwich.peer(OUTER).state, "lost");
    assert_eq!(sandwich.peer(OUTER).reason.as_deref(), Some("the engine's own link to it is down"));
    sandwich.run(2 * SECOND);

    sandwich.set_device(OUTER, true);
    assert_eq!(every_peer(&sandwich, OUTER).up, 0b11, "at once");
    sandwich.run(3 * SECOND);

    for engine in [OUTER, INNER] {
        let set = every_peer(&sandwich, engine);
        assert_eq!((set.up, set.falls.as_slice()), (0b11, &[0, 0][..]));
        assert_eq!(sandwich.peer(engine).state, "up");
        assert!(sandwich.alarms(engine).is_empty(), "{:?}", sandwich.alarms(engine));
    }
}

#[test]
fn a_firewall_in_its_hold_says_so_and_for_how_long() {
    let mut sandwich = started(2);
    sandwich.kill(0);
    sandwich.run_until(OUTER, 0, "down", SECOND);
    sandwich.heal(0);
    sandwich.run_until(OUTER, 0, "up", 5 * SECOND);
    sandwich.run(Duration::from_millis(100));

    let held = sandwich.firewall(OUTER, 0);
    assert_eq!(held.reason.as_deref(), Some("hold, 2 s left: new sessions go to other firewalls"));
    assert!(!held.new_flows);
    assert!(held.hold_ms.is_some_and(|left| (1..=2000).contains(&left)), "{:?}", held.hold_ms);
    assert_eq!((every_peer(&sandwich, OUTER).selectable, every_peer(&sandwich, INNER).selectable), (0b10, 0b10));

    sandwich.run(4 * SECOND);
    let free = sandwich.firewall(OUTER, 0);
    assert_eq!((free.reason, free.hold_ms, free.state.as_str()), (None, None, "up"));
    assert_eq!((every_peer(&sandwich, OUTER).selectable, every_peer(&sandwich, INNER).selectable), (0b11, 0b11));
}

#[test]
fn drain_and_maint_travel_and_end_on_both_sides() {
    let mut sandwich = started(2);
    let now = sandwich.now;
    let order = Order { reason: Some("new firmware".to_owned()), by: Some("anna".to_owned()), at: None };
    sandwich.engines[OUTER].set_admin(None, "fw2", Some(Admin::Drain), &order, now).unwrap();
    sandwich.run(Duration::from_millis(100));

    for engine in [OUTER, INNER] {
        assert_eq!(sandwich.states(engine), ["up", "drain"]);
        assert_eq!((every_peer(&sandwich, engine).up, every_peer(&sandwich, engine).selectable), (0b11, 0b01));
    }
    assert_eq!(sandwich.firewall(INNER, 1).reason.as_deref(), Some("set at outer by anna: \"new firmware\""));
    assert_eq!(sandwich.firewall(OUTER, 1).override_, Some(Admin::Drain));
    assert_eq!(sandwich.engines[OUTER].overrides()[0].by.as_deref(), Some("anna"));
    assert_eq!(sandwich.changes(OUTER, "admin", "perimeter/fw2"), ["drain"]);

    let now = sandwich.now;
    sandwich.engines[INNER].set_admin(Some("perimeter"), "fw1", Some(Admin::Maint), &Order::default(), now).unwrap();
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
    sandwich.engines[OUTER].set_admin(None, "fw2", Some(Admin::Drain), &Order::default(), now).unwrap();
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
            (sandwich.alarms(engine), sandwich.peer(engine).digest),
            (vec!["digest_differs".into()], "differs".into())
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
            (sandwich.alarms(engine), sandwich.peer(engine).digest),
            (vec!["digest_differs".into()], "differs".into())
        );
        assert_eq!(sandwich.peer(engine).peer_engine, None);
    }
    let now = sandwich.now;
    sandwich.engines[OUTER].set_admin(None, "fw2", Some(Admin::Maint), &Order::default(), now).unwrap();
    sandwich.run(SECOND);
    assert_eq!(sandwich.states(INNER), ["up", "up"]);

    let now_same = text(OUTER, 2, "a secret of another", "", "", "5-tuple");
    sandwich.restart(OUTER, &now_same, 12);
    sandwich.run(SECOND);
    assert!(sandwich.alarms(INNER).is_empty(), "{:?}", sandwich.alarms(INNER));
    assert_eq!(sandwich.peer(INNER).digest, "same");
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
    assert_eq!(every_peer(&sandwich, INNER).falls, [0, 0]);
    assert_eq!((every_peer(&sandwich, OUTER).up, every_peer(&sandwich, INNER).up), (0b11, 0b11));
    assert_eq!(sandwich.counter(INNER, "probes_replayed"), 0);
}

#[test]
fn tcp_and_udp_probes_detect_as_ping_does_and_leave_no_port_open() {
    for check in ["kind = \"tcp\"\nport = 7", "kind = \"udp\"\nport = 7"] {
        let mut sandwich = up(Sandwich::with(2, "", check));
        assert_eq!(sandwich.peer(OUTER).peer_engine.as_deref(), Some("inner"), "the payload arrived ({check})");
        let missed = sandwich.counter(OUTER, "probes_missed");
        sandwich.run(10 * SECOND);
        assert_eq!(sandwich.counter(OUTER, "probes_missed"), missed, "{check}");
        for name in ["icmp_errors_sent", "local_resets_sent", "punt_drop_checksum"] {
            assert_eq!(sandwich.counter(OUTER, name), 0, "{name} ({check})");
        }
        sandwich.kill(0);
        let down = sandwich.run_until(OUTER, 0, "down", SECOND);
        assert!(down <= Duration::from_millis(351), "{down:?}");
    }
}

#[test]
fn without_probes_a_path_is_as_up_as_its_neighbour() {
    let mut sandwich = up(Sandwich::with(2, "", "kind = \"none\""));
    assert_eq!(sandwich.counter(OUTER, "probes_sent"), 0);
    sandwich.kill(0);
    sandwich.run(40 * SECOND);
    assert_eq!(sandwich.states(OUTER), ["down", "up"]);
    sandwich.heal(0);
    sandwich.run(5 * SECOND);
    assert_eq!(sandwich.states(OUTER), ["up", "up"]);
}

#[test]
fn a_dead_ipv6_leg_takes_only_its_own_flows_away() {
    let mut sandwich = started(2);
    // The firewall's IPv6 address moves to a station that forwards nothing.
    let forged =
        crate::wire::ndp::announcement(crate::wire::MacAddr([2, 0, 0, 9, 9, 9]), "fd00:1::11".parse().unwrap());
    sandwich.firewalls[0].answers = false;
    sandwich.deliver(OUTER, forged);
    sandwich.run(SECOND);
    assert_eq!(sandwich.states(OUTER), ["degraded", "up"]);
    let sets = sandwich.engines[OUTER].snapshot().path_sets.clone();
    assert_eq!((sets[0].up, sets[2].up), (0b11, 0b10), "IPv4, IPv6");
}

#[test]
fn an_answer_through_another_firewall_does_not_count() {
    let mut sandwich = started(2);
    sandwich.misdirect(firewall_mac(OUTER, 1));
    sandwich.run(SECOND);
    assert_eq!(sandwich.states(OUTER), ["down", "up"]);
}

#[test]
fn a_command_probes_every_path_now_and_tells_the_exchange() {
    for check in ["", "kind = \"tcp\"\nport = 7", "kind = \"udp\"\nport = 7"] {
        let mut sandwich = up(Sandwich::with(2, "", check));
        let now = sandwich.now;
        let requests = sandwich.engines[OUTER].probe(FirewallId(1), now);
        sandwich.drain(OUTER);
        sandwich.run(Duration::from_millis(10));
        assert_eq!(requests.len(), 2);
        assert_eq!(sandwich.exchanges.iter().map(|(request, _)| *request).collect::<Vec<_>>(), requests);
        for (_, exchange) in &sandwich.exchanges {
            assert!(exchange.ok, "{exchange:?}");
            assert_eq!((exchange.rtt_us, exchange.steps.len()), (Some(600), 2));
        }

        sandwich.exchanges.clear();
        sandwich.firewalls[1].forwards = [false; 2];
        let now = sandwich.now;
        sandwich.engines[OUTER].probe(FirewallId(1), now);
        sandwich.drain(OUTER);
        sandwich.run(2 * SECOND);
        assert_eq!(sandwich.exchanges.len(), 2);
        assert!(sandwich.exchanges.iter().all(|(_, exchange)| !exchange.ok && exchange.reason.is_some()));
    }
}

#[test]
fn a_ping_goes_as_routed_or_as_told() {
    let mut sandwich = started(2);
    let now = sandwich.now;
    let outer = &mut sandwich.engines[OUTER];
    let routed = outer.ping(engine_v4(INNER), None, None, now).unwrap();
    let through = outer.ping("fd00:2::1".parse().unwrap(), None, Some(FirewallId(1)), now).unwrap();
    assert!(outer.ping("192.0.2.1".parse().unwrap(), None, None, now).is_err(), "no route");
    sandwich.drain(OUTER);
    sandwich.run(Duration::from_millis(10));
    let answered: Vec<_> = sandwich.exchanges.iter().map(|(request, exchange)| (*request, exchange.ok)).collect();
    assert_eq!(answered, [(routed, true), (through, true)]);
    assert_eq!(sandwich.exchanges[1].1.subject, "fd00:2::1 through perimeter/fw2");
    let directions: Vec<_> = sandwich.exchanges[1].1.steps.iter().map(|step| step.direction.as_str()).collect();
    assert_eq!(directions, ["sent", "received"]);
    assert_eq!(sandwich.counter(INNER, "pings_answered"), 2);

    sandwich.exchanges.clear();
    let now = sandwich.now;
    sandwich.engines[OUTER].ping("10.1.0.77".parse().unwrap(), None, None, now).unwrap();
    sandwich.drain(OUTER);
    sandwich.run(2 * SECOND);
    let unanswered = &sandwich.exchanges[0].1;
    assert_eq!((unanswered.ok, &unanswered.steps[..]), (false, &[][..]), "a ping without a next hop was never sent");
    assert_eq!(unanswered.reason.as_deref(), Some("the next hop does not answer ARP or ND"));
}
