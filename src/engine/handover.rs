//! The handover of a running engine to another program that runs the same configuration, such as a newer version.
//!
//! ```text
//!     old program                                                new program
//!  forwards   Hello, its descriptors ──────────────────────────▶ takes locks and sockets
//!      │      State: orders, verdicts, neighbours, clients ────▶ knows them
//!      │      Sessions, and again those that changed ──────────▶ has them
//!      │      Passed ──────────────────────────────────────────▶ opens its rings, which keep what arrives
//!      │    ◀────────────────────────────────────────── Opened
//!  stops before a moment, handles the frames that arrived earlier
//!             the last Sessions, Handover with the moment ─────▶ has all of them
//!           ◀─────────────────────────────────────────── Taken
//!             Go ──────────────────────────────────────────────▶ forwards the frames from that moment on
//!             Gone: its files are closed ──────────────────────▶ goes on with them
//! ```
//!
//! Until it says `Go`, the old program may change its mind, and so may the new one: whoever does says `Abort`, and the old
//! one goes on with the frames that it kept back. If the old program dies after it has said `Handover`, the new one begins.
//!
//! [`Giver`] finds what the other end does not know, [`Taker`] applies it, [`Message`] is what goes between. The owner,
//! [`crate::runtime`], carries the bytes.

mod giver;
mod message;
mod state;
mod taker;
#[cfg(test)]
mod tests;

pub use giver::{Giver, Step};
pub use message::{FORMAT, HEADER, Header, Hello, Message, Unreadable};
pub use state::{InheritedNeighbor, InheritedPath, State, StickyClient, sticky_clients};
pub use taker::{Taken, Taker};
