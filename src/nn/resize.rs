//! Upsample, PixelShuffle, PixelUnshuffle, ChannelShuffle.

use super::module::Module;
use super::repr::float;
use crate::error::{Error, Result};
use crate::graph::{Graph, Var};
use crate::tensor::Tensor;

/// How [`Upsample`] computes new elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpsampleMode {
    /// The element at the rounded down position.
    Nearest,
    /// The element whose centre is nearest.
    NearestExact,
    /// Linear along one dimension.
    Linear,
    /// Linear along two.
    Bilinear,
    /// Linear along three.
    Trilinear,
    /// By cubic polynomials along two dimensions.
    Bicubic,
}

impl UpsampleMode {
    /// PyTorch's name: `nearest-exact`.
    pub fn name(self) -> &'static str {
        match self {
            UpsampleMode::Nearest => "nearest",
            UpsampleMode::NearestExact => "nearest-exact",
            UpsampleMode::Linear => "linear",
            UpsampleMode::Bilinear => "bilinear",
            UpsampleMode::Trilinear => "trilinear",
            UpsampleMode::Bicubic => "bicubic",
        }
    }

    /// The number of dimensions that it works on, unless that is free.
    fn rank(self) -> Option<usize> {
        match self {
            UpsampleMode::Nearest | UpsampleMode::NearestExact => None,
            UpsampleMode::Linear => Some(1),
            UpsampleMode::Bilinear | UpsampleMode::Bicubic => Some(2),
            UpsampleMode::Trilinear => Some(3),
        }
    }
}

/// Another size of the dimensions after the first two: `[N, C, H, W]` gives `[N, C, H_out, W_out]`.
///
/// [`nn.Upsample`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Upsample.html).
pub struct Upsample {
    class: &'static str,
    /// One size for all dimensions or one for each.
    size: Vec<usize>,
    /// The factors, when there is no size.
    scale_factor: Vec<f64>,
    mode: UpsampleMode,
    align_corners: bool,
    recompute_scale_factor: bool,
}

crate::module!(@structure Upsample, |upsample: &Upsample| upsample.class,);

impl Upsample {
    /// To a size: one number for all dimensions, or one for each.
    pub fn size(size: impl Into<Vec<usize>>) -> Self {
        Self::new(size.into(), Vec::new())
    }

    /// By a factor: one for all dimensions, or one for each.
    pub fn scale_factor(factor: impl Into<Vec<f64>>) -> Self {
        Self::new(Vec::new(), factor.into())
    }

    fn new(size: Vec<usize>, scale_factor: Vec<f64>) -> Self {
        let mode = UpsampleMode::Nearest;
        Self { class: "Upsample", size, scale_factor, mode, align_corners: false, recompute_scale_factor: false }
    }

    /// Prints as the subclass `class`.
    pub(crate) fn named(mut self, class: &'static str) -> Self {
        self.class = class;
        self
    }

    /// How new elements are computed: [`UpsampleMode::Nearest`] by default.
    #[must_use]
    pub fn mode(mut self, mode: UpsampleMode) -> Self {
        self.mode = mode;
        self
    }

    /// Whether the first and last elements stay where they are: not by default. Only for the linear and cubic modes.
    #[must_use]
    pub fn align_corners(mut self, align: bool) -> Self {
        self.align_corners = align;
        self
    }

    /// Whether positions are computed with the ratio of the sizes rather than the factor: not by default.
    #[must_use]
    pub fn recompute_scale_factor(mut self, recompute: bool) -> Self {
        self.recompute_scale_factor = recompute;
        self
    }

    /// The size along dimension `i` of `rank`, from `size` elements, and the step in the input for one in the output.
    fn output(&self, i: usize, size: usize) -> Result<(usize, f32)> {
        let pick = |i: usize, len: usize| if len == 1 { 0 } else { i };
        let (out, factor) = match self.size.is_empty() {
            false => (self.size[pick(i, self.size.len())], None),
            true => {
                let factor = self.scale_factor[pick(i, self.scale_factor.len())];
                ((size as f64 * factor).floor() as usize, Some(factor).filter(|_| !self.recompute_scale_factor))
            }
        };
        if out == 0 || size == 0 || out > 1 << 24 {
            return Err(Error::shape(format!("upsample: {size} elements do not become {out}")));
        }
        let ratio = match (self.align_corners, factor) {
            (true, _) if out == 1 => 0.0,
            (true, _) => (size - 1) as f32 / (out - 1) as f32,
            (false, Some(factor)) => (1.0 / factor) as f32,
            (false, None) => size as f32 / out as f32,
        };
        Ok((out, ratio))
    }

    /// Where the elements along a dimension come from: of each tap, the positions in the input and their weights.
    fn taps(&self, size: usize, out: usize, ratio: f32) -> Vec<Tap> {
        let last = size as i64 - 1;
        let centre = |i: usize| if self.align_corners { ratio * i as f32 } else { ratio * (i as f32 + 0.5) - 0.5 };
        let tap = |of: &dyn Fn(usize) -> (i64, f32)| Tap {
            positions: (0..out).map(|i| of(i).0.clamp(0, last)).collect(),
            weights: Some((0..out).map(|i| of(i).1).collect()),
        };
        match self.mode {
            UpsampleMode::Nearest | UpsampleMode::NearestExact => {
                let shift = if self.mode == UpsampleMode::Nearest { 0.0 } else { 0.5 };
                let position = |i: usize| (((i as f32 + shift) * ratio).floor() as i64).clamp(0, last);
                vec![Tap { positions: (0..out).map(position).collect(), weights: None }]
            }
            UpsampleMode::Bicubic => (-1..3i64)
                .map(|k| {
                    tap(&|i| {
                        let floor = centre(i).floor();
                        (floor as i64 + k, cubic((centre(i) - floor - k as f32).abs()))
                    })
                })
                .collect(),
            _ => {
                let split = |i: usize| {
                    let x = centre(i).max(0.0);
                    let floor = (x as i64).min(last);
                    (floor, (x - floor as f32).clamp(0.0, 1.0))
                };
                vec![tap(&|i| (split(i).0, 1.0 - split(i).1)), tap(&|i| (split(i).0 + 1, split(i).1))]
            }
        }
    }
}

/// One of the elements that a new element is made of.
struct Tap {
    positions: Vec<i64>,
    /// 1 when there are none.
    weights: Option<Vec<f32>>,
}

/// The cubic convolution kernel with PyTorch's constant.
fn cubic(x: f32) -> f32 {
    const A: f32 = -0.75;
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

impl Module for Upsample {
    fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
        let shape = graph.shape(x).clone();
        let rank = shape.len().saturating_sub(2);
        let given = self.size.len().max(self.scale_factor.len());
        let fits = self.mode.rank().is_none_or(|own| own == rank) && (given == 1 || given == rank);
        if !(1..=3).contains(&rank) || !fits {
            let mode = self.mode.name();
            return Err(Error::shape(format!("upsample: an input {shape} does not fit the mode `{mode}`")));
        }
        let mut y = x;
        for i in 0..rank {
            let size = shape[i + 2];
            let (out, ratio) = self.output(i, size)?;
            y = resample(graph, y, i + 2, &self.taps(size, out, ratio))?;
        }
        Ok(y)
    }

    fn extra_repr(&self) -> String {
        let what = match self.size.is_empty() {
            true => format!("scale_factor={}", one_or_all(self.scale_factor.iter().map(|&x| float(x)))),
            false => format!("size={}", one_or_all(self.size.iter().map(usize::to_string))),
        };
        format!("{what}, mode='{}'", self.mode.name())
    }
}

fn one_or_all(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.len() == 1 { items[0].clone() } else { format!("({})", items.join(", ")) }
}

/// The sum over the taps of the elements at their positions along `dim`, times their weights.
fn resample(graph: &mut Graph, x: Var, dim: usize, taps: &[Tap]) -> Result<Var> {
    // Rows of a table are gathered, so the dimension comes first.
    let moved = graph.transpose(x, 0, dim as isize)?;
    let shape = graph.shape(moved).clone();
    let table = graph.flatten(moved, 1, -1)?;
    let mut sum: Option<Var> = None;
    for Tap { positions, weights } in taps {
        let out = positions.len();
        let indices = graph.constant(Tensor::new([out], positions.clone())?)?;
        let mut rows = graph.embedding(indices, table)?;
        if let Some(weights) = weights {
            let weights = graph.constant(Tensor::new([out, 1], weights.clone())?)?;
            rows = graph.mul(rows, weights)?;
        }
        sum = Some(match sum {
            Some(sum) => graph.add(sum, rows)?,
            None => rows,
        });
    }
    let sum = sum.expect("one tap at least");
    let mut sizes: Vec<isize> = shape.iter().map(|&size| size as isize).collect();
    sizes[0] = -1;
    let y = graph.reshape(sum, &sizes)?;
    graph.transpose(y, 0, dim as isize)
}

macro_rules! shuffles {
    ($($(#[$doc:meta])* $name:ident($argument:ident) => $function:ident;)*) => { $(
        $(#[$doc])*
        pub struct $name {
            $argument: usize,
        }

        crate::module!($name {});

        impl $name {
            #[doc = concat!("`nn.", stringify!($name), "(", stringify!($argument), ")`.")]
            pub fn new($argument: usize) -> Self {
                Self { $argument }
            }
        }

        impl Module for $name {
            fn forward(&self, graph: &mut Graph, x: Var) -> Result<Var> {
                $function(graph, x, self.$argument)
            }

            fn extra_repr(&self) -> String {
                format!(concat!(stringify!($argument), "={}"), self.$argument)
            }
        }
    )* };
}

shuffles! {
    /// Channels become pixels: `[*, C * r * r, H, W]` gives `[*, C, H * r, W * r]`.
    ///
    /// [`nn.PixelShuffle`](https://docs.pytorch.org/docs/stable/generated/torch.nn.PixelShuffle.html).
    PixelShuffle(upscale_factor) => pixel_shuffle;
    /// Pixels become channels: `[*, C, H * r, W * r]` gives `[*, C * r * r, H, W]`.
    ///
    /// [`nn.PixelUnshuffle`](https://docs.pytorch.org/docs/stable/generated/torch.nn.PixelUnshuffle.html).
    PixelUnshuffle(downscale_factor) => pixel_unshuffle;
    /// The channels of `[N, C, *]` in another order: the first of each group, then the second of each.
    ///
    /// [`nn.ChannelShuffle`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ChannelShuffle.html).
    ChannelShuffle(groups) => channel_shuffle;
}

fn misfit(op: &str, graph: &Graph, x: Var, by: usize) -> Error {
    Error::shape(format!("{op}: an input {} does not fit {by}", graph.shape(x)))
}

/// Reshapes the last three dimensions, permutes the new ones, and reshapes again.
fn rearrange(graph: &mut Graph, x: Var, split: &[usize], order: &[isize], joined: [usize; 3]) -> Result<Var> {
    let lead: Vec<isize> = graph.shape(x)[..graph.shape(x).len() - 3].iter().map(|&size| size as isize).collect();
    let batch = lead.iter().product::<isize>();
    let sizes = |sizes: &[usize]| sizes.iter().map(|&size| size as isize).collect::<Vec<_>>();
    let y = graph.reshape(x, &[&[batch], &sizes(split)[..]].concat())?;
    let y = graph.permute(y, order)?;
    graph.reshape(y, &[lead, sizes(&joined)].concat())
}

fn pixel_shuffle(graph: &mut Graph, x: Var, r: usize) -> Result<Var> {
    let [.., channels, height, width] = graph.shape(x)[..] else { return Err(misfit("pixel_shuffle", graph, x, r)) };
    if r == 0 || !channels.is_multiple_of(r * r) {
        return Err(misfit("pixel_shuffle", graph, x, r));
    }
    let c = channels / (r * r);
    rearrange(graph, x, &[c, r, r, height, width], &[0, 1, 4, 2, 5, 3], [c, height * r, width * r])
}

fn pixel_unshuffle(graph: &mut Graph, x: Var, r: usize) -> Result<Var> {
    let [.., channels, height, width] = graph.shape(x)[..] else { return Err(misfit("pixel_unshuffle", graph, x, r)) };
    if r == 0 || !height.is_multiple_of(r) || !width.is_multiple_of(r) {
        return Err(misfit("pixel_unshuffle", graph, x, r));
    }
    let (h, w) = (height / r, width / r);
    rearrange(graph, x, &[channels, h, r, w, r], &[0, 1, 3, 5, 2, 4], [channels * r * r, h, w])
}

fn channel_shuffle(graph: &mut Graph, x: Var, groups: usize) -> Result<Var> {
    let shape = graph.shape(x).clone();
    if shape.len() < 3 || groups == 0 || !shape[1].is_multiple_of(groups) {
        return Err(misfit("channel_shuffle", graph, x, groups));
    }
    let y = graph.reshape(x, &[shape[0] as isize, groups as isize, (shape[1] / groups) as isize, -1])?;
    let y = graph.transpose(y, 1, 2)?;
    let sizes: Vec<isize> = shape.iter().map(|&size| size as isize).collect();
    graph.reshape(y, &sizes)
}
