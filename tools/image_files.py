"""Write the pictures of tests/data/image, and what torchvision's transforms make of them.

usage: image_files.py [OUT_DIR]
"""
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms as T


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/data/image")
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pictures = {}
    for name, (height, width) in {"wide": (30, 41), "tall": (38, 27)}.items():
        y, x = np.mgrid[0:height, 0:width]
        waves = [128 + 100 * np.sin(x / a + y / b) for a, b in ((3, 7), (11, 4), (-5, 6))]
        noise = rng.integers(-20, 20, (height, width, 3))
        pixels = np.clip(np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)
        pictures[name] = Image.fromarray(pixels)
        pictures[name].save(folder / f"{name}.png", optimize=True)
    pictures["wide"].save(folder / "wide.jpg", quality=90)

    finish = [T.ToTensor(), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    steps = {
        "shrunk": [T.Resize(16, antialias=True), T.CenterCrop(12)],
        "enlarged": [T.Resize(64, antialias=True), T.CenterCrop(25)],
        "cropped": [T.CenterCrop(21)],
    }
    for name, first in steps.items():
        preset = T.Compose(first + finish)
        batch = torch.stack([preset(pictures["wide"]), preset(pictures["tall"])])
        np.save(folder / f"{name}.npy", batch.numpy())
    jpeg = T.Compose(finish)(Image.open(folder / "wide.jpg"))
    np.save(folder / "jpeg.npy", jpeg[None].numpy())


if __name__ == "__main__":
    main()
