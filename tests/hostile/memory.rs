//! Counts what is allocated, so that a file that makes the reader take much memory fails the tests.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

/// More than any hostile file here may cost: the largest are a few MiB of pickle.
const LIMIT: usize = 512 << 20;

static USED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// What this thread has allocated, less what it has freed, and the most that it was.
    static THREAD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    // A thread that ends frees after its counters are gone.
    let _ = THREAD.try_with(|thread| {
        let (used, most) = thread.get();
        thread.set((used + bytes, most.max(used + bytes)));
    });
}

/// What `work` gives, and the most memory that it had at once.
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let start = THREAD.with(|thread| {
        let (used, _) = thread.get();
        thread.set((used, used));
        used
    });
    let result = work();
    let most = THREAD.with(|thread| thread.get().1);
    (result, (most - start).unsigned_abs())
}

// SAFETY: every request is passed on to the system's allocator as it is; a null pointer means that there is no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if USED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size() > LIMIT {
            USED.fetch_sub(layout.size(), Ordering::Relaxed);
            return std::ptr::null_mut();
        }
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
