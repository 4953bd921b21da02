//! The receiving end of a stream.

use std::collections::{BTreeMap, VecDeque};

use super::{ACK_DELAY, ACK_EVERY, ACK_FIXED, StreamId, WINDOW, split_u64};
use crate::time::Instant;

/// See [`crate::ha::stream`].
#[derive(Debug)]
pub struct Receiver {
    /// This process.
    me: u64,
    stream: Option<StreamId>,
    /// The number of the next datagram in order.
    pub(super) expected: u64,
    /// What came in order and was not taken, and when it came.
    pub(super) ready: VecDeque<(Instant, Vec<u8>)>,
    /// What came before its turn, and when.
    pub(super) held: BTreeMap<u64, (Instant, Vec<u8>)>,
    /// The number of datagrams that came since the last acknowledgement.
    unacknowledged: u32,
    ack_due: Option<Instant>,
    /// The limit that the last acknowledgement gave.
    offered: u64,
}

impl Receiver {
    /// The receiving end in a process that has the random number `me`.
    pub fn new(me: u64) -> Self {
        Self {
            me,
            stream: None,
            expected: 0,
            ready: VecDeque::new(),
            held: BTreeMap::new(),
            unacknowledged: 0,
            ack_due: None,
            offered: WINDOW,
        }
    }

    /// Forgets what was received and asks for everything again, as a process that has just started and has the number
    /// `me`. A sender that knows another one begins with a new stream.
    pub fn begin_again(&mut self, me: u64) {
        let ack_due = self.stream.map(|_| Instant::ZERO);
        *self = Self { stream: self.stream, ack_due, ..Self::new(me) };
    }

    /// Takes a datagram. True if a stream begins with it, so that everything before was another stream's.
    pub fn handle_datagram(&mut self, datagram: &[u8], now: Instant) -> bool {
        let Some((id, rest)) = StreamId::split(datagram) else { return false };
        let Some((number, records)) = split_u64(rest) else { return false };
        let is_earlier = |known: StreamId| known.origin == id.origin && id.run < known.run;
        if self.stream.is_some_and(is_earlier) {
            return false;
        }
        let begins = self.stream != Some(id);
        if begins {
            *self = Self { stream: Some(id), ..Self::new(self.me) };
        }
        self.take(number, records, now);
        begins
    }

    fn take(&mut self, number: u64, records: &[u8], now: Instant) {
        let is_new = (self.expected..self.limit()).contains(&number) && !self.held.contains_key(&number);
        if !is_new {
            // The sender missed an acknowledgement, or asks for credit.
            self.ack_due = Some(now);
            return;
        }
        if number == self.expected {
            self.ready.push_back((now, records.to_vec()));
            self.expected += 1;
            while let Some(next) = self.held.remove(&self.expected) {
                self.ready.push_back(next);
                self.expected += 1;
            }
        } else {
            self.held.insert(number, (now, records.to_vec()));
        }
        self.unacknowledged += 1;
        let due = if self.unacknowledged >= ACK_EVERY { now } else { now + ACK_DELAY };
        self.ack_due = Some(self.ack_due.map_or(due, |earlier| earlier.min(due)));
    }

    /// The first number that is not taken.
    fn limit(&self) -> u64 {
        self.expected + WINDOW - self.ready.len() as u64
    }

    /// The next records in order.
    pub fn poll_records(&mut self, now: Instant) -> Option<Vec<u8>> {
        let (_, records) = self.ready.pop_front()?;
        // The sender may be waiting for room.
        if self.limit() >= self.offered + WINDOW / 2 {
            self.ack_due = Some(now);
        }
        Some(records)
    }

    /// True if records wait to be taken.
    pub fn has_records(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the oldest datagram arrived that was not taken yet, because one before it is missing or because nobody took
    /// it. `None` if there is none.
    pub fn behind_since(&self) -> Option<Instant> {
        self.ready.front().or_else(|| self.held.values().next()).map(|(came, _)| *came)
    }

    /// The acknowledgement that is due.
    pub fn poll_ack(&mut self, now: Instant) -> Option<Vec<u8>> {
        let stream = self.stream?;
        self.ack_due.filter(|due| *due <= now)?;
        (self.ack_due, self.unacknowledged, self.offered) = (None, 0, self.limit());
        let mut ack = Vec::with_capacity(ACK_FIXED + WINDOW as usize / 8);
        stream.put(&mut ack);
        ack.extend_from_slice(&self.me.to_be_bytes());
        ack.extend_from_slice(&self.expected.to_be_bytes());
        ack.extend_from_slice(&((self.limit() - self.expected) as u16).to_be_bytes());
        for number in self.held.keys() {
            let bit = (number - self.expected - 1) as usize;
            ack.resize(ack.len().max(ACK_FIXED + bit / 8 + 1), 0);
            ack[ACK_FIXED + bit / 8] |= 0x80 >> (bit % 8);
        }
        Some(ack)
    }

    /// When [`Receiver::poll_ack`] has something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ack_due
    }
}
