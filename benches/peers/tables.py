"""Print the tables of docs/performance.md.

usage: tables.py FOLDER [--threads 2] [--best] [--sconce target/release/sconce] [--peers FILE...]

FOLDER holds what models.py writes; FILE is what cpu.py printed. Without --peers: where the time of each model goes, from
`sconce bench --profile`, by the medians of the steps, or with --best by their minimums, for a machine that is not quiet.
"""
import argparse
import json
import subprocess

NAMES = ["mlp", "resnet18", "resnet50", "mobilenet_v2", "vgg16", "vit_b_16", "convnext_tiny"]
METHODS = ["winograd 2x2", "winograd 4x4", "depthwise", "direct", "in place", "packed"]
PEERS = ["eager", "inductor", "onnxruntime", "openvino"]


def row(cells):
    print("| " + " | ".join(map(str, cells)) + " |")


def header(cells):
    row(cells)
    print("|" + "---|" * len(cells))


def kind(step):
    """The kernel with its method: `conv2d direct`."""
    method = next((method for method in METHODS if step["shape"].endswith(" " + method)), "")
    kernel = step["kernel"].replace("scaled_dot_product_", "")
    if method == "direct" and not step["shape"].split("x ")[-1].startswith("1x1 "):
        method = "direct, larger than 1x1"
    return f"{kernel} {method}".strip()


def profile(args, name):
    arguments = [args.sconce, "bench", f"{args.folder}/{name}.pt", "--arch", name, "--device", "cpu", "--json"]
    arguments += ["--threads", str(args.threads), "--profile", "--quiet"]
    text = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    return json.loads(text)["results"][0]


def times(args):
    first = True
    for name in NAMES:
        result = profile(args, name)
        peak = result["profile"]
        if first:
            figures = f"{peak['peak_gflops']:.0f} GFLOP/s and {peak['peak_gbs']:.1f} GB/s"
            print(f"{args.threads} threads, {peak['instruction_set']}: at most {figures}.\n")
            header(["model", "kernel", "steps", "ms", "share", "GFLOP/s", "of peak", "GB/s", "of peak"])
            first = False
        sums = {}
        for step in peak["steps"]:
            entry = sums.setdefault(kind(step), [0, 0.0, 0, 0])
            for index, value in enumerate((1, step["min_ms" if args.best else "ms"], step["flops"], step["bytes"])):
                entry[index] += value
        total = [sum(entry[index] for entry in sums.values()) for index in range(4)]
        rows = sorted(sums.items(), key=lambda item: -item[1][1])
        rows = [(key, entry) for key, entry in rows if entry[1] >= 0.01 * total[1]]
        for key, (steps, ms, flops, size) in [("all", total), *rows]:
            gflops, gbs = flops / ms / 1e6, size / ms / 1e6
            cells = [steps, f"{ms:.3f}", f"{100 * ms / total[1]:.0f} %", f"{gflops:.0f}", f"{100 * gflops / peak['peak_gflops']:.0f} %"]
            row([name, key, *cells, f"{gbs:.1f}", f"{100 * gbs / peak['peak_gbs']:.0f} %"])
            name = ""


def peers(paths):
    header(["model", "batch", "threads", *PEERS, "sconce", "fastest peer / sconce"])
    for path in paths:
        with open(path) as lines:
            for line in map(json.loads, lines):
                if "model" in line:
                    cells = [f"{line[key]['median']:.2f} ({line[key]['min']:.2f})" for key in [*PEERS, "sconce"]]
                    row([line["model"], line["batch"], line["threads"], *cells, line["best_peer_over_sconce"]])
                else:
                    blank = [""] * (len(PEERS) + 1)
                    mean = f"{line['geometric_mean']} (least {line['least']})"
                    row([f"geometric mean of {line['models']}", line["batch"], line["threads"], *blank, mean])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sconce", default="target/release/sconce")
    parser.add_argument("--best", action="store_true")
    parser.add_argument("--peers", nargs="+", metavar="FILE")
    args = parser.parse_args()
    if args.peers:
        peers(args.peers)
    else:
        times(args)


if __name__ == "__main__":
    main()
