//! Any input through the forwarder of the testbed: no panic, every frame has one verdict, every verdict is counted,
//! every table stays within its bounds, and a forwarded packet differs from the received one in its MACs, TTL and
//! header checksum only. In worlds with a service, in any mode, no server counts a session that does not exist.
//!
//! ```text
//! input:  world (1 byte)  record*
//! record: flags (1)  pause (1, in 100 ms)  length (2, little endian)  frame (length, or what is left)
//! ```

use std::net::IpAddr;
use std::sync::LazyLock;

use fwlb::engine::testbed::{self, PuntList, Side};
use fwlb::engine::{Batch, Counters, Forwarder, Packet, Snapshot, Verdict};
use fwlb::id::DeviceId;
use fwlb::path::OnFailure;
use fwlb::session::{ConversationState, SessionTable, TcpState};
use fwlb::slb::{ForwardingMode, SchedulerState, Server, Service, Services};
use fwlb::time::{Duration, Instant};
use fwlb::wire::checksum;
use fwlb::wire::frame::{ETHERNET_LEN, Frame};
use fwlb::wire::offload::{Gso, GsoKind, Offload, PartialChecksum};
use fwlb::wire::vlan::VlanTag;

/// Few sessions, so that a short input can cause floods and evictions.
const SESSIONS: usize = 6;

/// Bits of the first byte.
mod world {
    pub const INNER: u8 = 0x01;
    pub const SMALL_MTU: u8 = 0x02;
    pub const RESET_ON_FAILURE: u8 = 0x04;
    pub const NO_PUNTS: u8 = 0x08;
    /// The mode of a service, one of [`super::MODES`]; 0: none.
    pub const SERVICE_SHIFT: u8 = 4;
}

/// How a service reaches its servers, and whether those have addresses of the other family.
const MODES: [(ForwardingMode, bool); 5] = [
    (ForwardingMode::Nat, false),
    (ForwardingMode::FullNat, false),
    (ForwardingMode::Direct, false),
    (ForwardingMode::Tunnel, false),
    (ForwardingMode::Tunnel, true),
];

/// Bits of a record's flags.
mod flag {
    /// Received by device 1.
    pub const DEVICE: u8 = 0x01;
    /// The MACs and the IPv4 header checksum are corrected, so that the frame is not dropped at once.
    pub const HEAL: u8 = 0x02;
    /// From firewall 1 instead of 0, if healed.
    pub const OTHER_FIREWALL: u8 = 0x04;
    pub const PARTIAL: u8 = 0x08;
    pub const GSO: u8 = 0x10;
    pub const TAGGED: u8 = 0x20;
    /// Time passes in the forwarder before the frame.
    pub const EXPIRE: u8 = 0x40;
    /// From here on, firewall 0 and the first server are down.
    pub const FIREWALL_DOWN: u8 = 0x80;
}

/// One snapshot with both firewalls up for each distinct world, and the same with firewall 0 down.
static SNAPSHOTS: LazyLock<Vec<[Snapshot; 2]>> = LazyLock::new(|| (0..8).map(snapshots).collect());

fn snapshots(choice: u8) -> [Snapshot; 2] {
    let mut up = testbed::snapshot(side(choice), 2);
    if choice & world::SMALL_MTU != 0 {
        for link in &mut up.links {
            link.mtu = 600;
        }
    }
    if choice & world::RESET_ON_FAILURE != 0 {
        up.groups[0].on_failure = OnFailure::Reset;
    }
    let mut down = up.clone();
    down.epoch += 1;
    for set in &mut down.path_sets {
        set.up &= !1;
        set.selectable &= !1;
        set.failure_counts[0] += 1;
    }
    [up, down]
}

/// The service of a world, on the addresses that the seeds use for the server; made anew for each run, because it has
/// state.
fn service(choice: u8) -> Option<Service> {
    let (mode, is_crossed) = *MODES.get(usize::from(choice >> world::SERVICE_SHIFT).checked_sub(1)?)?;
    let state = SchedulerState::new(4);
    let address = |text: &str| text.parse::<IpAddr>().expect("an address written in this file");
    let server = |number: u8| {
        let (v4, v6) = (address(&format!("203.0.113.{}", 10 + number)), address(&format!("2001:db8:113::1{number}")));
        Server {
            v4: Some(if is_crossed { v6 } else { v4 }),
            v6: Some(if is_crossed { v4 } else { v6 }),
            port: None,
            ..testbed::server(&state, number)
        }
    };
    Some(Service {
        addresses: vec![address("203.0.113.80"), address("2001:db8:113::80")],
        ports: vec![1..=u16::MAX],
        mode,
        ..testbed::service(&state, [server(0), server(1)])
    })
}

/// The worlds of [`SNAPSHOTS`] with the service in them; its first server goes down together with firewall 0.
fn with_service(service: &Service, [up, down]: &[Snapshot; 2]) -> [Snapshot; 2] {
    let mut fallen = service.clone();
    fallen.servers[0].up = [false; 2];
    fallen.servers[0].failure_counts = [1; 2];
    [(up, service.clone()), (down, fallen)].map(|(snapshot, service)| Snapshot {
        service_addresses: service.addresses.iter().copied().collect(),
        services: Services::new(vec![service]),
        ..snapshot.clone()
    })
}

fn side(choice: u8) -> Side {
    if choice & world::INNER == 0 { Side::Outer } else { Side::Inner }
}

/// Runs one input and returns the counters; panics if a promise is broken.
pub fn run(data: &[u8]) -> Counters {
    let Some((&choice, mut rest)) = data.split_first() else { return Counters::default() };
    let plain = &SNAPSHOTS[usize::from(choice & 7)];
    let service = service(choice);
    let served = service.as_ref().map(|service| with_service(service, plain));
    let [up, down] = served.as_ref().unwrap_or(plain);
    let (table, mut forwarders) = testbed::forwarders(1, SESSIONS);
    let (mut forwarder, cell) = forwarders.pop().expect("one was asked for");
    let capacity = if choice & world::NO_PUNTS == 0 { 1000 } else { 0 };
    let mut punts = PuntList { capacity, ..PuntList::default() };
    let mut now = Instant::from_millis(1_000_000);
    let mut snapshot = up;
    let mut fed = 0;

    while let Some((&[flags, pause, low, high], tail)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([low, high])).min(tail.len());
        let (frame, tail) = tail.split_at(length);
        rest = tail;
        now += Duration::from_millis(u64::from(pause) * 100);
        if flags & flag::FIREWALL_DOWN != 0 {
            snapshot = down;
        }
        if flags & flag::EXPIRE != 0 {
            while forwarder.expire(snapshot, now, 16) {}
        }
        let mut bytes = frame.to_vec();
        if flags & flag::HEAL != 0 {
            heal(&mut bytes, flags, side(choice));
        }
        feed(&mut forwarder, snapshot, &mut punts, now, flags, bytes);
        fed += 1;

        let counters = forwarder.counters();
        assert_eq!(counters.received, fed);
        assert!(counters.is_conserved(), "{counters:?}");
        assert_eq!(*counters, cell.read(), "nobody else reads, so every batch is published");
        assert!(table.len() <= SESSIONS);
        assert!(punts.taken.len() <= capacity);
        drain(&mut forwarder);
        if let Some(service) = &service {
            assert_eq!(
                active(service),
                live_sessions(&table),
                "every session is counted at its server until it closes"
            );
        }
    }
    let later = now + Duration::from_secs(100_000);
    while forwarder.expire(snapshot, later, 16) {}
    drain(&mut forwarder);
    assert!(forwarder.counters().is_conserved());
    assert_eq!(table.len(), 0, "nothing is kept for ever");
    assert_eq!(service.as_ref().map_or(0, active), 0);
    assert_held_are_accounted_for(forwarder.counters());
    forwarder.counters().clone()
}

fn active(service: &Service) -> u64 {
    service.servers.iter().map(|server| server.state.active()).sum()
}

fn live_sessions(table: &SessionTable) -> u64 {
    let mut live = 0;
    table.for_each(|_, session, bound| {
        live += u64::from(bound.is_some() && session.state != ConversationState::Tcp(TcpState::Closing));
        true
    });
    live
}

/// Corrects the frame: to the engine, from a neighbour, with a right IPv4 header checksum.
fn heal(bytes: &mut [u8], flags: u8, side: Side) {
    if bytes.len() < ETHERNET_LEN {
        return;
    }
    let device = u16::from(flags & flag::DEVICE);
    let source = if device == side.far() {
        testbed::firewall_mac(side, u16::from(flags & flag::OTHER_FIREWALL != 0))
    } else {
        testbed::host_mac(side)
    };
    bytes[..6].copy_from_slice(&testbed::engine_mac(side, device).0);
    bytes[6..12].copy_from_slice(&source.0);
    let packet = &mut bytes[ETHERNET_LEN..];
    let header_len = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    if packet.first().is_some_and(|first| first >> 4 == 4) && (20..=packet.len()).contains(&header_len) {
        packet[10..12].fill(0);
        let checksum = checksum::checksum(&packet[..header_len]);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn feed(
    forwarder: &mut Forwarder,
    snapshot: &Snapshot,
    punts: &mut PuntList,
    now: Instant,
    flags: u8,
    mut bytes: Vec<u8>,
) {
    let original = bytes.clone();
    let offload = offload(flags, &bytes);
    let vlan = (flags & flag::TAGGED != 0).then(|| VlanTag::new(u16::from(flags & flag::OTHER_FIREWALL)));
    let device = DeviceId(u16::from(flags & flag::DEVICE));
    let mut batch = Batch::new();
    batch.packets.push(Packet { device, vlan, offload, bytes: &mut bytes, verdict: None });

    forwarder.process(&mut batch, snapshot, punts, now);

    let packet = &batch.packets[0];
    match packet.verdict.expect("every frame has a verdict") {
        Verdict::Forward(link) | Verdict::Hairpin(link) => {
            let mut sent = packet.bytes.to_vec();
            assert_eq!(sent[6..12], snapshot.links[link.index()].mac.0);
            let frame = Frame::parse(&mut sent, &packet.offload).expect("only legal packets leave");
            assert_eq!(frame.bytes().len(), ETHERNET_LEN + frame.ip_len(), "without padding");
            if snapshot.services.all().is_empty() {
                assert_only_a_router_passed(&original, packet.bytes);
            }
        }
        Verdict::Replaced | Verdict::Punted | Verdict::Dropped(_) => {}
    }
}

/// The offloads that a device would report for such a frame; for other frames, offloads that no device reports.
fn offload(flags: u8, bytes: &[u8]) -> Offload {
    let is_v6 = bytes.get(12) == Some(&0x86);
    let protocol = bytes.get(if is_v6 { 20 } else { 23 });
    let start = if is_v6 { 54 } else { 34 };
    let (kind, offset) = match (protocol, is_v6) {
        (Some(17), _) if flags & flag::TAGGED != 0 => (GsoKind::UdpFragments, 6),
        (Some(17), _) => (GsoKind::UdpSegments, 6),
        (_, true) => (GsoKind::Tcp6, 16),
        (_, false) => (GsoKind::Tcp4, 16),
    };
    Offload {
        partial: (flags & flag::PARTIAL != 0).then_some(PartialChecksum { start, offset }),
        gso: (flags & flag::GSO != 0).then_some(Gso { kind, ecn: false, size: 500, header_len: start + 20 }),
        verified: false,
    }
}

/// Transparency: nothing but MACs, TTL and IPv4 header checksum differs.
fn assert_only_a_router_passed(received: &[u8], sent: &[u8]) {
    let may_change: &[usize] = if received[12..14] == [0x08, 0x00] { &[22, 24, 25] } else { &[21] };
    let differs = |at: &usize| received[*at] != sent[*at] && !may_change.contains(at);
    assert_eq!((12..sent.len()).find(differs), None, "a byte that a router leaves alone");
    assert_eq!(sent[may_change[0]], received[may_change[0]] - 1, "one hop");
}

fn drain(forwarder: &mut Forwarder) {
    let mut drained = 0;
    while let Some(mut transmit) = forwarder.poll_transmit() {
        let frame = Frame::parse(&mut transmit.bytes, &transmit.offload).expect("only legal packets leave");
        assert_eq!(frame.bytes().len(), ETHERNET_LEN + frame.ip_len(), "without padding");
        drained += 1;
        forwarder.recycle(transmit.bytes);
    }
    assert!(drained <= Forwarder::TRANSMITS_MAX);
}

/// A held fragment was counted as punted; it was released, given up, or refused a place when it was released.
fn assert_held_are_accounted_for(counters: &Counters) {
    let gone = counters.fragments_released + counters.punt_drop_fragment_timeout + counters.punt_drop_fragment_unsent;
    assert!(gone <= counters.punted, "{counters:?}");
}
