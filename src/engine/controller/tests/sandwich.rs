//! Two engines and the firewalls between them, which are routers that answer ARP and ND, rewrite MAC addresses, and
//! fail when a test says so.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::config;
use crate::engine::controller::{Controller, DeviceState, Event};
use crate::engine::verdict::{Punt, PuntReason};
use crate::engine::{Counters, view};
use crate::id::{DeviceId, LinkId};
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;
use crate::wire::arp::{self, Arp, Operation};
use crate::wire::ndp::{self, Ndp};
use crate::wire::offload::Offload;

pub(super) const OUTER: usize = 0;
pub(super) const INNER: usize = 1;
const ETHERTYPE: std::ops::Range<usize> = 12..14;

/// One firewall.
#[derive(Debug, Clone)]
pub(super) struct Firewall {
    /// Whether it answers ARP and ND.
    pub(super) answers: bool,
    /// Whether it forwards from the outer to the inner engine, and back.
    pub(super) forwards: [bool; 2],
    macs: [MacAddr; 2],
}

/// Engines, firewalls, and the frames between them.
pub(super) struct Sandwich {
    pub(super) engines: [Controller; 2],
    pub(super) firewalls: Vec<Firewall>,
    pub(super) now: Instant,
    pub(super) events: Vec<(Instant, usize, view::EventView)>,
    pub(super) exchanges: Vec<(u64, view::ExchangeView)>,
    pub(super) epochs: [u64; 2],
    /// How many of 1,000 frames are lost on each crossing of a firewall.
    pub(super) loss: u64,
    /// The engines do nothing before these times.
    pub(super) stopped_until: [Instant; 2],
    pub(super) frames: u64,
    /// The frames that the outer engine sends, if a test wants to see them.
    pub(super) record: Option<Vec<Vec<u8>>>,
    misdirected: Option<MacAddr>,
    in_flight: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    sent: u64,
    random: u64,
}

/// The text of an engine's file. `group` and `check` are lines of those sections; `firewall` gets the number.
pub(super) fn text(engine: usize, firewalls: usize, seed: &str, group: &str, check: &str, hash: &str) -> String {
    let (name, peer) = if engine == OUTER { ("outer", "inner") } else { ("inner", "outer") };
    let (side, far) = (engine + 1, 2 - engine);
    let mut text = format!(
        r#"
        [engine]
        name = "{name}"
        [[link]]
        name = "firewalls"
        device = "eth1"
        addresses = ["10.{side}.0.1/24", "fd00:{side}::1/64"]
        [[route]]
        to = ["10.{far}.0.0/24", "fd00:{far}::/64"]
        group = "perimeter"
        [[group]]
        name = "perimeter"
        seed = "{seed}"
        hash = "{hash}"
        {group}
        [[group.peer]]
        name = "{peer}"
        addresses = ["10.{far}.0.1", "fd00:{far}::1"]
        [group.check]
        {check}
        "#
    );
    for n in 1..=firewalls {
        text += &format!(
            r#"
            [[group.firewall]]
            name = "fw{n}"
            link = "firewalls"
            addresses = ["10.{side}.0.{host}", "fd00:{side}::{host}"]
            "#,
            host = 10 + n
        );
    }
    text
}

impl Sandwich {
    pub(super) fn new(firewalls: usize) -> Self {
        Self::with(firewalls, "", "")
    }

    pub(super) fn with(firewalls: usize, group: &str, check: &str) -> Self {
        let text = |engine| text(engine, firewalls, "a secret of both", group, check, "5-tuple");
        Self::of([text(OUTER), text(INNER)], firewalls)
    }

    pub(super) fn of(texts: [String; 2], firewalls: usize) -> Self {
        let now = Instant::from_millis(1_000);
        let engines = [OUTER, INNER].map(|engine| Controller::new(config(&texts[engine]), 7 + engine as u64, now));
        let firewalls = (1..=firewalls as u8).map(|n| Firewall {
            answers: true,
            forwards: [true; 2],
            macs: [MacAddr([2, 0, 0, 1, 0, n]), MacAddr([2, 0, 0, 2, 0, n])],
        });
        let mut sandwich = Self {
            engines,
            firewalls: firewalls.collect(),
            now,
            events: Vec::new(),
            exchanges: Vec::new(),
            epochs: [0; 2],
            loss: 0,
            stopped_until: [Instant::ZERO; 2],
            frames: 0,
            record: None,
            misdirected: None,
            in_flight: BTreeMap::new(),
            sent: 0,
            random: 99,
        };
        for engine in [OUTER, INNER] {
            sandwich.set_device(engine, true);
        }
        sandwich
    }

    /// Replaces an engine by a new one.
    pub(super) fn restart(&mut self, engine: usize, text: &str, random: u64) {
        self.engines[engine] = Controller::new(config(text), random, self.now);
        self.epochs[engine] = 0;
        self.set_device(engine, true);
    }

    pub(super) fn set_device(&mut self, engine: usize, up: bool) {
        let state = DeviceState { mac: engine_mac(engine), mtu: 1500, up };
        self.engines[engine].handle_device(DeviceId(0), Some(state), self.now);
        self.drain(engine);
    }

    /// Runs for a while.
    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let wakes = [OUTER, INNER]
                .map(|engine| self.engines[engine].poll_timeout().map(|due| due.max(self.stopped_until[engine])));
            let arrival = self.in_flight.keys().next().map(|(at, _)| *at);
            let next = wakes.into_iter().flatten().chain(arrival).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            while let Some(entry) = self.in_flight.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (engine, bytes) = entry.remove();
                self.deliver(engine, bytes);
            }
            for engine in [OUTER, INNER] {
                let due = self.engines[engine].poll_timeout().is_some_and(|due| due <= self.now);
                if due && self.stopped_until[engine] <= self.now {
                    self.engines[engine].handle_timeout(self.now);
                    self.drain(engine);
                }
            }
        }
        self.now = end;
    }

    /// Runs until an engine shows the firewall in this state, and returns how long that took.
    pub(super) fn run_until(&mut self, engine: usize, firewall: usize, state: &str, at_most: Duration) -> Duration {
        let start = self.now;
        while self.firewall(engine, firewall).state.name() != state {
            assert!(self.now.since(start) < at_most, "fw{} is {}", firewall + 1, self.firewall(engine, firewall).state);
            self.run(Duration::from_millis(1));
        }
        self.now.since(start)
    }

    pub(super) fn firewall(&self, engine: usize, firewall: usize) -> view::FirewallView {
        self.engines[engine].firewalls(&Counters::default(), self.now).swap_remove(firewall)
    }

    pub(super) fn states(&self, engine: usize) -> Vec<String> {
        let views = self.engines[engine].firewalls(&Counters::default(), self.now);
        views.into_iter().map(|view| view.state.to_string()).collect()
    }

    pub(super) fn peer(&self, engine: usize) -> view::PeerView {
        self.engines[engine].peers(self.now).swap_remove(0)
    }

    pub(super) fn alarms(&self, engine: usize) -> Vec<String> {
        self.engines[engine].alarms(self.now).into_iter().map(|alarm| alarm.kind.name().to_owned()).collect()
    }

    /// States that a subject went through.
    pub(super) fn changes(&self, engine: usize, kind: &str, subject: &str) -> Vec<String> {
        let of = |event: &view::EventView| event.kind.name() == kind && event.subject == subject;
        let events = self.events.iter().filter(|(_, by, event)| *by == engine && of(event));
        events.filter_map(|(_, _, event)| event.to.clone()).collect()
    }

    pub(super) fn counter(&self, engine: usize, name: &str) -> u64 {
        self.engines[engine].counters()[name]
    }

    /// Fails both legs and the control plane of a firewall.
    pub(super) fn kill(&mut self, firewall: usize) {
        self.firewalls[firewall].answers = false;
        self.firewalls[firewall].forwards = [false; 2];
    }

    pub(super) fn heal(&mut self, firewall: usize) {
        self.firewalls[firewall].answers = true;
        self.firewalls[firewall].forwards = [true; 2];
    }

    /// Lets frames of the inner engine to fw1 reach the outer engine from the MAC address `source`.
    pub(super) fn misdirect(&mut self, source: MacAddr) {
        self.misdirected = Some(source);
    }

    pub(super) fn cut(&mut self, forwards: [bool; 2]) {
        for firewall in &mut self.firewalls {
            firewall.forwards = forwards;
        }
    }

    /// Delivers a frame to an engine, as its forwarder would punt it.
    pub(super) fn deliver(&mut self, engine: usize, bytes: Vec<u8>) {
        if self.stopped_until[engine] > self.now {
            self.send_at(self.stopped_until[engine], engine, bytes);
            return;
        }
        let reason = if is_neighbor_matter(&bytes) { PuntReason::Neighbor } else { PuntReason::Local };
        let punt = Punt { reason, link: LinkId(0), vlan: None, offload: Offload::NONE, bytes, original: None };
        self.engines[engine].handle_punt(punt, self.now);
        self.drain(engine);
    }

    pub(super) fn drain(&mut self, engine: usize) {
        while let Some(event) = self.engines[engine].poll_event() {
            match event {
                Event::Publish(snapshot) => {
                    assert_eq!(snapshot.epoch, self.epochs[engine] + 1, "epochs grow by one");
                    self.epochs[engine] = snapshot.epoch;
                }
                Event::Change(change) => self.events.push((self.now, engine, change.view(0, String::new()))),
                Event::CheckEnded(_) => {}
                Event::Exchange { request, result } => self.exchanges.push((request, result)),
            }
        }
        while let Some(transmit) = self.engines[engine].poll_transmit() {
            assert_eq!((transmit.offload, transmit.vlan), (Offload::NONE, None));
            self.frames += 1;
            if let Some(record) = self.record.as_mut().filter(|_| engine == OUTER) {
                record.push(transmit.bytes.clone());
            }
            for index in 0..self.firewalls.len() {
                self.at_firewall(index, engine, &transmit.bytes);
            }
        }
    }

    fn at_firewall(&mut self, index: usize, engine: usize, bytes: &[u8]) {
        let firewall = self.firewalls[index].clone();
        let mac = firewall.macs[engine];
        let host = 11 + index as u16;
        if bytes[ETHERTYPE] == [0x08, 0x06] {
            let arp = Arp::parse(bytes).unwrap();
            let address = [10, engine as u8 + 1, 0, host as u8];
            if firewall.answers && arp.operation == Operation::Request && arp.target.octets() == address {
                self.send(engine, arp::reply(mac, &arp));
            }
            return;
        }
        if is_neighbor_matter(bytes) {
            if let Ok(Ndp::Solicitation { source, target, .. }) = Ndp::parse(bytes)
                && firewall.answers
                && target.segments()[7] == u16::from_str_radix(&host.to_string(), 16).unwrap()
            {
                self.send(engine, ndp::advertisement(mac, target, source, engine_mac(engine)));
            }
            return;
        }
        if bytes[..6] != mac.0 || !firewall.forwards[engine] || self.dice() < self.loss {
            return;
        }
        let far = 1 - engine;
        let mut bytes = bytes.to_vec();
        bytes[..6].copy_from_slice(&engine_mac(far).0);
        let source = self.misdirected.filter(|_| engine == INNER && index == 0).unwrap_or(firewall.macs[far]);
        bytes[6..12].copy_from_slice(&source.0);
        self.send(far, bytes);
    }

    fn send(&mut self, engine: usize, bytes: Vec<u8>) {
        self.send_at(self.now + Duration::from_micros(300), engine, bytes);
    }

    fn send_at(&mut self, at: Instant, engine: usize, bytes: Vec<u8>) {
        self.sent += 1;
        self.in_flight.insert((at, self.sent), (engine, bytes));
    }

    /// A pseudo-random number in 0..1000.
    fn dice(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % 1000
    }
}

pub(super) fn engine_mac(engine: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, 1 + engine as u8])
}

pub(super) fn firewall_mac(engine: usize, firewall: usize) -> MacAddr {
    MacAddr([2, 0, 0, 1 + engine as u8, 0, 1 + firewall as u8])
}

pub(super) fn engine_v4(engine: usize) -> IpAddr {
    IpAddr::from([10, 1 + engine as u8, 0, 1])
}

fn is_neighbor_matter(bytes: &[u8]) -> bool {
    let ethertype = &bytes[ETHERTYPE];
    ethertype == [0x08, 0x06]
        || (ethertype == [0x86, 0xdd] && (bytes[20] == 0 || bytes[20] == 58 && (130..=137).contains(&bytes[54])))
}
