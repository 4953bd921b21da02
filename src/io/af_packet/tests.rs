//! On real veth pairs: the engine's ends are `e…` in the test's namespace, the hosts behind them have namespaces of their own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::id::DeviceId;
use crate::io::netdev;
use crate::io::testing::{Host, command, ip, namespace};
use crate::io::wait::{Waiter, Wake};
use crate::time::Duration;
use crate::wire::batch::Batch;
use crate::wire::offload::Offload;
use crate::wire::vlan::{TPID_CUSTOMER, TPID_SERVICE, VlanTag};

const TRUNCATED: &str = "truncated";

fn index(name: &str) -> u32 {
    netdev::find(name).expect("the test made it").index
}

/// A veth pair in the test's namespace, both ends up, with no address and no chatter of the kernel's own.
fn pair(a: &str, b: &str, mtu: u32) {
    ip(&format!("link add {a} mtu {mtu} type veth peer name {b} mtu {mtu}"));
    for device in [a, b] {
        command("sysctl", &format!("-q -w net.ipv6.conf.{device}.disable_ipv6=1"));
        ip(&format!("link set {device} up"));
    }
}

/// An Ethernet frame of `len` bytes whose payload says its number.
fn frame(number: u16, len: usize) -> Vec<u8> {
    let mut frame = vec![0x55; len];
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&0x88b5u16.to_be_bytes());
    if len >= 16 {
        frame[14..16].copy_from_slice(&number.to_be_bytes());
    }
    frame
}

fn plain(bytes: &[u8]) -> Outgoing<'_> {
    Outgoing { bytes, vlan: None, offload: Offload::NONE }
}

fn never(position: usize, error: SendError) {
    panic!("frame {position}: {error:?}");
}

/// A received frame as the tests look at it: tag, bytes, verdict.
type Seen = (Option<VlanTag>, Vec<u8>, Option<&'static str>);

/// Everything that waits in the ring.
fn drain(receiver: &mut Receiver) -> Vec<Seen> {
    let mut seen = Vec::new();
    loop {
        let mut batch = Batch::new();
        let count = receiver.receive(DeviceId(7), &mut batch, || TRUNCATED);
        assert!(batch.packets.iter().all(|packet| packet.device == DeviceId(7)));
        seen.extend(batch.packets.iter().map(|packet| (packet.vlan, packet.bytes.to_vec(), packet.verdict)));
        drop(batch);
        receiver.release();
        if count == 0 {
            return seen;
        }
    }
}

#[test]
fn frames_of_every_length_arrive_in_order_and_whole() {
    if !namespace() {
        return;
    }
    pair("e0", "p0", 9000);
    let mut receiver = Receiver::open(index("e0"), RingOptions::default()).unwrap();
    let sender = Sender::open(index("p0")).unwrap();
    let lengths = [14, 15, 20, 24, 42, 60, 64, 1514, 1971, 1972, 1973, 2048, 4096, 9014, 100, 8000, 60];
    let frames: Vec<_> = (0..).zip(lengths).map(|(number, len)| frame(number, len)).collect();

    assert_eq!(sender.send(frames.iter().map(|frame| plain(frame)), never), frames.len());

    let seen = drain(&mut receiver);
    assert_eq!(seen, frames.into_iter().map(|frame| (None, frame, None)).collect::<Vec<_>>());
    assert_eq!(receiver.take_counts(), RingCounts::default());
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
    let mut receiver = Receiver::open(index("e0"), RingOptions::for_mtu(9000)).unwrap();
    let sender = Sender::open(index("p0")).unwrap();
    // More than the queue beside the ring would take.
    let frames: Vec<_> = (0..1000).map(|number| frame(number, 9014)).collect();
    sender.send(frames.iter().map(|frame| plain(frame)), never);

    let seen = drain(&mut receiver);
    assert!(seen.len() == 1000 && seen.iter().all(|(_, bytes, verdict)| bytes.len() == 9014 && verdict.is_none()));
}

#[test]
fn the_ring_goes_round_many_times_and_edited_bytes_are_what_is_sent() {
    if !namespace() {
        return;
    }
    pair("e0", "p0", 1500);
    pair("e1", "p1", 1500);
    let small = RingOptions { slots: 128, slot_bytes: 2048 };
    let mut receiver = Receiver::open(index("e0"), small).unwrap();
    let out = Sender::open(index("e1")).unwrap();
    let mut end = Receiver::open(index("p1"), small).unwrap();
    let source = Sender::open(index("p0")).unwrap();

    for round in 0..50u16 {
        let frames: Vec<_> = (0..100).map(|number| frame(round * 100 + number, 60)).collect();
        source.send(frames.iter().map(|frame| plain(frame)), never);
        loop {
            let mut batch = Batch::<()>::new();
            if receiver.receive(DeviceId(0), &mut batch, || ()) == 0 {
                break;
            }
            for packet in &mut batch.packets {
                packet.bytes[20] = packet.bytes[15] ^ 0xff;
            }
            out.send(batch.packets.iter().map(|packet| plain(packet.bytes)), never);
            drop(batch);
            receiver.release();
        }
        let seen = drain(&mut end);
        let numbers: Vec<_> = seen.iter().map(|(_, bytes, _)| u16::from_be_bytes([bytes[14], bytes[15]])).collect();
        assert_eq!(numbers, (round * 100..round * 100 + 100).collect::<Vec<_>>());
        assert!(seen.iter().all(|(_, bytes, _)| bytes[20] == bytes[15] ^ 0xff));
    }
}

#[test]
fn frames_beyond_the_ring_are_dropped_and_counted() {
    if !namespace() {
        return;
    }
    pair("e0", "p0", 1500);
    let mut receiver = Receiver::open(index("e0"), RingOptions { slots: 128, slot_bytes: 2048 }).unwrap();
    let sender = Sender::open(index("p0")).unwrap();
    let frames: Vec<_> = (0..300).map(|number| frame(number, 60)).collect();

    sender.send(frames.iter().map(|frame| plain(frame)), never);

    assert_eq!(drain(&mut receiver).len(), 128);
    assert_eq!(receiver.take_counts(), RingCounts { dropped: 172 });
    assert_eq!(receiver.take_counts(), RingCounts::default(), "counted once");
}

#[test]
fn a_super_frame_without_room_beside_the_ring_is_told_as_truncated_and_never_short() {
    if !namespace() {
        return;
    }
    pair("e0", "p0", 65_535);
    let mut receiver = Receiver::open(index("e0"), RingOptions::default()).unwrap();
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
    let mut receiver = Receiver::open(index("e0"), RingOptions::default()).unwrap();
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
fn every_vlan_of_both_kinds_comes_in_and_goes_out_with_its_priority() {
    if !namespace() {
        return;
    }
    pair("e0", "p0", 1500);
    let mut receiver = Receiver::open(index("e0"), RingOptions::default()).unwrap();
    let sender = Sender::open(index("p0")).unwrap();

    // The largest legal frame of an MTU of 1500: Linux allows a customer tag on top, a service tag it counts as payload.
    for (tpid, len) in [(TPID_CUSTOMER, 1514), (TPID_SERVICE, 1510)] {
        let tags: Vec<_> = (0..=4095u16).map(|vid| VlanTag { tpid, tci: ((vid % 16) << 12) | vid }).collect();
        for tags in tags.chunks(256) {
            let frames: Vec<_> = tags.iter().map(|tag| (frame(tag.vid(), len), Some(*tag))).collect();
            let outgoing = frames.iter().map(|(bytes, vlan)| Outgoing { vlan: *vlan, ..plain(bytes) });
            sender.send(outgoing, never);
            let seen = drain(&mut receiver);
            assert_eq!(seen, frames.into_iter().map(|(bytes, vlan)| (vlan, bytes, None)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn an_inner_tag_stays_in_the_frame() {
    if !namespace() {
        return;
    }
    pair("e0", "p0", 1500);
    let mut receiver = Receiver::open(index("e0"), RingOptions::default()).unwrap();
    let sender = Sender::open(index("p0")).unwrap();
    let mut inner = frame(1, 80);
    inner[12..16].copy_from_slice(&[0x81, 0, 0, 20]);
    let outer = Some(VlanTag { tpid: TPID_SERVICE, tci: 10 });

    sender.send([Outgoing { vlan: outer, ..plain(&inner) }], never);

    assert_eq!(drain(&mut receiver), [(outer, inner, None)]);
}

#[test]
fn own_frames_are_not_read_back_also_when_workers_share_the_device() {
    if !namespace() {
        return;
    }
    pair("e0", "p0", 1500);
    let (out, source) = (Sender::open(index("e0")).unwrap(), Sender::open(index("p0")).unwrap());
    let own = frame(1, 60);
    let mut alone = Receiver::open(index("e0"), RingOptions::default()).unwrap();
    out.send([plain(&own)], never);
    assert_eq!(drain(&mut alone), []);
    drop(alone);

    let mut workers: Vec<_> = (0..2).map(|_| Receiver::open(index("e0"), RingOptions::default()).unwrap()).collect();
    let set = workers[0].join(None).unwrap();
    assert_eq!(workers[1].join(Some(set)).unwrap(), set);
    out.send([plain(&own)], never);
    assert!(workers.iter_mut().all(|worker| drain(worker).is_empty()));
    // UDP over IPv4 from 64 ports: the workers share the flows, and none comes to both.
    let flows: Vec<_> = (0..64u16).map(udp).collect();
    source.send(flows.iter().map(|frame| plain(frame)), never);

    let shares: Vec<_> = workers.iter_mut().map(|worker| drain(worker).len()).collect();
    assert_eq!(shares.iter().sum::<usize>(), 64, "{shares:?}");
    assert!(shares.iter().all(|share| *share > 8), "{shares:?}");
}

/// A UDP datagram over IPv4 from port 1000 + `flow`.
fn udp(flow: u16) -> Vec<u8> {
    let mut frame = frame(0, 60);
    frame[12..14].copy_from_slice(&0x0800u16.to_be_bytes());
    frame[14..34].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame[34..38].copy_from_slice(&[(1000 + flow).to_be_bytes(), [0, 53]].concat());
    frame[38..42].copy_from_slice(&[0, 26, 0, 0]);
    frame
}

#[test]
fn a_refused_frame_is_told_and_the_next_one_passes() {
    if !namespace() {
        return;
    }
    pair("e0", "p0", 1500);
    let mut receiver = Receiver::open(index("e0"), RingOptions::default()).unwrap();
    let sender = Sender::open(index("p0")).unwrap();
    let (good, big) = (frame(1, 60), frame(2, 3000));
    let mut failures = Vec::new();

    let frames: Vec<_> = (0..130).map(|number| plain(if number % 65 == 64 { &big } else { &good })).collect();
    let sent = sender.send(frames, |position, error| failures.push((position, error)));

    assert_eq!(sent, 128);
    assert_eq!(failures, [(64, SendError::TooBig), (129, SendError::TooBig)]);
    assert_eq!(drain(&mut receiver).len(), 128);
}

#[test]
fn the_errors_of_a_device_are_told_apart_and_the_socket_outlives_them() {
    if !namespace() {
        return;
    }
    pair("e0", "p0", 1500);
    let mut receiver = Receiver::open(index("p0"), RingOptions::default()).unwrap();
    let sender = Sender::open(index("e0")).unwrap();
    let frame = frame(1, 60);
    let outcome = || {
        let mut outcome = Ok(());
        sender.send([plain(&frame)], |_, error| outcome = Err(error));
        outcome
    };

    ip("link set e0 down");
    assert_eq!(outcome(), Err(SendError::LinkDown));
    assert_eq!(receiver.take_error().map(|error| error.kind()), None, "its own end stayed up");
    ip("link set p0 down");
    assert!(receiver.take_error().is_some(), "a link that goes down is noted");
    assert!(receiver.take_error().is_none(), "once");
    ip("link set e0 up");
    ip("link set p0 up");
    assert_eq!(outcome(), Ok(()));
    assert_eq!(drain(&mut receiver).len(), 1, "both sockets work again");

    command("nft", "add table netdev t");
    command("nft", "add chain netdev t c { type filter hook egress device e0 priority 0; policy drop; }");
    assert_eq!(outcome(), Err(SendError::NoBuffers));
    command("nft", "delete table netdev t");
    assert_eq!(outcome(), Ok(()));

    ip("link delete e0");
    assert_eq!(outcome(), Err(SendError::NoDevice));
    pair("e0", "p0", 1500);
    assert_eq!(outcome(), Err(SendError::NoDevice), "a device of the same name is another device");
    Sender::open(index("e0")).unwrap().send([plain(&frame)], never);
}

#[test]
fn a_device_that_does_not_exist_is_named_so() {
    if !namespace() {
        return;
    }
    assert!(matches!(Receiver::open(4711, RingOptions::default()), Err(OpenError::NoDevice)));
    assert!(matches!(Sender::open(4711), Err(OpenError::NoDevice)));
}

/// Copies frames from one device to another, both ways, until dropped. `inside` is the tag that they have on the second.
struct Wire {
    stop: Arc<AtomicBool>,
    wake: Wake,
    thread: Option<std::thread::JoinHandle<Carried>>,
}

/// What a [`Wire`] saw.
#[derive(Debug, Default)]
struct Carried {
    frames: usize,
    /// Super-frames, by kind.
    tcp: usize,
    udp: usize,
    partial: usize,
    errors: Vec<SendError>,
}

impl Wire {
    fn between(first: &str, second: &str, inside: Option<VlanTag>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let wake = Wake::new().unwrap();
        let mut ends = [first, second].map(|name| Receiver::open(index(name), RingOptions::default()).unwrap());
        let outs = [second, first].map(|name| Sender::open(index(name)).unwrap());
        let tags = [inside, None];
        let (stopping, mut waiter) = (stop.clone(), Waiter::new(wake.clone()));
        let thread = std::thread::spawn(move || {
            let mut carried = Carried::default();
            while !stopping.load(Ordering::Relaxed) {
                let mut taken = 0;
                for ((end, out), tag) in ends.iter_mut().zip(&outs).zip(tags) {
                    let mut batch = Batch::new();
                    taken += end.receive(DeviceId(0), &mut batch, || TRUNCATED);
                    let whole = batch.packets.iter().filter(|packet| packet.verdict.is_none());
                    carried.count(whole.clone().map(|packet| packet.offload));
                    out.send(
                        whole.map(|packet| Outgoing { bytes: packet.bytes, vlan: tag, offload: packet.offload }),
                        |_, error| carried.errors.push(error),
                    );
                    drop(batch);
                    end.release();
                }
                if taken == 0 {
                    waiter.wait(ends.iter(), Duration::from_secs(1));
                }
            }
            carried
        });
        Self { stop, wake, thread: Some(thread) }
    }

    fn cut(mut self) -> Carried {
        self.stop.store(true, Ordering::Relaxed);
        self.wake.notify();
        self.thread.take().expect("cut once").join().expect("the wire held")
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake.notify();
    }
}

impl Carried {
    fn count(&mut self, offloads: impl Iterator<Item = Offload>) {
        use crate::wire::offload::GsoKind;
        for offload in offloads {
            self.frames += 1;
            self.partial += usize::from(offload.partial.is_some());
            match offload.gso.map(|gso| gso.kind) {
                Some(GsoKind::Tcp4 | GsoKind::Tcp6) => self.tcp += 1,
                Some(GsoKind::UdpSegments | GsoKind::UdpFragments) => self.udp += 1,
                None => {}
            }
        }
    }
}

/// Two hosts with default offloads whose frames the engine's side carries: 10.88.0.1 on `a`, 10.88.0.2 on `b`.
fn hosts() -> (Host, Host) {
    let hosts = (Host::new(), Host::new());
    for (host, device, number) in [(&hosts.0, "e0", 1), (&hosts.1, "e1", 2)] {
        ip(&format!("link add {device} type veth peer name h0 netns {}", host.id));
        command("sysctl", &format!("-q -w net.ipv6.conf.{device}.disable_ipv6=1"));
        ip(&format!("link set {device} up"));
        host.ip("link set h0 up");
        host.ip(&format!("address add 10.88.0.{number}/24 dev h0"));
        host.ip(&format!("-6 address add fd88::{number}/64 dev h0 nodad"));
    }
    hosts
}

/// Sends 8 MiB from `a` to a server on `b` and back, and compares every byte.
fn tcp_bulk(a: &Host, b: &Host, server: &'static str) {
    let content: Vec<u8> = (0..8usize << 20).map(|at| (at / 251 + at % 251) as u8).collect();
    let (told, ready) = std::sync::mpsc::channel();
    b.run(move || {
        let listener = TcpListener::bind(server).unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&all).unwrap();
        });
        told.send((address, thread)).unwrap();
    });
    let (address, thread) = ready.recv().unwrap();
    let expected = content.clone();
    let back = a.run(move || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(&content).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    thread.join().unwrap();
    assert!(back == expected, "{} of {} bytes came back, or others", back.len(), expected.len());
}

/// The host's TCP and UDP checksum errors since it was made.
fn checksum_errors(host: &Host) -> Vec<String> {
    let counters = host.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let mut found = Vec::new();
    for lines in counters.lines().collect::<Vec<_>>().chunks(2) {
        let [names, values] = lines else { continue };
        for (name, value) in names.split(' ').zip(values.split(' ')).filter(|(name, _)| *name == "InCsumErrors") {
            found.extend((value != "0").then(|| format!("{} {name} {value}", names.split(':').next().unwrap_or(""))));
        }
    }
    found
}

#[test]
fn tcp_with_default_offloads_passes_untouched_and_most_of_it_in_super_frames() {
    if !namespace() {
        return;
    }
    let (a, b) = hosts();
    let wire = Wire::between("e0", "e1", None);

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
    let (a, b) = hosts();
    pair("m0", "m1", 1500);
    let tag = Some(VlanTag { tpid: TPID_CUSTOMER, tci: 0x6064 });
    let (outer, inner) = (Wire::between("e0", "m0", tag), Wire::between("e1", "m1", tag));

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
    let (a, b) = hosts();
    let wire = Wire::between("e0", "e1", None);
    let (told, ready) = std::sync::mpsc::channel();
    b.run(move || told.send(UdpSocket::bind("10.88.0.2:7").unwrap()).unwrap());
    let server = ready.recv().unwrap();
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
