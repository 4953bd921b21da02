//! Links without a controller: what they write for the parts above them.

use std::net::IpAddr;

use super::*;
use crate::engine::controller::DeviceState;
use crate::engine::controller::outbox::Notice;
use crate::engine::controller::tests::config;
use crate::id::DeviceId;
use crate::time::Duration;
use crate::wire::MacAddr;
use crate::wire::arp::{self, Arp, Operation};

const TEXT: &str = r#"
[engine]
name = "outer"
[[link]]
name = "clients"
device = "eth0"
addresses = ["198.51.100.1/24"]
[[link]]
name = "firewalls"
device = "eth1"
addresses = ["10.1.0.1/24"]
[[route]]
to = "default"
via = "198.51.100.254"
[[route]]
to = "203.0.113.0/24"
group = "perimeter"
peer = "inner"
[[group]]
name = "perimeter"
seed = "a secret of both"
[[group.peer]]
name = "inner"
addresses = ["10.2.0.1"]
[[group.firewall]]
name = "fw1"
link = "firewalls"
addresses = ["10.1.0.11"]
"#;
const CLIENTS: LinkId = LinkId(0);
const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);
const START: Instant = Instant::from_millis(1_000);

fn links() -> (Links, Outbox) {
    (Links::new(Arc::new(config(TEXT)), RouteTable::default(), 42, START), Outbox::default())
}

fn set(links: &mut Links, up: bool, out: &mut Outbox) {
    let state = DeviceState { mac: OWN, mtu: 1500, up };
    links.handle_device(DeviceId(0), Some(state), START, out);
}

fn notices(out: &mut Outbox) -> Vec<Notice> {
    std::iter::from_fn(|| out.poll_notice()).collect()
}

fn sent(out: &mut Outbox) -> Vec<Transmit> {
    std::iter::from_fn(|| out.poll_transmit()).collect()
}

fn address(last: u8) -> IpAddr {
    [198, 51, 100, last].into()
}

#[test]
fn a_link_that_comes_and_goes_is_told_announced_and_published_at_once() {
    let (mut links, mut out) = links();

    set(&mut links, true, &mut out);
    assert_eq!(notices(&mut out), [Notice::LinkUp(CLIENTS)]);
    assert!(out.wants_snapshot() && out.take_urgency());
    let announced = Arp::parse(&sent(&mut out)[0].bytes).expect("the link announces its address");
    assert_eq!((IpAddr::V4(announced.sender), announced.sender_mac), (address(1), OWN));

    set(&mut links, false, &mut out);
    assert_eq!(notices(&mut out), [Notice::LinkDown(CLIENTS)]);
    let alarms: Vec<_> =
        out.alarms(START).into_iter().map(|alarm| (alarm.kind.name().to_owned(), alarm.subject)).collect();
    assert_eq!(alarms, [("link_down".to_owned(), "clients".to_owned())]);
    links.send(CLIENTS, vec![0; 60], &mut out);
    assert!(sent(&mut out).is_empty(), "a link that is down sends nothing");
}

#[test]
fn the_next_hop_of_a_request_is_told_when_it_answers_and_when_it_does_not() {
    let (mut links, mut out) = links();
    set(&mut links, true, &mut out);
    links.run_neighbor_actions(START, &mut out);
    notices(&mut out);
    sent(&mut out);

    links.send_to((CLIENTS, address(7)), vec![0; 60], Some(70), START);
    links.send_to((CLIENTS, address(8)), vec![0; 60], Some(80), START);
    links.run_neighbor_actions(START, &mut out);
    let asked: Vec<Arp> = sent(&mut out).iter().filter_map(|frame| Arp::parse(&frame.bytes).ok()).collect();
    assert_eq!(asked.iter().map(|arp| IpAddr::V4(arp.target)).collect::<Vec<_>>(), [address(7), address(8)]);
    assert!(asked.iter().all(|arp| arp.operation == Operation::Request));
    assert_eq!(notices(&mut out), []);

    let answer = Punt {
        reason: PuntReason::Neighbor,
        link: CLIENTS,
        vlan: None,
        offload: Offload::NONE,
        bytes: arp::reply(HOST, &asked[0]),
        original: None,
    };
    assert_eq!(links.handle_punt(answer, START, &mut out), None);
    links.run_neighbor_actions(START, &mut out);
    assert_eq!(notices(&mut out), [Notice::NextHopFound { request: 70, mac: HOST }, Notice::NeighborsChanged]);
    assert_eq!(sent(&mut out)[0].bytes[..6], HOST.0, "the frame has left");

    let end = START + Duration::from_secs(4);
    let mut told = Vec::new();
    while let Some(due) = links.poll_timeout().filter(|due| *due <= end) {
        links.handle_timeout(due, &mut out);
        links.run_neighbor_actions(due, &mut out);
        told.extend(notices(&mut out));
    }
    assert!(told.contains(&Notice::NextHopSilent { request: 80 }), "{told:?}");
    assert!(!told.contains(&Notice::NextHopSilent { request: 70 }), "{told:?}");
}
