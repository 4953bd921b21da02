//! The promises that hold for every kind of socket.

use super::fixture::*;
use super::*;
use crate::io::af_xdp::Hook;
use crate::io::testing::{ip, namespace};
use crate::wire::vlan::{TPID_CUSTOMER, TPID_SERVICE, VlanTag};

/// Makes a test of each promise over each kind of socket.
macro_rules! promises {
    ($($promise:ident),* $(,)?) => {
        mod over_af_packet {
            $(#[test] fn $promise() { super::keep(super::SocketKind::Packet, super::$promise); })*
        }
        mod over_af_packet_with_xdp_send {
            $(#[test] fn $promise() { super::keep(super::SocketKind::XdpSend, super::$promise); })*
        }
        mod over_af_xdp_native {
            $(#[test] fn $promise() { super::keep(super::SocketKind::Xdp(super::Hook::Native), super::$promise); })*
        }
        mod over_af_xdp_generic {
            $(#[test] fn $promise() { super::keep(super::SocketKind::Xdp(super::Hook::Generic), super::$promise); })*
        }
    };
}

fn keep(kind: SocketKind, promise: fn(SocketKind)) {
    if namespace() {
        promise(kind);
    }
}

promises! {
    frames_of_every_length_arrive_in_order_and_whole,
    edited_bytes_are_what_is_sent_however_often_the_rings_go_round,
    frames_of_the_engine_itself_leave_however_often_the_rings_go_round,
    every_vlan_of_both_kinds_comes_in_and_goes_out_with_its_priority,
    frames_are_forwarded_into_a_vlan_and_out_of_it,
    an_inner_tag_stays_in_the_frame,
    own_frames_are_not_read_back,
    a_refused_frame_is_told_and_the_next_one_passes,
    the_errors_of_a_device_are_told_apart_and_it_works_again_after_them,
    a_device_that_is_down_is_opened_and_works_when_it_is_up,
    frames_that_find_no_room_are_counted_and_the_next_ones_come,
    tcp_passes_untouched,
    tcp_passes_through_a_vlan,
}

/// Lengths from the shortest to the longest frame of an MTU of 1500.
const LENGTHS: [usize; 11] = [14, 15, 20, 24, 42, 60, 64, 1513, 1514, 100, 60];

fn untagged(frames: Vec<Vec<u8>>) -> Vec<ReceivedFrame> {
    frames.into_iter().map(|frame| (None, frame, None)).collect()
}

fn frames_of_every_length_arrive_in_order_and_whole(kind: SocketKind) {
    pair("e0", "p0", 1500);
    let (mut way, mut peer) = (kind.open("e0"), peer("p0"));
    let frames: Vec<_> = (0..).zip(LENGTHS).map(|(number, len)| frame(number, len)).collect();

    assert_eq!(peer.sender.send(frames.iter().map(|frame| plain(frame)), never), frames.len());
    assert_eq!(drain(&mut way.receiver), untagged(frames.clone()));
    assert_eq!(way.sender.send(frames.iter().map(|frame| plain(frame)), never), frames.len());
    assert_eq!(drain(&mut peer.receiver), untagged(frames));
    assert_eq!(way.receiver.maintain(Instant::ZERO), RingCounts::default());
}

fn edited_bytes_are_what_is_sent_however_often_the_rings_go_round(kind: SocketKind) {
    pair("e0", "p0", 1500);
    pair("e1", "p1", 1500);
    let desk = kind.umem_fixture();
    let (mut way, out) = (desk.open("e0"), desk.open("e1"));
    let (source, mut end) = (peer("p0"), peer("p1"));

    for round in 0..150u16 {
        let frames: Vec<_> = (0..100).map(|number| frame(round * 100 + number, 60)).collect();
        source.sender.send(frames.iter().map(|frame| plain(frame)), never);
        let mut waiter = crate::io::wait::Waiter::new(crate::io::wait::Wake::new().unwrap());
        let mut passed = 0;
        while passed < 100 {
            let mut batch = Batch::<()>::new();
            let received = way.receiver.receive(DeviceId(0), &mut batch, || ());
            for packet in &mut batch.packets {
                packet.bytes[20] = packet.bytes[15] ^ 0xff;
            }
            let sent = out.sender.send(batch.packets.iter().map(|packet| plain(packet.bytes)), never);
            assert_eq!(sent, received);
            drop(batch);
            way.receiver.release();
            passed += received;
            if received == 0 {
                waiter.wait(std::iter::once(&way.receiver), crate::time::Duration::from_secs(5));
            }
        }
        let seen = drain(&mut end.receiver);
        let numbers: Vec<_> = seen.iter().map(|(_, bytes, _)| u16::from_be_bytes([bytes[14], bytes[15]])).collect();
        assert_eq!(numbers, (round * 100..round * 100 + 100).collect::<Vec<_>>());
        assert!(seen.iter().all(|(_, bytes, _)| bytes[20] == bytes[15] ^ 0xff));
    }
}

fn frames_of_the_engine_itself_leave_however_often_the_rings_go_round(kind: SocketKind) {
    pair("e0", "p0", 1500);
    let (way, mut peer) = (kind.open("e0"), peer("p0"));

    for round in 0..60u16 {
        let frames: Vec<_> = (0..130).map(|number| frame(round * 130 + number, 60)).collect();
        assert_eq!(way.sender.send(frames.iter().map(|frame| plain(frame)), never), 130);
        assert_eq!(drain(&mut peer.receiver), untagged(frames));
    }
}

fn every_vlan_of_both_kinds_comes_in_and_goes_out_with_its_priority(kind: SocketKind) {
    pair("e0", "p0", 1500);
    let (mut way, mut peer) = (kind.open("e0"), peer("p0"));

    // The largest legal frames of an MTU of 1500: Linux allows a customer tag on top, but counts a service tag as
    // payload.
    for (tpid, len) in [(TPID_CUSTOMER, 1514), (TPID_SERVICE, 1510)] {
        let tags: Vec<_> = (0..=4095u16).map(|vid| VlanTag { tpid, tci: ((vid % 16) << 12) | vid }).collect();
        for tags in tags.chunks(256) {
            let frames: Vec<_> = tags.iter().map(|tag| (frame(tag.vid(), len), Some(*tag))).collect();
            let outgoing = || frames.iter().map(|(bytes, vlan)| Outgoing { vlan: *vlan, ..plain(bytes) });
            let expected: Vec<ReceivedFrame> =
                frames.iter().map(|(bytes, vlan)| (*vlan, bytes.clone(), None)).collect();
            peer.sender.send(outgoing(), never);
            assert_eq!(drain(&mut way.receiver), expected);
            way.sender.send(outgoing(), never);
            assert_eq!(drain(&mut peer.receiver), expected);
        }
    }
}

fn frames_are_forwarded_into_a_vlan_and_out_of_it(kind: SocketKind) {
    pair("e0", "p0", 1500);
    pair("e1", "p1", 1500);
    let desk = kind.umem_fixture();
    let (mut way, out) = (desk.open("e0"), desk.open("e1"));
    let (source, mut end) = (peer("p0"), peer("p1"));
    let (ten, twenty) = (Some(VlanTag::new(10)), Some(VlanTag { tpid: TPID_SERVICE, tci: 0xe014 }));

    for (arriving, leaving) in [(None, ten), (ten, None), (ten, twenty), (twenty, ten)] {
        let frames: Vec<_> = (0..50).map(|number| frame(number, 60 + usize::from(number))).collect();
        source.sender.send(frames.iter().map(|frame| Outgoing { vlan: arriving, ..plain(frame) }), never);
        let mut seen = Vec::new();
        while seen.len() < 50 {
            let mut batch = Batch::<()>::new();
            way.receiver.receive(DeviceId(0), &mut batch, || ());
            seen.extend(batch.packets.iter().map(|packet| packet.vlan));
            out.sender
                .send(batch.packets.iter().map(|packet| Outgoing { vlan: leaving, ..plain(packet.bytes) }), never);
            drop(batch);
            way.receiver.release();
        }
        assert!(seen.iter().all(|vlan| *vlan == arriving));
        let expected: Vec<ReceivedFrame> = frames.into_iter().map(|bytes| (leaving, bytes, None)).collect();
        assert_eq!(drain(&mut end.receiver), expected);
    }
}

fn an_inner_tag_stays_in_the_frame(kind: SocketKind) {
    pair("e0", "p0", 1500);
    let (mut way, mut peer) = (kind.open("e0"), peer("p0"));
    let mut inner = frame(1, 80);
    inner[12..16].copy_from_slice(&[0x81, 0, 0, 20]);
    let outer = Some(VlanTag { tpid: TPID_SERVICE, tci: 10 });

    peer.sender.send([Outgoing { vlan: outer, ..plain(&inner) }], never);
    assert_eq!(drain(&mut way.receiver), [(outer, inner.clone(), None)]);
    way.sender.send([Outgoing { vlan: outer, ..plain(&inner) }], never);
    assert_eq!(drain(&mut peer.receiver), [(outer, inner, None)]);
}

fn own_frames_are_not_read_back(kind: SocketKind) {
    pair("e0", "p0", 1500);
    let (mut way, peer) = (kind.open("e0"), peer("p0"));

    way.sender.send([plain(&frame(1, 60))], never);
    assert_eq!(drain(&mut way.receiver), []);
    // Frames that the machine itself sends on the device are not received either.
    af_packet::Sender::open(index("e0")).unwrap().send([plain(&frame(2, 60))], never);
    assert_eq!(drain(&mut way.receiver), []);
    peer.sender.send([plain(&frame(3, 60))], never);
    assert_eq!(drain(&mut way.receiver), untagged(vec![frame(3, 60)]));
}

fn a_refused_frame_is_told_and_the_next_one_passes(kind: SocketKind) {
    pair("e0", "p0", 1500);
    let (way, mut peer) = (kind.open("e0"), peer("p0"));
    let (good, big, short) = (frame(1, 60), frame(2, 3000), frame(3, 20));
    let tag = Some(VlanTag::new(7));
    let mut failures = Vec::new();

    let mut frames: Vec<_> = (0..130).map(|number| plain(if number % 65 == 64 { &big } else { &good })).collect();
    frames[3].bytes = &short[..9];
    frames[4] = Outgoing { vlan: tag, ..plain(&big) };
    let sent = way.sender.send(frames, |position, error| failures.push((position, error)));

    assert_eq!(sent, 126);
    let too_big = SendError::TooBig;
    assert_eq!(failures, [(3, SendError::Refused), (4, too_big), (64, too_big), (129, too_big)]);
    assert_eq!(drain(&mut peer.receiver).len(), 126);
}

fn the_errors_of_a_device_are_told_apart_and_it_works_again_after_them(kind: SocketKind) {
    pair("e0", "p0", 1500);
    let (mut way, mut peer) = (kind.open("e0"), peer("p0"));
    let some = frame(1, 60);
    let outcome = |way: &OpenDevice| {
        let mut outcome = Ok(());
        way.sender.send([plain(&some)], |_, error| outcome = Err(error));
        outcome
    };

    ip("link set e0 down");
    for _ in 0..5 {
        assert_eq!(outcome(&way), Err(SendError::LinkDown));
    }
    assert_eq!(peer.receiver.take_error().map(|error| error.kind()), None, "its own end stayed up");
    ip("link set p0 down");
    assert!(peer.receiver.take_error().is_some(), "a link that goes down is noted");
    assert!(peer.receiver.take_error().is_none(), "once");
    ip("link set e0 up");
    ip("link set p0 up");
    way.receiver.take_error();
    assert_eq!(outcome(&way), Ok(()));
    assert_eq!(drain(&mut peer.receiver).len(), 1, "what was refused does not leave later");
    peer.sender.send([plain(&some)], never);
    assert_eq!(drain(&mut way.receiver).len(), 1);

    ip("link delete e0");
    assert_eq!(outcome(&way), Err(SendError::NoDevice));
    pair("e0", "p0", 1500);
    assert_eq!(outcome(&way), Err(SendError::NoDevice), "a device of the same name is another device");
    let again = kind.open("e0");
    assert_eq!(outcome(&again), Ok(()));
}

fn a_device_that_is_down_is_opened_and_works_when_it_is_up(kind: SocketKind) {
    pair("e0", "p0", 1500);
    ip("link set e0 down");
    let (mut way, mut peer) = (kind.open("e0"), peer("p0"));
    ip("link set e0 up");
    let frames: Vec<_> = (0..20).map(|number| frame(number, 60)).collect();

    peer.sender.send(frames.iter().map(|frame| plain(frame)), never);
    assert_eq!(drain(&mut way.receiver), untagged(frames.clone()));
    way.sender.send(frames.iter().map(|frame| plain(frame)), never);
    assert_eq!(drain(&mut peer.receiver), untagged(frames));
}

fn frames_that_find_no_room_are_counted_and_the_next_ones_come(kind: SocketKind) {
    pair("e0", "p0", 1500);
    let (mut way, peer) = (kind.open("e0"), peer("p0"));
    let frames: Vec<_> = (0..10_000).map(|number| frame(number, 60)).collect();
    for frames in frames.chunks(100) {
        peer.sender.send(frames.iter().map(|frame| plain(frame)), never);
        // The device hands frames over on a kernel thread.
        std::thread::sleep(crate::time::Duration::from_millis(1));
    }

    let seen = drain(&mut way.receiver).len() as u64;
    let counts = way.receiver.maintain(Instant::ZERO);
    assert!((1000..9000).contains(&seen), "{seen}");
    assert_eq!((seen + counts.dropped, counts.unsent), (10_000, 0));
    assert_eq!(way.receiver.maintain(Instant::ZERO), RingCounts::default(), "counted once");
    peer.sender.send(frames[..100].iter().map(|frame| plain(frame)), never);
    assert_eq!(drain(&mut way.receiver), untagged(frames[..100].to_vec()));
}

fn tcp_passes_untouched(kind: SocketKind) {
    let (a, b) = hosts(kind);
    let wire = ForwardingBridge::between(kind, "e0", "e1", None);

    tcp_bulk(&a, &b, "10.88.0.2:0");
    tcp_bulk(&a, &b, "[fd88::2]:0");

    let carried = wire.cut();
    assert_eq!((checksum_errors(&a), checksum_errors(&b)), (vec![], vec![]));
    assert_eq!((&carried.errors[..], carried.lost), (&[][..], 0), "{carried:?}");
}

fn tcp_passes_through_a_vlan(kind: SocketKind) {
    let (a, b) = hosts(kind);
    pair("m0", "m1", 1500);
    let tag = Some(VlanTag { tpid: TPID_CUSTOMER, tci: 0x6064 });
    let (outer, inner) =
        (ForwardingBridge::between(kind, "e0", "m0", tag), ForwardingBridge::between(kind, "e1", "m1", tag));

    tcp_bulk(&a, &b, "10.88.0.2:0");
    tcp_bulk(&a, &b, "[fd88::2]:0");

    for carried in [outer.cut(), inner.cut()] {
        assert_eq!(carried.errors, []);
    }
    assert_eq!((checksum_errors(&a), checksum_errors(&b)), (vec![], vec![]));
}

#[test]
fn a_device_that_does_not_exist_is_named_so() {
    if !namespace() {
        return;
    }
    use crate::io::af_xdp::{self, Umem, XdpDevice};
    assert!(matches!(af_packet::Receiver::open(4711, Default::default()), Err(af_packet::PacketSocketError::NoDevice)));
    assert!(matches!(af_packet::Sender::open(4711), Err(af_packet::PacketSocketError::NoDevice)));
    let target = XdpDevice { name: "none", index: 4711, mtu: 1500, tagged: false };
    let outcome = af_xdp::open(target, &[Umem::new(1).unwrap()]);
    assert!(matches!(outcome, Err(af_xdp::XdpError::NoDevice)), "{outcome:?}");
}
