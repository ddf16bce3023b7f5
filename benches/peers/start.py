"""Time a whole process that opens a model, compiles it and runs it once.

usage: start.py FOLDER [NAME...] [--runs 9] [--threads 2] [--sconce target/release/sconce]

FOLDER holds what models.py writes. Prints one JSON line for each model: milliseconds, median and minimum.
"""
import argparse
import json
import os
import statistics
import subprocess
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sconce", default="target/release/sconce")
    args = parser.parse_args()
    for name in args.names or ["resnet50", "mobilenet_v2"]:
        arguments = [args.sconce, "run", f"{args.folder}/{name}.pt", "--arch", name, "--device", "cpu", "--quiet"]
        arguments += ["--threads", str(args.threads), "--input", f"{args.folder}/{name}.x.npy", "--output", os.devnull]
        times = []
        for _ in range(args.runs):
            start = time.perf_counter()
            subprocess.run(arguments, check=True, capture_output=True)
            times.append((time.perf_counter() - start) * 1e3)
        print(json.dumps({"model": name, "median": round(statistics.median(times), 1), "min": round(min(times), 1)}))


if __name__ == "__main__":
    main()
