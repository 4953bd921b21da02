//! The generator: a thread on core 0 that sends 60-byte UDP packets of a number of flows into one lane after the other,
//! at full speed or at a rate. It reports no losses: offered and received packets are read from the devices' own
//! counters.
//!
//! It sends by AF_XDP, the fastest way to make packets that this program has; and by AF_PACKET where the machine has no
//! AF_XDP, or where the ends have to answer ARP: an AF_XDP socket takes every received frame of its device away from
//! the kernel.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use fwlb::io::clock::Clock;
use fwlb::io::frame_io::{Outgoing, Sender};
use fwlb::io::{af_packet, af_xdp, thread};
use fwlb::wire::MacAddr;
use fwlb::wire::emit::{self, AddressPair, MacPair};
use fwlb::wire::offload::Offload;

use crate::lane::{self, Lane};
use crate::placement::GENERATOR_CORE;

/// Packets for one system call.
const BURST: usize = 64;
/// Bytes of a packet without the check sequence: the shortest that Ethernet has.
const PACKET: usize = 60;
/// Data of a UDP datagram in it.
const DATA: usize = 18;
/// Ports of a client. Clients are 100.64.0.0 and following.
const PORTS: u32 = 16;
const FIRST_PORT: u16 = 40_000;
const NOBODY: usize = usize::MAX;
/// A generator that was kept from its core for longer than this does not catch up, because that would be a burst that
/// was not asked for.
const LAG_NANOS: u64 = 1_000_000;

/// The addresses of a lane's packets.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// The address to which clients send.
    pub to: Ipv4Addr,
    /// The address of the server, which answers.
    pub from: Ipv4Addr,
}

/// The end that sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The generator, as clients.
    Clients,
    /// The sink, as servers: so that sessions are established.
    Servers,
}

/// An order to the generator.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The number of the lane.
    pub lane: usize,
    /// From which end.
    pub end: End,
    /// Number of flows, which take turns.
    pub flows: u32,
    /// Packets per second; 0: full speed.
    pub rate: u64,
}

/// The kind of sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through packet sockets, from both ends.
    Packet,
    /// Through AF_XDP, from the clients alone.
    Xdp,
}

/// The packets of one end of one lane, and the sender for them.
#[derive(Debug)]
struct Gate {
    sender: Sender,
    /// Keeps the sender usable.
    _held: Option<(af_xdp::Attachment, af_xdp::Receiver)>,
    end: End,
    template: [u8; PACKET],
}

#[derive(Debug, Default)]
struct Orders {
    stop: AtomicBool,
    /// Index of the gate; there are two per lane.
    gate: AtomicUsize,
    flows: AtomicU32,
    rate: AtomicU64,
    /// Counts orders, so that the thread notices a new one.
    epoch: AtomicU64,
    /// Packets that were sent or could not be sent.
    attempted: AtomicU64,
}

/// The generator, see the module.
#[derive(Debug)]
pub struct Generator {
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

impl Generator {
    /// A silent generator for these lanes. On a machine without AF_XDP it uses packet sockets.
    pub fn new(lanes: &[(&Lane, Traffic)], way: Way) -> Result<Self> {
        let mut gates = Vec::new();
        for (lane, traffic) in lanes {
            gates.push(Gate::open(lane, End::Clients, *traffic, way)?);
            gates.push(Gate::open(lane, End::Servers, *traffic, Way::Packet)?);
        }
        let orders = Arc::new(Orders { gate: AtomicUsize::new(NOBODY), ..Orders::default() });
        let heard = orders.clone();
        let thread = std::thread::Builder::new()
            .name("generator".to_owned())
            .spawn(move || generate(&gates, &heard))
            .context("cannot start the generator's thread")?;
        Ok(Self { orders, thread: Some(thread) })
    }

    /// Sends this load from now on.
    pub fn send(&self, load: Load) {
        self.orders.flows.store(load.flows.max(1), Ordering::Relaxed);
        self.orders.rate.store(load.rate, Ordering::Relaxed);
        self.orders.gate.store(2 * load.lane + usize::from(load.end == End::Servers), Ordering::Relaxed);
        self.orders.epoch.fetch_add(1, Ordering::Release);
    }

    /// Number of packets so far that it sent or tried to send: exact a moment after it was silenced.
    pub fn attempted(&self) -> u64 {
        self.orders.attempted.load(Ordering::Relaxed)
    }

    /// Sends nothing from now on.
    pub fn silence(&self) {
        self.orders.gate.store(NOBODY, Ordering::Relaxed);
        self.orders.epoch.fetch_add(1, Ordering::Release);
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.orders.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Gate {
    fn open(lane: &Lane, end: End, traffic: Traffic, way: Way) -> Result<Self> {
        let (namespace, index, device) = match end {
            End::Clients => (&lane.generator, lane.generator_index()?, "g0"),
            End::Servers => (&lane.sink, lane.sink_index()?, "s0"),
        };
        let template = template(end, traffic)?;
        if way == Way::Xdp
            && let Ok((sender, held)) = namespace.inside(|| open_xdp(device, index))
        {
            return Ok(Self { sender: Sender::Xdp(sender), _held: Some(held), end, template });
        }
        let sender = namespace.inside(|| Ok(Sender::from(af_packet::Sender::open(index)?)))?;
        Ok(Self { sender, _held: None, end, template })
    }
}

/// Opens an AF_XDP sender on a device, together with what keeps it usable.
fn open_xdp(name: &str, index: u32) -> Result<(af_xdp::Sender, (af_xdp::Attachment, af_xdp::Receiver))> {
    let target = af_xdp::XdpDevice { name, index, mtu: 1500, tagged: false };
    let opened = af_xdp::open(target, &[af_xdp::Umem::new(1)?])?;
    let way = opened.endpoints.into_iter().next().flatten();
    let (receiver, sender) = way.context("the device has no queue for AF_XDP")?;
    Ok((sender.context("the device sends by no queue")?, (opened.attachment, receiver)))
}

/// The first flow's packet.
fn template(end: End, traffic: Traffic) -> Result<[u8; PACKET]> {
    let client = Ipv4Addr::new(100, 64, 0, 0);
    let (macs, pair, source, destination) = match end {
        End::Clients => (
            MacPair { source: MacAddr(lane::MAC_GEN), destination: MacAddr(lane::MAC_NEAR) },
            AddressPair::new(client.into(), traffic.to.into()),
            FIRST_PORT,
            lane::PORT,
        ),
        End::Servers => (
            MacPair { source: MacAddr(lane::MAC_SINK), destination: MacAddr(lane::MAC_FAR) },
            AddressPair::new(traffic.from.into(), client.into()),
            lane::PORT,
            FIRST_PORT,
        ),
    };
    let bytes = emit::udp(macs, pair.context("both addresses are IPv4")?, source, destination, &[0; DATA]);
    let mut template: [u8; PACKET] = bytes.try_into().ok().context("a UDP packet of 60 bytes")?;
    // The identification is the complement of the client's host number, so that the header's sum is the same for all
    // flows.
    template[18..20].copy_from_slice(&0xffff_u16.to_be_bytes());
    template[24..26].fill(0);
    let sum: u32 = template[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !(((folded & 0xffff) + (folded >> 16)) as u16);
    template[24..26].copy_from_slice(&checksum.to_be_bytes());
    // UDP over IPv4 without a checksum (RFC 768).
    template[40..42].fill(0);
    Ok(template)
}

/// Turns a packet of a gate into that of another flow.
fn write_flow(packet: &mut [u8; PACKET], end: End, flow: u32) {
    let host = ((flow / PORTS) as u16).to_be_bytes();
    let port = (FIRST_PORT + (flow % PORTS) as u16).to_be_bytes();
    let (address, udp) = match end {
        End::Clients => (28, 34),
        End::Servers => (32, 36),
    };
    packet[18..20].copy_from_slice(&host.map(|byte| !byte));
    packet[address..address + 2].copy_from_slice(&host);
    packet[udp..udp + 2].copy_from_slice(&port);
}

fn generate(gates: &[Gate], orders: &Orders) {
    // If the machine refuses either, the generator is slower, which the offered packets show.
    let _ = thread::pin_to(GENERATOR_CORE);
    let _ = thread::raise_priority();
    let clock = Clock::new();
    let mut packets = [[0; PACKET]; BURST];
    let mut flow = 0;
    while !orders.stop.load(Ordering::Relaxed) {
        let epoch = orders.epoch.load(Ordering::Acquire);
        let Some(gate) = gates.get(orders.gate.load(Ordering::Relaxed)) else {
            std::thread::sleep(std::time::Duration::from_micros(200));
            continue;
        };
        let (flows, rate) = (orders.flows.load(Ordering::Relaxed), orders.rate.load(Ordering::Relaxed));
        packets.fill(gate.template);
        let mut pacer = Pacer { rate, since: clock.now().as_nanos(), sent: 0 };
        while orders.epoch.load(Ordering::Relaxed) == epoch && !orders.stop.load(Ordering::Relaxed) {
            let due = if rate == 0 { BURST } else { pacer.due(clock.now().as_nanos()) };
            if due == 0 {
                std::hint::spin_loop();
                continue;
            }
            for packet in &mut packets[..due] {
                flow = if flow + 1 >= flows { 0 } else { flow + 1 };
                write_flow(packet, gate.end, flow);
            }
            let frames = packets[..due].iter().map(|bytes| Outgoing { bytes, vlan: None, offload: Offload::NONE });
            // The device counts the packets that it did not take.
            gate.sender.send(frames, |_, _| {});
            orders.attempted.fetch_add(due as u64, Ordering::Relaxed);
        }
    }
}

/// Computes how many packets are due at a rate.
#[derive(Debug)]
struct Pacer {
    rate: u64,
    since: u64,
    sent: u64,
}

impl Pacer {
    fn due(&mut self, now: u64) -> usize {
        let elapsed = now.saturating_sub(self.since);
        let wanted = (u128::from(elapsed) * u128::from(self.rate) / 1_000_000_000) as u64;
        let mut behind = wanted.saturating_sub(self.sent);
        let most = (self.rate * LAG_NANOS / 1_000_000_000).max(BURST as u64);
        if behind > most {
            self.sent = wanted - most;
            behind = most;
        }
        let due = behind.min(BURST as u64 / 4);
        self.sent += due;
        due as usize
    }
}
