"""Exports models with torch.export, runs them with sconce and compares the answers with PyTorch's.

usage: zoo.py --sconce PATH [--dir DIR] [--device cpu,llvmpipe] [--form plain,core] [--max-mb 400] [--rows FILE]
              [--write docs/coverage.md] [PATTERN...]

A pattern is a part of a group's or model's name; without one all models run. Each is built with seeded random weights,
exported at a small input size in both forms, plain (as `torch.export.export` gives it) and core (after
`run_decompositions()`), run on each device, compared and deleted, one at a time. The error is the largest difference of
an output divided by the largest absolute value of that output; NaN and infinities must be in the same places, and the
dtypes and the number of the outputs the same. With `--rows` each result is added to that file, and what
is in it is not run again: a run can be cut, and the table has all of them.
"""
import argparse
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

import zoo_hf

warnings.filterwarnings("ignore")
LIMIT = 1e-4


def image(size=64, batch=1):
    return (torch.randn(batch, 3, size, size),)


def classification():
    import torchvision

    sizes = {"inception_v3": 96, "googlenet": 96, "alexnet": 96, "maxvit_t": 224, "vit": 224}
    for name in torchvision.models.list_models(module=torchvision.models):
        size = next((size for prefix, size in sizes.items() if name.startswith(prefix)), 64)
        yield name, lambda name=name, size=size: (torchvision.models.get_model(name, weights=None), image(size))


def segmentation():
    import torchvision

    for name in torchvision.models.list_models(module=torchvision.models.segmentation):
        yield name, lambda name=name: (
            torchvision.models.get_model(name, weights=None, weights_backbone=None), image(64))


class DetectionBody(nn.Module):
    """The backbone of a detection model, and its dense head where it has one: what is exportable of it."""

    def __init__(self, model):
        super().__init__()
        self.backbone = model.backbone
        self.head = getattr(model, "head", None) or model.rpn.head
        self.is_rpn = not hasattr(model, "head")

    def forward(self, x):
        features = list(self.backbone(x).values())
        return features, self.head(features)


def detection():
    import torchvision

    for name in torchvision.models.list_models(module=torchvision.models.detection):
        size = 300 if name.startswith("ssd") else 96
        yield f"{name}.body", lambda name=name, size=size: (
            DetectionBody(torchvision.models.get_model(name, weights=None, weights_backbone=None)), image(size))


def video():
    import torchvision

    for name in torchvision.models.list_models(module=torchvision.models.video):
        frames, size = (16, 224) if name.startswith(("mvit", "s3d")) else (16, 64)
        yield name, lambda name=name, frames=frames, size=size: (
            torchvision.models.get_model(name, weights=None), (torch.randn(1, 3, frames, size, size),))


def flow():
    import torchvision

    for name in ["raft_large", "raft_small"]:
        yield name, lambda name=name: (torchvision.models.get_model(name, weights=None), (
            torch.randn(1, 3, 128, 128), torch.randn(1, 3, 128, 128)))


class Llama(nn.Module):
    """A small decoder of the Llama kind: RMS norms, rotary positions, grouped heads, gated feed-forward layers."""

    def __init__(self, vocabulary=100, width=64, heads=4, groups=2, layers=2):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList([self.Layer(width, heads, groups) for _ in range(layers)])
        self.norm = nn.RMSNorm(width)
        self.output = nn.Linear(width, vocabulary, bias=False)

    class Layer(nn.Module):
        def __init__(self, width, heads, groups):
            super().__init__()
            self.heads, self.groups, self.size = heads, groups, width // heads
            self.q = nn.Linear(width, width, bias=False)
            self.kv = nn.Linear(width, 2 * groups * self.size, bias=False)
            self.o = nn.Linear(width, width, bias=False)
            self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
            self.up, self.gate = nn.Linear(width, 2 * width, bias=False), nn.Linear(width, 2 * width, bias=False)
            self.down = nn.Linear(2 * width, width, bias=False)

        def rotate(self, x):
            half = self.size // 2
            angles = torch.outer(torch.arange(x.shape[2]), 1e4 ** (-torch.arange(half) / half))
            cos, sin = torch.cat([angles, angles], 1).cos(), torch.cat([angles, angles], 1).sin()
            return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

        def forward(self, x):
            b, n, _ = x.shape
            y = self.norm1(x)
            q = self.q(y).view(b, n, self.heads, self.size).transpose(1, 2)
            k, v = self.kv(y).view(b, n, 2 * self.groups, self.size).transpose(1, 2).chunk(2, 1)
            q, k = self.rotate(q), self.rotate(k)
            k, v = (t.repeat_interleave(self.heads // self.groups, 1) for t in (k, v))
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.o(y.transpose(1, 2).reshape(b, n, -1))
            y = self.norm2(x)
            return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))

    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))


class UNet(nn.Module):
    """A small U-Net of the diffusion kind: a time step, group norms, attention, a transposed convolution."""

    def __init__(self, width=32):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.norm1, self.conv1 = nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.norm2, self.qkv, self.out = nn.GroupNorm(8, 2 * width), nn.Conv2d(2 * width, 6 * width, 1), nn.Conv2d(
            2 * width, 2 * width, 1)
        self.up = nn.ConvTranspose2d(2 * width, width, 4, 2, 1)
        self.last = nn.Conv2d(2 * width, 3, 3, padding=1)

    def forward(self, x, t):
        frequencies = torch.exp(-torch.arange(16) * 0.5)
        angles = t.float()[:, None] * frequencies
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        x = self.first(x)
        x = x + self.conv1(nn.functional.silu(self.norm1(x))) + time[:, :, None, None]
        y = self.down(x)
        b, c, h, w = y.shape
        q, k, v = self.qkv(self.norm2(y)).view(b, 3, c, h * w).unbind(1)
        scores = torch.einsum("bci,bcj->bij", q, k) * c ** -0.5
        y = y + self.out(torch.einsum("bij,bcj->bci", scores.softmax(-1), v).reshape(b, c, h, w))
        return self.last(torch.cat([x, self.up(y)], 1))


class Causal(nn.Module):
    """An encoder that looks back only. `torch.export` cannot find that out from a mask that is an input."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(7))

    def forward(self, x):
        return self.encoder(x, self.mask, is_causal=True)


def layers():
    x = (torch.randn(2, 7, 32),)
    encoder = lambda **options: nn.TransformerEncoder(nn.TransformerEncoderLayer(
        32, 4, 64, batch_first=True, **options), 2)
    yield "nn.TransformerEncoder", lambda: (encoder(), x)
    yield "nn.TransformerEncoder(norm_first, gelu)", lambda: (encoder(norm_first=True, activation="gelu"), x)
    yield "nn.TransformerEncoder(causal mask)", lambda: (Causal(encoder()), x)
    yield "nn.Transformer", lambda: (nn.Transformer(32, 4, 1, 1, 64, batch_first=True), x + (torch.randn(2, 5, 32),))
    yield "nn.MultiheadAttention", lambda: (nn.MultiheadAttention(32, 4, batch_first=True), x * 3)
    yield "nn.LSTM", lambda: (nn.LSTM(32, 16, 2, batch_first=True, bidirectional=True), x)
    yield "nn.GRU", lambda: (nn.GRU(32, 16, 2, batch_first=True), x)
    yield "nn.RNN", lambda: (nn.RNN(32, 16, 1, batch_first=True), x)
    yield "mini-llama", lambda: (Llama(), (torch.randint(0, 100, (1, 9)),))
    yield "mini-unet", lambda: (UNet(), (torch.randn(1, 3, 16, 16), torch.tensor([7])))


GROUPS = {"classification": classification, "segmentation": segmentation, "detection": detection, "video": video,
          "flow": flow, "layers": layers, "hugging-face": zoo_hf.models}


def randomize(model):
    """Gives statistics, zeros and layer scales values that show in the output."""
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif name.endswith("running_var"):
                tensor.uniform_(0.8, 1.2)
            elif "layer_scale" in name:
                tensor.uniform_(0.1, 0.3)
            elif tensor.is_floating_point() and tensor.numel() > 1 and not tensor.any():
                tensor.normal_(0, 0.02)


def export(model, inputs, form):
    program = torch.export.export(model, inputs)
    return program if form == "plain" else program.run_decompositions()


def flatten(value, kinds=torch.Tensor):
    """The tensors in a structure, and the other leaves of these kinds as tensors."""
    return [torch.as_tensor(leaf) for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, kinds)]


def run(sconce, device, path, inputs, expected, folder):
    """The largest error, or the message of the failure; and the seconds that the process took, loading included."""
    command = [sconce, "run", path, "--quiet", "--device", device]
    for i, x in enumerate(inputs):
        np.save(folder / f"x{i}.npy", x.numpy())
        command += ["--input", folder / f"x{i}.npy"]
    for old in folder.glob("y*.npy"):
        old.unlink()
    for i in range(len(expected)):
        command += ["--output", folder / f"y{i}.npy"]
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        return None, done.stderr.strip(), seconds
    about = subprocess.run([sconce, "inspect", path, "--json"], capture_output=True, text=True)
    count = len(json.loads(about.stdout)["programs"][0]["outputs"])
    if count != len(expected):
        return None, f"{count} outputs, expected {len(expected)}", seconds
    error = 0.0
    for i, want in enumerate(expected):
        got = np.load(folder / f"y{i}.npy")
        if list(got.shape) != list(want.shape):
            return None, f"output {i} is {list(got.shape)}, expected {list(want.shape)}", seconds
        if want.dtype != torch.bfloat16 and got.dtype != want.numpy().dtype:
            return None, f"output {i} is {got.dtype}, expected {want.numpy().dtype}", seconds
        got, want = got.astype(np.float64), want.double().numpy()
        own, other = (np.where(np.isfinite(x), 0.0, x) for x in (got, want))
        if not np.array_equal(own, other, equal_nan=True):
            return None, f"output {i} is not finite in other places than PyTorch's", seconds
        finite = np.isfinite(want)
        scale = np.abs(want[finite]).max(initial=0)
        worst = np.abs(got[finite] - want[finite]).max(initial=0)
        error = max(error, float(worst / scale) if scale > 0 else float(worst))
    return error, "", seconds


def read_rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("pattern", nargs="*")
    parser.add_argument("--sconce", required=True)
    parser.add_argument("--dir", default="/tmp/zoo", type=Path)
    parser.add_argument("--device", default="cpu", help="one or several, as sconce names them")
    parser.add_argument("--form", default="plain,core")
    parser.add_argument("--min-mb", type=float, default=0)
    parser.add_argument("--max-mb", type=float, default=400)
    parser.add_argument("--rows", type=Path, help="a file of results, which is read and continued")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--keep", action="store_true", help="leave the exported files")
    args = parser.parse_args()
    args.dir.mkdir(parents=True, exist_ok=True)
    rows = read_rows(args.rows)
    for group, models in GROUPS.items():
        for name, build in models():
            if not args.pattern or any(part in name or part == group for part in args.pattern):
                rows += model_rows(args, group, name, build, rows)
    for line, _ in totals(rows):
        print(line)
    if args.write:
        args.write.write_text(table(rows))
    return 0 if all(is_whole for _, is_whole in totals(rows)) else 1


def model_rows(args, group, name, build, known):
    done = {(row["model"], row["form"], row["device"]) for row in known}
    wanted = [(form, device) for form in args.form.split(",") for device in args.device.split(",")
              if (name, form, device) not in done]
    if not wanted:
        return []
    torch.manual_seed(0)
    try:
        model, inputs = build()
        model = model.eval()
        randomize(model)
        megabytes = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()) / 1e6
        if not args.min_mb <= megabytes <= args.max_mb:
            print(f"{name}: {megabytes:.0f} MB, left out", flush=True)
            return []
        with torch.no_grad():
            expected = flatten(model(*inputs), (torch.Tensor, bool, int, float))
    except Exception as error:  # noqa: BLE001
        print(f"{name}: cannot be built: {error}", flush=True)
        return []
    rows = []
    for form in dict.fromkeys(form for form, _ in wanted):
        path = args.dir / f"{name.replace(' ', '_')}.{form}.pt2"
        row = {"group": group, "model": name, "form": form, "ops": 0, "error": None, "note": "", "seconds": 0}
        try:
            with torch.no_grad():
                program = export(model, inputs, form)
                torch.export.save(program, path)
                row["ops"] = len({node.target for node in program.graph.nodes if node.op == "call_function"})
                del program
        except Exception as error:  # noqa: BLE001
            row["note"] = f"not exportable: {str(error).splitlines()[0][:80]}"
        for device in [device for own, device in wanted if own == form]:
            own = {**row, "device": device}
            if path.exists():
                own["error"], own["note"], own["seconds"] = run(
                    args.sconce, device, path, flatten(inputs), expected, args.dir)
            error = "failed" if own["error"] is None else f"{own['error']:.1e}"
            print(f"{name:40} {form:6} {device:8} {own['ops']:4} ops  {error:8} {own['seconds']:6.1f} s  {own['note']}",
                  flush=True)
            rows.append(own)
            if args.rows:
                with args.rows.open("a") as file:
                    file.write(json.dumps(own) + "\n")
        if not args.keep:
            path.unlink(missing_ok=True)
    return rows


def totals(rows):
    """Of each set, device and form: how many are within the limit, of those that were run; and whether all are."""
    key = lambda row: (row["group"] == "hugging-face", row["device"], row["form"])
    for one in dict.fromkeys(map(key, rows)):
        own = [row for row in rows if key(row) == one]
        is_hf, device, form = one
        name, limit = ("Hugging Face", 2 * LIMIT) if is_hf else ("torchvision and torch.nn", LIMIT)
        good = sum(row["error"] is not None and row["error"] <= limit for row in own)
        yield f"{name}, {device}, {form}: {good} of the {len(own)} that were run are within {limit:g}.", good == len(own)


def cell(row):
    if row is None:
        return ""
    if row["error"] is None:
        return "failed"
    # Rows of earlier versions of this script have no time.
    return f"{row['error']:.1e}" + (f", {row['seconds'] * 1e3:.0f} ms" if row["seconds"] else "")


def table(rows):
    devices = list(dict.fromkeys(row["device"] for row in rows))
    lines = [
        "# Coverage", "",
        f"Programs of `torch.export`, written by torch {torch.__version__.split('+')[0]} with seeded random weights at small"
        " input sizes, run by sconce.",
        "*plain* is as exported, *core* is after `run_decompositions()`. The error on a device is the largest difference of an",
        "output, divided by the largest absolute value of that output. `*.body` is the backbone of a detection model with its",
        "dense head: `torch.export` does not export the rest. The time is that of the whole process, loading and compiling",
        "included, on a machine that did other things too. An empty cell was not run. Written by `tools/zoo.py`.", ""]
    lines += [f"{line}\n" for line, _ in totals(rows)]
    lines += ["| group | model | form | ops | " + " | ".join(devices) + " | note |", "|" + "---|" * (5 + len(devices))]
    order = list(GROUPS)
    keys = dict.fromkeys((order.index(row["group"]), row["model"], row["form"] != "plain") for row in rows)
    for key in sorted(keys):
        own = {row["device"]: row for row in rows
               if (order.index(row["group"]), row["model"], row["form"] != "plain") == key}
        row = next(iter(own.values()))
        cells = [cell(own.get(device)) for device in devices]
        note = next((own[d]["note"].splitlines()[0][:160] for d in own if own[d]["note"]), "")
        lines.append(f"| {row['group']} | {row['model']} | {row['form']} | {row['ops']} | {' | '.join(cells)} | {note} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
