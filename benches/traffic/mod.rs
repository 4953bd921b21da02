//! Packets for the benches: an outer engine of the testbed, a number of flows through it, and batches of their packets.
#![allow(dead_code, missing_docs, reason = "each bench uses its part of it")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use fwlb::engine::testbed::{self, PuntList, Side};
use fwlb::engine::{Batch, Forwarder, Packet, Snapshot, Verdict};
use fwlb::flow::{Endpoint, FlowKey};
use fwlb::id::DeviceId;
#[cfg(feature = "appliance")]
use fwlb::io::memory::advise_huge_pages;
use fwlb::session::SessionTable;
use fwlb::time::Instant;
use fwlb::wire::emit::{self, AddressPair, MacPair};
use fwlb::wire::frame::Frame;
use fwlb::wire::offload::Offload;
use fwlb::wire::{Family, MacAddr};

/// Packets of a full batch.
pub const BATCH: usize = Batch::CAPACITY;
/// Bytes of a packet's slot in memory, as in a ring.
const SLOT: usize = 128;
const FIREWALLS: u16 = 4;
/// UDP: 60 bytes with IPv4, as the shortest Ethernet frame without its check sequence.
const DATA: usize = 18;

/// Client number `n` to the one server.
pub fn flow(family: Family, n: u32) -> FlowKey {
    // Every client has eight ports, as a farm of browsers would have.
    let (host, port) = (n / 8, 40_000 + (n % 8) as u16);
    let (client, server) = match family {
        Family::V4 => (IpAddr::V4(Ipv4Addr::from(0x6440_0000 + host)), IpAddr::V4(Ipv4Addr::new(203, 0, 113, 80))),
        Family::V6 => {
            let prefix = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0));
            let server = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x50);
            (IpAddr::V6(Ipv6Addr::from(prefix + u128::from(host))), IpAddr::V6(server))
        }
    };
    FlowKey {
        protocol: 17,
        source: Endpoint { address: client, port },
        destination: Endpoint { address: server, port: 4000 },
    }
}

/// The packet that the client of `flow` sends to the outer engine.
pub fn frame(flow: &FlowKey) -> Vec<u8> {
    let macs = MacPair {
        source: testbed::host_mac(Side::Outer),
        destination: testbed::engine_mac(Side::Outer, Side::Outer.near()),
    };
    let pair = AddressPair::new(flow.source.address, flow.destination.address).expect("one family");
    emit::udp(macs, pair, flow.source.port, flow.destination.port, &[0; DATA])
}

/// The order of flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Every flow equally often, in no order.
    Uniform,
    /// Nine of ten packets belong to the first 2,000 flows.
    Skewed,
}

/// Numbers that look random and are the same every time (Marsaglia's xorshift).
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    pub const fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(end)) >> 32) as u32
    }
}

/// An engine, its flows, and room for one batch.
pub struct Traffic {
    pub family: Family,
    pub flows: u32,
    pattern: Pattern,
    numbers: Numbers,
    next_new: u32,
    forwarder: Forwarder,
    table: Arc<SessionTable>,
    snapshot: Snapshot,
    punts: PuntList,
    template: Vec<u8>,
    memory: Box<[[u8; SLOT]]>,
    now: Instant,
}

impl Traffic {
    /// An engine with `flows` sessions, and room for `room` more.
    pub fn new(family: Family, flows: u32, room: usize, pattern: Pattern) -> Self {
        let (table, mut workers) = testbed::forwarders(1, flows.next_multiple_of(BATCH as u32) as usize + room);
        let (forwarder, _) = workers.remove(0);
        let mut traffic = Self {
            family,
            flows,
            pattern,
            numbers: Numbers::new(),
            next_new: 0,
            forwarder,
            table,
            snapshot: testbed::snapshot(Side::Outer, FIREWALLS),
            punts: PuntList::default(),
            template: frame(&flow(family, 0)),
            memory: vec![[0; SLOT]; BATCH].into_boxed_slice(),
            now: Instant::from_millis(1),
        };
        // Huge pages change times and not what is counted: the core alone, which counts instructions, does without.
        #[cfg(feature = "appliance")]
        traffic.table.memory().into_iter().for_each(advise_huge_pages);
        while traffic.next_new < flows {
            traffic.new_sessions();
            traffic.answer();
        }
        assert!(traffic.table.len() >= flows as usize, "every flow has its session");
        traffic
    }

    /// Fills the memory of a batch as a network card would, and does nothing else: the other measurements contain this
    /// time besides the engine's work.
    pub fn fill_known(&mut self) {
        for slot in 0..BATCH {
            let number = match self.pattern {
                Pattern::Skewed if self.numbers.below(10) > 0 => self.numbers.below(self.flows.min(2000)),
                Pattern::Skewed | Pattern::Uniform => self.numbers.below(self.flows),
            };
            self.write(slot, number);
        }
    }

    /// A batch of packets of known flows through the forwarder.
    pub fn known(&mut self) {
        self.fill_known();
        self.process();
    }

    /// A batch of packets each of which opens a session.
    pub fn new_sessions(&mut self) {
        for slot in 0..BATCH {
            self.write(slot, self.next_new);
            self.next_new += 1;
        }
        self.process();
    }

    /// Lets the server answer the packets of the last batch, through the firewalls that they were sent to: their flows
    /// are then established.
    fn answer(&mut self) {
        let link = Side::Outer.far();
        let (addresses, ports) = match self.family {
            Family::V4 => (26, 34),
            Family::V6 => (22, 54),
        };
        for bytes in &mut self.memory {
            // Ends change places, so every checksum stays as it is.
            let (firewall, half) = (MacAddr(bytes[..6].try_into().expect("six bytes")), (ports - addresses) / 2);
            bytes[..6].copy_from_slice(&testbed::engine_mac(Side::Outer, link).0);
            bytes[6..12].copy_from_slice(&firewall.0);
            bytes[addresses..ports].rotate_left(half);
            bytes[ports..ports + 4].rotate_left(2);
        }
        self.process_from(link);
    }

    /// The session table, for readers beside the packets.
    pub fn table(&self) -> Arc<SessionTable> {
        Arc::clone(&self.table)
    }

    /// The table with every session.
    pub fn into_table(self) -> Arc<SessionTable> {
        self.table
    }

    fn write(&mut self, slot: usize, number: u32) {
        let flow = flow(self.family, number);
        let bytes = &mut self.memory[slot][..self.template.len()];
        bytes.copy_from_slice(&self.template);
        match (flow.source.address, self.family) {
            (IpAddr::V4(address), _) => {
                // RFC 1624: the header's sum follows the low half of the address, the only one that differs.
                let (old, new) = (&self.template[26..30], address.octets());
                let mut sum = u32::from(!u16::from_be_bytes([self.template[24], self.template[25]]));
                for half in [0, 2] {
                    sum += u32::from(!u16::from_be_bytes([old[half], old[half + 1]]));
                    sum += u32::from(u16::from_be_bytes([new[half], new[half + 1]]));
                }
                sum = (sum & 0xffff) + (sum >> 16);
                sum = (sum & 0xffff) + (sum >> 16);
                bytes[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
                bytes[26..30].copy_from_slice(&new);
                bytes[34..36].copy_from_slice(&flow.source.port.to_be_bytes());
                // UDP over IPv4 without a checksum (RFC 768).
                bytes[40..42].fill(0);
            }
            (IpAddr::V6(address), _) => {
                bytes[22..38].copy_from_slice(&address.octets());
                bytes[54..56].copy_from_slice(&flow.source.port.to_be_bytes());
            }
        }
    }

    fn process(&mut self) {
        self.process_from(Side::Outer.near());
    }

    fn process_from(&mut self, device: u16) {
        let mut batch = Batch::new();
        let length = self.template.len();
        for bytes in &mut self.memory {
            let (device, bytes) = (DeviceId(device), &mut bytes[..length]);
            batch.packets.push(Packet { device, vlan: None, offload: Offload::NONE, bytes, verdict: None });
        }
        self.forwarder.process(&mut batch, &self.snapshot, &mut self.punts, self.now);
        let forwarded = |packet: &Packet<'_>| matches!(packet.verdict, Some(Verdict::Forward(_)));
        debug_assert!(batch.packets.iter().all(forwarded), "{:?}", batch.packets[0].verdict);
        std::hint::black_box(&batch);
    }
}

/// Parses a frame that is legal.
pub fn parse(bytes: &mut [u8]) -> Frame<'_> {
    Frame::parse(bytes, &Offload::NONE).expect("a legal frame")
}
