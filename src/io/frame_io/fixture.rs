//! Veth pairs for the tests of all kinds of sockets: the engine's ends are called `e…` and lie in the test's namespace,
//! the hosts behind them have namespaces of their own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Outgoing, Receiver, SendError, Sender};
use crate::id::DeviceId;
use crate::io::af_xdp::{self, Attachment, Hook, SendSocket, Umem, XdpDevice};
use crate::io::testing::{Host, command, ip};
use crate::io::wait::{Waiter, Wake};
use crate::io::{af_packet, netdev};
use crate::time::{Duration, Instant};
use crate::wire::batch::Batch;
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;

pub(crate) const TRUNCATED: &str = "truncated";

/// The sockets with which the engine's ends are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketKind {
    Packet,
    /// Packet sockets, with an AF_XDP socket beside them for sending.
    XdpSend,
    Xdp(Hook),
}

/// An open device.
#[derive(Debug)]
pub(crate) struct OpenDevice {
    pub receiver: Receiver,
    pub sender: Sender,
    /// Keeps the XDP program attached.
    pub attachment: Option<Attachment>,
}

/// Opens the devices of one worker.
#[derive(Debug)]
pub(crate) struct UmemFixture {
    kind: SocketKind,
    pub umem: Umem,
}

impl SocketKind {
    pub(crate) fn umem_fixture(self) -> UmemFixture {
        UmemFixture { kind: self, umem: Umem::new(2).unwrap() }
    }

    /// Opens a device for a worker that has no other.
    pub(crate) fn open(self, device: &str) -> OpenDevice {
        self.umem_fixture().open(device)
    }
}

impl UmemFixture {
    pub(crate) fn open(&self, device: &str) -> OpenDevice {
        match self.kind {
            SocketKind::Packet | SocketKind::XdpSend => {
                let index = index(device);
                let xdp = (self.kind == SocketKind::XdpSend)
                    .then(|| SendSocket::open(target(device), 0, &self.umem).unwrap());
                OpenDevice {
                    receiver: Receiver::Packet(af_packet::Receiver::open(index, Default::default()).unwrap()),
                    sender: Sender::Packet { socket: af_packet::Sender::open(index).unwrap(), xdp },
                    attachment: None,
                }
            }
            SocketKind::Xdp(hook) => {
                let mut opened = af_xdp::open_at(target(device), std::slice::from_ref(&self.umem), &[hook]).unwrap();
                let (receiver, sender) = opened.endpoints.remove(0).expect("there is one worker, and a queue");
                OpenDevice {
                    receiver: Receiver::Xdp(receiver),
                    sender: Sender::Xdp(sender.expect("the device sends by its first queue")),
                    attachment: Some(opened.attachment),
                }
            }
        }
    }
}

pub(crate) fn target(name: &str) -> XdpDevice<'_> {
    let found = netdev::find(name).expect("the test made it");
    XdpDevice { name, index: found.index, mtu: found.mtu, tagged: false }
}

/// Opens the other end of a pair, as the rest of the network sees it.
pub(crate) fn peer(device: &str) -> OpenDevice {
    SocketKind::Packet.open(device)
}

/// What the tests compare of a received frame: tag, bytes, verdict.
pub(crate) type ReceivedFrame = (Option<VlanTag>, Vec<u8>, Option<&'static str>);

/// Receives all frames that wait or arrive within a moment: some devices hand frames over later.
pub(crate) fn drain(receiver: &mut Receiver) -> Vec<ReceivedFrame> {
    let mut seen = Vec::new();
    let mut waiter = Waiter::new(Wake::new().unwrap());
    let mut is_over = false;
    loop {
        let mut batch = Batch::new();
        let count = receiver.receive(DeviceId(7), &mut batch, || TRUNCATED);
        assert!(batch.packets.iter().all(|packet| packet.device == DeviceId(7)));
        seen.extend(batch.packets.iter().map(|packet| (packet.vlan, packet.bytes.to_vec(), packet.verdict)));
        drop(batch);
        receiver.release();
        if count > 0 {
            is_over = false;
        } else if is_over {
            return seen;
        } else {
            is_over = true;
            waiter.wait(std::iter::once(&*receiver), Duration::from_millis(10));
        }
    }
}

pub(crate) fn index(name: &str) -> u32 {
    netdev::find(name).expect("the test made it").index
}

/// Makes a veth pair in the test's namespace: both ends up, without addresses, and without packets of the kernel's own.
pub(crate) fn pair(a: &str, b: &str, mtu: u32) {
    ip(&format!("link add {a} mtu {mtu} type veth peer name {b} mtu {mtu}"));
    for device in [a, b] {
        command("sysctl", &format!("-q -w net.ipv6.conf.{device}.disable_ipv6=1"));
        ip(&format!("link set {device} up"));
    }
}

/// An Ethernet frame of `len` bytes whose payload contains its number.
pub(crate) fn frame(number: u16, len: usize) -> Vec<u8> {
    let mut frame = vec![0x55; len];
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&0x88b5u16.to_be_bytes());
    if len >= 16 {
        frame[14..16].copy_from_slice(&number.to_be_bytes());
    }
    frame
}

pub(crate) fn plain(bytes: &[u8]) -> Outgoing<'_> {
    Outgoing { bytes, vlan: None, offload: Offload::NONE }
}

pub(crate) fn never(position: usize, error: SendError) {
    panic!("frame {position}: {error:?}");
}

/// A UDP datagram over IPv4 from port 1000 + `flow`.
pub(crate) fn udp(flow: u16) -> Vec<u8> {
    let mut frame = frame(0, 60);
    frame[12..14].copy_from_slice(&0x0800u16.to_be_bytes());
    frame[14..34].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame[34..38].copy_from_slice(&[(1000 + flow).to_be_bytes(), [0, 53]].concat());
    frame[38..42].copy_from_slice(&[0, 26, 0, 0]);
    frame
}

/// Copies frames between two devices in both directions until dropped. `inside` is the tag that they have on the
/// second.
pub(crate) struct ForwardingBridge {
    stop: Arc<AtomicBool>,
    wake: Wake,
    thread: Option<std::thread::JoinHandle<BridgeCounts>>,
}

/// What a [`ForwardingBridge`] carried.
#[derive(Debug, Default)]
pub(crate) struct BridgeCounts {
    pub frames: usize,
    /// Super-frames, by kind.
    pub tcp: usize,
    pub udp: usize,
    pub partial: usize,
    pub errors: Vec<SendError>,
    /// Frames that the devices took and did not send, or had no room for.
    pub lost: u64,
}

impl ForwardingBridge {
    pub(crate) fn between(kind: SocketKind, first: &str, second: &str, inside: Option<VlanTag>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let wake = Wake::new().unwrap();
        let desk = kind.umem_fixture();
        let [first, second] = [first, second].map(|name| desk.open(name));
        let attached = [first.attachment, second.attachment];
        let (mut ends, outs) = ([first.receiver, second.receiver], [second.sender, first.sender]);
        let tags = [inside, None];
        let (stopping, mut waiter) = (stop.clone(), Waiter::new(wake.clone()));
        let thread = std::thread::spawn(move || {
            let mut carried = BridgeCounts::default();
            let _attached = attached;
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
            for end in &ends {
                let counts = end.maintain(Instant::ZERO);
                carried.lost += counts.dropped + counts.unsent;
            }
            carried
        });
        Self { stop, wake, thread: Some(thread) }
    }

    pub(crate) fn cut(mut self) -> BridgeCounts {
        self.stop.store(true, Ordering::Relaxed);
        self.wake.notify();
        self.thread.take().expect("cut once").join().expect("the wire held")
    }
}

impl Drop for ForwardingBridge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake.notify();
    }
}

impl BridgeCounts {
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

/// Two hosts whose frames the engine's side carries: 10.88.0.1 on `a`, 10.88.0.2 on `b`. Offloads keep their defaults
/// where this kind of socket carries them.
pub(crate) fn hosts(kind: SocketKind) -> (Host, Host) {
    let hosts = (Host::new(), Host::new());
    for (host, device, number) in [(&hosts.0, "e0", 1), (&hosts.1, "e1", 2)] {
        ip(&format!("link add {device} type veth peer name h0 netns {}", host.id));
        command("sysctl", &format!("-q -w net.ipv6.conf.{device}.disable_ipv6=1"));
        ip(&format!("link set {device} up"));
        host.ip("link set h0 up");
        if matches!(kind, SocketKind::Xdp(_)) {
            host.run(|| drop(command("ethtool", "-K h0 tx off")));
        }
        host.ip(&format!("address add 10.88.0.{number}/24 dev h0"));
        host.ip(&format!("-6 address add fd88::{number}/64 dev h0 nodad"));
    }
    hosts
}

/// Sends 8 MiB from `a` to a server on `b` and back, and compares every byte.
pub(crate) fn tcp_bulk(a: &Host, b: &Host, server: &'static str) {
    let content: Vec<u8> = (0..8usize << 20).map(|at| (at / 251 + at % 251) as u8).collect();
    let (sender, receiver) = std::sync::mpsc::channel();
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
        sender.send((address, thread)).unwrap();
    });
    let (address, thread) = receiver.recv().unwrap();
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

/// The host's counters of TCP and UDP checksum errors.
pub(crate) fn checksum_errors(host: &Host) -> Vec<String> {
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
