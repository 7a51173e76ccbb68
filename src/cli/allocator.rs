//! The allocator of the command: the system's, with an error where there is no memory left.

use std::alloc::{GlobalAlloc, Layout, System};

/// As [`System`], but that the process ends with exit code 1 and one line where memory cannot be
/// had, for instance under `RLIMIT_AS`. Rust's own answer is SIGABRT.
#[derive(Debug)]
pub struct Allocator;

/// Returns what was allocated, if it was.
fn or_end(start: *mut u8) -> *mut u8 {
    if start.is_null() {
        end();
    }
    start
}

#[cold]
fn end() -> ! {
    const SAID: &[u8] =
        b"sendpath: malloc(3): Cannot allocate memory (os error 12): the cause is not known; what can be \
        looked at: RLIMIT_AS (ulimit -v), RLIMIT_DATA (ulimit -d), the memory that is left\n";
    // SAFETY: the text is static. Neither call allocates.
    unsafe {
        libc::write(libc::STDERR_FILENO, SAID.as_ptr().cast(), SAID.len());
        libc::_exit(1)
    }
}

// SAFETY: all is the system allocator's, whose answers are returned as they are.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        or_end(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        or_end(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        or_end(unsafe { System.realloc(start, layout, new_bytes) })
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(start, layout) }
    }
}
