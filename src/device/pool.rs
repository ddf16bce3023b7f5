//! The threads that share the work of a kernel.

use std::any::Any;
use std::cell::UnsafeCell;
use std::fmt;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A number of threads that wait for work together: the caller and some workers, which are started by the first work
/// that there is to share. Between two kernels they spin for some microseconds, then they sleep.
///
/// Nothing is allocated for a run. A run that begins while the threads are busy, from another thread or from inside a
/// task, is done by its caller alone.
pub(crate) struct Pool {
    threads: usize,
    workers: OnceLock<Workers>,
}

struct Workers {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
}

struct Shared {
    /// The number of the run in the upper half, in the lower half its tasks that nobody has taken.
    state: AtomicU64,
    /// Valid while the run in `state` has unfinished tasks; read only by those who have taken one of them.
    job: UnsafeCell<Job>,
    unfinished: AtomicUsize,
    /// Whether a run is under way.
    busy: AtomicBool,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `job` is written only by the thread that has set `busy`, while no task of the last run is unfinished, and is
// read only after a task of the present run was taken from `state`, which orders the write before the read.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is to something `Sync`.
unsafe impl Send for Shared {}

#[derive(Clone, Copy)]
struct Job {
    function: *const (),
    /// Calls `function` with the number of a task.
    call: unsafe fn(*const (), usize),
    tasks: usize,
}

/// The lower half of `Shared::state`.
const UNTAKEN: u64 = u32::MAX as u64;

/// How long a worker looks for work before it sleeps, at least and at most.
const SPIN: std::ops::RangeInclusive<Duration> = Duration::from_micros(5)..=Duration::from_micros(80);

impl Pool {
    /// A pool of this many threads, the calling one included.
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads: threads.max(1), workers: OnceLock::new() }
    }

    /// The number of threads, at least one.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `f` once with every number below `tasks`, in parallel, and returns when all calls have. A thread that is
    /// done with a task takes the next one.
    ///
    /// # Panics
    /// When a call panics, with what it panicked with.
    pub(crate) fn run<F: Fn(usize) + Sync>(&self, tasks: usize, f: F) {
        if self.threads == 1 || tasks <= 1 || tasks as u64 > UNTAKEN {
            return (0..tasks).for_each(f);
        }
        let shared = &self.workers.get_or_init(|| Workers::start(self.threads - 1)).shared;
        if shared.busy.swap(true, Ordering::Acquire) {
            return (0..tasks).for_each(f);
        }
        /// # Safety
        /// `function` is a valid `&F`.
        unsafe fn call<F: Fn(usize)>(function: *const (), task: usize) {
            // SAFETY: as the caller promises.
            unsafe { (*function.cast::<F>())(task) }
        }
        shared.run(Job { function: (&raw const f).cast(), call: call::<F>, tasks });
        let panic = lock(&shared.panic).take();
        shared.busy.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Shared {
    /// Shares the job; returns when every task is done. The caller has set `busy`.
    fn run(&self, job: Job) {
        // SAFETY: `busy` keeps other callers out, and no task of the last run is left.
        unsafe { *self.job.get() = job };
        self.unfinished.store(job.tasks, Ordering::Relaxed);
        let run = (self.state.load(Ordering::Relaxed) >> 32).wrapping_add(1) << 32;
        self.state.store(run | job.tasks as u64, Ordering::SeqCst);
        self.wake(job.tasks - 1);
        while self.take_task() {}
        let mut spins = 0u32;
        while self.unfinished.load(Ordering::Acquire) > 0 {
            spins += 1;
            match spins < 2000 {
                true => spin_loop(),
                // The worker may have lost its core.
                false => std::thread::yield_now(),
            }
        }
    }

    /// Wakes sleeping workers for this many tasks.
    fn wake(&self, tasks: usize) {
        let sleepers = self.sleepers.load(Ordering::SeqCst);
        if sleepers == 0 {
            return;
        }
        // Who counts as a sleeper holds the lock until it waits, so none misses this.
        drop(lock(&self.bed));
        match tasks < sleepers {
            true => (0..tasks).for_each(|_| self.wake.notify_one()),
            false => self.wake.notify_all(),
        }
    }

    /// Does one task of the present run, if one is left.
    fn take_task(&self) -> bool {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            let untaken = (state & UNTAKEN) as usize;
            if untaken == 0 {
                return false;
            }
            // The number of the run is part of the exchange, so a task of a later run is not taken by mistake.
            match self.state.compare_exchange_weak(state, state - 1, Ordering::AcqRel, Ordering::Acquire) {
                Err(now) => state = now,
                Ok(_) => {
                    self.do_task(untaken);
                    return true;
                }
            }
        }
    }

    /// Does the task that was taken when `untaken` were left.
    fn do_task(&self, untaken: usize) {
        // SAFETY: a task of this run is taken and unfinished, so the job stands.
        let job = unsafe { *self.job.get() };
        // SAFETY: the function lives until `run` returns, which waits for this task.
        let result = catch_unwind(AssertUnwindSafe(|| unsafe { (job.call)(job.function, job.tasks - untaken) }));
        if let Err(panic) = result {
            lock(&self.panic).get_or_insert(panic);
        }
        self.unfinished.fetch_sub(1, Ordering::Release);
    }

    fn has_work(&self) -> bool {
        self.state.load(Ordering::SeqCst) & UNTAKEN != 0 || self.stop.load(Ordering::SeqCst)
    }

    /// What a worker does.
    fn work(&self) {
        let mut patience = *SPIN.end();
        while !self.stop.load(Ordering::Relaxed) {
            if self.take_task() {
                continue;
            }
            if self.spin(patience) {
                patience = (patience * 2).min(*SPIN.end());
                continue;
            }
            // Nothing came: next time sleep sooner.
            patience = (patience / 2).max(*SPIN.start());
            let mut bed = lock(&self.bed);
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            while !self.has_work() {
                bed = self.wake.wait(bed).unwrap_or_else(PoisonError::into_inner);
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Looks for work for some time; says whether there is some.
    fn spin(&self, patience: Duration) -> bool {
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                if self.state.load(Ordering::Relaxed) & UNTAKEN != 0 || self.stop.load(Ordering::Relaxed) {
                    return true;
                }
                spin_loop();
            }
            if start.elapsed() > patience {
                return false;
            }
        }
    }
}

impl Workers {
    /// Starts as many workers as the system gives, up to `count`.
    fn start(count: usize) -> Self {
        unsafe fn nothing(_: *const (), _: usize) {}
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(Job { function: std::ptr::null(), call: nothing, tasks: 0 }),
            unfinished: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            wake: Condvar::new(),
        });
        let start = |index: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("sconce-{index}")).spawn(move || shared.work()).ok()
        };
        let handles = (1..=count).map_while(start).collect();
        Self { shared, handles }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.bed));
        self.shared.wake.notify_all();
        for handle in self.handles.drain(..) {
            // Tasks' panics were caught; nothing else in a worker panics.
            let _ = handle.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} threads)", self.threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every task is done once, however many there are.
    #[test]
    fn does_every_task_once() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for tasks in (0..200).chain([10_007]) {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, |task| {
                    counts[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts.iter().all(|count| count.load(Ordering::Relaxed) == 1),
                    "{threads} threads, {tasks} tasks"
                );
            }
        }
    }

    #[test]
    fn works_share_the_tasks() {
        let pool = Pool::new(2);
        let both = std::sync::Barrier::new(2);
        // Each task waits for the other one, so one thread alone would never finish.
        pool.run(2, |_| {
            both.wait();
        });
        // Also after the workers have gone to sleep.
        std::thread::sleep(Duration::from_millis(20));
        pool.run(2, |_| {
            both.wait();
        });
    }

    #[test]
    fn runs_from_several_threads_and_from_inside_a_task() {
        let pool = Pool::new(3);
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        pool.run(5, |_| {
                            pool.run(3, |_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 4 * 500 * 5 * 3);
    }

    #[test]
    fn panics_reach_the_caller() {
        let pool = Pool::new(2);
        for bad in 0..7 {
            let done = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(7, |task| {
                    assert!(task != bad, "task {task}");
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }));
            let message = *result.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(message, format!("task {bad}"));
            assert_eq!(done.load(Ordering::Relaxed), 6);
        }
        pool.run(7, |_| {});
    }
}
