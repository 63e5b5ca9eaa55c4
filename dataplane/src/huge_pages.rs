//! Large allocations on huge pages: the program's allocator.
//!
//! The tables are hundreds of megabytes that are read at random: on pages of 4 KiB nearly every look costs a walk of the
//! page table too. So what is 2 MiB or more, which is tables and little else, gets a mapping of its own that begins at a
//! huge page's boundary, and asks the kernel for transparent huge pages (`MADV_HUGEPAGE`, which counts where
//! `/sys/kernel/mm/transparent_hugepage/enabled` says `madvise`, the usual setting, or `always`). Where the kernel has none
//! it gives ordinary pages. Whatever is smaller is the system allocator's.
//!
//! The pages reserved in hugetlbfs are left to the EAL, which has counted on them. `eal.hugepages = "never"` switches it
//! off ([`forbid`]).
//!
//! One million sessions, Xeon 2.5 GHz, 2026-11-22: a lookup 60 -> 33 ns, a whole hit 128 -> 71 ns, a first packet 1.23 -> 0.94 us
//! (`perf/results/2026-11-22-huge-pages.md`).

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// The allocator.
#[derive(Debug)]
pub struct HugePages;

/// From here on large allocations get ordinary pages.
pub fn forbid() {
    // Relaxed: which pages an allocation gets orders nothing.
    IS_FORBIDDEN.store(true, Ordering::Relaxed);
}

// SAFETY: an allocation is from `map` or from `System` by its layout alone, so it is given back to where it came from. `map`
// gives memory of at least the layout's size, aligned to a huge page and so to the layout's alignment, that nobody else has.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return map(layout.size());
        }
        // SAFETY: the caller's promise: the layout is not of size zero.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            // New pages are zero.
            return map(layout.size());
        }
        // SAFETY: the caller's promise: the layout is not of size zero.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if is_large(layout) {
            // SAFETY: the caller's promise: `memory` is of this layout, and so, being large, from `map`.
            return unsafe { unmap(memory, pages(layout.size())) };
        }
        // SAFETY: the caller's promise: `memory` is of this layout, and so, being small, from `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// An alignment above a huge page's, which nothing here has, is left to the system.
const fn is_large(layout: Layout) -> bool {
    layout.size() >= HUGE_PAGE_BYTES && layout.align() <= HUGE_PAGE_BYTES
}

/// New memory of `size` bytes that begins at a huge page's boundary; null when there is none.
fn map(size: usize) -> *mut u8 {
    let size = pages(size);
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // Room to begin at a boundary: what is before and behind goes back.
    let Some(room) = size.checked_add(HUGE_PAGE_BYTES) else { return ptr::null_mut() };
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let Ok(start) = (unsafe { mmap_anonymous(ptr::null_mut(), room, protection, flags) }) else {
        return ptr::null_mut();
    };
    let start = start.cast::<u8>();
    let before = start.align_offset(HUGE_PAGE_BYTES);
    let memory = start.wrapping_add(before);
    // SAFETY: the first pages of the mapping just made, which nobody knows of.
    unsafe { unmap(start, before) };
    // SAFETY: its last ones.
    unsafe { unmap(memory.wrapping_add(size), HUGE_PAGE_BYTES - before) };
    if !IS_FORBIDDEN.load(Ordering::Relaxed) {
        // SAFETY: the range is the mapping just made, and the advice does not change what it holds.
        let _without_huge_pages = unsafe { madvise(memory.cast::<c_void>(), size, Advice::LinuxHugepage) };
    }
    memory
}

/// Gives whole pages back.
///
/// # Safety
/// The range lies in a mapping of [`map`], and nothing points into it any more.
unsafe fn unmap(memory: *mut u8, size: usize) {
    if size > 0 {
        // SAFETY: the caller's promise.
        let _always_works = unsafe { munmap(memory.cast::<c_void>(), size) };
    }
}

const fn pages(size: usize) -> usize {
    size.next_multiple_of(PAGE_BYTES)
}

static IS_FORBIDDEN: AtomicBool = AtomicBool::new(false);

const HUGE_PAGE_BYTES: usize = 2 << 20;
const PAGE_BYTES: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_allocations_are_aligned_zero_and_apart() {
        let sizes = [HUGE_PAGE_BYTES, HUGE_PAGE_BYTES + 1, 5 * HUGE_PAGE_BYTES + 4_097, 10_000];
        let layouts = sizes.map(|size| Layout::from_size_align(size, 64).expect("a layout"));
        // SAFETY: no layout is of size zero.
        let blocks = layouts.map(|layout| unsafe { HugePages.alloc_zeroed(layout) });
        for ((block, layout), number) in blocks.iter().zip(layouts).zip(1..) {
            assert!(!block.is_null());
            assert!(!is_large(layout) || block.addr() % HUGE_PAGE_BYTES == 0);
            // SAFETY: the block has this size, is initialised, and is this test's alone.
            let bytes = unsafe { std::slice::from_raw_parts_mut(*block, layout.size()) };
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(number);
        }
        for ((block, layout), number) in blocks.iter().zip(layouts).zip(1..) {
            // SAFETY: as above.
            let bytes = unsafe { std::slice::from_raw_parts(*block, layout.size()) };
            assert!(bytes.iter().all(|byte| *byte == number));
            // SAFETY: the block is of this layout, and used no more.
            unsafe { HugePages.dealloc(*block, layout) };
        }
    }

    #[test]
    fn a_vector_grows_from_one_kind_to_the_other_and_back() {
        let small = Layout::from_size_align(4_096, 8).expect("a layout");
        // SAFETY: the layout is not of size zero.
        let block = unsafe { HugePages.alloc(small) };
        // SAFETY: the block is 4,096 bytes of this test's own.
        unsafe { block.write_bytes(7, small.size()) };
        // SAFETY: the block is of this layout, and the new size is neither zero nor too large.
        let grown = unsafe { HugePages.realloc(block, small, 3 * HUGE_PAGE_BYTES) };
        let large = Layout::from_size_align(3 * HUGE_PAGE_BYTES, 8).expect("a layout");
        // SAFETY: as before.
        let shrunk = unsafe { HugePages.realloc(grown, large, small.size()) };
        // SAFETY: the block has this size, was filled above, and is this test's alone.
        let bytes = unsafe { std::slice::from_raw_parts(shrunk, small.size()) };
        assert!(bytes.iter().all(|byte| *byte == 7));
        // SAFETY: the block is of this layout, and used no more.
        unsafe { HugePages.dealloc(shrunk, small) };
    }
}
