"""A family of cases for every op: shapes of one, odd and prime sizes, and every option."""
import torch

from .record import family, of, one_op, rand, running, weight


@family
def linear(cases):
    for rows, k, n in [(1, 1, 1), (3, 5, 7), (1, 64, 33), (2, 127, 3), (5, 129, 65), (67, 16, 17), (8, 8, 8)]:
        one_op(cases, f"{rows}x{k}x{n}", "linear", [of(rows, k)], [of(n, k, make=weight), of(n)])
    one_op(cases, "no_bias", "linear", [of(3, 11)], [of(13, 11, make=weight), None])
    one_op(cases, "vector", "linear", [of(6)], [of(5, 6, make=weight), of(5)])
    one_op(cases, "rank3", "linear", [of(3, 5, 6)], [of(7, 6, make=weight), of(7)])
    one_op(cases, "rank4", "linear", [of(2, 3, 1, 10)], [of(4, 10, make=weight), None])
    one_op(cases, "transposed_weight", "linear", [of(3, 6)], [lambda: weight(5, 6).t().contiguous().t(), of(5)])
    one_op(cases, "sliced_weight", "linear", [of(3, 6)], [lambda: weight(10, 13)[1::2, 2:8], lambda: rand(11)[1:6]])
    one_op(cases, "expanded_bias", "linear", [of(3, 6)], [of(5, 6, make=weight), lambda: rand(1).expand(5)])
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        make = lambda *shape: weight(*shape).to(dtype)
        one_op(cases, str(dtype)[6:], "linear", [of(3, 9)], [of(7, 9, make=make), of(7, make=make)])


CONV2D = {
    # name: (x, w, arguments); a bias unless the name says no
    "1x1": ((1, 3, 5, 7), (4, 3, 1, 1), {}),
    "1x1_one_pixel": ((1, 16, 1, 1), (5, 16, 1, 1), {}),
    "1x1_tile_edges": ((1, 33, 9, 11), (35, 33, 1, 1), {}),
    "1x1_stride": ((3, 6, 7, 5), (8, 6, 1, 1), {"stride": [2, 2]}),
    "1x1_padding": ((1, 3, 2, 3), (2, 3, 1, 1), {"padding": [1, 2]}),
    "3x3": ((1, 2, 5, 6), (3, 2, 3, 3), {}),
    "3x3_batch3": ((3, 3, 7, 7), (4, 3, 3, 3), {"padding": [1, 1]}),
    "3x3_no_bias": ((1, 3, 6, 5), (5, 3, 3, 3), {"padding": [1, 1]}),
    "3x3_tile_edges": ((1, 17, 9, 13), (19, 17, 3, 3), {"padding": [1, 1]}),
    "3x3_channels_16": ((1, 16, 8, 8), (16, 16, 3, 3), {"padding": [1, 1]}),
    "3x3_channels_64": ((1, 8, 5, 5), (66, 8, 3, 3), {"padding": [1, 1]}),
    "3x3_batch_tiles": ((3, 4, 11, 11), (8, 4, 3, 3), {"padding": [1, 1]}),
    "3x3_stride": ((1, 4, 9, 8), (6, 4, 3, 3), {"stride": [2, 2], "padding": [1, 1]}),
    "3x3_stride_2_3": ((2, 3, 10, 11), (3, 3, 3, 3), {"stride": [2, 3]}),
    "3x3_padding_2_0": ((1, 3, 4, 6), (4, 3, 3, 3), {"padding": [2, 0]}),
    "3x3_padding_beyond_kernel": ((1, 2, 3, 3), (3, 2, 3, 3), {"padding": [4, 5]}),
    "3x3_dilation": ((1, 3, 9, 9), (4, 3, 3, 3), {"dilation": [2, 3], "padding": [2, 3]}),
    "3x3_dilation_stride": ((1, 3, 11, 10), (4, 3, 3, 3), {"dilation": [2, 2], "stride": [2, 1], "padding": [1, 1]}),
    "3x3_on_one_pixel": ((1, 5, 1, 1), (6, 5, 3, 3), {"padding": [1, 1]}),
    "1x3": ((1, 4, 5, 7), (4, 4, 1, 3), {"padding": [0, 1]}),
    "3x1": ((1, 4, 7, 5), (5, 4, 3, 1), {"padding": [1, 0]}),
    "2x2": ((1, 4, 6, 5), (7, 4, 2, 2), {}),
    "2x2_patches": ((1, 8, 6, 8), (12, 8, 2, 2), {"stride": [2, 2]}),
    "4x4_patches": ((1, 3, 12, 8), (10, 3, 4, 4), {"stride": [4, 4]}),
    "5x5": ((1, 3, 8, 9), (4, 3, 5, 5), {"padding": [2, 2], "stride": [2, 2]}),
    "7x7_stem": ((1, 3, 19, 17), (9, 3, 7, 7), {"stride": [2, 2], "padding": [3, 3]}),
    "11x11_stem": ((1, 3, 23, 19), (4, 3, 11, 11), {"stride": [4, 4], "padding": [2, 2]}),
    "one_channel": ((1, 1, 5, 5), (1, 1, 3, 3), {}),
    "kernel_is_image": ((2, 4, 5, 3), (6, 4, 5, 3), {}),
    "unbatched": ((3, 6, 5), (4, 3, 3, 3), {"padding": [1, 1]}),
    "same_3x3": ((1, 3, 6, 5), (4, 3, 3, 3), {"padding": "same"}),
    "same_2x4": ((1, 3, 6, 5), (4, 3, 2, 4), {"padding": "same"}),
    "same_4x3_dilation": ((1, 2, 9, 8), (3, 2, 4, 3), {"padding": "same", "dilation": [3, 2]}),
    "valid": ((1, 3, 6, 5), (4, 3, 3, 2), {"padding": "valid", "stride": [2, 1]}),
    "groups_2": ((1, 6, 5, 7), (8, 3, 3, 3), {"groups": 2, "padding": [1, 1]}),
    "groups_3_one_out_each": ((2, 9, 5, 5), (3, 3, 3, 3), {"groups": 3}),
    "groups_4_stride": ((1, 8, 7, 7), (12, 2, 3, 3), {"groups": 4, "stride": [2, 2], "padding": [1, 1]}),
    "groups_wide": ((1, 24, 6, 5), (40, 12, 1, 1), {"groups": 2}),
    "groups_resnext": ((1, 32, 5, 5), (32, 4, 3, 3), {"groups": 8, "padding": [1, 1]}),
    "depthwise": ((1, 7, 6, 5), (7, 1, 3, 3), {"groups": 7, "padding": [1, 1]}),
    "depthwise_no_bias": ((3, 16, 5, 6), (16, 1, 3, 3), {"groups": 16, "padding": [1, 1]}),
    "depthwise_stride": ((1, 12, 9, 8), (12, 1, 5, 5), {"groups": 12, "stride": [2, 2], "padding": [2, 2]}),
    "depthwise_dilation": ((1, 5, 9, 9), (5, 1, 3, 3), {"groups": 5, "dilation": [2, 2], "padding": [2, 2]}),
    "depthwise_7x7": ((1, 10, 8, 9), (10, 1, 7, 7), {"groups": 10, "padding": [3, 3]}),
    "depthwise_multiplier_2": ((1, 5, 6, 6), (10, 1, 3, 3), {"groups": 5, "padding": [1, 1]}),
    "depthwise_multiplier_3": ((1, 4, 5, 5), (12, 1, 3, 3), {"groups": 4}),
    "reflect": ((1, 3, 6, 5), (4, 3, 3, 3), {"padding": [2, 1], "padding_mode": "reflect"}),
    "reflect_same": ((1, 3, 6, 7), (4, 3, 4, 3), {"padding": "same", "padding_mode": "reflect"}),
    "replicate": ((2, 3, 4, 5), (4, 3, 3, 3), {"padding": [3, 2], "padding_mode": "replicate"}),
    "circular": ((1, 3, 6, 5), (4, 3, 3, 3), {"padding": [1, 2], "padding_mode": "circular"}),
    "circular_groups": ((1, 4, 6, 5), (6, 2, 3, 3),
                        {"padding": [2, 2], "padding_mode": "circular", "groups": 2, "stride": [2, 2]}),
    "replicate_valid": ((1, 2, 4, 5), (3, 2, 3, 3), {"padding": "valid", "padding_mode": "replicate"}),
}


@family
def conv2d(cases):
    for name, (x, w, args) in CONV2D.items():
        bias = None if "no_bias" in name else of(w[0])
        one_op(cases, name, "conv2d", [of(*x)], [of(*w, make=weight), bias], **args)
    channels_last = lambda: weight(6, 4, 3, 3).to(memory_format=torch.channels_last)
    one_op(cases, "channels_last_weight", "conv2d", [of(1, 4, 5, 6)], [channels_last, of(6)], padding=[1, 1])
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        make = lambda *shape: weight(*shape).to(dtype)
        one_op(cases, f"3x3_{str(dtype)[6:]}", "conv2d", [of(1, 5, 6, 5)], [of(7, 5, 3, 3, make=make), of(7, make=make)])
        one_op(cases, f"1x1_{str(dtype)[6:]}", "conv2d", [of(1, 5, 6, 5)], [of(7, 5, 1, 1, make=make), None])
        one_op(cases, f"depthwise_{str(dtype)[6:]}", "conv2d", [of(1, 7, 6, 5)],
               [of(7, 1, 3, 3, make=make), of(7, make=make)], groups=7)


@family
def conv1d(cases):
    for name, x, w, args in [
        ("plain", (1, 3, 11), (4, 3, 3), {}),
        ("pointwise", (3, 5, 7), (6, 5, 1), {}),
        ("stride", (1, 4, 13), (5, 4, 5), {"stride": [2], "padding": [2]}),
        ("dilation", (2, 3, 17), (4, 3, 3), {"dilation": [3], "padding": [3]}),
        ("same", (1, 3, 10), (4, 3, 4), {"padding": "same"}),
        ("valid", (1, 3, 10), (4, 3, 4), {"padding": "valid"}),
        ("groups", (1, 6, 9), (4, 3, 3), {"groups": 2, "padding": [1]}),
        ("depthwise", (1, 7, 9), (7, 1, 3), {"groups": 7, "padding": [1]}),
        ("reflect", (1, 3, 9), (4, 3, 3), {"padding": [2], "padding_mode": "reflect"}),
        ("replicate", (1, 3, 9), (4, 3, 3), {"padding": [2], "padding_mode": "replicate"}),
        ("circular", (1, 3, 9), (4, 3, 3), {"padding": [2], "padding_mode": "circular"}),
        ("one_sample", (1, 8, 1), (3, 8, 1), {}),
    ]:
        one_op(cases, name, "conv1d", [of(*x)], [of(*w, make=weight), None if name == "stride" else of(w[0])], **args)


NORM_SHAPES = [(3, 5), (1, 1), (2, 7, 5), (1, 6, 5, 4), (3, 8, 1, 1), (2, 3, 2, 3, 4)]


@family
def batch_norm(cases):
    for shape in NORM_SHAPES:
        for affine in (True, False):
            def build(g):
                x = g.input(rand(*shape))
                mean, var, w, b = running(shape[1])
                mean, var = g.parameter(mean, "bn.running_mean"), g.parameter(var, "bn.running_var")
                w, b = (g.parameter(w, "bn.weight"), g.parameter(b, "bn.bias")) if affine else (None, None)
                return g.batch_norm(x, mean, var, w, b, eps=1e-5)
            cases.add(f"{len(shape)}d_{'x'.join(map(str, shape))}{'' if affine else '_plain'}", build)
    for shape in [(5, 3), (3, 4, 5), (2, 5, 3, 4)]:
        for affine in (True, False):
            def build(g):
                x = g.input(rand(*shape) * 2 + 1)
                _, _, w, b = running(shape[1])
                w, b = (g.parameter(w, "bn.weight"), g.parameter(b, "bn.bias")) if affine else (None, None)
                return g.batch_norm(x, None, None, w, b, eps=1e-3)
            cases.add(f"batch_statistics_{len(shape)}d{'' if affine else '_plain'}", build)

    def small_variance(g):
        x = g.input(rand(1, 3, 4, 4) * 1e-3)
        mean, var = g.parameter(torch.zeros(3), "bn.running_mean"), g.parameter(torch.tensor([0.0, 1e-6, 1e-4]), "bn.running_var")
        return g.batch_norm(x, mean, var, None, None, eps=1e-5)
    cases.add("small_variance", small_variance)

    def half(g):
        x = g.input(rand(2, 5, 3, 2))
        p = [g.parameter(t.half(), f"bn.{i}") for i, t in enumerate(running(5))]
        return g.batch_norm(x, *p, eps=1e-5)
    cases.add("float16", half)


@family
def layer_norm(cases):
    for shape, dims in [((3, 7), 1), ((1, 1), 1), ((2, 5, 16), 1), ((1, 17, 33), 1), ((2, 3, 4, 5), 3), ((4, 1, 6), 2), ((2, 130), 1)]:
        for affine in (True, False):
            last = shape[-dims:]
            parameters = [lambda: torch.rand(last) + 0.5, of(*last)] if affine else [None, None]
            one_op(cases, f"{'x'.join(map(str, shape))}_{dims}{'' if affine else '_plain'}", "layer_norm", [of(*shape)],
                   parameters, shape=list(last), eps=1e-6)
    one_op(cases, "far_from_zero", "layer_norm", [lambda: rand(3, 40) + 100], [None, None], shape=[40], eps=1e-5)


ACTIVATIONS = [
    ("relu", {}), ("relu6", {}), ("leaky_relu", {"negative_slope": 0.01}), ("leaky_relu", {"negative_slope": 0.3}),
    ("sigmoid", {}), ("tanh", {}), ("silu", {}), ("gelu", {"approximate": "none"}), ("gelu", {"approximate": "tanh"}),
    ("hardswish", {}), ("hardsigmoid", {}), ("elu", {"alpha": 1.0}), ("elu", {"alpha": 0.7}),
    ("hardtanh", {"min_val": -0.5, "max_val": 1.25}),
]
NEAR = lambda: torch.cat([torch.linspace(-8, 8, 65), torch.linspace(-1e-3, 1e-3, 7), torch.tensor([-3.0, 3.0, 6.0, -0.0])])
# Not up to the largest float: there float32's own products overflow, and a GPU's `exp` may stop short of infinity.
FAR = lambda: torch.tensor([s * x for x in (9.5, 17, 30, 44.5, 50, 88, 89, 100, 700, 1e4, 1e10, 1e30, 1e-20, 1e-38) for s in (1, -1)])


@family
def activations(cases):
    for op, args in ACTIVATIONS:
        suffix = "".join(f"_{value}" for value in args.values())
        one_op(cases, f"{op}{suffix}.near", op, [NEAR], **args)
        one_op(cases, f"{op}{suffix}.far", op, [FAR], **args)
        one_op(cases, f"{op}{suffix}.image", op, [of(2, 3, 5, 1)], **args)
    for op in ("neg", "abs", "erf"):
        one_op(cases, f"{op}.near", op, [NEAR])
        one_op(cases, f"{op}.far", op, [FAR])
    one_op(cases, "exp", "exp", [lambda: torch.linspace(-20, 20, 41)])
    for op in ("log", "sqrt", "rsqrt"):
        one_op(cases, op, op, [lambda: torch.tensor([1e-30, 1e-6, 0.3, 0.5, 0.999, 1, 1.001, 2, 3.7, 10, 1e4, 1e10, 1e30])])
    one_op(cases, "relu.one", "relu", [of(1)])
    one_op(cases, "relu.scalar", "relu", [lambda: torch.tensor(-1.5)])
    one_op(cases, "dropout", "dropout", [of(2, 5)])


@family
def special(cases):
    """NaN and infinities. WGSL lets a device assume that there are none, so these run on the CPU alone."""
    values = lambda: torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1.0, -1.0])
    for op, args in ACTIVATIONS:
        one_op(cases, op + "".join(f"_{value}" for value in args.values()), op, [values], **args)
    for op in ("add", "sub", "mul", "div"):
        one_op(cases, op, op, [lambda: values().reshape(7, 1), values])

    def pooled(g):
        x = rand(1, 2, 4, 4)
        x[0, 0, 1, 2], x[0, 1, 0, 0] = float("nan"), -float("inf")
        return g.max_pool2d(g.input(x), kernel_size=[2, 2])
    cases.add("max_pool2d", pooled)
    one_op(cases, "softmax", "softmax", [lambda: torch.tensor([[1.0, float("nan")], [-float("inf"), 2.0]])], dim=-1)

    def masked(g):
        mask = torch.zeros(3, 4).masked_fill(torch.rand(3, 4) < 0.4, -float("inf"))
        mask[:, 0] = 0
        q, k, v = g.input(rand(1, 2, 3, 5)), g.input(rand(1, 2, 4, 5)), g.input(rand(1, 2, 4, 5))
        return g.scaled_dot_product_attention(q, k, v, g.constant(value=mask), is_causal=False, scale=None)
    cases.add("attention_infinite_mask", masked)

    mask = torch.zeros(3, 4).masked_fill(torch.tensor([[0, 0, 1, 0], [1, 1, 1, 1], [0, 1, 0, 1]]).bool(), -float("inf"))

    def operands(g):
        return g.input(rand(1, 2, 3, 5)), g.input(rand(1, 2, 4, 5)), g.input(rand(1, 2, 4, 5)), g.constant(value=mask)

    def blind(g):
        return g.scaled_dot_product_attention(*operands(g), is_causal=False, scale=None)
    cases.add("attention_blind_row", blind)

    def blind_in_parts(g):
        q, k, v, m = operands(g)
        return g.matmul(g.softmax(g.add(g.matmul(q, g.transpose(k, dim0=-2, dim1=-1)), m), dim=-1), v)
    cases.add("attention_blind_row_in_parts", blind_in_parts)


@family
def softmax(cases):
    for shape, dim in [((3, 7), -1), ((3, 7), 0), ((1, 1), 1), ((5,), 0), ((2, 1000), 1), ((2, 5, 3, 4), 1), ((2, 3, 4, 5), 2), ((1, 257), -1)]:
        for op in ("softmax", "log_softmax"):
            one_op(cases, f"{op}_{'x'.join(map(str, shape))}_{dim}", op, [lambda: rand(*shape) * 3], dim=dim)
    for op in ("softmax", "log_softmax"):
        one_op(cases, f"{op}_large", op, [lambda: torch.tensor([[1000.0, 1001, 999], [-1000, -1000, -1003], [3e38, -3e38, 0]])], dim=1)


@family
def cumsum(cases):
    for shape, dim in [((3, 7), -1), ((3, 7), 0), ((1,), 0), ((2, 5, 3, 4), 1), ((2, 300), 1)]:
        one_op(cases, f"cumsum_{'x'.join(map(str, shape))}_{dim}", "cumsum", [lambda: rand(*shape)], dim=dim)


@family
def pools(cases):
    for name, x, args in [
        ("2x2", (1, 3, 6, 8), {"kernel_size": [2, 2]}),
        ("2x2_odd", (2, 3, 7, 5), {"kernel_size": [2, 2]}),
        ("2x2_odd_ceil", (2, 3, 7, 5), {"kernel_size": [2, 2], "ceil_mode": True}),
        ("3x3_stem", (1, 8, 9, 7), {"kernel_size": [3, 3], "stride": [2, 2], "padding": [1, 1]}),
        ("3x3_ceil", (1, 4, 10, 8), {"kernel_size": [3, 3], "stride": [2, 2], "ceil_mode": True}),
        ("3x3_stride_1", (1, 2, 5, 5), {"kernel_size": [3, 3], "stride": [1, 1], "padding": [1, 1]}),
        ("3x2_stride_2_3_ceil", (1, 5, 8, 11), {"kernel_size": [3, 2], "stride": [2, 3], "padding": [1, 1], "ceil_mode": True}),
        ("ceil_drops_the_last", (1, 1, 4, 4), {"kernel_size": [2, 2], "stride": [3, 3], "padding": [1, 1], "ceil_mode": True}),
        ("whole_image", (2, 7, 5, 3), {"kernel_size": [5, 3]}),
        ("1x1", (1, 3, 4, 1), {"kernel_size": [1, 1]}),
        ("unbatched", (3, 5, 6), {"kernel_size": [2, 3], "stride": [2, 1]}),
    ]:
        one_op(cases, f"max_{name}", "max_pool2d", [of(*x)], **args)
        one_op(cases, f"avg_{name}", "avg_pool2d", [of(*x)], **args)
        if "padding" in args:
            one_op(cases, f"avg_{name}_exclude_pad", "avg_pool2d", [of(*x)], **args, count_include_pad=False)
    # Images as low as one pixel, where the only window may reach past the end: ceil_mode's corners.
    for at, (h, w, kh, kw, sh, sw) in enumerate([
        (1, 5, 2, 2, 2, 2), (1, 1, 2, 2, 2, 2), (1, 4, 3, 3, 3, 2), (2, 1, 3, 2, 2, 2), (3, 2, 2, 3, 3, 3), (1, 7, 3, 2, 3, 3),
        (5, 1, 2, 3, 1, 3), (2, 3, 4, 4, 4, 3),
    ]):
        for padding in [0, 1]:
            args = {"kernel_size": [kh, kw], "stride": [sh, sw], "padding": [padding, padding], "ceil_mode": True}
            name = f"low_{at}_padding_{padding}"
            one_op(cases, f"max_{name}", "max_pool2d", [of(1, 2, h, w)], **args)
            one_op(cases, f"avg_{name}", "avg_pool2d", [of(1, 2, h, w)], **args, count_include_pad=at % 2 == 0)
            one_op(cases, f"avg_{name}_divisor", "avg_pool2d", [of(1, 2, h, w)], **args, divisor_override=3)
    for name, x, args in [("2", (2, 3, 7), {"kernel_size": [2]}), ("3_stride", (1, 4, 11), {"kernel_size": [3], "stride": [2], "padding": [1]}),
                          ("3_ceil", (1, 2, 8), {"kernel_size": [3], "stride": [2], "ceil_mode": True})]:
        one_op(cases, f"max1d_{name}", "max_pool1d", [of(*x)], **args)
        one_op(cases, f"avg1d_{name}", "avg_pool1d", [of(*x)], **args)
    for x, output in [((2, 3, 7), 3), ((1, 4, 5), 1), ((1, 2, 3), 5)]:
        one_op(cases, f"adaptive_avg1d_{x[-1]}_to_{output}", "adaptive_avg_pool1d", [of(*x)], output_size=output)
        one_op(cases, f"adaptive_max1d_{x[-1]}_to_{output}", "adaptive_max_pool1d", [of(*x)], output_size=output)
    one_op(cases, "max_negative", "max_pool2d", [lambda: -torch.rand(1, 3, 4, 4) - 5], kernel_size=[3, 3], stride=[2, 2], padding=[1, 1])
    one_op(cases, "max_dilation", "max_pool2d", [of(1, 3, 9, 8)], kernel_size=[3, 2], stride=[1, 2], dilation=[2, 3])
    one_op(cases, "max_dilation_ceil", "max_pool2d", [of(1, 3, 10, 9)], kernel_size=[3, 3], stride=[2, 2], padding=[1, 1],
           dilation=[2, 2], ceil_mode=True)
    one_op(cases, "avg_divisor", "avg_pool2d", [of(1, 3, 6, 5)], kernel_size=[2, 3], padding=[1, 1], divisor_override=5)
    one_op(cases, "avg_divisor_ceil", "avg_pool2d", [of(1, 3, 7, 5)], kernel_size=[2, 2], ceil_mode=True, divisor_override=3)
    for x, output in [((1, 5, 7, 9), (1, 1)), ((2, 3, 7, 5), (3, 2)), ((1, 4, 6, 6), (6, 6)), ((1, 2, 3, 2), (7, 5)),
                      ((1, 3, 8, 8), (4, 2)), ((1, 3, 10, 7), (None, 3)), ((1, 3, 5, 7), (2, None)), ((3, 5, 4), (2, 3)),
                      ((1, 6, 1, 1), (7, 7))]:
        name = f"{'x'.join(map(str, x))}_to_{output[0]}x{output[1]}".replace("None", "any")
        one_op(cases, f"adaptive_avg_{name}", "adaptive_avg_pool2d", [of(*x)], output_size=list(output))
        one_op(cases, f"adaptive_max_{name}", "adaptive_max_pool2d", [of(*x)], output_size=list(output))


@family
def binary(cases):
    shapes = [((5,), (5,)), ((3, 1), (1, 4)), ((2, 3, 4, 5), (3, 1, 1)), ((2, 3, 4, 5), (1, 3, 1, 5)), ((1,), (2, 3)),
              ((4, 1, 5), (2, 1, 3, 1)), ((2, 5, 1, 1), (2, 5, 3, 3)), ((), (2, 3)), ((7, 11), ())]
    for op in ("add", "sub", "mul", "div", "maximum", "minimum"):
        for a, b in shapes if op in ("add", "div") else shapes[1:4]:
            name = "_".join("x".join(map(str, s)) or "scalar" for s in (a, b))
            away = lambda: torch.where(torch.rand(b) < 0.5, -1.0, 1.0) * (torch.rand(b) + 0.5)
            one_op(cases, f"{op}_{name}", op, [of(*a), away])

        def with_constant(g):
            x = g.input(rand(2, 3))
            c = g.constant(value=torch.tensor(1.7))
            return getattr(g, op)(x, c), getattr(g, op)(c, x)
        cases.add(f"{op}_constant_both_sides", with_constant)
        one_op(cases, f"{op}_parameter", op, [of(2, 3, 4)], [lambda: torch.rand(3, 1) + 0.5])
    one_op(cases, "pow", "pow", [lambda: torch.rand(3, 5) * 4 + 0.1, of(3, 1)])
    for exponent in (2.0, 3.0, -1.0, 0.0):
        cases.add(f"pow_negative_base_{exponent}", lambda g: g.pow(g.input(rand(3, 4)), g.constant(value=torch.tensor(exponent))))
    cases.add("pow_half", lambda g: g.pow(g.input(torch.rand(3, 4)), g.constant(value=torch.tensor(0.5))))
    cases.add("square", lambda g: (lambda x: g.mul(x, x))(g.input(rand(3, 5))))
    one_op(cases, "add_channels_of_image", "add", [of(2, 6, 5, 5), of(2, 6, 1, 1)])


@family
def views(cases):
    for dim, parts in [(1, [(2, 3, 4, 5), (2, 1, 4, 5)]), (0, [(1, 3), (2, 3), (3, 3)]), (-1, [(2, 3, 1), (2, 3, 4)]),
                       (2, [(1, 3, 2, 5), (1, 3, 4, 5)]), (1, [(1, 8, 3, 3), (1, 12, 3, 3), (1, 4, 3, 3)]), (0, [(7,), (1,)])]:
        name = "_".join("x".join(map(str, p)) for p in parts)
        one_op(cases, f"cat_{dim}_{name}", "cat", [of(*p) for p in parts], dim=dim)
    cases.add("cat_twice_the_same", lambda g: (lambda x: g.cat(x, x, dim=1))(g.input(rand(2, 3, 2))))
    cases.add("cat_one", lambda g: g.cat(g.input(rand(2, 3)), dim=0))
    one_op(cases, "cat_parameter", "cat", [of(1, 4, 6)], [of(1, 1, 6)], dim=1)
    for shape, start, end in [((2, 3, 4, 5), 1, -1), ((2, 3, 4, 5), 0, 1), ((2, 3, 4), -2, -1), ((5,), 0, -1), ((2, 1, 3), 0, -1), ((), 0, -1)]:
        one_op(cases, f"flatten_{len(shape)}d_{start}_{end}", "flatten", [of(*shape)], start_dim=start, end_dim=end)
    for shape, new in [((2, 3, 4), [6, 4]), ((2, 3, 4), [-1]), ((24,), [2, -1, 4]), ((2, 3, 4, 5), [2, 12, 5]), ((1, 6), [1, 1, 6, 1]), ((1,), [])]:
        one_op(cases, f"reshape_{len(shape)}d_to_{'x'.join(map(str, new)) or 'scalar'}", "reshape", [of(*shape)], shape=new)
    for shape, dims in [((2, 3), [1, 0]), ((2, 3, 4), [2, 0, 1]), ((2, 3, 4, 5), [0, 2, 3, 1]), ((2, 5, 3, 4), [0, 3, 1, 2]),
                        ((2, 3, 4, 5), [3, 2, 1, 0]), ((2, 3, 2, 2, 3, 2), [0, 2, 4, 1, 3, 5]), ((2, 1, 3, 2, 5), [4, 2, 0, 1, 3])]:
        one_op(cases, f"permute_{''.join(map(str, dims))}", "permute", [of(*shape)], dims=dims)
    one_op(cases, "squeeze", "squeeze", [of(2, 1, 3)], dim=1)
    one_op(cases, "squeeze_nothing", "squeeze", [of(2, 1, 3)], dim=-1)
    one_op(cases, "unsqueeze", "unsqueeze", [of(2, 3)], dim=-2)
    one_op(cases, "transpose", "transpose", [of(2, 3, 5)], dim0=-1, dim1=1)
    one_op(cases, "transpose_images", "transpose", [of(2, 3, 5, 4)], dim0=1, dim1=3)
    one_op(cases, "expand", "expand", [of(3, 1)], shape=[2, -1, 4])
    one_op(cases, "expand_class_token", "expand", [of(1, 1, 8)], shape=[3, -1, -1])
    for shape, dim, start, end, step in [((5, 4), 0, 1, 4, 1), ((2, 9), 1, 0, 9, 2), ((2, 3, 7), 2, 2, 7, 3), ((2, 6, 3, 3), 1, 2, 4, 1), ((2, 5, 3), 1, 0, 1, 1)]:
        one_op(cases, f"slice_{dim}_{start}_{end}_{step}_{len(shape)}d", "slice", [of(*shape)], dim=dim, start=start, end=end, step=step)
    for mode in ("constant", "reflect", "replicate", "circular"):
        one_op(cases, f"pad_{mode}_image", "pad", [of(2, 3, 4, 5)], pad=[1, 2, 3, 0], mode=mode, value=0.5)
        one_op(cases, f"pad_{mode}_line", "pad", [of(2, 3, 6)], pad=[2, 1], mode=mode, value=0.0)
    one_op(cases, "pad_constant_channels", "pad", [of(2, 3, 2, 3)], pad=[0, 0, 1, 0, 2, 1], mode="constant", value=-1.0)
    cases.add("permute_there_and_back", lambda g: g.permute(g.permute(g.input(rand(2, 3, 4, 5)), dims=[0, 2, 3, 1]), dims=[0, 3, 1, 2]))
    cases.add("reshape_after_permute", lambda g: g.reshape(g.permute(g.input(rand(2, 3, 4, 5)), dims=[0, 2, 3, 1]), shape=[2, 12, 5]))
    cases.add("flatten_image_after_relu", lambda g: g.flatten(g.relu(g.input(rand(2, 3, 4, 5))), start_dim=1, end_dim=-1))

    def integers(g):
        x = g.input(torch.arange(24).reshape(2, 3, 4) * 3 - 7)
        return g.reshape(g.permute(x, dims=[2, 0, 1]), shape=[4, 6]), g.cat(x, x, dim=2)
    cases.add("int64", integers)

    def channel_shuffle(g):
        x = g.reshape(g.input(rand(2, 6, 3, 4)), shape=[2, 2, 3, 3, 4])
        return g.reshape(g.transpose(x, dim0=1, dim1=2), shape=[2, 6, 3, 4])
    cases.add("channel_shuffle", channel_shuffle)


@family
def reduce(cases):
    for shape, dims, keepdim in [((2, 5), [1], False), ((2, 5), [0], True), ((2, 3, 4, 5), [2, 3], False), ((2, 3, 4, 5), [-1, -2], True),
                                 ((2, 3, 4), [0, 2], False), ((3, 7, 5), [1], True), ((2, 3, 4), [0, 1, 2], False), ((5,), [0], False),
                                 ((2, 3, 4, 5), [1], True), ((1, 300), [1], False), ((2, 3, 1, 1), [2, 3], False), ((2, 3, 2, 5), [0, 3], True)]:
        name = f"{'x'.join(map(str, shape))}_{'_'.join(map(str, dims))}{'_keepdim' if keepdim else ''}"
        for op in ("mean", "sum", "amax"):
            one_op(cases, f"{op}_{name}", op, [of(*shape)], dim=dims, keepdim=keepdim)
    one_op(cases, "amax_negative", "amax", [lambda: -torch.rand(3, 9) - 7], dim=[1], keepdim=False)


@family
def matmul(cases):
    for a, b in [((3, 5), (5, 7)), ((1, 1), (1, 1)), ((5,), (5,)), ((4, 5), (5,)), ((5,), (5, 3)), ((2, 3, 5), (5, 4)), ((3, 5), (2, 5, 4)),
                 ((2, 3, 5), (2, 5, 4)), ((2, 1, 3, 5), (4, 5, 2)), ((1, 3, 5), (6, 5, 2)), ((2, 3, 4, 5), (5,)), ((17, 33), (33, 19)),
                 ((65, 8), (8, 66)), ((1, 130), (130, 1)), ((2, 2, 9, 3), (1, 2, 3, 9))]:
        one_op(cases, f"{'x'.join(map(str, a))}_{'x'.join(map(str, b))}", "matmul", [of(*a), of(*b)])
    cases.add("transposed", lambda g: (lambda a, b: g.matmul(a, g.transpose(b, dim0=-1, dim1=-2)))(g.input(rand(2, 3, 5)), g.input(rand(2, 4, 5))))
    cases.add("with_itself", lambda g: (lambda a: g.matmul(a, g.transpose(a, dim0=0, dim1=1)))(g.input(rand(4, 5))))
    one_op(cases, "parameter", "matmul", [of(3, 5)], [of(5, 6)])


@family
def scaled_dot_product_attention(cases):
    for name, q, k, v, args in [
        ("plain", (1, 2, 5, 8), (1, 2, 5, 8), (1, 2, 5, 8), {}),
        ("longer_keys", (2, 3, 4, 6), (2, 3, 9, 6), (2, 3, 9, 6), {}),
        ("one_query", (1, 4, 1, 16), (1, 4, 13, 16), (1, 4, 13, 16), {}),
        ("one_key", (1, 2, 3, 4), (1, 2, 1, 4), (1, 2, 1, 4), {}),
        ("wider_values", (1, 2, 5, 4), (1, 2, 7, 4), (1, 2, 7, 9), {}),
        ("scale", (1, 2, 5, 7), (1, 2, 6, 7), (1, 2, 6, 7), {"scale": 0.31}),
        ("causal", (2, 2, 6, 5), (2, 2, 6, 5), (2, 2, 6, 5), {"is_causal": True}),
        ("causal_longer_keys", (1, 2, 4, 5), (1, 2, 7, 5), (1, 2, 7, 5), {"is_causal": True}),
        ("causal_longer_queries", (1, 1, 7, 4), (1, 1, 3, 4), (1, 1, 3, 4), {"is_causal": True}),
        ("long", (1, 1, 67, 8), (1, 1, 70, 8), (1, 1, 70, 8), {}),
        ("large_scores", (1, 1, 4, 4), (1, 1, 5, 4), (1, 1, 5, 4), {"scale": 60.0}),
        ("rank3", (2, 5, 6), (2, 4, 6), (2, 4, 6), {}),
    ]:
        args = {"is_causal": False, "scale": None, **args}
        one_op(cases, name, "scaled_dot_product_attention", [of(*q), of(*k), of(*v)], [None], **args)
    for shape in [(5, 7), (1, 1, 5, 7), (2, 1, 1, 7), (2, 3, 5, 7), (1, 7)]:
        one_op(cases, f"mask_{'x'.join(map(str, shape))}", "scaled_dot_product_attention",
               [of(2, 3, 5, 4), of(2, 3, 7, 4), of(2, 3, 7, 4), lambda: rand(*shape) * 3], is_causal=False, scale=None)


@family
def embedding(cases):
    for dtype in (torch.int64, torch.int32):
        for shape in [(5,), (2, 3), (1, 1), (2, 2, 3)]:
            one_op(cases, f"{str(dtype)[6:]}_{'x'.join(map(str, shape))}", "embedding",
                   [lambda: torch.randint(0, 11, shape).to(dtype)], [of(11, 6)])
    one_op(cases, "one_wide", "embedding", [lambda: torch.tensor([0, 2, 1, 2])], [of(3, 1)])
    one_op(cases, "scalar", "embedding", [lambda: torch.tensor(2)], [of(3, 4)])
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        one_op(cases, str(dtype)[6:], "embedding", [lambda: torch.tensor([[4, 0, 3]])], [lambda: rand(5, 7).to(dtype)])
