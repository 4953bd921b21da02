//! Tells all sessions of a table, and then those that changed, for as long as they change.
//!
//! The bytes of [`Message::Sessions`](super::Message::Sessions):
//!
//! ```text
//!  slot (32 bits, big endian) | length (16 bits) | a record of crate::ha::records;  and so on
//!
//!  without a record            the session of the slot has ended
//!  slot 2^32 - 1               the record is that of a name
//! ```

use crate::flow::CanonicalKey;
use crate::ha::CopyHost;
use crate::ha::copies::{ToldNames, record_of};
use crate::ha::records::Record;
use crate::session::{Placement, Session, SessionTable, VersionedSlots};
use crate::time::Instant;

/// The slot of names.
pub(super) const NO_SLOT: u32 = u32::MAX;
/// A message has about so many bytes.
const BYTES: usize = 60_000;
/// Slots that are visited in a step.
const SLOTS: u32 = 65_536;
/// The lowest bit of a version, which the table does not use: the session was told.
const TOLD: u64 = 1;

/// What was told of a table.
#[derive(Debug, Default)]
pub struct Giver {
    names: ToldNames,
    /// The version of each slot that was seen last, and [`TOLD`].
    seen: Vec<u64>,
    cursor: u32,
    /// Sessions that this pass told.
    told: usize,
}

/// A part of a pass over the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// What is to be told; possibly nothing.
    pub bytes: Vec<u8>,
    /// The pass has ended: how many sessions it told.
    pub passed: Option<usize>,
}

struct Walk<'a> {
    giver: &'a mut Giver,
    host: &'a dyn CopyHost,
    now: Instant,
    bytes: Vec<u8>,
}

impl Giver {
    /// Goes on with the pass, or begins with the next one. A pass tells all sessions that are not as they were told.
    pub fn step(&mut self, table: &SessionTable, host: &dyn CopyHost, now: Instant) -> Step {
        let slots = self.cursor..self.cursor.saturating_add(SLOTS);
        let mut walk = Walk { giver: self, host, now, bytes: Vec::new() };
        let next = table.walk_changed(slots, &mut walk);
        let bytes = walk.bytes;
        self.cursor = next.unwrap_or(0);
        let passed = next.is_none().then(|| std::mem::take(&mut self.told));
        Step { bytes, passed }
    }
}

impl VersionedSlots for Walk<'_> {
    fn known(&self, slot: u32) -> u64 {
        self.giver.seen.get(slot as usize).map_or(0, |seen| seen & !TOLD)
    }

    fn changed(
        &mut self,
        slot: u32,
        version: u64,
        session: Option<(CanonicalKey, Session, Option<Placement>)>,
    ) -> bool {
        let at = slot as usize;
        if self.giver.seen.len() <= at {
            self.giver.seen.resize(at + 1, 0);
        }
        let was_told = self.giver.seen[at] & TOLD != 0;
        let mut is_told = false;
        if let Some((key, session, placement)) = session
            && let Some(names) = self.giver.names.untold(&session, placement.as_ref(), self.host)
        {
            names.iter().for_each(|name| self.put(NO_SLOT, Some(name)));
            let record = record_of(&key, &session, placement.as_ref(), self.now);
            self.put(slot, Some(&Record::Session(record)));
            is_told = true;
        } else if was_told {
            self.put(slot, None);
        }
        self.giver.told += usize::from(is_told || was_told);
        self.giver.seen[at] = version | if is_told { TOLD } else { 0 };
        self.bytes.len() < BYTES
    }
}

impl Walk<'_> {
    fn put(&mut self, slot: u32, record: Option<&Record>) {
        self.bytes.extend_from_slice(&slot.to_be_bytes());
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        if let Some(record) = record {
            record.encode(&mut self.bytes);
        }
        let length = u16::try_from(self.bytes.len() - at - 2).expect("a record is short");
        self.bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
}
