//! The devices of one engine: locks them, opens them for every worker, and follows them as they go and come back.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::ha_handle::HaHandle;
use super::opening::{DeviceEndpoints, LinkKinds, Opener};
use super::probe_thread::ProbeThreadHandle;
use super::shared::{DeviceStatus, Shared};
use super::transmit::LinkSenders;
use super::with_sources;
use super::worker::{WorkerHandle, WorkerMessage};
use crate::config::{Config, Link, RouteTarget, is_removed};
use crate::engine::controller::DeviceState;
use crate::engine::forwarder::ProbeBypass;
use crate::id::DeviceId;
use crate::io::af_packet;
use crate::io::af_xdp::Attachment;
use crate::io::frame_io::DeviceOpenError;
use crate::io::isolate::{IsolateError, Isolation};
use crate::io::lock::{self, LinkLock};
use crate::io::monitor::LinkChanges;
use crate::io::{netdev, privileges};

/// Why a device could not be attached.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttachError {
    /// The kernel's stack could not be kept off it.
    #[error(transparent)]
    Isolate(#[from] IsolateError),
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] DeviceOpenError),
}

/// Interface indexes of the devices that an engine of this process has set up. Engines may share a device.
pub(super) type DevicesSetUp = Arc<Mutex<Vec<u32>>>;

/// The devices of one engine.
#[derive(Debug)]
pub(super) struct Devices {
    shared: Arc<Shared>,
    isolation: Isolation,
    opener: Opener,
    workers: Vec<WorkerHandle>,
    probes: ProbeThreadHandle,
    ha: Option<HaHandle>,
    /// Indexed by [`DeviceId`].
    ports: Vec<Port>,
    /// The locks of the engine's links, by link name.
    locks: BTreeMap<String, LinkLock>,
    set_up: DevicesSetUp,
}

/// A device that is open and not yet in use.
#[derive(Debug)]
pub(super) struct Opened {
    found: netdev::Device,
    endpoints: DeviceEndpoints,
    /// By which a node of a cluster sends its hellos.
    hello_sender: Option<af_packet::Sender>,
}

#[derive(Debug, Default)]
struct Port {
    name: String,
    attached: Option<Attached>,
    /// Interface index of the device that was attached last. If that is set down later, an operator did it, and it
    /// stays down.
    last_index: Option<u32>,
    /// The state that was last reported to the controller.
    reported: Option<DeviceState>,
    /// The last failure to attach; it is logged only when it changes.
    failure: Option<String>,
}

/// A device in use.
#[derive(Debug)]
struct Attached {
    index: u32,
    /// Its present name.
    name: String,
    mtu: u16,
    /// Keeps the XDP program attached.
    _attachment: Option<Attachment>,
}

/// A device that changed, and its new state; `None` if it is missing.
pub(super) type DeviceChange = (DeviceId, Option<DeviceState>);

impl Devices {
    /// Makes the list of devices; none is attached yet.
    pub(super) fn new(
        shared: Arc<Shared>,
        isolation: Isolation,
        opener: Opener,
        workers: Vec<WorkerHandle>,
        (probes, ha): (ProbeThreadHandle, Option<HaHandle>),
        locks: BTreeMap<String, LinkLock>,
        raised: DevicesSetUp,
    ) -> Self {
        let config = shared.config();
        let ports = config.devices.iter().map(|name| Port { name: name.clone(), ..Port::default() }).collect();
        Self { shared, isolation, opener, workers, probes, ha, ports, locks, set_up: raised }
    }

    /// Opens the devices of `config` that the engine does not have yet, all or none.
    pub(super) fn open_new(&mut self, config: &Config) -> Result<Vec<Opened>, String> {
        let mut opened = Vec::new();
        for name in &config.devices {
            if self.ports.iter().any(|port| port.name == *name) {
                continue;
            }
            // The capabilities of the control thread, which keeps those for opening devices.
            privileges::may_open_devices(self.opener.is_xdp()).map_err(|missing| missing.to_string())?;
            let one =
                netdev::find(name).ok_or_else(no_device).and_then(|found| self.open(found, links_on(config, name)));
            match one {
                Ok(one) => opened.push(one),
                Err(error) => {
                    self.close_new(opened);
                    // Releases what the failed attempt holds.
                    if let Some(found) = netdev::find(name) {
                        let _ = self.isolation.release(&found.name);
                        self.restore_down(found.index, &found.name);
                    }
                    return Err(format!("cannot open device {name}: {}", with_sources(&error)));
                }
            }
        }
        Ok(opened)
    }

    /// Closes devices that were opened for a reload which then failed.
    pub(super) fn close_new(&mut self, opened: Vec<Opened>) {
        for one in opened {
            self.release(&one.found.name);
            self.restore_down(one.found.index, &one.found.name);
        }
    }

    /// Applies a configuration that has taken effect: `opened` are its new devices, `locks` its new links. Devices that
    /// are no longer configured go back to the kernel.
    pub(super) fn apply_config(
        &mut self,
        config: &Config,
        opened: Vec<Opened>,
        locks: Vec<(String, LinkLock)>,
        outlets: &mut LinkSenders,
    ) -> Vec<DeviceChange> {
        self.locks.extend(locks);
        self.locks.retain(|name, _| config.link_ids().any(|id| config.links[id.index()].name == *name));
        self.ports.resize_with(config.devices.len(), Port::default);
        for (index, name) in config.devices.iter().enumerate() {
            let before = std::mem::replace(&mut self.ports[index].name, name.clone());
            if is_removed(name) && !is_removed(&before) {
                let attached = self.ports[index].attached.as_ref().map(|port| (port.index, port.name.clone()));
                self.detach(index.into(), "device is let go", outlets);
                if let Some((number, name)) = attached {
                    self.release(&name);
                    self.restore_down(number, &name);
                }
                (self.ports[index].reported, self.ports[index].last_index) = (None, None);
            }
        }
        let mut changes = Vec::new();
        for one in opened {
            let Some(index) = self.ports.iter().position(|port| port.name == one.found.name) else { continue };
            let known = state(&one.found);
            self.activate(index.into(), one, outlets);
            changes.extend(self.state_change(index.into(), Some(known)));
        }
        changes
    }

    /// Sets a device down that the engine set up, unless another engine has links on it.
    fn restore_down(&mut self, index: u32, name: &str) {
        let mut raised = self.set_up.lock().unwrap_or_else(PoisonError::into_inner);
        if !raised.contains(&index) || lock::is_owned(name) {
            return;
        }
        raised.retain(|one| *one != index);
        match netdev::enable(index, false) {
            Ok(()) => tracing::info!(engine = self.shared.engine, device = name, "device set down, as it was before"),
            Err(error) => {
                tracing::warn!(engine = self.shared.engine, device = name, %error, "device not set down again")
            }
        }
    }

    fn release(&mut self, device: &str) {
        if let Err(error) = self.isolation.release(device) {
            tracing::warn!(engine = self.shared.engine, device, error = with_sources(&error), "device not let go");
        }
    }

    /// Attaches every device. Fails if one is missing or does not open.
    pub(super) fn attach_all(&mut self, outlets: &mut LinkSenders) -> Result<Vec<DeviceChange>, (String, AttachError)> {
        let mut changes = Vec::new();
        for device in (0..self.ports.len()).map(DeviceId::from) {
            let name = self.ports[device.index()].name.clone();
            let found = netdev::find(&name).ok_or_else(|| (name.clone(), no_device()))?;
            self.attach(device, &found, outlets).map_err(|error| (name.clone(), error))?;
            // Opening may have set it up.
            let found = netdev::find(&name).unwrap_or(found);
            changes.extend(self.state_change(device, Some(state(&found))));
        }
        Ok(changes)
    }

    /// One more descriptor of the lock of each link, by the lock's name.
    pub(super) fn share_locks(&self) -> std::io::Result<Vec<(String, OwnedFd)>> {
        self.locks.values().map(|lock| Ok((lock.name().to_owned(), lock.share()?))).collect()
    }

    /// Numbers of the devices that this process has set up.
    pub(super) fn raised(&self) -> Vec<u32> {
        self.set_up.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes all devices, which another program opens.
    pub(super) fn close_all(&mut self, outlets: &mut LinkSenders) {
        for device in (0..self.ports.len()).map(DeviceId::from) {
            self.detach(device, "device is closed for the program that takes over", outlets);
        }
    }

    /// Leaves all devices to another program: they are neither opened again nor set down.
    pub(super) fn leave(&mut self) {
        self.ports.clear();
        self.set_up.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether a configured device is not attached.
    pub(super) fn has_missing(&self) -> bool {
        self.ports.iter().any(|port| port.attached.is_none() && !is_removed(&port.name))
    }

    /// Looks again at the devices that the notifications are about.
    pub(super) fn apply_link_changes(&mut self, news: &LinkChanges, outlets: &mut LinkSenders) -> Vec<DeviceChange> {
        // A device that is configured by its MAC address may have any name.
        let concerned = |port: &Port| match news {
            LinkChanges::All => true,
            LinkChanges::Devices(names) => names.contains(&port.name) || port.name.starts_with(netdev::MAC_PREFIX),
        };
        if !self.ports.iter().any(concerned) {
            return Vec::new();
        }
        let known = |port: &Port| port.attached.as_ref().map(|attached| attached.index);
        let found = netdev::find_all(self.ports.iter().map(|port| (port.name.as_str(), known(port))));
        let devices = (0..self.ports.len()).map(DeviceId::from);
        devices.zip(found).filter_map(|(device, found)| self.reconcile(device, found, outlets)).collect()
    }

    /// Attaches, detaches or updates a port so that it matches its device.
    fn reconcile(
        &mut self,
        device: DeviceId,
        found: Option<netdev::Device>,
        outlets: &mut LinkSenders,
    ) -> Option<DeviceChange> {
        let attached = &mut self.ports[device.index()].attached;
        let same = match (&mut *attached, &found) {
            // For AF_XDP it was opened with this MTU.
            (Some(attached), Some(found)) if self.opener.is_xdp() => {
                attached.index == found.index && attached.mtu == found.mtu
            }
            (Some(attached), Some(found)) => {
                let mtu = found.mtu;
                if attached.index == found.index && std::mem::replace(&mut attached.mtu, mtu) != mtu {
                    self.workers.iter().for_each(|worker| worker.send(WorkerMessage::Mtu { device, mtu }));
                }
                attached.index == found.index
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            let is_same_device =
                attached.as_ref().map(|attached| attached.index) == found.as_ref().map(|found| found.index);
            self.detach(device, if is_same_device { "device has another MTU" } else { "device is gone" }, outlets);
        }
        let Some(found) = found else { return self.state_change(device, None) };
        if same {
            self.rename(device, &found.name);
        }
        if !same && let Err(error) = self.attach(device, &found, outlets) {
            let port = &mut self.ports[device.index()];
            let failure = with_sources(&error);
            if port.failure.as_ref() != Some(&failure) {
                tracing::warn!(engine = self.shared.engine, device = port.name, error = failure, "device not attached");
                port.failure = Some(failure);
            }
            return self.state_change(device, None);
        }
        let reason = why_down(&found);
        self.shared.update_device(device, |words| words.reason = reason);
        self.state_change(device, Some(state(&found)))
    }

    /// Follows a device that is configured by its MAC address to a new name, because the kernel's stack is kept off by
    /// name.
    fn rename(&mut self, device: DeviceId, name: &str) {
        let port = &mut self.ports[device.index()];
        let Some(attached) = port.attached.as_mut().filter(|attached| attached.name != name) else { return };
        let before = std::mem::replace(&mut attached.name, name.to_owned());
        let engine = &self.shared.engine;
        if let Err(error) = self.isolation.isolate(name).and_then(|()| self.isolation.release(&before)) {
            tracing::warn!(engine, device = name, error = with_sources(&error), "the kernel's stack is on the device");
        }
        tracing::info!(engine, device = name, before, "device has another name");
        self.shared.update_device(device, |words| words.name = Some(name.to_owned()));
    }

    /// Returns the change to report if the state differs from the one that was last reported.
    fn state_change(&mut self, device: DeviceId, state: Option<DeviceState>) -> Option<DeviceChange> {
        let told = &mut self.ports[device.index()].reported;
        (*told != state).then(|| {
            *told = state;
            (device, state)
        })
    }

    fn attach(
        &mut self,
        device: DeviceId,
        found: &netdev::Device,
        outlets: &mut LinkSenders,
    ) -> Result<(), AttachError> {
        let links = links_on(&self.shared.config(), &self.ports[device.index()].name);
        let opened = self.open(found.clone(), links)?;
        self.activate(device, opened, outlets);
        Ok(())
    }

    /// Isolates the kernel's stack first, so that it answers nothing that the engine will answer.
    fn open(&mut self, found: netdev::Device, links: LinkKinds) -> Result<Opened, AttachError> {
        self.isolation.isolate(&found.name)?;
        let found = self.set_up(found);
        let endpoints = self.opener.open(&self.shared.engine, &found, links)?;
        let hello_sender = self.ha.as_ref().map(|_| af_packet::Sender::open(found.index)).transpose();
        let hello_sender = hello_sender.map_err(DeviceOpenError::from)?;
        Ok(Opened { found, endpoints, hello_sender })
    }

    /// Sets a device up that is down, because the engine's links are up while it runs. Notifications report the result.
    fn set_up(&mut self, found: netdev::Device) -> netdev::Device {
        if found.admin_up || self.ports.iter().any(|port| port.last_index == Some(found.index)) {
            return found;
        }
        let (engine, device) = (&self.shared.engine, &found.name);
        match netdev::enable(found.index, true) {
            Ok(()) => {
                tracing::info!(
                    engine,
                    device,
                    "device was down and is set up; it is set down again when the engine lets it go"
                );
                self.set_up.lock().unwrap_or_else(PoisonError::into_inner).push(found.index);
            }
            Err(error) => tracing::warn!(engine, device, %error, "device is down and cannot be set up"),
        }
        netdev::find(&found.name).filter(|again| again.index == found.index).unwrap_or(found)
    }

    fn activate(&mut self, device: DeviceId, opened: Opened, outlets: &mut LinkSenders) {
        let Opened { found, endpoints, hello_sender } = opened;
        let DeviceEndpoints { workers, control_sender: own, probes, attachment, mode } = endpoints;
        outlets.attach(device, own);
        if let (Some(ha), Some(sender)) = (&self.ha, hello_sender) {
            ha.attach(device, sender.into());
        }
        let apart = probes.map(|receiver| {
            let apart = Arc::new(ProbeBypass::default());
            self.probes.attach(device, receiver, apart.clone());
            apart
        });
        for (worker, (receiver, sender)) in self.workers.iter().zip(workers) {
            worker.send(WorkerMessage::Attach { device, receiver, sender, apart: apart.clone() });
        }
        let io = self.shared.config().engine.io.name();
        let port = &mut self.ports[device.index()];
        tracing::info!(
            engine = self.shared.engine,
            device = found.name,
            index = found.index,
            io,
            mode,
            "device attached"
        );
        let words = DeviceStatus { name: Some(found.name.clone()), io_mode: mode, reason: why_down(&found) };
        self.shared.update_device(device, |told| *told = words);
        port.last_index = Some(found.index);
        port.attached =
            Some(Attached { index: found.index, name: found.name, mtu: found.mtu, _attachment: attachment });
        port.failure = None;
    }

    fn detach(&mut self, device: DeviceId, why: &str, outlets: &mut LinkSenders) {
        let port = &mut self.ports[device.index()];
        if port.attached.take().is_some() {
            outlets.detach(device);
            self.probes.detach(device);
            if let Some(ha) = &self.ha {
                ha.detach(device);
            }
            self.workers.iter().for_each(|worker| worker.send(WorkerMessage::Detach(device)));
            let reason = Some("the device is missing");
            self.shared.update_device(device, |told| *told = DeviceStatus { reason, ..DeviceStatus::default() });
            tracing::warn!(engine = self.shared.engine, device = port.name, "{why}");
        }
    }
}

/// Why the links of a device are down; `None` if they are up.
fn why_down(found: &netdev::Device) -> Option<&'static str> {
    match (found.oper_up, found.admin_up) {
        (true, _) => None,
        (false, true) => Some("no carrier"),
        (false, false) => Some("set down"),
    }
}

fn no_device() -> AttachError {
    AttachError::Open(af_packet::PacketSocketError::NoDevice.into())
}

impl Drop for Devices {
    /// Restores the devices as they were before the engine. A killed engine leaves them up.
    fn drop(&mut self) {
        self.locks.clear();
        let raised = self.set_up.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for index in raised {
            // It may be gone or have another name.
            let Some(found) = netdev::list().into_iter().find(|found| found.index == index) else { continue };
            self.restore_down(index, &found.name);
        }
    }
}

/// What kinds of links `device` has.
fn links_on(config: &Config, device: &str) -> LinkKinds {
    let links = || config.links.iter().enumerate().filter(|(_, link)| config.devices[link.device.index()] == device);
    let is_probed = |link: usize| {
        config.firewalls.iter().any(|firewall| firewall.link.index() == link)
            || config
                .servers
                .iter()
                .any(|server| server.addresses.iter().any(|address| is_next_hop_link(config, *address, link)))
    };
    LinkKinds {
        tagged: links().any(|(_, link)| link.vlan.is_some()),
        has_probes: links().any(|(number, _)| is_probed(number)),
    }
}

/// Whether an address is reached by a link: it is connected there, or connected nowhere and routed there.
fn is_next_hop_link(config: &Config, address: IpAddr, link: usize) -> bool {
    let is_connected = |of: &Link| of.addresses.iter().any(|subnet| subnet.contains(&address));
    if config.links.iter().any(is_connected) {
        return is_connected(&config.links[link]);
    }
    config.routes.iter().any(|route| match &route.target {
        RouteTarget::Via { link: by, via: _ } => by.index() == link && route.to.contains(&address),
        RouteTarget::Group { .. } => false,
    })
}

fn state(found: &netdev::Device) -> DeviceState {
    DeviceState { mac: found.mac, mtu: found.mtu, up: found.oper_up }
}
