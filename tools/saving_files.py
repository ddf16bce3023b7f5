"""Writes the files of tests/data/saving that tests/saving.rs reads, with PyTorch and safetensors.

    python tools/saving_files.py

`tensors.pt` and `tensors.safetensors` hold the same tensors. tools/resume.py writes the others. Needs torch and
safetensors.
"""

import collections
from pathlib import Path

import safetensors.torch
import torch

OUT = Path(__file__).parent.parent / "tests/data/saving"
DTYPES = (
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool uint16 uint32 uint64 float8_e4m3fn float8_e5m2 "
    "float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu complex64"
).split()


def main():
    torch.manual_seed(0)
    tensors = collections.OrderedDict()
    for name in DTYPES:
        dtype = getattr(torch, name)
        data = torch.randint(0, 2 if name == "bool" else 256, (6 * dtype.itemsize,), dtype=torch.uint8)
        tensors[name] = data.view(dtype).reshape(2, 3)
    tensors['odd "name" \u2603\n'] = torch.arange(3)
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.empty(0, 3)
    torch.save(tensors, OUT / "tensors.pt")
    safetensors.torch.save_file(tensors, OUT / "tensors.safetensors", {"format": "pt", "note": "caf\u00e9"})


if __name__ == "__main__":
    main()
