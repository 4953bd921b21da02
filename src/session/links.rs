//! Doubly linked lists over slot numbers, with their room reserved at start.
//!
//! Each list hangs on a sentinel, a number beyond the slots, so that a slot is taken out without knowing its list. The
//! links are shared between workers but each slot's are touched only by the worker that holds the slot, so relaxed atomics
//! are enough: a slot changes hands under a lock.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Links of `slots` slots and any number of sentinels. A number that is in no list is linked to itself.
#[derive(Debug)]
pub(super) struct Links {
    links: Box<[Link]>,
}

#[derive(Debug)]
struct Link {
    previous: AtomicU32,
    next: AtomicU32,
}

impl Links {
    /// `count` numbers, slots and sentinels together, all in no list.
    pub(super) fn new(count: u32) -> Self {
        let alone = |number| Link { previous: AtomicU32::new(number), next: AtomicU32::new(number) };
        Self { links: (0..count).map(alone).collect() }
    }

    /// Puts a slot that is in no list at the end of the list of `sentinel`.
    pub(super) fn push_back(&self, sentinel: u32, slot: u32) {
        let last = self.link(sentinel).previous.load(Relaxed);
        self.link(slot).previous.store(last, Relaxed);
        self.link(slot).next.store(sentinel, Relaxed);
        self.link(last).next.store(slot, Relaxed);
        self.link(sentinel).previous.store(slot, Relaxed);
    }

    /// The first slot of the list of `sentinel`.
    pub(super) fn front(&self, sentinel: u32) -> Option<u32> {
        let first = self.link(sentinel).next.load(Relaxed);
        (first != sentinel).then_some(first)
    }

    /// Takes a slot out of its list, if it is in one.
    pub(super) fn remove(&self, slot: u32) {
        let (previous, next) = (self.link(slot).previous.load(Relaxed), self.link(slot).next.load(Relaxed));
        self.link(previous).next.store(next, Relaxed);
        self.link(next).previous.store(previous, Relaxed);
        self.link(slot).previous.store(slot, Relaxed);
        self.link(slot).next.store(slot, Relaxed);
    }

    /// True if the slot is in a list.
    pub(super) fn is_linked(&self, slot: u32) -> bool {
        self.link(slot).next.load(Relaxed) != slot
    }

    fn link(&self, number: u32) -> &Link {
        &self.links[number as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(links: &Links, sentinel: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut at = links.link(sentinel).next.load(Relaxed);
        while at != sentinel {
            found.push(at);
            at = links.link(at).next.load(Relaxed);
        }
        found
    }

    #[test]
    fn a_list_keeps_the_order_in_which_slots_came() {
        let links = Links::new(6);
        for slot in [2, 0, 3] {
            links.push_back(5, slot);
        }
        assert_eq!(contents(&links, 5), [2, 0, 3]);
        assert_eq!(links.front(5), Some(2));
        assert_eq!(links.front(4), None);
    }

    #[test]
    fn a_slot_leaves_its_list_from_anywhere() {
        let links = Links::new(6);
        for slot in 0..4 {
            links.push_back(4, slot);
        }
        links.remove(2);
        links.remove(0);
        links.remove(3);
        assert_eq!(contents(&links, 4), [1]);
        links.remove(2);
        assert_eq!(contents(&links, 4), [1], "a slot that is in no list can be taken out again");
        assert!(links.is_linked(1) && !links.is_linked(0));
    }
}
