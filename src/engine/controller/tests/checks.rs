//! Checks of servers: each kind up and down for its own reason, at the times that the configuration says.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::farm::{Behaviour, Farm, OWN, SERVERS_MAC, VIP, address, check, http, mac_of, web};
use crate::config::{ForwardingMode, ServiceCheck, ServiceCheckKind};
use crate::engine::view::EventKind;
use crate::health::service_prober::PORTS;
use crate::time::Duration;
use crate::wire::frame::tcp_flags;

/// When the checks of the only server began, in milliseconds.
fn begins(farm: &Farm) -> Vec<u64> {
    let syns = farm.capture.iter().filter(|seen| seen.flags == Some(tcp_flags::SYN));
    syns.map(|seen| seen.at.as_millis()).collect()
}

#[test]
fn a_tcp_check_opens_a_connection_and_closes_it_by_fin() {
    let mut farm = Farm::new(web(1, check(ServiceCheckKind::Tcp)));
    assert_eq!(farm.up(), [false], "a server is down until its first verdict");

    farm.wait_ms(100);

    assert_eq!(farm.up(), [true]);
    assert_eq!(farm.conversation(farm.last_port()), [">S", "<SA", ">A", ">FA", "<FA", ">A"]);
    assert!(PORTS.contains(&farm.last_port()));
    assert_eq!(farm.view().servers[0].state.name(), "up");
}

#[test]
fn a_half_open_check_never_acknowledges() {
    let mut farm = Farm::new(web(1, check(ServiceCheckKind::HalfOpen)));

    farm.wait_ms(100);

    assert_eq!(farm.up(), [true]);
    assert_eq!(farm.conversation(farm.last_port()), [">S", "<SA", ">R"]);
}

#[test]
fn an_http_check_asks_and_closes() {
    let mut farm = Farm::new(web(1, check(http(Some("OK")))));

    farm.wait_ms(100);

    assert_eq!(farm.up(), [true]);
    let told = farm.conversation(farm.last_port());
    assert_eq!(told[..4], [">S", "<SA", ">A", ">PA"], "{told:?}");
    assert!(told.contains(&">FA".to_owned()) && !told.contains(&">R".to_owned()), "{told:?}");
}

#[test]
fn a_ping_is_a_check() {
    let mut farm = Farm::new(web(1, check(ServiceCheckKind::Icmp)));

    farm.wait_ms(100);
    assert_eq!(farm.up(), [true]);

    farm.behave(0, Behaviour::Silent);
    farm.wait_ms(3_000);
    assert_eq!((farm.up(), farm.failure(0).as_str()), (vec![false], "no answer in 500ms"));
}

#[test]
fn a_server_that_stays_down_is_shown_with_the_reason_of_its_last_failure() {
    let mut farm = Farm::new(web(1, check(ServiceCheckKind::Tcp)));
    farm.behave(0, Behaviour::Refuses);
    farm.wait_ms(3_000);
    assert_eq!(farm.view().servers[0].reason.as_deref(), Some("connection refused"));

    farm.behave(0, Behaviour::Silent);
    farm.wait_ms(3_000);

    assert_eq!(farm.view().servers[0].reason.as_deref(), Some("no SYN-ACK in 500ms"));
}

#[test]
fn every_kind_fails_for_its_own_reason() {
    let page = |text: &str| Behaviour::Answers(text.as_bytes().to_vec());
    let late = Duration::from_millis(600);
    let cases = [
        (ServiceCheckKind::Tcp, Behaviour::Refuses, "connection refused"),
        (ServiceCheckKind::Tcp, Behaviour::Silent, "no SYN-ACK in 500ms"),
        (ServiceCheckKind::HalfOpen, Behaviour::Refuses, "connection refused"),
        (ServiceCheckKind::HalfOpen, Behaviour::Silent, "no SYN-ACK in 500ms"),
        (http(None), Behaviour::Refuses, "connection refused"),
        (http(None), Behaviour::Silent, "no SYN-ACK in 500ms"),
        (http(None), Behaviour::Hangs, "no answer in 500ms"),
        (http(None), Behaviour::Slow(late, b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), "no answer in 500ms"),
        (http(None), Behaviour::Resets, "connection reset"),
        (http(None), Behaviour::Stalls(b"HTTP/1.".to_vec()), "answer not complete in 500ms"),
        (http(None), page("HTTP/1.1 503 No\r\n\r\nOK"), "HTTP 503, expected 200"),
        (http(None), page("220 mail.example.com ESMTP\r\n"), "not an HTTP answer"),
        (http(Some("OK")), page("HTTP/1.1 500 No\r\n\r\nOK"), "HTTP 500, expected 200"),
        (http(Some("OK")), page("HTTP/1.1 200 OK\r\n\r\nfine"), "body lacks \"OK\""),
    ];
    for (kind, behaviour, reason) in cases {
        let mut farm = Farm::new(web(1, check(kind.clone())));
        farm.wait_ms(100);
        assert_eq!(farm.up(), [true], "{kind:?}");

        farm.behave(0, behaviour.clone());
        farm.wait_ms(3_000);
        assert_eq!((farm.up(), farm.failure(0).as_str()), (vec![false], reason), "{kind:?} {behaviour:?}");

        farm.behave(0, page("HTTP/1.1 200 OK\r\n\r\nall's OK"));
        farm.wait_ms(1_500);
        assert_eq!(farm.up(), [true], "{kind:?} {behaviour:?}: back again");
    }
}

#[test]
fn an_old_connection_between_the_same_ports_is_reset_and_the_check_goes_on() {
    for kind in [ServiceCheckKind::Tcp, ServiceCheckKind::HalfOpen, http(Some("OK"))] {
        let mut farm = Farm::new(web(1, check(kind.clone())));
        farm.held = PORTS.map(|port| (port, 77_777)).collect();

        farm.wait_ms(100);

        assert_eq!(farm.up(), [true], "{kind:?}");
        let told = farm.conversation(farm.last_port());
        assert_eq!(told[..5], [">S", "<A", ">R", ">S", "<SA"], "{kind:?}: {told:?}");
        assert_eq!(farm.view().servers[0].checks[0].reason, None, "it was no failure");
    }
}

#[test]
fn a_server_that_never_lets_go_of_it_is_asked_a_few_times() {
    for kind in [ServiceCheckKind::Tcp, ServiceCheckKind::HalfOpen] {
        let mut farm = Farm::new(web(1, check(kind)));
        farm.held = PORTS.map(|port| (port, 77_777)).collect();
        farm.lets_go = false;

        farm.wait_ms(900);

        assert_eq!(begins(&farm).len(), 4);
        assert_eq!((farm.up(), farm.failure(0).as_str()), (vec![false], "no SYN-ACK in 500ms"));
    }
}

#[test]
fn a_port_that_comes_round_has_a_sequence_number_beyond_that_of_before() {
    let often =
        |kind| ServiceCheck { interval: Duration::from_millis(10), timeout: Duration::from_millis(5), ..check(kind) };
    for kind in [ServiceCheckKind::Tcp, ServiceCheckKind::HalfOpen, http(None)] {
        let mut farm = Farm::new(web(1, often(kind)));
        farm.wait_ms(11_000);

        let mut last: BTreeMap<u16, (u64, u32)> = BTreeMap::new();
        let mut rounds = 0;
        for seen in farm.capture.iter().filter(|seen| seen.flags == Some(tcp_flags::SYN)) {
            let (at, sequence) = (seen.at.as_millis(), seen.sequence);
            if let Some((before, old)) = last.insert(seen.ports.0, (at, sequence)) {
                assert_eq!(u64::from(sequence.wrapping_sub(old)), (at - before) * 250);
                rounds += 1;
            }
        }
        assert!(rounds > 500, "{rounds}");
        assert_eq!((farm.up(), farm.controller.counters()["checks_failed"]), (vec![true], 0));
    }
}

/// Many services at one server: every check has another subject and the same port.
fn crowd(services: usize, kind: ServiceCheckKind) -> Farm {
    let mut config = web(services, check(kind));
    for server in &mut config.servers {
        server.addresses = vec![address(0)];
    }
    Farm::new(config)
}

#[test]
fn more_checks_of_one_port_than_there_are_ports_wait_for_each_other() {
    let mut farm = crowd(700, http(None));
    farm.behave(0, Behaviour::Slow(Duration::from_millis(450), b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));
    farm.wait_ms(4_000);
    assert!(farm.up().iter().all(|up| *up));
    assert_eq!(farm.controller.counters()["checks_failed"], 0);

    farm.behave(0, Behaviour::Silent);
    farm.wait_ms(8_000);
    assert!(farm.up().iter().all(|up| !*up));
    for server in [0, 350, 699] {
        assert_eq!(farm.failure(server), "no SYN-ACK in 500ms");
    }
}

#[test]
fn a_server_that_is_slow_but_in_time_is_up() {
    let mut farm = Farm::new(web(1, check(http(None))));
    farm.behave(0, Behaviour::Slow(Duration::from_millis(400), b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));

    farm.wait_ms(3_000);

    assert_eq!(farm.up(), [true]);
}

#[test]
fn a_server_that_is_not_there_is_said_to_be_so() {
    let mut config = web(2, check(ServiceCheckKind::Tcp));
    config.servers[1].addresses = vec!["192.0.2.1".parse().unwrap()];
    let mut farm = Farm::new(config);
    farm.behave(0, Behaviour::Absent);

    // A neighbour that answered once counts as resolved until it has been queried again in vain.
    farm.wait_ms(40_000);

    assert_eq!(farm.failure(0), "10.10.1.1 does not answer ARP or ND");
    assert_eq!(farm.failure(1), "no route to 192.0.2.1");
    assert_eq!(farm.view().state.name(), "down");
}

#[test]
fn failures_are_noticed_at_the_times_that_the_configuration_says() {
    let timed = ServiceCheck {
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        fall: 3,
        rise: 2,
        dead_interval: Duration::from_secs(10),
        ..check(ServiceCheckKind::HalfOpen)
    };
    let mut farm = Farm::new(web(1, timed));
    farm.wait_ms(4_500);
    assert_eq!(begins(&farm), [1_000, 3_000, 5_000], "every interval");
    assert_eq!(farm.up(), [true]);

    farm.behave(0, Behaviour::Silent);
    farm.capture.clear();
    // Checks at 7, 9 and 11 s, the last given up at 12 s.
    farm.wait_ms(6_499);
    assert_eq!((farm.now.as_millis(), farm.up()), (11_999, vec![true]));
    farm.wait_ms(1);
    assert_eq!(farm.up(), [false], "interval x (fall - 1) + timeout after the first that failed");

    farm.wait_ms(20_000);
    assert_eq!(begins(&farm), [7_000, 9_000, 11_000, 21_000, 31_000], "down, it is asked at the dead interval");
    let fell: Vec<_> = farm.events.iter().filter(|event| event.kind == EventKind::Server).collect();
    assert_eq!((fell.len(), fell[1].to.as_deref()), (2, Some("down")));
    assert_eq!(fell[1].reason.as_deref(), Some("no SYN-ACK in 1s"));
}

#[test]
fn a_thousand_checks_are_spread_over_the_interval() {
    let mut farm = Farm::new(web(1_000, check(ServiceCheckKind::HalfOpen)));
    farm.wait_ms(1_000);
    assert!(farm.up().iter().all(|up| *up));
    farm.capture.clear();

    farm.wait_ms(1_000);

    let mut by_slot: BTreeMap<u64, usize> = BTreeMap::new();
    for at in begins(&farm) {
        *by_slot.entry(at / 10).or_default() += 1;
    }
    assert!(by_slot.len() >= 100 && by_slot.values().all(|count| *count <= 11), "{by_slot:?}");
    assert!((999..=1_001).contains(&by_slot.values().sum::<usize>()));
}

#[test]
fn a_direct_check_asks_for_the_vip_at_the_servers_own_station() {
    let mut config = web(2, check(ServiceCheckKind::Tcp));
    config.services[0].mode = ForwardingMode::Direct;
    let mut farm = Farm::new(config);
    farm.behave(1, Behaviour::Refuses);

    farm.wait_ms(3_000);

    assert_eq!(farm.up(), [true, false]);
    let asked = farm.capture.iter().filter(|seen| seen.flags == Some(tcp_flags::SYN));
    for seen in asked.clone() {
        assert_eq!((seen.source, seen.destination), (OWN.into(), VIP.into()));
        assert!([mac_of(address(0)), mac_of(address(1))].contains(&seen.station));
    }
    assert!(asked.count() > 4);
}

#[test]
fn a_tunnelled_check_asks_for_the_vips_inside_packets_to_the_server_of_whatever_family() {
    for address in [address(0), "fd00:20::11".parse().unwrap()] {
        let mut config = web(1, check(http(Some("OK"))));
        config.services[0].mode = ForwardingMode::Tunnel;
        config.servers[0].addresses = vec![address];
        let own = if address.is_ipv4() { OWN.into() } else { "fd00:20::1".parse().unwrap() };
        let mut farm = Farm::new(config);

        farm.wait_ms(3_000);

        let server = &farm.snapshot().services.all()[0].servers[0].clone();
        assert_eq!((server.up, server.v4, server.v6), ([true, true], Some(address), Some(address)));
        assert_eq!(farm.view().servers[0].checks.len(), 2, "one for each family of the VIPs");
        let asked: Vec<_> = farm.capture.iter().filter(|seen| seen.flags == Some(tcp_flags::SYN)).collect();
        for vip in [IpAddr::V4(VIP), "2001:db8:113::80".parse().unwrap()] {
            assert!(asked.iter().any(|seen| seen.destination == vip), "{vip}: {asked:?}");
        }
        assert!(asked.iter().all(|seen| seen.source.is_ipv4() == seen.destination.is_ipv4()));
        assert!(farm.outer.iter().all(|ends| *ends == (own, address)), "{:?}", farm.outer);

        farm.behaviours.insert(address, Behaviour::Refuses);
        farm.wait_ms(3_000);
        assert_eq!((farm.up(), farm.failure(0).as_str()), (vec![false], "connection refused"));
    }
}

#[test]
fn an_operators_check_tells_every_frame() {
    let mut farm = Farm::new(web(1, check(ServiceCheckKind::Tcp)));
    farm.wait_ms(100);
    let id = farm.controller.find_server("web", "s1").unwrap();

    let requests = farm.controller.probe_server(id, farm.now);
    farm.wait_ms(100);

    let (number, exchange) = farm.exchanges.pop().expect("it was answered");
    assert_eq!((requests, exchange.subject.as_str()), (vec![number], "web/s1 ipv4"));
    assert!(exchange.ok && exchange.rtt_us.is_some());
    let steps: Vec<&str> = exchange.steps.iter().map(|step| step.what.split(' ').nth(1).unwrap()).collect();
    assert_eq!(steps, ["SYN", "SYN,", "ACK", "FIN,", "FIN,", "ACK"]);

    farm.behave(0, Behaviour::Refuses);
    farm.controller.probe_server(id, farm.now);
    farm.wait_ms(10);
    assert_eq!(farm.exchanges.pop().unwrap().1.reason.as_deref(), Some("connection refused"));
    assert_eq!(farm.up(), [true], "what an operator asks is no verdict");
}

#[test]
fn what_is_missed_while_the_engine_is_late_does_not_count() {
    let mut farm = Farm::new(web(1, ServiceCheck { fall: 1, ..check(ServiceCheckKind::HalfOpen) }));
    farm.wait_ms(1_500);
    farm.behave(0, Behaviour::Silent);
    farm.wait_ms(600);
    // The check of 3,000 ms is under way; the loop sleeps for ten seconds.
    farm.now += Duration::from_secs(10);
    farm.controller.handle_timeout(farm.now);

    assert_eq!(farm.up(), [true]);
    assert!(farm.controller.counters()["checks_excused"] > 0);

    farm.wait_ms(2_000);
    assert_eq!(farm.up(), [false], "what is missed after that does");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn garbage_is_an_answer_that_fails(bytes in proptest::collection::vec(any::<u8>(), 1..600)) {
        prop_assume!(!bytes.starts_with(b"HTTP/1."));
        let mut farm = Farm::new(web(1, check(http(Some("OK")))));
        farm.behave(0, Behaviour::Answers(bytes));

        farm.wait_ms(2_000);

        prop_assert_eq!(farm.up(), [false]);
        prop_assert_eq!(farm.failure(0), "not an HTTP answer");
    }
}

#[test]
fn frames_of_checks_come_from_the_links_own_station() {
    let mut farm = Farm::new(web(1, check(ServiceCheckKind::Tcp)));
    farm.wait_ms(100);
    let answers = farm.capture.iter().filter(|seen| seen.source == address(0));
    assert!(answers.clone().all(|seen| seen.station == SERVERS_MAC) && answers.count() > 0);
}
