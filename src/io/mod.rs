//! Wraps the operating system: the only system calls, and the only home of `unsafe`, `libc`, `rustix` and `pnet`.
//! Decides nothing.
//!
//! | file | wraps |
//! | --- | --- |
//! | [`af_packet`] | packet sockets: receive by an mmap ring, send by sendmmsg, with checksum and segment offloads |
//! | [`af_xdp`] | AF_XDP sockets: the same before the kernel's stack, in memory that is shared with it |
//! | [`frame_io`] | receivers and senders of either kind |
//! | [`wait`] | sleeping until a frame or a wake-up comes |
//! | [`thread`] | CPU affinity, priority and timer slack |
//! | [`clock`] | the one place that reads time |
//! | [`netdev`], [`monitor`] | devices as they are, and notifications of changes |
//! | [`machine`], [`ethtool`] | how the machine treats frames before the engine sees them |
//! | [`sockopt`] | options of sockets, such as how much may wait in one |
//! | [`memory`] | huge pages for large tables |
//! | [`isolate`] | the kernel's own stack kept off the engine's devices |
//! | [`group`] | groups of the operating system by name |
//! | [`user`], [`privileges`] | users by name, and the capabilities of threads |
//! | [`seccomp`] | the system calls that a running engine may make |
//! | [`secret`] | keys from the kernel's random numbers |
//! | [`lock`] | locks that end with the process |
//! | [`handover`] | descriptors that go from one process to another |
//! | [`stamps`] | times at which frames were received |
#![allow(unsafe_code, reason = "the one room for it; every block says why it is sound and why it is needed")]

pub mod af_packet;
pub mod af_xdp;
pub mod clock;
pub mod ethtool;
pub mod frame_io;
pub mod group;
pub mod handover;
pub mod isolate;
pub mod lock;
pub mod machine;
pub mod memory;
pub mod monitor;
pub mod netdev;
mod netlink;
mod outgoing;
pub mod privileges;
pub mod seccomp;
pub mod secret;
pub mod sockopt;
pub mod stamps;
#[cfg(test)]
pub(crate) mod testing;
pub mod thread;
pub mod user;
pub mod wait;
