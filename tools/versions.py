"""Writes the programs of tests/data/versions with the torch that runs it: as each version of torch.export saves them.

usage: versions.py          (once with each version: 2.6, 2.7, 2.8, 2.9, 2.12, 2.15)

Each VERSION.NAME.pt2 has a VERSION.NAME.pt: {"torch": version, "inputs": {name: tensor}, "outputs": {name: tensor}}; the
files are as torch writes them, only without the lines of Python that each node comes from.
"""
import warnings
from pathlib import Path

import torch
from torch import nn

warnings.filterwarnings("ignore")
DATA = Path(__file__).resolve().parent.parent / "tests" / "data" / "versions"
VERSION = "_".join(torch.__version__.split("+")[0].split(".")[:2])


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2d(8)
        self.pool, self.drop, self.fc = nn.MaxPool2d(3, 2, 1), nn.Dropout(0.5, inplace=True), nn.Linear(8, 5)
        for norm in (self.bn1, self.bn2):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = self.pool(nn.functional.relu_(self.bn1(self.conv1(x))))
        y = self.bn2(self.conv2(x))
        y += x
        y = nn.functional.hardswish(y, inplace=True)
        y = torch.cat([y, nn.functional.interpolate(x, scale_factor=0.5).sigmoid().repeat(1, 1, 2, 2)], 2)
        return self.fc(self.drop(torch.flatten(nn.functional.adaptive_avg_pool2d(y, 1), 1)))


class Attention(nn.Module):
    """Words to logits: a padding mask with infinities, norms, attention, tied weights."""

    def __init__(self):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(20, 16, padding_idx=1), nn.Parameter(torch.randn(8, 16))
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.up, self.down = nn.Linear(16, 24), nn.Linear(24, 16)
        self.logits = nn.Linear(16, 20, bias=False)
        self.logits.weight = self.embedding.weight

    def forward(self, tokens):
        b, n = tokens.shape
        shut = torch.zeros(b, 1, 1, n).masked_fill(tokens.eq(1)[:, None, None], float("-inf"))
        x = self.embedding(tokens) + self.positions[:n]
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=shut)
        x = x + self.out(y.transpose(1, 2).reshape(b, n, 16))
        x = x + self.down(nn.functional.gelu(self.up(self.norm2(x))))
        return self.logits(x)


class Buffers(nn.Module):
    """Buffers of several kinds, writes through views, a block without gradients, arguments by keyword, a dict."""

    def __init__(self):
        super().__init__()
        big = torch.randn(4, 6)
        self.a, self.b = nn.Parameter(big[:2]), nn.Parameter(big[1:4].t())
        self.register_buffer("keep", torch.tensor([True, False, True]))
        self.register_buffer("short", torch.randn(3).half())
        self.register_buffer("brain", torch.randn(3).bfloat16())
        self.register_buffer("order", torch.tensor([2, 0, 1]))
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("hidden", torch.tensor([-torch.inf, 1.0, 2.0]), persistent=False)

    def forward(self, x, pair, *, scale):
        y = (x @ self.b).clone()
        y[1:, ::2].mul_(2)
        y.transpose(0, 1)[2] += self.short.float()[0]
        with torch.no_grad():
            y = y + self.brain.float()
        y = y.masked_fill(~self.keep, 0.5).maximum(self.hidden).clamp(max=torch.inf)
        rest = (y > pair[1], y.argmax(-1))
        return {"sum": y[:, self.order] * scale + pair[0], "rest": rest, "empty": self.empty.sum(0) + self.a[:, :3].sum(0)}


def named(path, value):
    join = lambda key: f"{path}.{key}" if path else str(key)
    if isinstance(value, dict):
        return {k: v for key, child in value.items() for k, v in named(join(key), child).items()}
    if isinstance(value, (tuple, list)):
        return {k: v for i, child in enumerate(value) for k, v in named(join(i), child).items()}
    return {path or "output": value}


def write(name, module, names, inputs, kwargs=None, forms=("plain",), **options):
    module, kwargs = module.eval(), kwargs or {}
    with torch.no_grad():
        program = torch.export.export(module, inputs, kwargs, **options)
        for form in forms:
            done = program if form == "plain" else program.run_decompositions()
            for graph in done.graph_module.modules():
                for node in graph.graph.nodes if hasattr(graph, "graph") else ():
                    node.meta.pop("stack_trace", None)
            path = DATA / f"{VERSION}.{name}{'.core' if form == 'core' else ''}.pt2"
            torch.export.save(done, path)
            print(f"{path.name}: {path.stat().st_size:,} bytes")
        given = {k: v for key, value in [*zip(names, inputs), *kwargs.items()] for k, v in named(key, value).items()}
        case = {"torch": torch.__version__, "inputs": given, "outputs": named("", module(*inputs, **kwargs))}
        torch.save(case, DATA / f"{VERSION}.{name}.pt")


def main():
    DATA.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    batch = torch.export.Dim("batch", min=2, max=9)
    write("convolutions", Convolutions(), ["x"], (torch.randn(3, 3, 17, 16),), dynamic_shapes={"x": {0: batch}})
    write("attention", Attention(), ["tokens"], (torch.tensor([[4, 7, 2, 19, 1], [3, 18, 1, 1, 1]]),))
    pair = (torch.randn(3), torch.randn(2, 3))
    write("buffers", Buffers(), ["x", "pair"], (torch.randn(2, 6), pair), {"scale": torch.tensor(2.0)}, ("plain", "core"))


if __name__ == "__main__":
    main()
