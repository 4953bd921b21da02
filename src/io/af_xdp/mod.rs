//! Receives and sends the frames of a device through AF_XDP sockets (Linux `Documentation/networking/af_xdp.rst`),
//! before the kernel's stack sees them. Decides nothing about a frame.
//!
//! An XDP program of five instructions at the device redirects every frame to the socket of its queue. Each worker has
//! a UMEM, memory that it shares with the kernel: the frames of all its devices lie in there, are edited in place, and
//! leave by another device from there. In zero-copy mode the device itself reads and writes that memory; in copy mode
//! the kernel copies once in each direction.
//!
//! ```text
//!            fill ring: empty frames                   send ring: frames to send
//!          ◀────────────────────────                 ──────────────────────────▶
//!   device   receive ring: full ones   Umem, a worker   completion ring: sent ones   device
//!          ────────────────────────▶                 ◀──────────────────────────
//! ```
//!
//! AF_XDP has none of the metadata that AF_PACKET carries beside a frame: super-frames, checksums that are left to a
//! device, VLAN tags that a device took out. A device with such offloads is refused, and the error says what to turn
//! off. What the other end of a veth leaves undone cannot be seen from here and has to be turned off there (`ethtool -K
//! PEER tx off`).
//!
//! | file | has |
//! | --- | --- |
//! | `bpf` | the program, and bpf(2) |
//! | `ring` | the rings' memory and positions |
//! | `socket` | the socket, its options and what it is bound to |
//! | `memory`, `frames` | the frames' memory, and who has which frame |
//! | `queue` | one socket with its rings |
//! | `umem` | a worker's queues over one memory |
//! | `endpoints` | a worker's receiver and sender for one device |
//! | `send_socket` | a sender alone, for devices that packet sockets receive from |
//! | `device` | a device opened for all workers |

pub(super) mod bpf;
mod device;
mod endpoints;
mod frames;
mod memory;
mod queue;
mod ring;
mod send_socket;
mod socket;
#[cfg(test)]
mod tests;
mod umem;

pub use bpf::Hook;
#[cfg(test)]
pub(super) use device::open_at;
pub use device::{Attachment, OpenedXdpDevice, XdpDevice, XdpError, XdpMode, open};
pub use endpoints::{Receiver, Sender};
pub use send_socket::SendSocket;
pub use socket::Transfer;
pub use umem::Umem;
