//! Convolutions and linear layers on matrix units.

use super::conv2d::Part;
use super::{Call, Context, Extras, quads, replace_line, word};
use crate::backend::gpu::dispatch::{Binding, Selection, Shader};
use crate::backend::gpu::tune::Choice;
use crate::error::Result;

const SOURCE: &str = include_str!("../../../../shaders/conv2d_matrix.wgsl");

/// How the subgroups of a workgroup lie, and the columns of matrices that each has: the large tile is 8 times 8
/// matrices, the small one 4 times 4.
struct Tile {
    subgroups: [u32; 2],
    columns: u32,
}

impl Tile {
    /// The pixels and channels, with matrices of this side.
    fn size(&self, side: u32) -> [usize; 2] {
        [self.subgroups[0] * 2, self.subgroups[1] * self.columns].map(|n| (n * side) as usize)
    }

    fn threads(&self) -> usize {
        (self.subgroups[0] * self.subgroups[1] * 32) as usize
    }
}

const LARGE: Tile = Tile { subgroups: [4, 2], columns: 4 };
const SMALL: Tile = Tile { subgroups: [2, 2], columns: 2 };

/// The tiles of matrices of this side.
pub(super) fn tiles(side: u32) -> [[usize; 2]; 2] {
    [LARGE.size(side), SMALL.size(side)]
}

/// Adds the dispatches of a part, for matrices of this side.
pub(super) fn select(part: &Part<'_>, cx: &Context<'_>, side: u32, selection: &mut Selection) -> Result<()> {
    let conv = part.conv;
    let pixels = conv.batch * conv.output[0] * conv.output[1];
    let groups = |[m, n]: [usize; 2]| pixels.div_ceil(m) * part.channels.div_ceil(n);
    let (is_large, parts) = match cx.caps.choice {
        Some(Choice::Cut { tile, parts }) if tiles(side).contains(&tile) => (tile == LARGE.size(side), Some(parts)),
        _ => (groups(LARGE.size(side)) >= 2 * cx.enough_groups(LARGE.threads()), None),
    };
    let parts = if is_large { Some(1) } else { parts };
    let tile = if is_large { LARGE } else { SMALL };
    let [tile_pixels, tile_channels] = tile.size(side);
    let cut = part.split(cx, pixels, tile.size(side), [tile.threads(), side as usize / 2], parts);
    let wide = quads(&[conv.c_in, part.x.1]);
    let extras = Extras::new(cx, conv.fused);
    let call = call(cx, side)
        .alias("X", if wide { "V" } else { "S" })
        .set("WIDE", u32::from(wide))
        .set("SUBGROUPS_M", tile.subgroups[0])
        .set("SUBGROUPS_N", tile.subgroups[1])
        .set("COLUMNS", tile.columns)
        .set("SPLIT", u32::from(cut.parts > 1));
    let (fold, [across, deep, _]) = cx.fold_groups(pixels.div_ceil(tile_pixels))?;
    let call = extras.bind(call.bind(part.x.0).bind(part.weight), part.weight).bind(part.y.0).bind(Binding::Slots);
    let call = call
        .params(&[pixels, part.channels, conv.c_in.div_ceil(4)])?
        .params(&[conv.input[0], conv.input[1], conv.c_in])?
        .params(&[conv.output[0], conv.output[1], conv.c_out, part.first])?
        .params(&[conv.kernel, conv.stride, conv.dilation, conv.padding].concat())?
        .params(&[fold, part.x.1, part.weight_at(cx), extras.bias_at(), part.residual_at(&extras), part.y_at()])?
        .params(&[cut.part_quads])?;
    let depth = if cut.parts > 1 { word(cut.parts)? } else { deep };
    let grid = [across, word(part.channels.div_ceil(tile_channels))?, depth];
    selection.slots = selection.slots.max(part.slots(pixels, cut.parts));
    selection.dispatches.push(extras.append(call).dispatch(grid));
    Ok(())
}

/// Makes the matrices of a shader ones of this side.
pub(in crate::backend::gpu) fn with_matrices(shader: &mut Shader, side: u32) {
    if side == 8 {
        *shader.source.to_mut() = shader.source.replace("coop_mat16x16<", "coop_mat8x8<");
    }
}

/// The shader for matrices of this side.
fn call(cx: &Context<'_>, side: u32) -> Call {
    let mut call = Call::new("conv2d_matrix", SOURCE);
    if cx.caps.half {
        call = call.alias("S", "f16");
    }
    with_matrices(&mut call.shader, side);
    if side == 8 {
        // Metal loads matrices from single numbers only.
        call = call.alias("Word", "f16").set("WORD", 1u32);
        let source = call.shader.source.to_mut();
        for tile in ["x", "w"] {
            let mut text = "    let at = row * PITCH_WORDS + quad * 4u;\n".to_owned();
            for lane in 0..4 {
                text += &format!("    tile_{tile}[at + {lane}u] = v[{lane}];\n");
            }
            replace_line(source, &format!("// words of {tile}"), &text);
        }
        *source = source.replace("const TILE = 1280u;", "const TILE = 1536u;");
    }
    #[cfg(test)]
    if let Some(matrices) = cx.caps.emulated {
        *call.shader.source.to_mut() = emulation::of(&call.shader.source, matrices);
    }
    call.set("SIDE", side)
}

/// The shader with the matrices in plain loops, which show on any adapter that its indices are right.
#[cfg(test)]
pub(in crate::backend::gpu) mod emulation {
    pub(in crate::backend::gpu) const MATRICES: &str = include_str!("matrix_emulation.wgsl");

    pub(super) fn of(source: &str, matrices: &str) -> String {
        let mut text = String::new();
        for line in source.lines() {
            let line = match line {
                "enable wgpu_cooperative_matrix;" => continue,
                _ if ["alias Left", "alias Right", "alias Sum"].iter().any(|alias| line.starts_with(alias)) => continue,
                "    let lane = t % 32u;" => "    let lane = t % 32u;\n    own_lane = lane;".to_owned(),
                _ if line.contains("coop") => plain(line),
                _ => line.to_owned(),
            };
            text += &line;
            text.push('\n');
        }
        assert!(!text.contains("coop"), "{text}");
        text + matrices
    }

    fn plain(line: &str) -> String {
        line.replace("coopLoadT<Left>(&tile_x[", "(")
            .replace("coopLoad<Right>(&tile_w[", "(")
            .replace("], PITCH_WORDS)", ")")
            .replace("coopMultiplyAdd(", "multiply_add(")
            .replace("coopStoreT(", "keep(")
            .replace("&stage[stage_at], SIDE)", "stage_at)")
    }
}
