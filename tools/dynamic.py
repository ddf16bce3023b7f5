"""Programs with free sizes: one file, run by sconce at several sizes and compared with PyTorch at each.

usage: dynamic.py [--sconce PATH] [--device cpu,llvmpipe] [--dir DIR]

Without `--sconce` it writes the small ones of tests/data/programs: free_images and free_words, each NAME.pt2 with a NAME.pt
that has the inputs and outputs of five sizes. With it, torchvision's resnet18 with a free batch and transformers' BERT
(the base configuration, random weights) with a free batch and a free length are exported, run and compared.
"""
import argparse
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from programs import DATA, repack
from zoo import randomize

warnings.filterwarnings("ignore")
Dim = torch.export.Dim


class Words(nn.Module):
    """BERT with its arguments by position."""

    def __init__(self, **options):
        super().__init__()
        from transformers import BertConfig, BertModel

        self.bert = BertModel(BertConfig(**options))

    def forward(self, tokens, mask):
        out = self.bert(input_ids=tokens, attention_mask=mask)
        return {"last": out.last_hidden_state, "pooled": out.pooler_output}


def images(size, **options):
    from torchvision.models import resnet

    net = SmallResNet(**options) if options else resnet.resnet18(weights=None)
    return net, [(torch.randn(n, 3, size, size),) for n in (2, 1, 3, 5, 8)], ({0: Dim("batch", min=1, max=8)},), ["x"]


class SmallResNet(nn.Module):
    """torchvision's basic blocks with few channels."""

    def __init__(self, width, classes):
        super().__init__()
        from torchvision.models.resnet import BasicBlock

        down = nn.Sequential(nn.Conv2d(width, 2 * width, 1, 2, bias=False), nn.BatchNorm2d(2 * width))
        self.stem = nn.Sequential(nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.pool, self.avgpool = nn.MaxPool2d(3, 2, 1), nn.AdaptiveAvgPool2d((1, 1))
        self.layer1, self.layer2 = BasicBlock(width, width), BasicBlock(width, 2 * width, 2, down)
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x):
        x = self.layer2(self.layer1(self.pool(self.stem(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def words(**options):
    net = Words(**options)
    count = net.bert.config.vocab_size

    def sample(batch, length):
        mask = torch.ones(batch, length, dtype=torch.int64)
        mask[-1, length - length // 3:] = 0
        return torch.randint(0, count, (batch, length)), mask

    sizes = {0: Dim("batch", min=1, max=4), 1: Dim("length", min=2, max=32)}
    cases = [sample(*size) for size in ((2, 9), (1, 4), (3, 16), (2, 31), (4, 32))]
    return net, cases, (sizes, sizes), ["tokens", "mask"]


def export(net, cases, dynamic, path):
    with torch.no_grad():
        program = torch.export.export(net, cases[0], dynamic_shapes=dynamic)
        program._example_inputs = None
        for module in program.graph_module.modules():
            for node in module.graph.nodes if hasattr(module, "graph") else ():
                node.meta.pop("stack_trace", None)
        torch.export.save(program, path)
        return [net(*case) for case in cases]


def write(name, net, cases, dynamic, names):
    randomize(net.eval())
    path = DATA / f"{name}.pt2"
    outputs = export(net, cases, dynamic, path)
    repack(path)
    outputs = [out if isinstance(out, dict) else {"output": out} for out in outputs]
    runs = [{"inputs": dict(zip(names, case)), "outputs": out} for case, out in zip(cases, outputs)]
    torch.save({"torch": torch.__version__, "runs": runs}, DATA / f"{name}.pt")
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def check(args, name, net, cases, dynamic, names):
    randomize(net.eval())
    args.dir.mkdir(parents=True, exist_ok=True)
    path = args.dir / f"{name}.pt2"
    outputs = export(net, cases, dynamic, path)
    for device in args.device.split(","):
        for case, want in zip(cases, outputs):
            command = [args.sconce, "run", path, "--device", device, "--quiet"]
            for i, x in enumerate(case):
                np.save(args.dir / f"x{i}.npy", x.numpy())
                command += ["--input", args.dir / f"x{i}.npy"]
            want = list(want.values()) if isinstance(want, dict) else [want]
            for i in range(len(want)):
                command += ["--output", args.dir / f"y{i}.npy"]
            subprocess.run([str(part) for part in command], check=True)
            error = max(float(np.abs(np.load(args.dir / f"y{i}.npy") - y.numpy()).max() / y.abs().max())
                        for i, y in enumerate(want))
            print(f"{name} {device} {[list(x.shape) for x in case]}: {error:.1e}", flush=True)
    too_many = torch.cat([cases[0][0]] * 9)
    np.save(args.dir / "x0.npy", too_many.numpy())
    command = [args.sconce, "run", path, "--quiet", "--device", "cpu", "--input", args.dir / "x0.npy"]
    if len(names) > 1:
        command += ["--input", args.dir / "x0.npy"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    print(f"{name}: {len(too_many)} at once: exit status {done.returncode}: {done.stderr.strip()}")
    path.unlink()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sconce")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dir", default="/tmp/dynamic", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    if args.sconce is None:
        write("free_images", *images(17, width=4, classes=5))
        small = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, vocab_size=30,
                     max_position_embeddings=32)
        write("free_words", *words(**small))
        return 0
    check(args, "resnet18", *images(224))
    check(args, "bert", *words())
    return 0


if __name__ == "__main__":
    sys.exit(main())
