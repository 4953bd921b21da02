//! The devices of one engine: held, opened for every worker, and followed as they go and come back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::opening::{Opener, Ways};
use super::shared::Shared;
use super::transmit::Outlets;
use super::with_sources;
use super::worker::{Mail, WorkerHandle};
use crate::config::{Config, is_removed};
use crate::engine::controller::DeviceState;
use crate::id::DeviceId;
use crate::io::af_packet;
use crate::io::af_xdp::Attachment;
use crate::io::isolate::{IsolateError, Isolation};
use crate::io::lock::LinkLock;
use crate::io::monitor::News;
use crate::io::ways::OpenError;
use crate::io::{netdev, privileges};

/// Why a device is not attached.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttachError {
    /// The kernel's stack stays on it.
    #[error(transparent)]
    Isolate(#[from] IsolateError),
    /// It did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Devices {
    shared: Arc<Shared>,
    isolation: Isolation,
    opener: Opener,
    workers: Vec<WorkerHandle>,
    /// By [`DeviceId`].
    ports: Vec<Port>,
    /// The links that are ours, by name.
    locks: BTreeMap<String, LinkLock>,
}

/// A device that is open and not yet used.
#[derive(Debug)]
pub(super) struct Opened {
    found: netdev::Device,
    ways: Ways,
}

#[derive(Debug, Default)]
struct Port {
    name: String,
    attached: Option<Attached>,
    /// What the controller was told last.
    told: Option<DeviceState>,
    /// The last failure to attach, so that it is logged once.
    failure: Option<String>,
}

/// A device in use.
#[derive(Debug)]
struct Attached {
    index: u32,
    mtu: u16,
    /// Holds the program of AF_XDP.
    _attachment: Option<Attachment>,
}

/// A device that changed, and what it is.
pub(super) type Change = (DeviceId, Option<DeviceState>);

impl Devices {
    /// Nothing is attached yet.
    pub(super) fn new(
        shared: Arc<Shared>,
        isolation: Isolation,
        opener: Opener,
        workers: Vec<WorkerHandle>,
        locks: BTreeMap<String, LinkLock>,
    ) -> Self {
        let config = shared.config();
        let ports = config.devices.iter().map(|name| Port { name: name.clone(), ..Port::default() }).collect();
        Self { shared, isolation, opener, workers, ports, locks }
    }

    /// Opens those devices of `config` that are not ours yet, all or none.
    pub(super) fn open_new(&mut self, config: &Config) -> Result<Vec<Opened>, String> {
        let mut opened = Vec::new();
        for name in &config.devices {
            if self.ports.iter().any(|port| port.name == *name) {
                continue;
            }
            // Of this thread, which keeps what it takes.
            privileges::may_open_devices(self.opener.is_xdp()).map_err(|missing| missing.to_string())?;
            let one =
                netdev::find(name).ok_or_else(no_device).and_then(|found| self.open(found, is_tagged(config, name)));
            match one {
                Ok(one) => opened.push(one),
                Err(error) => {
                    self.close_new(opened);
                    // What the failed attempt holds, if anything.
                    let _ = self.isolation.release(name);
                    return Err(format!("cannot open device {name}: {}", with_sources(&error)));
                }
            }
        }
        Ok(opened)
    }

    /// Lets go of what was opened for nothing.
    pub(super) fn close_new(&mut self, opened: Vec<Opened>) {
        for one in opened {
            self.release(&one.found.name);
        }
    }

    /// Brings devices and links in line with a configuration that has taken effect: `opened` are its new devices, `locks` its
    /// new links. What it does not have any more is the kernel's again.
    pub(super) fn follow_config(
        &mut self,
        config: &Config,
        opened: Vec<Opened>,
        locks: Vec<(String, LinkLock)>,
        outlets: &mut Outlets,
    ) -> Vec<Change> {
        self.locks.extend(locks);
        self.locks.retain(|name, _| config.link_ids().any(|id| config.links[id.index()].name == *name));
        self.ports.resize_with(config.devices.len(), Port::default);
        for (index, name) in config.devices.iter().enumerate() {
            let before = std::mem::replace(&mut self.ports[index].name, name.clone());
            if is_removed(name) && !is_removed(&before) {
                self.detach(index.into(), "device is let go", outlets);
                self.release(&before);
                self.ports[index].told = None;
            }
        }
        let mut changes = Vec::new();
        for one in opened {
            let Some(index) = self.ports.iter().position(|port| port.name == one.found.name) else { continue };
            let known = state(&one.found);
            self.put_to_use(index.into(), one, outlets);
            changes.extend(self.tell(index.into(), Some(known)));
        }
        changes
    }

    fn release(&mut self, device: &str) {
        if let Err(error) = self.isolation.release(device) {
            tracing::warn!(engine = self.shared.engine, device, error = with_sources(&error), "device not let go");
        }
    }

    /// Attaches every device; each has to be there and to open.
    pub(super) fn attach_all(&mut self, outlets: &mut Outlets) -> Result<Vec<Change>, (String, AttachError)> {
        let mut changes = Vec::new();
        for device in (0..self.ports.len()).map(DeviceId::from) {
            let name = self.ports[device.index()].name.clone();
            let found = netdev::find(&name).ok_or_else(|| (name.clone(), no_device()))?;
            self.attach(device, &found, outlets).map_err(|error| (name, error))?;
            changes.extend(self.tell(device, Some(state(&found))));
        }
        Ok(changes)
    }

    /// True if a device that the configuration has is not attached.
    pub(super) fn is_missing_one(&self) -> bool {
        self.ports.iter().any(|port| port.attached.is_none() && !is_removed(&port.name))
    }

    /// Looks again at the devices that the news are about.
    pub(super) fn follow(&mut self, news: &News, outlets: &mut Outlets) -> Vec<Change> {
        let concerned = |port: &Port| match news {
            News::Anything => true,
            News::Devices(names) => names.contains(&port.name),
        };
        if !self.ports.iter().any(concerned) {
            return Vec::new();
        }
        let found = netdev::find_all(self.ports.iter().map(|port| port.name.as_str()));
        let devices = (0..self.ports.len()).map(DeviceId::from);
        devices.zip(found).filter_map(|(device, found)| self.bring_in_line(device, found, outlets)).collect()
    }

    /// Brings a port in line with its device as it was found.
    fn bring_in_line(
        &mut self,
        device: DeviceId,
        found: Option<netdev::Device>,
        outlets: &mut Outlets,
    ) -> Option<Change> {
        let attached = &mut self.ports[device.index()].attached;
        let same = match (&mut *attached, &found) {
            // What receives by AF_XDP was opened for frames of that size.
            (Some(attached), Some(found)) if self.opener.is_xdp() => {
                attached.index == found.index && attached.mtu == found.mtu
            }
            (Some(attached), Some(found)) => {
                let mtu = found.mtu;
                if attached.index == found.index && std::mem::replace(&mut attached.mtu, mtu) != mtu {
                    self.workers.iter().for_each(|worker| worker.tell(Mail::Mtu { device, mtu }));
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
        let Some(found) = found else { return self.tell(device, None) };
        if !same && let Err(error) = self.attach(device, &found, outlets) {
            let port = &mut self.ports[device.index()];
            let failure = with_sources(&error);
            if port.failure.as_ref() != Some(&failure) {
                tracing::warn!(engine = self.shared.engine, device = port.name, error = failure, "device not attached");
                port.failure = Some(failure);
            }
            return self.tell(device, None);
        }
        self.tell(device, Some(state(&found)))
    }

    /// Answers the change, if it is one.
    fn tell(&mut self, device: DeviceId, state: Option<DeviceState>) -> Option<Change> {
        let told = &mut self.ports[device.index()].told;
        (*told != state).then(|| {
            *told = state;
            (device, state)
        })
    }

    fn attach(&mut self, device: DeviceId, found: &netdev::Device, outlets: &mut Outlets) -> Result<(), AttachError> {
        let opened = self.open(found.clone(), is_tagged(&self.shared.config(), &found.name))?;
        self.put_to_use(device, opened, outlets);
        Ok(())
    }

    /// The kernel's stack off first, so that it answers nothing that the engine will answer.
    fn open(&mut self, found: netdev::Device, tagged: bool) -> Result<Opened, AttachError> {
        self.isolation.hold(&found.name)?;
        let ways = self.opener.open(&self.shared.engine, &found, tagged)?;
        Ok(Opened { found, ways })
    }

    fn put_to_use(&mut self, device: DeviceId, opened: Opened, outlets: &mut Outlets) {
        let Opened { found, ways: Ways { workers, own, attachment, mode } } = opened;
        outlets.attach(device, own);
        for (worker, (receiver, sender)) in self.workers.iter().zip(workers) {
            worker.tell(Mail::Attach { device, receiver, sender });
        }
        let io = self.shared.config().engine.io.word();
        let port = &mut self.ports[device.index()];
        tracing::info!(
            engine = self.shared.engine,
            device = found.name,
            index = found.index,
            io,
            mode,
            "device attached"
        );
        self.shared.set_io_mode(device, mode);
        port.attached = Some(Attached { index: found.index, mtu: found.mtu, _attachment: attachment });
        port.failure = None;
    }

    fn detach(&mut self, device: DeviceId, why: &str, outlets: &mut Outlets) {
        let port = &mut self.ports[device.index()];
        if port.attached.take().is_some() {
            outlets.detach(device);
            self.workers.iter().for_each(|worker| worker.tell(Mail::Detach(device)));
            self.shared.set_io_mode(device, None);
            tracing::warn!(engine = self.shared.engine, device = port.name, "{why}");
        }
    }
}

fn no_device() -> AttachError {
    AttachError::Open(af_packet::OpenError::NoDevice.into())
}

/// Whether `device` has a link on a VLAN.
fn is_tagged(config: &Config, device: &str) -> bool {
    config.links.iter().any(|link| link.vlan.is_some() && config.devices[link.device.index()] == device)
}

fn state(found: &netdev::Device) -> DeviceState {
    DeviceState { mac: found.mac, mtu: found.mtu, up: found.up }
}
