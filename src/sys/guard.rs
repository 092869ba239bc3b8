//! In debug builds: an allocator that aborts when the process between clone and exec uses the heap.
//!
//! Another thread of an embedding program could hold malloc's lock at the moment of the clone, and nobody would ever let it
//! go in the child. Every end-to-end test with a debug build proves that we never ask.

use std::alloc::{GlobalAlloc, Layout, System};

use super::process::in_child;

/// The system's allocator, fenced.
pub struct Guard;

fn fence() {
    if in_child() {
        const WORDS: &[u8] = b"emergence-runc: heap used between clone and exec\n";
        // SAFETY: write(2) reads WORDS.len() bytes of a constant; abort(3) never returns and takes no argument.
        unsafe {
            libc::write(2, WORDS.as_ptr().cast(), WORDS.len());
            libc::abort();
        }
    }
}

// SAFETY: every call goes to `System` unchanged, so its promises hold; `fence` neither allocates nor unwinds.
unsafe impl GlobalAlloc for Guard {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        fence();
        // SAFETY: the caller's promise about `layout` is passed on as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // Giving back would take the same lock.
        fence();
        // SAFETY: `block` came from `alloc` above with this `layout`, as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static GUARD: Guard = Guard;
