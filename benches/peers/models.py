"""Write the models that sconce and its peers are timed on.

usage: models.py FOLDER [NAME...]

For each model: NAME.pt (state dict), NAME.x.npy and NAME.y.npy (one seeded input and what PyTorch gives for it), and
NAME.onnx for the peers that need it. Weights are random (seed 0) with BatchNorm statistics that matter, so that a runtime
that folds them wrongly is found out.
"""
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torchvision.models as tv


class Mlp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(784, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 10)
        )

    def forward(self, x):
        return self.net(x)


MODELS = {
    "mlp": (Mlp, (784,)),
    **{
        name: (getattr(tv, name), (3, 224, 224))
        for name in ("resnet18", "resnet50", "mobilenet_v2", "vgg16", "vit_b_16", "convnext_tiny")
    },
}


def build(name, state=None):
    """The model in eval mode, with made-up weights or with those of a file."""
    torch.manual_seed(0)
    model = MODELS[name][0]()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    if name == "vit_b_16":
        # torchvision's are zeros, and so would be all outputs.
        model.heads.head.weight.data.normal_(0, 0.1)
    if state is not None:
        model.load_state_dict(torch.load(state))
    return model.eval()


def make_input(name, batch):
    return torch.randn((batch, *MODELS[name][1]), generator=torch.Generator().manual_seed(batch))


def onnx_file(folder, name, batch):
    """The ONNX file for a size of batch, which is written when it is not there."""
    path = Path(folder) / (f"{name}.onnx" if batch == 1 else f"{name}.batch{batch}.onnx")
    if not path.exists():
        model = build(name, Path(folder) / f"{name}.pt")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, (make_input(name, batch),), path, dynamo=False, opset_version=17)
    return str(path)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or MODELS:
        model, x = build(name), make_input(name, 1)
        with torch.no_grad():
            y = model(x)
        torch.save(model.state_dict(), folder / f"{name}.pt")
        np.save(folder / f"{name}.x.npy", x.numpy())
        np.save(folder / f"{name}.y.npy", y.numpy())
        onnx_file(folder, name, 1)
        print(name, sum(p.numel() for p in model.parameters()), flush=True)


if __name__ == "__main__":
    main()
