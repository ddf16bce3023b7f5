"""Trains small nets with PyTorch, and resumes the training from a file that sconce wrote.

    python tools/resume.py --write     writes tests/data/saving/training.pt: three nets after 5 steps
    python tools/resume.py [FILE]      resumes from training.pt and from FILE, which sconce made of it, for 5 steps more

FILE is as a rule tests/data/saving/resaved.pt, which the test `case_19` writes again and compares byte by byte. The next
losses must be equal to the last bit. Needs torch.
"""

import sys
import warnings
from pathlib import Path

import torch
from torch import nn

FOLDER = Path(__file__).parent.parent / "tests/data/saving"
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW([{"params": p[:2]}, {"params": p[2:], "lr": 0.003}], lr=0.01, weight_decay=0.1),
}


def make(name):
    torch.manual_seed(7)
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))
    optimizer = OPTIMIZERS[name](list(net.parameters()))
    return net, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)


def train(net, optimizer, scheduler, start):
    losses = []
    for step in range(start, start + 5):
        torch.manual_seed(100 + step)
        loss = (net(torch.randn(16, 4)) - torch.randn(16, 2)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


def write():
    checkpoint = {"epoch": 5, "best": float("inf"), "runs": {}}
    for name in OPTIMIZERS:
        net, optimizer, scheduler = make(name)
        losses = train(net, optimizer, scheduler, 0)
        checkpoint["runs"][name] = {
            "model_state_dict": net.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "losses": losses,
        }
    FOLDER.mkdir(exist_ok=True)
    torch.save(checkpoint, FOLDER / "training.pt")


def resume(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoint = torch.load(path, **options)
    losses = {}
    for name, run in checkpoint["runs"].items():
        net, optimizer, scheduler = make(name)
        net.load_state_dict(run["model_state_dict"])
        optimizer.load_state_dict(run["optimizer_state_dict"])
        scheduler.load_state_dict(run["scheduler"])
        losses[name] = train(net, optimizer, scheduler, 5)
    return checkpoint["epoch"], losses


def main():
    torch.set_num_threads(1)
    if sys.argv[1:] == ["--write"]:
        return write()
    path = Path(sys.argv[1]) if sys.argv[1:] else FOLDER / "resaved.pt"
    epoch, expected = resume(FOLDER / "training.pt")
    for weights_only in (True, False):
        for mmap in (False, True):
            new_epoch, losses = resume(path, weights_only=weights_only, mmap=mmap)
            assert (epoch, new_epoch) == (5, 6), (epoch, new_epoch)
            for name, numbers in expected.items():
                same = [a.hex() for a in numbers] == [b.hex() for b in losses[name]]
                print(f"weights_only={weights_only!s:5} mmap={mmap!s:5} {name:6}", *(f"{loss:.9f}" for loss in losses[name]))
                assert same, f"{name}: {numbers} became {losses[name]}"
    print(f"torch {torch.__version__}: the losses after resuming from {path.name} are equal to the last bit")


if __name__ == "__main__":
    main()
