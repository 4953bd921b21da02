//! Opens a device for AF_XDP: attaches its program, and opens a socket for each of its queues.

use std::io;

use super::bpf::{Hook, Link, Program, SocketMap};
use super::endpoints::{Receiver, Sender};
use super::memory::{FRAME_BYTES, HEADROOM};
use super::socket::{BindAttempts, OpenStepError, Rings, Socket, Transfer};
use super::umem::Umem;
use crate::io::ethtool::{self, Offloads, Queues};

/// Attempts to bind to a queue that another socket still holds, 10 ms apart: half a second for a whole device.
const BIND_ATTEMPTS: u32 = 50;
/// Largest MTU whose frames fit a UMEM frame with their Ethernet header and tag.
const MTU_MAX: u16 = (FRAME_BYTES - HEADROOM - 18) as u16;

/// Why a device could not be opened for AF_XDP.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// The process lacks a capability.
    #[error(
        "no permission for io = \"af-xdp\": run as root, or give the program CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW \
         (cannot {what})"
    )]
    NotPermitted {
        /// What was attempted.
        what: &'static str,
    },
    /// The device does not exist, or has been removed.
    #[error("the device does not exist")]
    NoDevice,
    /// An offload of the device changes frames before XDP sees them.
    #[error("AF_XDP cannot carry what the device does to frames: ethtool -K {device} {off}")]
    Offload {
        /// Name of the device.
        device: String,
        /// The features to turn off, as arguments of `ethtool -K`.
        off: String,
    },
    /// The MTU of the device is too large for AF_XDP.
    #[error(
        "AF_XDP carries frames up to an MTU of {MTU_MAX}, the device has {mtu}: ip link set {device} mtu {MTU_MAX}, or io = \"af-packet\""
    )]
    Mtu {
        /// Name of the device.
        device: String,
        /// MTU of the device in bytes.
        mtu: u16,
    },
    /// A program of somebody else is attached.
    #[error(
        "another XDP program is attached to the device (ip -details link show {device}), of another engine perhaps"
    )]
    OtherProgram {
        /// Name of the device.
        device: String,
    },
    /// A socket of somebody else is bound to the queue.
    #[error("another AF_XDP socket has queue {queue} of the device")]
    QueueTaken {
        /// Index of the queue.
        queue: u32,
    },
    /// The device has fewer send queues.
    #[error("the device has no queue {queue} to send by")]
    NoQueue {
        /// Index of the queue.
        queue: u32,
    },
    /// The limit of locked memory (RLIMIT_MEMLOCK) is too low.
    #[error(
        "the limit of locked memory is too low for AF_XDP: LimitMEMLOCK=infinity for a service, ulimit -l, or CAP_IPC_LOCK"
    )]
    Locked,
    /// Neither the driver nor the kernel's stack runs the XDP program.
    #[error("cannot attach the XDP program: {refusals}")]
    NoXdp {
        /// Each hook that was tried with its error.
        refusals: String,
    },
    /// Another system call failed.
    #[error("cannot {what}")]
    System {
        /// What was attempted, as the end of "cannot …".
        what: &'static str,
        /// The error of the system call.
        source: io::Error,
    },
}

/// The device to open.
#[derive(Debug, Clone, Copy)]
pub struct XdpDevice<'a> {
    /// Name of the device.
    pub name: &'a str,
    /// Interface index.
    pub index: u32,
    /// MTU in bytes.
    pub mtu: u16,
    /// Whether tagged frames must be told from untagged ones.
    pub tagged: bool,
}

/// How AF_XDP exchanges the frames of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XdpMode {
    /// Where the XDP program runs.
    pub hook: Hook,
    /// How frames reach the UMEM: by copying if any of the queues copies.
    pub transfer: Transfer,
    /// Number of receive queues.
    pub queues: u32,
}

/// The XDP program of a device. When it is dropped, or the process ends in whatever way, frames go to the kernel's
/// stack again.
#[derive(Debug)]
pub struct Attachment {
    mode: XdpMode,
    _link: Link,
}

impl Attachment {
    /// How frames are exchanged.
    pub fn mode(&self) -> XdpMode {
        self.mode
    }
}

/// An open device, with the receivers and senders of the workers in the order of their UMEMs.
#[derive(Debug)]
pub struct OpenedXdpDevice {
    /// Keeps the program attached; it must live as long as the receivers.
    pub attachment: Attachment,
    /// Why a better hook refused the program, if it is not attached at the first.
    pub better_hook_refusal: Option<String>,
    /// Per worker its receiver and sender; `None` for a worker without a queue. A worker that has only queues by which
    /// the device does not send has no sender.
    pub endpoints: Vec<Option<(Receiver, Option<Sender>)>>,
}

/// Opens a device for workers with these UMEMs. Its queues are dealt to the workers in turn.
///
/// The program is attached in the driver if that supports it, else in the kernel's stack.
pub fn open(target: XdpDevice<'_>, umems: &[Umem]) -> Result<OpenedXdpDevice, XdpError> {
    open_at(target, umems, &[Hook::Native, Hook::Generic])
}

/// As [`open`], attached at the first of `hooks` that takes the program.
pub(in crate::io) fn open_at(
    target: XdpDevice<'_>,
    umems: &[Umem],
    hooks: &[Hook],
) -> Result<OpenedXdpDevice, XdpError> {
    let XdpDevice { name, index, mtu, tagged } = target;
    if mtu > MTU_MAX {
        return Err(XdpError::Mtu { device: name.to_owned(), mtu });
    }
    let system = |what| move |source| classify(OpenStepError { what, source });
    // A driver that reports no offloads has none.
    let offloads = ethtool::offloads(name).unwrap_or_default();
    refuse(name, &offloads_to_disable(offloads, tagged, Hook::Native))?;
    let Queues { receive: queues, send } = queues_of(name)?;
    let map = SocketMap::new(queues).map_err(system("make the map of sockets"))?;
    let program = Program::load(&map).map_err(system("load the XDP program"))?;
    let (link, hook, refused) = attach(&program, name, index, hooks)?;
    if hook == Hook::Generic {
        refuse(name, &offloads_to_disable(offloads, tagged, hook))?;
    }
    let mut mode = XdpMode { hook, transfer: Transfer::ZeroCopy, queues };
    let mut patience = BindAttempts(BIND_ATTEMPTS);
    // If a step fails, what was opened so far is closed when these are dropped.
    let mut receivers: Vec<Receiver> = umems.iter().map(|umem| Receiver::new(umem.clone())).collect();
    for (queue, worker) in (0..queues).zip((0..umems.len()).cycle()) {
        let opened =
            open_queue(&umems[worker], (index, queue), hook, &mut patience).map_err(|failed| match failed {
                OpenStepError { source, .. } if source.raw_os_error() == Some(libc::EBUSY) => {
                    XdpError::QueueTaken { queue }
                }
                failed => classify(failed),
            })?;
        if opened.0.transfer == Transfer::Copy {
            mode.transfer = Transfer::Copy;
        }
        map.set(queue, &opened.0).map_err(system("give the socket its queue"))?;
        receivers[worker].add(opened, mtu, queue < send);
    }
    let ways = receivers.into_iter().map(|receiver| {
        let sender = receiver.sender();
        (!receiver.descriptors().is_empty()).then_some((receiver, sender))
    });
    Ok(OpenedXdpDevice {
        endpoints: ways.collect(),
        attachment: Attachment { mode, _link: link },
        better_hook_refusal: refused,
    })
}

/// The number of receive and of send queues of a device. The socket of a queue by which the device does not send
/// receives only.
pub(super) fn queues_of(name: &str) -> Result<Queues, XdpError> {
    let failed = |source| classify(OpenStepError { what: "ask for the queues of the device", source });
    ethtool::queues(name).map_err(failed)
}

/// Attaches the program at the first of `hooks` that takes it.
fn attach(program: &Program, name: &str, index: u32, hooks: &[Hook]) -> Result<(Link, Hook, Option<String>), XdpError> {
    let mut refusals: Vec<String> = Vec::new();
    for hook in hooks {
        let refusal = match program.attach(index, *hook) {
            Ok(link) => return Ok((link, *hook, (!refusals.is_empty()).then(|| refusals.join(", ")))),
            Err(refusal) => refusal,
        };
        match refusal.raw_os_error() {
            // EEXIST: the other program is attached at the other hook.
            Some(libc::EBUSY | libc::EEXIST) => return Err(XdpError::OtherProgram { device: name.to_owned() }),
            Some(libc::EPERM | libc::EACCES) => return Err(XdpError::NotPermitted { what: "attach the XDP program" }),
            Some(libc::ENODEV) => return Err(XdpError::NoDevice),
            _ => refusals.push(format!("{} ({refusal})", hook.place())),
        }
    }
    Err(XdpError::NoXdp { refusals: refusals.join(", ") })
}

/// Opens a socket without copies (zero-copy) where the driver supports it, else with copies. Sockets of one worker with
/// the same transfer mode share one registration of his UMEM; a device that needs another mode gets a registration of
/// its own over the same frames.
pub(super) fn open_queue(
    umem: &Umem,
    at: (u32, u32),
    hook: Hook,
    patience: &mut BindAttempts,
) -> Result<(Socket, Rings), OpenStepError> {
    let mut open = |transfer| {
        if let Some(sibling) = umem.sibling(transfer) {
            match Socket::open(umem.region(), Some(&sibling), at, transfer, patience) {
                // EBADF: the device of the sibling has been removed in the meantime.
                Err(failed) if failed.source.raw_os_error() == Some(libc::EBADF) => {}
                outcome => return outcome,
            }
        }
        Socket::open(umem.region(), None, at, transfer, patience)
    };
    match hook {
        Hook::Native => match open(Transfer::ZeroCopy) {
            Err(failed) if is_unable(&failed.source) => open(Transfer::Copy),
            outcome => outcome,
        },
        Hook::Generic => open(Transfer::Copy),
    }
}

/// Whether this error says that the driver has no zero-copy mode. The errors listed here would occur in copy mode too.
fn is_unable(error: &io::Error) -> bool {
    !matches!(
        error.raw_os_error(),
        Some(libc::EBUSY | libc::EPERM | libc::EACCES | libc::ENODEV | libc::ENXIO | libc::ENOBUFS)
    )
}

/// The features to turn off with `ethtool -K` so that XDP sees frames as they were on the wire.
fn offloads_to_disable(offloads: Offloads, tagged: bool, hook: Hook) -> Vec<&'static str> {
    let Offloads { lro, gro, rx_vlan } = offloads;
    // A program in the driver runs before the stack merges packets.
    let ways = [(lro, "lro off"), (gro && hook == Hook::Generic, "gro off"), (rx_vlan && tagged, "rxvlan off")];
    ways.into_iter().filter_map(|(is_on, off)| is_on.then_some(off)).collect()
}

fn refuse(device: &str, off: &[&str]) -> Result<(), XdpError> {
    match off {
        [] => Ok(()),
        _ => Err(XdpError::Offload { device: device.to_owned(), off: off.join(" ") }),
    }
}

pub(super) fn classify(failed: OpenStepError) -> XdpError {
    let OpenStepError { what, source } = failed;
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => XdpError::NotPermitted { what },
        Some(libc::ENODEV | libc::ENXIO) => XdpError::NoDevice,
        // XDP_UMEM_REG fails with ENOBUFS where RLIMIT_MEMLOCK is exceeded.
        Some(libc::ENOBUFS) => XdpError::Locked,
        _ => XdpError::System { what, source },
    }
}

impl std::fmt::Display for XdpMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hook = self.hook.place();
        let transfer = match self.transfer {
            Transfer::ZeroCopy => "zero-copy",
            Transfer::Copy => "copy",
        };
        write!(f, "{hook}-{transfer}")
    }
}
