//! What the schedulers promise: exact shares, balanced load, and clients that keep their server.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::*;
use crate::flow::Endpoint;
use crate::id::{ServerId, ServiceId};
use crate::path::{AdminState, OnFailure};
use crate::slb::{ForwardingMode, HashOn, Maglev, RotationMembersByFamily, Services, StickyBy};
use crate::time::Duration;

const STICKY: StickyBy = StickyBy { prefix: 32, prefix6: 128, timeout: Duration::from_secs(600) };
const NOW: Instant = Instant::ZERO;

fn farm(state: &SchedulerState, scheduler: Scheduler, weights: &[u16]) -> Service {
    let servers: Vec<_> = weights
        .iter()
        .enumerate()
        .map(|(position, &weight)| {
            let name = format!("s{}", position + 1);
            Server {
                id: ServerId::from(position),
                state: state.server("web", &name),
                name,
                v4: Some([10, 10, 20, position as u8 + 11].into()),
                v6: None,
                port: Some(8080),
                weight,
                backup: false,
                up: [true; 2],
                is_starting: [false; 2],
                accepts_new_sessions: true,
                admin: AdminState::Ready,
                out_of_service: None,
                failure_counts: [0; 2],
                is_removed: false,
            }
        })
        .collect();
    Service {
        id: ServiceId(0),
        name: "web".to_owned(),
        addresses: vec![[203, 0, 113, 80].into()],
        protocols: vec![6],
        ports: vec![80..=80],
        scheduler,
        mode: ForwardingMode::Nat,
        snat: Vec::new(),
        sticky: None,
        on_failure: OnFailure::Reset,
        accepts_new_sessions: true,
        table: Arc::new(Maglev::new(servers.iter().map(|server| (server.name.as_str(), server.weight)))),
        rotation_members: RotationMembersByFamily::default(),
        servers,
        state: state.service("web"),
    }
}

fn flow(client: u32) -> FlowKey {
    FlowKey {
        protocol: 6,
        source: Endpoint { address: IpAddr::from(client.to_be_bytes()), port: 40_000 },
        destination: Endpoint { address: [203, 0, 113, 80].into(), port: 80 },
    }
}

fn take(service: &Service, client: u32) -> Option<usize> {
    // The states of its servers may have changed since they were last asked for.
    let service = service.clone();
    let server = service.choose_server(&flow(client), NOW)?;
    server.state.opened();
    Some(server.id.index())
}

fn turns(service: &Service, sessions: usize) -> Vec<usize> {
    (0..sessions).map(|client| take(service, client as u32).expect("a server is up")).collect()
}

#[test]
fn round_robin_goes_round_and_weights_interleave() {
    let state = SchedulerState::new(0);
    assert_eq!(turns(&farm(&state, Scheduler::RoundRobin, &[1, 1, 1]), 6), [0, 1, 2, 0, 1, 2]);
    let state = SchedulerState::new(0);
    assert_eq!(turns(&farm(&state, Scheduler::RoundRobin, &[3, 1]), 8), [0, 1, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn shares_are_exact_over_every_cycle_for_any_weights() {
    for weights in [&[3, 1][..], &[1, 2, 3], &[5, 0, 7, 256], &[1; 40]] {
        let service = farm(&SchedulerState::new(0), Scheduler::RoundRobin, weights);
        let cycle: usize = weights.iter().map(|&weight| usize::from(weight)).sum();
        for _ in 0..3 {
            let turns = turns(&service, cycle);
            for (server, &weight) in weights.iter().enumerate() {
                assert_eq!(turns.iter().filter(|&&turn| turn == server).count(), usize::from(weight), "{weights:?}");
            }
        }
    }
}

#[test]
fn positions_survive_a_new_snapshot() {
    let state = SchedulerState::new(0);
    assert_eq!(turns(&farm(&state, Scheduler::RoundRobin, &[1, 1, 1]), 2), [0, 1]);
    assert_eq!(turns(&farm(&state, Scheduler::RoundRobin, &[1, 1, 1]), 2), [2, 0]);
}

#[test]
fn least_connections_levels_active_sessions_by_weight() {
    let service = farm(&SchedulerState::new(0), Scheduler::LeastConnections, &[1, 3]);
    turns(&service, 400);
    let active: Vec<_> = service.servers.iter().map(|server| server.state.active()).collect();
    assert_eq!(active, [100, 300]);

    for _ in 0..50 {
        service.servers[0].state.ended();
    }
    assert!(turns(&service, 40).iter().all(|&server| server == 0), "the one whose sessions ended takes the next");
}

#[test]
fn after_a_start_what_goes_on_finds_the_server_that_it_had_and_what_is_new_one_that_is_up() {
    let on = HashOn { source_address: true, ..HashOn::default() };
    let mut service = farm(&SchedulerState::new(0), Scheduler::Hash(on), &[1, 1, 1, 1]);
    let name = |server: Option<&Server>| server.map(|server| server.name.clone());
    let before: Vec<_> = (0..400).map(|client| name(service.choose_server(&flow(client), NOW))).collect();
    let resumed =
        |service: &Service| (0..400).map(|client| name(service.resume_server(&flow(client), NOW))).collect::<Vec<_>>();
    assert_eq!(resumed(&service), before);

    for server in &mut service.servers {
        (server.up, server.is_starting) = ([false; 2], [true; 2]);
    }
    assert_eq!(resumed(&service), before);
    assert!(service.choose_server(&flow(1), NOW).is_none(), "nobody has answered a check yet");

    (service.servers[2].up, service.servers[2].is_starting) = ([true; 2], [false; 2]);
    assert_eq!(resumed(&service), before);
    assert!((0..400).all(|client| name(service.choose_server(&flow(client), NOW)).as_deref() == Some("s3")));

    service.servers[0].is_starting = [false; 2];
    for (resumed, before) in resumed(&service).iter().zip(&before) {
        assert_eq!(resumed == before, before.as_deref() != Some("s1"), "only those of the dead server move");
    }
}

#[test]
fn hashing_keeps_a_client_on_its_server_and_moves_only_what_must() {
    let on = HashOn { source_address: true, ..HashOn::default() };
    let state = SchedulerState::new(0);
    let mut service = farm(&state, Scheduler::Hash(on), &[1, 1, 1, 1]);
    let before: Vec<_> = (0..1000).map(|client| take(&service, client)).collect();
    assert_eq!(before, (0..1000).map(|client| take(&service, client)).collect::<Vec<_>>());

    service.servers[2].up = [false; 2];

    for (client, before) in (0..1000).zip(before) {
        let after = take(&service, client);
        assert!(if before == Some(2) { after != Some(2) } else { after == before });
    }
}

#[test]
fn servers_down_draining_in_maintenance_or_without_weight_take_nothing_new() {
    let schedulers = [
        Scheduler::RoundRobin,
        Scheduler::LeastConnections,
        Scheduler::Hash(HashOn { source_port: true, ..HashOn::default() }),
    ];
    for scheduler in schedulers {
        let mut service = farm(&SchedulerState::new(0), scheduler, &[1, 1, 1, 0]);
        service.servers[0].up = [false, true];
        service.servers[1].accepts_new_sessions = false;

        assert!(turns(&service, 20).iter().all(|&server| server == 2), "{scheduler:?}");
        service.servers[2].accepts_new_sessions = false;
        assert_eq!(take(&service, 1), None, "{scheduler:?}");
    }
}

#[test]
fn a_backup_serves_only_while_every_other_server_is_down() {
    for scheduler in [Scheduler::RoundRobin, Scheduler::LeastConnections, Scheduler::Hash(HashOn::default())] {
        let mut service = farm(&SchedulerState::new(0), scheduler, &[1, 1, 1]);
        service.servers[2].backup = true;
        assert!(turns(&service, 10).iter().all(|&server| server != 2), "{scheduler:?}");

        service.servers[0].up = [false; 2];
        service.servers[1].accepts_new_sessions = false;
        assert_eq!(take(&service, 1), None, "{scheduler:?}: a draining server is not down");

        service.servers[1].up = [false; 2];
        assert_eq!(take(&service, 1), Some(2), "{scheduler:?}");
    }
}

/// A state of a server, as the controller publishes it.
type Made = fn(&mut Server);

#[test]
fn a_sticky_client_comes_back_to_a_server_that_will_not_be_cut_off_and_leaves_every_other() {
    let table: [(&str, Made, bool); 7] = [
        ("ready", |_| {}, true),
        ("of weight 256", |server| server.weight = 256, true),
        ("of weight 0", |server| server.weight = 0, true),
        ("draining", |server| server.accepts_new_sessions = false, false),
        ("down", |server| server.up = [false; 2], false),
        ("down in this family alone", |server| server.up = [false, true], false),
        ("in maintenance", |server| (server.accepts_new_sessions, server.up) = (false, [false; 2]), false),
    ];
    let schedulers = [
        Scheduler::RoundRobin,
        Scheduler::LeastConnections,
        Scheduler::Hash(HashOn { source_port: true, ..HashOn::default() }),
    ];
    for scheduler in schedulers {
        for (stands, make, keeps) in table {
            let mut service = farm(&SchedulerState::new(10), scheduler, &[1, 1, 1]);
            service.sticky = Some(STICKY);
            let had = take(&service, 7).expect("all are up");
            make(&mut service.servers[had]);
            let foreseen = service.clone().preview_server(&flow(7), NOW).map(|server| server.id.index());

            let next = take(&service, 7).expect("two others are up");

            assert_eq!(next == had, keeps, "{scheduler:?}: the server that it had is {stands}");
            assert_eq!(foreseen, Some(next), "{scheduler:?}: {stands}");
            let as_before = &mut service.servers[had];
            (as_before.weight, as_before.accepts_new_sessions, as_before.up) = (1, true, [true; 2]);
            assert_eq!(take(&service, 7), Some(next), "{scheduler:?}: {stands}; it stays where it went");
        }
    }
}

#[test]
fn a_sticky_client_leaves_the_sorry_server_when_another_is_back_and_has_one_sorry_server_until_then() {
    for scheduler in [Scheduler::RoundRobin, Scheduler::LeastConnections, Scheduler::Hash(HashOn::default())] {
        let mut service = farm(&SchedulerState::new(10), scheduler, &[1, 1, 1, 1]);
        service.sticky = Some(STICKY);
        service.servers[2].backup = true;
        service.servers[3].backup = true;
        assert!(take(&service, 7).is_some_and(|server| server < 2));

        service.servers[0].up = [false; 2];
        service.servers[1].up = [false; 2];
        let sorry = take(&service, 7).expect("the backups are up");
        assert!(sorry >= 2);
        turns(&service, 1);
        assert_eq!(take(&service, 7), Some(sorry), "{scheduler:?}");

        service.servers[1].up = [true; 2];
        assert_eq!([take(&service, 7), take(&service, 7)], [Some(1); 2], "{scheduler:?}");
        // A server that drains gets no sticky clients, but is not down, so that the backups do not serve in its place.
        service.servers[1].accepts_new_sessions = false;
        assert_eq!(take(&service, 7), None, "{scheduler:?}");
        service.servers[1].up = [false; 2];
        assert!(take(&service, 7).is_some_and(|server| server >= 2), "{scheduler:?}");
    }
}

#[test]
fn a_sticky_client_finds_a_server_again_that_was_removed_and_added_under_its_name() {
    let state = SchedulerState::new(10);
    let mut service = farm(&state, Scheduler::RoundRobin, &[1, 1, 1]);
    service.sticky = Some(STICKY);
    let had = take(&service, 7).expect("all are up");
    let (mut gone, other) = (service.clone(), flow(8));
    (gone.servers[had].is_removed, gone.servers[had].up, gone.servers[had].weight) = (true, [false; 2], 0);

    assert_eq!(take(&service, 7), Some(had), "who did not ask meanwhile noticed nothing");
    assert!(gone.preview_server(&other, NOW).is_some_and(|server| server.id.index() != had));
    let next = take(&gone, 7).expect("two are left");
    assert_ne!(next, had);
    assert_eq!(take(&service, 7), Some(next), "it is back; who went elsewhere stays there");
}

#[test]
fn a_full_sticky_room_is_counted_and_clients_are_served_all_the_same() {
    let state = SchedulerState::new(1);
    let mut service = farm(&state, Scheduler::RoundRobin, &[1, 1]);
    service.sticky = Some(STICKY);

    assert_eq!((take(&service, 1), take(&service, 2)), (Some(0), Some(1)));

    assert_eq!(service.state.sticky_full.load(Ordering::Relaxed), 1);
    assert_eq!(state.sticky_used(), 1);
}

#[test]
fn the_most_specific_port_of_a_vip_wins() {
    let state = SchedulerState::new(0);
    let vip: IpAddr = [203, 0, 113, 80].into();
    let service = |id: u16, ports: RangeInclusive<u16>| Service {
        id: ServiceId(id),
        ports: vec![ports],
        ..farm(&state, Scheduler::RoundRobin, &[1])
    };
    let services = Services::new(vec![service(0, 1..=65535), service(1, 8000..=8099), service(2, 8080..=8080)]);
    let owner = |port| services.find(vip, 6, port).map(|service| service.id.0);

    assert_eq!((owner(8080), owner(8081), owner(22)), (Some(2), Some(1), Some(0)));
    assert!(services.find(vip, 17, 80).is_none());
    assert!(services.find([203, 0, 113, 81].into(), 6, 80).is_none());
}
