//! Clients of a virtual service as they reach the inner engine, which translates destination and port.

use std::net::IpAddr;

use fwlb::engine::testbed::{self, PuntList, Side};
use fwlb::engine::{Batch, Forwarder, Packet, Snapshot, Verdict};
use fwlb::id::{DeviceId, LinkId};
use fwlb::slb::{SchedulerState, Service, Services};
use fwlb::time::Instant;
use fwlb::wire::Family;
use fwlb::wire::emit::{self, AddressPair, MacPair};
use fwlb::wire::offload::Offload;

use crate::traffic::{BATCH, Numbers, flow};

const PORT: u16 = 4000;

/// An inner engine with one service, and its clients' packets.
pub struct Translated {
    forwarder: Forwarder,
    snapshot: Snapshot,
    punts: PuntList,
    numbers: Numbers,
    frames: Vec<Vec<u8>>,
    memory: Vec<Vec<u8>>,
    now: Instant,
}

impl Translated {
    /// An engine with this many clients, each of which has a session.
    pub fn new(family: Family, clients: u32) -> Self {
        let mut snapshot = testbed::snapshot(Side::Inner, 4);
        snapshot.services = service();
        snapshot.service_addresses = snapshot.services.all()[0].addresses.iter().copied().collect();
        let vip = snapshot.services.all()[0].addresses.iter().find(|address| Family::of(**address) == family);
        let vip = *vip.expect("one of each family");
        let (_, mut workers) = testbed::forwarders(1, clients.next_multiple_of(BATCH as u32) as usize);
        let frames: Vec<_> = (0..clients).map(|number| frame(family, number, vip)).collect();
        let mut translated = Self {
            forwarder: workers.remove(0).0,
            snapshot,
            punts: PuntList::default(),
            numbers: Numbers::new(),
            memory: frames.iter().cycle().take(BATCH).cloned().collect(),
            frames,
            now: Instant::from_millis(1),
        };
        for first in (0..clients as usize).step_by(BATCH) {
            (0..BATCH).for_each(|slot| translated.write(slot, (first + slot) % clients as usize));
            translated.process();
        }
        translated
    }

    /// Fills the memory of a batch as a network card would; nine of ten packets belong to the first 2,000 clients.
    pub fn fill(&mut self) {
        let clients = self.frames.len() as u32;
        for slot in 0..BATCH {
            let few = self.numbers.below(10) > 0;
            let number = self.numbers.below(if few { clients.min(2000) } else { clients });
            self.write(slot, number as usize);
        }
    }

    /// A batch of packets of known clients through the forwarder.
    pub fn known(&mut self) {
        self.fill();
        self.process();
    }

    fn write(&mut self, slot: usize, client: usize) {
        self.memory[slot].copy_from_slice(&self.frames[client]);
    }

    fn process(&mut self) {
        let mut batch = Batch::new();
        let device = DeviceId(Side::Inner.far());
        for bytes in &mut self.memory {
            batch.packets.push(Packet { device, vlan: None, offload: Offload::NONE, bytes, verdict: None });
        }
        self.forwarder.process(&mut batch, &self.snapshot, &mut self.punts, self.now);
        let near = LinkId(Side::Inner.near());
        let forwarded = |packet: &Packet<'_>| packet.verdict == Some(Verdict::Forward(near));
        assert!(batch.packets.iter().all(forwarded), "{:?}", batch.packets[0].verdict);
    }
}

/// The packet of client `number` to the service, as it leaves a firewall.
fn frame(family: Family, number: u32, vip: IpAddr) -> Vec<u8> {
    let client = flow(family, number).source;
    let (source, destination) =
        (testbed::firewall_mac(Side::Inner, 1), testbed::engine_mac(Side::Inner, Side::Inner.far()));
    let pair = AddressPair::new(client.address, vip).expect("one family");
    emit::udp(MacPair { source, destination }, pair, client.port, PORT, &[0; 18])
}

/// One server in both families, which listens on another port.
fn service() -> Services {
    let state = SchedulerState::new(8);
    let service = testbed::service(&state, [testbed::server(&state, 0)]);
    Services::new(vec![Service { protocols: vec![17], ports: vec![PORT..=PORT], ..service }])
}
