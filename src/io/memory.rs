//! Advises the operating system on memory that the program owns.

/// Asks the kernel to back `memory` with huge pages when it is touched (madvise(2)), so that random accesses to a large
/// table cause fewer TLB misses. If the advice is not taken, only speed is lost.
pub fn advise_huge_pages<T>(memory: &[T]) {
    const PAGE: usize = 4096;
    let range = memory.as_ptr_range();
    // Whole pages inside the slice, so that no other memory is affected.
    let start = (range.start as usize).next_multiple_of(PAGE);
    let end = range.end as usize / PAGE * PAGE;
    if let Some(bytes) = end.checked_sub(start).filter(|bytes| *bytes > 0) {
        // SAFETY: the range lies in memory that is borrowed, and the advice changes neither its contents nor who may
        // read it. JUSTIFICATION: the standard library has no madvise.
        unsafe { libc::madvise(start as *mut libc::c_void, bytes, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_leaves_memory_as_it_is_whatever_its_size() {
        for size in [0, 1, 4095, 4096, 100_000, 5 << 20] {
            let memory = vec![7_u8; size];
            advise_huge_pages(&memory);
            advise_huge_pages(&memory[size / 3..]);
            assert!(memory.iter().all(|byte| *byte == 7));
        }
    }
}
