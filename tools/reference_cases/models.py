"""Layers with their state dicts, and whole torchvision models with made-up weights."""
import math
from collections import OrderedDict

import numpy as np
import torch
import torchvision

from .record import double


def numbers(name, count):
    """`count` numbers in [-1, 1), the same on every machine: tests/common has this function in Rust."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    x = np.uint64(seed) + np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def made_weight(name, shape, gain):
    """The made-up tensor `name` of a model: sizes that keep the values of a deep network in range."""
    x = numbers(name, math.prod(shape))
    if name.endswith("running_var"):
        x = 1 + 0.5 * x
    elif name.endswith("layer_scale"):
        x = 0.3 * x
    elif len(shape) > 1:
        x = x * math.sqrt(6 / math.prod(shape[1:]))
    elif name.endswith("weight"):
        x = gain * (1 + 0.25 * x)
    else:
        x = 0.05 * x
    return torch.from_numpy(x.reshape(shape)).float()


MODELS = {  # name: the side of its square input
    "resnet18": 64, "resnet34": 64, "resnet50": 64, "resnet101": 64, "resnet152": 64, "resnext50_32x4d": 64,
    "wide_resnet50_2": 64, "vgg11": 32, "vgg13": 32, "vgg16": 32, "vgg19": 32, "vgg11_bn": 32, "vgg13_bn": 32,
    "vgg16_bn": 32, "vgg19_bn": 32, "alexnet": 64, "mobilenet_v2": 64, "mobilenet_v3_small": 64,
    "mobilenet_v3_large": 64, "squeezenet1_0": 64, "squeezenet1_1": 64, "densenet121": 64, "efficientnet_b0": 64,
    "vit_b_16": 224, "convnext_tiny": 64,
}
# What the weights of normalisations are around, so that deep networks neither explode nor forget their input.
GAINS = {"resnet101": 0.5, "resnet152": 0.4, "mobilenet_v3_small": 1.0, "mobilenet_v3_large": 0.95, "efficientnet_b0": 1.0}


def models():
    """One output for every architecture: weights and input are made by `numbers`, so that only answers are stored."""
    outputs = OrderedDict()
    for name, side in MODELS.items():
        gain = GAINS.get(name, 0.8)
        with torch.device("meta"):
            model = getattr(torchvision.models, name)().eval()
        shapes = {key: tuple(value.shape) for key, value in model.state_dict().items() if value.is_floating_point()}
        state = {key: made_weight(key, shape, gain).double() for key, shape in shapes.items()}
        counters = {key: torch.tensor(0) for key in model.state_dict() if key.endswith("num_batches_tracked")}
        model.load_state_dict({**state, **counters}, assign=True)
        x = torch.from_numpy(numbers("input", 3 * side * side).reshape(1, 3, side, side) * 2)
        y, other = model(x.float().double()), model(-x)
        change = (y - other).std() / y.std()
        assert change > 0.02, f"{name} hardly depends on its input: {change}"
        count = sum(map(math.prod, shapes.values()))
        print(f"{name:20} {count:>11,} numbers, outputs {y.std():.3g}, changed by {change:.2f}", flush=True)
        outputs[name] = {"side": side, "gain": gain, "output": y.float().clone(), "tensors": len(state)}
    return {"torch": torch.__version__, "models": outputs}


LAYERS = [  # layer, its arguments, the shape of its input
    ("Linear", (5, 3), {}, (2, 5)), ("Linear", (5, 3), {"bias": False}, (2, 4, 5)),
    ("Conv2d", (3, 4, 3), {}, (1, 3, 5, 6)),
    ("Conv2d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2, "bias": False}, (2, 4, 7, 6)),
    ("Conv2d", (3, 4, [3, 1]), {"padding": [1, 0], "dilation": [2, 1]}, (1, 3, 7, 5)),
    ("Conv2d", (3, 4, 4), {"padding": "same"}, (1, 3, 6, 5)),
    ("Conv2d", (3, 4, 3), {"padding": 2, "padding_mode": "reflect"}, (1, 3, 6, 5)),
    ("Conv1d", (3, 4, 3), {"stride": 2, "padding": 1}, (2, 3, 9)),
    ("BatchNorm1d", (4,), {}, (3, 4)), ("BatchNorm1d", (4,), {"affine": False}, (3, 4, 5)),
    ("BatchNorm2d", (4,), {"eps": 1e-3}, (2, 4, 3, 5)), ("BatchNorm2d", (4,), {"track_running_stats": False}, (2, 4, 3, 5)),
    ("BatchNorm3d", (3,), {}, (2, 3, 2, 3, 4)),
    ("LayerNorm", (6,), {}, (2, 5, 6)), ("LayerNorm", ([5, 6],), {"eps": 1e-6, "bias": False}, (2, 5, 6)),
    ("LayerNorm", (6,), {"elementwise_affine": False}, (3, 6)),
    ("Embedding", (7, 5), {}, None),
    ("ReLU", (), {}, (2, 7)), ("ReLU6", (), {}, (2, 7)), ("LeakyReLU", (), {"negative_slope": 0.2}, (2, 7)), ("Sigmoid", (), {}, (2, 7)),
    ("Tanh", (), {}, (2, 7)), ("SiLU", (), {}, (2, 7)), ("GELU", (), {}, (2, 7)), ("GELU", (), {"approximate": "tanh"}, (2, 7)),
    ("Hardswish", (), {}, (2, 7)), ("Hardsigmoid", (), {}, (2, 7)), ("ELU", (), {"alpha": 0.5}, (2, 7)),
    ("Softmax", (), {"dim": 1}, (2, 7)), ("LogSoftmax", (), {"dim": -1}, (2, 7)),
    ("MaxPool2d", (3,), {"stride": 2, "padding": 1}, (1, 3, 8, 7)), ("MaxPool2d", (2,), {"ceil_mode": True}, (1, 3, 5, 7)),
    ("AvgPool2d", (2,), {}, (1, 3, 6, 7)), ("AvgPool2d", (3,), {"stride": 2, "padding": 1, "count_include_pad": False}, (1, 3, 6, 7)),
    ("AdaptiveAvgPool2d", (1,), {}, (2, 3, 5, 4)), ("AdaptiveAvgPool2d", ((3, 2),), {}, (2, 3, 5, 7)),
    ("AdaptiveMaxPool2d", (2,), {}, (2, 3, 5, 7)), ("AdaptiveMaxPool2d", ((None, 3),), {}, (1, 2, 4, 5)),
    ("MaxPool1d", (3,), {"stride": 2}, (2, 3, 9)), ("AvgPool1d", (2,), {"padding": 1}, (2, 3, 9)),
    ("AdaptiveAvgPool1d", (4,), {}, (2, 3, 7)), ("Hardtanh", (-0.5, 0.75), {}, (2, 7)),
    ("Dropout", (0.5,), {}, (2, 7)), ("Flatten", (), {}, (2, 3, 4)), ("Flatten", (0, 1), {}, (2, 3, 4)), ("Identity", (), {}, (2, 3)),
    ("MultiheadAttention", (8, 2), {"batch_first": True}, (2, 5, 8)), ("MultiheadAttention", (6, 3), {"bias": False}, (4, 2, 6)),
    ("TransformerEncoderLayer", (8, 2), {"dim_feedforward": 12, "batch_first": True}, (2, 5, 8)),
    ("TransformerEncoderLayer", (6, 3), {"dim_feedforward": 7, "norm_first": True, "activation": "gelu"}, (4, 2, 6)),
    ("RNN", (3, 4), {"num_layers": 2}, (5, 2, 3)), ("GRU", (3, 4), {"num_layers": 2, "bidirectional": True, "dropout": 0.25}, (5, 2, 3)),
    ("LSTM", (3, 4), {"num_layers": 2, "batch_first": True, "bidirectional": True, "proj_size": 2}, (2, 5, 3)),
    ("LSTM", (3, 4), {"bias": False}, (5, 3)),
]


def layers():
    """Every layer of `nn`, built from its arguments, with the state dict and the printed form that PyTorch gives it."""
    cases = []
    for i, (layer, positional, args, shape) in enumerate(LAYERS):
        torch.manual_seed(i)
        module = getattr(torch.nn, layer)(*positional, **args).eval()
        for name, p in [*module.named_parameters(), *module.named_buffers()]:
            if p.is_floating_point():
                p.data = torch.rand(p.shape) + 0.5 if "var" in name else torch.randn(p.shape) * 0.5
        x = torch.randint(0, positional[0], (2, 3)) if shape is None else torch.randn(shape) * 2
        state = module.state_dict()
        printed = repr(module)
        inputs = [double(x)] * 3 if layer == "MultiheadAttention" else [double(x)]
        with torch.no_grad():
            y = module.double()(*inputs)
        y = y[0] if isinstance(y, tuple) else y
        state = OrderedDict((key, value.clone()) for key, value in module.float().state_dict().items())
        cases.append({"layer": layer, "positional": list(positional), "args": args, "printed": printed, "state_dict": state,
                      "input": x, "expected": y.float().clone()})
    return {"torch": torch.__version__, "cases": cases}


def shapes():
    """resnet50's state dict with its names, shapes and records, but no weights: every tensor repeats one number."""
    with torch.device("meta"):
        state = torchvision.models.resnet50().state_dict()
    return OrderedDict((k, torch.zeros((), dtype=v.dtype).add(0.5).expand(v.shape)) for k, v in state.items())
