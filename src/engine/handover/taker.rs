//! Makes a table have the sessions that another program told.

use std::collections::HashMap;

use super::giver::NO_SLOT;
use super::message::Unreadable;
use crate::ha::CopyHost;
use crate::ha::copies::HeardNames;
use crate::ha::records::{self, Record, SessionRecord};
use crate::session::{CopyOutcome, Precedence, Removed, SessionId, SessionWorker};
use crate::time::Instant;

/// No slot of the other program.
const NONE: u32 = u32::MAX;

/// The sessions that were told.
#[derive(Debug, Default)]
pub struct Taker {
    names: HeardNames,
    /// The session of each slot of the other program, whose table may be larger than this one.
    sessions: HashMap<u32, SessionId, ahash::RandomState>,
    /// The slot of the other program whose session is in each slot of this table.
    slots: Vec<u32>,
    taken: Taken,
}

/// How many sessions were taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Those that the table has.
    pub sessions: usize,
    /// Those for which there was no room, or which could not be distinguished from another one.
    pub refused: usize,
    /// Those that refer to something that is not in this configuration.
    pub unknown: usize,
}

impl Taker {
    /// How many sessions were taken over so far.
    pub fn taken(&self) -> Taken {
        self.taken
    }

    /// Applies what was told. `workers` open the sessions, in turn, and have to be the same, in the same order, each time.
    ///
    /// # Errors
    /// If the bytes have no meaning; nothing that follows may be applied then.
    pub fn apply(
        &mut self,
        mut bytes: &[u8],
        workers: &mut [&mut SessionWorker],
        host: &mut dyn CopyHost,
        now: Instant,
    ) -> Result<(), Unreadable> {
        while !bytes.is_empty() {
            let (slot, record, rest) = split(bytes).ok_or_else(|| malformed("it is cut off"))?;
            bytes = rest;
            let place = slot as usize % workers.len();
            let worker = &mut *workers[place];
            if record.is_empty() {
                self.end(slot, worker, host, now);
                continue;
            }
            match records::decode(record).next() {
                Some(Ok(Record::Session(session))) => self.put(slot, &session, worker, host, now),
                Some(Ok(Record::Name { kind, number, name })) if slot == NO_SLOT => {
                    self.names.learn(kind, number, name, host);
                }
                Some(Ok(other)) => return Err(malformed(&format!("nobody tells {other:?} here"))),
                Some(Err(error)) => return Err(malformed(&error.to_string())),
                None => {}
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        slot: u32,
        record: &SessionRecord,
        worker: &mut SessionWorker,
        host: &mut dyn CopyHost,
        now: Instant,
    ) {
        let known = self.sessions.get(&slot).copied();
        let is_other = known.is_some_and(|id| {
            worker
                .table()
                .copy(id)
                .is_none_or(|(key, known, _)| key != record.key || known.original_direction != record.opened)
        });
        if is_other {
            self.end(slot, worker, host, now);
        }
        let Some((session, placement)) = self.names.session(record, host, now) else {
            self.end(slot, worker, host, now);
            self.taken.unknown += 1;
            return;
        };
        let (key, copy, taken) = (&record.key, Precedence::Copy, &mut self.taken);
        let outcome = worker.put_copy(key, placement, session, copy, now, |displaced: Removed| {
            taken.sessions = taken.sessions.saturating_sub(1);
            host.ended(&displaced, None, now);
        });
        match outcome {
            CopyOutcome::Inserted(id) => {
                self.taken.sessions += 1;
                self.assign(slot, id, worker.table().capacity());
                host.opened(&record.key, &session, placement.as_ref(), now);
            }
            CopyOutcome::Renewed { id, before } => {
                self.assign(slot, id, worker.table().capacity());
                host.renewed(&before, &session, placement.as_ref());
            }
            CopyOutcome::Older(_) | CopyOutcome::Conflict | CopyOutcome::Full => self.taken.refused += 1,
        }
    }

    fn assign(&mut self, slot: u32, id: SessionId, capacity: usize) {
        self.sessions.insert(slot, id);
        if self.slots.is_empty() {
            self.slots = vec![NONE; capacity];
        }
        self.slots[id.slot as usize] = slot;
    }

    /// Ends the session of a slot, unless another slot has it.
    fn end(&mut self, slot: u32, worker: &mut SessionWorker, host: &mut dyn CopyHost, now: Instant) {
        let Some(id) = self.sessions.remove(&slot) else { return };
        if self.slots.get(id.slot as usize) != Some(&slot) {
            return;
        }
        self.slots[id.slot as usize] = NONE;
        if let Some(ended) = worker.close(id) {
            self.taken.sessions = self.taken.sessions.saturating_sub(1);
            host.ended(&ended, None, now);
        }
    }
}

fn malformed(what: &str) -> Unreadable {
    Unreadable::Malformed { kind: super::message::SESSIONS, what: what.to_owned() }
}

/// The next slot and record, and what follows.
fn split(bytes: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (slot, bytes) = bytes.split_first_chunk()?;
    let (length, bytes) = bytes.split_first_chunk()?;
    let (record, rest) = bytes.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((u32::from_be_bytes(*slot), record, rest))
}
