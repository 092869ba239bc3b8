//! Memory handed out in blocks, one after the other, by atomic operations only.

use std::alloc::Layout;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The largest alignment of a block in a region: a region's own.
const ALIGNMENT: usize = 4096;
/// [`Region::used`] of a region that hands out nothing.
const CLOSED: usize = usize::MAX;

/// A range of memory whose blocks lie one after the other. Only the last block can grow, shrink, or
/// be given back.
pub(super) struct Region {
    size: usize,
    /// Bytes from the start up to the end of the last block, or [`CLOSED`].
    used: AtomicUsize,
}

impl Region {
    /// A region of `size` bytes that hands out memory.
    pub(super) const fn open(size: usize) -> Self {
        Self { size, used: AtomicUsize::new(0) }
    }

    /// A region of `size` bytes that hands out none yet.
    pub(super) const fn closed(size: usize) -> Self {
        Self { size, used: AtomicUsize::new(CLOSED) }
    }

    /// Its size, in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Hands out memory from now on, the first block at `offset`.
    pub(super) fn begin(&self, offset: usize) {
        self.used.store(offset, Ordering::Release);
    }

    /// Hands out no more, and keeps all blocks as they are; returns the bytes used.
    pub(super) fn end(&self) -> usize {
        self.used.swap(CLOSED, Ordering::AcqRel)
    }

    /// Whether it hands out memory.
    pub(super) fn is_open(&self) -> bool {
        self.used.load(Ordering::Acquire) != CLOSED
    }

    /// The offset of a new block; `None` if it does not fit.
    pub(super) fn take(&self, layout: Layout, largest: usize) -> Option<usize> {
        if layout.size() > largest || layout.align() > ALIGNMENT {
            return None;
        }
        let mut used = self.used.load(Ordering::Acquire);
        loop {
            let offset = used.checked_next_multiple_of(layout.align())?;
            let end = offset.checked_add(layout.size()).filter(|end| *end <= self.size)?;
            match self.used.compare_exchange_weak(used, end, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(offset),
                Err(now) => used = now,
            }
        }
    }

    /// Moves the end of the block that ends at `end` to `new`; `false` if it is not the last block.
    pub(super) fn move_end(&self, end: usize, new: usize) -> bool {
        self.used.compare_exchange(end, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 1 << 20;
    const LARGEST: usize = SIZE / 16;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn blocks_of_a_region_are_aligned_and_do_not_overlap() {
        let region = Region::open(SIZE);
        let mut end = 0;
        for (size, align) in [(1, 1), (3, 8), (100, 64), (1, 4096), (LARGEST, 1)] {
            let offset = region.take(layout(size, align), LARGEST).unwrap();
            assert!(offset >= end && offset.is_multiple_of(align), "{size} {align}");
            end = offset + size;
        }
        assert_eq!(region.take(layout(LARGEST + 1, 1), LARGEST), None);
        assert_eq!(region.take(layout(1, 8192), LARGEST), None);
        while region.take(layout(LARGEST, 1), LARGEST).is_some() {}
        assert!(region.used.load(Ordering::Relaxed) <= SIZE);
    }

    #[test]
    fn a_closed_region_keeps_its_blocks() {
        let region = Region::closed(SIZE);
        assert_eq!(region.take(layout(1, 1), SIZE), None);
        region.begin(16);
        let offset = region.take(layout(100, 8), SIZE).unwrap();
        assert_eq!((offset, region.end()), (16, 116));
        assert!(!region.is_open());
        assert!(!region.move_end(116, 16), "its last block is not given back");
        assert_eq!(region.take(layout(1, 1), SIZE), None);
    }
}
