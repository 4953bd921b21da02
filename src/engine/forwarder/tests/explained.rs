//! `explain` says what the packets do: on both engines, before and after them, for flows of all kinds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::bench::{ArrivesAt, ForwarderBench, FrameResult};
use super::packets::{self, Frame, ack, echo, ip, syn, syn_ack, udp};
use super::services::{Web, farms};
use crate::engine::Verdict;
use crate::engine::explain::explain;
use crate::engine::testbed::Side;
use crate::engine::view::{ExplainView, ObjectKind, SessionAfterFailure};
use crate::flow::{FlowKey, text};
use crate::path::OnFailure;
use crate::time::Duration;
use crate::wire::MacAddr;
use crate::wire::offload::Offload;

/// A flow with its packets in both directions.
struct Talk {
    flow: FlowKey,
    request: Frame,
    reply: Box<dyn Fn(&FlowKey) -> Frame>,
}

/// Pseudo-random numbers that are the same in every run (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn end(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// A flow by its number; no two are equal.
fn talk(index: u16, dice: &mut Dice) -> Talk {
    let is_v4 = dice.roll(2) == 0;
    let (client, server) = (2 + index % 253, 20 + index / 253 + 10 * dice.roll(8) as u16);
    let [client, server] = if is_v4 {
        [Ipv4Addr::new(198, 51, 100, client as u8), Ipv4Addr::new(203, 0, 113, server as u8)].map(IpAddr::V4)
    } else {
        [[0x2001, 0xdb8, 1, 0, 0, 0, 0, client], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, server]]
            .map(|words| IpAddr::V6(Ipv6Addr::from(words)))
    };
    let source = end(client, 1024 + index);
    let port = 1 + dice.roll(60_000) as u16;
    let farm = farms()[usize::from(!is_v4)];
    // Half of the flows with ports go to the service.
    let destination = if dice.roll(2) == 0 { farm.vip } else { end(server, port) };
    let ends = |flow: &FlowKey| {
        (end(flow.source.address, flow.source.port), end(flow.destination.address, flow.destination.port))
    };
    let read = |text: String| text::parse(&text).unwrap();
    match dice.roll(4) {
        0 => Talk {
            flow: read(format!("tcp {source} {destination}")),
            request: syn(source, destination),
            reply: Box::new(move |flow| syn_ack(ends(flow).0, ends(flow).1)),
        },
        1 => Talk {
            flow: read(format!("udp {source} {destination}")),
            request: udp(source, destination, 100),
            reply: Box::new(move |flow| udp(ends(flow).0, ends(flow).1, 200)),
        },
        2 => Talk {
            flow: read(format!("icmp {client} {server} {index}")),
            request: echo(client, server, false, index),
            reply: Box::new(move |flow| echo(flow.source.address, flow.destination.address, true, index)),
        },
        _ => Talk {
            flow: read(format!("esp {client} {server}")),
            request: ip(client, server, 50, &[7; 64]),
            reply: Box::new(|flow| ip(flow.source.address, flow.destination.address, 50, &[9; 64])),
        },
    }
}

fn ask(lab: &ForwarderBench, flow: &FlowKey) -> ExplainView {
    explain("engine", &lab.snapshot, &lab.table, flow, None, lab.now)
}

fn flow_of(bytes: &[u8]) -> FlowKey {
    let mut bytes = bytes.to_vec();
    crate::wire::frame::Frame::parse(&mut bytes, &Offload::NONE).expect("was forwarded").tuple().into()
}

/// Asserts that the packet left as `explain` said: link, next hop, addresses and ports.
#[track_caller]
fn assert_did(lab: &ForwarderBench, told: &ExplainView, did: &FrameResult) {
    let (Verdict::Forward(link) | Verdict::Hairpin(link)) = did.verdict else { panic!("{did:?}, told {told:#?}") };
    let egress = told.egress.as_ref().unwrap_or_else(|| panic!("{told:#?}"));
    assert_eq!(told.drop, None);
    assert_eq!(egress.link, lab.snapshot.links[link.index()].name);
    let station = MacAddr(did.bytes[..6].try_into().unwrap());
    assert_eq!(egress.mac, Some(station.to_string()), "{told:#?}");
    let leaves_as = told.translation.as_ref().unwrap_or(&told.flow);
    assert_eq!(*leaves_as, text::format(&flow_of(&did.bytes)), "{told:#?}");
}

#[test]
fn a_thousand_flows_do_what_was_explained_on_both_engines_before_and_after() {
    let mut dice = Dice(20_260_917);
    let mut outer = ForwarderBench::with(Side::Outer, 3, 1, 2048);
    let mut inner = Web::new(&[3, 2, 1]);
    let mut taken = [0; 3];
    let mut served = 0;
    for index in 0..1000 {
        let Talk { flow, request, reply } = talk(index, &mut dice);

        let told = ask(&outer, &flow);
        assert_eq!((told.decided_by.name(), told.session.is_none()), ("hash", true), "{told:#?}");
        let did = outer.deliver(ArrivesAt::Near, request.clone());
        assert_did(&outer, &told, &did);
        let firewall = outer.firewall_of(&did).unwrap();
        taken[usize::from(firewall)] += 1;
        let name = Some(format!("fw{}", firewall + 1));
        let place = format!("perimeter/fw{}", firewall + 1);
        assert_eq!(told.firewall, name);
        let again = ask(&outer, &flow);
        assert_eq!((&again.firewall, &again.egress, again.decided_by.name()), (&name, &told.egress, "session"));

        // The peer engine expects the packet from the same firewall, although no message said so.
        let told = ask(&inner.lab, &flow);
        assert_eq!((&told.from, &told.firewall), (&place, &name), "{told:#?}");
        let did = inner.lab.deliver(ArrivesAt::Firewall(firewall), request);
        assert_did(&inner.lab, &told, &did);
        served += u32::from(told.server.is_some());
        let again = ask(&inner.lab, &flow);
        assert_eq!(again.decided_by.name(), "session");
        assert_eq!((again.server, again.translation, again.egress), (told.server, told.translation, told.egress));

        // The way back: from the server, then from the firewall.
        let seen = flow_of(&did.bytes).reversed();
        let told = ask(&inner.lab, &seen);
        let did = inner.lab.deliver(ArrivesAt::Near, reply(&seen));
        assert_did(&inner.lab, &told, &did);
        assert_eq!(
            (told.decided_by.name(), &told.firewall, inner.lab.firewall_of(&did)),
            ("session", &name, Some(firewall))
        );
        let back = flow_of(&did.bytes);
        assert_eq!(back, flow.reversed());
        let told = ask(&outer, &back);
        assert_eq!((&told.from, told.decided_by.name()), (&place, "session"));
        let did = outer.deliver(ArrivesAt::Firewall(firewall), reply(&back));
        assert_did(&outer, &told, &did);
    }
    assert!(taken.iter().all(|flows| *flows > 250), "{taken:?}");
    assert!(served > 200, "{served}");
}

#[test]
fn what_would_happen_if_the_firewall_died_is_what_happens_when_it_dies() {
    let mut dice = Dice(1);
    for index in 0..100 {
        let Talk { flow, request, .. } = talk(index, &mut dice);
        let mut lab = ForwarderBench::outer(3);
        let before = ask(&lab, &flow);
        let [foreseen] = before.what_if.as_slice() else { panic!("{before:#?}") };
        assert_eq!((foreseen.kind.name(), &foreseen.session), ("firewall", &None));
        let firewall = lab.send(request.clone());
        assert_eq!(foreseen.name, format!("perimeter/fw{}", firewall + 1));

        let live = ask(&lab, &flow).what_if.remove(0);
        lab.set_up(firewall, false);
        let next = lab.send(request.clone());

        let next = Some(format!("fw{}", next + 1));
        assert_eq!((live.session, live.on_failure.name()), (Some(SessionAfterFailure::Moves.into()), "reselect"));
        assert_eq!((&live.firewall, &foreseen.firewall), (&next, &next));
    }
    let mut lab = ForwarderBench::outer(1);
    let flow = text::parse("udp 198.51.100.7:1 203.0.113.80:2").unwrap();
    assert_eq!(ask(&lab, &flow).what_if[0].drop.as_deref(), Some("drop_no_path_up"));
    lab.set_up(0, false);
    assert_eq!(ask(&lab, &flow).what_if, [], "nothing is chosen that could die");
}

#[test]
fn what_on_failure_does_to_a_session_is_foreseen() {
    let [client, server] = ["198.51.100.7:40000", "203.0.113.80:80"].map(|end| end.parse().unwrap());
    let flow = text::parse(&format!("tcp {client} {server}")).unwrap();
    for (on_failure, session) in [
        (OnFailure::Reselect, "moves"),
        (OnFailure::Keep, "stays"),
        (OnFailure::Drop, "dropped"),
        (OnFailure::Reset, "reset"),
    ] {
        let mut lab = ForwarderBench::outer(3);
        lab.snapshot.groups[0].on_failure = on_failure;
        let firewall = lab.send(syn(client, server));
        lab.deliver(ArrivesAt::Firewall(firewall), syn_ack(server, client));
        lab.send(ack(client, server));

        let foreseen = ask(&lab, &flow).what_if.remove(0);
        lab.set_up(firewall, false);
        let did = lab.deliver(ArrivesAt::Near, ack(client, server));

        assert_eq!(
            (foreseen.session.as_ref().map(|session| session.name()), foreseen.on_failure.name()),
            (Some(session), on_failure.name())
        );
        let taken = lab.firewall_of(&did).map(|number| format!("fw{}", number + 1));
        match on_failure {
            OnFailure::Reselect | OnFailure::Keep => assert_eq!(foreseen.firewall, taken),
            OnFailure::Drop => assert_eq!(taken, None),
            OnFailure::Reset => assert_eq!(lab.transmits().len(), 1, "the end on this side is told"),
        }
    }
}

/// The engine behind the firewalls forwards what comes from another one, but its side of the connection is reset.
#[test]
fn a_session_that_came_through_the_firewall_that_dies_is_foreseen_to_be_reset() {
    for farm in farms() {
        let mut web = Web::new(&[1, 1]);
        web.lab.snapshot.groups[0].on_failure = OnFailure::Reset;
        let flow = text::parse(&format!("tcp {} {}", farm.client, farm.vip)).unwrap();
        web.lab.deliver(ArrivesAt::Firewall(0), syn(farm.client, farm.vip));
        web.reply(syn_ack(farm.server, farm.client));
        web.lab.deliver(ArrivesAt::Firewall(0), ack(farm.client, farm.vip));

        let foreseen = ask(&web.lab, &flow).what_if;
        let of_firewall = foreseen.iter().find(|one| one.kind == ObjectKind::Firewall).unwrap();
        assert_eq!(of_firewall.session, Some(SessionAfterFailure::Reset.into()), "{of_firewall:?}");
        web.lab.transmits();
        web.lab.set_up(0, false);
        web.lab.wait(Duration::from_millis(10));
        assert_eq!(web.lab.transmits().len(), 1, "the server is told");
    }
}

#[test]
fn what_would_happen_if_the_server_died_is_what_happens_when_it_dies() {
    for farm in farms() {
        let mut web = Web::new(&[1, 1]);
        let [tcp, udp_flow] =
            ["tcp", "udp"].map(|protocol| text::parse(&format!("{protocol} {} {}", farm.client, farm.vip)).unwrap());
        web.lab.deliver(ArrivesAt::Firewall(0), syn(farm.client, farm.vip));
        web.lab.deliver(ArrivesAt::Firewall(0), udp(farm.client, farm.vip, 10));
        let of = |web: &Web, flow| {
            ask(&web.lab, flow).what_if.into_iter().find(|one| one.kind == ObjectKind::Server).unwrap()
        };
        assert_eq!(of(&web, &tcp).session, Some(SessionAfterFailure::Moves.into()), "its client repeats the SYN");
        web.reply(syn_ack(farm.server, farm.client));
        web.lab.deliver(ArrivesAt::Firewall(0), ack(farm.client, farm.vip));
        let (reset, moved) = (of(&web, &tcp), of(&web, &udp_flow));
        assert_eq!(
            (reset.name.as_str(), reset.session.as_ref().map(|session| session.name())),
            ("web/s1", Some("reset"))
        );
        assert_eq!(
            (moved.name.as_str(), moved.session.as_ref().map(|session| session.name())),
            ("web/s2", Some("moves"))
        );
        assert_eq!((reset.server.as_deref(), moved.server.as_deref()), (Some("s2"), Some("s1")));

        web.fell(1);
        let did = web.lab.deliver(ArrivesAt::Firewall(0), udp(farm.client, farm.vip, 10));
        assert_eq!(packets::read(&did.bytes).destination, farm.server(0).ip());
        web.change(|service| service.servers[1].up = [true, true]);
        web.fell(0);
        let did = web.lab.deliver(ArrivesAt::Firewall(0), ack(farm.client, farm.vip));
        // The search may have ended the session before the packet, which then belongs to none.
        assert!(matches!(did.verdict, Verdict::Dropped(_) | Verdict::Punted), "{did:?}");
        assert!(!web.lab.transmits().is_empty(), "both ends are told");
    }
}
