//! The threads that share the work of a kernel.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of threads.
#[derive(Debug)]
pub(crate) struct Pool {
    threads: usize,
}

impl Pool {
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads: threads.max(1) }
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `f` with every number below `tasks`.
    pub(crate) fn run(&self, tasks: usize, f: impl Fn(usize) + Sync) {
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    break;
                }
                f(task);
            }
        };
        if self.threads.min(tasks) <= 1 {
            return work();
        }
        std::thread::scope(|scope| {
            for _ in 1..self.threads.min(tasks) {
                scope.spawn(work);
            }
            work();
        });
    }
}
