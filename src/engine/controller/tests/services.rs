//! Servers and services: what operators order, what drains, and how a virtual address answers.

use std::net::Ipv4Addr;

use super::farm::{Behaviour, CLIENTS, CLIENTS_MAC, Farm, VIP, by_source, check, ping_to, syn_to, udp_to, web};
use crate::config::{AdminState, ForwardingMode, ServiceCheckKind};
use crate::engine::controller::{Event, Order, ServerChange};
use crate::engine::verdict::{Punt, PuntReason};
use crate::engine::view::EventKind;
use crate::time::Duration;
use crate::wire::arp::{Arp, Operation};
use crate::wire::frame::{Frame, IcmpClass, tcp_flags};
use crate::wire::offload::Offload;
use crate::wire::{Family, MacAddr, ndp};

const HOST: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);

fn live(servers: usize) -> Farm {
    let mut farm = Farm::new(web(servers, check(ServiceCheckKind::Tcp)));
    farm.wait_ms(1_000);
    farm
}

fn falls(farm: &Farm, server: usize) -> u32 {
    farm.snapshot().services.all()[0].servers[server].failure_counts[0]
}

fn order() -> Order {
    Order { reason: Some("test".to_owned()), by: Some("anna".to_owned()), at: None }
}

fn set(farm: &mut Farm, name: &str, change: ServerChange) {
    farm.controller.set_server("web", name, change, &order(), farm.now).unwrap();
}

#[test]
fn a_server_that_dies_falls_once_and_the_service_goes_with_the_last() {
    let mut farm = live(2);
    assert_eq!((farm.up(), farm.view().state.name()), (vec![true, true], "up"));

    farm.behave(0, Behaviour::Refuses);
    farm.wait_ms(3_000);
    assert_eq!((farm.up(), falls(&farm, 0), falls(&farm, 1)), (vec![false, true], 1, 0));
    assert_eq!(farm.view().state.name(), "up");

    farm.behave(1, Behaviour::Refuses);
    farm.wait_ms(3_000);
    assert_eq!((farm.up(), falls(&farm, 0), farm.view().state.name()), (vec![false, false], 1, "down"));
    let alarms = farm.controller.alarms(farm.now);
    assert_eq!((alarms[0].kind.name(), alarms[0].subject.as_str()), ("service_down", "web"));
}

#[test]
fn maint_ends_a_server_at_once_and_default_brings_it_back() {
    let mut farm = live(2);

    set(&mut farm, "s1", ServerChange::Admin(Some(AdminState::Maint)));
    assert_eq!((farm.up(), falls(&farm, 0)), (vec![false, true], 1));
    let view = farm.view();
    assert_eq!((view.servers[0].state.name(), view.servers[0].override_), ("maint", Some(AdminState::Maint)));
    assert_eq!(view.servers[0].reason.as_deref(), Some("set by anna: \"test\""));

    set(&mut farm, "s1", ServerChange::Admin(None));
    assert_eq!((farm.up(), falls(&farm, 0)), (vec![true, true], 1), "its checks went on");
}

#[test]
fn a_drain_takes_no_new_sessions_and_falls_when_its_time_is_over() {
    let mut config = web(2, check(ServiceCheckKind::Tcp));
    config.services[0].drain_timeout = Some(Duration::from_secs(30));
    let mut farm = Farm::new(config);
    farm.wait_ms(1_000);

    set(&mut farm, "s1", ServerChange::Admin(Some(AdminState::Drain)));
    let snapshot = farm.snapshot();
    let server = &snapshot.services.all()[0].servers[0];
    assert!(server.is_up(Family::V4) && !server.accepts_new_sessions);

    farm.wait_ms(29_999);
    assert_eq!((farm.up(), falls(&farm, 0)), (vec![true, true], 0));
    farm.wait_ms(1);
    assert_eq!((farm.up(), falls(&farm, 0)), (vec![false, true], 1));
    assert_eq!(farm.view().servers[0].reason.as_deref(), Some("set by anna: \"test\"; drain-timeout has passed"));
}

#[test]
fn a_service_in_maintenance_ends_all_its_servers() {
    let mut farm = live(2);

    farm.controller.set_service("web", Some(AdminState::Maint), &order(), farm.now).unwrap();

    assert_eq!((farm.up(), falls(&farm, 0), falls(&farm, 1)), (vec![false, false], 1, 1));
    let view = farm.view();
    assert_eq!(
        (view.state.name(), view.servers[0].reason.as_deref()),
        ("maint", Some("service web set by anna: \"test\""))
    );
    assert!(!farm.snapshot().services.all()[0].accepts_new_sessions);
}

#[test]
fn a_weight_holds_until_default_and_only_it_makes_a_table_anew() {
    let mut config = web(3, check(ServiceCheckKind::Tcp));
    config.services[0].scheduler = by_source();
    let mut farm = Farm::new(config);
    farm.wait_ms(1_000);
    let table = |farm: &Farm| std::sync::Arc::clone(&farm.snapshot().services.all()[0].table);
    let before = table(&farm);

    set(&mut farm, "s1", ServerChange::Admin(Some(AdminState::Maint)));
    assert!(std::sync::Arc::ptr_eq(&before, &table(&farm)), "whoever is down keeps its slots");

    set(&mut farm, "s1", ServerChange::Weight(Some(5)));
    assert_eq!(farm.view().servers[0].weight, 5);
    assert!(!std::sync::Arc::ptr_eq(&before, &table(&farm)));
    let imbalance = farm.view().imbalance.unwrap();
    assert!((1.0..1.05).contains(&imbalance), "{imbalance}");

    set(&mut farm, "s1", ServerChange::Weight(None));
    assert_eq!((farm.view().servers[0].weight, *table(&farm) == *before), (1, true));
}

#[test]
fn default_ends_a_weight_too_and_says_who_set_what_until_then() {
    let mut farm = live(2);
    set(&mut farm, "s1", ServerChange::Weight(Some(7)));
    assert_eq!(farm.view().servers[0].reason.as_deref(), Some("weight 7 set by anna: \"test\""));
    set(&mut farm, "s1", ServerChange::Admin(Some(AdminState::Drain)));
    let view = farm.view();
    let both = "set by anna: \"test\"; weight 7 set by anna: \"test\"";
    assert_eq!((view.servers[0].reason.as_deref(), view.servers[0].orders.len()), (Some(both), 2));

    set(&mut farm, "s1", ServerChange::Admin(None));

    let view = farm.view();
    assert_eq!((view.servers[0].weight, view.servers[0].reason.clone(), view.servers[0].orders.len()), (1, None, 0));
    assert!(farm.controller.overrides().is_empty());
}

#[test]
fn the_last_server_that_takes_new_sessions_is_known() {
    let mut config = web(3, check(ServiceCheckKind::Tcp));
    config.servers[2].backup = true;
    let mut farm = Farm::new(config);
    farm.wait_ms(1_000);
    let words = |farm: &Farm, name: &str, change| {
        let found = farm.controller.consequences_for_server("web", name, change).unwrap();
        found.into_iter().map(|one| (one.description, one.is_grave)).collect::<Vec<_>>()
    };
    let (drain, maint) = (ServerChange::Admin(Some(AdminState::Drain)), ServerChange::Admin(Some(AdminState::Maint)));
    assert_eq!(words(&farm, "s1", maint), []);

    set(&mut farm, "s2", maint);
    let nobody = "no server of service web takes new sessions now".to_owned();
    assert_eq!(words(&farm, "s1", maint), [], "then the backup serves");
    assert_eq!(words(&farm, "s1", drain), [(nobody.clone(), false)], "a draining server is up: the backup waits");
    assert_eq!(words(&farm, "s1", ServerChange::Weight(Some(0))), [(nobody.clone(), false)]);

    farm.behave(2, Behaviour::Refuses);
    farm.wait_ms(10_000);
    assert_eq!(words(&farm, "s1", maint), [(nobody, true)]);
    assert_eq!(words(&farm, "s3", maint), [], "it serves nobody as it is");
}

#[test]
fn overrides_are_restored_as_they_were_told() {
    let mut farm = live(2);
    set(&mut farm, "s1", ServerChange::Weight(Some(0)));
    set(&mut farm, "s2", ServerChange::Admin(Some(AdminState::Drain)));
    farm.controller.set_service("web", Some(AdminState::Ready), &Order::default(), farm.now).unwrap();
    let told = farm.controller.overrides();
    assert_eq!(told.len(), 3);

    let mut other = live(2);
    for set in &told {
        other.controller.restore(set, other.now).unwrap();
    }

    assert_eq!(other.controller.overrides(), told);
    let events = std::iter::from_fn(|| other.controller.poll_event());
    let by: Vec<_> = events
        .filter_map(|event| match event {
            Event::Change(change) if change.kind == EventKind::Admin => change.by,
            _ => None,
        })
        .collect();
    assert_eq!(by.len(), 3);
    assert!(by.iter().all(|by| by.ends_with(", kept over a restart")), "nobody does it now: {by:?}");
    assert!(by.contains(&"anna, kept over a restart".to_owned()), "{by:?}");
    assert_eq!(other.view().servers[0].weight, 0);
}

#[test]
fn unknown_names_say_what_there_is() {
    let mut farm = live(2);
    let change = ServerChange::Weight(None);

    let unknown = |result: Result<(), super::super::UnknownName>| result.unwrap_err().to_string();
    let server = unknown(farm.controller.set_server("web", "s9", change, &Order::default(), farm.now));
    assert_eq!(server, "no server web/s9; there is web/s1, web/s2");
    assert_eq!(
        unknown(farm.controller.set_service("mail", None, &Order::default(), farm.now)),
        "no service mail; there is web"
    );
}

#[test]
fn a_vip_in_the_links_subnet_is_answered_by_arp_and_nd_and_announced() {
    let mut farm = live(1);
    let neighbor = |farm: &mut Farm, bytes| {
        let punt = Punt {
            reason: PuntReason::Neighbor,
            link: CLIENTS,
            vlan: None,
            offload: Offload::NONE,
            bytes,
            original: None,
        };
        farm.controller.handle_punt(punt, farm.now);
        std::iter::from_fn(|| farm.controller.poll_transmit()).last().map(|transmit| transmit.bytes)
    };
    let request = Arp {
        operation: Operation::Request,
        sender_mac: HOST,
        sender: "203.0.113.7".parse().unwrap(),
        target_mac: MacAddr::default(),
        target: VIP,
    };
    let reply = neighbor(&mut farm, request.frame(MacAddr::BROADCAST)).expect("ARP is answered");
    let reply = Arp::parse(&reply).unwrap();
    assert_eq!((reply.operation, reply.sender, reply.sender_mac), (Operation::Reply, VIP, CLIENTS_MAC));

    let vip6 = "2001:db8:113::80".parse().unwrap();
    let question = ndp::solicitation(HOST, "2001:db8:113::7".parse().unwrap(), vip6, None);
    let answer = neighbor(&mut farm, question).expect("ND is answered");
    let advertised = ndp::Ndp::parse(&answer).unwrap();
    assert!(matches!(advertised, ndp::Ndp::Advertisement { target, .. } if target == vip6), "{advertised:?}");

    assert!(farm.announced.contains(&VIP), "a link that comes up tells of it");
    assert!(!farm.snapshot().own_addresses.contains(&VIP.into()));
    assert!(farm.snapshot().service_addresses.contains(&VIP.into()));
}

#[test]
fn an_address_that_stands_for_clients_is_answered_by_arp_and_has_no_open_port() {
    let own = Ipv4Addr::new(203, 0, 113, 240);
    let mut config = web(1, check(ServiceCheckKind::Tcp));
    config.services[0].mode = ForwardingMode::FullNat;
    config.services[0].snat = vec![own.into()];
    let mut farm = Farm::new(config);
    farm.wait_ms(1_000);
    farm.ask(Vec::new());
    let request = Arp {
        operation: Operation::Request,
        sender_mac: HOST,
        sender: "203.0.113.7".parse().unwrap(),
        target_mac: MacAddr::default(),
        target: own,
    };
    let bytes = request.frame(MacAddr::BROADCAST);
    let (reason, offload) = (PuntReason::Neighbor, Offload::NONE);
    let punt = Punt { reason, link: CLIENTS, vlan: None, offload, bytes, original: None };
    farm.controller.handle_punt(punt, farm.now);
    let sent: Vec<_> = std::iter::from_fn(|| farm.controller.poll_transmit()).collect();
    let answers = |sender| sent.iter().any(|sent| Arp::parse(&sent.bytes).is_ok_and(|arp| arp.sender == sender));
    assert!(answers(own));

    assert!(
        farm.snapshot().service_addresses.contains(&own.into()) && !farm.snapshot().own_addresses.contains(&own.into())
    );
    let mut sent = farm.ask(syn_to(own.into(), 40_000));
    let frame = Frame::parse(&mut sent[0].bytes, &Offload::NONE).unwrap();
    assert_eq!((frame.source(), frame.tcp().unwrap().flags), (own.into(), tcp_flags::RST | tcp_flags::ACK));
}

#[test]
fn a_vip_answers_pings_while_a_server_of_it_lives() {
    let mut farm = live(1);
    assert_eq!(farm.ask(ping_to(VIP.into())).len(), 1);

    farm.behave(0, Behaviour::Refuses);
    farm.wait_ms(3_000);
    assert!(farm.ask(ping_to(VIP.into())).is_empty());
}

#[test]
fn a_port_of_a_vip_without_a_service_is_refused_by_the_vip_and_not_for_ever() {
    let mut farm = live(1);

    let mut sent = farm.ask(syn_to(VIP.into(), 81));
    let frame = Frame::parse(&mut sent[0].bytes, &Offload::NONE).unwrap();
    assert_eq!((frame.source(), frame.tcp().unwrap().flags), (VIP.into(), tcp_flags::RST | tcp_flags::ACK));

    let mut sent = farm.ask(udp_to(VIP.into(), 81));
    let frame = Frame::parse(&mut sent[0].bytes, &Offload::NONE).unwrap();
    assert_eq!(frame.source(), std::net::IpAddr::from(VIP));
    assert!(matches!(frame.icmp(), Some(IcmpClass::Error(Some(_)))));

    let resets: usize = (0..5_000).map(|_| farm.ask(syn_to(VIP.into(), 81)).len()).sum();
    assert!((900..1_100).contains(&resets), "{resets}");
}
