//! The program's allocator: blocks one after the other, without a lock or a system call.
//!
//! Most commands need less than a mebibyte and end within a millisecond. The C library's allocator
//! would spend that on lists of free blocks, and musl's on several system calls. After the first
//! mebibyte, and for large blocks, memory comes from the C library, so a command that lives long
//! loses one mebibyte at most. While a [`super::handover::Window`] is open, all memory comes from
//! there.
//!
//! In debug builds it aborts a process that allocates between clone and exec. Another thread of an
//! embedding program may hold the C library's lock at the moment of the clone; in the child it would
//! never be released.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use super::handover;
use super::region::Region;

/// Bytes of the first region. Pages that are never used take no memory.
const SIZE: usize = 1 << 20;
/// The largest block that comes from it, so that a few buffers do not fill it.
const LARGEST: usize = SIZE / 16;

#[repr(align(4096))]
struct Memory(UnsafeCell<[MaybeUninit<u8>; SIZE]>);

// SAFETY: a thread only accesses the bytes of blocks that it was given. Blocks never overlap,
// because `Region::used` is moved by atomic operations only.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([MaybeUninit::uninit(); SIZE]));
static FIRST: Region = Region::open(SIZE);

/// The allocator, for the attribute `global_allocator` of a program.
pub struct Arena;

/// Where a block lies.
#[derive(Clone, Copy)]
enum Place {
    /// In a region, with the largest block that it hands out.
    Region(&'static Region, usize, usize),
    /// It is the C library's.
    System,
}

fn first() -> *mut u8 {
    MEMORY.0.get().cast()
}

fn place(block: *mut u8) -> Place {
    let offset = block.addr().wrapping_sub(first().addr());
    if offset < SIZE {
        return Place::Region(&FIRST, offset, LARGEST);
    }
    match handover::offset(block) {
        Some(offset) => Place::Region(&handover::WINDOW, offset, handover::SIZE),
        None => Place::System,
    }
}

/// A new block of a region.
fn take(layout: Layout) -> Option<*mut u8> {
    if handover::WINDOW.is_open() {
        match handover::WINDOW.take(layout, handover::SIZE) {
            Some(offset) => return Some(handover::block(offset)),
            None => handover::overflow(),
        }
    }
    FIRST.take(layout, LARGEST).map(|offset| first().wrapping_add(offset))
}

// SAFETY: a block is either `System`'s, whose guarantees hold, or lies in a region: then it has the
// size and the alignment of its layout, and no other block overlaps it until it is given back (see
// `take` and `move_end`). `place` tells them apart. Nothing here unwinds.
//
// None is inlined: thousands of calls would make the program 1.7 MB larger.
unsafe impl GlobalAlloc for Arena {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        fence();
        match take(layout) {
            Some(block) => block,
            // SAFETY: the caller's guarantee about `layout` also holds here.
            None => unsafe { System.alloc(layout) },
        }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        fence();
        match take(layout) {
            Some(block) => {
                // SAFETY: the block is new, ours, and has that many bytes. It may have been used before.
                unsafe { block.write_bytes(0, layout.size()) };
                block
            }
            // SAFETY: the caller's guarantee about `layout` also holds here.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        fence(); // freeing takes the same lock
        match place(block) {
            Place::Region(region, offset, _) => {
                region.move_end(offset + layout.size(), offset);
            }
            // SAFETY: no block of a region, so `System` allocated it, with this `layout`, as the
            // caller promises.
            Place::System => unsafe { System.dealloc(block, layout) },
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        fence();
        let Place::Region(region, offset, largest) = place(block) else {
            // SAFETY: as in `dealloc`; the caller promises a valid size. A block of `System` is
            // older than the window, so what is built now does not use it.
            return unsafe { System.realloc(block, layout, size) };
        };
        let fits = size <= largest && offset.checked_add(size).is_some_and(|end| end <= region.size());
        if (fits && region.move_end(offset + layout.size(), offset + size)) || size <= layout.size() {
            return block;
        }
        // SAFETY: the caller promises that `size`, rounded up to the alignment, is valid and not 0.
        let larger = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !larger.is_null() {
            // SAFETY: `larger` is a new block, so it does not overlap `block`; both have at least
            // the old size, which is the smaller one. `block` is not used after that.
            unsafe {
                larger.copy_from_nonoverlapping(block, layout.size());
                self.dealloc(block, layout);
            }
        }
        larger
    }
}

/// Aborts if this process was cloned and has not executed a program.
#[cfg(debug_assertions)]
fn fence() {
    if super::process::in_child() {
        const WORDS: &[u8] = b"emergence-runc: heap used between clone and exec\n";
        // SAFETY: write(2) reads WORDS.len() bytes of a constant; abort(3) takes no argument and
        // never returns.
        unsafe {
            libc::write(2, WORDS.as_ptr().cast(), WORDS.len());
            libc::abort();
        }
    }
}

#[cfg(not(debug_assertions))]
fn fence() {}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    /// One test, as all blocks are of the same static memory.
    #[test]
    fn blocks_grow_shrink_and_move() {
        let arena = Arena;
        // SAFETY: each block is passed on with the layout that it then has.
        unsafe {
            let first = arena.alloc(layout(100, 8));
            let second = arena.alloc(layout(100, 8));
            second.write_bytes(7, 100);
            assert_eq!(
                arena.realloc(second, layout(100, 8), 1000),
                second,
                "the last one grows in its place"
            );
            let moved = arena.realloc(first, layout(100, 8), 200);
            assert_ne!(moved, first, "another one is moved");
            assert_eq!(arena.realloc(second, layout(1000, 8), 10), second);
            moved.write_bytes(9, 200);
            arena.dealloc(moved, layout(200, 8));
            let zeroed = arena.alloc_zeroed(layout(200, 8));
            assert_eq!(zeroed, moved, "its place is used again");
            assert_eq!(std::slice::from_raw_parts(zeroed, 200), [0; 200]);
            assert_eq!(std::slice::from_raw_parts(second, 10), [7; 10]);
            let grown = arena.realloc(second, layout(10, 8), LARGEST + 1);
            assert!(matches!(place(grown), Place::System), "a block that grows leaves the region");
            assert_eq!(std::slice::from_raw_parts(grown, 10), [7; 10]);
            arena.dealloc(grown, layout(LARGEST + 1, 8));
        }
    }
}
