//! Counts heap allocations per packet: there are none for packets of known sessions.

#![expect(unsafe_code, reason = "an allocator that counts can only be written with it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::IpAddr;

use fwlb::engine::testbed::{self, PuntList, Side};
use fwlb::engine::{Batch, Packet, Verdict};
use fwlb::id::{DeviceId, LinkId};
use fwlb::slb::{ForwardingMode, SchedulerState, Server, Service, Services};
use fwlb::time::Instant;
use fwlb::wire::emit::{self, AddressPair, MacPair};
use fwlb::wire::offload::Offload;

/// The system's allocator, which counts its calls per thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A datagram between two hosts, as it arrives at the outer engine.
fn frame(from_firewall: Option<u16>, source: &str, destination: &str) -> (DeviceId, Vec<u8>) {
    let (device, station) = match from_firewall {
        Some(number) => (Side::Outer.far(), testbed::firewall_mac(Side::Outer, number)),
        None => (Side::Outer.near(), testbed::host_mac(Side::Outer)),
    };
    let macs = MacPair { source: station, destination: testbed::engine_mac(Side::Outer, device) };
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let pair = AddressPair::new(address(source), address(destination)).expect("one family");
    (DeviceId(device), emit::udp(macs, pair, 4000, 4000, b"data"))
}

#[test]
fn a_packet_of_a_known_session_allocates_nothing() {
    let snapshot = testbed::snapshot(Side::Outer, 4);
    let (_, mut workers) = testbed::forwarders(1, 1024);
    let (forwarder, _) = &mut workers[0];
    let mut punts = PuntList::default();
    let mut process = |(device, mut bytes): (DeviceId, Vec<u8>), millis: u64| {
        let mut batch = Batch::new();
        batch.packets.push(Packet { device, vlan: None, offload: Offload::NONE, bytes: &mut bytes, verdict: None });
        let before = ALLOCATIONS.get();
        forwarder.process(&mut batch, &snapshot, &mut punts, Instant::from_millis(millis));
        let allocated = ALLOCATIONS.get() - before;
        let verdict = batch.packets[0].verdict;
        drop(batch);
        (allocated, verdict, bytes)
    };
    for (client, server) in [("198.51.100.7", "203.0.113.80"), ("2001:db8:1::7", "2001:db8:113::50")] {
        let (_, _, opened) = process(frame(None, client, server), 1);
        let station = |number: &u16| testbed::firewall_mac(Side::Outer, *number).0 == opened[..6];
        let firewall = (0..4).find(station).expect("a new flow is sent to a firewall");
        process(frame(Some(firewall), server, client), 2);

        for millis in 3..100 {
            let (there, verdict, _) = process(frame(None, client, server), millis);
            assert_eq!((there, verdict), (0, Some(Verdict::Forward(LinkId(1)))));
            let (back, verdict, _) = process(frame(Some(firewall), server, client), millis);
            assert_eq!((back, verdict), (0, Some(Verdict::Forward(LinkId(0)))));
        }
    }
}

/// A service with one server on the inner engine, in both families.
fn service(mode: ForwardingMode) -> Services {
    let state = SchedulerState::new(8);
    let server = Server { port: None, ..testbed::server(&state, 0) };
    let service = testbed::service(&state, [server]);
    Services::new(vec![Service { protocols: vec![17], ports: vec![4000..=4000], mode, ..service }])
}

#[test]
fn a_packet_of_a_known_session_of_a_service_allocates_nothing_in_any_mode() {
    for mode in [ForwardingMode::Nat, ForwardingMode::FullNat, ForwardingMode::Direct, ForwardingMode::Tunnel] {
        let mut snapshot = testbed::snapshot(Side::Inner, 4);
        snapshot.services = service(mode);
        snapshot.service_addresses = snapshot.services.all()[0].addresses.iter().copied().collect();
        let (_, mut workers) = testbed::forwarders(1, 1024);
        let (forwarder, _) = &mut workers[0];
        let mut punts = PuntList::default();
        for (client, vip) in [("198.51.100.7", "203.0.113.200"), ("2001:db8:1::7", "2001:db8:113::c8")] {
            for millis in 1..100 {
                let address = |text: &str| text.parse::<IpAddr>().expect("an address");
                let (source, destination) =
                    (testbed::firewall_mac(Side::Inner, 1), testbed::engine_mac(Side::Inner, Side::Inner.far()));
                let pair = AddressPair::new(address(client), address(vip)).expect("one family");
                let mut bytes = emit::udp(MacPair { source, destination }, pair, 4000, 4000, b"data");
                let mut batch = Batch::new();
                let device = DeviceId(Side::Inner.far());
                batch.packets.push(Packet {
                    device,
                    vlan: None,
                    offload: Offload::NONE,
                    bytes: &mut bytes,
                    verdict: None,
                });
                let before = ALLOCATIONS.get();
                forwarder.process(&mut batch, &snapshot, &mut punts, Instant::from_millis(millis));
                // As a worker does after it has sent them.
                let mut made = 0;
                while let Some(transmit) = forwarder.poll_transmit() {
                    made += 1;
                    forwarder.recycle(transmit.bytes);
                }
                let allocated = ALLOCATIONS.get() - before;

                let (sent, expected) = match mode {
                    ForwardingMode::Tunnel => (1, Verdict::Replaced),
                    ForwardingMode::Nat | ForwardingMode::FullNat | ForwardingMode::Direct => {
                        (0, Verdict::Forward(LinkId(Side::Inner.near())))
                    }
                };
                assert_eq!((batch.packets[0].verdict, made), (Some(expected), sent), "{mode:?}");
                assert!(allocated == 0 || millis == 1, "{mode:?}: {allocated} at the packet {millis}");
            }
        }
    }
}
