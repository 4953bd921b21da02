//! A stream of datagrams between two nodes: what is given to the [`Sender`] arrives at the [`Receiver`] once, in order,
//! or not at all if the stream begins again. Loss costs time only.
//!
//! ```text
//!  part   stream: origin (64 bits), run (32 bits) | number of the datagram (64 bits) | records
//!  ack    stream likewise | who receives (64 bits) | next expected (64 bits) | credit (16 bits) | what is held beyond it
//! ```
//!
//! Numbers are big endian and begin at 0 with each stream. A sender keeps every datagram until it is acknowledged; at
//! most [`WINDOW`] of them, and no more than the receiver gives credit for, are on their way. A datagram counts as lost
//! when three that were sent after it have arrived, or when nothing is acknowledged for a while. The receiver holds what
//! came before its turn. The bits behind the credit say which datagrams it holds: the first bit stands for the one after
//! the next expected.
//!
//! *Origin* is a random number of the sending process, *run* counts its streams; the receiving process has such a number
//! too. If either process starts again, the other one sees that and the stream begins again. That no datagram of an
//! earlier process arrives is the business of [`crate::ha::association`].

mod receiver;
mod sender;

pub use receiver::Receiver;
pub use sender::{AckOutcome, Sender};

use crate::time::Duration;

/// The most datagrams that are on their way, or held by the receiver.
pub const WINDOW: u64 = 512;
/// Length of what precedes the records.
pub const HEADER: usize = 20;
/// The most records of one datagram in bytes: with the envelope and the headers of IPv4 and UDP 1400 bytes.
pub const RECORDS_MAX: usize = 1400 - 28 - crate::ha::association::HEADER - crate::ha::association::TAG - HEADER;

/// How many datagrams may arrive before they are acknowledged.
const ACK_EVERY: u32 = 16;
/// How long an acknowledgement may wait.
const ACK_DELAY: Duration = Duration::from_millis(1);
/// How many datagrams that were sent later have to arrive before one counts as lost.
const OVERTAKEN: u64 = 3;
/// How long the sender waits for an acknowledgement at first and at most.
const WAIT: Duration = Duration::from_millis(10);
const WAIT_MAX: Duration = Duration::from_millis(640);
/// The number of datagrams that are sent again after such a wait.
const RESENT_AT_ONCE: usize = 16;
/// Length of an acknowledgement before the bits.
const ACK_FIXED: usize = 30;

/// Identifies a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamId {
    /// The sending process.
    pub origin: u64,
    /// The number of the stream in it.
    pub run: u32,
}

impl StreamId {
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.origin.to_be_bytes());
        out.extend_from_slice(&self.run.to_be_bytes());
    }

    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (origin, bytes) = bytes.split_first_chunk()?;
        let (run, bytes) = bytes.split_first_chunk()?;
        Some((Self { origin: u64::from_be_bytes(*origin), run: u32::from_be_bytes(*run) }, bytes))
    }
}

fn split_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, bytes) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), bytes))
}

#[cfg(test)]
mod tests;
