//! A device opened for AF_XDP: its program, and a socket for each of its queues.

use std::io;

use super::bpf::{Hook, Link, Program, SocketMap};
use super::ends::{Receiver, Sender};
use super::memory::{FRAME_BYTES, HEADROOM};
use super::socket::{Failed, Patience, Rings, Socket, Transfer};
use super::umem::Umem;
use crate::io::ethtool::{self, Offloads, Queues};

/// Attempts, 10 ms apart, at queues that another socket still has: half a second for a device.
const PATIENCE: u32 = 50;
/// Largest MTU whose frames, with Ethernet header and tag, fit a frame of the memory.
const MTU_MAX: u16 = (FRAME_BYTES - HEADROOM - 18) as u16;

/// Why a device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The process may not use AF_XDP.
    #[error(
        "no permission for io = \"af-xdp\": run as root, or give the program CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW \
         (cannot {what})"
    )]
    NotPermitted {
        /// What was tried.
        what: &'static str,
    },
    /// The device is not there (any more).
    #[error("the device does not exist")]
    NoDevice,
    /// The device changes frames before XDP sees them.
    #[error("AF_XDP cannot carry what the device does to frames: ethtool -K {device} {off}")]
    Offload {
        /// Device name.
        device: String,
        /// What `ethtool -K` is to be given.
        off: String,
    },
    /// Frames are larger than AF_XDP carries.
    #[error(
        "AF_XDP carries frames up to an MTU of {MTU_MAX}, the device has {mtu}: ip link set {device} mtu {MTU_MAX}, or io = \"af-packet\""
    )]
    Mtu {
        /// Device name.
        device: String,
        /// Its MTU.
        mtu: u16,
    },
    /// Somebody else's program is there.
    #[error(
        "another XDP program is attached to the device (ip -details link show {device}), of another engine perhaps"
    )]
    OtherProgram {
        /// Device name.
        device: String,
    },
    /// Somebody else has a socket on the queue.
    #[error("another AF_XDP socket has queue {queue} of the device")]
    QueueTaken {
        /// Number of the queue.
        queue: u32,
    },
    /// The device has fewer queues to send by.
    #[error("the device has no queue {queue} to send by")]
    NoQueue {
        /// Number of the queue.
        queue: u32,
    },
    /// The limit of locked memory is too low.
    #[error(
        "the limit of locked memory is too low for AF_XDP: LimitMEMLOCK=infinity for a service, ulimit -l, or CAP_IPC_LOCK"
    )]
    Locked,
    /// The kernel or the driver runs no XDP programs.
    #[error("cannot attach the XDP program: {refusals}")]
    NoXdp {
        /// Where it was tried, and what came.
        refusals: String,
    },
    /// A system call failed.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What came.
        source: io::Error,
    },
}

/// What to open.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Name of the device.
    pub name: &'a str,
    /// Its interface index.
    pub index: u32,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// Frames with a tag are to be told from those without.
    pub tagged: bool,
}

/// How frames of a device come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Where they are taken.
    pub hook: Hook,
    /// How they come into the memory: by copying if any of the queues does.
    pub transfer: Transfer,
    /// Queues of the device.
    pub queues: u32,
}

/// A device's program. The device is the kernel's again when this is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub struct Attachment {
    mode: Mode,
    _link: Link,
}

impl Attachment {
    /// How frames come and go.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

/// An open device: the workers' ways in the order of their memories. A worker without a queue has none.
#[derive(Debug)]
pub struct Opened {
    /// To be kept for as long as the ways are used.
    pub attachment: Attachment,
    /// What a better hook said, where the program is not at the first.
    pub refused: Option<String>,
    /// In and out; a worker whose queues are such that the device only receives by has no way out.
    pub ways: Vec<Option<(Receiver, Option<Sender>)>>,
}

/// Opens a device for workers with these memories. Queue after queue goes to worker after worker.
///
/// In the driver where that can run the program, else in the kernel's stack.
pub fn open(target: Target<'_>, umems: &[Umem]) -> Result<Opened, OpenError> {
    open_at(target, umems, &[Hook::Native, Hook::Generic])
}

/// As [`open`], at the first of `hooks` that can.
pub(in crate::io) fn open_at(target: Target<'_>, umems: &[Umem], hooks: &[Hook]) -> Result<Opened, OpenError> {
    let Target { name, index, mtu, tagged } = target;
    if mtu > MTU_MAX {
        return Err(OpenError::Mtu { device: name.to_owned(), mtu });
    }
    let system = |what| move |source| classify(Failed { what, source });
    // A driver that tells nothing does nothing.
    let offloads = ethtool::offloads(name).unwrap_or_default();
    refuse(name, &in_the_way(offloads, tagged, Hook::Native))?;
    let Queues { receive: queues, send } = queues_of(name)?;
    let map = SocketMap::new(queues).map_err(system("make the map of sockets"))?;
    let program = Program::load(&map).map_err(system("load the XDP program"))?;
    let (link, hook, refused) = attach(&program, name, index, hooks)?;
    if hook == Hook::Generic {
        refuse(name, &in_the_way(offloads, tagged, hook))?;
    }
    let mut mode = Mode { hook, transfer: Transfer::ZeroCopy, queues };
    let mut patience = Patience(PATIENCE);
    // What was opened is closed with these where something fails.
    let mut receivers: Vec<Receiver> = umems.iter().map(|umem| Receiver::new(umem.clone())).collect();
    for (queue, worker) in (0..queues).zip((0..umems.len()).cycle()) {
        let opened =
            open_queue(&umems[worker], (index, queue), hook, &mut patience).map_err(|failed| match failed {
                Failed { source, .. } if source.raw_os_error() == Some(libc::EBUSY) => OpenError::QueueTaken { queue },
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
    Ok(Opened { ways: ways.collect(), attachment: Attachment { mode, _link: link }, refused })
}

/// The queues of a device in each direction: a socket of one that the device does not send by takes frames and sends none.
pub(super) fn queues_of(name: &str) -> Result<Queues, OpenError> {
    let failed = |source| classify(Failed { what: "ask for the queues of the device", source });
    ethtool::queues(name).map_err(failed)
}

/// At the first of `hooks` that can.
fn attach(
    program: &Program,
    name: &str,
    index: u32,
    hooks: &[Hook],
) -> Result<(Link, Hook, Option<String>), OpenError> {
    let mut refusals: Vec<String> = Vec::new();
    for hook in hooks {
        let refusal = match program.attach(index, *hook) {
            Ok(link) => return Ok((link, *hook, (!refusals.is_empty()).then(|| refusals.join(", ")))),
            Err(refusal) => refusal,
        };
        match refusal.raw_os_error() {
            // EEXIST: the other one is in the stack, or in the driver.
            Some(libc::EBUSY | libc::EEXIST) => return Err(OpenError::OtherProgram { device: name.to_owned() }),
            Some(libc::EPERM | libc::EACCES) => return Err(OpenError::NotPermitted { what: "attach the XDP program" }),
            Some(libc::ENODEV) => return Err(OpenError::NoDevice),
            _ => refusals.push(format!("{} ({refusal})", hook.place())),
        }
    }
    Err(OpenError::NoXdp { refusals: refusals.join(", ") })
}

/// Without copies where the driver can, else with them. Sockets of one worker with the same transfer use one registration of
/// his memory; a device that cannot do what another one can has a registration of its own, over the same frames.
pub(super) fn open_queue(
    umem: &Umem,
    at: (u32, u32),
    hook: Hook,
    patience: &mut Patience,
) -> Result<(Socket, Rings), Failed> {
    let mut open = |transfer| {
        if let Some(sibling) = umem.sibling(transfer) {
            match Socket::open(umem.region(), Some(&sibling), at, transfer, patience) {
                // EBADF: its device has gone in the meantime.
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

/// Whether a driver says this because it cannot do without copies; what is wrong otherwise would be wrong with copies too.
fn is_unable(error: &io::Error) -> bool {
    !matches!(
        error.raw_os_error(),
        Some(libc::EBUSY | libc::EPERM | libc::EACCES | libc::ENODEV | libc::ENXIO | libc::ENOBUFS)
    )
}

/// What `ethtool -K` is to be given before XDP sees frames as they were on the wire.
fn in_the_way(offloads: Offloads, tagged: bool, hook: Hook) -> Vec<&'static str> {
    let Offloads { lro, gro, rx_vlan } = offloads;
    // A driver's program runs before packets are joined by the stack.
    let ways = [(lro, "lro off"), (gro && hook == Hook::Generic, "gro off"), (rx_vlan && tagged, "rxvlan off")];
    ways.into_iter().filter_map(|(is_on, off)| is_on.then_some(off)).collect()
}

fn refuse(device: &str, off: &[&str]) -> Result<(), OpenError> {
    match off {
        [] => Ok(()),
        _ => Err(OpenError::Offload { device: device.to_owned(), off: off.join(" ") }),
    }
}

pub(super) fn classify(failed: Failed) -> OpenError {
    let Failed { what, source } = failed;
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => OpenError::NotPermitted { what },
        Some(libc::ENODEV | libc::ENXIO) => OpenError::NoDevice,
        // What XDP_UMEM_REG says of RLIMIT_MEMLOCK.
        Some(libc::ENOBUFS) => OpenError::Locked,
        _ => OpenError::System { what, source },
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hook = self.hook.place();
        let transfer = match self.transfer {
            Transfer::ZeroCopy => "zero-copy",
            Transfer::Copy => "copy",
        };
        write!(f, "{hook}-{transfer}")
    }
}
