//! A doubly linked list through the slots of the fragment table, oldest first, with removal from the middle in constant
//! time.

use super::Slot;

const NONE: u32 = u32::MAX;

/// The previous and next slot in the list that a slot is on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Links {
    previous: u32,
    next: u32,
}

impl Links {
    /// The links of a slot that is on no list.
    pub(super) const NONE: Self = Self { previous: NONE, next: NONE };
}

/// The first and last slot of a list.
#[derive(Debug)]
pub(super) struct List {
    front: u32,
    back: u32,
}

impl List {
    pub(super) const fn new() -> Self {
        Self { front: NONE, back: NONE }
    }

    /// The slot that was appended first.
    pub(super) fn front(&self) -> Option<u32> {
        (self.front != NONE).then_some(self.front)
    }

    /// Appends a slot that is on no list.
    pub(super) fn push_back<T>(&mut self, slots: &mut [Slot<T>], slot: u32) {
        slots[slot as usize].links = Links { previous: self.back, next: NONE };
        match self.back {
            NONE => self.front = slot,
            back => slots[back as usize].links.next = slot,
        }
        self.back = slot;
    }

    /// Removes a slot that is on this list.
    pub(super) fn remove<T>(&mut self, slots: &mut [Slot<T>], slot: u32) {
        let Links { previous, next } = slots[slot as usize].links;
        match previous {
            NONE => self.front = next,
            previous => slots[previous as usize].links.next = next,
        }
        match next {
            NONE => self.back = previous,
            next => slots[next as usize].links.previous = previous,
        }
        slots[slot as usize].links = Links::NONE;
    }
}
