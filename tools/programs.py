"""Writes the programs of tests/data/programs: small modules, exported with torch.export, and what PyTorch answers.

usage: programs.py [archives | families | numbers]

Each NAME.pt2 has a NAME.pt: {"torch": version, "inputs": {name: tensor}, "outputs": {name: tensor}}, or "error": the words
that the refusal must have. NAME.core.pt2 is the same module after `run_decompositions()`.
`archives` writes only those whose container is not the usual one, `families` only those of `program_families.py`,
`numbers` and `edges` parts of those. `dynamic.py` writes free_*.pt2.
"""
import json
import sys
import zipfile
from pathlib import Path

import torch
from torch import nn

DATA = Path(__file__).resolve().parent.parent / "tests" / "data" / "programs"


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, 1, 1, groups=2), nn.BatchNorm2d(8)
        self.pool, self.drop, self.fc = nn.MaxPool2d(3, 2, 1), nn.Dropout(0.5, inplace=True), nn.Linear(8, 5)
        for norm in (self.bn1, self.bn2):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = self.pool(nn.functional.relu_(self.bn1(self.conv1(x))))
        y = self.bn2(self.conv2(x))
        y += x
        y = nn.functional.relu_(y)
        return self.fc(self.drop(torch.flatten(nn.functional.adaptive_avg_pool2d(y, 1), 1)))


class Writes(nn.Module):
    """Writes through views, read through their bases and through other views."""

    def forward(self, x):
        mask = x.new_zeros(6, 6)
        mask[:3, 3:].fill_(1.0)
        mask[4::2] += 2
        y = x.clone()
        rows = y[1:3]
        column = y.transpose(0, 1)[2]
        rows.mul_(2.0)
        column.add_(1.0)
        flat = y.view(-1)
        flat[::5].relu_()
        return y, rows + column[1:3, None], mask * y, column


class Signature(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x, pair, *, scale):
        y = self.fc(x) * scale
        return {"sum": y + pair[0], "rest": (pair[1] > 0, y.argmax(-1)), "n": torch.arange(3)}


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        big = torch.randn(4, 6)
        self.a, self.b = nn.Parameter(big[:2]), nn.Parameter(big[1:4].t())
        self.embedding, self.out = nn.Embedding(5, 6), nn.Linear(6, 5, bias=False)
        self.out.weight = self.embedding.weight
        self.register_buffer("keep", torch.tensor([True, False, True]))
        self.register_buffer("short", torch.randn(3).half())
        self.register_buffer("empty", torch.zeros(0, 6))
        self.register_buffer("hidden", torch.tensor([-torch.inf, 1.0, 2.0]), persistent=False)

    def forward(self, tokens):
        x = self.embedding(tokens) @ self.b + self.short.float()
        x = x.masked_fill(~self.keep, 0.5).maximum(self.hidden)
        with torch.no_grad():
            x = x + 1
        x = torch.cat([x, self.a[:, :3][None].expand(x.shape[0], -1, -1)], 1)
        return self.out(torch.cat([x, x * 2], -1)), self.empty.sum(0)


class Dynamic(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x):
        x = self.conv(x).relu().view(x.shape[0], 4, -1)
        return self.fc(x.mean(-1)).reshape(-1), x.new_ones(x.shape[0] * 2)


class Resized(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.deep = nn.ConvTranspose2d(3, 4, 4, 2, 1), nn.Conv3d(2, 3, 3, (2, 1, 1), 1, groups=1)

    def forward(self, x, v):
        f = nn.functional
        y = self.up(x)
        small = f.interpolate(y, size=(7, 9), mode="bilinear")
        aligned = f.interpolate(y, size=(7, 9), mode="bilinear", align_corners=True)
        cubic = f.interpolate(y, scale_factor=1.5, mode="bicubic")
        near = f.interpolate(y, scale_factor=2)
        rolled = torch.roll(y, (1, -2), (2, 3)).flip(3)
        shuffled = f.pixel_shuffle(y, 2)
        grid = f.grid_sample(x, torch.tanh(x.permute(0, 2, 3, 1)[..., :2]), align_corners=False)
        deep = f.max_pool3d(self.deep(v), 2)
        return small, aligned, cubic, near, rolled, shuffled, grid, deep, f.unfold(x, 3, padding=1)


class Masked(nn.Module):
    """Integers and masks that depend on the input, as text models have them."""

    def __init__(self):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(20, 8), nn.Embedding(12, 8)

    def forward(self, tokens):
        mask = tokens.ne(1)
        positions = mask.int().cumsum(1) * mask + 1
        x = self.embedding(tokens) + self.positions(positions.long())
        shut = (1.0 - mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        q = x[:, None]
        y = nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=shut)
        z = nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=mask[:, None, None, :])
        last = tokens.argmax(-1)
        return y[:, 0], z[:, 0], x[torch.arange(x.shape[0]), last], positions, mask


class Blind(nn.Module):
    """Attention of which a row sees nothing, as PyTorch writes it, and the softmax of it alone."""

    def forward(self, q, k, v, mask):
        safe = torch.ops.aten._safe_softmax
        scores = lambda: q @ k.transpose(-1, -2) * 0.5 + mask
        return safe(scores(), -1) @ v, safe(mask, -1), safe(mask, 0), torch.softmax(scores(), -1) @ v


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count.add_(1)
        return x * self.count


class Unknown(nn.Module):
    def forward(self, x):
        return torch.linalg.inv(x) + torch.special.i0(x) + torch.special.i0(x + 1) + torch.rand_like(x)


def write(name, module, inputs, kwargs=None, forms=("plain", "core"), error=None, **options):
    module = module.eval()
    kwargs = kwargs or {}
    with torch.no_grad():
        program = torch.export.export(module, inputs, kwargs, **options)
        for form in forms:
            path = DATA / (f"{name}.pt2" if form == "plain" else f"{name}.core.pt2")
            done = program if form == "plain" else program.run_decompositions()
            done._example_inputs = None
            blocks = [block for block in done.graph_module.modules() if isinstance(block, torch.fx.GraphModule)]
            for node in [node for block in blocks for node in block.graph.nodes]:
                node.meta.pop("stack_trace", None)
            torch.export.save(done, path)
            repack(path)
            print(f"{path.name}: {path.stat().st_size:,} bytes")
        case = {"torch": torch.__version__}
        if error:
            case["error"] = error
        else:
            case["inputs"] = named_inputs(module, inputs, kwargs)
            case["outputs"] = named("", module(*inputs, **kwargs))
        torch.save(case, DATA / f"{name}.pt")
    return program


def named(path, value):
    join = lambda key: f"{path}.{key}" if path else str(key)
    if isinstance(value, dict):
        return {k: v for key, child in value.items() for k, v in named(join(key), child).items()}
    if isinstance(value, (tuple, list)):
        return {k: v for i, child in enumerate(value) for k, v in named(join(i), child).items()}
    return {path or "output": torch.as_tensor(value)}


def named_inputs(module, inputs, kwargs):
    import inspect

    names = list(inspect.signature(module.forward).parameters)
    return {k: v for name, value in [*zip(names, inputs), *kwargs.items()] for k, v in named(name, value).items()}


def repack(path):
    """Compresses what is no tensor, and takes out what is not read."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in entries.items():
            if "sample_inputs" in entry or entry.endswith("serialization_id"):
                continue
            method = zipfile.ZIP_DEFLATED if entry.endswith(".json") else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(entry), data, method)


def older(name, program):
    """The containers of torch 2.6 and 2.8 with the content of a newer one."""
    with zipfile.ZipFile(DATA / f"{name}.pt2") as archive:
        entries = {entry.split("/", 1)[1]: archive.read(entry) for entry in archive.namelist()}
    state, constants = dict(program.state_dict), dict(program.constants)
    torch.save(state, DATA / "state.tmp")
    torch.save(constants, DATA / "constants.tmp")
    text = entries["models/model.json"]
    with zipfile.ZipFile(DATA / f"{name}.2_6.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", text.replace(b'"-Infinity"', b"-Infinity"))
        archive.write(DATA / "state.tmp", "serialized_state_dict.pt")
        archive.write(DATA / "constants.tmp", "serialized_constants.pt")
        archive.writestr("version", "8.2")
    with zipfile.ZipFile(DATA / f"{name}.2_8.pt2", "w") as archive:
        archive.writestr("x/archive_format", "pt2")
        archive.writestr("x/models/model.json", text)
        archive.write(DATA / "state.tmp", "x/data/weights/model.pt")
        archive.write(DATA / "constants.tmp", "x/data/constants/model.pt")
    for path in ("state.tmp", "constants.tmp"):
        (DATA / path).unlink()


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.full((2,), factor))

    def forward(self, x):
        return x * self.factor


def archives():
    """Archives of several programs, compressed by another tool, and those that do not run."""
    from torch.export.pt2_archive._package import package_pt2

    with torch.no_grad():
        programs = {name: torch.export.export(Scale(by), (torch.ones(2),)) for name, by in (("twice", 2.0), ("thrice", 3.0))}
    for program in programs.values():
        program._example_inputs = None
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)
    path = DATA / "two.pt2"
    package_pt2(path, exported_programs=programs)
    with zipfile.ZipFile(path) as archive:
        two = {entry.split("/", 1)[1]: archive.read(entry) for entry in archive.namelist()}
    two = {entry: data for entry, data in two.items() if "sample_inputs" not in entry and "serialization_id" not in entry}
    write_zip("two", two)
    entries = {entry: data for entry, data in two.items() if "thrice" not in entry}
    program, config = "models/twice.json", "data/weights/twice_weights_config.json"

    def edited(name, entry, edit):
        json_entry = json.loads(entries[entry])
        edit(json_entry)
        write_zip(name, {**entries, entry: json.dumps(json_entry).encode()})

    payload = lambda weights: weights["config"]["factor"]
    edited("schema_7", program, lambda it: it["schema_version"].update(major=7))
    edited("schema_9", program, lambda it: it["schema_version"].update(major=9))
    edited("pickled", config, lambda it: payload(it).update(use_pickle=True))
    edited("custom", config, lambda it: payload(it).update(path_name="custom_obj_0"))
    edited("opaque", config, lambda it: payload(it).update(path_name="opaque_obj_0"))
    kept = ("archive_format", "archive_version", "byteorder")
    inductor = {"data/aotinductor/model/model.so": b"\x7fELF", "data/aotinductor/model/metadata.json": b"{}"}
    write_zip("inductor", {**{entry: data for entry, data in entries.items() if entry in kept}, **inductor})


def write_zip(name, entries):
    with zipfile.ZipFile(DATA / f"{name}.pt2", "w") as archive:
        for entry, data in entries.items():
            archive.writestr(zipfile.ZipInfo(f"{name}/{entry}"), data, zipfile.ZIP_DEFLATED)


def families():
    """The modules of `program_families`."""
    import program_families as own

    torch.manual_seed(3)
    write("indices", own.Indices(), (torch.randn(4, 5, 4), torch.tensor([-1, 2, 0]),
                                     torch.tensor([-1, 0, -4])))
    x = torch.randn(5, 4)
    x[0, 1], x[1, 2], x[1, 3] = torch.nan, torch.inf, -torch.inf
    write("orders", own.Orders(), (x, torch.randint(-3, 4, (3, 5))))
    x = torch.cat([torch.tensor([[1e-6, -1e-4, 3e-4, 0.02]]), torch.randn(4, 4) * 2, torch.zeros(1, 4)])
    write("functions", own.Functions(), (x, torch.randn(6, 4)))
    write("volumes", own.Volumes(), (torch.randn(2, 2, 3, 4, 5), torch.randn(2, 2, 2, 3, 3) * 0.8, torch.randn(2, 2, 3)))
    write("cells", own.Cells(), (torch.randn(3, 4), torch.randn(3, 5)))
    numbers()
    write("autocast", own.Autocast(), (torch.randn(3, 6),))
    for name, dtype in [("float16", torch.float16), ("bfloat16", torch.bfloat16)]:
        torch.manual_seed(4)
        write(name, own.Narrow().to(dtype), (torch.randn(2, 3, 5, 5).to(dtype),))
    write("antialias", own.Antialias(), (torch.randn(1, 1, 5, 5),), forms=["plain"],
          error=["`aten._upsample_bilinear2d_aa.vec` (once)"])


def numbers():
    """What is exact, or an error."""
    import program_families as own

    write("numbers", own.Numbers(), (torch.tensor([[3, -7, 12], [5, 40, -9]]), torch.tensor([[0.5, -2.25], [7.1, 3.0]])))
    halves = torch.arange(4100) % 2 * 0.5
    write("large", own.Large(), (torch.arange(4100.0), halves, torch.arange(4100).flip(0)), forms=["plain"])
    write("pairs", own.Pairs(), (torch.arange(4100.0), halves, torch.tensor([4099, 4097])), forms=["plain"])
    write("classes", own.Classes(), (torch.tensor([4, 0, 2]),), forms=["plain"])
    x = torch.tensor([[-torch.inf, -torch.inf], [torch.inf, 1.0], [0.5, -torch.inf], [torch.nan, 1.0]])
    write("spreads", own.Spreads(), (x,))
    edges()
    d = torch.export.Dim("d", min=2, max=9)
    write("double", own.Double(), (torch.randn(6, 2), torch.randn(3, 2)), forms=["plain"],
          dynamic_shapes=({0: 2 * d}, {0: d}))


def edges():
    """Large and infinite numbers, layouts, nothing at all, floats of sizes, and uses of operations that are refused."""
    import program_families as own

    torch.manual_seed(5)
    a = torch.tensor([16777215, -16777215, 12345678, -7, 1, -1])
    x = torch.tensor([4071.456, -2249.2058, 1.0, -1.0, 7.5, -0.3, torch.inf])
    y = torch.tensor([6.2831855, 0.1, torch.inf, torch.inf, -2.5, -0.1, 2.0])
    write("divisions", own.Divisions(), (a, a.roll(1), x, y))
    write("layouts", own.Layouts(), (torch.randn(1, 2, 3, 4),), forms=["plain"])
    x = torch.tensor([[torch.inf, 1.0, torch.nan], [0.5, -torch.inf, 2.0], [1.0, 2.0, 3.0]])
    write("edges", own.Edges(), (x, torch.tensor([0, 2, 0])))
    h, w = torch.export.Dim("h", min=4, max=64), torch.export.Dim("w", min=4, max=64)
    write("scales", own.Scales(), (torch.randn(1, 2, 5, 6),), dynamic_shapes=({2: h, 3: w},))
    write("refused", own.Refused(), (torch.randn(1, 1, 4, 4),), forms=["plain"],
          error=["`aten.index.Tensor` (2 times", "`aten.add_.Tensor` (once", "the program changes its buffer `count`",
                 "a further result of aten.max_pool2d_with_indices.default"])
    write("refused_more", own.RefusedMore(), (torch.randn(4, 4),), forms=["plain"],
          error=["1 operation that is not supported: `aten.linalg_inv.default` (once", "`aten.index.Tensor` (once"])


def main():
    DATA.mkdir(parents=True, exist_ok=True)
    if sys.argv[1:] == ["archives"]:
        return archives()
    if sys.argv[1:] in (["numbers"], ["edges"]):
        return numbers() if sys.argv[1:] == ["numbers"] else edges()
    if sys.argv[1:] == ["families"]:
        return families()
    torch.manual_seed(0)
    write("residual", Residual(), (torch.randn(1, 3, 17, 16),))
    write("writes", Writes(), (torch.randn(6, 6),))
    pair = (torch.randn(2, 3), torch.randn(2))
    write("signature", Signature(), (torch.randn(2, 4), pair), {"scale": torch.tensor(2.0)})
    older("tied", write("tied", Tied(), (torch.tensor([[0, 4, 2]]),)))
    batch = torch.export.Dim("batch", min=2, max=9)
    write("dynamic", Dynamic(), (torch.randn(4, 2, 6, 5),), dynamic_shapes=({0: batch},))
    write("resized", Resized(), (torch.randn(1, 3, 5, 6), torch.randn(1, 2, 5, 6, 4)), forms=["plain"])
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 24, batch_first=True), 2)
    write("encoder", encoder, (torch.randn(1, 5, 16),))
    write("recurrent", nn.LSTM(6, 4, 2, bidirectional=True), (torch.randn(3, 2, 6),), forms=["plain"])
    write("gated", nn.GRU(6, 4, batch_first=True), (torch.randn(2, 3, 6),), forms=["plain"])
    write("masked", Masked(), (torch.tensor([[4, 7, 2, 19, 1], [3, 18, 1, 1, 1]]),))
    torch.manual_seed(0)
    shut = torch.zeros(3, 4)
    shut[1], shut[:, 2] = -torch.inf, -torch.inf
    write("blind", Blind(), (torch.randn(2, 3, 4), torch.randn(2, 4, 4), torch.randn(2, 4, 5), shut))
    write("counter", Counter(), (torch.randn(2),), error=["`count`"])
    write("unknown", Unknown(), (torch.randn(2, 2),), forms=["plain"],
          error=["`aten.linalg_inv.default` (once)", "`aten.special_i0.default` (2 times)", "`aten.rand_like.default`"])
    archives()
    families()


if __name__ == "__main__":
    main()
