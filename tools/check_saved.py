"""Has sconce read and write files of PyTorch, and PyTorch compare what is in them with what was.

    python tools/check_saved.py [--resave PROGRAM] [--keep DIRECTORY] [--large]

Needs torch, numpy and safetensors, and the example `resave` (`cargo build --example resave`). Every file is loaded with
`weights_only` and `mmap` true and false, with warnings as errors. A file that torch refuses in one of these ways must be
refused after sconce wrote it too. `--large` adds a file of more than 4 GiB.
"""

import argparse
import collections
import pickle
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy
import safetensors.torch
import torch
from torch import nn

ROOT = Path(__file__).parent.parent
sys.argv, ARGV = sys.argv[:1], sys.argv[1:]
import files  # noqa: E402  (it reads sys.argv)

# The classes of the files that tools/files.py writes.
from files import Config, Made, Names, Slotted  # noqa: E402, F401


class Different(Exception):
    pass


class Comparison:
    """Compares two values part by part; what is one object in one of them must be one in the other."""

    class Inner:
        pass

    def __init__(self):
        self.partners = {}
        self.kept = []
        # Those whose parts are being compared: values may hold themselves.
        self.around = set()
        self.tensors = 0

    def pair(self, a, b, path):
        for x, y in ((a, b), (b, a)):
            if self.partners.setdefault(("from" if x is a else "to", x), y) != y:
                raise Different(f"{path}: shared with something else than before")

    def same(self, a, b, path=""):
        self.kept += [a, b]
        if (id(a), id(b)) in self.around:
            return
        self.around.add((id(a), id(b)))
        try:
            self.parts(a, b, path)
        finally:
            self.around.discard((id(a), id(b)))

    def parts(self, a, b, path):
        if type(a) is not type(b):
            raise Different(f"{path}: {type(a)} became {type(b)}")
        if isinstance(a, torch.SymInt):
            # The length of a jagged dimension, numbered anew in each load.
            return
        if isinstance(a, torch.Tensor):
            self.pair(id(a), id(b), path)
            return self.tensor(a, b, path)
        if isinstance(a, (torch.UntypedStorage, torch.TypedStorage)):
            a, b = (getattr(x, "_untyped_storage", x) for x in (a, b))
            return self.storage(a, b, path)
        if isinstance(a, (list, dict, bytearray)) or type(a).__module__ == "files" and not isinstance(a, type):
            self.pair(id(a), id(b), path)
        if isinstance(a, dict):
            self.equal(len(a), len(b), path)
            for (ka, va), (kb, vb) in zip(a.items(), b.items()):
                self.same(ka, kb, f"{path}.key")
                self.same(va, vb, f"{path}.{ka}")
            if isinstance(a, collections.defaultdict):
                self.equal(a.default_factory, b.default_factory, path)
        elif isinstance(a, (set, frozenset)) and len(a) == 1:
            self.same(*a, *b, f"{path}.item")
        elif isinstance(a, (list, tuple)):
            self.equal(len(a), len(b), path)
            for i, (x, y) in enumerate(zip(a, b)):
                self.same(x, y, f"{path}.{i}")
        elif isinstance(a, numpy.ndarray):
            self.equal((a.dtype, a.shape, a.strides, a.tobytes()), (b.dtype, b.shape, b.strides, b.tobytes()), path)
        elif isinstance(a, (float, numpy.floating)):
            self.equal(numpy.float64(a).tobytes(), numpy.float64(b).tobytes(), path)
        elif type(a).__eq__ is not object.__eq__ and type(a).__module__ in ("builtins", "numpy", "torch", "_codecs"):
            self.equal(a, b, path)
        if hasattr(a, "__dict__") and not isinstance(a, type) and not callable(a) or isinstance(a, nn.Module):
            self.same(vars(a), vars(b), f"{path}.__dict__")
        for name in getattr(type(a), "__slots__", ()):
            if name != "__dict__" and hasattr(a, name):
                self.same(getattr(a, name), getattr(b, name), f"{path}.{name}")

    def equal(self, a, b, path):
        if a != b:
            raise Different(f"{path}: {str(a)[:200]} became {str(b)[:200]}")

    def storage(self, a, b, path):
        self.pair(a._cdata, b._cdata, path)
        self.equal((a.nbytes(), a.device), (b.nbytes(), b.device), path)
        if a.device.type != "meta":
            self.equal(*(numpy.array(x, dtype=numpy.uint8).tobytes() if x.nbytes() < 64 else bytes_of(x) for x in (a, b)), path)

    def tensor(self, a, b, path):
        self.tensors += 1
        facts = "dtype layout shape requires_grad device is_quantized is_nested"
        for fact in facts.split():
            if fact == "shape" and a.is_nested:
                continue
            self.equal(getattr(a, fact), getattr(b, fact), f"{path}.{fact}")
        self.same(dict(vars(a)), dict(vars(b)), f"{path}.__dict__")
        if a.layout == torch.strided and not a.is_nested:
            for fact in ("stride", "storage_offset", "is_conj", "is_neg"):
                self.equal(getattr(a, fact)(), getattr(b, fact)(), f"{path}.{fact}")
            self.storage(a.untyped_storage(), b.untyped_storage(), path)
            if a.is_quantized:
                self.equal(str(a.qscheme()), str(b.qscheme()), path)
                self.equal(a.dequantize().tolist(), b.dequantize().tolist(), path)
        elif a.is_nested:
            for i, (x, y) in enumerate(zip(a.unbind(), b.unbind(), strict=True)):
                self.equal((x.tolist(), x.stride()), (y.tolist(), y.stride()), f"{path}[{i}]")
        elif a.layout == torch.sparse_coo:
            self.equal(a.is_coalesced(), b.is_coalesced(), path)
            for part in ("_indices", "_values"):
                self.tensor(getattr(a, part)(), getattr(b, part)(), f"{path}.{part}")
        else:
            names = ("crow_indices", "col_indices") if a.layout in (torch.sparse_csr, torch.sparse_bsr) else ("ccol_indices", "row_indices")
            for part in (*names, "values"):
                self.tensor(getattr(a, part)(), getattr(b, part)(), f"{path}.{part}")


def bytes_of(storage):
    return torch.empty(0, dtype=torch.uint8).set_(storage).numpy().tobytes()


def load(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return torch.load(path, **options)


MODES = [dict(weights_only=w, mmap=m) for w in (True, False) for m in (False, True)]


# Torch maps a deflated file as if it were not, and swaps no bytes of the newer dtypes: what is in these files is in others.
SAME_AS = {"deflated.pt": "training.pt", "big_endian.pt": "dtypes.pt", "big_endian_deflated.pt": "dtypes.pt"}


def can_be_mapped(path):
    """Whether torch maps the file as it is: it takes deflated entries for data, and refuses what is no zip archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())


def compare(original, saved, counts):
    """Loads both files in every way; returns what went wrong."""
    original = original.with_name(SAME_AS.get(original.name, original.name))
    for mode in MODES:
        name = "weights_only={weights_only} mmap={mmap}".format(**mode)
        try:
            expected = load(original, **(mode if can_be_mapped(original) else {**mode, "mmap": False}))
        except Exception as error:
            # A warning of the protocol comes before what the file itself is refused for.
            refusals = (type(error), pickle.UnpicklingError) if isinstance(error, UserWarning) else type(error)
            try:
                load(saved, **mode)
            except refusals:
                counts[name, "refused by both"] += 1
                continue
            except Exception as other:
                return f"{name}: torch refuses the original with {error!r}, sconce's file with {other!r}"
            counts[name, "only sconce's loads"] += 1
            continue
        comparison = Comparison()
        try:
            comparison.same(expected, load(saved, **mode))
        except Exception as error:
            return f"{name}: {type(error).__name__}: {error}"
        counts[name, "equal"] += 1
        counts[name, "tensors"] += comparison.tensors
    return None


def dtype_files():
    names = files.RUNNABLE + files.CARRIED + "float4_e2m1fn_x2 bits8 bits16 bits1x8 bits2x4 bits4x2".split()
    for name in names:
        dtype = getattr(torch, name, None)
        if dtype is None:
            continue
        whole = torch.randint(0, 2 if name == "bool" else 256, (24 * dtype.itemsize,), dtype=torch.uint8).view(dtype)
        whole = whole.reshape(4, 6)
        yield f"dtype {name}", {
            "whole": whole,
            "transposed": whole.t(),
            "sliced": whole[1:4:2, 1:5],
            "expanded": whole[:, :1].expand(4, 9),
            "scalar": whole[0, 0],
            "empty": whole[:0],
            "one": whole.reshape(1, 1, 4, 6),
            "channels last": whole.reshape(2, 3, 2, 2).permute(0, 2, 3, 1),
        }


def odd_files():
    base = torch.arange(24.0)
    shared = [1, torch.ones(2)]
    tied = nn.Parameter(torch.randn(5, 4))
    yield "tied", collections.OrderedDict(a=tied, b=tied, c=tied.data, d=tied.data[1:3], e=tied.data.t())
    yield "views of one storage", [base[i : i + 8].view(2, 4).t() for i in range(0, 16, 4)]
    yield "a view of a large storage", {"small": torch.randn(100_000)[5:7]}
    yield "parameters", {
        "parameter": nn.Parameter(torch.ones(2)),
        "frozen": nn.Parameter(torch.ones(2), requires_grad=False),
        "buffer": nn.Buffer(torch.ones(2)),
        "grad": torch.ones(2, requires_grad=True),
    }
    z = torch.randn(3, 4, dtype=torch.complex64)
    yield "bits", {"z": z, "conj": z.conj(), "t": z.conj().t(), "neg": torch.randn(3, dtype=torch.complex64).conj().imag}
    yield "imag", {"imag": z.imag}
    attribute = torch.ones(3)
    attribute.note = "text"
    parameter = nn.Parameter(torch.ones(3))
    parameter.tag = {"x": attribute}
    yield "attributes", [attribute, parameter, parameter]
    yield "sparse", {
        "coo": torch.eye(3).to_sparse(),
        "not coalesced": torch.sparse_coo_tensor([[0, 0]], [1.0, 2.0], (3,)),
        "csr": torch.eye(4).to_sparse_csr(),
        "csc": torch.eye(4).to_sparse_csc(),
        "bsr": torch.eye(4).to_sparse_bsr((2, 2)),
        "bsc": torch.eye(4).to_sparse_bsc((2, 2)),
    }
    yield "nested", [torch.nested.nested_tensor([torch.ones(2), torch.zeros(3)])]
    yield "jagged", [torch.nested.nested_tensor([torch.ones(2, 3), torch.zeros(4, 3)], layout=torch.jagged)]
    yield "quantized", {
        "tensor": torch.quantize_per_tensor(torch.arange(4.0), 0.5, 1, torch.qint8),
        "channel": torch.quantize_per_channel(torch.ones(2, 3), torch.tensor([0.5, 0.1]), torch.tensor([0, 1]), 0, torch.qint8),
        "unsigned": torch.quantize_per_tensor(torch.arange(4.0), 0.5, 1, torch.quint8),
        "wide": torch.quantize_per_tensor(torch.arange(4.0), 0.5, 1, torch.qint32),
    }
    yield "meta", {"a": torch.empty(2, 3, device="meta"), "b": nn.Parameter(torch.empty(2, device="meta"))}
    yield "storages", [torch.ones(3).untyped_storage(), torch.arange(3).untyped_storage()]
    yield "5000 items", {f"key {i}": torch.tensor(float(i)) for i in range(5000)}
    yield "5000 in a list", list(range(5000))
    yield "1001 integers as keys", {i: str(i) for i in range(1001)}
    yield "empty", [{}, [], (), collections.OrderedDict(), torch.Size([])]
    yield "shared", {"a": shared, "b": shared, "c": {"again": shared}}
    yield "nothing", None
    yield "a tensor", torch.arange(3)
    yield "strings", ["", "caf\u00e9 \u2603 \U0001f600", "line\nfeed", "x" * 70000, "same", "same"]
    yield "integers", [0, -1, 255, 256, 65535, 65536, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**63, -(2**70)]
    yield "a long integer", [2**2100]
    yield "floats", [0.0, -0.0, 1e-300, float("inf"), float("nan"), 1 + 2j]
    yield "bytes", [b"\x00\xff" * 200, b"a", bytearray(b"xyz"), bytearray()]
    yield "no bytes", [b""]
    yield "devices", [torch.device("cpu"), torch.device("cuda", 1), torch.float32, torch.int4, torch.Size([2, 3])]
    yield "counter", [collections.Counter("banana"), {1, 2}]
    yield "not for weights_only", [frozenset({1}), collections.defaultdict(list, {"a": [1]}), numpy.float64(1.5), numpy.arange(6).reshape(2, 3)]
    yield "objects", [argparse.Namespace(lr=0.1, net=Config(x=torch.ones(2))), Names(a=1), {"class": nn.Linear}]
    yield "values", files.values()
    yield "cycles", files.cycles()
    yield "surrogates", ["\ud800 alone", {"key \udfff": 1}]
    yield "nested class", [files.Names, Comparison.Inner, Comparison.Inner()]
    yield "a module", nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.MultiheadAttention(4, 2), nn.LSTM(3, 4))
    yield "a state dict", nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LSTM(3, 4)).state_dict()
    yield "tuples", [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((), ((),))]
    for name in "SGD Adam AdamW RMSprop Adagrad LBFGS".split():
        net = nn.Linear(3, 2)
        optimizer = getattr(torch.optim, name)(net.parameters(), lr=0.1)

        def closure():
            optimizer.zero_grad()
            loss = net(torch.ones(4, 3)).square().mean()
            loss.backward()
            return loss

        for _ in range(2):
            optimizer.step(closure)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        yield f"training with {name}", {
            "epoch": 3,
            "model": net.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
        }


def protocols():
    value = {"a": torch.arange(4.0), "b": [nn.Parameter(torch.ones(2)), b"bytes", {1, 2}, 2**70], 3: torch.int64}
    for protocol in range(6):
        if protocol > 1:
            yield f"protocol {protocol}", value, dict(pickle_protocol=protocol)
    yield "legacy", value, dict(_use_new_zipfile_serialization=False)


def state_dicts():
    """Dicts of tensors for safetensors and NumPy."""
    common = {name: files.bits(getattr(torch, name)) for name in files.RUNNABLE + "uint16 uint32 uint64 complex64".split()}
    strided = {"t": torch.randn(50, 40).t(), "expanded": torch.randn(3, 1).expand(3, 4), "scalar": torch.tensor(2.5)}
    strided |= {"empty": torch.empty(0, 3), "slice": torch.arange(24).reshape(4, 6)[1::2, ::3]}
    strided |= {"conj": torch.randn(3, dtype=torch.complex64).conj(), "large": torch.randn(3000, 1500).t()}
    tied = torch.randn(4)
    eights = "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu".split()
    yield "common", {k: v for k, v in common.items() if k != "bfloat16"}, True
    yield "bfloat16 and float8", {name: files.bits(getattr(torch, name)) for name in ["bfloat16", *eights]}, False
    yield "strides", strided, True
    yield "ties", {"a": tied, "b": tied, 'c "quoted" \u2603': tied[1:]}, True
    yield "a model", {k: v for k, v in nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).state_dict().items()}, True


def values_equal(expected, found):
    if set(expected) != set(found):
        return f"names {sorted(expected)} became {sorted(found)}"
    for name, tensor in expected.items():
        tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
        other = found[name]
        if (tensor.dtype, tensor.shape) != (other.dtype, other.shape) or bytes_of(tensor.clone().untyped_storage()) != bytes_of(other.clone().untyped_storage()):
            return f"{name}: {tensor.dtype} {tensor.shape} became {other.dtype} {other.shape}, or other values"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--resave", default=str(ROOT / "target/debug/examples/resave"))
    parser.add_argument("--keep", help="write the files here and leave them")
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args(ARGV)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    temporary = tempfile.TemporaryDirectory()
    folder = Path(options.keep or temporary.name)
    folder.mkdir(parents=True, exist_ok=True)
    failures, counts, refused = [], collections.Counter(), []

    def resave(source, target):
        run = subprocess.run([options.resave, str(source), str(target)], capture_output=True, text=True)
        return run.stderr.strip() if run.returncode else None

    originals = sorted((ROOT / "tests/data").rglob("*.pt"))
    written = [(name, value, {}) for name, value in [*dtype_files(), *odd_files()]] + list(protocols())
    if options.large:
        written.append(("more than 4 GiB", {"a": torch.zeros(3), "b": torch.ones(2**30 + 5), "c": torch.ones(3)}, {}))
    for name, value, how in written:
        path = folder / f"{name}.in.pt"
        try:
            torch.save(value, path, **how)
        except Exception as error:
            print(f"torch itself cannot save {name}: {error}")
            continue
        originals.append(path)
    for original in originals:
        saved = folder / f"{original.name.removesuffix('.pt').removesuffix('.in')}.out.pt"
        error = resave(original, saved)
        if error:
            refused.append(f"{original.name}: {error}")
            continue
        error = compare(original, saved, counts)
        if error:
            failures.append(f"{original.name}: {error}")
    for name, state, with_numpy in state_dicts():
        original = folder / f"{name}.in.pt"
        torch.save(state, original)
        for ending in ["safetensors", *(["npz"] if with_numpy else [])]:
            target = folder / f"{name}.{ending}"
            error = resave(original, target)
            if not error and ending == "npz":
                arrays = numpy.load(target)
                error = values_equal(state, {key: torch.from_numpy(arrays[key]) for key in arrays.files})
            elif not error and any(key == "float8_e8m0fnu" for key in state):
                # The Python package writes this dtype but does not read it; sconce does.
                error = resave(target, folder / f"{name}.again.pt") or values_equal(state, load(folder / f"{name}.again.pt"))
            elif not error:
                error = values_equal(state, safetensors.torch.load_file(target)) or values_equal(state, load(target))
                with safetensors.safe_open(target, "pt") as opened:
                    if not error and opened.metadata() != {"format": "pt"}:
                        error = f"metadata {opened.metadata()}"
                back = folder / f"{name}.back.pt"
                error = error or resave(target, back) or values_equal(state, load(back))
                if not error and list(load(back)) != list(state):
                    error = f"the order {list(state)} became {list(load(back))}"
            counts[ending, "equal"] += not error
            failures += [f"{name}.{ending}: {error}"] if error else []
    print(f"torch {torch.__version__}, {len(originals)} files that torch wrote, {len(originals) - len(refused)} written by sconce")
    for (mode, what), count in sorted(counts.items()):
        print(f"  {mode:32} {what:20} {count:6}")
    for title, lines in ("not written", refused), ("FAILED", failures):
        for line in lines:
            print(f"{title}: {line}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
