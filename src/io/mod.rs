//! The only system calls, and the only home of `unsafe`, `libc` and `pnet`. Decides nothing.
//!
//! | file | wraps |
//! | --- | --- |
//! | [`af_packet`] | frames in (mmap ring) and out (sendmmsg), with checksum and segmentation offloads |
//! | [`af_xdp`] | the same before the kernel's stack, by a memory that is shared with it |
//! | [`ways`] | either of them |
//! | [`wait`] | sleeping until a frame or a wake-up comes |
//! | [`thread`] | CPU affinity and timer slack |
//! | [`clock`] | the one place that reads time |
//! | [`netdev`], [`monitor`] | devices as they are, and as they change |
//! | [`machine`], [`ethtool`] | what the machine does with frames before the engine sees them |
//! | [`memory`] | advice about large tables |
//! | [`isolate`] | the kernel's own stack kept off the engine's devices |
//! | [`group`] | groups of the operating system by name |
//! | [`user`], [`privileges`] | who the process is and what its threads may do |
//! | [`seccomp`] | the system calls that a running engine needs |
//! | [`lock`] | ownership that dies with the process |
#![allow(unsafe_code, reason = "the one room for it; every block says why it is sound and why it is needed")]

pub mod af_packet;
pub mod af_xdp;
pub mod clock;
pub mod ethtool;
pub mod group;
pub mod isolate;
pub mod lock;
pub mod machine;
pub mod memory;
pub mod monitor;
pub mod netdev;
mod netlink;
pub mod privileges;
pub mod seccomp;
mod sockopt;
#[cfg(test)]
pub(crate) mod testing;
pub mod thread;
pub mod user;
pub mod wait;
pub mod ways;
