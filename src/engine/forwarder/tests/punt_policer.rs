//! What reaches the controller during a flood of punts.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::engine::forwarder::ProbeBypass;
use crate::engine::testbed::{Side, engine_addresses, host_mac};
use crate::engine::{DropReason, Packet, Punt, PuntQueue, PuntReason, Verdict};
use crate::id::DeviceId;
use crate::time::Duration;
use crate::wire::MacAddr;
use crate::wire::arp;

use super::bench::{ArrivesAt, ForwarderBench, nets, v4};
use super::packets::{Frame, ip, syn, tcp, udp};
use crate::wire::frame::tcp_flags::{ACK, SYN};

fn own(v4: bool) -> IpAddr {
    let (own, own6) = engine_addresses(Side::Outer)[0];
    if v4 { own } else { own6 }
}

/// An ICMP echo message of this type, with data.
fn echo_with(source: IpAddr, destination: IpAddr, kind: u8, data: &[u8]) -> Frame {
    let mut message = vec![kind, 0, 0, 0, 0, 7, 0, 9];
    message.extend(data);
    let number = if source.is_ipv4() { 1 } else { 58 };
    let sum = if source.is_ipv4() {
        crate::wire::checksum::checksum(&message)
    } else {
        let pseudo = crate::wire::checksum::pseudo_header(source, destination, number, message.len() as u32);
        !crate::wire::checksum::add(pseudo, crate::wire::checksum::sum(&message))
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(source, destination, number, &message)
}

fn ping(source: IpAddr, destination: IpAddr, data: &[u8]) -> Frame {
    echo_with(source, destination, if source.is_ipv4() { 8 } else { 128 }, data)
}

/// How many of `count` frames, one in each `gap`, are passed to the controller.
fn handed_over(
    lab: &mut ForwarderBench,
    at: ArrivesAt,
    count: u32,
    gap: Duration,
    frame: impl Fn(u32) -> Frame,
) -> usize {
    let verdicts = (0..count).map(|n| {
        lab.now += gap;
        lab.deliver(at, frame(n)).verdict
    });
    verdicts.filter(|verdict| *verdict == Verdict::Punted).count()
}

fn roomy() -> ForwarderBench {
    let mut lab = ForwarderBench::outer(2);
    lab.punts.capacity = usize::MAX;
    lab
}

const GAP: Duration = Duration::from_micros(20);

#[test]
fn a_flood_of_pings_is_cut_by_source_and_leaves_everybody_else_theirs() {
    for net in nets() {
        let mut lab = roomy();
        let own = own(net.client.is_ipv4());
        let passed = handed_over(&mut lab, ArrivesAt::Near, 50_000, GAP, |_| ping(net.client.ip(), own, b"flood"));
        assert!((1_190..=1_210).contains(&passed), "200 at once and 1,000 a second: {passed}");
        assert_eq!(lab.counters().drops_for(DropReason::PuntLimitPing), 50_000 - passed as u64);

        assert_eq!(lab.deliver(ArrivesAt::Near, ping(net.router, own, b"other")).verdict, Verdict::Punted);
        assert_eq!(lab.deliver(ArrivesAt::Near, udp(net.client, SocketAddr::new(own, 9), 8)).verdict, Verdict::Punted);
    }
}

#[test]
fn probes_and_answers_pass_whatever_floods() {
    for net in nets() {
        let mut lab = roomy();
        let own = own(net.client.is_ipv4());
        let random = |n: u32| -> IpAddr {
            let n = n.wrapping_mul(0x9e37_79b9);
            if own.is_ipv4() { n.into_v4() } else { [0x2001, 0xdb8, 0, 0, 0, 0, (n >> 16) as u16, n as u16].into() }
        };
        let flood = [
            handed_over(&mut lab, ArrivesAt::Near, 20_000, GAP, |n| ping(random(n), own, b"flood")),
            handed_over(&mut lab, ArrivesAt::Near, 20_000, GAP, |n| {
                syn(SocketAddr::new(random(n), 7), SocketAddr::new(own, 80))
            }),
            handed_over(&mut lab, ArrivesAt::Near, 20_000, GAP, |n| {
                udp(SocketAddr::new(random(n), 7), SocketAddr::new(own, 80), 8)
            }),
        ];
        assert!(flood.iter().all(|passed| *passed < 9_500), "{flood:?}");
        let probes =
            handed_over(&mut lab, ArrivesAt::Firewall(1), 200, GAP, |_| ping(net.server.ip(), own, b"fwlb probe"));
        let reply = |_| echo_with(net.server.ip(), own, if own.is_ipv4() { 0 } else { 129 }, b"check");
        let segment = |_| tcp(SocketAddr::new(net.server.ip(), 80), SocketAddr::new(own, 700), SYN | ACK);
        let replies = handed_over(&mut lab, ArrivesAt::Near, 200, GAP, reply);
        let segments = handed_over(&mut lab, ArrivesAt::Near, 200, GAP, segment);
        assert_eq!([probes, replies, segments], [200; 3]);
    }
}

trait IntoV4 {
    fn into_v4(self) -> IpAddr;
}

impl IntoV4 for u32 {
    /// A unicast address with this number.
    fn into_v4(self) -> IpAddr {
        IpAddr::from((0x0b00_0000 | self & 0x00ff_ffff).to_be_bytes())
    }
}

#[test]
fn questions_by_arp_are_cut_by_station() {
    let mut lab = roomy();
    let IpAddr::V4(target) = own(true) else { unreachable!("asked for IPv4") };
    let question = |from: MacAddr, last: u8| Frame::new(arp::request(from, [198, 51, 100, last].into(), target, None));
    let stranger = |last: u8| MacAddr([2, 9, 9, 9, 9, last]);
    let put = |lab: &mut ForwarderBench, frame: Frame| {
        lab.put(0, DeviceId(Side::Outer.near()), frame).verdict == Verdict::Punted
    };

    let flood = (0..50_000)
        .filter(|_| {
            lab.now += GAP;
            put(&mut lab, question(stranger(1), 1))
        })
        .count();
    assert!((395..=405).contains(&flood), "300 at once and 100 a second: {flood}");
    assert!(put(&mut lab, question(stranger(2), 2)), "another station");
    assert!(put(&mut lab, question(host_mac(Side::Outer), 254)), "one that is known");
    assert_eq!(lab.counters().drops_for(DropReason::PuntLimitNeighbor), 50_000 - flood as u64);
}

#[test]
fn a_flood_of_errors_to_make_costs_the_answers_and_not_the_verdicts() {
    let net = v4();
    let mut lab = roomy();
    for _ in 0..5_000 {
        lab.now += GAP;
        assert_eq!(
            lab.deliver(ArrivesAt::Near, syn(net.client, net.server).ttl(1)).verdict,
            Verdict::Dropped(DropReason::TtlExpired)
        );
    }
    let asked = lab.punts.taken.len();
    assert!((50..=60).contains(&asked), "{asked}");
    assert_eq!(lab.counters().punt_drop_icmp_error, 5_000 - asked as u64);
}

/// A queue that keeps urgent frames apart.
#[derive(Debug, Default)]
struct Queues {
    first: Vec<Punt>,
    others: Vec<Punt>,
}

impl PuntQueue for Queues {
    fn offer(&mut self, punt: Punt) -> bool {
        self.others.push(punt);
        true
    }

    fn offer_urgent(&mut self, punt: Punt) -> bool {
        self.first.push(punt);
        true
    }
}

#[test]
fn what_a_verdict_hangs_on_goes_first_and_probes_that_others_take_not_at_all() {
    for net in nets() {
        let own = own(net.client.is_ipv4());
        let probe = || ping(net.server.ip(), own, b"fwlb probe");
        let (other, other6) = engine_addresses(Side::Outer)[1];
        let other = if net.client.is_ipv4() { other } else { other6 };
        let frames = [
            // Whether it is urgent, and whether it is left to the owner.
            (ArrivesAt::Firewall(0), probe(), true, true),
            (ArrivesAt::Firewall(0), udp_probe(net.server, SocketAddr::new(own, 7)), true, true),
            (ArrivesAt::Firewall(0), ping(net.server.ip(), own, b"some ping"), false, false),
            (ArrivesAt::Near, probe(), false, false),
            (ArrivesAt::Near, tcp(net.server, SocketAddr::new(own, 700), SYN | ACK), true, true),
            (ArrivesAt::Near, tcp(net.server, SocketAddr::new(own, 7000), SYN | ACK), true, false),
            (ArrivesAt::Near, tcp(net.server, SocketAddr::new(other, 700), SYN | ACK), true, false),
            (ArrivesAt::Near, syn(net.server, SocketAddr::new(own, 700)), false, false),
        ];
        for (at, frame, goes_first, is_taken) in frames {
            for are_taken in [false, true] {
                let mut lab = ForwarderBench::outer(2);
                let mut frame = frame.clone();
                let device = lab.address(at, &mut frame);
                let apart = Arc::new(ProbeBypass::default());
                apart.set_check_addresses(vec![own]);
                lab.workers[0].0.set_probe_bypass(device, are_taken.then(|| apart.clone()));
                let mut packet =
                    Packet { device, vlan: None, offload: frame.offload, bytes: &mut frame.bytes, verdict: None };
                let taken = apart.probe_punt(&mut packet, &lab.snapshot);
                assert_eq!(taken.is_some(), is_taken, "{at:?} {packet:?}");
                let mut batch = crate::engine::Batch::new();
                batch.packets.push(packet);
                let mut queues = Queues::default();
                lab.workers[0].0.process(&mut batch, &lab.snapshot, &mut queues, lab.now);

                assert_eq!(batch.packets[0].verdict, Some(Verdict::Punted));
                let expected =
                    if are_taken && is_taken { [0, 0] } else { [usize::from(goes_first), usize::from(!goes_first)] };
                assert_eq!([queues.first.len(), queues.others.len()], expected, "{at:?}");
                assert!(queues.first.iter().all(|punt| punt.reason == PuntReason::Local));
                if let (Some(taken), Some(punt)) = (taken, queues.first.first()) {
                    assert_eq!(&taken, punt, "the same by both ways");
                }
            }
        }
    }
}

fn udp_probe(source: SocketAddr, destination: SocketAddr) -> Frame {
    let macs = crate::wire::emit::MacPair { source: MacAddr([0; 6]), destination: MacAddr([0; 6]) };
    let pair = crate::wire::emit::AddressPair::new(source.ip(), destination.ip()).unwrap();
    Frame::new(crate::wire::emit::udp(macs, pair, source.port(), destination.port(), b"fwlb probe"))
}
