//! Makes attention of its parts: a product, a softmax and a product, as `softmax(q k^T * scale + mask) v` is written out.

use super::Rewrite;
use crate::error::Result;
use crate::graph::op::{Binary, Op, Reduce};
use crate::graph::{Graph, Var};

/// The longest values that every backend's kernel sums.
const MAX_DIM: usize = 256;

pub(super) fn fuse(graph: &Graph) -> Result<Graph> {
    let uses = graph.use_counts();
    let mut rewrite = Rewrite::new(graph);
    for var in graph.vars() {
        match (Matcher { graph, uses: &uses }).attention(var) {
            Some(parts) => {
                let y = write(&mut rewrite, &parts, graph.shape(var))?;
                rewrite.set(var, y);
            }
            None => {
                rewrite.copy(var);
            }
        }
    }
    Ok(rewrite.finish())
}

/// What an attention is made of, in values of the old graph.
struct Parts {
    q: Var,
    /// With its last two dimensions swapped.
    k: Var,
    v: Var,
    mask: Option<Var>,
    causal: bool,
    scale: f32,
    /// Whether a row that sees nothing gives NaN, as a bare softmax does.
    blind_is_nan: bool,
    /// The dimensions before the last two.
    lead: Vec<usize>,
}

/// A mask that needs no tensor.
enum Known {
    /// It lets everything through.
    Open,
    /// Row `i` sees the columns up to `i`.
    Causal,
}

struct Matcher<'a> {
    graph: &'a Graph,
    uses: &'a [usize],
}

impl Matcher<'_> {
    fn attention(&self, var: Var) -> Option<Parts> {
        let graph = self.graph;
        let node = graph.node(var);
        let Op::Matmul = node.op else { return None };
        let (weights, v) = (node.inputs[0], node.inputs[1]);
        let weights = self.before_reshape(weights)?;
        let guarded = self.guarded(weights);
        let softmax = guarded.unwrap_or(weights);
        let scores = graph.shape(softmax);
        let rank = scores.len();
        match graph.node(softmax).op {
            Op::Softmax { dim, log: false } if dim + 1 == rank && rank >= 3 => {}
            _ => return None,
        }
        let lead = scores[..rank - 2].to_vec();
        let (l, s) = (scores[rank - 2], scores[rank - 1]);
        let mut x = graph.node(softmax).inputs[0];
        if self.uses[x.0 as usize] != 1 + usize::from(guarded.is_some()) {
            return None;
        }
        let (mut mask, mut causal) = (None, false);
        if let Op::Binary(Binary::Add) = graph.node(x).op {
            let [a, b] = graph.node(x).inputs[..] else { return None };
            let is_scores =
                |&(x, other): &(Var, Var)| graph.shape(x) == scores && x != other && self.product(x).is_some();
            let (side, other) = [(a, b), (b, a)].into_iter().find(is_scores)?;
            (x, mask) = (side, Some(other));
            match self.known_mask(other, l, s) {
                Some(Known::Open) => mask = None,
                Some(Known::Causal) => (mask, causal) = (None, true),
                None => {}
            }
        }
        // A guard's scores are used twice, which was counted above.
        let (product, mut scale) =
            if mask.is_none() && !causal && guarded.is_some() { self.product_of(x)? } else { self.product(x)? };
        let (q, k) = (graph.node(product).inputs[0], graph.node(product).inputs[1]);
        let (q, q_scale) = self.before_scale(q);
        let (k, k_scale) = self.before_scale(k);
        scale *= q_scale * k_scale;
        let count: usize = lead.iter().product();
        let dim = *graph.shape(q).last()?;
        let e = *graph.shape(v).last()?;
        let whole = |x: Var, rows: usize, columns: usize| {
            let shape = graph.shape(x);
            shape.ends_with(&[rows, columns]) && shape.numel() == count * rows * columns && shape.len() >= 2
        };
        let fits = whole(q, l, dim) && whole(k, dim, s) && whole(v, s, e) && whole(product, l, s);
        let blind_is_nan = guarded.is_none();
        let parts = Parts { q, k, v, mask, causal, scale, blind_is_nan, lead };
        (fits && dim.max(e) <= MAX_DIM && count * l * s * e > 0).then_some(parts)
    }

    /// The softmax in `where(all scores are minus infinity, 0, softmax(scores))`, as PyTorch decomposes attention: zeros
    /// for a row that sees nothing, which is what the kernel gives.
    fn guarded(&self, x: Var) -> Option<Var> {
        let graph = self.graph;
        let binary = |x: Var, wanted: Binary| match (&graph.node(x).op, &graph.node(x).inputs[..]) {
            (Op::Binary(own), &[a, b]) if *own == wanted => Some((a, b)),
            _ => None,
        };
        // `x == number`, as `x`.
        let equals = |x: Var, number: f32| {
            let (a, b) = binary(x, Binary::Eq)?;
            (self.number(b)? == number).then_some(a)
        };
        let (zeros, kept) = binary(x, Binary::Add)?;
        let (shut, zero) = binary(zeros, Binary::Keep)?;
        let (open, softmax) = binary(kept, Binary::Keep)?;
        let Op::Constant(zero) = &graph.node(zero).op else { return None };
        let is_zero = zero.as_slice::<f32>().is_ok_and(|zeros| zeros.iter().all(|&zero| zero == 0.0));
        let Op::Softmax { dim, log: false } = graph.node(softmax).op else { return None };
        let scores = graph.node(softmax).inputs[0];
        let any = equals(shut, 0.0)?;
        let Op::Reduce { kind: Reduce::Max, dims } = &graph.node(any).op else { return None };
        let seen = equals(graph.node(any).inputs[0], 0.0)?;
        let fits = is_zero
            && equals(open, 0.0) == Some(shut)
            && *dims == [dim]
            && equals(seen, f32::NEG_INFINITY) == Some(scores)
            && self.uses[softmax.0 as usize] == 1;
        fits.then_some(softmax)
    }

    /// What a mask that is part of the program lets through, where it needs no tensor.
    fn known_mask(&self, mask: Var, l: usize, s: usize) -> Option<Known> {
        let mut mask = mask;
        while let Op::Reshape | Op::Expand = self.graph.node(mask).op {
            mask = self.graph.node(mask).inputs[0];
        }
        let Op::Constant(tensor) = &self.graph.node(mask).op else { return None };
        let values = tensor.as_slice::<f32>().ok()?;
        if values.iter().all(|&x| x == 0.0) {
            return Some(Known::Open);
        }
        let is_lower = |(i, &x): (usize, &f32)| {
            let (row, column) = (i / s % l, i % s);
            x == if column > row { f32::NEG_INFINITY } else { 0.0 }
        };
        let is_causal = l == s && tensor.shape().ends_with(&[l, s]) && values.iter().enumerate().all(is_lower);
        is_causal.then_some(Known::Causal)
    }

    /// A constant of one element.
    fn number(&self, x: Var) -> Option<f32> {
        match &self.graph.node(x).op {
            Op::Constant(tensor) if tensor.shape().numel() == 1 => tensor.as_slice::<f32>().ok().map(|x| x[0]),
            _ => None,
        }
    }

    /// The value, unless something else uses it.
    fn only_used(&self, x: Var) -> Option<Var> {
        (self.uses[x.0 as usize] == 1).then_some(x)
    }

    /// What a reshape that keeps the last two dimensions is of, or the value itself.
    fn before_reshape(&self, x: Var) -> Option<Var> {
        self.only_used(x).and_then(|x| self.before_reshape_of(x))
    }

    fn before_reshape_of(&self, x: Var) -> Option<Var> {
        let node = self.graph.node(x);
        let Op::Reshape = node.op else { return Some(x) };
        let inner = self.only_used(node.inputs[0])?;
        let last_two = |shape: &[usize]| shape.len().checked_sub(2).map(|at| shape[at..].to_vec());
        (last_two(self.graph.shape(inner)) == last_two(&node.shape)).then_some(inner)
    }

    /// The product of two computed matrices that `x` is, after a reshape and a multiplication by a number.
    fn product(&self, x: Var) -> Option<(Var, f32)> {
        self.only_used(x).and_then(|x| self.product_of(x))
    }

    /// The same, whatever else uses `x` itself.
    fn product_of(&self, x: Var) -> Option<(Var, f32)> {
        let x = match self.graph.node(x).op {
            Op::Reshape => self.before_reshape_of(x)?,
            _ => x,
        };
        let (x, scale) = match self.scaled(x) {
            Some((inner, scale)) => (self.before_reshape(inner)?, scale),
            None => (x, 1.0),
        };
        let node = self.graph.node(x);
        (matches!(node.op, Op::Matmul) && !node.is_constant).then_some((x, scale))
    }

    /// A value that is multiplied by a number, or divided by one.
    fn scaled(&self, x: Var) -> Option<(Var, f32)> {
        let node = self.graph.node(x);
        let number = |x: Var| self.number(x);
        let (a, b) = (*node.inputs.first()?, *node.inputs.get(1)?);
        match node.op {
            Op::Binary(Binary::Mul) if *self.graph.shape(a) == node.shape => Some((a, number(b)?)),
            Op::Binary(Binary::Mul) if *self.graph.shape(b) == node.shape => Some((b, number(a)?)),
            Op::Binary(Binary::Div) if *self.graph.shape(a) == node.shape => Some((a, 1.0 / number(b)?)),
            _ => None,
        }
    }

    /// A query or key without its scale, where the scaled value has the same last two dimensions.
    fn before_scale(&self, x: Var) -> (Var, f32) {
        let found = self.before_reshape(x).and_then(|inner| self.scaled(inner));
        found.unwrap_or((x, 1.0))
    }
}

fn write(rewrite: &mut Rewrite<'_>, parts: &Parts, shape: &[usize]) -> Result<Var> {
    let [q, k, v] = [parts.q, parts.k, parts.v].map(|x| rewrite.get(x));
    let mask = parts.mask.map(|mask| rewrite.get(mask));
    let graph = &mut rewrite.new;
    let k = graph.transpose(k, -1, -2)?;
    let signed = |sizes: &[usize]| sizes.iter().map(|&size| size as isize).collect::<Vec<_>>();
    let mut operands = Vec::new();
    for x in [q, k, v] {
        let own = graph.shape(x).to_vec();
        let full = [&parts.lead, &own[own.len() - 2..]].concat();
        operands.push(graph.reshape(x, &signed(&full))?);
    }
    let (scale, blind) = (Some(parts.scale), parts.blind_is_nan);
    let y = graph.attention(operands[0], operands[1], operands[2], mask, parts.causal, scale, blind)?;
    graph.reshape(y, &signed(shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;

    fn graph(mask: bool, keep_weights: bool) -> Graph {
        let mut g = Graph::new();
        let q = g.input([2, 3, 5, 4].into(), DType::F32);
        let k = g.input([2, 3, 7, 4].into(), DType::F32);
        let v = g.input([2, 3, 7, 6].into(), DType::F32);
        let half = g.mul_scalar(q, 0.5).unwrap();
        let kt = g.transpose(k, -2, -1).unwrap();
        let scores = g.matmul(half, kt).unwrap();
        let mut scores = g.mul_scalar(scores, 0.25).unwrap();
        if mask {
            let mask = g.input([5, 7].into(), DType::F32);
            scores = g.add(mask, scores).unwrap();
        }
        let weights = g.softmax(scores, -1).unwrap();
        let flat = g.reshape(weights, &[6, 5, 7]).unwrap();
        let v = g.reshape(v, &[6, 7, 6]).unwrap();
        let y = g.matmul(flat, v).unwrap();
        g.set_outputs(if keep_weights { vec![y, weights] } else { vec![y] });
        g
    }

    fn attentions(graph: &Graph) -> Vec<(f32, usize)> {
        let nodes = graph.nodes.iter();
        nodes
            .filter_map(|node| match node.op {
                Op::Attention { scale, .. } => Some((scale, node.inputs.len())),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_written_out_attention_is_one_kernel() {
        assert_eq!(attentions(&fuse(&graph(false, false)).unwrap()), [(0.125, 3)]);
        assert_eq!(attentions(&fuse(&graph(true, false)).unwrap()), [(0.125, 4)]);
    }

    #[test]
    fn weights_that_are_used_elsewhere_stay() {
        assert!(attentions(&fuse(&graph(false, true)).unwrap()).is_empty());
    }
}
