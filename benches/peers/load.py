"""Time torch.load and safetensors on the files that benches/load.rs opens: the median of many runs.

usage: load.py FILE.pt...
"""
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch


def median(work, seconds=1.0):
    work()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def main():
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for path in sys.argv[1:]:
        size = Path(path).stat().st_size
        mapped = median(lambda: torch.load(path, mmap=True, weights_only=True))
        read = median(lambda: torch.load(path, weights_only=True))
        print(f"{path}: torch.load(mmap=True) {mapped * 1e3:.2f} ms, "
              f"torch.load {read * 1e3:.1f} ms ({size / read / 1e9:.2f} GB/s)")
        try:
            from safetensors.torch import load_file, save_file
        except ImportError:
            continue
        state = torch.load(path, mmap=True, weights_only=True)
        if not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
            continue
        with tempfile.TemporaryDirectory() as folder:
            other = Path(folder) / "model.safetensors"
            save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, other)
            opened = median(lambda: load_file(other))
            print(f"  the same as safetensors: load_file {opened * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
