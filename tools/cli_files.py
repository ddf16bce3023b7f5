"""Write the small model, input and output of tests/data/cli with PyTorch.

usage: cli_files.py [OUT_DIR]
"""
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/data/cli")
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)).eval()
    state = net.state_dict()
    torch.save(state, folder / "mlp.pt")
    copy = {name: tensor.clone() for name, tensor in state.items()}
    torch.save({"epoch": 3, "model_state_dict": state, "ema": {"state": copy}}, folder / "nested.pt")
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, folder / "parallel.pt")
    # One that does not fit squeezenet1_1 in three ways, and one with all of its names behind a prefix.
    part = {"features.0.bias": torch.ones(64), "features.0.weight": torch.ones(4), "head.bias": torch.ones(2)}
    torch.save(part, folder / "part.pt")
    names, empty = torchvision.models.squeezenet1_1().state_dict(), torch.empty(0)
    torch.save({f"module.{name}": empty for name in names}, folder / "prefixed.pt")
    torch.save({"features.0.weight": torch.zeros(4, 3, 3, 3)}, folder / "other.pt")

    x = torch.randn(2, 12)
    with torch.inference_mode():
        y = net(x)
        np.save(folder / "x.npy", x.numpy())
        np.save(folder / "y.npy", y.numpy())

        # The weight of the hidden unit that is most active: one of a unit that is 0 would change nothing.
        changed = {name: tensor.clone() for name, tensor in state.items()}
        changed["2.weight"][1, net[:2](x)[0].argmax()] += 0.1
        torch.save(changed, folder / "changed.pt")
        net.load_state_dict(changed)
        assert (net(x) - y).abs().max() > 0.01


if __name__ == "__main__":
    main()
