//! What is up: how failures are detected, how paths come back, and what operators request.

use super::sandwich::{INNER, OUTER, Sandwich, engine_v4, firewall_mac};
use crate::id::{DeviceId, FirewallId, PathSetId};
use crate::path::PathSet;
use crate::time::Duration;

pub(super) const SECOND: Duration = Duration::from_secs(1);

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
pub(super) fn every_peer(sandwich: &Sandwich, engine: usize) -> PathSet {
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
        assert_eq!(sandwich.peer(engine).state.name(), "up");
        assert_eq!(sandwich.peer(engine).digest.name(), "same");
        assert!(sandwich.alarms(engine).is_empty(), "{:?}", sandwich.alarms(engine));
    }
    assert_eq!(sandwich.peer(OUTER).peer_engine.as_deref(), Some("inner"));
    let check = &sandwich.firewall(OUTER, 0).checks[0];
    assert_eq!((check.peer.as_str(), check.family.name(), check.rtt_us), ("inner", "ipv4", Some(600)));
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
            assert_eq!((set.up, set.failure_counts.as_slice()), (0b110, &[1, 0, 0][..]));
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
    assert_eq!((set.up, set.failure_counts.as_slice()), (0, &[0, 0][..]));
    assert_eq!(sandwich.peer(OUTER).state.name(), "lost");
    assert_eq!(sandwich.peer(OUTER).reason.as_deref(), Some("the engine's own link to it is down"));
    sandwich.run(2 * SECOND);

    sandwich.set_device(OUTER, true);
    assert_eq!(every_peer(&sandwich, OUTER).up, 0b11, "at once");
    sandwich.run(3 * SECOND);

    for engine in [OUTER, INNER] {
        let set = every_peer(&sandwich, engine);
        assert_eq!((set.up, set.failure_counts.as_slice()), (0b11, &[0, 0][..]));
        assert_eq!(sandwich.peer(engine).state.name(), "up");
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
    assert_eq!((free.reason, free.hold_ms, free.state.name()), (None, None, "up"));
    assert_eq!((every_peer(&sandwich, OUTER).selectable, every_peer(&sandwich, INNER).selectable), (0b11, 0b11));
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
