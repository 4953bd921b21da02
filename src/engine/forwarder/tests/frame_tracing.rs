//! What captures get: every frame that they want as received and as sent, with what happened to it, and no other
//! frames.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::bench::{ArrivesAt, ForwarderBench, nets, v4};
use super::packets::{Frame, ack, echo, fragments, icmp_error, read, syn, syn_ack, udp};
use super::services::{Web, ends, farms, read_checked};
use crate::engine::testbed::Side;
use crate::engine::trace::{CaptureSink, CapturedFrame, DropFilter, Filter, Tap};
use crate::engine::{DropReason, Snapshot, Verdict};
use crate::flow::FlowPattern;
use crate::id::{DeviceId, LinkId};
use crate::wire::offload::{Gso, GsoKind, Offload};
use crate::wire::pcapng::CaptureDirection;

/// A sink with room for this many frames.
#[derive(Debug, Clone)]
struct Shown {
    frames: Arc<Mutex<Vec<CapturedFrame>>>,
    lost: Arc<Mutex<u64>>,
    room: usize,
}

impl CaptureSink for Shown {
    fn has_room(&mut self, _: LinkId) -> bool {
        let has_room = self.frames.lock().unwrap().len() < self.room;
        *self.lost.lock().unwrap() += u64::from(!has_room);
        has_room
    }

    fn put(&mut self, sighting: CapturedFrame) {
        self.frames.lock().unwrap().push(sighting);
    }
}

impl Shown {
    /// What was shown since the last call: link, direction and description.
    fn take(&self, snapshot: &Snapshot) -> Vec<(u16, CaptureDirection, String)> {
        let taken: Vec<_> = self.frames.lock().unwrap().drain(..).collect();
        taken.iter().map(|one| (one.link.0, one.direction, one.describe(snapshot))).collect()
    }

    fn frames(&self) -> Vec<CapturedFrame> {
        self.frames.lock().unwrap().drain(..).collect()
    }
}

/// Adds a capture to the first worker.
fn watch(lab: &mut ForwarderBench, filter: Filter) -> Shown {
    watch_some(lab, filter, 65_536, 1000)
}

fn watch_some(lab: &mut ForwarderBench, filter: Filter, snaplen: usize, room: usize) -> Shown {
    let shown = Shown { frames: Arc::default(), lost: Arc::default(), room };
    lab.workers[0].0.set_taps(vec![Tap { filter: Arc::new(filter), snaplen, sink: Box::new(shown.clone()) }]);
    shown
}

fn of_flow(protocol: &str, a: SocketAddr, b: SocketAddr) -> Filter {
    let pattern: FlowPattern = format!("{protocol} {a} {b}").parse().unwrap();
    Filter { flow: Some(pattern), ..Filter::default() }
}

const IN: CaptureDirection = CaptureDirection::Inbound;
const OUT: CaptureDirection = CaptureDirection::Outbound;

#[test]
fn a_packet_is_shown_as_it_came_and_as_it_left_with_what_was_decided() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(1);
        let shown = watch(&mut lab, Filter::default());
        let request = syn(net.client, net.server);

        let sent = lab.deliver(ArrivesAt::Near, request.clone());

        let frames = shown.frames();
        let [came, left] = frames.as_slice() else { panic!("{frames:?}") };
        assert_eq!((read(&came.bytes).ttl, read(&left.bytes).ttl), (64, 63));
        assert_eq!(left.bytes, sent.bytes);
        assert_eq!((came.at, came.length), (lab.now, request.bytes.len()));
        let stories: Vec<_> = frames.iter().map(|one| one.describe(&lab.snapshot)).collect();
        assert_eq!(
            stories,
            [
                "forward -> fw1 (new session, opening, hash) out firewalls",
                "forward -> fw1 (new session, opening, hash) in hosts"
            ]
        );

        lab.deliver(ArrivesAt::Firewall(0), syn_ack(net.server, net.client));
        lab.deliver(ArrivesAt::Near, ack(net.client, net.server));

        let story = |link, direction, story: &str| (link, direction, story.to_owned());
        assert_eq!(
            shown.take(&lab.snapshot),
            [
                story(1, IN, "forward from fw1 (session, confirmed, hash) out hosts"),
                story(0, OUT, "forward from fw1 (session, confirmed, hash) in firewalls"),
                story(0, IN, "forward -> fw1 (session, confirmed, hash) out firewalls"),
                story(1, OUT, "forward -> fw1 (session, confirmed, hash) in hosts"),
            ]
        );
    }
}

#[test]
fn both_legs_of_a_translated_session_are_shown_whichever_of_them_is_meant() {
    for farm in farms() {
        for (a, b) in [(farm.client, farm.vip), (farm.server(0), farm.client)] {
            let mut web = Web::new(&[1]);
            let shown = watch(&mut web.lab, of_flow("tcp", a, b));

            web.lab.deliver(ArrivesAt::Firewall(1), syn(farm.client, farm.vip));
            web.lab.deliver(ArrivesAt::Firewall(1), syn(farm.client(1), farm.vip));
            web.lab.deliver(ArrivesAt::Near, syn_ack(farm.server(0), farm.client));
            web.lab.deliver(ArrivesAt::Near, udp(farm.server(0), farm.client, 10));

            let frames = shown.frames();
            let seen: Vec<_> =
                frames.iter().map(|one| (one.link.0, one.direction, ends(&read_checked(&one.bytes)))).collect();
            assert_eq!(
                seen,
                [
                    (0, IN, (farm.client, farm.vip)),
                    (1, OUT, (farm.client, farm.server(0))),
                    (1, IN, (farm.server(0), farm.client)),
                    (0, OUT, (farm.vip, farm.client)),
                ],
                "asked for {a} {b}"
            );
            let stories: Vec<_> = frames.iter().map(|one| one.describe(&web.lab.snapshot)).collect();
            let service = format!(
                "; service web, server s1, tcp {} {} inside tcp {} {}",
                farm.client,
                farm.vip,
                farm.client,
                farm.server(0)
            );
            assert_eq!(stories[0], format!("forward from fw2 (new session, tentative, learned) out hosts{service}"));
            assert!(
                stories[3].starts_with("forward -> fw2 (session, ") && stories[3].ends_with(&service),
                "{stories:?}"
            );
        }
    }
}

#[test]
fn an_error_about_a_flow_and_its_fragments_belong_to_it() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(1);
        lab.deliver(ArrivesAt::Near, udp(net.client, net.server, 10));
        lab.deliver(ArrivesAt::Firewall(0), udp(net.server, net.client, 10));
        let shown = watch(&mut lab, of_flow("udp", net.client, net.server));
        let datagram = udp(net.client, net.server, 4000);

        let error = icmp_error(net.router, net.server.ip(), &udp(net.server, net.client, 10));
        lab.deliver(ArrivesAt::Near, error);
        for piece in fragments(&datagram, 1400, 7) {
            lab.deliver(ArrivesAt::Near, piece);
        }
        let mut other = net.client;
        other.set_port(9);
        for piece in fragments(&udp(other, net.server, 4000), 1400, 8) {
            lab.deliver(ArrivesAt::Near, piece);
        }

        let links: Vec<_> = shown.frames().iter().map(|one| (one.link.0, one.direction)).collect();
        assert_eq!(links, [(0, IN), (1, OUT)].repeat(4), "the error and three fragments, each twice");
    }
}

#[test]
fn a_fragment_that_came_before_its_first_is_shown_once_its_flow_is_known() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(1);
        let by_port = watch(&mut lab, of_flow("udp", net.client, net.server));
        let pieces = fragments(&udp(net.client, net.server, 4000), 1400, 7);

        lab.deliver(ArrivesAt::Near, pieces[1].clone());
        assert_eq!(by_port.take(&lab.snapshot), [], "it shows no port");
        lab.deliver(ArrivesAt::Near, pieces[0].clone());
        let links =
            |shown: &Shown| -> Vec<_> { shown.frames().iter().map(|one| (one.link.0, one.direction)).collect() };
        assert_eq!(links(&by_port), [(0, IN), (1, OUT), (0, IN), (1, OUT)]);
        assert_eq!(lab.transmits().len(), 1);

        let by_host = watch(&mut lab, Filter { hosts: vec![net.client.ip().into()], ..Filter::default() });
        let pieces = fragments(&udp(net.client, net.server, 4000), 1400, 8);
        lab.deliver(ArrivesAt::Near, pieces[1].clone());
        let held = (0, IN, "fragment, waits for the first of its datagram".to_owned());
        assert_eq!(by_host.take(&lab.snapshot), [held]);
        lab.deliver(ArrivesAt::Near, pieces[0].clone());
        assert_eq!(links(&by_host), [(0, IN), (1, OUT), (1, OUT)], "it was shown when it came");
        assert_eq!(lab.transmits().len(), 1);
    }
}

#[test]
fn what_is_dropped_or_for_the_engine_is_shown_with_the_reason() {
    let net = v4();
    let mut lab = ForwarderBench::outer(2);
    let shown = watch(&mut lab, Filter::default());
    let only_story = |shown: &Shown, lab: &ForwarderBench| {
        let shown = shown.take(&lab.snapshot);
        let [(_, IN, story)] = shown.as_slice() else { panic!("{shown:?}") };
        story.clone()
    };

    lab.deliver(ArrivesAt::Near, syn(net.client, net.server).ttl(1));
    assert_eq!(only_story(&shown, &lab), "drop ttl_expired (no session)");

    let engine = "198.51.100.1".parse().unwrap();
    lab.deliver(ArrivesAt::Near, echo(net.client.ip(), engine, false, 7));
    assert_eq!(only_story(&shown, &lab), "to the engine");

    for firewall in 0..2 {
        lab.set_up(firewall, false);
    }
    lab.deliver(ArrivesAt::Near, syn(net.client, net.server));
    assert_eq!(only_story(&shown, &lab), "drop no_path_up (no session)");

    lab.put(0, DeviceId(0), Frame::new(vec![0xff; 60]));
    assert_eq!(only_story(&shown, &lab), "drop bad_source_mac (no session)");
    lab.put(0, DeviceId(0), Frame::new(vec![0x02; 5]));
    assert_eq!(only_story(&shown, &lab), "drop ethernet_truncated (no session)");
}

#[test]
fn a_filter_shows_its_link_its_firewall_its_service_and_nothing_else() {
    let [farm, _] = farms();
    let seen = |filter: Filter| {
        let mut web = Web::new(&[1, 1]);
        let shown = watch(&mut web.lab, filter);
        web.lab.deliver(ArrivesAt::Firewall(1), syn(farm.client, farm.vip));
        web.lab.deliver(ArrivesAt::Firewall(2), udp(farm.client, "203.0.113.80:9".parse().unwrap(), 10));
        shown.frames().iter().map(|one| (one.link.0, one.direction)).collect::<Vec<_>>()
    };
    let name = |name: &str| Some(name.to_owned());
    let all = [(0, IN), (1, OUT)];

    assert_eq!(seen(Filter { links: vec!["hosts".to_owned()], ..Filter::default() }), [(1, OUT), (1, OUT)]);
    assert_eq!(seen(Filter { firewall: name("fw2"), ..Filter::default() }), all);
    assert_eq!(seen(Filter { firewall: name("perimeter/fw3"), ..Filter::default() }), all);
    assert_eq!(seen(Filter { firewall: name("fw1"), ..Filter::default() }), []);
    assert_eq!(seen(Filter { service: name("web"), ..Filter::default() }), all);
    assert_eq!(seen(Filter { server: name("web/s1"), ..Filter::default() }), all);
    assert_eq!(seen(Filter { server: name("s2"), ..Filter::default() }), []);
    assert_eq!(seen(Filter { ports: vec![8080], ..Filter::default() }), all, "the port of the inside leg");
    assert_eq!(seen(Filter { ports: vec![9], ..Filter::default() }), all);
    let client = Some(farm.client.ip().into());
    assert_eq!(seen(Filter { source: client, ..Filter::default() }).len(), 4);
    assert_eq!(seen(Filter { destination: client, ..Filter::default() }), []);
    assert_eq!(seen(Filter { destination: Some(farm.server(0).ip().into()), ..Filter::default() }), all);
}

#[test]
fn without_room_nothing_is_copied_and_the_packet_goes_its_way() {
    let net = v4();
    let mut lab = ForwarderBench::outer(1);
    let shown = watch_some(&mut lab, Filter::default(), 20, 1);

    let first = lab.deliver(ArrivesAt::Near, syn(net.client, net.server));

    assert_eq!(first.verdict, Verdict::Forward(LinkId(1)));
    assert_eq!(*shown.lost.lock().unwrap(), 1, "the frame as it left");
    let frames = shown.frames();
    let [frame] = frames.as_slice() else { panic!("{frames:?}") };
    assert_eq!((frame.bytes.len(), frame.length), (20, syn(net.client, net.server).bytes.len()));

    let none = watch_some(&mut lab, Filter::default(), 20, 0);
    assert_eq!(lab.deliver(ArrivesAt::Near, ack(net.client, net.server)).verdict, Verdict::Forward(LinkId(1)));
    assert_eq!((none.frames().len(), *none.lost.lock().unwrap()), (0, 2));
}

#[test]
fn unfinished_work_is_told_and_left_as_it_was() {
    let net = v4();
    let mut lab = ForwarderBench::with(Side::Outer, 1, 1, 64);
    lab.deliver(ArrivesAt::Near, syn(net.client, net.server));
    let shown = watch(&mut lab, Filter::default());
    let mut large = ack(net.client, net.server);
    large.offload =
        Offload { gso: Some(Gso { kind: GsoKind::Tcp4, ecn: false, size: 1400, header_len: 54 }), ..Offload::NONE };

    lab.deliver(ArrivesAt::Near, large);

    let stories = shown.take(&lab.snapshot);
    assert!(stories.iter().all(|(_, _, story)| story.ends_with("; to be cut into TCP segments of 1400 bytes")));
    assert_eq!(stories.len(), 2);
}

#[test]
fn a_reset_that_the_engine_sends_belongs_to_its_session_on_both_legs() {
    let [farm, _] = farms();
    let mut web = Web::new(&[1]);
    web.lab.deliver(ArrivesAt::Firewall(1), syn(farm.client, farm.vip));
    web.lab.deliver(ArrivesAt::Near, syn_ack(farm.server(0), farm.client));
    web.lab.deliver(ArrivesAt::Firewall(1), ack(farm.client, farm.vip));
    let shown = watch(&mut web.lab, of_flow("tcp", farm.client, farm.vip));

    web.fell(0);
    web.lab.deliver(ArrivesAt::Firewall(1), ack(farm.client, farm.vip));

    let stories = shown.take(&web.lab.snapshot);
    let resets: Vec<_> = stories.iter().filter(|(_, _, story)| story.starts_with("reset by the engine")).collect();
    assert_eq!(resets.len(), 2, "{stories:?}");
    let drops: Vec<_> = stories.iter().filter(|(_, _, story)| story.starts_with("drop")).collect();
    assert!(drops.len() <= 1, "{stories:?}");
    assert_eq!(web.lab.transmits().len(), 2);
}

#[test]
fn who_stops_watching_is_shown_nothing() {
    let net = v4();
    let mut lab = ForwarderBench::outer(1);
    let shown = watch(&mut lab, Filter::default());
    lab.workers[0].0.set_taps(Vec::new());
    lab.deliver(ArrivesAt::Near, syn(net.client, net.server));
    assert_eq!(shown.frames().len(), 0);
}

#[test]
fn where_only_drops_are_meant_nothing_else_is_shown_nor_counted_as_lost() {
    for net in nets() {
        for (dropped, room, shown_frames, lost_frames) in [
            (DropFilter::Any, 1000, 1, 0),
            (DropFilter::For(DropReason::NoPathUp), 1000, 1, 0),
            (DropFilter::For(DropReason::TtlExpired), 1000, 0, 0),
            (DropFilter::Any, 0, 0, 1),
        ] {
            let mut lab = ForwarderBench::outer(1);
            let only = Filter { dropped: Some(dropped), ..of_flow("tcp", net.client, net.server) };
            let shown = watch_some(&mut lab, only, 65_536, room);
            let firewall = lab.send(syn(net.client, net.server));
            lab.deliver(ArrivesAt::Firewall(firewall), syn_ack(net.server, net.client));
            lab.set_up(firewall, false);

            let dropped = lab.deliver(ArrivesAt::Near, syn(net.client, net.server));
            // This one belongs to another flow.
            lab.deliver(ArrivesAt::Near, udp(net.client, net.server, 10));

            assert_eq!(dropped.verdict, Verdict::Dropped(DropReason::NoPathUp));
            let stories = shown.take(&lab.snapshot);
            assert_eq!((stories.len(), *shown.lost.lock().unwrap()), (shown_frames, lost_frames));
            for (link, direction, story) in stories {
                assert_eq!((link, direction), (Side::Outer.near(), IN));
                assert!(story.starts_with("drop no_path_up"), "{story}");
            }
        }
    }
}
