//! The values of a program while its graph is built, and PyTorch's type promotion.

use std::rc::Rc;

use super::host::Host;
use crate::dtype::DType;
use crate::graph::Var;

/// A tensor at one moment: nothing changes it. Its dtype is the program's; a device computes floats of any width and
/// booleans as `f32`, integers as `i32`.
#[derive(Clone, Debug)]
pub(super) struct X {
    pub(super) dtype: DType,
    pub(super) data: Data,
    /// A Python number, which does not raise the dtype within its kind.
    pub(super) is_number: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Data {
    /// Known when the graph is built.
    Host(Rc<Host>),
    /// A value of the graph.
    Var(Var),
}

impl X {
    pub(super) fn var(var: Var, dtype: DType) -> Self {
        Self { dtype, data: Data::Var(var), is_number: false }
    }

    pub(super) fn host(host: Host, dtype: DType) -> Self {
        Self { dtype, data: Data::Host(Rc::new(host)), is_number: false }
    }

    /// A Python number.
    pub(super) fn number(value: f64, dtype: DType) -> Self {
        Self { dtype, data: Data::Host(Rc::new(Host::full(&[], dtype, value))), is_number: true }
    }

    /// A Python int, which a float would round.
    pub(super) fn int(value: i64) -> Self {
        Self { dtype: DType::I64, data: Data::Host(Rc::new(Host::ints(&[], vec![value]))), is_number: true }
    }

    pub(super) fn is_host(&self) -> bool {
        matches!(self.data, Data::Host(_))
    }
}

/// 0 for booleans, 1 for integers, 2 for floats.
pub(super) fn category(dtype: DType) -> u8 {
    match dtype {
        DType::Bool => 0,
        dtype if dtype.is_float() => 2,
        _ => 1,
    }
}

/// The dtype of a function of two dtypes.
pub(super) fn promote(a: DType, b: DType) -> DType {
    if a == b {
        return a;
    }
    match category(a).cmp(&category(b)) {
        std::cmp::Ordering::Less => b,
        std::cmp::Ordering::Greater => a,
        std::cmp::Ordering::Equal if a.is_float() => match (a, b) {
            (DType::F64, _) | (_, DType::F64) => DType::F64,
            _ => DType::F32,
        },
        std::cmp::Ordering::Equal => match (a, b) {
            (DType::U8, DType::I8) | (DType::I8, DType::U8) => DType::I16,
            _ if a.size() > b.size() => a,
            _ => b,
        },
    }
}

/// The dtype of a function of several tensors, each with its dtype, its number of dimensions and whether it is a Python
/// number: tensors with dimensions come first, then those without, then numbers; a later kind counts only when its
/// category is higher.
pub(super) fn result_type(operands: &[(DType, usize, bool)]) -> DType {
    let of = |keep: &dyn Fn(usize, bool) -> bool| {
        operands.iter().filter(|(_, rank, number)| keep(*rank, *number)).map(|x| x.0).reduce(promote)
    };
    let kinds = [
        of(&|rank, number| !number && rank > 0),
        of(&|rank, number| !number && rank == 0),
        of(&|_, number| number).map(|dtype| if dtype.is_float() { DType::F32 } else { dtype }),
    ];
    let combine = |high: DType, low: DType| if category(low) > category(high) { low } else { high };
    kinds.into_iter().flatten().reduce(combine).expect("at least one operand")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `torch.result_type`.
    #[test]
    fn promotes_as_pytorch_does() {
        let (tensor, scalar, number) = ((2, false), (0, false), (0, true));
        let of = |a: DType, x: (usize, bool), b: DType, y: (usize, bool)| result_type(&[(a, x.0, x.1), (b, y.0, y.1)]);
        assert_eq!(of(DType::I64, tensor, DType::F32, number), DType::F32);
        assert_eq!(of(DType::F16, tensor, DType::F32, number), DType::F16);
        assert_eq!(of(DType::F16, tensor, DType::F32, scalar), DType::F16);
        assert_eq!(of(DType::F16, tensor, DType::F32, tensor), DType::F32);
        assert_eq!(of(DType::F16, tensor, DType::BF16, tensor), DType::F32);
        assert_eq!(of(DType::I32, tensor, DType::I64, number), DType::I32);
        assert_eq!(of(DType::U8, tensor, DType::I8, tensor), DType::I16);
        assert_eq!(of(DType::Bool, tensor, DType::I64, number), DType::I64);
        assert_eq!(of(DType::Bool, tensor, DType::Bool, tensor), DType::Bool);
        assert_eq!(of(DType::I64, scalar, DType::F64, scalar), DType::F64);
        assert_eq!(of(DType::I64, tensor, DType::F64, scalar), DType::F64);
    }
}
