//! Doubly linked lists over slot numbers, with their room reserved at start.
//!
//! Each list hangs on a sentinel, a number beyond the slots, so that a slot is taken out without knowing its list. The
//! links are shared between workers but a list is touched only by who holds the lock of its worker's hold, so relaxed atomics
//! are enough.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::session::memory::zeroed;

/// Links of `slots` slots and any number of sentinels. A number that is in no list is linked to itself.
#[derive(Debug)]
pub(super) struct Links {
    /// Both neighbours of each number, as distances from it: zero, as memory is at first, means itself.
    links: Box<[AtomicU64]>,
}

/// The neighbours of a number in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    previous: u32,
    next: u32,
}

impl Links {
    /// Bytes for each number.
    pub(super) const BYTES: usize = size_of::<AtomicU64>();

    /// `count` numbers, slots and sentinels together, all in no list.
    pub(super) fn new(count: u32) -> Self {
        Self { links: zeroed(count as usize) }
    }

    /// All of it, to advise the operating system about.
    pub(super) fn words(&self) -> &[AtomicU64] {
        &self.links
    }

    /// Puts a slot that is in no list at the end of the list of `sentinel`.
    pub(super) fn push_back(&self, sentinel: u32, slot: u32) {
        let end = self.get(sentinel);
        self.set(slot, Link { previous: end.previous, next: sentinel });
        // An empty list's last is its sentinel, which is read again after this.
        self.set(end.previous, Link { next: slot, ..self.get(end.previous) });
        self.set(sentinel, Link { previous: slot, ..self.get(sentinel) });
    }

    /// The first slot of the list of `sentinel`.
    pub(super) fn front(&self, sentinel: u32) -> Option<u32> {
        let first = self.get(sentinel).next;
        (first != sentinel).then_some(first)
    }

    /// Takes a slot out of its list, if it is in one.
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

    fn contents(links: &Links, sentinel: u32) -> Vec<u32> {
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
    }
}
