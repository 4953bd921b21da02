//! An engine with one or more workers, and the choice of the worker that gets a frame.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use fwlb::engine::testbed::{self, PuntList, Side};
use fwlb::engine::{Batch, CountersCell, Forwarder, Packet, Snapshot, Verdict};
use fwlb::id::{DeviceId, LinkId};
use fwlb::session::SessionTable;
use fwlb::slb::{ForwardingMode, Scheduler, SchedulerState, Server, Service, Services, StickyBy};
use fwlb::time::{Duration, Instant};
use fwlb::wire::offload::Offload;

const SESSIONS: usize = 20_000;
pub const FIREWALLS: u16 = 4;
pub const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 200));

/// The decision about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub verdict: Verdict,
    /// The bytes that were sent; empty if none were.
    pub bytes: Vec<u8>,
    /// The frames that the engine made and sent.
    pub made: Vec<(LinkId, Vec<u8>)>,
    /// The number of sessions that it opened.
    pub opened: u64,
}

/// One of the workers.
pub struct Member {
    forwarder: Forwarder,
    cell: Arc<CountersCell>,
    punts: PuntList,
    /// The frames that it got.
    share: AtomicU64,
}

pub struct World {
    pub snapshot: Snapshot,
    pub members: Vec<Member>,
    table: Arc<SessionTable>,
    pub now: Instant,
}

impl World {
    pub fn outer(workers: usize) -> Self {
        Self::new(Side::Outer, workers)
    }

    /// An inner engine with a service of five servers on [`VIP`].
    pub fn inner(workers: usize, mode: ForwardingMode, scheduler: Scheduler, is_sticky: bool) -> Self {
        let mut world = Self::new(Side::Inner, workers);
        world.snapshot.services = service(mode, scheduler, is_sticky);
        world.snapshot.service_addresses = [VIP].into_iter().collect();
        world
    }

    fn new(side: Side, workers: usize) -> Self {
        let (table, forwarders) = testbed::forwarders(workers, SESSIONS);
        let member = |(forwarder, cell)| Member {
            forwarder,
            cell,
            punts: PuntList { capacity: usize::MAX, ..PuntList::default() },
            share: AtomicU64::new(0),
        };
        let snapshot = testbed::snapshot(side, FIREWALLS);
        Self { snapshot, members: forwarders.into_iter().map(member).collect(), table, now: Instant::from_millis(1) }
    }

    /// Delivers a frame, some time after the one before it.
    pub fn process(&mut self, device: u16, frame: &[u8]) -> Decision {
        self.now += Duration::from_micros(100);
        let number = member_for(frame, self.members.len());
        self.members[number].process(&self.snapshot, device, frame, self.now)
    }

    /// The number of frames that each worker got.
    pub fn shares(&self) -> Vec<u64> {
        self.members.iter().map(|member| member.share.load(Ordering::Relaxed)).collect()
    }

    pub fn sessions(&self) -> usize {
        self.table.len()
    }
}

impl Member {
    pub fn process(&mut self, snapshot: &Snapshot, device: u16, frame: &[u8], now: Instant) -> Decision {
        self.share.fetch_add(1, Ordering::Relaxed);
        let before = self.cell.read().sessions_created;
        let mut bytes = frame.to_vec();
        let mut batch = Batch::new();
        let device = DeviceId(device);
        batch.packets.push(Packet { device, vlan: None, offload: Offload::NONE, bytes: &mut bytes, verdict: None });
        self.forwarder.process(&mut batch, snapshot, &mut self.punts, now);
        let verdict = batch.packets[0].verdict.expect("every frame has one");
        drop(batch);
        let left = match verdict {
            Verdict::Forward(_) | Verdict::Hairpin(_) => bytes,
            Verdict::Replaced | Verdict::Punted | Verdict::Dropped(_) => Vec::new(),
        };
        let made = std::iter::from_fn(|| self.forwarder.poll_transmit()).map(|made| (made.link, made.bytes)).collect();
        Decision { verdict, bytes: left, made, opened: self.cell.read().sessions_created - before }
    }
}

/// The worker that a frame reaches, of `members`: by the ends of its flow whatever its direction, and for a fragment by
/// the addresses alone, as with `PACKET_FANOUT_HASH` (the kernel's `__skb_get_hash_symmetric`).
pub fn member_for(frame: &[u8], members: usize) -> usize {
    (ends(frame).fold() % members as u64) as usize
}

/// The ends of a frame's flow, the lower first; nothing for a frame that is not IP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ends(Vec<(Option<IpAddr>, u16)>);

impl Ends {
    /// FNV-1a, of which the high half depends on all input.
    fn fold(&self) -> u64 {
        let text = format!("{:?}", self.0);
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        hash >> 32
    }
}

pub fn ends(frame: &[u8]) -> Ends {
    let Ok(sliced) = SlicedPacket::from_ethernet(frame) else { return Ends::default() };
    let Some((source, destination)) = addresses(&sliced) else { return Ends::default() };
    let ports = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port()),
        Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()),
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_)) | None => (0, 0),
    };
    let ports = if is_fragment(&sliced) { (0, 0) } else { ports };
    let mut ends = vec![(Some(source), ports.0), (Some(destination), ports.1)];
    ends.sort_unstable();
    Ends(ends)
}

/// Source and destination.
pub fn addresses(sliced: &SlicedPacket<'_>) -> Option<(IpAddr, IpAddr)> {
    match sliced.net.as_ref()? {
        NetSlice::Ipv4(packet) => {
            Some((packet.header().source_addr().into(), packet.header().destination_addr().into()))
        }
        NetSlice::Ipv6(packet) => {
            Some((packet.header().source_addr().into(), packet.header().destination_addr().into()))
        }
        NetSlice::Arp(_) => None,
    }
}

fn is_fragment(sliced: &SlicedPacket<'_>) -> bool {
    sliced.net.as_ref().is_some_and(|net| match net {
        NetSlice::Ipv4(packet) => packet.header().more_fragments() || packet.header().fragments_offset().value() > 0,
        NetSlice::Ipv6(packet) => packet.extensions().is_fragmenting_payload(),
        NetSlice::Arp(_) => false,
    })
}

fn service(mode: ForwardingMode, scheduler: Scheduler, is_sticky: bool) -> Services {
    let state = SchedulerState::new(1000);
    let server = |number: u8| Server {
        v6: None,
        port: matches!(mode, ForwardingMode::Nat | ForwardingMode::FullNat).then_some(8080),
        weight: 1 + u16::from(number) % 2,
        ..testbed::server(&state, number)
    };
    Services::new(vec![Service {
        addresses: vec![VIP],
        protocols: vec![6],
        scheduler,
        mode,
        sticky: is_sticky.then(|| StickyBy { prefix: 28, prefix6: 64, timeout: Duration::from_secs(600) }),
        ..testbed::service(&state, (0..5).map(server))
    }])
}
