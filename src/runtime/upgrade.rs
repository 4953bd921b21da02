//! The handover of a running engine to another program: `fwlb upgrade`. What is said, and in which order, is in
//! [`crate::engine::handover`].
//!
//! ```text
//!   old program                                   new program, started by `fwlb upgrade`
//!   thread fwlb-upgrade: Predecessor  ◀── Unix socket beside the control socket ──▶  Successor, before any thread runs
//!      │ `Hold`: frames from a moment on stay in the rings
//!      ▼
//!   packet workers, control thread
//! ```
//!
//! Both programs receive every frame from the moment that their rings are open, and the kernel notes in each ring the same
//! time for the same frame. The old program handles the frames before the moment of the handover, and the new one those
//! from that moment on. The old one leaves its frames from that moment on where they are: if the new program fails, it
//! goes on with them.

mod line;
mod predecessor;
mod successor;
mod takeover;

pub(super) use predecessor::{HandedOver, Handovers, Predecessor};
pub(super) use successor::Successor;
pub(super) use takeover::Takeover;
