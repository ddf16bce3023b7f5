//! Convolutions.

use super::{Call, Function, Out};
use crate::error::{Error, Result};
use crate::graph::{ConvOptions, ConvTransposeOptions, Graph, Padding, PaddingMode, Var};
use crate::import::program::value::{X, promote};

pub(super) fn find(target: &str) -> Option<Function> {
    Some(match target {
        "aten.conv1d.default" | "aten.conv1d.padding" => |call| conv(call, Graph::conv1d),
        "aten.conv2d.default" | "aten.conv2d.padding" => |call| conv(call, Graph::conv2d),
        "aten.conv3d.default" | "aten.conv3d.padding" => |call| conv(call, Graph::conv3d),
        "aten.conv_transpose1d.default" => |call| transposed(call, Graph::conv_transpose1d),
        "aten.conv_transpose2d.input" => |call| transposed(call, Graph::conv_transpose2d),
        "aten.conv_transpose3d.input" => |call| transposed(call, Graph::conv_transpose3d),
        "aten.convolution.default" | "aten._convolution.default" => convolution,
        _ => return None,
    })
}

fn convolution(call: &mut Call<'_, '_>) -> Result<Out> {
    let weight = call.x("weight")?;
    match (call.build.rank(&weight).saturating_sub(2), call.bool_or("transposed", false)?) {
        (1, false) => conv(call, Graph::conv1d),
        (2, false) => conv(call, Graph::conv2d),
        (3, false) => conv(call, Graph::conv3d),
        (1, true) => transposed(call, Graph::conv_transpose1d),
        (2, true) => transposed(call, Graph::conv_transpose2d),
        (3, true) => transposed(call, Graph::conv_transpose3d),
        (dims, _) => Err(Error::unsupported(format!("a convolution over {dims} dimensions"))),
    }
}

fn conv<const N: usize>(
    call: &mut Call<'_, '_>,
    op: fn(&mut Graph, Var, Var, Option<Var>, &ConvOptions<N>) -> Result<Var>,
) -> Result<Out> {
    let padding = if call.node.target.ends_with(".padding") {
        match call.str_or("padding", "valid")? {
            "valid" => Padding::Valid,
            "same" => Padding::Same,
            other => return Err(Error::unsupported(format!("the padding `{other}`"))),
        }
    } else {
        Padding::Explicit(call.sizes("padding", 0)?)
    };
    let options = ConvOptions {
        stride: call.sizes("stride", 1)?,
        padding,
        dilation: call.sizes("dilation", 1)?,
        groups: groups(call)?,
        padding_mode: PaddingMode::Zeros,
    };
    apply(call, |graph, x, weight, bias| op(graph, x, weight, bias, &options))
}

fn transposed<const N: usize>(
    call: &mut Call<'_, '_>,
    op: fn(&mut Graph, Var, Var, Option<Var>, &ConvTransposeOptions<N>) -> Result<Var>,
) -> Result<Out> {
    let options = ConvTransposeOptions {
        stride: call.sizes("stride", 1)?,
        padding: call.sizes("padding", 0)?,
        output_padding: call.sizes("output_padding", 0)?,
        dilation: call.sizes("dilation", 1)?,
        groups: groups(call)?,
    };
    apply(call, |graph, x, weight, bias| op(graph, x, weight, bias, &options))
}

fn groups(call: &mut Call<'_, '_>) -> Result<usize> {
    Ok(usize::try_from(call.int_or("groups", 1)?).unwrap_or(0))
}

fn apply(call: &mut Call<'_, '_>, op: impl FnOnce(&mut Graph, Var, Var, Option<Var>) -> Result<Var>) -> Result<Out> {
    let (x, weight, bias) = (call.x("input")?, call.x("weight")?, call.opt_x("bias")?);
    let dtype = promote(x.dtype, weight.dtype);
    let build = &mut *call.build;
    let (x, weight) = (build.var(&x)?, build.var(&weight)?);
    let bias = bias.as_ref().map(|bias| build.var(bias)).transpose()?;
    Ok(Out::X(X::var(op(&mut *build.graph, x, weight, bias)?, dtype)))
}
