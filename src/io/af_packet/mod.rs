//! Frames in and out of a device through AF_PACKET sockets.
//!
//! In: a TPACKET_V2 ring of small slots, shared with the kernel. A frame is handed out where it lies and edited in place; the
//! slot goes back after the frame was sent. A super-frame that does not fit its slot keeps its place in the ring and waits in
//! the socket's queue for one `recv` (`PACKET_COPY_THRESH`).
//! Out: `sendmmsg` straight from the ring. A virtio-net header before each frame carries checksum and segmentation work from
//! the receiving to the sending device (`PACKET_VNET_HDR`), so that offloads of either end need no attention. What asks nothing
//! of the device may leave cheaper, by [`super::af_xdp::SendSocket`].
//!
//! ```text
//!   device ──ring──▶ Receiver::receive ──▶ Batch ──process──▶ Sender::send ──▶ device
//!                        ▲                                        │
//!                        └────────── Receiver::release ◀──────────┘
//! ```

mod filter;
mod receiver;
mod ring;
mod sender;
mod socket;
#[cfg(test)]
mod tests;
mod vnet;

pub use filter::Wanted;
pub use receiver::{Receiver, RingOptions};
pub use sender::Sender;
pub use socket::{FanoutId, OpenError};
