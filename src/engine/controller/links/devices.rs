//! Handles the state of devices that the operating system reports, and announces the engine on its links.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};

use super::super::DeviceState;
use super::super::outbox::{Notice, Outbox};
use super::Links;
use super::duplicates::Duplicates;
use crate::config::{self, Config};
use crate::engine::addresses::AddressSet;
use crate::engine::change::{Alarm, StateChange, Subject};
use crate::engine::view::{AlarmKind, EventKind, OperState};
use crate::id::{DeviceId, LinkId};
use crate::time::{Duration, Instant};
use crate::wire::mld::{self, ReportReason};
use crate::wire::{Family, MacAddr, arp, ndp, vrrp};

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
    /// The floating addresses of the cluster.
    pub(super) floating: Vec<IpAddr>,
    /// The floating and virtual addresses, which whichever node is active answers for.
    shared: AddressSet,
    /// The MAC addresses of the virtual router, for IPv4 and IPv6; those of the link if there is none.
    pub(super) router_macs: [MacAddr; 2],
    /// Whether this node answers for floating and virtual addresses. An engine that stands alone always does.
    is_router: bool,
    next_announcement: Option<(Instant, u8)>,
    /// Claims of other stations to the engine's addresses.
    pub(super) duplicates: Duplicates,
}

impl LinkState {
    /// `virtual_addresses` are those of services, and those that stand for clients.
    pub(super) fn new(link: &config::Link, config: &Config, virtual_addresses: &[IpAddr]) -> Self {
        let mut state = Self {
            device: None,
            up: false,
            mac: link.mac.unwrap_or_default(),
            mtu: link.mtu.unwrap_or(1500),
            addresses: Vec::new(),
            virtual_addresses: virtual_addresses_on(link, virtual_addresses),
            floating: Vec::new(),
            shared: AddressSet::default(),
            router_macs: Default::default(),
            is_router: config.ha.is_none(),
            next_announcement: None,
            duplicates: Duplicates::default(),
        };
        state.set_addresses(link, config);
        state
    }

    /// The engine's IPv6 link-local address on the link, made from its MAC address.
    pub(in super::super) fn link_local(&self) -> Ipv6Addr {
        ndp::link_local(self.mac)
    }

    /// True if the engine answers for `address` on the link.
    pub(super) fn answers_for(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.addr() == address) || self.is_router && self.shared.contains(&address)
    }

    /// The addresses that the engine answers for on the link: its own, then, as router, floating and virtual ones.
    pub(super) fn answered_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().map(IpNet::addr).chain(self.shared_addresses().filter(|_| self.is_router))
    }

    /// The addresses that whichever node is active answers for: floating and virtual ones.
    pub(super) fn shared_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.floating.iter().chain(&self.virtual_addresses).copied()
    }

    /// True for a floating or virtual address while another node may be the one that has it.
    pub(super) fn is_elsewhere(&self, address: IpAddr) -> bool {
        !self.is_router && self.shared.contains(&address)
    }

    /// The MAC address at which this engine has `address`: that of the virtual router for floating and virtual ones.
    pub(super) fn mac_of(&self, address: IpAddr) -> MacAddr {
        match self.shared.contains(&address) {
            true => self.router_mac(Family::of(address)),
            false => self.mac,
        }
    }

    /// The MAC address of the virtual router.
    pub(super) fn router_mac(&self, family: Family) -> MacAddr {
        let [v4, v6] = self.router_macs;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// Sets whether this node answers for floating and virtual addresses.
    pub(super) fn set_router(&mut self, is_router: bool) {
        self.is_router = is_router;
    }

    /// True if `address` is reached without a router.
    pub(in super::super) fn is_on_link(&self, address: IpAddr) -> bool {
        let local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        local || self.addresses.iter().any(|own| own.contains(&address))
    }

    /// The source address of questions about `other`: one in its subnet if there is one, else the first of the family;
    /// of an active node the floating one beside it. For IPv6 the last resort is the link-local address.
    pub(super) fn source_for(&self, other: IpAddr) -> Option<IpAddr> {
        let family = Family::of(other);
        let mut of_family = self.addresses.iter().filter(|own| Family::of(own.addr()) == family);
        let in_subnet = of_family.clone().find(|own| own.contains(&other));
        let own = in_subnet.or_else(|| of_family.next())?;
        let floating = self.floating.iter().copied().filter(|_| self.is_router).find(|floating| own.contains(floating));
        Some(floating.unwrap_or(own.addr()))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next_announcement.map(|(next, _)| next).into_iter().chain(self.poll_duplicates()).min()
    }

    /// When a probe for a duplicate address is due, or the end of a claim.
    pub(super) fn poll_duplicates(&self) -> Option<Instant> {
        self.duplicates.poll_timeout(self.answered_addresses().count())
    }

    fn set_addresses(&mut self, link: &config::Link, config: &Config) {
        self.addresses.clone_from(&link.addresses);
        self.floating.clone_from(&link.floating);
        self.router_macs = [Family::V4, Family::V6].map(|family| {
            let has_floating = link.floating.iter().any(|floating| Family::of(*floating) == family);
            let vrid = config.virtual_router(link).filter(|_| has_floating);
            vrid.map_or(self.mac, |vrid| vrrp::virtual_mac(family, vrid))
        });
        self.shared = self.shared_addresses().collect();
        if !self.mac.is_zero() {
            let local = Ipv6Net::new(self.link_local(), 64).expect("64 is a legal length");
            self.addresses.push(local.into());
        }
    }
}

/// The virtual addresses that lie in a subnet of the link and are not the engine's own there.
fn virtual_addresses_on(link: &config::Link, virtual_addresses: &[IpAddr]) -> Vec<IpAddr> {
    let in_subnet = |address: &&IpAddr| link.addresses.iter().any(|own| own.contains(*address));
    let is_own =
        |address: &&IpAddr| link.floating.contains(address) || link.addresses.iter().any(|own| own.addr() == **address);
    virtual_addresses.iter().filter(in_subnet).filter(|address| !is_own(address)).copied().collect()
}

/// The floating addresses of all links, and the virtual addresses, in whatever subnets they lie.
pub(super) fn shared_addresses(config: &Config, virtual_addresses: &[IpAddr]) -> AddressSet {
    let present = config.links.iter().filter(|link| !config::is_removed(&link.name));
    present.flat_map(|link| &link.floating).chain(virtual_addresses).copied().collect()
}

/// The solicited-node multicast groups in which neighbours ask for these addresses.
fn solicited_groups(addresses: impl Iterator<Item = IpAddr>) -> Vec<Ipv6Addr> {
    let mut groups = Vec::new();
    for address in addresses {
        if let IpAddr::V6(address) = address {
            let group = ndp::solicited_node(address);
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
    }
    groups
}

impl Links {
    /// Brings the links in line with the configuration. A link that stays keeps its state, a new link takes the state
    /// of its device if that is known, and a removed link is down.
    pub(super) fn adopt_links(&mut self, now: Instant, out: &mut Outbox) {
        let config = Arc::clone(&self.config);
        let virtual_addresses = config.virtual_addresses();
        self.shared = shared_addresses(&config, &virtual_addresses);
        for link in config.links.iter().skip(self.states.len()) {
            let mut state = LinkState::new(link, &config, &virtual_addresses);
            state.is_router = self.is_router;
            self.states.push(state);
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
                state.floating.clear();
                state.shared = AddressSet::default();
                if was_up {
                    self.neighbors.link_down(index.into());
                }
                continue;
            }
            state.virtual_addresses = virtual_addresses_on(link, &virtual_addresses);
            state.set_addresses(link, &config);
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
        let addresses: Vec<IpAddr> = self.states[link.index()].answered_addresses().collect();
        for address in addresses {
            self.announce_address(link, address, out);
        }
        self.report_groups(link, ReportReason::Joined, out);
    }

    /// Announces to everybody on a link at which MAC address the engine has an address.
    pub(super) fn announce_address(&mut self, link: LinkId, address: IpAddr, out: &mut Outbox) {
        let mac = self.states[link.index()].mac_of(address);
        let frame = match address {
            IpAddr::V4(address) => arp::announcement(mac, address),
            IpAddr::V6(address) => ndp::announcement(mac, address),
        };
        self.send(link, frame, out);
    }

    /// Reports the solicited-node multicast groups in which neighbours ask for the engine, and from the MAC address of
    /// the virtual router those in which they ask for that, so that switches learn the ports of both.
    pub(super) fn report_groups(&mut self, link: LinkId, reason: ReportReason, out: &mut Outbox) {
        let state = &self.states[link.index()];
        let (mac, local) = (state.mac, state.link_local());
        let is_apart = state.router_mac(Family::V6) != mac;
        let own = solicited_groups(state.addresses.iter().map(IpNet::addr));
        let shared = solicited_groups(state.answered_addresses().filter(|address| state.mac_of(*address) != mac));
        let all = solicited_groups(state.answered_addresses());
        let floating = state.floating.iter().find_map(|floating| match floating {
            IpAddr::V6(address) => address.is_unicast_link_local().then_some(*address),
            IpAddr::V4(_) => None,
        });
        let router = (state.router_mac(Family::V6), floating.unwrap_or(local));
        if !is_apart {
            self.send(link, mld::report(mac, local, &all, reason), out);
            return;
        }
        self.send(link, mld::report(mac, local, &own, reason), out);
        if !shared.is_empty() {
            self.send(link, mld::report(router.0, router.1, &shared, reason), out);
        }
    }

    fn link_changed(&mut self, id: LinkId, device: Option<DeviceState>, now: Instant, out: &mut Outbox) {
        let config = Arc::clone(&self.config);
        let configured = &config.links[id.index()];
        let link = &mut self.states[id.index()];
        link.device = device;
        let was = (link.up, link.mac, link.mtu);
        if let Some(device) = device {
            link.mac = configured.mac.unwrap_or(device.mac);
            link.mtu = configured.mtu.unwrap_or(device.mtu).min(device.mtu);
            link.set_addresses(configured, &config);
        }
        link.up = device.is_some_and(|device| device.up);
        let is = (link.up, link.mac, link.mtu);
        let reason = match device {
            None => "the device is gone",
            Some(DeviceState { up: false, .. }) => "no carrier, or set down",
            Some(DeviceState { up: true, .. }) => "carrier",
        };
        let alarm = Alarm { kind: AlarmKind::LinkDown, subject: Subject::link(&self.config, id) };
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
            let state = |up| OperState::from(up).name();
            let change = StateChange::to(EventKind::Link, Subject::link(&self.config, id), state(is.0));
            out.report_change(change.from(state(was.0)).because(reason.to_owned()));
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
