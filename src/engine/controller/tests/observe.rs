//! Passive checks: what connections of clients do to a server whose next active check is far away.

use super::farm::{Behaviour, Farm, check, web};
use crate::config::{AdminState, Config, Observe, ServiceCheck, ServiceCheckKind};
use crate::engine::controller::{Order, ServerChange};
use crate::engine::view::EventKind;
use crate::time::Duration;
use crate::wire::Family;

/// `web` with servers that are checked every 30 seconds, and observed.
fn observed(servers: usize) -> Config {
    let seldom = ServiceCheck { interval: Duration::from_secs(30), ..check(ServiceCheckKind::Tcp) };
    let mut config = web(servers, seldom);
    config.services[0].observe = Observe::Layer4;
    config
}

/// A farm with every server up.
fn started(servers: usize) -> Farm {
    let mut farm = Farm::new(observed(servers));
    farm.wait_ms(5_000);
    assert!(farm.up().iter().all(|up| *up));
    farm.events.clear();
    farm
}

/// Lets the server refuse `times` connections of each of these clients.
fn refuse(farm: &Farm, server: usize, clients: u8, times: usize) {
    let snapshot = farm.snapshot();
    let observed = snapshot.services.all()[0].servers[server].state.observed(Family::V4);
    for client in 0..clients {
        for _ in 0..times {
            observed.record_opened([198, 51, 100, client].into(), farm.now);
            observed.record_refused();
        }
    }
}

fn told(farm: &Farm) -> Vec<(String, String)> {
    let states = farm.events.iter().filter(|event| event.kind == EventKind::Server);
    states.map(|event| (event.subject.clone(), event.to.clone().unwrap_or_default())).collect()
}

#[test]
fn a_server_that_refuses_clients_is_out_within_a_second_until_a_check_passes() {
    let mut farm = started(2);
    farm.behave(0, Behaviour::Refuses);
    refuse(&farm, 0, 5, 1);
    farm.wait_ms(200);

    assert_eq!(farm.up(), [false, true]);
    let falls = farm.snapshot().services.all()[0].servers[0].failure_counts;
    assert_eq!(falls, [0, 0], "its sessions are not ended on the word of clients");
    let view = farm.view();
    let reason = "5 connections of clients in a row were refused; it takes no new sessions until a check passes";
    assert_eq!((view.servers[0].state.name(), view.servers[0].reason.as_deref()), ("down", Some(reason)));
    assert_eq!((view.state.name(), view.servers[0].falls), ("up", 1));
    let counters = farm.controller.counters();
    assert_eq!((counters["observe_complaints"], counters["observe_taken_out"]), (1, 1));

    farm.behave(0, Behaviour::Answers(Vec::new()));
    farm.wait_ms(31_000);
    assert_eq!(farm.up(), [true, true]);
    assert_eq!(told(&farm), [("web/s1".to_owned(), "down".to_owned()), ("web/s1".to_owned(), "up".to_owned())]);
}

#[test]
fn a_server_that_passes_its_check_comes_back_at_once_and_is_spared_until_the_next_regular_one() {
    let mut farm = started(2);
    refuse(&farm, 0, 5, 1);
    farm.wait_ms(200);
    assert_eq!(farm.up(), [true, true]);

    for _ in 0..20 {
        refuse(&farm, 0, 5, 1);
        farm.wait_ms(200);
    }

    assert_eq!(farm.controller.counters()["observe_complaints"], 1);
    assert_eq!(told(&farm).len(), 2, "out and back once: {:?}", farm.events);
}

#[test]
fn one_broken_client_takes_no_server_out_and_one_client_of_a_dead_server_has_it_checked() {
    let mut farm = started(2);
    refuse(&farm, 0, 1, 1_000);
    farm.wait_ms(1_000);
    assert_eq!((farm.up(), told(&farm).len()), (vec![true, true], 0), "it passes its check");

    farm.wait_ms(40_000);
    farm.behave(0, Behaviour::Refuses);
    refuse(&farm, 0, 1, 3);
    farm.wait_ms(1_000);
    assert_eq!(farm.up(), [false, true], "the check agrees");
}

#[test]
fn a_server_that_leaves_clients_without_an_answer_is_out_within_a_second() {
    let mut farm = started(2);
    farm.behave(0, Behaviour::Silent);
    let snapshot = farm.snapshot();
    for client in 0..5 {
        snapshot.services.all()[0].servers[0]
            .state
            .observed(Family::V4)
            .record_opened([198, 51, 100, client].into(), farm.now);
    }
    farm.wait_ms(450);
    assert_eq!(farm.up(), [true, true]);
    farm.wait_ms(400);
    assert_eq!(farm.up(), [false, true]);
}

#[test]
fn the_word_of_clients_takes_out_at_most_half_and_never_the_last() {
    for (servers, left) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)] {
        let mut farm = started(servers);
        for server in 0..servers {
            farm.behave(server, Behaviour::Refuses);
            refuse(&farm, server, 9, 1);
        }
        farm.wait_ms(1_000);
        let up = farm.up().into_iter().filter(|up| *up).count();
        assert_eq!(up, left, "of {servers}");
        assert_eq!(farm.view().state.name(), "up");
    }
}

#[test]
fn a_server_that_is_out_is_taken_back_when_the_last_other_one_stops_serving() {
    for is_ordered in [true, false] {
        let mut farm = started(2);
        farm.behave(0, Behaviour::Refuses);
        refuse(&farm, 0, 5, 1);
        farm.wait_ms(500);
        assert_eq!(farm.up(), [false, true]);

        // It is restarted, and then the other server, long before its next regular check.
        farm.behave(0, Behaviour::Answers(Vec::new()));
        farm.wait_ms(1_000);
        assert_eq!(farm.up(), [false, true], "nobody asks it so soon");
        if is_ordered {
            let drain = ServerChange::Admin(Some(AdminState::Drain));
            farm.controller.set_server("web", "s2", drain, &Order::default(), farm.now).unwrap();
            farm.wait_ms(200);
        } else {
            farm.behave(1, Behaviour::Refuses);
            for _ in 0..5 {
                refuse(&farm, 1, 5, 1);
                farm.wait_ms(200);
            }
        }

        assert!(farm.up()[0], "ordered: {is_ordered}");
        assert_eq!(farm.view().state.name(), "up");
    }
}

#[test]
fn without_the_key_connections_of_clients_say_nothing() {
    let mut config = observed(2);
    config.services[0].observe = Observe::Off;
    let mut farm = Farm::new(config);
    farm.wait_ms(5_000);
    refuse(&farm, 0, 9, 9);
    farm.wait_ms(2_000);
    assert_eq!((farm.up(), farm.controller.counters()["observe_complaints"]), (vec![true, true], 0));
}
