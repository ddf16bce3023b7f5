"""Compare what sconce computes on the CPU with what PyTorch gave, for every instruction set of this machine.

usage: accuracy.py FOLDER [NAME...] [--sconce target/release/sconce] [--limit 2e-5]

FOLDER holds what models.py writes. Prints one JSON line for each model: the largest error with each instruction set, as a
part of the largest output. The exit status is 1 when one is above the limit, or when a model was not compared: the outputs
are not all finite, or PyTorch's are all zero and say nothing.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

NAMES = ["mlp", "resnet18", "resnet50", "mobilenet_v2", "vgg16", "vit_b_16", "convnext_tiny"]
SETS = ["avx512", "avx2", "neon", "portable"]


def error(sconce, folder, name, instruction_set):
    """The error, or nothing when the machine does not have the instruction set."""
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "y.npy"
        arguments = [sconce, "run", f"{folder}/{name}.pt", "--arch", name, "--device", "cpu", "--quiet"]
        arguments += ["--input", f"{folder}/{name}.x.npy", "--output", str(output)]
        ran = subprocess.run(arguments, env={**os.environ, "SCONCE_CPU": instruction_set}, capture_output=True, text=True)
        if "does not have" in ran.stderr:
            return None
        if ran.returncode != 0:
            raise ValueError(ran.stderr.strip())
        found = np.load(output)
    expected = np.load(f"{folder}/{name}.y.npy")
    assert found.shape == expected.shape, (found.shape, expected.shape)
    largest = np.abs(expected).max()
    if not largest > 0:
        raise ValueError("PyTorch's outputs are all zero: write the files anew with models.py")
    if not np.isfinite(found).all():
        raise ValueError(f"{np.isfinite(found).sum()} of {found.size} outputs are finite")
    return float(np.abs(found - expected).max() / largest)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--sconce", default="target/release/sconce")
    parser.add_argument("--limit", type=float, default=2e-5)
    args = parser.parse_args()
    worst, failed = 0.0, []
    for name in args.names or NAMES:
        row = {"model": name}
        try:
            for instruction_set in SETS:
                found = error(args.sconce, args.folder, name, instruction_set)
                if found is not None:
                    row[instruction_set] = float(f"{found:.2e}")
                    worst = max(worst, found)
        except (ValueError, OSError) as problem:
            row["failed"] = str(problem)
            failed.append(name)
        print(json.dumps(row), flush=True)
    print(json.dumps({"largest": float(f"{worst:.2e}"), "limit": args.limit, "failed": failed}))
    sys.exit(0 if worst <= args.limit and not failed else 1)


if __name__ == "__main__":
    main()
