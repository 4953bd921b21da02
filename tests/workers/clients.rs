//! Generated traffic: connections to a service, and flows through the firewalls.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use fwlb::engine::Snapshot;
use fwlb::engine::testbed::{self, Side};
use fwlb::random::SplitMix64;
use fwlb::slb::ForwardingMode;
use fwlb::time::Instant;

use crate::world::{Decision, FIREWALLS, Member, VIP, World, member_for};

/// The number of clients of the service.
pub const CLIENTS: usize = 300;

/// The packets of a connection: whether the client sends it, and its flags of SYN, ACK and FIN.
const WORDS: [(bool, &str); 8] =
    [(true, "S"), (false, "SA"), (true, "A"), (true, "A"), (false, "A"), (true, "FA"), (false, "FA"), (true, "A")];

/// Source and destination of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ways {
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
}

impl Ways {
    fn back(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }

    fn of(frame: &[u8]) -> Self {
        let sliced = SlicedPacket::from_ethernet(frame).expect("a legal frame");
        let (Some(NetSlice::Ipv4(net)), Some(TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport) else {
            panic!("TCP over IPv4: {frame:02x?}");
        };
        Self {
            source: (net.header().source_addr(), tcp.source_port()),
            destination: (net.header().destination_addr(), tcp.destination_port()),
        }
    }
}

fn segment(from: [u8; 6], to: [u8; 6], ways: Ways, flags: &str, number: u32) -> Vec<u8> {
    let Ways { source, destination } = ways;
    let mut builder = PacketBuilder::ethernet2(from, to).ipv4(source.0.octets(), destination.0.octets(), 64).tcp(
        source.1,
        destination.1,
        1000 + number,
        1024,
    );
    for flag in flags.chars() {
        builder = match flag {
            'S' => builder.syn(),
            'A' => builder.ack(5000 + number),
            _ => builder.fin(),
        };
    }
    let data = if flags == "A" { vec![number as u8; 40] } else { Vec::new() };
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &data).expect("it fits");
    bytes
}

/// The same order in every run.
struct Order(SplitMix64);

impl Order {
    fn below(&mut self, end: usize) -> usize {
        (self.0.next_u64() % end as u64) as usize
    }
}

/// All clients connect to the service, with their packets interleaved at random; servers answer what reaches them.
pub fn converse(world: &mut World, mode: ForwardingMode) -> Vec<Decision> {
    let IpAddr::V4(vip) = VIP else { panic!("written in this crate") };
    let mut said = vec![0; CLIENTS];
    let mut reached: Vec<Option<Ways>> = vec![None; CLIENTS];
    let mut order = Order(SplitMix64::new(2026));
    let mut log = Vec::new();
    let mut talking: Vec<usize> = (0..CLIENTS).collect();
    let (near, far) = (Side::Inner.near(), Side::Inner.far());
    while !talking.is_empty() {
        let at = order.below(talking.len());
        let client = talking[at];
        let (is_client, flags) = WORDS[said[client]];
        let own = Ways {
            source: (Ipv4Addr::from(0x6440_0000 + client as u32 / 3), 40_000 + client as u16),
            destination: (vip, 80),
        };
        let number = said[client] as u32;
        let decision = if is_client {
            let firewall = testbed::firewall_mac(Side::Inner, client as u16 % FIREWALLS).0;
            let frame = segment(firewall, testbed::engine_mac(Side::Inner, far).0, own, flags, number);
            let mut decision = world.process(far, &frame);
            // Where packets are not translated, or are encapsulated, the server sees what the client sent.
            reached[client] = Some(if mode == ForwardingMode::FullNat || mode == ForwardingMode::Nat {
                Ways::of(&decision.bytes)
            } else {
                own
            });
            if mode == ForwardingMode::FullNat {
                hide_source_port(&mut decision.bytes);
            }
            decision
        } else {
            let ways = reached[client].expect("the client spoke first").back();
            let frame = segment(
                testbed::host_mac(Side::Inner).0,
                testbed::engine_mac(Side::Inner, near).0,
                ways,
                flags,
                number,
            );
            let decision = world.process(near, &frame);
            assert_eq!(Ways::of(&decision.bytes), own.back(), "{mode:?}: the client hears the service");
            decision
        };
        log.push(decision);
        said[client] += 1;
        if said[client] == WORDS.len() {
            talking.swap_remove(at);
        }
    }
    log
}

/// Each worker has source ports of its own (random, RFC 6056), on which the checksums depend.
fn hide_source_port(frame: &mut [u8]) {
    const SOURCE_PORT: std::ops::Range<usize> = 34..36;
    const TCP_CHECKSUM: std::ops::Range<usize> = 50..52;
    if let Some(port) = frame.get_mut(SOURCE_PORT) {
        port.fill(0);
    }
    if let Some(checksum) = frame.get_mut(TCP_CHECKSUM) {
        checksum.fill(0);
    }
}

/// A connection through the firewalls of an outer engine.
pub struct Conversation {
    ways: Ways,
}

impl Conversation {
    /// This many connections, each with addresses and ports of its own.
    pub fn many(count: usize) -> Vec<Self> {
        let ways = |number: usize| Ways {
            source: (Ipv4Addr::from(0x6440_0000 + number as u32 / 4), 40_000 + number as u16),
            destination: (Ipv4Addr::new(203, 0, 113, 2 + (number % 250) as u8), 443),
        };
        (0..count).map(|number| Self { ways: ways(number) }).collect()
    }

    /// Sends one packet of each in turn, until all have sent everything, with one worker.
    pub fn through(flows: &[Self], world: &mut World) -> BTreeMap<usize, Vec<Decision>> {
        let World { snapshot, members, now, .. } = world;
        let all: Vec<_> = flows.iter().enumerate().collect();
        Self::play(&all, &mut members[0], snapshot, *now)
    }

    /// The same, with each worker on a thread of its own.
    pub fn through_threads(flows: &[Self], world: &mut World) -> BTreeMap<usize, Vec<Decision>> {
        let World { snapshot, members, now, .. } = world;
        let (snapshot, now, count) = (&*snapshot, *now, members.len());
        let of = |member: usize| {
            let is_its = move |(_, flow): &(usize, &Self)| member_for(&flow.frame(0, None), count) == member;
            flows.iter().enumerate().filter(is_its).collect::<Vec<_>>()
        };
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (number, member) in members.iter_mut().enumerate() {
                let flows = of(number);
                threads.push(scope.spawn(move || Self::play(&flows, member, snapshot, now)));
            }
            threads.into_iter().flat_map(|thread| thread.join().expect("a worker does not panic")).collect()
        })
    }

    fn play(
        flows: &[(usize, &Self)],
        member: &mut Member,
        snapshot: &Snapshot,
        start: Instant,
    ) -> BTreeMap<usize, Vec<Decision>> {
        let mut log: BTreeMap<usize, Vec<Decision>> = BTreeMap::new();
        // Repeated several times, so that the workers meet in the table.
        for word in 0..WORDS.len() * 4 {
            for (number, flow) in flows {
                let said = log.entry(*number).or_default();
                let firewall =
                    said.first().and_then(|first| first.bytes.get(..6)).map(|mac| mac.try_into().expect("six bytes"));
                let device = if WORDS[word % WORDS.len()].0 { Side::Outer.near() } else { Side::Outer.far() };
                said.push(member.process(snapshot, device, &flow.frame(word, firewall), start));
            }
        }
        log
    }

    /// Packet number `word` of the connection; answers come from `firewall`.
    fn frame(&self, word: usize, firewall: Option<[u8; 6]>) -> Vec<u8> {
        let (is_client, flags) = WORDS[word % WORDS.len()];
        let (near, far) = (Side::Outer.near(), Side::Outer.far());
        if is_client {
            let from = testbed::host_mac(Side::Outer).0;
            return segment(from, testbed::engine_mac(Side::Outer, near).0, self.ways, flags, word as u32);
        }
        let from = firewall.expect("the first packet went to one");
        segment(from, testbed::engine_mac(Side::Outer, far).0, self.ways.back(), flags, word as u32)
    }
}
