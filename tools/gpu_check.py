"""What tools/gpu_check.sh runs once the programs are there; see that file. Needs nothing but Python; torch where it is."""
import argparse
import array
import ctypes
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRECISIONS = ["f32", "fast", "f16"]
NAMES = ["mlp", "resnet18", "resnet50", "mobilenet_v2", "vgg16", "vit_b_16", "convnext_tiny"]
# The tests that run kernels; the others need no adapter. A software adapter takes minutes for all.
TESTS = ["backend::gpu", "device::"]
QUICK_TESTS = ["backend::gpu::tests", "backend::gpu::cache", "backend::gpu::tune", "kernels::tests::every_case_is_right", "device::"]


# What is said of a precision that the device does not have.
REFUSED = re.compile(r"^error: precision `\w+` on device `[^`]*`: (.*)", re.M)


def say(*text):
    print(*text, flush=True)


def run(command, minutes=10, **options):
    """Runs a command; one that takes longer is ended, and has failed."""
    command = [str(part) for part in command]
    try:
        return subprocess.run(command, text=True, errors="replace", capture_output=True, timeout=60 * minutes, **options)
    except subprocess.TimeoutExpired as late:
        texts = [(text or b"").decode(errors="replace") for text in (late.stdout, late.stderr)]
        return subprocess.CompletedProcess(command, 124, texts[0], f"{texts[1]}\nerror: it did not end in {minutes} minutes")


def adapter(args):
    """The adapter to check; a software one only when that is asked for."""
    listed = run([args.bins / "sconce", "devices", "--json"])
    if listed.returncode:
        sys.exit(listed.stderr)
    all_gpus = [device for device in json.loads(listed.stdout)["devices"] if device["kind"] != "cpu"]
    wanted = [device for device in all_gpus if (args.adapter or "").lower() in device["name"].lower()]
    hardware = [device for device in wanted if device["kind"] != "software"]
    found = wanted if args.software else hardware
    if not found:
        there = ", ".join(f"{device['name']} ({device['kind']})" for device in all_gpus) or "none"
        hint = "" if args.software else ". A software adapter is taken with --software"
        sys.exit(f"there is no GPU to check; the adapters are: {there}{hint}{loader()}")
    if found[0]["unsupported"]:
        sys.exit(f"{found[0]['name']} cannot run models: {found[0]['unsupported']}")
    return found[0]


def loader():
    """What is missing where Vulkan is needed and cannot even be opened."""
    if not sys.platform.startswith("linux"):
        return ""
    try:
        ctypes.CDLL("libvulkan.so.1")
    except OSError:
        return ". libvulkan.so.1 is not found: install the Vulkan loader (libvulkan1), or give its folder with --vulkan"
    return ". The Vulkan loader is there, but knows no driver of a GPU: VK_DRIVER_FILES names a driver's JSON file"


def kernel_tests(args):
    """The tests on this adapter alone, with the shaders' checks on and off."""
    say("tests: of the kernels, with checks on and off; this takes minutes on slow adapters")
    result = run([args.bins / "sconce-tests", *(QUICK_TESTS if args.quick else TESTS)], 30, cwd=ROOT)
    lines = (result.stdout + result.stderr).splitlines()
    ended = next((line for line in lines if line.startswith("test result:")), None)
    summary = ended or f"the tests did not end: {error_line(result)}"
    say("tests:", summary)
    if result.returncode:
        say("\n".join(lines[-60:]))
    return {"passed": result.returncode == 0, "summary": summary, "failed": [l[5:] for l in lines if l.endswith("... FAILED")]}


def models(args):
    """The folder with the models; those that are missing are made with torch."""
    folder = Path(args.models) if args.models else Path(tempfile.gettempdir()) / "sconce-gpu-check"
    missing = [name for name in args.only if not (folder / f"{name}.pt").exists()]
    if missing:
        say("models: making", *missing, "in", folder)
        made = run([args.python, ROOT / "benches/peers/gpu.py", "--write-models", folder, *missing], 30)
        if made.returncode:
            say(f"models: {', '.join(missing)} are neither in {folder} nor can they be made: {error_line(made)}")
            args.only = [name for name in args.only if name not in missing]
    return folder


def error_line(result):
    """What went wrong: the line that says so, else the last one."""
    lines = (result.stderr.strip() or result.stdout.strip()).splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else lines[-1] if lines else f"exit status {result.returncode}"


def parsed(result, read):
    """What `read` finds in the output as `(found, None)`, or `(None, why not)`."""
    if result.returncode:
        return None, error_line(result)
    try:
        return read(result.stdout), None
    except (ValueError, LookupError, TypeError) as error:
        return None, f"its output is not what was expected ({type(error).__name__}: {error}): {result.stdout[-200:]!r}"


def largest(path):
    """The largest number of a file of float32 that NumPy wrote."""
    data = path.read_bytes()
    start = 10 + int.from_bytes(data[8:10], "little")
    numbers = array.array("f", data[start:])
    return max(map(abs, numbers))


def timed(text):
    """The row of `sconce bench --json`, with what the table cannot do without."""
    row = json.loads(text)["results"][0]
    float(row["forward_ms"]["median"]), float(row["forward_ms"]["min"])
    return row


def bench(args, folder, rows, save):
    """Adds a row for every model, precision and batch."""
    for name in args.only:
        for precision in PRECISIONS:
            shared = [folder / f"{name}.pt", "--arch", name, "--device", "gpu", "--quiet", "--dtype", precision]
            check = None
            if (folder / f"{name}.y.npy").exists():
                files = ["--input", folder / f"{name}.x.npy", "--expect", folder / f"{name}.y.npy"]
                # A part of the largest output.
                part = 2e-5 if precision == "f32" else 2e-2
                tolerance = ["--atol", f"{part * largest(folder / f'{name}.y.npy'):e}", "--rtol", "0"]
                checked = run([args.bins / "sconce", "run", *shared, *files, *tolerance])
                check = "right" if checked.returncode == 0 else error_line(checked)
            for batch in args.batch.split(","):
                result = run([args.bins / "sconce", "bench", *shared, "--batch", batch, "--json", *args.runs])
                row = {"model": name, "precision": precision, "batch": int(batch), "check": check}
                refused = REFUSED.search(result.stderr)
                if refused:
                    row = {"model": name, "precision": precision, "batch": int(batch), "refused": refused.group(1)}
                else:
                    found, why = parsed(result, timed)
                    row.update({"failed": why} if why else {**found, "model": name})
                rows.append(row)
                save()
                said = row.get("refused") or row.get("failed") or f"{row['forward_ms']['median']} {check}"
                say("sconce", name, precision, "batch", batch, said)


def kernels(args):
    """Products and uploads, from the bench program, and what a run costs the host, from a test."""
    result = run([args.bins / "sconce-gpu-bench", *([] if args.quick else ["--bench"]), "--json"], 30, cwd=ROOT)
    found, why = parsed(result, lambda text: json.loads(text.strip().splitlines()[-1]))
    if why:
        return {"error": why}
    host = run([args.bins / "sconce-tests", "gpu::tests::speed::record", "--ignored", "--nocapture"], 10, cwd=ROOT)
    found["host"] = [line for line in (host.stdout + host.stderr).splitlines() if "encode and submit" in line]
    return found


def torch_rows(args, device):
    peer = "cpu" if device["kind"] == "software" else "cuda"
    command = [args.python, ROOT / "benches/peers/gpu.py", "--device", peer, "--batch", args.batch, "--runs", "3" if args.quick else "50", *args.only]
    result = run(command, 60)
    # A line that was cut off is the last.
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{") and line.endswith("}")]
    if result.returncode:
        say("torch:", error_line(result))
    return [row for row in rows if "model" in row], next((row for row in rows if "card" in row), None), peer


def table(report):
    peers = ["eager_f32", "graph_f32", "compiled_f32", "eager_tf32", "eager_f16"]
    torch = {(row["model"], row["batch"]): row for row in report["torch"]}
    used = [peer for peer in peers if any(peer in row for row in report["torch"])]
    lines = [["model", "batch", "precision", "sconce ms", "min", "cold", "warm", *(f"torch {peer}" for peer in used), "eager/sconce", "from f32", "check"]]
    for row in report["bench"]:
        if "failed" in row or "refused" in row:
            cells = [row["model"], row.get("batch", "-"), row["precision"], row.get("failed") or row["refused"]]
            lines.append(cells + ["-"] * (len(lines[0]) - len(cells)))
            continue
        peer = torch.get((row["model"], row["batch"]), {})
        median = row["forward_ms"]["median"]
        eager = peer.get("eager_f32")
        ratio = f"{eager / median:.2f}" if isinstance(eager, float) else "-"
        show = lambda value: f"{value:.3f}" if isinstance(value, (int, float)) else str(value if value is not None else "-")
        difference = f"{row['error']['of_largest_output']:.1e}" if "error" in row else "-"
        cells = [row["model"], row["batch"], row["precision"], show(median), show(row["forward_ms"]["min"])]
        cells += [show(row.get("cold_first_ms")), show(row.get("warm_first_ms"))]
        lines.append([*cells, *(show(peer.get(name)) for name in used), ratio, difference, row["check"] or "-"])
    out = ["| " + " | ".join(map(str, line)) + " |" for line in lines]
    out.insert(1, "|" + "---|" * len(lines[0]))
    out = out if report["bench"] else ["no models were timed"]
    kernels = report["kernels"]
    if "error" not in kernels:
        matrix = kernels["peak_matrix_gflops"]
        matrix = f"{matrix / 1e3:.3f} TFLOP/s f16 on matrix units, " if matrix else ""
        out += ["", f"peak {kernels['peak_gflops'] / 1e3:.3f} TFLOP/s f32, {matrix}{kernels['peak_gbs']:.1f} GB/s read"]
        for row in kernels["gemm"]:
            size = f"{row['m']}x{row['k']}x{row['n']}"
            out.append(f"product {size} {row['precision']}: {row['ms']:.4f} ms, {row['gflops'] / 1e3:.3f} TFLOP/s, {row['percent_of_peak']:.0f} % of the peak ({row['shaders']})")
        out += [f"resnet50 without its kernels: {line}" for line in kernels["host"]]
        for row in kernels["upload"]:
            out.append(f"upload of {row['bytes'] / 1e6:.0f} MB ({row['what']}): {row['gbs']:.2f} GB/s; plain copies {row['fresh_gbs']:.2f} into new buffers, {row['warm_gbs']:.2f} into used ones")
    else:
        out.append("kernels: " + kernels["error"])
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin-dir", dest="bins", type=Path, required=True)
    parser.add_argument("--adapter")
    parser.add_argument("--software", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--skip-tests", action="store_true")
    parser.add_argument("--skip-torch", action="store_true")
    parser.add_argument("--models")
    parser.add_argument("--batch")
    parser.add_argument("--only")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    # Some of the programs run elsewhere.
    args.bins = args.bins.resolve()
    missing = [name for name in ("sconce", "sconce-tests", "sconce-gpu-bench") if not (args.bins / name).exists()]
    if missing:
        sys.exit(f"there is no {missing[0]} in {args.bins}: tools/gpu_check.sh --prepare {args.bins} makes it")
    args.python = sys.executable
    args.batch = args.batch or ("1" if args.quick else "1,32")
    args.only = args.only.split(",") if args.only else (["mlp", "resnet18"] if args.quick else NAMES)
    args.runs = ["--runs", "3"] if args.quick else []
    device = adapter(args)
    say(f"adapter: {device['name']} ({device['kind']}, {device['backend']}, {device['driver']})")
    # From here on `gpu` is this adapter, for the tests too, and what is missing is an error.
    os.environ.update(SCONCE_ADAPTER=device["name"], SCONCE_REQUIRE_GPU="1")
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    name = re.sub(r"[^a-z0-9]+", "-", device["name"].lower()).strip("-")[:40]
    out = args.out or ROOT / "benches/results" / f"{date[:10]}-{name}.json"
    # What cannot be written is said before an hour has passed, and what cannot be made before the tests.
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = models(args)
    report = {
        "date": date,
        "adapter": device["name"],
        "kind": device["kind"],
        "driver": device["driver"],
        "sconce": run([args.bins / "sconce", "--version"]).stdout.strip(),
        "quick": args.quick,
        "tests": None,
        "bench": [],
        "kernels": {"error": "they were not reached"},
        "torch": [],
        "card": None,
        "torch_device": None,
    }

    def save():
        out.write_text(json.dumps(report, indent=1) + "\n")

    # After each part, so that what ends this program later loses nothing.
    if not args.skip_tests:
        report["tests"] = kernel_tests(args)
        save()
    bench(args, folder, report["bench"], save)
    report["kernels"] = kernels(args)
    save()
    if not args.skip_torch and args.only:
        report["torch"], report["card"], report["torch_device"] = torch_rows(args, device)
    save()
    say()
    say(table(report))
    say(f"\nwritten: {out}")
    failed = report["tests"] and not report["tests"]["passed"]
    wrong = [row for row in report["bench"] if row.get("failed") or row.get("check") not in (None, "right")]
    sys.exit(1 if failed or wrong or "error" in report["kernels"] else 0)


if __name__ == "__main__":
    main()
