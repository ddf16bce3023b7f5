"""Writes the checkpoint files that tests/checkpoint.rs reads, with PyTorch, and what is in them as JSON beside each.

    python tools/files.py [DIRECTORY]

Needs torch and numpy. Everything is seeded: the same torch writes the same values again.
"""

import argparse
import collections
import copyreg
import json
import struct
import sys
import zipfile
from pathlib import Path

import numpy
import torch
from torch import nn

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests/data/checkpoint")


class Config:
    """A class that no reader knows."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Names(dict):
    """A dict that no reader knows."""


class Slotted:
    """A class whose state is a pair of dicts."""

    __slots__ = ("width", "__dict__")


class Made:
    """A class that makes its objects of arguments."""

    def __init__(self, parts):
        self.parts = parts

    def __reduce__(self):
        return Made, (self.parts,)


class Expected:
    """A value as JSON, without loss: tagged lists, floats by their bits, tensors by the bytes of their elements."""

    def __init__(self):
        self.storages = {}
        self.open = set()

    def storage(self, storage):
        return self.storages.setdefault(storage._cdata, len(self.storages))

    def value(self, x):
        if x is None or isinstance(x, bool):
            return x
        plain = {
            int: lambda: ["int", str(x)],
            float: lambda: ["float", struct.pack(">d", x).hex()],
            complex: lambda: ["complex", struct.pack(">dd", x.real, x.imag).hex()],
            str: lambda: x,
            bytes: lambda: ["bytes", x.hex()],
            bytearray: lambda: ["bytearray", x.hex()],
            torch.Size: lambda: ["size", list(x)],
            torch.device: lambda: ["device", str(x)],
            torch.dtype: lambda: ["dtype", str(x)],
        }.get(type(x))
        if plain:
            return plain()
        if isinstance(x, torch.Tensor):
            return self.tensor(x)
        if isinstance(x, type) or callable(x) and hasattr(x, "__qualname__"):
            return ["global", f"{x.__module__}.{x.__qualname__}"]
        if id(x) in self.open:
            return ["cycle"]
        self.open.add(id(x))
        try:
            return self.container(x)
        finally:
            self.open.remove(id(x))

    def container(self, x):
        if type(x) in (list, tuple, set, frozenset):
            return [type(x).__name__, [self.value(item) for item in x]]
        if type(x) in (dict, collections.OrderedDict, collections.Counter, collections.defaultdict):
            entries = self.entries(x.items())
            factory = self.value(x.default_factory) if isinstance(x, collections.defaultdict) else None
            attributes = self.value(vars(x)) if getattr(x, "__dict__", None) else None
            return [type(x).__name__, entries, factory, attributes]
        function, args, state, items, entries = (*x.__reduce_ex__(2), None, None, None)[:5]
        if function is copyreg.__newobj__:
            function, args = args[0], args[1:]
        return [
            "object",
            f"{function.__module__}.{function.__qualname__}",
            [self.value(arg) for arg in args],
            [self.value(item) for item in items or []],
            self.entries(entries or []),
            self.value(state),
        ]

    def entries(self, entries):
        return [[self.value(key), self.value(value)] for key, value in entries]

    def tensor(self, x):
        data = x.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
        data = data.reshape(-1).view(torch.uint8)
        return [
            "tensor",
            {
                "dtype": str(x.dtype).removeprefix("torch."),
                "shape": list(x.shape),
                "stride": list(x.stride()),
                "offset": x.storage_offset(),
                "requires_grad": x.requires_grad,
                "storage": self.storage(x.untyped_storage()),
                "storage_bytes": x.untyped_storage().nbytes(),
                "data": bytes(data.tolist()).hex(),
            },
        ]


def write(name, value, expected=True, **options):
    path = OUT / f"{name}.pt"
    torch.save(value, path, **options)
    if expected:
        content = {"torch": torch.__version__, "value": Expected().value(value)}
        (OUT / f"{name}.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes")


def rezip(source, name, method=zipfile.ZIP_STORED, skip=(), change=None):
    """The same records in an archive that Python wrote: no alignment, no data descriptors."""
    path = OUT / f"{name}.pt"
    with zipfile.ZipFile(OUT / f"{source}.pt") as old, zipfile.ZipFile(path, "w", method) as new:
        for entry in sorted(old.namelist(), reverse=True):
            record = entry.split("/", 1)[1]
            if record in skip:
                continue
            data = old.read(entry)
            info = zipfile.ZipInfo(f"other dir/{record}", (1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            new.writestr(info, change(record, data) if change else data)
    (OUT / f"{name}.json").write_bytes((OUT / f"{source}.json").read_bytes())
    print(f"{path.name}: {path.stat().st_size} bytes")


def bits(dtype, count=16):
    """A tensor of a dtype from fixed bytes: all kinds of numbers, infinities and NaNs among them."""
    size = torch.empty(0, dtype=dtype).element_size()
    data = torch.randint(0, 256, (count * size,), dtype=torch.uint8)
    return data % 2 == 1 if dtype == torch.bool else data.view(dtype)


RUNNABLE = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()
CARRIED = (
    "uint16 uint32 uint64 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu complex32 "
    "complex64 complex128"
).split()


def layouts(dtype):
    base = bits(dtype, 24).reshape(2, 3, 4)
    whole = bits(dtype, 24).reshape(4, 6)
    return {
        "contiguous": base.clone(),
        "transposed": whole.t(),
        "sliced": whole[1:4:2, 1:5],
        "same storage": whole,
        "expanded": bits(dtype, 3).reshape(3, 1).expand(3, 4),
        "scalar": bits(dtype, 1)[0],
        "one": bits(dtype, 1),
        "empty": torch.empty(0, 3, dtype=dtype),
        "permuted": base.permute(2, 0, 1),
        "odd strides of size 1": torch.as_strided(whole, (1, 6), (77, 1), 6),
        "channels last": bits(dtype, 48).reshape(2, 3, 2, 4).to(memory_format=torch.channels_last),
    }


def small_net():
    return nn.Sequential(
        collections.OrderedDict(
            conv=nn.Conv2d(1, 2, 3), bn=nn.BatchNorm2d(2), flatten=nn.Flatten(), fc=nn.Linear(8, 3)
        )
    )


def training():
    """A checkpoint in the middle of training, as PyTorch's tutorial saves it."""
    net = small_net()
    optimizers = {
        "sgd": torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9),
        "adam": torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.8, 0.99)),
    }
    for _ in range(2):
        loss = net(torch.randn(4, 1, 4, 4)).square().mean()
        loss.backward()
        for optimizer in optimizers.values():
            optimizer.step()
        net.zero_grad()
    return {
        "epoch": 7,
        "model_state_dict": net.state_dict(),
        "optimizer_state_dict": optimizers["adam"].state_dict(),
        "sgd": optimizers["sgd"].state_dict(),
        "loss": loss.item(),
        "last loss": loss.detach(),
    }


def values():
    shared = ["shared", 1]
    cycle = ["cycle"]
    cycle.append(cycle)
    slotted = Slotted()
    slotted.width = 3
    slotted.name = "slotted"
    return {
        "none": None,
        "bools": (True, False),
        "ints": [0, -1, 255, 256, 65535, 65536, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63)],
        "big ints": [2**63, -(2**63) - 1, 10**40, -(10**40), 2**2100 + 1],
        "floats": [0.0, -0.0, 1.5, 1e-300, float("inf"), float("-inf"), float("nan"), 0.1],
        "complex": [1 + 2j, complex(-0.0, float("inf"))],
        "strings": ["", "plain", "caf\u00e9 \u2603 \U0001f600", "line\nfeed \\u0041 'quoted'", "x" * 300],
        "bytes": [b"", b"bytes", bytes(range(256)), b"y" * 300],
        "bytearray": [bytearray(), bytearray(b"\x00\xffarray")],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "long list": list(range(2500)),
        "long dict": {f"key {i}": i for i in range(2500)},
        "empty": [[], {}, set(), frozenset(), collections.OrderedDict()],
        "sets": [{1, 2, 3}, frozenset({4, 5})],
        "int keys": {0: "zero", 1: "one", -5: "minus five"},
        "odd keys": {(1, "a"): 1, None: 2, 1.5: 3, b"k": 4, frozenset({1}): 5, True: 6},
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "default": collections.defaultdict(list, {"a": [1]}),
        "no default": collections.defaultdict(None, {"a": 1}),
        "counter": collections.Counter("banana"),
        "size": torch.Size([2, 3]),
        "no size": torch.Size([]),
        "devices": [torch.device("cpu"), torch.device("cuda", 1), torch.device("mps")],
        "dtypes": [torch.float32, torch.bfloat16, torch.int64, torch.bool],
        "class": nn.Linear,
        "namespace": argparse.Namespace(lr=0.1, layers=[64, 64], name=None),
        "config": Config(width=64, nested=Config(tensor=torch.arange(3.0))),
        "slots": slotted,
        "names": Names(a=1, b=Config(x=2)),
        "numpy": [numpy.float64(1.5), numpy.int32(-3), numpy.arange(6, dtype="<i2").reshape(2, 3)],
        "shared": [shared, shared, {"again": shared}],
        "cycle": cycle,
    }


def cycles():
    """Values that hold themselves, in all ways in which pickle writes them."""
    in_list, in_dict, ordered, default = [1], {"a": 1}, collections.OrderedDict(a=1), collections.defaultdict(list)
    in_list.append(in_list)
    in_dict["me"], ordered["me"], default["me"] = in_dict, ordered, default
    names = Names(a=1)
    names["me"] = names
    me, ring, owner, member = Config(x=1), Config(x=2), Config(), Config()
    me.me, ring.other = me, Config(x=3, other=ring)
    # What is made of its parts holds itself only through one that is not.
    short, long = [], []
    short.append((short, 1))
    long.append((1, 2, 3, long, 5))
    tuples = (short, ("kept", short[0]))
    owner.members, member.of = {owner}, frozenset({member})
    made = Made([])
    made.parts.append(made)
    # A tuple that is made inside itself twice, and one that is made before a dict that it is in was met.
    left, right = [], []
    pair = (left, right)
    left.append(pair)
    right.append(pair)
    first, late = {}, {}
    inner = (late,)
    outer = (first, inner)
    first.update(outer=outer, late=late)
    late["inner"] = inner
    attributed = collections.OrderedDict(a=1)
    attributed.owner = attributed
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    net[1].__dict__["parent"] = net
    weight = nn.Parameter(torch.arange(3.0))
    weight.owners = [weight]
    return {
        "list": in_list,
        "dicts": [in_dict, ordered, default, names],
        "objects": [me, ring, ring.other],
        "tuples": tuples,
        "long tuple": long[0],
        "sets": [owner.members, member.of],
        "made": made,
        "pair": pair,
        "late": outer,
        "attributes": attributed,
        "module": net,
        "parameter": weight,
    }


def tied():
    embedding = nn.Parameter(torch.randn(5, 4))
    flat = torch.arange(20.0)
    state = collections.OrderedDict(
        [
            ("encoder.weight", embedding),
            ("decoder.weight", embedding),
            ("view", flat.view(4, 5)),
            ("window", flat[3:9]),
            ("frozen", nn.Parameter(torch.ones(2), requires_grad=False)),
            ("untied", torch.arange(20.0)),
        ]
    )
    state._metadata = collections.OrderedDict([("", {"version": 1}), ("encoder", {"version": 2})])
    return state


def big_endian(record, data, sizes):
    """What a big-endian machine would have written: every number of a storage swapped."""
    if record == "byteorder":
        return b"big"
    if record.startswith("data/"):
        return numpy.frombuffer(data, f"<u{sizes[record]}").byteswap().tobytes()
    return data


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    write("dtypes", {name: bits(getattr(torch, name)) for name in RUNNABLE + CARRIED})
    write("layouts", {name: layouts(getattr(torch, name)) for name in ["float32", "int64", "bfloat16", "bool", "uint16"]})
    z = bits(torch.complex64, 6).reshape(2, 3)
    w = bits(torch.complex64, 6).reshape(2, 3)
    write("bits", {"conj": z.conj(), "conj t": z.conj().t(), "neg": w.conj().imag, "imag": w.imag, "real": w.real})
    write("tied", tied())
    write("training", training())
    write("values", values())
    write("cycles", cycles(), expected=False)
    write("net", small_net().state_dict())
    write("parameter", nn.Parameter(torch.arange(3.0)))
    write("list", [torch.arange(3), [torch.zeros(2), {"x": torch.ones(1)}]])

    tagged = nn.Parameter(torch.arange(3.0))
    tagged.tag = "attribute"
    write(
        "opaque",
        {
            "first": torch.arange(2.0),
            "quantized": torch.quantize_per_tensor(torch.arange(4.0), 0.5, 1, torch.qint8),
            "sparse": torch.eye(3).to_sparse(),
            "tagged": tagged,
            "meta": torch.empty(2, 3, device="meta"),
            "module": small_net(),
            "storage": torch.arange(4.0).untyped_storage(),
            "last": torch.arange(3.0),
        },
        expected=False,
    )

    some = {k: v for k, v in values().items() if k not in ("long list", "long dict")}
    some["tensors"] = [torch.arange(4.0), torch.arange(6, dtype=torch.int16).reshape(2, 3).t()]
    for protocol in (2, 3, 4, 5, 1):
        if protocol == 5:
            del some["numpy"]  # written otherwise than before
        if protocol == 1:
            del some["slots"]  # Python cannot pickle it so
        write(f"protocol{protocol}", some, pickle_protocol=protocol)

    torch.serialization.register_package(0, lambda storage: "cuda:1", lambda storage, tag: storage)
    write("cuda", {"a": torch.arange(3.0), "b": torch.arange(2)})
    torch.serialization._package_registry = [e for e in torch.serialization._package_registry if e[0] != 0]

    torch.utils.serialization.config.save.compute_crc32 = False
    write("no_crc", small_net().state_dict())
    torch.utils.serialization.config.save.compute_crc32 = True
    torch.utils.serialization.config.save.storage_alignment = 4096
    write("aligned4096", small_net().state_dict())
    torch.utils.serialization.config.save.storage_alignment = 64

    rezip("training", "deflated", zipfile.ZIP_DEFLATED)
    rezip("dtypes", "rezipped")
    rezip("net", "torch1_6", skip=("byteorder", ".format_version", ".storage_alignment", ".data/serialization_id"))
    units = {"complex32": 2, "complex64": 4, "complex128": 8}
    sizes = {
        f"data/{i}": units.get(name, torch.empty(0, dtype=getattr(torch, name)).element_size())
        for i, name in enumerate(RUNNABLE + CARRIED)
    }
    for name, method in [("big_endian", zipfile.ZIP_STORED), ("big_endian_deflated", zipfile.ZIP_DEFLATED)]:
        rezip("dtypes", name, method, change=lambda record, data: big_endian(record, data, sizes))


if __name__ == "__main__":
    main()
