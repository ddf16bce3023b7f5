"""Time sconce and its peers on the CPU, one after the other and in one run.

usage: cpu.py FOLDER [NAME[:BATCH]...] [--threads 2] [--seconds 3] [--sconce target/release/sconce]

FOLDER holds what models.py writes. The cases are the seven models with a batch of one, and resnet50 and vit_b_16 with a
batch of eight, unless others are named. Prints one JSON line for each: milliseconds, median and minimum, of PyTorch eager,
PyTorch inductor with freezing, onnxruntime, OpenVINO (all f32) and sconce. Each runs alone for so many seconds, and at
least ten times, with its weights in the caches as far as they fit; then all once more in the opposite order. The figure is
the better of the two medians. The last lines are the geometric mean and the least of `best_peer_over_sconce`: the fastest
peer's median by sconce's.
"""
import argparse
import functools
import json
import math
import subprocess
import time
import warnings

import numpy as np
import onnxruntime
import openvino
import torch
import torch._inductor.config

from models import MODELS, build, make_input, onnx_file

CASES = [*MODELS, "resnet50:8", "vit_b_16:8"]


def peers(folder, name, batch, threads):
    """Callables that run one forward pass each on the same input."""
    model, x = build(name, f"{folder}/{name}.pt"), make_input(name, batch)
    array, onnx = x.numpy(), onnx_file(folder, name, batch)
    torch._dynamo.reset()
    compiled = torch.compile(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: array}
    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    core.set_property("CPU", settings)
    request = core.compile_model(onnx, "CPU").create_infer_request()

    def eager():
        with torch.inference_mode():
            model(x)

    def inductor():
        with torch.no_grad():
            compiled(x)

    return {
        "eager": eager,
        "inductor": inductor,
        "onnxruntime": lambda: session.run(None, feed),
        "openvino": lambda: request.infer({0: array}),
    }


def ours(args, name, batch):
    arguments = [args.sconce, "bench", f"{args.folder}/{name}.pt", "--arch", name, "--device", "cpu"]
    arguments += ["--threads", str(args.threads), "--batch", str(batch), "--json", "--quiet"]
    text = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    times = json.loads(text)["results"][0]["forward_ms"]
    return times["median"], times["min"]


def theirs(run, seconds):
    """The median and the least of a peer's times, after three runs that do not count."""
    for _ in range(3):
        run()
    times, end = [], time.time() + seconds
    while time.time() < end or len(times) < 10:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times)), min(times)


def measure(args, name, batch):
    runs = peers(args.folder, name, batch, args.threads)
    timers = {"sconce": functools.partial(ours, args, name, batch)}
    timers |= {peer: functools.partial(theirs, run, args.seconds) for peer, run in runs.items()}
    times = {who: [timer()] for who, timer in timers.items()}
    for who, timer in reversed(timers.items()):
        times[who].append(timer())
    row = {"model": name, "batch": batch, "threads": args.threads}
    for who, both in times.items():
        row[who] = {"median": round(min(x for x, _ in both), 3), "min": round(min(x for _, x in both), 3)}
    best = min(row[peer]["median"] for peer in runs)
    row["best_peer_over_sconce"] = round(best / row["sconce"]["median"], 3)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("cases", nargs="*", metavar="NAME[:BATCH]")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--sconce", default="target/release/sconce")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    torch._inductor.config.freezing = True
    rows = []
    for case in args.cases or CASES:
        name, _, batch = case.partition(":")
        rows.append(measure(args, name, int(batch or 1)))
        print(json.dumps(rows[-1]), flush=True)
    for batch in sorted({row["batch"] for row in rows}):
        ratios = [row["best_peer_over_sconce"] for row in rows if row["batch"] == batch]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        summary = {"batch": batch, "threads": args.threads, "models": len(ratios)}
        print(json.dumps({**summary, "geometric_mean": round(mean, 3), "least": min(ratios)}), flush=True)


if __name__ == "__main__":
    main()
