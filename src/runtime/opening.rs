//! Opens the devices of an engine by AF_PACKET or AF_XDP, for every worker and for the control thread.

use std::{io, thread};

use crate::config::{Config, Io};
use crate::io::af_packet::{self, RingOptions};
use crate::io::af_xdp::{self, Attachment, SendSocket, Umem, XdpDevice};
use crate::io::frame_io::{DeviceOpenError, Receiver, Sender};
use crate::io::{ethtool, netdev};
use crate::time::Duration;

/// Attempts to open a send queue that is taken: the socket of an engine that was just stopped is closed a moment later.
const ATTEMPTS: u32 = 10;
const RETRY: Duration = Duration::from_millis(10);

/// A worker's receiver and sender for a device. A worker without a receiver leaves the device's frames to the others.
pub(super) type WorkerEndpoints = (Option<Box<Receiver>>, Sender);

/// How an engine opens its devices.
#[derive(Debug)]
pub(super) enum Opener {
    /// Packet sockets: each worker is a member of the device's fanout group.
    Packet {
        workers: usize,
        /// A UMEM for each worker if frames are sent by AF_XDP; empty if all are sent by packet sockets.
        sending: Vec<Umem>,
    },
    /// AF_XDP sockets: the device's queues are spread over the workers.
    Xdp {
        /// A UMEM for each worker.
        umems: Vec<Umem>,
    },
}

/// What kinds of links a device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkKinds {
    /// Whether one of them is on a VLAN.
    pub tagged: bool,
    /// Whether one of them has firewalls, or servers that are checked.
    pub has_probes: bool,
}

/// The receivers and senders of an open device.
#[derive(Debug)]
pub(super) struct DeviceEndpoints {
    /// One pair for each worker.
    pub workers: Vec<WorkerEndpoints>,
    /// The control thread's sender. It is a packet socket always, because an AF_XDP socket belongs to one thread and
    /// the control thread sends little.
    pub control_sender: Sender,
    /// Receives path probes and the answers to health checks apart from all other frames, where the device has
    /// firewalls or checked servers. `None` for AF_XDP, whose frames never reach a packet socket.
    pub probes: Option<Box<Receiver>>,
    /// Keeps the XDP program attached.
    pub attachment: Option<Attachment>,
    /// What `show links` adds to the kind of sockets.
    pub mode: Option<String>,
}

impl Opener {
    /// Prepares to open devices as `config` says, for `workers` workers.
    pub(super) fn new(config: &Config, workers: usize) -> io::Result<Self> {
        match config.engine.io {
            Io::AfPacket => {
                let memories = if config.engine.xdp_send { workers } else { 0 };
                let sending =
                    (0..memories).map(|_| Umem::for_sending(config.devices.len())).collect::<io::Result<_>>()?;
                Ok(Self::Packet { workers, sending })
            }
            Io::AfXdp => {
                let umems = (0..workers).map(|_| Umem::new(config.devices.len())).collect::<io::Result<_>>()?;
                Ok(Self::Xdp { umems })
            }
        }
    }

    /// Whether devices are opened by AF_XDP.
    pub(super) fn is_xdp(&self) -> bool {
        match self {
            Self::Packet { .. } => false,
            Self::Xdp { .. } => true,
        }
    }

    /// Opens a device.
    pub(super) fn open(
        &self,
        engine: &str,
        found: &netdev::Device,
        links: LinkKinds,
    ) -> Result<DeviceEndpoints, DeviceOpenError> {
        let LinkKinds { tagged, has_probes: probed } = links;
        let sender = || af_packet::Sender::open(found.index).map(Sender::from);
        let target = XdpDevice { name: &found.name, index: found.index, mtu: found.mtu, tagged };
        match self {
            Self::Packet { workers, sending } => {
                let mut sockets = open_send_sockets(engine, target, sending).into_iter();
                let mode = (sockets.len() > 0).then(|| "xdp-send".to_owned());
                let mut set = None;
                let mut ways = Vec::new();
                let probes = if probed { open_for_probes(engine, found) } else { None };
                for _ in 0..*workers {
                    let mut receiver = af_packet::Receiver::open(found.index, RingOptions::for_mtu(found.mtu))?;
                    if *workers > 1 {
                        set = Some(receiver.join(set)?);
                    }
                    let socket = af_packet::Sender::open(found.index)?;
                    let sender = Sender::Packet { socket, xdp: sockets.next() };
                    ways.push((Some(Box::new(Receiver::Packet(receiver))), sender));
                }
                Ok(DeviceEndpoints { workers: ways, control_sender: sender()?, probes, attachment: None, mode })
            }
            Self::Xdp { umems } => {
                let opened = af_xdp::open(target, umems)?;
                warn(engine, &found.name, tagged, &opened);
                let way = |way: Option<(af_xdp::Receiver, Option<af_xdp::Sender>)>| match way {
                    Some((receiver, out)) => {
                        let out = out.map(Sender::Xdp).map_or_else(sender, Ok)?;
                        Ok((Some(Box::new(Receiver::Xdp(receiver))), out))
                    }
                    None => sender().map(|sender| (None, sender)),
                };
                let ways = opened.endpoints.into_iter().map(way).collect::<Result<_, _>>()?;
                let mode = Some(opened.attachment.mode().to_string());
                Ok(DeviceEndpoints {
                    workers: ways,
                    control_sender: sender()?,
                    probes: None,
                    attachment: Some(opened.attachment),
                    mode,
                })
            }
        }
    }
}

/// Opens the receiver of probes and of answers to checks. If that fails, the workers pass them on with everything else.
fn open_for_probes(engine: &str, found: &netdev::Device) -> Option<Box<Receiver>> {
    match af_packet::Receiver::open_filtered(found.index, &super::probe_thread::probes_only()) {
        Ok(receiver) => Some(Box::new(Receiver::Packet(receiver))),
        Err(error) => {
            let (device, error) = (&found.name, super::with_sources(&error));
            tracing::warn!(
                engine,
                device,
                error,
                "probes and checks wait for the packet workers: they have no ring of their own"
            );
            None
        }
    }
}

/// Opens send sockets for the first workers, one for each queue of the device that is free. Bonds and bridges get none:
/// they look at the protocol of a packet, which AF_XDP does not tell them.
fn open_send_sockets(engine: &str, target: XdpDevice<'_>, umems: &[Umem]) -> Vec<SendSocket> {
    let mut opened = Vec::new();
    if umems.is_empty() {
        return opened;
    }
    let tell = |workers: usize, reason: String| {
        let device = target.name;
        tracing::info!(engine, device, workers, reason, "workers send by packet sockets alone");
    };
    let unfit = match netdev::kind(target.index) {
        Ok(kind) => {
            kind.filter(|kind| kind != "veth").map(|kind| format!("AF_XDP does not suit a device of kind {kind}"))
        }
        Err(error) => Some(error.to_string()),
    };
    if let Some(reason) = unfit {
        tell(umems.len(), reason);
        return opened;
    }
    let mut queues = 0..;
    let mut taken = None;
    let mut attempts = 0;
    while opened.len() < umems.len() {
        let queue = queues.next().unwrap_or(u32::MAX);
        let refusal = match SendSocket::open(target, queue, &umems[opened.len()]) {
            Ok(socket) => {
                opened.push(socket);
                continue;
            }
            Err(refusal) => refusal,
        };
        match refusal {
            af_xdp::XdpError::QueueTaken { .. } => taken = Some(refusal),
            af_xdp::XdpError::NoQueue { .. } if taken.is_some() && attempts < ATTEMPTS => {
                attempts += 1;
                queues = 0..;
                thread::sleep(RETRY);
            }
            refusal => {
                tell(umems.len() - opened.len(), super::with_sources(&taken.unwrap_or(refusal)));
                break;
            }
        }
    }
    opened
}

/// Logs what an operator should know about a device that was opened by AF_XDP.
fn warn(engine: &str, device: &str, tagged: bool, opened: &af_xdp::OpenedXdpDevice) {
    let mode = opened.attachment.mode();
    if let Some(refused) = &opened.better_hook_refusal {
        tracing::warn!(engine, device, %mode, refused, "the driver runs no XDP program: frames pass part of the kernel's stack");
    }
    if ethtool::driver(device).is_ok_and(|driver| driver == "veth") {
        let words = if tagged { "tx off txvlan off" } else { "tx off" };
        let hint = format!("ethtool -K PEER {words}, where its other end and the hosts behind that are");
        tracing::info!(engine, device, hint, "AF_XDP forwards what a veth's other end leaves unfinished as it is");
    }
}
