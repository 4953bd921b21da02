//! Addresses of the engine that another station has too: each is defended, reported and probed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::farm::{self, CLIENTS, CLIENTS_MAC, VIP};
use crate::config::{Config, ForwardingMode, ServiceCheckKind};
use crate::engine::controller::{Controller, DeviceState};
use crate::engine::verdict::{Punt, PuntReason};
use crate::engine::view::AlarmKind;
use crate::id::DeviceId;
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;
use crate::wire::arp::{self, Arp, Operation};
use crate::wire::ndp::{self, Ndp};
use crate::wire::offload::Offload;

const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x80);
const OWN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const SNAT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 240);
const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);
const SERVER: MacAddr = MacAddr([2, 0, 0, 0, 7, 1]);
const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
const SERVER_ADDRESS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x11);

/// The engine and its clients' link, which also has one server.
struct Link {
    controller: Controller,
    now: Instant,
    /// Which other station answers for which address.
    answers: BTreeMap<IpAddr, MacAddr>,
    /// Addresses that the engine probed from the unspecified address, with the time.
    asked: Vec<(Instant, IpAddr)>,
}

impl Link {
    fn new(config: Config) -> Self {
        let now = Instant::from_millis(1_000);
        let controller = Controller::new(config, 7, now);
        let answers = [(SERVER_ADDRESS.into(), SERVER), (SERVER_ADDRESS6.into(), SERVER)].into();
        let mut link = Self { controller, now, answers, asked: Vec::new() };
        let up = DeviceState { mac: CLIENTS_MAC, mtu: 1500, up: true };
        link.controller.handle_device(DeviceId(0), Some(up), now);
        link.settle();
        link
    }

    /// A link with a service whose server is there too.
    fn with_server(mode: ForwardingMode) -> Self {
        let mut config = farm::web(1, farm::check(ServiceCheckKind::None));
        config.services[0].mode = mode;
        config.services[0].snat = vec![SNAT.into()];
        config.servers[0].addresses = vec![SERVER_ADDRESS.into(), SERVER_ADDRESS6.into()];
        Self::new(config)
    }

    fn hear(&mut self, bytes: Vec<u8>) {
        let punt = Punt {
            reason: PuntReason::Neighbor,
            link: CLIENTS,
            vlan: None,
            offload: Offload::NONE,
            bytes,
            original: None,
        };
        self.controller.handle_punt(punt, self.now);
    }

    /// The ARP and neighbour discovery messages that the engine sends at once after a frame on the link.
    fn answer(&mut self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        self.settle();
        self.hear(bytes);
        std::iter::from_fn(|| self.controller.poll_transmit()).map(|transmit| transmit.bytes).collect()
    }

    fn settle(&mut self) {
        while let Some(transmit) = self.controller.poll_transmit() {
            if transmit.link != CLIENTS {
                continue;
            }
            if let Ok(arp) = Arp::parse(&transmit.bytes) {
                let target = IpAddr::V4(arp.target);
                if arp.is_probe() {
                    self.asked.push((self.now, target));
                }
                if let Some(mac) = self.answers.get(&target).copied().filter(|_| arp.operation == Operation::Request) {
                    self.hear(arp::reply(mac, &arp));
                }
            } else if let Ok(Ndp::Solicitation { source, target, .. }) = Ndp::parse(&transmit.bytes) {
                if source.is_unspecified() {
                    self.asked.push((self.now, target.into()));
                }
                if let Some(mac) = self.answers.get(&IpAddr::V6(target)).copied() {
                    self.hear(ndp::advertisement(mac, target, source, CLIENTS_MAC));
                }
            }
        }
    }

    fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.controller.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.controller.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn wait_s(&mut self, seconds: u64) {
        self.wait(Duration::from_secs(seconds));
    }

    /// Subject and reason of the alarms.
    fn alarms(&self) -> BTreeMap<String, String> {
        let alarms = self.controller.alarms(self.now).into_iter();
        let about = alarms.filter(|alarm| alarm.kind == AlarmKind::DuplicateAddress);
        about.map(|alarm| (alarm.subject, alarm.reason)).collect()
    }
}

/// An announcement of `address` by another station.
fn claim(mac: MacAddr, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp::announcement(mac, address),
        IpAddr::V6(address) => ndp::announcement(mac, address),
    }
}

fn all() -> [IpAddr; 6] {
    let local = ndp::link_local(CLIENTS_MAC);
    [OWN.into(), VIP.into(), SNAT.into(), "2001:db8:113::1".parse().unwrap(), VIP6.into(), local.into()]
}

#[test]
fn each_address_is_defended_on_its_own_once_in_ten_seconds_and_told_by_its_name() {
    let mut link = Link::with_server(ForwardingMode::Nat);
    link.wait_s(3);
    for address in all() {
        assert_eq!(link.answer(claim(STRANGER, address)), [claim(CLIENTS_MAC, address)], "{address}");
    }
    link.wait_s(9);
    for address in all() {
        assert_eq!(link.answer(claim(STRANGER, address)), Vec::<Vec<u8>>::new(), "{address}: a moment ago");
    }
    link.wait_s(1);
    for address in all() {
        assert_eq!(link.answer(claim(STRANGER, address)), [claim(CLIENTS_MAC, address)], "{address}: again");
    }

    let subjects: BTreeSet<String> = all().iter().map(|address| format!("clients {address}")).collect();
    assert_eq!(link.alarms().into_keys().collect::<BTreeSet<_>>(), subjects);
    assert_eq!(link.alarms()["clients 203.0.113.80"], format!("203.0.113.80 is claimed by {STRANGER} too"));
    assert_eq!(link.controller.counters()["duplicate_address"], 18);
    link.wait_s(75);
    assert!(link.alarms().is_empty(), "nobody claimed them again: {:?}", link.alarms());
}

#[test]
fn another_claimant_is_told_and_who_uses_an_address_to_ask_claims_it() {
    let mut link = Link::with_server(ForwardingMode::Nat);
    link.answer(claim(STRANGER, VIP.into()));
    let third = MacAddr([2, 0, 0, 0, 9, 10]);
    link.wait_s(1);
    assert!(link.answer(claim(third, VIP.into())).is_empty());
    assert_eq!(link.alarms()["clients 203.0.113.80"], format!("203.0.113.80 is claimed by {third} too"));

    let asks = ndp::solicitation(STRANGER, VIP6, "2001:db8:113::7".parse().unwrap(), None);
    assert_eq!(link.answer(asks), [claim(CLIENTS_MAC, VIP6.into())]);
    let own = ndp::solicitation(CLIENTS_MAC, VIP6, "2001:db8:113::7".parse().unwrap(), None);
    assert!(link.answer(own).is_empty(), "its own frame, come back");
}

#[test]
fn every_address_is_asked_for_again_and_again_by_questions_that_teach_nobody() {
    let mut link = Link::with_server(ForwardingMode::Nat);
    link.wait_s(300);

    for address in all() {
        let times: Vec<Instant> = link.asked.iter().filter(|(_, asked)| *asked == address).map(|(at, _)| *at).collect();
        assert!(times[0] <= Instant::from_millis(40_000), "{address}");
        let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
        assert!(
            *least >= Duration::from_secs(22) && *most <= Duration::from_secs(30),
            "{address}: {least:?} to {most:?}"
        );
    }
    assert!(link.alarms().is_empty());
}

#[test]
fn a_link_of_thousands_of_addresses_is_asked_slowly_and_its_alarms_last_until_the_next_question() {
    let mut config = farm::web(0, farm::check(ServiceCheckKind::None));
    config.services[0].snat = (2..=250).map(|n| Ipv4Addr::new(203, 0, 113, n).into()).collect();
    config.services[0].addresses =
        (1..=1000_u16).map(|n| Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 1, n).into()).collect();
    let last = *config.services[0].addresses.last().unwrap();
    let mut link = Link::new(config);
    link.answers.insert(last, STRANGER);
    link.wait_s(130);
    assert!(link.asked.len() <= 130 * 14, "{} questions", link.asked.len());
    assert!(!link.alarms().is_empty());
    let standing = |link: &Link| link.alarms().into_keys().collect::<Vec<_>>();
    let before = standing(&link);
    for _ in 0..30 {
        link.wait_s(10);
        assert_eq!(standing(&link), before, "it stands between two questions");
    }
}

#[test]
fn a_server_that_does_not_hide_the_virtual_address_is_named_with_what_it_lacks() {
    let told = |mode: ForwardingMode, address: IpAddr| {
        let mut link = Link::with_server(mode);
        link.wait_s(2);
        assert!(link.alarms().is_empty());
        link.answers.insert(address, SERVER);
        link.wait_s(40);
        let told = link.alarms().remove(&format!("clients {address}")).expect("it is told");
        link.answers.remove(&address);
        link.wait_s(120);
        assert!(link.alarms().is_empty(), "it is cured: {:?}", link.alarms());
        told
    };
    let direct = told(ForwardingMode::Direct, VIP.into());
    assert!(
        direct.starts_with(&format!("203.0.113.80 is claimed by {SERVER} too, which is server web/s1: ")),
        "{direct}"
    );
    assert!(direct.contains("arp_ignore=1") && direct.contains("arp_announce=2"), "{direct}");
    assert!(told(ForwardingMode::Tunnel, VIP6.into()).ends_with("there, keep the address on lo"));
    assert!(told(ForwardingMode::Nat, VIP.into()).ends_with("server web/s1: remove the address there"));
    assert!(told(ForwardingMode::Direct, SNAT.into()).ends_with("server web/s1: remove the address there"));
}

#[test]
fn what_a_reload_took_away_or_a_cable_cut_off_is_not_asked_for() {
    let mut config = farm::web(1, farm::check(ServiceCheckKind::None));
    let mut link = Link::new(config.clone());
    link.answer(claim(STRANGER, VIP.into()));
    config.services[0].addresses = vec![VIP6.into()];
    link.controller.apply(config, None, link.now).unwrap();
    link.wait_s(31);
    assert!(link.alarms().is_empty(), "it is no address of the engine: {:?}", link.alarms());
    link.asked.clear();
    link.wait_s(60);
    assert!(!link.asked.is_empty() && !link.asked.iter().any(|(_, asked)| *asked == IpAddr::V4(VIP)));

    link.controller.handle_device(DeviceId(0), None, link.now);
    link.settle();
    link.asked.clear();
    link.wait_s(60);
    assert!(link.asked.is_empty());
}
