//! Memory that the tasks of one kernel write disjoint parts of.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice whose users promise to touch disjoint parts.
pub(crate) struct Shared<'a, T = f32> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

// SAFETY: it is a `&mut [T]`, and every way to its elements demands that no two threads touch the same ones.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrow: PhantomData }
    }

    /// The number of elements.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// # Safety
    /// Nobody else touches the elements of `range` while the slice lives.
    #[allow(clippy::mut_from_ref, reason = "the point of the type")]
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range lies inside the borrowed slice, and nobody else has this part.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// The address of element `at`, which may be one past the end.
    pub(crate) fn at(&self, at: usize) -> *mut T {
        assert!(at <= self.len);
        // SAFETY: it stays inside the borrowed slice or one past it.
        unsafe { self.start.add(at) }
    }
}
