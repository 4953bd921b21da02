//! The behaviour of AF_PACKET beyond what [`crate::io::frame_io`] promises: rings of any size, super-frames, unfinished
//! checksums.

use std::net::{IpAddr, UdpSocket};

use super::*;
use crate::io::frame_io::fixture::*;
use crate::io::frame_io::{self, RingCounts};
use crate::io::netdev;
use crate::io::testing::{ip, namespace};
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;
use crate::wire::emit::{self, AddressPair, MacPair};
use crate::wire::frame::tcp_flags::{ACK, RST, SYN};
use crate::wire::icmp::{Echo, EchoKind};
use crate::wire::tcp::Segment;
use crate::wire::vlan::{TPID_CUSTOMER, VlanTag};

/// Opens the device with a ring of this size.
fn open(device: &str, options: RingOptions) -> frame_io::Receiver {
    frame_io::Receiver::Packet(Receiver::open(index(device), options).unwrap())
}

#[test]
fn frames_up_to_the_mtu_fit_their_slots_and_larger_ones_wait_beside() {
    let options = |mtu| {
        let RingOptions { slots, slot_bytes } = RingOptions::for_mtu(mtu);
        (slots, slot_bytes)
    };
    assert_eq!(options(1500), (8192, 2048));
    assert_eq!(options(9000), (1024, 16_384));
    assert_eq!(options(65_535), (1024, 16_384));
    if !namespace() {
        return;
    }
    pair("e0", "p0", 9000);
    let mut receiver = open("e0", RingOptions::for_mtu(9000));
    let sender = Sender::open(index("p0")).unwrap();
    // More frames than the socket's queue could hold.
    let frames: Vec<_> = (0..1000).map(|number| frame(number, 9014)).collect();
    sender.send(frames.iter().map(|frame| plain(frame)), never);

    let seen = drain(&mut receiver);
    assert!(seen.len() == 1000 && seen.iter().all(|(_, bytes, verdict)| bytes.len() == 9014 && verdict.is_none()));
}

#[test]
fn frames_beyond_the_ring_are_dropped_and_counted() {
    if !namespace() {
        return;
    }
    pair("e0", "p0", 1500);
    let mut receiver = open("e0", RingOptions { slots: 128, slot_bytes: 2048 });
    let sender = Sender::open(index("p0")).unwrap();
    let frames: Vec<_> = (0..300).map(|number| frame(number, 60)).collect();

    sender.send(frames.iter().map(|frame| plain(frame)), never);

    assert_eq!(drain(&mut receiver).len(), 128);
    assert_eq!(receiver.maintain(Instant::ZERO), RingCounts { dropped: 172, unsent: 0 });
    assert_eq!(receiver.maintain(Instant::ZERO), RingCounts::default(), "counted once");
}

#[test]
fn a_super_frame_without_room_beside_the_ring_is_told_as_truncated_and_never_short() {
    if !namespace() {
        return;
    }
    pair("e0", "p0", 65_535);
    let mut receiver = open("e0", RingOptions::default());
    let sender = Sender::open(index("p0")).unwrap();
    let frames: Vec<_> = (0..400).map(|number| frame(number, 60_000)).collect();

    sender.send(frames.iter().map(|frame| plain(frame)), never);

    let seen = drain(&mut receiver);
    assert_eq!(seen.len(), 400);
    let (whole, cut): (Vec<_>, Vec<_>) = seen.iter().partition(|(_, _, verdict)| verdict.is_none());
    assert!(whole.len() > 50 && cut.len() > 50, "{} whole, {} cut", whole.len(), cut.len());
    assert!(whole.iter().all(|(_, bytes, _)| bytes.len() == 60_000));
    assert!(cut.iter().all(|(_, _, verdict)| *verdict == Some(TRUNCATED)));
    sender.send([plain(&frames[0])], never);
    assert_eq!(drain(&mut receiver), [(None, frames[0].clone(), None)], "room again after the queue was emptied");
}

#[test]
fn super_frames_that_wait_while_the_link_goes_down_are_not_taken_for_later_ones() {
    if !namespace() {
        return;
    }
    pair("e0", "p0", 9000);
    let mut receiver = open("e0", RingOptions::default());
    let sender = Sender::open(index("p0")).unwrap();
    let frames: Vec<_> = (0..5).map(|number| frame(number, 9000)).collect();
    sender.send(frames.iter().map(|frame| plain(frame)), never);

    ip("link set e0 down");
    let waiting = drain(&mut receiver);
    ip("link set e0 up");
    sender.send([plain(&frame(77, 9000))], never);

    assert_eq!(waiting, frames.into_iter().map(|frame| (None, frame, None)).collect::<Vec<_>>());
    assert_eq!(drain(&mut receiver), [(None, frame(77, 9000), None)]);
}

#[test]
fn own_frames_are_not_read_back_also_when_workers_share_the_device() {
    if !namespace() {
        return;
    }
    pair("e0", "p0", 1500);
    let (out, source) = (Sender::open(index("e0")).unwrap(), Sender::open(index("p0")).unwrap());
    let own = frame(1, 60);
    let mut alone = open("e0", RingOptions::default());
    out.send([plain(&own)], never);
    assert_eq!(drain(&mut alone), []);
    drop(alone);

    let options = RingOptions::default();
    let mut workers: Vec<_> = (0..2).map(|_| Receiver::open(index("e0"), options).unwrap()).collect();
    let set = workers[0].join(None).unwrap();
    assert_eq!(workers[1].join(Some(set)).unwrap(), set);
    let mut workers: Vec<_> = workers.into_iter().map(frame_io::Receiver::Packet).collect();
    out.send([plain(&own)], never);
    assert!(workers.iter_mut().all(|worker| drain(worker).is_empty()));
    // UDP over IPv4 from 64 ports: the workers share the flows, and none comes to both.
    let flows: Vec<_> = (0..64u16).map(udp).collect();
    source.send(flows.iter().map(|frame| plain(frame)), never);

    let shares: Vec<_> = workers.iter_mut().map(|worker| drain(worker).len()).collect();
    assert_eq!(shares.iter().sum::<usize>(), 64, "{shares:?}");
    assert!(shares.iter().all(|share| *share > 8), "{shares:?}");
}

#[test]
fn a_ring_for_probes_has_nothing_else_in_it_and_no_flood_fills_it() {
    if !namespace() {
        return;
    }
    pair("e0", "p0", 1500);
    let mac = |device: &str| netdev::find(device).unwrap().mac;
    let macs = MacPair { source: mac("p0"), destination: mac("e0") };
    let others = MacPair { destination: MacAddr([2, 0, 0, 0, 0, 99]), ..macs };
    let between = |v4| {
        let ends: [IpAddr; 2] = if v4 {
            [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]
        } else {
            ["fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()]
        };
        AddressPair::new(ends[0], ends[1]).unwrap()
    };
    let echo = |kind, data| Echo { kind, ident: 7, sequence: 9, data };
    let (probe, other) = (b"fwlb and so on".as_slice(), b"fwld and so on".as_slice());
    let mut wanted = Vec::new();
    let mut unwanted = vec![udp(7), frame(1, 60)];
    for v4 in [true, false] {
        for kind in [EchoKind::Request, EchoKind::Reply] {
            wanted.push(echo(kind, probe).frame(macs, between(v4)));
            unwanted.push(echo(kind, other).frame(macs, between(v4)));
            unwanted.push(echo(kind, probe).frame(others, between(v4)));
        }
        wanted.push(emit::udp(macs, between(v4), 1, 2, probe));
        unwanted.push(emit::udp(macs, between(v4), 1, 2, other));
        unwanted.push(emit::udp(macs, between(v4), 1, 2, &probe[..3]));
    }
    let mut fragment = wanted[0].clone();
    fragment[20] = 0x20;
    unwanted.push(fragment);
    // What servers answer to checks, and frames that resemble such an answer.
    let answer = |port: u16, flags, v4| {
        let segment = Segment { source_port: 80, destination_port: port, flags, ..Segment::default() };
        crate::wire::tcp::segment(macs, between(v4), &segment)
    };
    let reply = |ident, v4| Echo { ident, ..echo(EchoKind::Reply, other) }.frame(macs, between(v4));
    for v4 in [true, false] {
        for port in [512, 700, 1023] {
            wanted.extend([answer(port, SYN | ACK, v4), answer(port, RST | ACK, v4), reply(port, v4)]);
        }
        unwanted.extend([answer(700, SYN, v4), answer(511, SYN | ACK, v4), answer(1024, ACK, v4), reply(1024, v4)]);
    }
    let mut elsewhere = [answer(700, SYN | ACK, true), answer(700, SYN | ACK, false), reply(700, true)];
    elsewhere.iter_mut().zip([33, 53, 33]).for_each(|(frame, last)| frame[last] = 99);
    unwanted.extend(elsewhere);
    let nothing = ProbeFilter { macs: Vec::new(), addresses: Vec::new(), ports: 512..=1023 };
    let tagged = Receiver::open_filtered(index("e0"), &nothing).unwrap();
    let answers = vec!["10.9.9.9".parse().unwrap(), "fd00::9".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    let answers = [answers, vec!["fd00::2".parse().unwrap()]].concat();
    tagged
        .set_filter(&ProbeFilter {
            macs: vec![MacAddr([2, 0, 0, 0, 0, 7]), macs.destination],
            addresses: answers,
            ..nothing
        })
        .unwrap();
    let mut tagged = frame_io::Receiver::Packet(tagged);
    let sender = Sender::open(index("p0")).unwrap();

    for _ in 0..300 {
        sender.send(unwanted.iter().map(|frame| plain(frame)), never);
    }
    let tag = Some(VlanTag { tpid: TPID_CUSTOMER, tci: 100 });
    sender.send(wanted.iter().map(|frame| plain(frame)), never);
    sender.send(wanted.iter().map(|frame| frame_io::Outgoing { vlan: tag, ..plain(frame) }), never);

    let seen = drain(&mut tagged);
    let expected: Vec<_> =
        [None, tag].into_iter().flat_map(|tag| wanted.iter().map(move |f| (tag, f.clone(), None))).collect();
    assert_eq!(seen, expected);
    assert_eq!(tagged.maintain(Instant::ZERO), RingCounts::default());
}

#[test]
fn a_device_that_does_not_exist_is_named_so() {
    if !namespace() {
        return;
    }
    assert!(matches!(Receiver::open(4711, RingOptions::default()), Err(PacketSocketError::NoDevice)));
    assert!(matches!(Sender::open(4711), Err(PacketSocketError::NoDevice)));
}

#[test]
fn tcp_with_default_offloads_passes_untouched_and_most_of_it_in_super_frames() {
    if !namespace() {
        return;
    }
    let (a, b) = hosts(SocketKind::Packet);
    let wire = ForwardingBridge::between(SocketKind::Packet, "e0", "e1", None);

    tcp_bulk(&a, &b, "10.88.0.2:0");
    tcp_bulk(&a, &b, "[fd88::2]:0");

    let carried = wire.cut();
    assert_eq!(checksum_errors(&a), [""; 0]);
    assert_eq!(checksum_errors(&b), [""; 0]);
    assert_eq!(carried.errors, []);
    assert!(carried.tcp > 100, "{carried:?}");
    assert!(carried.frames < 4 * (32 << 20) / 1448 / 3, "super-frames were split on the way: {carried:?}");
}

#[test]
fn super_frames_and_partial_checksums_survive_a_tag_that_is_put_on_and_taken_off() {
    if !namespace() {
        return;
    }
    let (a, b) = hosts(SocketKind::Packet);
    pair("m0", "m1", 1500);
    let tag = Some(VlanTag { tpid: TPID_CUSTOMER, tci: 0x6064 });
    let (outer, inner) = (
        ForwardingBridge::between(SocketKind::Packet, "e0", "m0", tag),
        ForwardingBridge::between(SocketKind::Packet, "e1", "m1", tag),
    );

    tcp_bulk(&a, &b, "10.88.0.2:0");
    tcp_bulk(&a, &b, "[fd88::2]:0");

    for carried in [outer.cut(), inner.cut()] {
        assert_eq!(carried.errors, []);
        assert!(carried.tcp > 100 && carried.partial > 100, "{carried:?}");
    }
    assert_eq!(checksum_errors(&a), [""; 0]);
    assert_eq!(checksum_errors(&b), [""; 0]);
}

#[test]
fn udp_segments_and_fragments_pass() {
    if !namespace() {
        return;
    }
    use std::os::fd::AsRawFd;
    let (a, b) = hosts(SocketKind::Packet);
    let wire = ForwardingBridge::between(SocketKind::Packet, "e0", "e1", None);
    let (sender, receiver) = std::sync::mpsc::channel();
    b.run(move || sender.send(UdpSocket::bind("10.88.0.2:7").unwrap()).unwrap());
    let server = receiver.recv().unwrap();
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();

    a.run(|| {
        let socket = UdpSocket::bind("10.88.0.1:0").unwrap();
        // One datagram that IP has to fragment, then ten datagrams of 1000 bytes in one super-frame (UDP_SEGMENT).
        socket.send_to(&[1; 4000], "10.88.0.2:7").unwrap();
        let size: libc::c_int = 1000;
        // SAFETY: pointer and length describe `size`. JUSTIFICATION: the standard library has no UDP_SEGMENT.
        let status = unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, (&raw const size).cast(), 4)
        };
        assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
        socket.send_to(&[2; 10_000], "10.88.0.2:7").unwrap();
    });

    let mut buffer = [0; 8000];
    assert_eq!((server.recv(&mut buffer).unwrap(), buffer[3999]), (4000, 1));
    for _ in 0..10 {
        assert_eq!((server.recv(&mut buffer).unwrap(), buffer[999]), (1000, 2));
    }
    let carried = wire.cut();
    assert_eq!(carried.errors, []);
    assert!(carried.udp >= 1, "the segments came one by one: {carried:?}");
    assert_eq!(checksum_errors(&b), [""; 0]);
}
