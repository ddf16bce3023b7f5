//! Strided views, by the rules of `torch.Tensor.view`.

/// A strided view of a buffer: sizes, strides and the position of the first element, in elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
    pub(crate) offset: usize,
}

impl View {
    /// A dense view whose dimensions lie in memory in the order `order`, outermost first.
    pub(crate) fn dense(shape: &[usize], order: &[usize]) -> Self {
        let mut strides = vec![0; shape.len()];
        let mut stride = 1;
        for &dim in order.iter().rev() {
            strides[dim] = stride;
            stride *= shape[dim].max(1);
        }
        Self { shape: shape.to_vec(), strides, offset: 0 }
    }

    /// A row-major view.
    pub(crate) fn contiguous(shape: &[usize]) -> Self {
        Self::dense(shape, &(0..shape.len()).collect::<Vec<_>>())
    }

    pub(crate) fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the dimensions lie in memory in the order `order` without gaps. Dimensions of size 1 lie anywhere.
    pub(crate) fn is_dense_in(&self, order: &[usize]) -> bool {
        let dense = View::dense(&self.shape, order);
        self.numel() == 0 || (0..self.shape.len()).all(|d| self.shape[d] == 1 || self.strides[d] == dense.strides[d])
    }

    /// Whether the elements are row-major without gaps.
    pub(crate) fn is_contiguous(&self) -> bool {
        self.is_dense_in(&(0..self.shape.len()).collect::<Vec<_>>())
    }

    /// The order of the dimensions in memory, outermost first: row-major where that is true, else channels last where
    /// that is true, else by stride. The view need not be dense.
    pub(crate) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.shape.len()).collect();
        if self.is_dense_in(&order) {
            return order;
        }
        if self.shape.len() == 4 && self.is_dense_in(&CHANNELS_LAST) {
            return CHANNELS_LAST.to_vec();
        }
        // Stable: broadcast and unit dimensions keep their place before what follows them.
        order.sort_by(|&a, &b| self.strides[b].cmp(&self.strides[a]));
        order
    }

    pub(crate) fn permute(&self, dims: &[usize]) -> Self {
        Self {
            shape: dims.iter().map(|&d| self.shape[d]).collect(),
            strides: dims.iter().map(|&d| self.strides[d]).collect(),
            offset: self.offset,
        }
    }

    pub(crate) fn slice(&self, dim: usize, start: usize, step: usize, len: usize) -> Self {
        let mut view = self.clone();
        view.offset += if len == 0 { 0 } else { start * self.strides[dim] };
        view.strides[dim] *= step;
        view.shape[dim] = len;
        view
    }

    /// Broadcasts to `shape`, which has at least as many dimensions.
    pub(crate) fn expand(&self, shape: &[usize]) -> Self {
        let lead = shape.len() - self.shape.len();
        let stride = |d: usize| match d.checked_sub(lead) {
            Some(own) if self.shape[own] == shape[d] => self.strides[own],
            _ => 0,
        };
        Self { shape: shape.to_vec(), strides: (0..shape.len()).map(stride).collect(), offset: self.offset }
    }

    /// The same elements in row-major order as `shape`, or `None` when no strides express that.
    pub(crate) fn reshape(&self, shape: &[usize]) -> Option<Self> {
        if self.numel() == 0 {
            return Some(Self { offset: self.offset, ..View::contiguous(shape) });
        }
        // Runs of dimensions that are contiguous among themselves, innermost run last.
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (&size, &stride) in self.shape.iter().zip(&self.strides).filter(|(size, _)| **size != 1) {
            match runs.last_mut() {
                Some((len, inner)) if *inner == stride * size => (*len, *inner) = (*len * size, stride),
                _ => runs.push((size, stride)),
            }
        }
        let mut strides = vec![0; shape.len()];
        let (mut run, mut inner) = (runs.pop(), 1);
        for d in (0..shape.len()).rev() {
            if shape[d] == 1 {
                strides[d] = run.map_or(1, |(_, stride)| stride * inner);
                continue;
            }
            if run.is_some_and(|(len, _)| inner == len) {
                (run, inner) = (runs.pop(), 1);
            }
            let (len, stride) = run?;
            strides[d] = stride * inner;
            inner *= shape[d];
            if len % inner != 0 {
                return None;
            }
        }
        Some(Self { shape: shape.to_vec(), strides, offset: self.offset })
    }
}

/// The order in memory of the dimensions of an NHWC image whose shape is written NCHW.
pub(crate) const CHANNELS_LAST: [usize; 4] = [0, 2, 3, 1];

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(view: &View) -> Vec<usize> {
        let mut out = vec![];
        for i in 0..view.numel() {
            let (mut rest, mut at) = (i, view.offset);
            for d in (0..view.shape.len()).rev() {
                at += rest % view.shape[d] * view.strides[d];
                rest /= view.shape[d];
            }
            out.push(at);
        }
        out
    }

    #[test]
    fn reshapes_keep_the_row_major_order_or_refuse() {
        let sizes = [vec![24], vec![4, 6], vec![2, 3, 4], vec![1, 24, 1], vec![2, 1, 2, 6], vec![3, 8], vec![12, 2]];
        let base = View::contiguous(&[2, 3, 4]);
        let mut kept = 0;
        for view in [
            base.clone(),
            base.permute(&[0, 2, 1]),
            base.permute(&[2, 0, 1]),
            View::dense(&[2, 4, 3, 1], &CHANNELS_LAST),
            View::contiguous(&[4, 3, 4]).slice(0, 1, 2, 2),
            View::contiguous(&[2, 1, 4]).expand(&[2, 3, 4]),
        ] {
            for shape in &sizes {
                if let Some(reshaped) = view.reshape(shape) {
                    assert_eq!(elements(&reshaped), elements(&view), "{view:?} as {shape:?}");
                    kept += 1;
                } else {
                    assert!(!view.is_contiguous(), "{view:?} as {shape:?}");
                }
            }
        }
        assert!(kept > 10, "{kept}");
    }

    #[test]
    fn merges_the_pixels_of_an_image_without_a_copy() {
        let image = View::dense(&[2, 768, 14, 14], &CHANNELS_LAST);
        let tokens = image.reshape(&[2, 768, 196]).unwrap().permute(&[0, 2, 1]);
        assert!(tokens.is_contiguous());
    }
}
