//! How servers come up when an engine starts: by their first check, or because they were up just before.

use super::farm::{Behaviour, Farm, SERVERS_MAC, address, check, web};
use crate::config::{Config, ServiceCheck, ServiceCheckKind};
use crate::engine::controller::DeviceState;
use crate::id::DeviceId;
use crate::time::Duration;
use crate::wire::Family;

fn patient(servers: usize) -> Config {
    web(servers, ServiceCheck { rise: 3, fall: 3, ..check(ServiceCheckKind::Tcp) })
}

fn set_link(farm: &mut Farm, up: bool) {
    let state = DeviceState { mac: SERVERS_MAC, mtu: 1500, up };
    farm.controller.handle_device(DeviceId(1), Some(state), farm.now);
}

fn falls(farm: &Farm) -> Vec<u32> {
    farm.snapshot().services.all()[0].servers.iter().map(|server| server.failure_counts[0]).collect()
}

#[test]
fn the_first_check_decides_alone_and_comes_at_once() {
    let mut farm = Farm::new(patient(3));
    farm.behave(1, Behaviour::Refuses);
    let starting = |farm: &Farm| {
        farm.snapshot().services.all()[0].servers.iter().map(|server| server.is_starting[0]).collect::<Vec<_>>()
    };
    assert_eq!(starting(&farm), [true, true, true]);
    assert_eq!(farm.view().servers[0].reason.as_deref(), Some("no verdict yet"));

    farm.wait_ms(10);

    assert_eq!((farm.up(), starting(&farm)), (vec![true, false, true], vec![false; 3]));
    assert_eq!(farm.view().servers[1].reason.as_deref(), Some("connection refused"));
    assert_eq!(falls(&farm), [0, 1, 0], "what was taken to be its ends");

    farm.behave(0, Behaviour::Refuses);
    farm.behave(1, Behaviour::Answers(Vec::new()));
    farm.wait_ms(1_600);
    assert_eq!(farm.up(), [true, false, true], "rise and fall count from then on");
    farm.wait_ms(2_000);
    assert_eq!(farm.up(), [false, true, true]);
}

#[test]
fn thousands_are_asked_within_a_second() {
    let mut farm = Farm::new(web(2_000, ServiceCheck { rise: 3, fall: 3, ..check(ServiceCheckKind::HalfOpen) }));
    // The last publication waits a little for others.
    farm.wait_ms(1_100);
    assert_eq!(farm.up().iter().filter(|up| **up).count(), 2_000);
}

#[test]
fn a_server_that_a_reload_adds_is_asked_at_once_and_the_others_keep_their_verdicts() {
    let mut farm = Farm::new(patient(1));
    farm.wait_ms(2_500);
    farm.behave(1, Behaviour::Answers(Vec::new()));

    farm.controller.apply(patient(2), None, farm.now).unwrap();
    assert_eq!(farm.up(), [true, false]);
    farm.wait_ms(10);

    assert_eq!(farm.up(), [true, true]);
}

#[test]
fn a_link_that_comes_up_later_is_the_reason_until_then_and_its_servers_are_asked_at_once() {
    let mut farm = Farm::new(patient(2));
    set_link(&mut farm, false);
    farm.wait_ms(5_000);
    assert_eq!(farm.up(), [false, false]);
    assert_eq!(farm.view().servers[0].reason.as_deref(), Some("link servers is down"));
    assert_eq!(farm.failure(0), "link servers is down");

    set_link(&mut farm, true);
    farm.wait_ms(10);

    assert_eq!((farm.up(), farm.failure(0).as_str()), (vec![true, true], "link servers is down"));
    assert_eq!(farm.view().servers[0].reason, None);
}

#[test]
fn servers_that_were_up_a_moment_ago_are_up_at_once() {
    let mut before = Farm::new(patient(3));
    before.behave(1, Behaviour::Refuses);
    before.wait_ms(1_000);
    let known = before.controller.persisted_servers();
    let names: Vec<_> = known.iter().map(|known| (known.server.as_str(), known.family.name(), known.port)).collect();
    assert_eq!(names, [("web/s1", "ipv4", 8080), ("web/s3", "ipv4", 8080)]);

    let mut moved = patient(4);
    moved.servers[2].addresses = vec![address(7)];
    let mut farm = Farm::new(moved);
    farm.behave(0, Behaviour::Silent);
    assert_eq!(farm.controller.assume_up(&known, farm.now), 1, "s3 is at another address");
    assert_eq!(farm.up(), [true, false, false, false]);
    let snapshot = farm.snapshot();
    assert!(snapshot.services.all()[0].servers[0].is_up(Family::V4));

    farm.wait(Duration::from_millis(1_600));
    assert_eq!(farm.up(), [true, true, true, true], "one that was up before falls as any");
    assert_eq!(farm.controller.assume_up(&known, farm.now), 0, "checks know better");
    farm.wait_ms(1_500);
    assert_eq!((farm.up(), falls(&farm)), (vec![false, true, true, true], vec![1, 0, 0, 0]));
}

#[test]
fn the_number_of_verdicts_tells_that_what_is_known_has_changed() {
    let mut farm = Farm::new(patient(1));
    farm.wait_ms(500);
    let (verdicts, known) = (farm.controller.persisted_servers_version(), farm.controller.persisted_servers());
    farm.wait_ms(5_000);
    assert_eq!((farm.controller.persisted_servers_version(), farm.controller.persisted_servers()), (verdicts, known));

    farm.behave(0, Behaviour::Refuses);
    farm.wait_ms(5_000);
    assert!(farm.controller.persisted_servers_version() > verdicts && farm.controller.persisted_servers().is_empty());
}
