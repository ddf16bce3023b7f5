"""Open the same files with sconce, torch.load and safetensors in one run, and print one table.

usage: load.py FILE.pt...   (build the bench first: cargo bench --bench load --no-run)

Each is timed until its names and tensors are ready and no element is read: sconce to a StateDict, torch.load with
mmap (and without, which reads the file), safetensors' load_file of the same tensors saved as safetensors. Medians, ms.
"""
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]


def median(work, seconds=1.0):
    work()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        kept = work()
        times.append((time.perf_counter() - before) * 1e3)
        del kept
    return statistics.median(times)


def sconce(path):
    """The median of the bench, which opens the file in this very run."""
    bench = max(ROOT.glob("target/release/deps/load-*"), key=lambda file: (file.suffix == "", file.stat().st_mtime))
    answer = subprocess.run([bench, "--bench", "--open", path], capture_output=True, text=True, check=True).stdout
    return float(re.search(r"open, state dict +median +([0-9.]+)", answer)[1])


def main():
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; ms until every name and tensor is ready")
    print(f"{'file':28} {'tensors':>7} {'MB':>8} {'sconce':>9} {'torch mmap':>11} {'torch':>9} {'safetensors':>12}")
    for path in sys.argv[1:]:
        state = torch.load(path, mmap=True, weights_only=True)
        with tempfile.TemporaryDirectory() as folder:
            twin = Path(folder) / "model.safetensors"
            save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, twin)
            row = [
                sconce(path),
                median(lambda: torch.load(path, mmap=True, weights_only=True)),
                median(lambda: torch.load(path, weights_only=True)),
                median(lambda: load_file(twin)),
            ]
        size = Path(path).stat().st_size / 1e6
        print(f"{Path(path).name:28} {len(state):7} {size:8.1f} {row[0]:9.3f} {row[1]:11.2f} {row[2]:9.2f} {row[3]:12.2f}",
              flush=True)


if __name__ == "__main__":
    main()
