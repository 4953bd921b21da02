//! The test bench: a forwarder with a fixed snapshot. Frames go in, verdicts and bytes come out, and every counter is
//! accounted for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use crate::engine::testbed::{self, PuntList, Side};
use crate::engine::verdict::{DropReason, Transmit, Verdict};
use crate::engine::{Batch, Counters, CountersCell, Forwarder, Packet, SessionLedger, Snapshot};
use crate::id::DeviceId;
use crate::session::{EndReason, Removed, Session, SessionTable};
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;

use super::packets::Frame;

/// The result for one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameResult {
    pub verdict: Verdict,
    /// The bytes as edited in place.
    pub bytes: Vec<u8>,
    pub vlan: Option<VlanTag>,
    pub offload: Offload,
}

/// Where a frame arrives.
#[derive(Debug, Clone, Copy)]
pub enum ArrivesAt {
    /// From a link without firewalls.
    Near,
    /// From a firewall, by its number starting at 0.
    Firewall(u16),
    /// From a station with this MAC address on the firewalls' link.
    Stranger(MacAddr),
}

/// One or more workers of one engine.
pub struct ForwarderBench {
    pub side: Side,
    pub snapshot: Snapshot,
    pub table: Arc<SessionTable>,
    pub workers: Vec<(Forwarder, Arc<CountersCell>)>,
    pub punts: PuntList,
    pub now: Instant,
    /// Sessions whose end the workers reported to their ledgers.
    pub told: RecordedEnds,
    /// What is counted beside the workers: copies of another engine's sessions.
    pub copies: Counters,
    seen: BTreeMap<&'static str, u64>,
}

impl ForwarderBench {
    pub fn new(side: Side, firewalls: u16) -> Self {
        Self::with(side, firewalls, 1, 1024)
    }

    pub fn outer(firewalls: u16) -> Self {
        Self::new(Side::Outer, firewalls)
    }

    pub fn inner(firewalls: u16) -> Self {
        Self::new(Side::Inner, firewalls)
    }

    pub fn with(side: Side, firewalls: u16, workers: usize, capacity: usize) -> Self {
        let (table, workers) = testbed::forwarders(workers, capacity);
        Self::of(side, firewalls, table, workers)
    }

    /// A bench with these workers.
    pub fn of(
        side: Side,
        firewalls: u16,
        table: Arc<SessionTable>,
        mut workers: Vec<(Forwarder, Arc<CountersCell>)>,
    ) -> Self {
        let told = RecordedEnds::default();
        workers.iter_mut().for_each(|(worker, _)| worker.set_session_ledger(Box::new(told.clone())));
        Self {
            told,
            side,
            snapshot: testbed::snapshot(side, firewalls),
            table,
            workers,
            punts: PuntList { taken: Vec::new(), capacity: 16 },
            now: Instant::from_millis(1_000),
            copies: Counters::default(),
            seen: BTreeMap::new(),
        }
    }

    /// Delivers a frame, which gets the MAC addresses of the place where it arrives.
    pub fn deliver(&mut self, at: ArrivesAt, frame: Frame) -> FrameResult {
        self.deliver_to(0, at, frame)
    }

    /// Delivers a frame to one of several workers.
    pub fn deliver_to(&mut self, worker: usize, at: ArrivesAt, mut frame: Frame) -> FrameResult {
        let device = self.address(at, &mut frame);
        self.put(worker, device, frame)
    }

    /// Delivers a batch of at most 64 frames to the first worker.
    pub fn deliver_batch(&mut self, mut frames: Vec<(ArrivesAt, Frame)>) -> Vec<FrameResult> {
        let devices: Vec<_> = frames.iter_mut().map(|(at, frame)| self.address(*at, frame)).collect();
        let mut batch = Batch::new();
        batch.packets.extend(frames.iter_mut().zip(devices).map(|((_, frame), device)| Packet {
            device,
            vlan: frame.vlan,
            offload: frame.offload,
            bytes: &mut frame.bytes,
            verdict: None,
        }));
        self.workers[0].0.process(&mut batch, &self.snapshot, &mut self.punts, self.now);
        batch.packets.into_iter().map(answer).collect()
    }

    /// Sets the MAC addresses of a frame for the place where it arrives, and returns the device there.
    pub fn address(&self, at: ArrivesAt, frame: &mut Frame) -> DeviceId {
        let (device, source) = match at {
            ArrivesAt::Near => (self.side.near(), testbed::host_mac(self.side)),
            ArrivesAt::Firewall(number) => (self.side.far(), testbed::firewall_mac(self.side, number)),
            ArrivesAt::Stranger(mac) => (self.side.far(), mac),
        };
        frame.address(source, testbed::engine_mac(self.side, device));
        DeviceId(device)
    }

    /// Delivers a frame with the MAC addresses that it has.
    pub fn put(&mut self, worker: usize, device: DeviceId, mut frame: Frame) -> FrameResult {
        let mut batch = Batch::new();
        batch.packets.push(Packet {
            device,
            vlan: frame.vlan,
            offload: frame.offload,
            bytes: &mut frame.bytes,
            verdict: None,
        });
        self.workers[worker].0.process(&mut batch, &self.snapshot, &mut self.punts, self.now);
        answer(batch.packets.pop().expect("it was pushed"))
    }

    /// The firewall that a frame was sent to.
    pub fn firewall_of(&self, answer: &FrameResult) -> Option<u16> {
        let destination = MacAddr(answer.bytes[..6].try_into().expect("six bytes"));
        (0..self.snapshot.firewalls.len() as u16)
            .find(|&number| testbed::firewall_mac(self.side, number) == destination)
            .filter(|_| matches!(answer.verdict, Verdict::Forward(_) | Verdict::Hairpin(_)))
    }

    /// Delivers a frame from the near side, and returns the firewall that it was sent to.
    pub fn send(&mut self, frame: Frame) -> u16 {
        let answer = self.deliver(ArrivesAt::Near, frame);
        self.firewall_of(&answer).unwrap_or_else(|| panic!("not sent to a firewall: {answer:?}"))
    }

    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        for (forwarder, _) in &mut self.workers {
            while forwarder.expire(&self.snapshot, self.now, 10_000) {}
        }
    }

    /// Sets whether every path through a firewall is up.
    pub fn set_up(&mut self, firewall: u16, up: bool) {
        self.snapshot.epoch += 1;
        for set in &mut self.snapshot.path_sets {
            let bit = 1 << firewall;
            if up {
                set.up |= bit;
                set.selectable |= bit;
            } else {
                set.failure_counts[usize::from(firewall)] += u32::from(set.up & bit != 0);
                set.up &= !bit;
                set.selectable &= !bit;
            }
        }
    }

    pub fn transmits(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.workers.iter_mut().find_map(|(forwarder, _)| forwarder.poll_transmit())).collect()
    }

    pub fn sessions(&self) -> Vec<Session> {
        let mut sessions = Vec::new();
        self.table.for_each(|_, session, _| {
            sessions.push(*session);
            true
        });
        sessions
    }

    /// The published counters of all workers, added up.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for (_, cell) in &self.workers {
            sum.add(&cell.read());
        }
        sum.add(&self.copies);
        sum
    }

    /// Asserts which counters have changed since the last call, and by how much, except traffic of links and firewalls.
    #[track_caller]
    pub fn assert_moved<const N: usize>(&mut self, expected: [(&'static str, u64); N]) {
        let counters = flat(&self.counters());
        let moved: BTreeMap<_, _> = counters
            .iter()
            .map(|(name, value)| (*name, value - self.seen.get(name).unwrap_or(&0)))
            .filter(|(_, moved)| *moved != 0)
            .collect();
        self.seen = counters;
        assert_eq!(moved, BTreeMap::from(expected));
    }

    /// Asserts what must hold at the end of every test.
    #[track_caller]
    fn assert_conserved(&self) {
        let counters = self.counters();
        assert!(counters.is_conserved(), "not conserved: {counters:?}");
        for (number, firewall) in counters.firewalls.iter().enumerate() {
            let pins = |session: &Session| {
                let pins = [session.toward_low, session.toward_high];
                pins.iter().flatten().filter(|pin| pin.firewall.index() == number).count()
            };
            let pinned: usize = self.sessions().iter().map(pins).sum();
            assert_eq!(firewall.sessions, pinned as i64, "the gauge of firewall {number} is wrong");
        }
        let ended =
            counters.sessions_expired + counters.sessions_evicted + counters.sessions_failed + counters.sessions_killed;
        let opened = counters.sessions_created + counters.copies_opened;
        let live = self.table.len() as u64;
        assert_eq!(opened, ended + counters.copies_ended + live, "sessions are lost: {counters:?}");
        self.assert_all_were_told(&counters);
        let received: u64 = counters.links.iter().map(|link| link.rx_packets).sum();
        assert_eq!(counters.received, received + counters.drops_for(DropReason::UnknownVlan));
    }
}

fn answer(packet: Packet<'_>) -> FrameResult {
    let verdict = packet.verdict.expect("every packet has a verdict");
    FrameResult { verdict, bytes: packet.bytes.to_vec(), vlan: packet.vlan, offload: packet.offload }
}

/// A ledger that keeps the reported sessions.
#[derive(Debug, Clone, Default)]
pub struct RecordedEnds(Arc<Mutex<Vec<(Removed, EndReason)>>>);

impl SessionLedger for RecordedEnds {
    fn session_ended(&mut self, session_ended: &Removed, reason: EndReason, _: &Snapshot, _: Instant) {
        self.0.lock().unwrap().push((*session_ended, reason));
    }
}

impl RecordedEnds {
    /// The reasons for the ends so far, in the words of the session log.
    pub fn reasons(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().iter().map(|(ended, reason)| reason.name(&ended.session)).collect()
    }
}

impl ForwarderBench {
    /// Asserts that every ended session was reported once, with the reason that it is counted under.
    fn assert_all_were_told(&self, counters: &Counters) {
        let told = self.told.0.lock().unwrap();
        let of = |wanted: fn(&EndReason) -> bool| told.iter().filter(|(_, reason)| wanted(reason)).count() as u64;
        assert_eq!(of(|reason| *reason == EndReason::Expired), counters.sessions_expired);
        assert_eq!(of(|reason| *reason == EndReason::Evicted), counters.sessions_evicted);
        assert_eq!(of(|reason| *reason == EndReason::Killed), counters.sessions_killed);
        let failed = of(|reason| !matches!(reason, EndReason::Expired | EndReason::Evicted | EndReason::Killed));
        assert_eq!(failed, counters.sessions_failed);
    }
}

impl Drop for ForwarderBench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_conserved();
        }
    }
}

fn flat(counters: &Counters) -> BTreeMap<&'static str, u64> {
    // The sum of drops is left out, because tests name the reasons that it is made of.
    // The amount of traffic follows from the frames; tests assert what happened to it.
    let volumes = ["routed_packets", "routed_bytes", "balanced_packets", "balanced_bytes"];
    counters.named().filter(|(name, _)| *name != "dropped" && !volumes.contains(name)).collect()
}

/// The addresses of one family. Every test runs with both families.
#[derive(Debug, Clone, Copy)]
pub struct Net {
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// A router behind the clients' gateway.
    pub router: IpAddr,
}

pub fn nets() -> [Net; 2] {
    [v4(), v6()]
}

pub fn v4() -> Net {
    Net {
        client: "198.51.100.7:40000".parse().unwrap(),
        server: "203.0.113.80:80".parse().unwrap(),
        router: "192.0.2.33".parse().unwrap(),
    }
}

pub fn v6() -> Net {
    Net {
        client: "[2001:db8:1::7]:40000".parse().unwrap(),
        server: "[2001:db8:113::50]:80".parse().unwrap(),
        router: "2001:db8:ffff::33".parse().unwrap(),
    }
}
