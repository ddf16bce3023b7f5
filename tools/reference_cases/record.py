"""Records small graphs while PyTorch computes them."""
import math
import zlib
from collections import OrderedDict

import torch
import torch.nn.functional as F


def conv(function, x, w, b, padding_mode="zeros", padding=0, **args):
    """A convolution with any of PyTorch's padding modes, as `nn.Conv2d` computes it."""
    if padding_mode == "zeros":
        return function(x, w, b, padding=padding, **args)
    if padding == "valid":
        return function(x, w, b, **args)
    pads = []
    for i, size in reversed(list(enumerate(w.shape[2:]))):
        if padding == "same":
            total = args.get("dilation", [1, 1])[i] * (size - 1)
            pads += [total // 2, total - total // 2]
        else:
            pads += [padding[i]] * 2
    return function(F.pad(x, pads, mode=padding_mode), w, b, **args)


def batch_norm(x, mean, var, w, b, eps):
    return F.batch_norm(x, mean, var, w, b, training=mean is None, eps=eps)


POINTWISE = {
    "relu": F.relu, "relu6": F.relu6, "leaky_relu": F.leaky_relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
    "silu": F.silu, "gelu": F.gelu, "hardswish": F.hardswish, "hardsigmoid": F.hardsigmoid, "elu": F.elu,
    "hardtanh": lambda x, min_val, max_val: F.hardtanh(x, min_val, max_val), "neg": torch.neg, "abs": torch.abs,
    "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "erf": torch.erf,
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div,
    "maximum": torch.maximum, "minimum": torch.minimum, "pow": torch.pow,
    "cat": lambda *x, dim: torch.cat(x, dim), "flatten": lambda x, start_dim, end_dim: x.flatten(start_dim, end_dim),
    "reshape": lambda x, shape: x.reshape(shape), "permute": lambda x, dims: x.permute(dims),
    "transpose": lambda x, dim0, dim1: x.transpose(dim0, dim1), "expand": lambda x, shape: x.expand(shape),
    "squeeze": lambda x, dim: x.squeeze(dim), "unsqueeze": lambda x, dim: x.unsqueeze(dim),
    "slice": lambda x, dim, start, end, step: x[(slice(None),) * dim + (slice(start, end, step),)],
    "pad": lambda x, pad, mode, value: F.pad(x, pad, mode, value) if mode == "constant" else F.pad(x, pad, mode),
    "dropout": lambda x: F.dropout(x, training=False), "constant": lambda value: value,
    "embedding": lambda indices, table: F.embedding(indices, table),
}
SUMS = {
    "linear": (F.linear, lambda x, w, *_: w.shape[-1]),
    "conv2d": (lambda *x, **a: conv(F.conv2d, *x, **a), lambda x, w, *_: w[0].numel()),
    "conv1d": (lambda *x, **a: conv(F.conv1d, *x, **a), lambda x, w, *_: w[0].numel()),
    "batch_norm": (batch_norm, lambda x, mean, *_: x.numel() // x.shape[1] if mean is None else 1),
    "layer_norm": (lambda x, w, b, shape, eps: F.layer_norm(x, shape, w, b, eps), lambda x, *_: x.shape[-1]),
    "softmax": (lambda x, dim: torch.softmax(x, dim), lambda x: max(x.shape, default=1)),
    "log_softmax": (lambda x, dim: torch.log_softmax(x, dim), lambda x: max(x.shape, default=1)),
    "cumsum": (lambda x, dim: torch.cumsum(x, dim), lambda x: max(x.shape, default=1)),
    "max_pool1d": (F.max_pool1d, lambda x: 1),
    "max_pool2d": (F.max_pool2d, lambda x: 1),
    "avg_pool1d": (F.avg_pool1d, lambda x: x.shape[-1]),
    "avg_pool2d": (F.avg_pool2d, lambda x: x.shape[-1] * x.shape[-2]),
    "adaptive_avg_pool1d": (F.adaptive_avg_pool1d, lambda x: x.shape[-1]),
    "adaptive_avg_pool2d": (F.adaptive_avg_pool2d, lambda x: x.shape[-1] * x.shape[-2]),
    "adaptive_max_pool1d": (F.adaptive_max_pool1d, lambda x: 1),
    "adaptive_max_pool2d": (F.adaptive_max_pool2d, lambda x: 1),
    "mean": (lambda x, dim, keepdim: torch.mean(x, dim, keepdim), lambda x: x.numel()),
    "sum": (lambda x, dim, keepdim: torch.sum(x, dim, keepdim), lambda x: x.numel()),
    "amax": (lambda x, dim, keepdim: torch.amax(x, dim, keepdim), lambda x: 1),
    "matmul": (torch.matmul, lambda a, b: a.shape[-1]),
    "scaled_dot_product_attention": (
        lambda q, k, v, mask, is_causal, scale: F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=is_causal, scale=scale),
        lambda q, k, *_: q.shape[-1] + k.shape[-2]),
}


class Graph:
    """Records the ops of a case while PyTorch computes them."""

    def __init__(self):
        self.inputs, self.parameters, self.nodes, self.terms = [], OrderedDict(), [], 1
        self.values = []

    def number(self, value):
        self.values.append(value)
        return len(self.values) - 1

    def input(self, tensor):
        assert not self.parameters and not self.nodes
        self.inputs.append(tensor)
        return self.number(double(tensor))

    def parameter(self, tensor, name=None):
        assert not self.nodes, "parameters come before the nodes"
        self.parameters[name or f"p{len(self.parameters)}.weight"] = tensor
        return self.number(double(tensor))

    def __getattr__(self, op):
        function, terms = SUMS.get(op) or (POINTWISE[op], lambda *_, **__: 0)

        def node(*inputs, **args):
            values = [None if i is None else self.values[i] for i in inputs]
            self.nodes.append({"op": op, "in": list(inputs), "args": args})
            self.terms += terms(*values)
            return self.number(function(*values, **{name: double(value) for name, value in args.items()}))

        return node


def double(value):
    """Floats in float64, which the expected values are computed in; anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    return value.double() if value.is_floating_point() else value


def single(value):
    """Rounded to what sconce computes in."""
    return value.float() if value.is_floating_point() else value


def pack(case):
    """Makes the float32 tensors of a case views of one storage, in order: fewer records, and every one is a view."""
    tensors = [*case["inputs"], *case["parameters"].values(), *case["expected"]]
    floats = [t for t in tensors if t.dtype == torch.float32 and t.is_contiguous() and t._base is None]
    flat = torch.cat([t.reshape(-1) for t in floats]) if floats else torch.empty(0)
    views, at = {}, 0
    for t in floats:
        views[id(t)] = flat[at:at + t.numel()].view(t.shape)
        at += t.numel()
    case["inputs"] = [views.get(id(t), t) for t in case["inputs"]]
    case["parameters"] = OrderedDict((name, views.get(id(t), t)) for name, t in case["parameters"].items())
    case["expected"] = [views.get(id(t), t) for t in case["expected"]]
    return case


FAMILIES = {}


def family(function):
    FAMILIES[function.__name__] = function
    return function


class Cases:
    """The cases of one family; every case has its own seed, so that adding one changes no other."""

    def __init__(self, family):
        self.family, self.cases = family, []

    def add(self, name, build):
        """`build(g)` makes the graph and gives its output or its outputs."""
        name = f"{self.family}.{name}"
        assert name not in [case["name"] for case in self.cases], name
        torch.manual_seed(zlib.crc32(name.encode()))
        g = Graph()
        outputs = build(g)
        outputs = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
        self.cases.append(pack({
            "name": name, "inputs": g.inputs, "parameters": g.parameters, "nodes": g.nodes, "outputs": outputs,
            "expected": [single(g.values[i]).clone().contiguous() for i in outputs],
            "terms": int(g.terms), "pointwise": all(node["op"] in POINTWISE for node in g.nodes),
        }))


def rand(*shape):
    return torch.randn(shape)


def weight(*shape):
    """A weight that keeps the size of the values: variance 1 / fan-in."""
    return torch.randn(shape) / math.sqrt(max(1, math.prod(shape[1:])))


def running(channels):
    """Running statistics, scale and shift of a batch normalisation that is far from the identity."""
    return torch.randn(channels) * 0.5, torch.rand(channels) + 0.3, torch.rand(channels) + 0.5, torch.randn(channels)


def one_op(cases, name, op, inputs, parameters=(), **args):
    """A case of one op on `inputs` and then `parameters` (functions that make a tensor, or None)."""
    def build(g):
        x = [g.input(make()) for make in inputs]
        p = [None if make is None else g.parameter(make()) for make in parameters]
        return getattr(g, op)(*x, *p, **args)
    cases.add(name, build)


def of(*shape, make=rand):
    return lambda: make(*shape)
