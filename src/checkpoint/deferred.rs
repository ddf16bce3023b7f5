//! Bytes that are computed, inflated say, when they are first asked for. Those of a file that are asked for one after the
//! other are computed several at once.

use std::borrow::Cow;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;

use crate::error::{Error, ErrorKind, Result};

/// Bytes and how to make them.
pub(super) struct Deferred {
    len: usize,
    make: Box<dyn Fn() -> Result<Box<[u8]>> + Send + Sync>,
    /// The bytes, or what went wrong, which is told each time.
    made: OnceLock<Made>,
    ahead: Mutex<Ahead>,
    /// The place among those of the same file.
    queue: Option<(Arc<Queue>, usize)>,
}

type Made = Result<Box<[u8]>, (ErrorKind, String)>;

/// What was made before it was asked for.
enum Ahead {
    Nothing,
    Ready(Made),
    Taken,
}

/// The deferred bytes of one file, in the order in which they are likely to be asked for.
pub(super) struct Queue {
    members: Mutex<Vec<Weak<Deferred>>>,
    /// The place that was asked for last.
    last: AtomicUsize,
    /// Held while some are made ahead: one batch at a time.
    busy: Mutex<()>,
}

/// How far apart two places are at most for the later to follow the former: a reader may leave some out.
const NEAR: usize = 4;
/// As many are made ahead at most, and as many bytes for each thread.
const MEMBERS: usize = 256;
const BYTES: usize = 64 << 20;
/// Fewer bytes are not worth a thread.
const FEW: usize = 128 << 10;

impl Deferred {
    /// `len` bytes that `make` gives.
    pub(super) fn new(len: usize, make: impl Fn() -> Result<Box<[u8]>> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self::unqueued(len, make))
    }

    /// The same, after those that are in the queue already.
    pub(super) fn queued(
        queue: &Arc<Queue>,
        len: usize,
        make: impl Fn() -> Result<Box<[u8]>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let mut members = lock(&queue.members);
        let place = Some((Arc::clone(queue), members.len()));
        let deferred = Arc::new(Self { queue: place, ..Self::unqueued(len, make) });
        members.push(Arc::downgrade(&deferred));
        deferred
    }

    fn unqueued(len: usize, make: impl Fn() -> Result<Box<[u8]>> + Send + Sync + 'static) -> Self {
        Self { len, make: Box::new(make), made: OnceLock::new(), ahead: Mutex::new(Ahead::Nothing), queue: None }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The bytes, kept from now on.
    pub(super) fn bytes(&self) -> Result<&[u8]> {
        self.made.get_or_init(|| self.take()).as_deref().map_err(again)
    }

    /// The bytes, not kept if they were not before.
    pub(super) fn bytes_once(&self) -> Result<Cow<'_, [u8]>> {
        match self.made.get() {
            Some(_) => self.bytes().map(Cow::Borrowed),
            None => self.take().map(|bytes| Cow::Owned(bytes.into())).map_err(|error| again(&error)),
        }
    }

    fn take(&self) -> Made {
        if let Some((queue, place)) = &self.queue {
            queue.make_ahead(*place);
        }
        let ahead = std::mem::replace(&mut *lock(&self.ahead), Ahead::Taken);
        match ahead {
            Ahead::Ready(made) => made,
            Ahead::Nothing | Ahead::Taken => self.make(),
        }
    }

    fn make(&self) -> Made {
        let checked = (self.make)().and_then(|bytes| super::storage::check_len(bytes.len(), self.len).map(|()| bytes));
        checked.map_err(|error| (error.kind(), error.to_string()))
    }

    /// Whether nobody has asked for the bytes or makes them.
    fn is_untouched(&self) -> bool {
        self.ahead.try_lock().is_ok_and(|ahead| matches!(*ahead, Ahead::Nothing))
    }

    fn fill(&self) {
        if let Ok(mut ahead) = self.ahead.try_lock()
            && matches!(*ahead, Ahead::Nothing)
        {
            *ahead = Ahead::Ready(self.make());
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { members: Mutex::default(), last: AtomicUsize::new(usize::MAX), busy: Mutex::default() }
    }
}

impl Queue {
    /// Makes the bytes at a place and some after it with all threads, if the file is being read from one to the next.
    fn make_ahead(&self, place: usize) {
        let last = self.last.swap(place, Ordering::Relaxed);
        if !(1..=NEAR).contains(&place.abs_diff(last)) {
            return;
        }
        let Ok(_one) = self.busy.try_lock() else { return };
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let batch = self.batch(place, BYTES.saturating_mul(threads));
        if threads < 2 || batch.len() < 2 || batch.iter().map(|member| member.len).sum::<usize>() < FEW {
            return;
        }
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(member) = batch.get(next.fetch_add(1, Ordering::Relaxed)) {
                member.fill();
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads.min(batch.len()) {
                // Without another thread this one does it all.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
    }

    /// The place and those after it that are to be made, of at most `limit` bytes together; none if the place itself is
    /// made already.
    fn batch(&self, place: usize, limit: usize) -> Vec<Arc<Deferred>> {
        let members = lock(&self.members);
        let mut total = 0usize;
        let mut batch = Vec::new();
        for member in members[place..].iter().take(MEMBERS).filter_map(Weak::upgrade) {
            if !member.is_untouched() {
                match batch.is_empty() {
                    true => break,
                    false => continue,
                }
            }
            total = total.saturating_add(member.len);
            if total > limit {
                break;
            }
            batch.push(member);
        }
        batch
    }
}

fn again((kind, message): &(ErrorKind, String)) -> Error {
    Error::new(*kind, message.clone())
}

/// What a thread that panicked left is whole: it is replaced in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = FEW / 4;

    fn queue(count: usize) -> (Vec<Arc<Deferred>>, Arc<Vec<AtomicUsize>>) {
        let made: Arc<Vec<_>> = Arc::new((0..count).map(|_| AtomicUsize::new(0)).collect());
        let queue = Arc::new(Queue::default());
        let member = |i: usize| {
            let made = Arc::clone(&made);
            Deferred::queued(&queue, LEN, move || {
                made[i].fetch_add(1, Ordering::Relaxed);
                match i {
                    7 => Err(Error::invalid("seven is damaged")),
                    _ => Ok(vec![i as u8; LEN].into()),
                }
            })
        };
        ((0..count).map(member).collect(), made)
    }

    fn counts(made: &[AtomicUsize]) -> Vec<usize> {
        made.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn each_is_made_once_and_is_its_own() {
        for kept in [true, false] {
            let (members, made) = queue(20);
            for (i, member) in members.iter().enumerate() {
                let bytes = if kept { member.bytes().map(Cow::Borrowed) } else { member.bytes_once() };
                match i {
                    7 => assert_eq!(bytes.unwrap_err().to_string(), "seven is damaged"),
                    _ => assert_eq!(*bytes.unwrap(), [i as u8; LEN]),
                }
            }
            assert_eq!(counts(&made), [1; 20]);
        }
    }

    #[test]
    fn what_is_not_read_in_order_is_not_made_ahead() {
        let (members, made) = queue(20);
        for i in [0, 0, 9, 18, 3] {
            members[i].bytes().unwrap();
        }
        assert_eq!(counts(&made).iter().sum::<usize>(), 4);
        // From here on it is in order.
        members[4].bytes().unwrap();
        if thread::available_parallelism().is_ok_and(|threads| threads.get() > 1) {
            let all_after: Vec<_> = (0..20).map(|i| usize::from(i != 1 && i != 2)).collect();
            assert_eq!(counts(&made), all_after);
        }
    }

    #[test]
    fn threads_that_read_the_same_get_the_same() {
        let (members, made) = queue(20);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for (i, member) in members.iter().enumerate().filter(|(i, _)| *i != 7) {
                        assert_eq!(member.bytes().unwrap(), [i as u8; LEN]);
                    }
                });
            }
        });
        assert!(counts(&made).iter().all(|&count| count <= 1));
    }
}
