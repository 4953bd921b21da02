//! Receives and sends the frames of a device through AF_PACKET sockets (packet(7)). Decides nothing about a frame.
//!
//! Receiving: a TPACKET_V2 ring of small slots, shared with the kernel. A frame is handed out where it lies and edited
//! in place; its slot is released after the frame was sent. A super-frame (a GSO packet of up to 64 KiB) that does not
//! fit its slot keeps its place in the ring and waits in the socket's receive queue for one `recv`
//! (`PACKET_COPY_THRESH`).
//!
//! Sending: `sendmmsg` straight from the ring. A virtio-net header before each frame (`PACKET_VNET_HDR`) carries
//! checksum and segmentation offloads from the receiving to the sending device, so that neither end has to turn them
//! off. A frame without offloads may leave by the cheaper [`super::af_xdp::SendSocket`].
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

pub use filter::ProbeFilter;
pub use receiver::{FrameWindow, Receiver, RingOptions};
pub use sender::Sender;
pub use socket::{FanoutId, PacketSocketError};
