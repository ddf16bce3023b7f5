"""Time PyTorch on a GPU for the models of models.py: what sconce's figures on the same card are set beside.

usage: gpu.py [--batch 1,32] [--device cuda] [--runs 50] [--write-models FOLDER] [NAME...]

Needs torch and torchvision. Prints a JSON line for each model and batch: the median milliseconds of a forward pass, input
and output on the device, synchronised, for eager f32 (TF32 off), eager with TF32, torch.compile (mode reduce-overhead, so
with CUDA graphs, TF32 off), a CUDA graph of the eager model, and eager f16. The last line has the card: its name, the GB/s of
a large copy on it and of copies from pinned and from ordinary memory to it, and the TFLOP/s of matrix products. With
--write-models it writes NAME.pt, NAME.x.npy and NAME.y.npy for models that are not there yet, and times nothing.
"""
import argparse
import json
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")


def median_ms(run, sync, runs):
    for _ in range(max(2, runs // 5)):
        run()
    sync()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        sync()
        times.append((time.perf_counter() - start) * 1e3)
    return round(sorted(times)[len(times) // 2], 4)


def allow_tf32(on):
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


def graphed(model, x, runs):
    """A CUDA graph of the eager model, replayed."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            model(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(x)
    return median_ms(graph.replay, torch.cuda.synchronize, runs)


def attempt(measure):
    """A figure, or why there is none."""
    try:
        return measure()
    except Exception as error:
        return f"{type(error).__name__}"


def time_model(name, batch, device, sync, runs):
    model = build(name).to(device)
    x = make_input(name, batch).to(device)
    row = {"model": name, "batch": batch}
    allow_tf32(False)
    row["eager_f32"] = attempt(lambda: median_ms(lambda: model(x), sync, runs))
    if not device.startswith("cuda"):
        return row
    row["graph_f32"] = attempt(lambda: graphed(model, x, runs))
    compiled = torch.compile(model, mode="reduce-overhead")
    row["compiled_f32"] = attempt(lambda: median_ms(lambda: compiled(x), sync, runs))
    allow_tf32(True)
    row["eager_tf32"] = attempt(lambda: median_ms(lambda: model(x), sync, runs))
    allow_tf32(False)
    half, h = model.half(), x.half()
    row["eager_f16"] = attempt(lambda: median_ms(lambda: half(h), sync, runs))
    return row


def card(sync):
    a = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    host = torch.empty(1 << 28, dtype=torch.uint8)
    pinned = host.pin_memory()
    target = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    rate = lambda run, size: round(size / median_ms(run, sync, 20) / 1e6, 1)
    result = {
        "card": torch.cuda.get_device_name(),
        "copy_gb_s": rate(lambda: a.clone(), 2 * a.numel()),
        "from_pinned_gb_s": rate(lambda: target.copy_(pinned, non_blocking=True), host.numel()),
        "from_host_gb_s": rate(lambda: target.copy_(host), host.numel()),
    }
    for dtype, key in ((torch.float16, "f16_tflops"), (torch.bfloat16, "bf16_tflops"), (torch.float32, "f32_tflops")):
        m = torch.randn(8192, 8192, device="cuda").to(dtype)
        result[key] = round(2 * 8192**3 / median_ms(lambda: m @ m, sync, 20) / 1e9, 1)
    return result


def write_models(folder, names):
    import numpy as np

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not all((folder / f"{name}.{kind}").exists() for kind in ("pt", "x.npy", "y.npy")):
            model, x = build(name), make_input(name, 1)
            torch.save(model.state_dict(), folder / f"{name}.pt")
            np.save(folder / f"{name}.x.npy", x.numpy())
            np.save(folder / f"{name}.y.npy", model(x).numpy())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--batch", default="1,32")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--write-models", metavar="FOLDER")
    args = parser.parse_args()
    # After the arguments: --help needs no torch.
    global torch, build, make_input
    try:
        import torch
        from models import MODELS, build, make_input
    except ImportError as error:
        sys.exit(f"gpu.py needs torch and torchvision: {error}")
    names = args.names or list(MODELS)
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        sys.exit(f"gpu.py: no model `{unknown[0]}`, there are {', '.join(MODELS)}")
    if args.device.startswith("cuda") and not args.write_models and not torch.cuda.is_available():
        sys.exit(f"gpu.py: torch {torch.__version__} sees no CUDA device")
    sync = torch.cuda.synchronize if args.device.startswith("cuda") else (lambda: None)
    with torch.inference_mode():
        if args.write_models:
            return write_models(args.write_models, names)
        for name in names:
            for batch in map(int, args.batch.split(",")):
                print(json.dumps(time_model(name, batch, args.device, sync, args.runs)), flush=True)
        if args.device.startswith("cuda"):
            print(json.dumps(card(sync)))


if __name__ == "__main__":
    main()
