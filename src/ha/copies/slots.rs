//! What is remembered of each slot of the session table.

use crate::session::SessionId;

/// One bit for each slot.
#[derive(Debug)]
pub(super) struct Marks(Box<[u64]>);

impl Marks {
    pub(super) fn new(slots: usize) -> Self {
        Self(vec![0; slots.div_ceil(64)].into())
    }

    pub(super) fn has(&self, slot: u32) -> bool {
        self.0.get(slot as usize / 64).is_some_and(|word| word & 1 << (slot % 64) != 0)
    }

    pub(super) fn set(&mut self, slot: u32) {
        if let Some(word) = self.0.get_mut(slot as usize / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }
}

/// The sessions that a node was told of: for each slot a part of the generation of the session that was told last, which
/// the next 254 sessions of the slot do not have.
#[derive(Debug)]
pub(super) struct Told(Box<[u8]>);

impl Told {
    pub(super) fn new(slots: usize) -> Self {
        Self(vec![0; slots].into())
    }

    pub(super) fn has(&self, id: SessionId) -> bool {
        self.0.get(id.slot as usize) == Some(&part(id))
    }

    pub(super) fn set(&mut self, id: SessionId) {
        if let Some(told) = self.0.get_mut(id.slot as usize) {
            *told = part(id);
        }
    }

    /// Forgets a session. True if it was told.
    pub(super) fn take(&mut self, id: SessionId) -> bool {
        let was_told = self.has(id);
        if was_told {
            self.0[id.slot as usize] = 0;
        }
        was_told
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }
}

/// A number from 1 to 255. The generations of live sessions are odd.
const fn part(id: SessionId) -> u8 {
    (id.generation / 2 % 255) as u8 + 1
}
