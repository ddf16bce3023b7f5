//! Runs that were begun: waited for, or polled as futures.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A run that was begun. As a future it blocks no thread.
pub(crate) enum Started {
    Done(Vec<Tensor>),
    /// A thread computes it.
    Thread(Arc<Handoff>),
    #[cfg(feature = "gpu")]
    Running(super::gpu::Running),
}

/// Where a thread leaves its result.
#[derive(Default)]
pub(crate) struct Handoff(Mutex<(Option<Result<Vec<Tensor>>>, Option<Waker>)>);

impl Started {
    /// Computes on a thread of its own.
    pub(crate) fn on_thread(work: impl FnOnce() -> Result<Vec<Tensor>> + Send + 'static) -> Result<Self> {
        let handoff = Arc::new(Handoff::default());
        let target = Arc::clone(&handoff);
        let run = move || {
            let panicked = |_| Err(Error::device("the thread of the run panicked"));
            let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked);
            let mut guard = target.0.lock().unwrap_or_else(PoisonError::into_inner);
            guard.0 = Some(result);
            if let Some(waker) = guard.1.take() {
                waker.wake();
            }
        };
        std::thread::Builder::new()
            .name("sconce-run".into())
            .spawn(run)
            .map_err(|error| Error::device(format!("no thread can be started: {error}")))?;
        Ok(Self::Thread(handoff))
    }

    /// Waits for the outputs of a run that no thread computes.
    pub(crate) fn wait(self) -> Result<Vec<Tensor>> {
        match self {
            Self::Done(outputs) => Ok(outputs),
            Self::Thread(_) => unreachable!("only futures are left to a thread"),
            #[cfg(feature = "gpu")]
            Self::Running(running) => running.wait(),
        }
    }
}

impl Future for Started {
    type Output = Result<Vec<Tensor>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Done(outputs) => Poll::Ready(Ok(std::mem::take(outputs))),
            Self::Thread(handoff) => {
                let mut guard = handoff.0.lock().unwrap_or_else(PoisonError::into_inner);
                match guard.0.take() {
                    Some(result) => Poll::Ready(result),
                    None => {
                        guard.1 = Some(context.waker().clone());
                        Poll::Pending
                    }
                }
            }
            #[cfg(feature = "gpu")]
            Self::Running(running) => running.poll(context),
        }
    }
}
