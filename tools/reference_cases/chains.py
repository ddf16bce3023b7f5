"""Cases of several ops: chains that the passes rewrite, blocks of real models, graphs of unusual form."""
import torch

from .ops import ACTIVATIONS
from .record import family, rand, running, weight


class Layers:
    """The layers of a chain; parameters are made before the nodes, under the names a state dict would give them."""

    def __init__(self, g):
        self.g = g

    def conv(self, name, out, inner, size=3, bias=False, **args):
        w = self.g.parameter(weight(out, inner, size, size), f"{name}.weight")
        b = self.g.parameter(rand(out), f"{name}.bias") if bias else None
        return lambda x: self.g.conv2d(x, w, b, **args)

    def bn(self, name, channels, affine=True):
        keys = ("running_mean", "running_var", "weight", "bias")
        p = [self.g.parameter(t, f"{name}.{key}") if affine or "running" in key else None for key, t in zip(keys, running(channels))]
        return lambda x: self.g.batch_norm(x, *p, eps=1e-5)

    def linear(self, name, out, inner, bias=True):
        w = self.g.parameter(weight(out, inner), f"{name}.weight")
        b = self.g.parameter(rand(out), f"{name}.bias") if bias else None
        return lambda x: self.g.linear(x, w, b)

    def norm(self, name, size):
        w, b = self.g.parameter(torch.rand(size) + 0.5, f"{name}.weight"), self.g.parameter(rand(size), f"{name}.bias")
        return lambda x: self.g.layer_norm(x, w, b, shape=[size], eps=1e-6)


def chain(cases, name, shapes):
    """Registers `body(g, layers, *inputs)`, which makes its layers and then gives a function that runs them."""
    def register(body):
        def build(g):
            x = [g.input(make() if callable(make) else rand(*make)) for make in shapes]
            return body(g, Layers(g))(*x)
        cases.add(name, build)
    return register


@family
def fusion(cases):
    """Chains that the passes rewrite, and chains that they must leave alone."""
    pad = {"padding": [1, 1]}
    for bias in (False, True):
        for affine in (True, False):
            @chain(cases, f"conv_bn{'_bias' if bias else ''}{'' if affine else '_plain'}", [(1, 3, 5, 6)])
            def _(g, l):
                conv, bn = l.conv("conv", 5, 3, bias=bias, **pad), l.bn("bn", 5, affine)
                return lambda x: bn(conv(x))

    for op, args in ACTIVATIONS:
        @chain(cases, f"conv_bn_{op}" + "".join(f"_{v}" for v in args.values()), [(1, 3, 5, 4)])
        def _(g, l):
            conv, bn = l.conv("conv", 6, 3, **pad), l.bn("bn", 6)
            return lambda x: getattr(g, op)(bn(conv(x)), **args)

    @chain(cases, "depthwise_bn_relu6", [(2, 8, 6, 5)])
    def _(g, l):
        conv, bn = l.conv("conv", 8, 1, groups=8, **pad), l.bn("bn", 8)
        return lambda x: g.relu6(bn(conv(x)))

    @chain(cases, "grouped_bn_relu", [(1, 8, 6, 5)])
    def _(g, l):
        conv, bn = l.conv("conv", 12, 4, groups=2, stride=[2, 2], **pad), l.bn("bn", 12)
        return lambda x: g.relu(bn(conv(x)))

    for order in ("conv_first", "identity_first"):
        @chain(cases, f"resnet_block_{order}", [(2, 6, 5, 5)])
        def _(g, l):
            conv1, bn1, conv2, bn2 = l.conv("conv1", 6, 6, **pad), l.bn("bn1", 6), l.conv("conv2", 6, 6, **pad), l.bn("bn2", 6)
            def run(x):
                y = bn2(conv2(g.relu(bn1(conv1(x)))))
                return g.relu(g.add(y, x) if order == "conv_first" else g.add(x, y))
            return run

    @chain(cases, "resnet_downsample", [(1, 4, 7, 6)])
    def _(g, l):
        conv1, bn1 = l.conv("conv1", 8, 4, stride=[2, 2], **pad), l.bn("bn1", 8)
        conv2, bn2 = l.conv("conv2", 8, 8, **pad), l.bn("bn2", 8)
        conv3, bn3 = l.conv("downsample.0", 8, 4, 1, stride=[2, 2]), l.bn("downsample.1", 8)
        return lambda x: g.relu(g.add(bn2(conv2(g.relu(bn1(conv1(x))))), bn3(conv3(x))))

    @chain(cases, "bottleneck_chain", [(1, 8, 4, 5)])
    def _(g, l):
        blocks = []
        for i in range(2):
            blocks.append([l.conv(f"{i}.conv1", 4, 8, 1), l.bn(f"{i}.bn1", 4), l.conv(f"{i}.conv2", 4, 4, **pad), l.bn(f"{i}.bn2", 4),
                           l.conv(f"{i}.conv3", 8, 4, 1), l.bn(f"{i}.bn3", 8)])
        def run(x):
            for c1, b1, c2, b2, c3, b3 in blocks:
                x = g.relu(g.add(b3(c3(g.relu(b2(c2(g.relu(b1(c1(x)))))))), x))
            return x
        return run

    @chain(cases, "residual_after_activation", [(1, 4, 5, 5)])
    def _(g, l):
        conv = l.conv("conv", 4, 4, bias=True, **pad)
        return lambda x: g.add(g.silu(conv(x)), x)

    @chain(cases, "linear_bottleneck_add", [(1, 4, 5, 5)])
    def _(g, l):
        conv, bn = l.conv("conv", 4, 4, 1), l.bn("bn", 4)
        return lambda x: g.add(x, bn(conv(x)))

    @chain(cases, "conv_added_to_itself", [(1, 3, 5, 5)])
    def _(g, l):
        conv = l.conv("conv", 4, 3, bias=True, **pad)
        return lambda x: (lambda y: g.relu(g.add(y, y)))(conv(x))

    @chain(cases, "conv_used_twice", [(1, 3, 5, 5)])
    def _(g, l):
        conv, bn = l.conv("conv", 4, 3, **pad), l.bn("bn", 4)
        return lambda x: (lambda y: g.add(g.relu(bn(y)), y))(conv(x))

    @chain(cases, "bn_used_twice", [(1, 3, 5, 5)])
    def _(g, l):
        conv, bn = l.conv("conv", 4, 3, **pad), l.bn("bn", 4)
        return lambda x: (lambda y: g.mul(g.sigmoid(y), y))(bn(conv(x)))

    @chain(cases, "two_bns_of_one_conv", [(1, 3, 5, 5)])
    def _(g, l):
        conv, a, b = l.conv("conv", 4, 3, **pad), l.bn("a", 4), l.bn("b", 4)
        return lambda x: (lambda y: g.add(g.relu(a(y)), g.tanh(b(y))))(conv(x))

    @chain(cases, "one_weight_in_two_convs", [(1, 3, 5, 5), (1, 3, 4, 7)])
    def _(g, l):
        conv, a, b = l.conv("conv", 4, 3, **pad), l.bn("a", 4), l.bn("b", 4)
        return lambda x, y: (g.relu(a(conv(x))), b(conv(y)))

    @chain(cases, "conv_is_an_output_too", [(1, 3, 5, 5)])
    def _(g, l):
        conv, bn = l.conv("conv", 4, 3, bias=True, **pad), l.bn("bn", 4)
        return lambda x: (lambda y: (g.relu(bn(y)), y))(conv(x))

    @chain(cases, "bn_is_an_output_too", [(1, 3, 5, 5)])
    def _(g, l):
        conv, bn = l.conv("conv", 4, 3, **pad), l.bn("bn", 4)
        return lambda x: (lambda y: (y, g.relu(y)))(bn(conv(x)))

    @chain(cases, "residual_that_broadcasts", [(2, 3, 5, 5), (1, 4, 1, 1)])
    def _(g, l):
        conv = l.conv("conv", 4, 3, **pad)
        return lambda x, r: g.relu(g.add(conv(x), r))

    @chain(cases, "residual_that_is_larger", [(1, 3, 5, 5), (2, 4, 5, 5)])
    def _(g, l):
        conv = l.conv("conv", 4, 3, **pad)
        return lambda x, r: g.relu(g.add(conv(x), r))

    @chain(cases, "residual_made_later", [(1, 3, 5, 5), (1, 4, 5, 5)])
    def _(g, l):
        conv = l.conv("conv", 4, 3, **pad)
        return lambda x, r: (lambda y: g.relu(g.add(y, g.tanh(r))))(conv(x))

    @chain(cases, "residual_depends_on_the_conv", [(1, 3, 5, 5)])
    def _(g, l):
        conv = l.conv("conv", 4, 3, **pad)
        return lambda x: (lambda y: g.add(y, g.mean(y, dim=[2, 3], keepdim=True)))(conv(x))

    @chain(cases, "conv_minus_residual", [(1, 3, 5, 5), (1, 4, 5, 5)])
    def _(g, l):
        conv = l.conv("conv", 4, 3, **pad)
        return lambda x, r: (g.sub(conv(x), r), g.sub(r, conv(x)))

    @chain(cases, "sum_of_two_convs", [(1, 3, 5, 5)])
    def _(g, l):
        a, b = l.conv("a", 4, 3, bias=True, **pad), l.conv("b", 4, 3, 1, bias=True)
        return lambda x: g.relu(g.add(a(x), b(x)))

    @chain(cases, "relu_between_conv_and_bn", [(1, 3, 5, 5)])
    def _(g, l):
        conv, bn = l.conv("conv", 4, 3, bias=True), l.bn("bn", 4)
        return lambda x: bn(g.relu(conv(x)))

    @chain(cases, "bn_relu_conv_densenet", [(1, 4, 5, 6)])
    def _(g, l):
        bn1, conv1, bn2, conv2 = l.bn("norm1", 4), l.conv("conv1", 8, 4, 1), l.bn("norm2", 8), l.conv("conv2", 3, 8, **pad)
        def run(x):
            new = conv2(g.relu(bn2(conv1(g.relu(bn1(x))))))
            return g.cat(x, new, dim=1)
        return run

    @chain(cases, "densenet_block", [(1, 3, 4, 5)])
    def _(g, l):
        layers = [(l.bn(f"{i}.norm", 3 + 2 * i), l.conv(f"{i}.conv", 2, 3 + 2 * i, **pad)) for i in range(3)]
        last, out = l.bn("last", 9), l.conv("out", 4, 9, 1)
        def run(x):
            features = [x]
            for bn, conv in layers:
                features.append(conv(g.relu(bn(g.cat(*features, dim=1)))))
            return g.avg_pool2d(out(g.relu(last(g.cat(*features, dim=1)))), kernel_size=[2, 2])
        return run

    @chain(cases, "bn_conv_padding", [(1, 3, 5, 5)])
    def _(g, l):
        bn, conv = l.bn("bn", 3), l.conv("conv", 4, 3, bias=True, **pad)
        return lambda x: conv(bn(x))

    @chain(cases, "bn_bn", [(2, 3, 4, 5)])
    def _(g, l):
        a, b = l.bn("a", 3), l.bn("b", 3)
        return lambda x: b(g.relu(a(a(x))))

    for rank in (2, 3):
        @chain(cases, f"linear_bn1d_relu_{rank}d", [(3, 7)] if rank == 2 else [(3, 4, 7)])
        def _(g, l):
            # On [n, c, l] the channels of the normalisation are dimension 1, not the linear layer's outputs.
            fc, bn = l.linear("fc", 5, 7), l.bn("bn", 5 if rank == 2 else 4)
            return lambda x: g.relu(bn(fc(x)))

    @chain(cases, "linear_no_bias_bn1d", [(3, 7)])
    def _(g, l):
        fc, bn = l.linear("fc", 5, 7, bias=False), l.bn("bn", 5)
        return lambda x: bn(fc(x))

    @chain(cases, "conv1d_bn_relu", [(2, 3, 9)])
    def _(g, l):
        w, b, bn = g.parameter(weight(5, 3, 3), "conv.weight"), g.parameter(rand(5), "conv.bias"), l.bn("bn", 5)
        return lambda x: g.relu(bn(g.conv1d(x, w, b, padding=[1])))

    @chain(cases, "mlp", [(3, 10)])
    def _(g, l):
        a, b, c = l.linear("0", 16, 10), l.linear("2", 13, 16), l.linear("4", 5, 13)
        return lambda x: c(g.relu(b(g.gelu(a(x), approximate="none"))))

    @chain(cases, "linear_add_residual", [(2, 5, 8)])
    def _(g, l):
        a, b = l.linear("a", 12, 8), l.linear("b", 8, 12)
        return lambda x: g.add(x, b(g.gelu(a(x), approximate="tanh")))

    @chain(cases, "linear_scaled", [(3, 8)])
    def _(g, l):
        fc, scale = l.linear("fc", 6, 8), g.parameter(rand(6), "gamma")
        return lambda x: g.mul(fc(x), scale)

    @chain(cases, "conv_scaled_by_channel", [(1, 3, 5, 4)])
    def _(g, l):
        conv, scale = l.conv("conv", 4, 3, bias=True, **pad), g.parameter(rand(4, 1, 1), "layer_scale")
        return lambda x: g.add(g.mul(scale, conv(x)), g.constant(value=torch.tensor(0.25)))

    @chain(cases, "conv_scaled_by_image", [(1, 3, 5, 5), (1, 1, 5, 5)])
    def _(g, l):
        conv = l.conv("conv", 4, 3, bias=True, **pad)
        return lambda x, m: g.mul(conv(x), m)

    @chain(cases, "weight_computed_from_parameters", [(1, 3, 5, 4)])
    def _(g, l):
        w, scale = g.parameter(weight(4, 3, 3, 3), "conv.weight"), g.parameter(rand(4, 1, 1, 1), "scale")
        return lambda x: g.conv2d(x, g.mul(w, scale), None, padding=[1, 1])

    @chain(cases, "pool_between", [(1, 3, 8, 8)])
    def _(g, l):
        a, b = l.conv("a", 5, 3, bias=True, **pad), l.conv("b", 6, 5, bias=True)
        return lambda x: g.relu(b(g.max_pool2d(g.relu(a(x)), kernel_size=[2, 2])))

    @chain(cases, "image_to_classes", [(2, 3, 8, 8)])
    def _(g, l):
        conv, fc = l.conv("conv", 5, 3, bias=True, stride=[2, 2]), l.linear("fc", 4, 5 * 9)
        return lambda x: g.softmax(fc(g.flatten(g.relu(conv(x)), start_dim=1, end_dim=-1)), dim=-1)


@family
def blocks(cases):
    """Whole blocks of the models, and graphs of unusual form."""
    pad = {"padding": [1, 1]}

    @chain(cases, "convnext", [(2, 6, 5, 4)])
    def _(g, l):
        conv = l.conv("block.0", 6, 1, 7, bias=True, padding=[3, 3], groups=6)
        norm, up, down = l.norm("block.2", 6), l.linear("block.3", 24, 6), l.linear("block.5", 6, 24)
        scale = g.parameter(rand(6, 1, 1), "layer_scale")
        def run(x):
            y = norm(g.permute(conv(x), dims=[0, 2, 3, 1]))
            y = g.permute(down(g.gelu(up(y), approximate="none")), dims=[0, 3, 1, 2])
            return g.add(g.mul(scale, y), x)
        return run

    @chain(cases, "layer_norm_2d", [(1, 7, 4, 5)])
    def _(g, l):
        norm, conv = l.norm("norm", 7), l.conv("conv", 4, 7, 2, bias=True, stride=[2, 2])
        return lambda x: conv(g.permute(norm(g.permute(x, dims=[0, 2, 3, 1])), dims=[0, 3, 1, 2]))

    def attention(g, l, embed, heads):
        qkv, out = l.linear("in_proj", 3 * embed, embed), l.linear("out_proj", embed, embed)
        def run(x, n, t):
            parts = []
            y = qkv(x)
            for i in range(3):
                part = g.slice(y, dim=2, start=i * embed, end=(i + 1) * embed, step=1)
                parts.append(g.permute(g.reshape(part, shape=[n, t, heads, embed // heads]), dims=[0, 2, 1, 3]))
            y = g.scaled_dot_product_attention(*parts, None, is_causal=False, scale=None)
            return out(g.reshape(g.permute(y, dims=[0, 2, 1, 3]), shape=[n, t, embed]))
        return run

    @chain(cases, "multi_head_attention", [(2, 7, 12)])
    def _(g, l):
        run = attention(g, l, 12, 3)
        return lambda x: run(x, 2, 7)

    @chain(cases, "vit_encoder", [(1, 5, 8)])
    def _(g, l):
        n1, run, n2 = l.norm("ln_1", 8), attention(g, l, 8, 2), l.norm("ln_2", 8)
        up, down = l.linear("mlp.0", 16, 8), l.linear("mlp.3", 8, 16)
        def body(x):
            x = g.add(run(n1(x), 1, 5), x)
            return g.add(x, down(g.dropout(g.gelu(up(n2(x)), approximate="none"))))
        return body

    @chain(cases, "vit_embedding", [(2, 3, 8, 8)])
    def _(g, l):
        conv = l.conv("conv_proj", 6, 3, 4, bias=True, stride=[4, 4])
        token, position = g.parameter(rand(1, 1, 6), "class_token"), g.parameter(rand(1, 5, 6), "pos_embedding")
        def run(x):
            x = g.permute(g.reshape(conv(x), shape=[2, 6, 4]), dims=[0, 2, 1])
            x = g.add(g.cat(g.expand(token, shape=[2, -1, -1]), x, dim=1), position)
            return g.reshape(g.slice(x, dim=1, start=0, end=1, step=1), shape=[2, 6])
        return run

    @chain(cases, "attention_by_hand", [(1, 2, 4, 6)])
    def _(g, l):
        def run(x):
            scores = g.div(g.matmul(x, g.transpose(x, dim0=-2, dim1=-1)), g.constant(value=torch.tensor(6.0).sqrt()))
            return g.matmul(g.softmax(scores, dim=-1), x)
        return run

    for act, gate in (("relu", "hardsigmoid"), ("silu", "sigmoid")):
        @chain(cases, f"squeeze_excite_{gate}", [(2, 8, 5, 4)])
        def _(g, l):
            conv, bn = l.conv("conv", 8, 1, groups=8, **pad), l.bn("bn", 8)
            fc1, fc2 = l.conv("fc1", 3, 8, 1, bias=True), l.conv("fc2", 8, 3, 1, bias=True)
            def run(x):
                y = getattr(g, act)(bn(conv(x)))
                s = fc2(getattr(g, act)(fc1(g.adaptive_avg_pool2d(y, output_size=[1, 1]))))
                return g.mul(getattr(g, gate)(s), y)
            return run

    @chain(cases, "inverted_residual", [(1, 4, 6, 5)])
    def _(g, l):
        a, b1, b, b2, c, b3 = (l.conv("0.0", 12, 4, 1), l.bn("0.1", 12), l.conv("1.0", 12, 1, groups=12, **pad), l.bn("1.1", 12),
                               l.conv("2", 4, 12, 1), l.bn("3", 4))
        return lambda x: g.add(x, b3(c(g.relu6(b2(b(g.relu6(b1(a(x)))))))))

    @chain(cases, "fire", [(1, 6, 5, 5)])
    def _(g, l):
        s, a, b = l.conv("squeeze", 3, 6, 1, bias=True), l.conv("expand1x1", 4, 3, 1, bias=True), l.conv("expand3x3", 4, 3, bias=True, **pad)
        def run(x):
            x = g.relu(s(x))
            return g.cat(g.relu(a(x)), g.relu(b(x)), dim=1)
        return run

    @chain(cases, "cat_then_conv", [(1, 3, 5, 6), (1, 2, 5, 6)])
    def _(g, l):
        a, b = l.conv("a", 4, 3, bias=True, **pad), l.conv("b", 5, 6, bias=True, **pad)
        return lambda x, y: b(g.cat(g.relu(a(x)), y, dim=1))

    @chain(cases, "cat_reused", [(1, 3, 4, 4)])
    def _(g, l):
        a = l.conv("a", 4, 3, 1, bias=True)
        def run(x):
            y = a(x)
            both = g.cat(y, x, dim=1)
            return g.cat(both, y, dim=1), g.relu(y)
        return run

    @chain(cases, "slices_of_channels", [(1, 7, 4, 5)])
    def _(g, l):
        conv = l.conv("conv", 6, 7, 1, bias=True)
        def run(x):
            y = conv(x)
            first, last = g.slice(y, dim=1, start=0, end=3, step=1), g.slice(y, dim=1, start=3, end=6, step=1)
            return g.mul(first, g.sigmoid(last))
        return run

    @chain(cases, "image_and_sequence_mixed", [(2, 6, 3, 4)])
    def _(g, l):
        conv, fc = l.conv("conv", 6, 6, bias=True, **pad), l.linear("fc", 4, 4)
        return lambda x: g.add(fc(conv(x)), x)

    @chain(cases, "text", [lambda: torch.randint(0, 9, (2, 5))])
    def _(g, l):
        table, fc, norm = g.parameter(rand(9, 6), "embedding.weight"), l.linear("fc", 3, 6), l.norm("norm", 6)
        return lambda x: g.log_softmax(fc(g.mean(norm(g.embedding(x, table)), dim=[1], keepdim=False)), dim=1)

    @chain(cases, "pointwise_chain", [(2, 3, 4, 5), (3, 1, 1)])
    def _(g, l):
        def run(x, y):
            a = g.tanh(g.mul(g.add(x, y), g.constant(value=torch.tensor(0.7))))
            b = g.sub(g.sigmoid(x), a)
            return g.div(g.silu(b), g.add(g.mul(y, y), g.constant(value=torch.tensor(1.0))))
        return run

    @chain(cases, "pointwise_long", [(3, 7)])
    def _(g, l):
        def run(x):
            y = x
            for i in range(12):
                y = g.add(g.mul(g.tanh(y), g.constant(value=torch.tensor(1.5))), x)
            return y
        return run

    @chain(cases, "pointwise_many_inputs", [(2, 5)] * 11)
    def _(g, l):
        def run(*x):
            y = x[0]
            for i, other in enumerate(x[1:]):
                y = g.sigmoid(g.add(y, other)) if i % 3 == 0 else g.mul(y, other) if i % 3 == 1 else g.sub(other, y)
            return y
        return run

    @chain(cases, "pointwise_across_layouts", [(2, 3, 4, 5), (2, 5, 4, 3)])
    def _(g, l):
        return lambda x, y: g.relu(g.add(x, g.transpose(y, dim0=1, dim1=3)))

    @chain(cases, "used_twice", [(2, 5)])
    def _(g, l):
        a = l.linear("a", 5, 5)
        return lambda x: g.mul(g.add(a(x), x), g.sub(x, a(x)))

    @chain(cases, "output_and_intermediate", [(2, 5)])
    def _(g, l):
        a, b = l.linear("a", 6, 5), l.linear("b", 3, 6)
        return lambda x: (lambda y: (y, b(y), g.relu(b(y))))(g.relu(a(x)))

    @chain(cases, "same_output_twice", [(2, 5)])
    def _(g, l):
        return lambda x: (lambda y: (y, y))(g.relu(x))

    cases.add("input_returned", lambda g: (lambda x: (x, g.relu(x)))(g.input(rand(2, 3))))
    cases.add("image_returned", lambda g: (lambda x: (g.relu(x), x))(g.input(rand(1, 3, 2, 4))))
    cases.add("input_reshaped_is_output", lambda g: g.reshape(g.input(rand(2, 3, 4)), shape=[4, 6]))
    cases.add("inputs_swapped", lambda g: (lambda x, y: (y, x))(g.input(rand(2, 3)), g.input(rand(4))))
    cases.add("unused_input", lambda g: (lambda x, y: g.relu(y))(g.input(rand(2, 3)), g.input(rand(4))))
    cases.add("unused_node", lambda g: (lambda x: [g.tanh(x), g.relu(x)][1])(g.input(rand(4))))

    def constants(g):
        x = g.input(rand(2))
        p = g.parameter(rand(3, 2), "p")
        return g.constant(value=rand(2, 2)), g.relu(p), p, g.add(x, g.mean(p, dim=[0], keepdim=False))
    cases.add("constant_outputs", constants)

    def transposed_parameter(g):
        x = g.input(rand(3))
        p = g.parameter(rand(4, 3), "p")
        return g.transpose(p, dim0=0, dim1=1), g.mul(x, p)
    cases.add("transposed_parameter_output", transposed_parameter)
