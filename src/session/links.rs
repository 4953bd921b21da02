//! Doubly linked lists over slot numbers, in memory that is reserved at start.
//!
//! Each list has a sentinel, which is a number above those of all slots, so that a slot can be removed without knowing
//! its list. Workers share the links, but a list is touched only under the lock of the
//! [`WorkerLists`](super::worker_lists::WorkerLists) it belongs to, so that relaxed atomics suffice.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::session::memory::zeroed;

/// The links of slots and sentinels. A number that is in no list is linked to itself.
#[derive(Debug)]
pub(super) struct SlotLinks {
    /// The previous and next number for each number, as distances from it. 0, which fresh memory contains, means
    /// itself.
    links: Box<[AtomicU64]>,
}

/// The previous and next number in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    previous: u32,
    next: u32,
}

impl SlotLinks {
    /// Memory per number in bytes.
    pub(super) const BYTES: usize = size_of::<AtomicU64>();

    /// The links of `count` numbers, slots and sentinels together, all in no list.
    pub(super) fn new(count: u32) -> Self {
        Self { links: zeroed(count as usize) }
    }

    /// The whole memory of the links, for advice to the operating system.
    pub(super) fn words(&self) -> &[AtomicU64] {
        &self.links
    }

    /// Appends a slot that is in no list to the list of `sentinel`.
    pub(super) fn push_back(&self, sentinel: u32, slot: u32) {
        let end = self.get(sentinel);
        self.set(slot, Link { previous: end.previous, next: sentinel });
        // In an empty list the last number is the sentinel itself, which therefore has to be read again afterwards.
        self.set(end.previous, Link { next: slot, ..self.get(end.previous) });
        self.set(sentinel, Link { previous: slot, ..self.get(sentinel) });
    }

    /// The first slot in the list of `sentinel`.
    pub(super) fn front(&self, sentinel: u32) -> Option<u32> {
        let first = self.get(sentinel).next;
        (first != sentinel).then_some(first)
    }

    /// Removes a slot from its list, if it is in one.
    pub(super) fn remove(&self, slot: u32) {
        let Link { previous, next } = self.get(slot);
        self.set(previous, Link { next, ..self.get(previous) });
        self.set(next, Link { previous, ..self.get(next) });
        self.set(slot, Link { previous: slot, next: slot });
    }

    fn get(&self, number: u32) -> Link {
        let distances = self.links[number as usize].load(Relaxed);
        let [previous, next] = [distances as u32, (distances >> 32) as u32].map(|by| number.wrapping_add(by));
        Link { previous, next }
    }

    fn set(&self, number: u32, link: Link) {
        let [previous, next] = [link.previous, link.next].map(|other| u64::from(other.wrapping_sub(number)));
        self.links[number as usize].store(previous | next << 32, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(links: &SlotLinks, sentinel: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut at = links.get(sentinel).next;
        while at != sentinel {
            found.push(at);
            at = links.get(at).next;
        }
        found
    }

    #[test]
    fn a_list_keeps_the_order_in_which_slots_came() {
        let links = SlotLinks::new(6);
        for slot in [2, 0, 3] {
            links.push_back(5, slot);
        }
        assert_eq!(contents(&links, 5), [2, 0, 3]);
        assert_eq!(links.front(5), Some(2));
        assert_eq!(links.front(4), None);
    }

    #[test]
    fn a_slot_leaves_its_list_from_anywhere() {
        let links = SlotLinks::new(6);
        for slot in 0..4 {
            links.push_back(4, slot);
        }
        links.remove(2);
        links.remove(0);
        links.remove(3);
        assert_eq!(contents(&links, 4), [1]);
        links.remove(2);
        assert_eq!(contents(&links, 4), [1], "a slot that is in no list can be taken out again");
    }
}
