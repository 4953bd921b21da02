//! The rings that an AF_XDP socket shares with the kernel (linux/if_xdp.h). Each has one producer and one consumer.
//!
//! Both sides count entries in free-running 32-bit positions that wrap around; an entry lies at its position modulo the
//! size, a power of two. Storing a position hands over the entries before it: it is written with Release and read with
//! Acquire.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Number of entries between two positions; 0 if the positions cannot be right for a ring of this size.
const fn between(producer: u32, consumer: u32, size: u32) -> u32 {
    let used = producer.wrapping_sub(consumer);
    if used > size { 0 } else { used }
}

/// Memory that is mapped until this is dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    memory: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone, is not tied to a thread, and hands out addresses only.
// JUSTIFICATION: sockets are made by the control thread and used by a worker.
unsafe impl Send for Mapping {}
// SAFETY: as above. JUSTIFICATION: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the ring of `socket` that the kernel offers at `offset`.
    fn of_socket(socket: &impl AsRawFd, offset: libc::off_t, bytes: usize) -> io::Result<Self> {
        Self::map(bytes, libc::MAP_SHARED | libc::MAP_POPULATE, socket.as_raw_fd(), offset)
    }

    /// Maps new memory, zeroed and private to this process.
    pub(super) fn anonymous(bytes: usize) -> io::Result<Self> {
        Self::map(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    fn map(bytes: usize, flags: libc::c_int, descriptor: libc::c_int, offset: libc::off_t) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no other memory.
        // JUSTIFICATION: the rings exist only as mappings, and frames have to lie in whole pages.
        let memory = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, descriptor, offset)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { memory: NonNull::new(memory.cast()).expect("a successful mapping is not at address 0"), bytes })
    }

    /// Address of the first byte.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.memory
    }

    /// Pointer to the `T` at `offset`.
    fn at<T>(&self, offset: usize) -> NonNull<T> {
        let end = offset.checked_add(size_of::<T>());
        assert!(end.is_some_and(|end| end <= self.bytes), "the kernel's offsets lie in the ring that it mapped");
        // SAFETY: checked to lie inside the mapping. JUSTIFICATION: pointer arithmetic.
        let place = unsafe { self.memory.add(offset) }.cast::<T>();
        assert!(place.is_aligned(), "the kernel aligns what it shares");
        place
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping that `map` made, and what points into it ends with its owner.
        // JUSTIFICATION: mappings are not freed by themselves.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.bytes) };
    }
}

/// An entry of a ring: plain data for which every bit pattern is valid.
///
/// # Safety
/// The implementer promises that every bit pattern is a valid value.
pub(super) unsafe trait Entry: Copy {}
// SAFETY: an integer. JUSTIFICATION: the rings need the promise.
unsafe impl Entry for u64 {}
// SAFETY: a C struct of integers without padding. JUSTIFICATION: as above.
unsafe impl Entry for libc::xdp_desc {}

/// A ring in mapped memory.
#[derive(Debug)]
struct Ring<E> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<E>,
    size: u32,
    /// Keeps the memory that the pointers point into.
    _mapping: Arc<Mapping>,
}

// SAFETY: it owns its mapping, which is not tied to a thread. JUSTIFICATION: as for the mapping.
unsafe impl<E: Entry> Send for Ring<E> {}

impl<E: Entry> Ring<E> {
    fn new(mapping: Arc<Mapping>, offsets: &libc::xdp_ring_offset, size: u32) -> Self {
        assert!(size.is_power_of_two(), "positions wrap around at a multiple of the size");
        let offset = |value: u64| usize::try_from(value).expect("a ring fits the address space");
        let entries = offset(offsets.desc);
        mapping.at::<E>(entries + (size as usize - 1) * size_of::<E>());
        Self {
            producer: mapping.at(offset(offsets.producer)),
            consumer: mapping.at(offset(offsets.consumer)),
            flags: mapping.at(offset(offsets.flags)),
            entries: mapping.at(entries),
            size,
            _mapping: mapping,
        }
    }

    /// Maps the ring of `socket` that the kernel offers at `page`.
    fn map(socket: &impl AsRawFd, page: libc::off_t, offsets: &libc::xdp_ring_offset, size: u32) -> io::Result<Self> {
        let bytes = usize::try_from(offsets.desc).map_err(io::Error::other)? + size as usize * size_of::<E>();
        Ok(Self::new(Arc::new(Mapping::of_socket(socket, page, bytes)?), offsets, size))
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: aligned and inside the mapping that `self` keeps (`at` checked both); both sides access it
        // atomically. JUSTIFICATION: it is shared with the kernel.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as `producer`. JUSTIFICATION: as there.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as `producer`. JUSTIFICATION: as there.
        unsafe { self.flags.as_ref() }
    }

    fn entry(&self, position: u32) -> NonNull<E> {
        // SAFETY: the masked position is below the size, and the last entry lies in the mapping (`new` checked it).
        // JUSTIFICATION: pointer arithmetic.
        unsafe { self.entries.add((position & (self.size - 1)) as usize) }
    }
}

/// A ring that we write and the kernel reads.
#[derive(Debug)]
pub(super) struct Producer<E> {
    ring: Ring<E>,
    /// Position of the next entry to write.
    next: u32,
}

impl<E: Entry> Producer<E> {
    /// Maps the ring of `socket` at `page`, with `size` entries.
    pub(super) fn map(
        socket: &impl AsRawFd,
        page: libc::off_t,
        offsets: &libc::xdp_ring_offset,
        size: u32,
    ) -> io::Result<Self> {
        Ok(Self::new(Ring::map(socket, page, offsets, size)?))
    }

    fn new(ring: Ring<E>) -> Self {
        let next = ring.producer().load(Ordering::Relaxed);
        Self { ring, next }
    }

    /// Number of free entries.
    pub(super) fn room(&self) -> u32 {
        self.ring.size - between(self.next, self.ring.consumer().load(Ordering::Acquire), self.ring.size)
    }

    /// Writes an entry; the caller has checked that there is room. The kernel sees it after [`Producer::submit`].
    pub(super) fn push(&mut self, entry: E) {
        // SAFETY: the place lies in the ring, and the kernel does not read it before the position is past it.
        // JUSTIFICATION: memory that the kernel reads.
        unsafe { self.ring.entry(self.next).write(entry) };
        self.next = self.next.wrapping_add(1);
    }

    /// Hands the pushed entries to the kernel.
    pub(super) fn submit(&mut self) {
        self.ring.producer().store(self.next, Ordering::Release);
    }

    /// Whether the kernel has read all entries.
    pub(super) fn is_drained(&self) -> bool {
        self.ring.consumer().load(Ordering::Acquire) == self.next
    }

    /// Position of the next entry to write.
    pub(super) fn position(&self) -> u32 {
        self.next
    }

    /// Takes the last entry back; `None` at `position`, beyond which the kernel is known not to have read.
    pub(super) fn take_back(&mut self, position: u32) -> Option<E> {
        if self.next == position {
            return None;
        }
        self.next = self.next.wrapping_sub(1);
        // SAFETY: the place lies in the ring and holds what `push` wrote. JUSTIFICATION: as there.
        Some(unsafe { self.ring.entry(self.next).read() })
    }

    /// Whether the kernel must be called to go on reading (`XDP_RING_NEED_WAKEUP`).
    pub(super) fn needs_wakeup(&self) -> bool {
        // The kernel sets the flag before it looks for entries for the last time.
        self.ring.flags().load(Ordering::Acquire) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// A ring that the kernel writes and we read.
#[derive(Debug)]
pub(super) struct Consumer<E> {
    ring: Ring<E>,
    /// Position of the next entry to read.
    next: u32,
    /// Number of entries from there on that the kernel is known to have written.
    ready: u32,
    /// Position up to which entries were given back.
    given_back: u32,
}

impl<E: Entry> Consumer<E> {
    /// Maps the ring of `socket` at `page`, with `size` entries.
    pub(super) fn map(
        socket: &impl AsRawFd,
        page: libc::off_t,
        offsets: &libc::xdp_ring_offset,
        size: u32,
    ) -> io::Result<Self> {
        Ok(Self::new(Ring::map(socket, page, offsets, size)?))
    }

    fn new(ring: Ring<E>) -> Self {
        let next = ring.consumer().load(Ordering::Relaxed);
        Self { ring, next, ready: 0, given_back: next }
    }

    /// Takes the next entry. Its place stays ours until [`Consumer::release`].
    pub(super) fn pop(&mut self) -> Option<E> {
        if self.ready == 0 {
            self.ready = between(self.ring.producer().load(Ordering::Acquire), self.next, self.ring.size);
        }
        self.ready = self.ready.checked_sub(1)?;
        // SAFETY: the place lies in the ring, and the Acquire above orders this read after the kernel's write, which
        // does not touch it again before `release`. JUSTIFICATION: memory that the kernel wrote.
        let entry = unsafe { self.ring.entry(self.next).read() };
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// Gives the places of all popped entries back to the kernel.
    pub(super) fn release(&mut self) {
        // The kernel reads this cache line, so it is written only when the position has changed.
        if self.given_back != self.next {
            self.given_back = self.next;
            self.ring.consumer().store(self.next, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const SIZE: u32 = 8;

    /// Both ends of one ring in ordinary memory, whose positions begin at `start`.
    fn both(start: u32) -> (Producer<u64>, Consumer<u64>) {
        let offsets = libc::xdp_ring_offset { producer: 0, consumer: 64, flags: 128, desc: 192 };
        let mapping = Arc::new(Mapping::anonymous(4096).unwrap());
        let ring = || Ring::<u64>::new(mapping.clone(), &offsets, SIZE);
        ring().producer().store(start, Ordering::Relaxed);
        ring().consumer().store(start, Ordering::Relaxed);
        (Producer::new(ring()), Consumer::new(ring()))
    }

    proptest! {
        #[test]
        fn entries_come_out_once_and_in_order_also_where_positions_wrap_around(
            start in prop_oneof![any::<u32>(), (u32::MAX - 20)..=u32::MAX],
            steps in proptest::collection::vec((any::<bool>(), 0u32..12), 1..60),
        ) {
            let (mut producer, mut consumer) = both(start);
            let mut model = VecDeque::new();
            let mut number = 0u64;
            for (write, count) in steps {
                if write {
                    prop_assert_eq!(producer.room(), SIZE - model.len() as u32);
                    for _ in 0..count.min(producer.room()) {
                        producer.push(number);
                        model.push_back(number);
                        number += 1;
                    }
                    producer.submit();
                } else {
                    for _ in 0..count {
                        prop_assert_eq!(consumer.pop(), model.pop_front());
                    }
                    consumer.release();
                }
                prop_assert_eq!(producer.is_drained(), model.is_empty());
            }
        }

        #[test]
        fn positions_that_make_no_sense_are_no_entries(producer in any::<u32>(), consumer in any::<u32>()) {
            let used = between(producer, consumer, SIZE);
            prop_assert!(used <= SIZE);
            prop_assert!(used == 0 || consumer.wrapping_add(used) == producer);
        }
    }

    #[test]
    fn what_was_taken_back_was_never_there() {
        let (mut producer, mut consumer) = both(u32::MAX - 1);
        producer.push(1);
        let mark = producer.position();
        producer.push(2);
        producer.push(3);
        assert_eq!(
            [producer.take_back(mark), producer.take_back(mark), producer.take_back(mark)],
            [Some(3), Some(2), None]
        );
        producer.push(4);
        producer.submit();

        assert_eq!([consumer.pop(), consumer.pop(), consumer.pop()], [Some(1), Some(4), None]);
    }

    #[test]
    fn an_entry_is_seen_when_it_was_handed_over_and_its_place_is_free_when_it_was_given_back() {
        let (mut producer, mut consumer) = both(0);
        (0..8).for_each(|number| producer.push(number));
        assert_eq!((consumer.pop(), producer.room()), (None, 0));
        producer.submit();
        assert_eq!(consumer.pop(), Some(0));
        assert_eq!(producer.room(), 0);
        consumer.release();
        assert_eq!(producer.room(), 1);
    }
}
