//! Tiles of a transformed convolution whose inputs are not all finite. The transform mixes the inputs of a tile, so that
//! one NaN would spread over all of its outputs: these are computed by the definition.

use super::gemm::PanelShape;
use super::microkernel::winograd_inverse;
use super::winograd::{Run, points};

/// As a part of the largest of a channel's nine weights, what is taken for zero when they are computed back.
const LEAST_WEIGHT: f32 = 1e-6;

/// The outputs of the largest tile.
const MAX_OUTPUTS: usize = 16;

impl Run<'_> {
    /// The outputs of the tile at `[image, row, column]`, `size` of them, which belong to this task.
    pub(super) fn compute_directly(&self, [image, top, left]: [usize; 3], size: [usize; 2]) {
        let step = self.step;
        let shape = PanelShape::new(step.c_in, step.c_out, self.kernels);
        let [dy, dx] = step.dilation;
        let columns = shape.columns;
        let mut taps = vec![0.0; 9 * columns];
        let mut sums = vec![0.0; MAX_OUTPUTS * columns];
        for panel in 0..shape.count() {
            sums.fill(0.0);
            for channel in 0..step.c_in {
                self.taps(&shape, panel, channel, &mut taps);
                for (output, sums) in sums.chunks_exact_mut(columns).take(size[0] * size[1]).enumerate() {
                    let (row, column) = (top + output / size[1] * dy, left + output % size[1] * dx);
                    for (tap, taps) in taps.chunks_exact(columns).enumerate() {
                        if let Some(pixel) = self.pixel(image, row + tap / 3 * dy, column + tap % 3 * dx) {
                            let x = self.x[pixel + channel];
                            sums.iter_mut().zip(taps).for_each(|(sum, tap)| *sum += x * tap);
                        }
                    }
                }
            }
            let first = panel * columns;
            for (output, sums) in sums.chunks_exact(columns).take(size[0] * size[1]).enumerate() {
                let [height, width] = step.output;
                let (row, column) = (top + output / size[1] * dy, left + output % size[1] * dx);
                let at = ((image * height + row) * width + column) * step.c_out + first;
                // SAFETY: the outputs of this tile belong to this task.
                let y = unsafe { self.out.slice(at..at + shape.valid(panel)) };
                y.copy_from_slice(&sums[..y.len()]);
                self.epilogue.all(y, at, first, None);
            }
        }
    }

    /// Where a pixel of the padded image starts, if it is not padding.
    fn pixel(&self, image: usize, row: usize, column: usize) -> Option<usize> {
        let [height, width] = self.step.input;
        let row = row.checked_sub(self.step.padding[0]).filter(|&row| row < height)?;
        let column = column.checked_sub(self.step.padding[1]).filter(|&column| column < width)?;
        Some(((image * height + row) * width + column) * self.step.c_in)
    }

    /// The nine weights of an input channel and the outputs of a panel, from the transformed ones. What is left of a weight
    /// that is less than rounding makes of it is taken for zero, since an infinity times it is NaN.
    fn taps(&self, shape: &PanelShape, panel: usize, channel: usize, taps: &mut [f32]) {
        let n = self.side() + 2;
        debug_assert_eq!(n * n, points(self.side()));
        let (inverse, width) = (winograd_inverse(self.side()), shape.width(panel));
        for (tap, taps) in taps.chunks_exact_mut(shape.columns).enumerate() {
            taps.fill(0.0);
            for (i, a) in inverse[tap / 3] {
                for (j, b) in inverse[tap % 3] {
                    let at = (i * n + j) * shape.len() + shape.start(panel) + channel * width;
                    taps.iter_mut().zip(&self.weights[at..at + width]).for_each(|(tap, u)| *tap += a * b * u);
                }
            }
        }
        for lane in 0..width {
            let at = |tap: usize| tap * shape.columns + lane;
            let largest = (0..9).fold(0.0, |largest: f32, tap| largest.max(taps[at(tap)].abs()));
            for at in (0..9).map(at) {
                if taps[at].abs() < LEAST_WEIGHT * largest {
                    taps[at] = 0.0;
                }
            }
        }
    }
}
