//! The sending end of a stream.

use std::collections::VecDeque;

use super::{OVERTAKEN, RESENT_AT_ONCE, StreamId, WAIT, WAIT_MAX, WINDOW, split_u64};
use crate::time::{Duration, Instant};

/// See [`crate::ha::stream`].
#[derive(Debug)]
pub struct Sender {
    id: StreamId,
    /// The number of the first datagram that is not acknowledged.
    pub(super) first: u64,
    /// The datagrams from there on.
    pub(super) kept: VecDeque<Kept>,
    /// The next one that was never sent.
    pub(super) next: u64,
    /// The numbers of those that are to be sent again.
    pub(super) again: VecDeque<u64>,
    /// The receiver takes numbers below this one.
    limit: u64,
    /// The process that receives.
    peer: Option<u64>,
    /// How many times a datagram was sent.
    sent: u64,
    /// The latest of these that arrived.
    arrived: Option<u64>,
    wait: Duration,
    due: Option<Instant>,
    /// When something was acknowledged, or first waited for it.
    progress: Instant,
    resends: u64,
}

/// A datagram that is not acknowledged.
#[derive(Debug)]
pub(super) struct Kept {
    records: Vec<u8>,
    /// Which sending it was; `None` while it was not sent.
    sending: Option<u64>,
    /// The receiver holds it.
    is_held: bool,
    is_queued: bool,
}

/// What an acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckOutcome {
    /// Something arrived, or there is room for more.
    Progress,
    /// It says nothing new, or is about another stream.
    NoProgress,
    /// Another process receives, which lacks what came before: the stream has to begin again.
    ReceiverRestarted,
}

impl Sender {
    /// A stream that begins.
    pub fn new(id: StreamId, now: Instant) -> Self {
        Self {
            id,
            first: 0,
            kept: VecDeque::new(),
            next: 0,
            again: VecDeque::new(),
            limit: WINDOW,
            peer: None,
            sent: 0,
            arrived: None,
            wait: WAIT,
            due: None,
            progress: now,
            resends: 0,
        }
    }

    /// The stream.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// How many more datagrams can be on their way. Beyond that [`Sender::push`] still keeps what it gets.
    pub fn room(&self) -> usize {
        let window = self.limit.saturating_sub(self.first).min(WINDOW) as usize;
        window.saturating_sub(self.kept.len())
    }

    /// The number that the next datagram given to [`Sender::push`] gets.
    pub fn next_pushed(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// The number of the first datagram that is not acknowledged yet: all before it have arrived.
    pub fn first_unacknowledged(&self) -> u64 {
        self.first
    }

    /// True if everything was acknowledged.
    pub fn is_flushed(&self) -> bool {
        self.kept.is_empty()
    }

    /// How often a datagram was sent again.
    pub fn resends(&self) -> u64 {
        self.resends
    }

    /// For how long something has waited in vain to be acknowledged.
    pub fn stalled(&self, now: Instant) -> Duration {
        if self.kept.is_empty() { Duration::ZERO } else { now.since(self.progress) }
    }

    /// Takes the records of one datagram.
    pub fn push(&mut self, records: Vec<u8>, now: Instant) {
        if self.kept.is_empty() {
            self.progress = now;
            self.wait = WAIT;
            self.due = Some(now + self.wait);
        }
        self.kept.push_back(Kept { records, sending: None, is_held: false, is_queued: false });
    }

    /// The next datagram to be sent.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        let number = self.next_number()?;
        let index = usize::try_from(number - self.first).ok()?;
        let sending = self.sent;
        let kept = self.kept.get_mut(index)?;
        (kept.sending, kept.is_queued) = (Some(sending), false);
        let mut datagram = Vec::with_capacity(super::HEADER + kept.records.len());
        self.id.put(&mut datagram);
        datagram.extend_from_slice(&number.to_be_bytes());
        datagram.extend_from_slice(&kept.records);
        self.sent += 1;
        Some(datagram)
    }

    fn next_number(&mut self) -> Option<u64> {
        while let Some(number) = self.again.pop_front() {
            let is_wanted = |kept: &Kept| kept.is_queued && !kept.is_held;
            if number.checked_sub(self.first).and_then(|index| self.kept.get(index as usize)).is_some_and(is_wanted) {
                self.resends += 1;
                return Some(number);
            }
        }
        let may_go = self.next < self.limit.min(self.first + WINDOW) && self.next < self.first + self.kept.len() as u64;
        may_go.then(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// Takes an acknowledgement.
    pub fn handle_ack(&mut self, ack: &[u8], now: Instant) -> AckOutcome {
        let Some((id, peer, expected, credit, held)) = split_ack(ack) else { return AckOutcome::NoProgress };
        if id != self.id {
            return AckOutcome::NoProgress;
        }
        if *self.peer.get_or_insert(peer) != peer {
            return AckOutcome::ReceiverRestarted;
        }
        // What was never sent cannot have arrived; what is older than another acknowledgement says nothing new.
        if expected > self.next || expected < self.first {
            return AckOutcome::NoProgress;
        }
        let has_moved = self.forget_until(expected) | self.mark_held(expected, held);
        let limit = expected + u64::from(credit);
        let has_room = limit > self.limit;
        self.limit = self.limit.max(limit);
        if has_moved || has_room {
            self.progress = now;
            self.wait = WAIT;
            self.due = (!self.kept.is_empty()).then(|| now + self.wait);
        }
        if self.kept.is_empty() && self.room() == 0 {
            self.due = Some(now + self.wait);
        }
        self.find_lost();
        if has_moved || has_room { AckOutcome::Progress } else { AckOutcome::NoProgress }
    }

    /// Forgets what has arrived in order. True if there was anything.
    fn forget_until(&mut self, expected: u64) -> bool {
        let arrived = expected > self.first;
        while self.first < expected {
            let Some(kept) = self.kept.pop_front() else { break };
            self.first += 1;
            if !kept.is_held {
                self.arrived = self.arrived.max(kept.sending);
            }
        }
        arrived
    }

    /// Marks what the receiver holds. True if there was anything new.
    fn mark_held(&mut self, expected: u64, held: &[u8]) -> bool {
        let mut is_new = false;
        let bits = held.iter().flat_map(|byte| (0..8).map(move |bit| byte & 0x80 >> bit != 0));
        for (index, _) in bits.enumerate().filter(|(_, bit)| *bit) {
            let index = index + 1;
            if expected + index as u64 >= self.next {
                break;
            }
            let Some(kept) = self.kept.get_mut(index).filter(|kept| !kept.is_held) else { continue };
            kept.is_held = true;
            self.arrived = self.arrived.max(kept.sending);
            is_new = true;
        }
        is_new
    }

    /// Queues what was overtaken by others.
    fn find_lost(&mut self) {
        let Some(arrived) = self.arrived else { return };
        for (number, kept) in (self.first..).zip(&mut self.kept) {
            let is_overtaken = kept.sending.is_some_and(|sending| sending + OVERTAKEN <= arrived);
            if is_overtaken && !kept.is_held && !kept.is_queued {
                kept.is_queued = true;
                self.again.push_back(number);
            }
        }
    }

    /// Sends again what nobody acknowledged. Without credit one datagram goes out nevertheless, an empty one if there is no
    /// other, so that a lost offer of credit is repeated.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        if self.kept.is_empty() && self.room() == 0 {
            self.progress = now;
            self.kept.push_back(Kept { records: Vec::new(), sending: None, is_held: false, is_queued: false });
        }
        let on_the_way = (self.first..self.next).zip(&mut self.kept).filter(|(_, kept)| !kept.is_held);
        let mut is_waiting = false;
        for (number, kept) in on_the_way.take(RESENT_AT_ONCE) {
            is_waiting = true;
            if !kept.is_queued {
                kept.is_queued = true;
                self.again.push_back(number);
            }
        }
        if !is_waiting && !self.kept.is_empty() {
            self.limit = self.limit.max(self.next + 1);
        }
        self.wait = (self.wait * 2).min(WAIT_MAX);
        self.due = (!self.kept.is_empty()).then(|| now + self.wait);
    }

    /// When [`Sender::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }
}

fn split_ack(ack: &[u8]) -> Option<(StreamId, u64, u64, u16, &[u8])> {
    let (id, rest) = StreamId::split(ack)?;
    let (peer, rest) = split_u64(rest)?;
    let (expected, rest) = split_u64(rest)?;
    let (credit, held) = rest.split_first_chunk()?;
    Some((id, peer, expected, u16::from_be_bytes(*credit), held))
}
