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

/// The number of different parts of generations that are remembered.
const PARTS: u16 = 255;

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

    /// True if the node was told of a session that has ended, or if that cannot be known because its slot has had
    /// another session since.
    pub(super) fn may_have(&self, id: SessionId) -> bool {
        let told = self.0.get(id.slot as usize).copied().unwrap_or(0);
        // How many sessions of this slot began between the one and the other.
        let later = (u16::from(told) + PARTS - u16::from(part(id))) % PARTS;
        told != 0 && later <= PARTS / 2
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
            // The one before it in its slot may have been told, and its end may still be to be told.
            self.0[id.slot as usize] = part(SessionId { generation: id.generation.wrapping_sub(2), ..id });
        }
        was_told
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }
}

/// A number from 1 to 255. The generations of live sessions are odd.
const fn part(id: SessionId) -> u8 {
    (id.generation / 2 % PARTS as u32) as u8 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(session: u32) -> SessionId {
        SessionId { slot: 3, generation: 2 * session + 1 }
    }

    #[test]
    fn a_session_that_was_not_told_is_known_until_its_slot_has_another_one() {
        let mut told = Told::new(8);
        assert!(!told.may_have(id(0)) && !told.may_have(id(700)));
        for number in [0, 1, 253, 254, 255, 256, 1000] {
            told.set(id(number));
            assert!(told.has(id(number)) && told.may_have(id(number)));
            assert!(!told.has(id(number + 1)) && !told.may_have(id(number + 1)), "{number}: the next one was not told");
        }
        assert!(told.may_have(id(999)), "nobody knows any more");

        assert!(!told.take(id(999)) && told.take(id(1000)) && !told.take(id(1000)));
        assert!(!told.has(id(1000)) && !told.may_have(id(1000)));
        assert!(told.may_have(id(999)));
    }
}
