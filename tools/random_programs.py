"""Random small programs of torch.export: views, writes through views, promotion, reductions, indices.

usage: random_programs.py --sconce PATH [--device cpu] [--first 0] [--count 100] [--steps 10]
       random_programs.py --write

Each seed makes a module that applies random functions to its inputs and to what they gave before; every value is an
output, so that the first one that differs names the function. It is exported in both forms and run: shapes, dtypes,
integers and booleans must be PyTorch's, floats within 2e-5 of the largest value. A refusal is counted with its message.
With --write, the programs of some seeds become fixtures under tests/data/programs/random.
"""
import argparse
import collections
import random
import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

warnings.filterwarnings("ignore")
FOLDER = Path(__file__).parent.parent / "tests" / "data" / "programs" / "random"
R = random.Random()
INPUTS = 4
# A maker takes the values so far and gives a name and a function of all values, or None.
MAKERS = []


def is_float(x):
    return x.dtype.is_floating_point


def is_number(x):
    return x.dtype != torch.bool


def has_dims(x):
    return x.dim() > 0 and x.numel() > 0


def a_dim(x):
    return R.randrange(-x.dim(), x.dim())


def one(name, make, fits=lambda x: True):
    """A function of one value; `make` gives its arguments' text and the function."""

    def maker(values):
        places = [i for i, x in enumerate(values) if fits(x)]
        if not places:
            return None
        i = R.choice(places)
        made = make(values[i])
        return made and (f"{name}({i}, {made[0]})", lambda v: made[1](v[i]))

    MAKERS.append(maker)


def plain(name, function, fits=lambda x: True):
    one(name, lambda x: ("", function), fits)


def with_dim(name, function, fits=lambda x: True):
    one(name, lambda x: (lambda d: (d, lambda t: function(t, d)))(a_dim(x)), lambda x: has_dims(x) and fits(x))


def with_number(name, function, numbers, fits=lambda x: True):
    one(name, lambda x: (lambda k: (repr(k), lambda t: function(t, k)))(R.choice(numbers)), fits)


def two(name, function, fits=lambda a, b: True):
    """A function of two values that broadcast."""

    def maker(values):
        for _ in range(8):
            i, j = R.randrange(len(values)), R.randrange(len(values))
            try:
                torch.broadcast_shapes(values[i].shape, values[j].shape)
            except RuntimeError:
                continue
            if fits(values[i], values[j]):
                return f"{name}({i}, {j})", lambda v: function(v[i], v[j])
        return None

    MAKERS.append(maker)


def without_zeros(x):
    return torch.where(x == 0, torch.ones_like(x), x)


def pointwise():
    numbers = lambda a, b: is_number(a) and is_number(b)
    for name in ["add", "sub", "mul", "div", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge", "logical_and",
                 "logical_or", "logical_xor"]:
        two(name, getattr(torch, name))
    for name in ["bitwise_and", "bitwise_or", "bitwise_xor"]:
        two(name, getattr(torch, name), lambda a, b: not is_float(a) and not is_float(b))
    for name in ["add", "sub", "mul"]:
        with_number(name, getattr(torch, name), [2, -3, 1, 0.5, -1.5, True, 7])
    for name in ["eq", "ne", "lt", "le", "gt", "ge"]:
        with_number(name, getattr(torch, name), [0, 1, 0.5, -2, 1.5])
    for mode in ["floor", "trunc", None]:
        divide = lambda a, b, mode=mode: torch.div(a, b, rounding_mode=mode)
        two(f"div {mode}", lambda a, b, divide=divide: divide(a, without_zeros(b)), numbers)
        with_number(f"div {mode}", divide, [2, -3, 0.7, -2.5, 5])
    for name in ["remainder", "fmod", "floor_divide"]:
        function = getattr(torch, name)
        two(name, lambda a, b, function=function: function(a, without_zeros(b)), numbers)
        with_number(name, function, [2, -3, 0.7, -2.5, 5], is_number)
    two("where", lambda a, b: torch.where(a > b, a, b))
    with_number("where", lambda t, k: torch.where(t > 0, t, k), [2, -3, 0.5, True])
    with_number("masked_fill", lambda t, k: t.masked_fill(t <= 0, k), [2, 0, 1])
    two("clamp", lambda a, b: a.clamp(b - 1, b + 1), numbers)
    two("clamp_min", lambda a, b: a.clamp(min=b), numbers)
    with_number("clamp", lambda t, k: t.clamp(*k), [(None, 1), (-1, 0.5), (0, 2), (-0.5, 2), (1, None)], is_number)
    for name in ["abs", "neg", "exp", "sin", "cos", "tanh", "sigmoid", "relu", "floor", "ceil", "round", "trunc", "sign",
                 "square", "erf", "isnan", "logical_not", "expm1", "isfinite"]:
        plain(name, getattr(torch, name), is_number)
    for name in ["sqrt", "rsqrt", "log1p", "log2", "reciprocal"]:
        plain(name, lambda t, function=getattr(torch, name): function(t.abs() + 1), is_number)
    plain("bitwise_not", torch.bitwise_not, lambda x: not is_float(x))
    with_number("pow", torch.pow, [2, 3], is_number)
    with_number("shift", lambda t, k: (t << k) >> 1, [1, 3], lambda x: x.dtype == torch.int64)
    with_number("power", lambda t, k: (t.abs() + 0.5) ** k, [0.5, -1, 1.5])
    with_number("to", torch.Tensor.to, [torch.float32, torch.int64, torch.bool, torch.int32])
    with_number("small", lambda t, k: t.clamp(-5, 50).abs().to(k), [torch.uint8, torch.int8, torch.int16], is_number)


def reductions():
    for name in ["sum", "mean", "amax", "amin", "prod", "any", "all"]:
        function = getattr(torch, name)
        fits = is_float if name == "mean" else lambda x: True
        plain(name, function, lambda x, fits=fits: x.numel() > 0 and fits(x))
        for keep in [True, False]:
            with_dim(f"{name} {keep}", lambda t, d, f=function, keep=keep: f(t, d, keepdim=keep), fits)
    for name in ["sum", "amax", "amin"]:
        plain(f"{name} of two", lambda t, f=getattr(torch, name): f(t, (0, -1)), lambda x: has_dims(x) and x.dim() > 1)
    for name in ["argmax", "argmin"]:
        with_dim(name, getattr(torch, name), is_number)
    for name in ["max", "min", "sort", "median"][:3]:
        for part in [0, 1] if name != "sort" else [0]:
            with_dim(f"{name} {part}", lambda t, d, f=getattr(torch, name), p=part: f(t, d)[p], is_number)
    with_dim("sort down", lambda t, d: t.sort(d, descending=True)[0], is_number)
    with_dim("argsort", lambda t, d: t.argsort(d, stable=True), is_number)
    with_dim("topk", lambda t, d: t.topk(min(2, t.shape[d]), d)[0], is_number)
    with_dim("cumsum", lambda t, d: t.cumsum(d))
    for name in ["softmax", "log_softmax", "logsumexp"]:
        with_dim(name, getattr(torch, name), is_float)
    with_dim("norm", lambda t, d: t.norm(dim=d), is_float)
    for name in ["var", "std"]:
        with_dim(name, lambda t, d, f=getattr(torch, name): f(t, d, correction=0), is_float)
    one("matmul", lambda x: ("", lambda t: t @ t.transpose(-1, -2)), lambda x: x.dim() > 1 and is_float(x))
    one("layer_norm", lambda x: ("", lambda t: F.layer_norm(t, t.shape[-1:])),
        lambda x: has_dims(x) and is_float(x) and x.shape[-1] > 1)


def a_slice(x):
    d = a_dim(x)
    start, step = R.randrange(-x.shape[d], x.shape[d]), R.choice([1, 1, 2, 3])
    end = R.choice([None, x.shape[d], -1, x.shape[d] + 5, start + 2])
    index = [slice(None)] * x.dim()
    index[d] = slice(start, end, step)
    return f"{d}, {start}:{end}:{step}", lambda t: t[tuple(index)]


def views():
    one("slice", a_slice, has_dims)
    with_dim("select", lambda t, d: t.select(d, -1), lambda x: True)
    with_dim("transpose", lambda t, d: t.transpose(0, d))
    one("permute", lambda x: (lambda p: (p, lambda t: t.permute(p)))(R.sample(range(x.dim()), x.dim())))
    with_dim("unsqueeze", lambda t, d: t.unsqueeze(d), lambda x: x.dim() < 4)
    plain("squeeze", torch.squeeze)
    plain("flatten", torch.flatten)
    one("reshape", lambda x: (lambda s: (s, lambda t: t.reshape(s)))(R.choice([[x.shape[0], -1], [-1, x.shape[-1]]])),
        has_dims)
    one("expand", lambda x: (lambda s: (s, lambda t: t.expand(s)))([2] + [3 if n == 1 else -1 for n in x.shape]),
        lambda x: x.dim() < 4)
    with_dim("flip", lambda t, d: t.flip(d))
    with_dim("roll", lambda t, d: t.roll(-2, d))
    with_dim("unfold", lambda t, d: t.unfold(d, min(2, t.shape[d]), 1), lambda x: x.dim() < 4)
    with_number("diagonal", lambda t, k: t.diagonal(k, -2, -1), [0, 1, -1],
                lambda x: x.dim() > 1 and min(x.shape[-2:]) > 1)
    for part in [0, -1]:
        with_dim(f"chunk {part}", lambda t, d, p=part: t.chunk(2, d)[p])
        with_dim(f"split {part}", lambda t, d, p=part: t.split(2, d)[p])
        with_dim(f"unbind {part}", lambda t, d, p=part: t.unbind(d)[p])
    with_dim("repeat_interleave", lambda t, d: t.repeat_interleave(2, d), lambda x: x.numel() < 60)
    one("repeat", lambda x: (lambda r: (r, lambda t: t.repeat(r)))([R.choice([1, 2]) for _ in range(x.dim() + 1)]),
        lambda x: 0 < x.dim() < 4 and x.numel() < 60)
    for name in ["tril", "triu"]:
        with_number(name, getattr(torch, name), [0, 1, -1], lambda x: x.dim() > 1)
    with_number("pad", lambda t, k: F.pad(t, [1, k[0]], value=k[1]), [(1, 0), (-1, 1), (2, -2)],
                lambda x: has_dims(x) and is_number(x) and x.shape[-1] > 1)
    with_number("pad", lambda t, k: F.pad(t, [1, 1], mode=k), ["reflect", "replicate", "circular"],
                lambda x: x.dim() in (2, 3) and is_float(x) and x.shape[-1] > 2)
    with_dim("diff", torch.diff, lambda x: x.shape[0] > 1)
    for name in ["zeros_like", "ones_like", "clone"]:
        plain(name, getattr(torch, name))


def indices():
    at = lambda size, shape: torch.randint(-size, size, shape)
    wide = lambda x: x.dim() > 1 and x.numel() > 0
    one("index two", lambda x: (lambda a, b: (f"{a.tolist()}, {b.tolist()}", lambda t: t[a, b]))(
        at(x.shape[0], (2, 1)), at(x.shape[1], (3,))), wide)
    one("index second", lambda x: (lambda a: (a.tolist(), lambda t: t[:, a]))(at(x.shape[1], (2, 2))), wide)
    one("index apart", lambda x: (lambda a, b: (f"{a.tolist()}, {b.tolist()}", lambda t: t[a, :, b]))(
        at(x.shape[0], (2,)), at(x.shape[2], (2,))), lambda x: x.dim() > 2 and x.numel() > 0)
    with_dim("gather", lambda t, d: t.gather(d, t.long().abs() % t.shape[d]))
    with_dim("scatter", lambda t, d: t.scatter(d, t.long().abs() % t.shape[d], t * 2), is_number)
    with_dim("scatter_add", lambda t, d: t.scatter_add(d, t.long().abs() % t.shape[d], t), is_number)
    with_dim("index_add", lambda t, d: t.index_add(d, torch.zeros(t.shape[d], dtype=torch.int64), t), is_number)
    one("index_put", lambda x: (lambda a: (a.tolist(), lambda t: t.index_put((a,), t[:1])))(at(x.shape[0], (3,))), wide)
    one("index_put mask", lambda x: ("", lambda t: t.index_put((t > 0,), torch.ones((), dtype=t.dtype))), is_number)
    one("one_hot", lambda x: ("", lambda t: F.one_hot(t.long().abs() % 5, 5)), lambda x: x.dim() < 3)
    one("take", lambda x: ("", lambda t: t[torch.arange(t.shape[0]), t.argmax(1)]),
        lambda x: x.dim() == 2 and is_number(x) and x.numel() > 0)


def joined(values):
    i = R.randrange(len(values))
    if values[i].dim() == 0:
        return None
    j = R.choice([j for j, x in enumerate(values) if x.shape == values[i].shape])
    d, function = a_dim(values[i]), R.choice([torch.cat, torch.stack])
    return f"{function.__name__}({i}, {j}, {d})", lambda v: function([v[i], v[j]], d)


def overlaps(x):
    return any(stride == 0 and size > 1 for stride, size in zip(x.stride(), x.shape))


def written(values):
    """A write into a value, or through a view of it; never into an input."""
    places = [i for i in range(INPUTS, len(values)) if is_number(values[i]) and not overlaps(values[i])]
    if not places:
        return None
    i, k = R.choice(places), R.choice([2, 3, -1])
    x = values[i]

    def through(view, name):
        def function(v):
            view(v[i]).mul_(k).add_(1)
            return v[i]

        return f"{name}({i}, {k})", function

    whole = {"add_": lambda t: t.add_(k), "mul_": lambda t: t.mul_(k), "zero_": lambda t: t.zero_(),
             "fill_": lambda t: t.fill_(k), "relu_": lambda t: t.relu_(), "neg_": lambda t: t.neg_(),
             "clamp_": lambda t: t.clamp_(-1, 1), "masked_fill_": lambda t: t.masked_fill_(t > 0, k)}
    kind = R.choice([*whole, "copy_", "half", "steps", "last", "transposed", "diagonal"])
    if kind in whole:
        return f"{kind}({i}, {k})", lambda v: whole[kind](v[i])
    if kind == "copy_":
        j = R.choice([j for j, y in enumerate(values) if y.shape == x.shape])
        return f"copy_({i}, {j})", lambda v: v[i].copy_(v[j])
    if not has_dims(x) or kind in ("transposed", "diagonal") and x.dim() < 2:
        return None
    d = a_dim(x) % x.dim()
    at = lambda part: (slice(None),) * d + (part,)
    return through({"half": lambda t: t[at(slice(0, max(1, x.shape[d] // 2)))], "steps": lambda t: t[at(slice(0, None, 2))],
                    "last": lambda t: t[at(-1)], "transposed": lambda t: t.transpose(0, 1)[0],
                    "diagonal": lambda t: t.diagonal()}[kind], f"{kind} {d}")


pointwise()
reductions()
views()
indices()
MAKERS += [joined] * 3 + [written] * 14


class Random(nn.Module):
    def __init__(self, functions):
        super().__init__()
        self.functions = functions

    def forward(self, a, b, c, d):
        values = [a, b, c, d]
        for function in self.functions:
            values.append(function(values))
        return tuple(values[INPUTS:])


def is_tame(x):
    return x.numel() <= 500 and x.dim() <= 5 and (x.numel() == 0 or not is_number(x) or bool(x.abs().max() < 1e4))


def program(seed, steps):
    """The inputs, the module and the names of its functions."""
    R.seed(seed)
    torch.manual_seed(seed)
    shape = R.choice([[2, 3], [3, 4], [2, 3, 4], [1, 3, 2, 4]])
    inputs = [torch.randn(shape) * 2, torch.randn(shape[-1:]) * 2, torch.randint(-6, 7, shape),
              torch.randint(0, 2, shape).bool()]
    values, names, functions = [x.clone() for x in inputs], [], []
    for _ in range(40 * steps):
        made = R.choice(MAKERS)(values)
        if made is None:
            continue
        try:
            value = made[1](values)
        except (RuntimeError, IndexError, TypeError, ValueError):
            value = None
        if value is None or not is_tame(value):
            # What failed may have written.
            values = [x.clone() for x in inputs]
            for function in functions:
                values.append(function(values))
            continue
        values.append(value)
        names.append(made[0])
        functions.append(made[1])
        if len(functions) == steps:
            break
    return inputs, Random(functions), names


def exported(inputs, module):
    """What PyTorch answers, and the program in both forms where it can be decomposed."""
    copies = lambda: tuple(x.clone() for x in inputs)
    with torch.no_grad():
        expected = [x.clone() for x in module(*copies())]
        programs = {"plain": torch.export.export(module, copies())}
        try:
            programs["core"] = programs["plain"].run_decompositions()
        except Exception:  # noqa: BLE001
            pass
    return expected, programs


def difference(found, expected):
    expected = expected.numpy()
    if list(found.shape) != list(expected.shape):
        return f"shape {found.shape}, expected {expected.shape}"
    if found.dtype != expected.dtype:
        return f"{found.dtype}, expected {expected.dtype}"
    if expected.dtype.kind != "f":
        return "" if np.array_equal(found, expected) else f"{found.ravel()[:8]}, expected {expected.ravel()[:8]}"
    finite = np.abs(expected[np.isfinite(expected)])
    bound = 2e-5 * max(1.0, finite.max() if finite.size else 0.0)
    same = np.allclose(found, expected, rtol=0, atol=bound, equal_nan=True)
    return "" if same else f"{found.ravel()[:6]}, expected {expected.ravel()[:6]}"


def compare(args, folder, seed, counts):
    inputs, module, names = program(seed, args.steps)
    try:
        expected, programs = exported(inputs, module)
    except Exception:  # noqa: BLE001
        counts["torch.export refuses it"] += 1
        return
    for i, x in enumerate(inputs):
        np.save(folder / f"x{i}.npy", x.numpy())
    for form, exported_program in programs.items():
        torch.export.save(exported_program, folder / "p.pt2")
        command = [args.sconce, "run", folder / "p.pt2", "--quiet", "--device", args.device]
        command += [part for i in range(INPUTS) for part in ("--input", folder / f"x{i}.npy")]
        command += [part for i in range(len(expected)) for part in ("--output", folder / f"y{i}.npy")]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode:
            counts["refused: " + done.stderr.strip().splitlines()[0].split("error: ")[-1][-120:]] += 1
            continue
        wrong = [f"{names[i]}: {text}" for i, x in enumerate(expected)
                 if (text := difference(np.load(folder / f"y{i}.npy"), x))]
        counts["wrong" if wrong else "right"] += 1
        if wrong:
            print(f"seed {seed}, {form}: {wrong[0]}; the program: {list(enumerate(names, INPUTS))}", flush=True)


def write():
    """Programs as `tools/programs.py` writes them, each with a case file."""
    import programs

    FOLDER.mkdir(parents=True, exist_ok=True)
    programs.DATA = FOLDER
    for seed in range(24):
        inputs, module, names = program(seed, 9)
        expected, forms = exported(inputs, module)
        for form, done in forms.items():
            done._example_inputs = None
            for node in done.graph.nodes:
                node.meta.pop("stack_trace", None)
            path = FOLDER / f"{seed}.{form}.pt2"
            torch.export.save(done, path)
            programs.repack(path)
        case = {"torch": torch.__version__, "names": names, "inputs": dict(zip("abcd", inputs)),
                "outputs": {str(i): x for i, x in enumerate(expected)}}
        torch.save(case, FOLDER / f"{seed}.pt")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sconce")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.write:
        return write()
    counts = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.first, args.first + args.count):
            compare(args, Path(folder), seed, counts)
    for what, count in counts.most_common():
        print(f"{count:6} {what}")
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
