"""Trains the network of `examples/digits` on scikit-learn's handwritten digits (8 x 8 pixels, 1,797 images).

usage: digits.py        writes digits.pt (the state dict) and held.pt (the images it never saw) to examples/digits/

Images are divided by 16, so that pixels lie in 0 ..= 1. A quarter of them, stratified by digit, is held back.
"""
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

OUT = Path(__file__).resolve().parent.parent / "examples" / "digits"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.classifier = nn.Linear(64 * 2 * 2, 10)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def shifted(images):
    """Each image moved by -1, 0 or 1 pixels both ways, so that the network learns shapes rather than places."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    dy, dx = torch.randint(0, 3, (2, len(images)))
    rows = dy[:, None, None] + torch.arange(8)[None, :, None]
    columns = dx[:, None, None] + torch.arange(8)[None, None, :]
    return padded[torch.arange(len(images))[:, None, None], 0, rows, columns][:, None]


def main():
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    train, held = train_test_split(np.arange(len(labels)), test_size=0.25, stratify=digits.target, random_state=0)

    net, epochs, batch = Net(), 40, 64
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, epochs=epochs, steps_per_epoch=-(-len(train) // batch))
    for _ in range(epochs):
        for chosen in torch.tensor(train)[torch.randperm(len(train))].split(batch):
            loss = nn.functional.cross_entropy(net(shifted(images[chosen])), labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    net.eval()
    with torch.no_grad():
        right = (net(images[held]).argmax(1) == labels[held]).sum().item()
    print(f"{right} of {len(held)} held images right: {right / len(held):.2%}")

    OUT.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), OUT / "digits.pt")
    torch.save({
        "images": torch.tensor(digits.images[held], dtype=torch.uint8),  # 0 ..= 16
        "labels": labels[held].to(torch.uint8),
    }, OUT / "held.pt")


if __name__ == "__main__":
    main()
