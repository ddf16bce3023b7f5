"""Write what the models of `src/models` must equal: torchvision's state-dict keys and printed trees.

usage: torchvision_keys.py OUT_DIR        writes digests.txt and the trees of a few models
       torchvision_keys.py --keys NAME    prints the lines that NAME's digest is of
       torchvision_keys.py --tree NAME    prints NAME's tree

A line of digests.txt is the model's name, the number of its keys, the digest of its lines `name [shape]` in order, and
the digest of its printed tree. Digests are FNV-1a, 64 bits.
"""
import sys
import warnings
from pathlib import Path

import torch
import torchvision
import torchvision.models as tv

warnings.filterwarnings("ignore")

NAMES = """resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d wide_resnet50_2 vgg11 vgg11_bn vgg13 vgg13_bn vgg16
vgg16_bn vgg19 vgg19_bn alexnet mobilenet_v2 mobilenet_v3_small mobilenet_v3_large squeezenet1_0 squeezenet1_1 densenet121
efficientnet_b0 convnext_tiny vit_b_16""".split()
TREES = ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "convnext_tiny", "vit_b_16"]


def build(name):
    with torch.device("meta"):
        return getattr(tv, name)()


def keys(model):
    return "".join(f"{name} {list(tensor.shape)}\n" for name, tensor in model.state_dict().items())


def tree(model):
    return repr(model) + "\n"


def fnv(text):
    digest = 0xCBF29CE484222325
    for byte in text.encode():
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return f"{digest:016x}"


def main():
    if sys.argv[1] in ("--keys", "--tree"):
        model = build(sys.argv[2])
        sys.stdout.write(keys(model) if sys.argv[1] == "--keys" else tree(model))
        return
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    lines = [f"# torch {torch.__version__}, torchvision {torchvision.__version__}"]
    for name in NAMES:
        model = build(name)
        lines.append(f"{name} {len(model.state_dict())} {fnv(keys(model))} {fnv(tree(model))}")
        if name in TREES:
            (out / f"{name}.txt").write_text(tree(model))
    (out / "digests.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
