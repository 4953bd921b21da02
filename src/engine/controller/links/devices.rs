//! Handles the state of devices that the operating system reports, and announces the engine on its links.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};

use super::super::DeviceState;
use super::super::journal::{Alarm, StateChange};
use super::super::outbox::{Notice, Outbox};
use super::Links;
use super::duplicates::Duplicates;
use crate::config;
use crate::engine::view::OperState;
use crate::id::{DeviceId, LinkId};
use crate::time::{Duration, Instant};
use crate::wire::mld::{self, ReportReason};
use crate::wire::{Family, MacAddr, arp, ndp};

/// How often the engine announces its addresses on a link that came up, so that switches learn where it is and
/// neighbours forget who had its addresses before.
const ANNOUNCEMENTS: u8 = 3;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);

/// The state of a link.
#[derive(Debug, Clone)]
pub(in super::super) struct LinkState {
    /// The last state of its device that the operating system reported; `None` if the device is absent.
    device: Option<DeviceState>,
    pub(in super::super) up: bool,
    pub(in super::super) mac: MacAddr,
    pub(in super::super) mtu: u16,
    /// The configured addresses, then the IPv6 link-local one.
    pub(in super::super) addresses: Vec<IpNet>,
    /// The virtual addresses in its subnets, which the engine answers for like its own but never uses as source.
    virtual_addresses: Vec<IpAddr>,
    next_announcement: Option<(Instant, u8)>,
    /// Claims of other stations to the engine's addresses.
    pub(super) duplicates: Duplicates,
}

impl LinkState {
    /// `virtual_addresses` are those of services, and those that stand for clients.
    pub(super) fn new(link: &config::Link, virtual_addresses: &[IpAddr]) -> Self {
        let mut state = Self {
            device: None,
            up: false,
            mac: link.mac.unwrap_or_default(),
            mtu: link.mtu.unwrap_or(1500),
            addresses: Vec::new(),
            virtual_addresses: virtual_addresses_on(link, virtual_addresses),
            next_announcement: None,
            duplicates: Duplicates::default(),
        };
        state.set_addresses(link);
        state
    }

    /// The engine's IPv6 link-local address on the link, made from its MAC address.
    pub(in super::super) fn link_local(&self) -> Ipv6Addr {
        ndp::link_local(self.mac)
    }

    /// True if the engine answers for `address` on the link.
    pub(super) fn answers_for(&self, address: IpAddr) -> bool {
        self.answered_addresses().any(|own| own == address)
    }

    /// The addresses that the engine answers for on the link: its own, then virtual ones.
    pub(super) fn answered_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().map(IpNet::addr).chain(self.virtual_addresses.iter().copied())
    }

    /// True if `address` is reached without a router.
    pub(in super::super) fn is_on_link(&self, address: IpAddr) -> bool {
        let local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        local || self.addresses.iter().any(|own| own.contains(&address))
    }

    /// The source address for packets to `other`: one in its subnet if there is one, else the first of the family. For
    /// IPv6 the last resort is the link-local address.
    pub(super) fn source_for(&self, other: IpAddr) -> Option<IpAddr> {
        let family = Family::of(other);
        let mut of_family = self.addresses.iter().filter(|own| Family::of(own.addr()) == family);
        let in_subnet = of_family.clone().find(|own| own.contains(&other));
        in_subnet.or_else(|| of_family.next()).map(IpNet::addr)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next_announcement.map(|(next, _)| next).into_iter().chain(self.poll_duplicates()).min()
    }

    /// When a probe for a duplicate address is due, or the end of a claim.
    pub(super) fn poll_duplicates(&self) -> Option<Instant> {
        self.duplicates.poll_timeout(self.addresses.len() + self.virtual_addresses.len())
    }

    fn set_addresses(&mut self, link: &config::Link) {
        self.addresses.clone_from(&link.addresses);
        if !self.mac.is_zero() {
            let local = Ipv6Net::new(self.link_local(), 64).expect("64 is a legal length");
            self.addresses.push(local.into());
        }
    }
}

/// The virtual addresses that lie in a subnet of the link and are not the engine's own there.
fn virtual_addresses_on(link: &config::Link, virtual_addresses: &[IpAddr]) -> Vec<IpAddr> {
    let in_subnet = |address: &&IpAddr| link.addresses.iter().any(|own| own.contains(*address));
    let is_own = |address: &&IpAddr| link.addresses.iter().any(|own| own.addr() == **address);
    virtual_addresses.iter().filter(in_subnet).filter(|address| !is_own(address)).copied().collect()
}

impl Links {
    /// Brings the links in line with the configuration. A link that stays keeps its state, a new link takes the state
    /// of its device if that is known, and a removed link is down.
    pub(super) fn adopt_links(&mut self, now: Instant, out: &mut Outbox) {
        let config = Arc::clone(&self.config);
        let virtual_addresses = config.virtual_addresses();
        for link in config.links.iter().skip(self.states.len()) {
            self.states.push(LinkState::new(link, &virtual_addresses));
        }
        for index in 0..self.states.len() {
            let link = &config.links[index];
            let mut beside = config.links.iter().zip(&self.states).filter(|(other, _)| other.device == link.device);
            let device = beside.find_map(|(_, state)| state.device);
            let state = &mut self.states[index];
            state.device = state.device.or(device);
            let before: Vec<IpAddr> = state.answered_addresses().collect();
            if config::is_removed(&link.name) {
                let was_up = std::mem::take(&mut state.up);
                state.device = None;
                (state.addresses, state.virtual_addresses, state.next_announcement, state.duplicates) =
                    Default::default();
                if was_up {
                    self.neighbors.link_down(index.into());
                }
                continue;
            }
            state.virtual_addresses = virtual_addresses_on(link, &virtual_addresses);
            state.set_addresses(link);
            if let Some(device) = state.device {
                self.link_changed(index.into(), Some(device), now, out);
            }
            let state = &self.states[index];
            if state.up && state.answered_addresses().any(|address| !before.contains(&address)) {
                self.begin_announcing(index.into(), now, out);
            }
        }
    }

    /// Handles a device that appeared or changed, or that went away (`None`).
    pub(in super::super) fn handle_device(
        &mut self,
        device: DeviceId,
        state: Option<DeviceState>,
        now: Instant,
        out: &mut Outbox,
    ) {
        for id in self.config.link_ids().collect::<Vec<_>>() {
            if self.config.links[id.index()].device == device {
                self.link_changed(id, state, now, out);
            }
        }
    }

    /// Announces the engine on the links where that is due.
    pub(super) fn announce_links(&mut self, now: Instant, out: &mut Outbox) {
        for index in 0..self.states.len() {
            let link = &mut self.states[index];
            let Some((next, left)) = link.next_announcement else { continue };
            if next <= now {
                link.next_announcement = (left > 1).then(|| (now + ANNOUNCE_INTERVAL, left - 1));
                self.announce(index.into(), out);
            }
        }
    }

    /// Announces every address of the engine on a link to everybody there.
    fn announce(&mut self, link: LinkId, out: &mut Outbox) {
        let state = &self.states[link.index()];
        let (mac, local) = (state.mac, state.link_local());
        let addresses: Vec<IpAddr> = state.answered_addresses().collect();
        for address in addresses {
            let frame = match address {
                IpAddr::V4(address) => arp::announcement(mac, address),
                IpAddr::V6(address) => ndp::announcement(mac, address),
            };
            self.send(link, frame, out);
        }
        let groups = self.solicited_groups(link);
        self.send(link, mld::report(mac, local, &groups, ReportReason::Joined), out);
    }

    /// The solicited-node multicast groups in which neighbours ask for the engine.
    pub(super) fn solicited_groups(&self, link: LinkId) -> Vec<Ipv6Addr> {
        let mut groups = Vec::new();
        for own in self.states[link.index()].answered_addresses() {
            if let IpAddr::V6(address) = own {
                let group = ndp::solicited_node(address);
                if !groups.contains(&group) {
                    groups.push(group);
                }
            }
        }
        groups
    }

    fn link_changed(&mut self, id: LinkId, device: Option<DeviceState>, now: Instant, out: &mut Outbox) {
        let configured = &self.config.links[id.index()];
        let name = configured.name.clone();
        let link = &mut self.states[id.index()];
        link.device = device;
        let was = (link.up, link.mac, link.mtu);
        if let Some(device) = device {
            link.mac = configured.mac.unwrap_or(device.mac);
            link.mtu = configured.mtu.unwrap_or(device.mtu).min(device.mtu);
            link.set_addresses(configured);
        }
        link.up = device.is_some_and(|device| device.up);
        let is = (link.up, link.mac, link.mtu);
        let reason = match device {
            None => "the device is gone",
            Some(DeviceState { up: false, .. }) => "no carrier, or set down",
            Some(DeviceState { up: true, .. }) => "carrier",
        };
        let alarm = Alarm { kind: "link_down", subject: name.clone() };
        if is.0 {
            out.clear_alarm(&alarm, now);
        } else {
            out.raise_alarm(alarm, reason.to_owned(), now);
        }
        if was == is {
            return;
        }
        // This cannot wait: by the earlier snapshot, answers to the frames that follow are not for this engine.
        out.publish_at_once();
        if was.0 != is.0 {
            let state = |up| Some(OperState::from(up).name());
            let (subject, from, to, reason) = (&name, state(was.0), state(is.0), Some(reason));
            out.report_change(StateChange { kind: "link", subject, from, to, reason, ..StateChange::default() });
        }
        if !is.0 {
            self.states[id.index()].next_announcement = None;
            self.states[id.index()].duplicates.pause();
            if was.0 {
                self.neighbors.link_down(id);
                out.notify(Notice::LinkDown(id));
            }
            return;
        }
        if !was.0 {
            self.neighbors.link_up(id, now);
            out.notify(Notice::LinkUp(id));
        }
        if !was.0 || was.1 != is.1 {
            self.begin_announcing(id, now, out);
        }
    }

    /// Announces the engine on the link at once and several times more, then probes whether another station has its
    /// addresses.
    fn begin_announcing(&mut self, id: LinkId, now: Instant, out: &mut Outbox) {
        self.announce(id, out);
        let state = &mut self.states[id.index()];
        state.next_announcement = Some((now + ANNOUNCE_INTERVAL, ANNOUNCEMENTS - 1));
        state.duplicates.begin(&mut self.random, now);
    }
}
