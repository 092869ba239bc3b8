//! In debug builds: an allocator that aborts if the process between clone and exec uses the heap.
//!
//! Another thread of an embedding program may hold malloc's lock at the moment of the clone; in the
//! child it would never be released. Every end-to-end test with a debug build proves that we never
//! allocate.

use std::alloc::{GlobalAlloc, Layout, System};

use super::process::in_child;

/// The system allocator with an abort guard.
pub struct Guard;

fn fence() {
    if in_child() {
        const WORDS: &[u8] = b"emergence-runc: heap used between clone and exec\n";
        // SAFETY: write(2) reads WORDS.len() bytes of a constant; abort(3) takes no argument and
        // never returns.
        unsafe {
            libc::write(2, WORDS.as_ptr().cast(), WORDS.len());
            libc::abort();
        }
    }
}

// SAFETY: every call is passed to `System` unchanged, so its guarantees hold; `fence` neither
// allocates nor unwinds.
unsafe impl GlobalAlloc for Guard {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        fence();
        // SAFETY: the caller's guarantee about `layout` also holds here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // Freeing takes the same lock.
        fence();
        // SAFETY: `block` came from `alloc` above with this `layout`, as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static GUARD: Guard = Guard;
