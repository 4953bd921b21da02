//! The XDP program that hands a device's frames to AF_XDP sockets, and the four commands of bpf(2) that load and attach
//! it.
//!
//! ```text
//! r2 = *(u32 *)(r1 + 16)      rx_queue_index of struct xdp_md
//! r1 = sockets                the XSKMAP: queue -> socket
//! r3 = XDP_DROP               the action for a frame whose queue has no socket
//! call bpf_redirect_map
//! exit
//! ```
//!
//! The program drops a frame whose queue no socket serves, as the ingress filter that isolates the kernel's stack would
//! do a step later. It stays attached for as long as somebody holds its link, which ends with the process at the
//! latest.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

// Constants of linux/bpf.h.
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_MAP_TYPE_XSKMAP: u32 = 17;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_PSEUDO_MAP_FD: u8 = 1;
const BPF_FUNC_REDIRECT_MAP: i32 = 51;
const XDP_DROP: i32 = 1;
/// Offset of `rx_queue_index` in `struct xdp_md`.
const RX_QUEUE_INDEX: i16 = 16;

/// The commands of bpf(2) that are used here; the seccomp filter allows no others.
pub(in crate::io) const BPF_COMMANDS: [libc::c_int; 4] =
    [BPF_MAP_CREATE, BPF_MAP_UPDATE_ELEM, BPF_PROG_LOAD, BPF_LINK_CREATE];

/// `struct bpf_insn`: one instruction. The one that loads the map's address takes two.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination register in the low four bits, source register in the high four.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    let registers = if cfg!(target_endian = "little") { source << 4 | destination } else { destination << 4 | source };
    Instruction { code, registers, offset, immediate }
}

/// The program of the module's documentation, with the descriptor of its map.
fn program(map: libc::c_int) -> [Instruction; 6] {
    // Opcodes of the kernel's document "BPF Instruction Set Architecture": class, size or operation, mode.
    const LOAD_WORD: u8 = 0x61;
    const LOAD_IMMEDIATE_64: u8 = 0x18;
    const MOVE_IMMEDIATE_64: u8 = 0xb7;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    [
        instruction(LOAD_WORD, 2, 1, RX_QUEUE_INDEX, 0),
        instruction(LOAD_IMMEDIATE_64, 1, BPF_PSEUDO_MAP_FD, 0, map),
        instruction(0, 0, 0, 0, 0),
        instruction(MOVE_IMMEDIATE_64, 3, 0, 0, XDP_DROP),
        instruction(CALL, 0, 0, 0, BPF_FUNC_REDIRECT_MAP),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

/// Where an XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// In the driver, before the kernel builds a packet buffer for the frame (native XDP).
    Native,
    /// At the entry of the kernel's stack; works on any device (generic XDP).
    Generic,
}

impl Hook {
    /// The name of the hook: `native` or `generic`.
    pub const fn place(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    /// The flag `XDP_FLAGS_*` of linux/if_link.h.
    const fn flags(self) -> u32 {
        match self {
            Self::Generic => 1 << 1,
            Self::Native => 1 << 2,
        }
    }
}

/// An XSKMAP: the AF_XDP socket of each queue of one device.
#[derive(Debug)]
pub(super) struct SocketMap(OwnedFd);

/// A loaded XDP program.
#[derive(Debug)]
pub(super) struct Program(OwnedFd);

/// Keeps the program attached to a device until this is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Link(#[expect(dead_code, reason = "held, so that the program stays attached")] OwnedFd);

impl SocketMap {
    /// An empty map for the queues below `queues`.
    pub(super) fn new(queues: u32) -> io::Result<Self> {
        #[repr(C)]
        struct Create {
            map_type: u32,
            key_size: u32,
            value_size: u32,
            max_entries: u32,
        }
        let create = Create { map_type: BPF_MAP_TYPE_XSKMAP, key_size: 4, value_size: 4, max_entries: queues };
        // SAFETY: the command's attributes have no pointers. JUSTIFICATION: see `bpf`.
        unsafe { bpf_fd(BPF_MAP_CREATE, &create) }.map(Self)
    }

    /// Redirects the frames of `queue` to `socket`, which is bound to that queue, until the socket is closed.
    pub(super) fn set(&self, queue: u32, socket: &impl AsRawFd) -> io::Result<()> {
        #[repr(C)]
        struct Update {
            map: libc::c_int,
            _padding: u32,
            key: u64,
            value: u64,
            flags: u64,
        }
        let value = socket.as_raw_fd();
        let update =
            Update { map: self.0.as_raw_fd(), _padding: 0, key: address(&queue), value: address(&value), flags: 0 };
        // SAFETY: key and value are four bytes each, as the map was made, and live through the call. JUSTIFICATION: see
        // `bpf`.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &update) }.map(|_| ())
    }
}

impl Program {
    /// Loads the program over `map`; the kernel verifies it.
    pub(super) fn load(map: &SocketMap) -> io::Result<Self> {
        #[repr(C)]
        struct Load {
            kind: u32,
            count: u32,
            instructions: u64,
            license: u64,
            log_level: u32,
            log_size: u32,
            log: u64,
            kernel_version: u32,
            flags: u32,
            name: [u8; 16],
        }
        let instructions = program(map.0.as_raw_fd());
        let license = c"MIT";
        let load = Load {
            kind: BPF_PROG_TYPE_XDP,
            count: instructions.len() as u32,
            instructions: address(&instructions),
            license: license.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name: *b"fwlb\0\0\0\0\0\0\0\0\0\0\0\0",
        };
        // SAFETY: pointer and count describe `instructions`, the license is terminated, and both live through the call.
        // JUSTIFICATION: see `bpf`.
        unsafe { bpf_fd(BPF_PROG_LOAD, &load) }.map(Self)
    }

    /// Attaches the program to the device with this interface index. Fails with `EBUSY` if another one is attached
    /// there.
    pub(super) fn attach(&self, index: u32, hook: Hook) -> io::Result<Link> {
        #[repr(C)]
        struct Create {
            program: libc::c_int,
            index: u32,
            kind: u32,
            flags: u32,
        }
        let create = Create { program: self.0.as_raw_fd(), index, kind: BPF_XDP, flags: hook.flags() };
        // SAFETY: the command's attributes have no pointers. JUSTIFICATION: see `bpf`.
        unsafe { bpf_fd(BPF_LINK_CREATE, &create) }.map(Link)
    }
}

fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(value) as u64
}

/// # Safety
/// As for [`bpf`], and the command returns a descriptor.
unsafe fn bpf_fd<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise; a successful answer is a descriptor that nobody else owns. The kernel makes it
    // close-on-exec. JUSTIFICATION: as `bpf`.
    unsafe { bpf(command, attributes).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Calls bpf(2), for which the C library has no function. The kernel takes as zero what `attributes` leaves out at the
/// end of its union.
///
/// # Safety
/// `attributes` is the beginning of the command's part of `union bpf_attr`, and what it points to lives through the
/// call.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: pointer and size describe `attributes`, and the caller promises that they are the command's.
    // JUSTIFICATION: no safe form exists, and a library for it brings a compiler for programs of five instructions.
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>() as libc::c_uint)
    };
    libc::c_int::try_from(answer).ok().filter(|answer| *answer >= 0).ok_or_else(io::Error::last_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::netdev;
    use crate::io::testing::{command, ip, namespace};

    #[test]
    fn instructions_have_the_bytes_of_the_instruction_set() {
        let bytes: Vec<u8> = program(0x0102_0304)
            .iter()
            .flat_map(|i| [&[i.code, i.registers][..], &i.offset.to_ne_bytes(), &i.immediate.to_ne_bytes()].concat())
            .collect();
        if cfg!(target_endian = "big") {
            return;
        }
        // The program of the module's documentation as an assembler encodes it.
        let expected = [
            [0x61, 0x12, 0x10, 0, 0, 0, 0, 0],
            [0x18, 0x11, 0, 0, 4, 3, 2, 1],
            [0, 0, 0, 0, 0, 0, 0, 0],
            [0xb7, 0x03, 0, 0, 1, 0, 0, 0],
            [0x85, 0, 0, 0, 51, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(size_of::<Instruction>(), 8);
    }

    #[test]
    fn the_kernel_takes_the_program_drops_what_nobody_serves_and_detaches_it_with_its_link() {
        if !namespace() {
            return;
        }
        ip("link add bp0 type veth peer name bp1");
        ip("address add 10.99.0.1/24 dev bp0");
        ip("link set bp0 up");
        ip("link set bp1 up");
        let index = netdev::find("bp1").unwrap().index;
        let has_program = || command("ip", "-details link show bp1").contains("prog/xdp");
        for hook in [Hook::Native, Hook::Generic] {
            let map = SocketMap::new(1).unwrap();
            let program = Program::load(&map).unwrap();
            let link = program.attach(index, hook).unwrap();
            assert!(has_program());
            let second = program.attach(index, hook).unwrap_err();
            assert_eq!(second.raw_os_error(), Some(libc::EBUSY));
            drop((map, program));
            assert!(has_program(), "the link keeps what it needs");
            drop(link);
            assert!(!has_program());
        }
        let map = SocketMap::new(1).unwrap();
        let _link = Program::load(&map).unwrap().attach(index, Hook::Native).unwrap();
        let received = || {
            let text = command("nft", "list chain netdev t c");
            let at = text.find("packets ").expect("the chain counts") + "packets ".len();
            text[at..].split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        command("nft", "add table netdev t");
        command("nft", "add chain netdev t c { type filter hook ingress device bp1 priority 0; }");
        command("nft", "add rule netdev t c counter");
        let _ = std::process::Command::new("ping").args(["-c", "2", "-W", "1", "-i", "0.2", "10.99.0.2"]).output();
        assert_eq!(received(), 0, "an ARP request came through");
    }
}
