"""Writes the files of every container but the zip archive that tests/containers.rs reads, and what is in them as JSON
beside each: with PyTorch where it can still write them, by hand where it can only read them.

    python tools/containers.py [DIRECTORY]

Needs torch, numpy and safetensors. What is written by hand is read back with `torch.load` and compared first.
"""

import argparse
import collections
import io
import json
import pickle
import struct
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

import files
from files import CARRIED, RUNNABLE, Expected, bits, layouts, small_net, tied, training

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests/data/containers")
LEGACY = {"_use_new_zipfile_serialization": False}


def expect(name, *values):
    content = {"torch": torch.__version__, "saves": [Expected().value(value) for value in values]}
    (OUT / f"{name}.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
    sizes = [path.stat().st_size for path in OUT.glob(f"{name}.*") if path.suffix != ".json"]
    print(f"{name}: {sum(sizes)} bytes")


def same(a, b):
    """Whether torch read what was meant: the same values, wherever they are stored."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.requires_grad == b.requires_grad and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.UntypedStorage | torch.TypedStorage):
        return a.tolist() == b.tolist()
    return a == b


def load(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, weights_only=False, **options)


def legacy(name, value, read=True, **options):
    path = OUT / f"{name}.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value, path, **LEGACY, **options)
    if read:
        load(path)
    expect(name, value)


def crafted(path, name, value):
    found = load(path)
    assert same(found, value), f"torch reads {name} as {found}"
    expect(name, value)


# --- Pickles by hand -------------------------------------------------------------------------------------------------


class Raw(bytes):
    """Instructions of a pickle that leave one value."""


def python2(x):
    """A value as Python 2 wrote it in protocol 2: every string a byte string, integers of `long` where asked."""
    if isinstance(x, Raw):
        return x
    if x is None or isinstance(x, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[x]
    if isinstance(x, int):
        if -(2**31) <= x < 2**31:
            return b"J" + struct.pack("<i", x)
        return b"\x8a\x08" + struct.pack("<q", x)
    if isinstance(x, float):
        return b"G" + struct.pack(">d", x)
    if isinstance(x, str | bytes):
        data = x.encode() if isinstance(x, str) else x
        if len(data) < 256:
            return b"U" + bytes([len(data)]) + data
        return b"T" + struct.pack("<i", len(data)) + data
    if isinstance(x, tuple):
        return b"(" + b"".join(map(python2, x)) + b"t"
    if isinstance(x, list):
        return b"](" + b"".join(map(python2, x)) + b"e"
    if isinstance(x, collections.OrderedDict):
        items = [[key, value] for key, value in x.items()]
        return b"ccollections\nOrderedDict\n(" + python2(items) + b"tR" if items else b"ccollections\nOrderedDict\n(]tR"
    if isinstance(x, dict):
        return b"}(" + b"".join(python2(key) + python2(value) for key, value in x.items()) + b"u"
    raise TypeError(type(x))


def dump2(x):
    return b"\x80\x02" + python2(x) + b"."


def long(x):
    """An integer as a `long` of Python 2."""
    return Raw(b"\x8a\x08" + struct.pack("<q", x))


def name(module, name):
    return Raw(f"c{module}\n{name}\n".encode())


def call(function, *args):
    return Raw(function + b"(" + b"".join(map(python2, args)) + b"tR")


def build(value, state):
    return Raw(python2(value) + python2(state) + b"b")


CLASSES = {torch.float32: "Float", torch.int64: "Long", torch.uint8: "Byte", torch.float64: "Double", torch.int32: "Int"}


def storage_class(dtype):
    return name("torch", f"{CLASSES[dtype]}Storage")


def stored(key, tensor, view=None, location="cpu", numel=None):
    """The persistent id of the storage of a tensor."""
    numel = long(tensor.untyped_storage().nbytes() // tensor.element_size()) if numel is None else numel
    return Raw(python2(("storage", storage_class(tensor.dtype), key, location, numel, view)) + b"Q")


def rebuilt(storage, offset, size, stride):
    return call(name("torch._utils", "_rebuild_tensor"), storage, offset, tuple(map(long, size)), tuple(map(long, stride)))


def whole(key, tensor, **options):
    return rebuilt(stored(key, tensor, **options), tensor.storage_offset(), tensor.shape, tensor.stride())


def raw(tensor):
    """The bytes of a whole storage."""
    return bytes(tensor.untyped_storage().tolist())


def stream(value, storages):
    """A legacy stream of a pickled value and {key: tensor}."""
    out = b"\x80\x02\x8a\x0a" + bytes.fromhex("6cfc9c46f9206aa85019") + b"."
    out += dump2(1001)
    out += dump2({"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}})
    out += dump2(value)
    out += dump2(list(storages))
    for tensor in storages.values():
        data = raw(tensor)
        out += struct.pack("<q", len(data) // tensor.element_size()) + data
    return out


# --- Legacy streams --------------------------------------------------------------------------------------------------


def without_sources():
    """Class sources are stored in files of whole modules: here a stand-in, so that no path of a machine is in them."""
    torch.serialization.get_source_lines_and_file = lambda cls: ([f"class {cls.__name__}: ...\n"], "network.py")


def legacy_files():
    torch.manual_seed(1)
    legacy("legacy_state", small_net().state_dict())
    legacy("legacy_training", training())
    legacy("legacy_module", small_net().eval())
    legacy("legacy_tied", tied())
    legacy("legacy_empty", collections.OrderedDict())
    carried = [name for name in CARRIED if name.startswith("complex") and name != "complex32"]
    legacy("legacy_dtypes", {name: bits(getattr(torch, name)) for name in RUNNABLE + carried})
    # torch writes these and cannot read them back.
    others = [name for name in CARRIED if name not in carried]
    legacy("legacy_new_dtypes", {name: bits(getattr(torch, name)) for name in others}, read=False)
    legacy("legacy_layouts", {name: layouts(getattr(torch, name)) for name in ["float32", "bool", "bfloat16"]})
    some = {key: value for key, value in files.values().items() if key not in ("long list", "long dict", "numpy")}
    some["tensors"] = [torch.arange(4.0), torch.arange(6, dtype=torch.int16).reshape(2, 3).t()]
    for protocol in (5, 4, 3, 1, 0):
        if protocol == 1:
            del some["slots"]  # Python cannot pickle it so
        legacy(f"legacy_protocol{protocol}", some, read=protocol > 0, pickle_protocol=protocol)
    torch.serialization.register_package(0, lambda storage: "cuda:1", lambda storage, tag: storage)
    legacy("legacy_cuda", {"a": torch.arange(3.0), "b": torch.arange(2)})
    torch.serialization._package_registry = [e for e in torch.serialization._package_registry if e[0] != 0]


def legacy_views():
    """Storages that are parts of others: tensors of them share the storage that has the bytes."""
    root = torch.arange(12.0)
    value = {"part": root[2:8].view(2, 3), "root": root, "again": root[3:7], "other": torch.arange(3)}
    part = ("22", 2, 6)
    content = {
        "part": rebuilt(stored("11", root, part), 0, (2, 3), (3, 1)),
        "root": whole("11", root),
        "again": rebuilt(stored("11", root, part), 1, (4,), (1,)),
        "other": whole("9", value["other"]),
    }
    path = OUT / "legacy_views.pth"
    path.write_bytes(stream(content, {"11": root, "9": value["other"]}))
    crafted(path, "legacy_views", value)


def python2_state():
    weight, bias = torch.arange(6.0).reshape(2, 3), torch.tensor([-1.0, 0.5])
    steps = torch.tensor([7, 8, 9])
    state = collections.OrderedDict([("fc.weight", weight), ("fc.bias", bias), ("steps", steps)])
    return state, {"3": steps, "1": weight, "2": bias}


def legacy_python2():
    """As torch 0.1.12 wrote under Python 2, LPIPS for example."""
    state, storages = python2_state()
    keys = {id(tensor): key for key, tensor in storages.items()}
    content = collections.OrderedDict((key, whole(keys[id(tensor)], tensor)) for key, tensor in state.items())
    extra = {"epoch": 3, "long": 2**40, "state": state, "text": "caf\u00e9", "empty": collections.OrderedDict()}
    path = OUT / "legacy_python2.pth"
    path.write_bytes(stream({**extra, "state": content}, storages))
    found = load(path, encoding="utf-8")
    assert same(found, extra), found
    expect("legacy_python2", extra)


def old_parameter(data, requires_grad):
    """`Parameter(data)` and its state: requires_grad, volatile, hooks."""
    parameter = call(name("torch.nn.parameter", "Parameter"), data)
    return build(parameter, (requires_grad, False, collections.OrderedDict()))


def legacy_parameters():
    """Parameters as torch 0.1 wrote them, vgg16 of that time for example."""
    weight, frozen = nn.Parameter(torch.arange(4.0)), nn.Parameter(torch.ones(2), requires_grad=False)
    content = collections.OrderedDict(
        [
            ("weight", old_parameter(whole("1", weight.data), True)),
            ("frozen", old_parameter(whole("2", frozen.data), False)),
        ]
    )
    path = OUT / "legacy_parameters.pth"
    path.write_bytes(stream(content, {"1": weight.data, "2": frozen.data}))
    crafted(path, "legacy_parameters", collections.OrderedDict([("weight", weight), ("frozen", frozen)]))


def several_saves():
    saves = [{"a": torch.arange(3.0)}, small_net().state_dict(), [torch.arange(4), "text"]]
    for file, last in [("legacy_saves", LEGACY), ("legacy_then_zip", {})]:
        path = OUT / f"{file}.pth"
        with open(path, "wb") as f:
            for value in saves[:2]:
                torch.save(value, f, **LEGACY)
            torch.save(saves[2], f, **last)
        with open(path, "rb") as f:
            assert all(same(load(f), value) for value in saves)
        expect(file, *saves)
    # PyTorch does not read these back.
    path = OUT / "zip_saves.pt"
    with open(path, "wb") as f:
        for value in saves:
            torch.save(value, f)
    expect("zip_saves", *saves)


# --- Tar archives ----------------------------------------------------------------------------------------------------


def tar(file, value, storages, views, tensors, persistent, dump=pickle.dumps):
    """Writes an archive: {key: (tensor that has the storage, location)}, [(key, root, offset, size)], and {key: (storage's
    key, offset, size, stride, class)}."""
    members = {"sys_info": dump({"protocol_version": 1000, "little_endian": True, "type_sizes": {"long": 8}})}
    members["pickle"] = persistent
    out = dump(len(tensors))
    for key, (storage, offset, size, stride, cls) in tensors.items():
        out += dump((key, storage, cls))
        out += struct.pack("<i4x", len(size)) + struct.pack(f"<{2 * len(size) + 1}q", *size, *stride, offset)
    members["tensors"] = out
    out = dump(len(storages))
    for key, (tensor, location, cls) in storages.items():
        data = raw(tensor)
        out += dump((key, location, cls)) + struct.pack("<q", len(data) // tensor.element_size()) + data
    members["storages"] = out + dump(views)
    path = OUT / f"{file}.tar"
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    crafted(path, file, value)


def tar_files():
    """Archives of torch 0.1.1 to 0.1.9: tensors and storages are named by numbers."""
    weight, bias = torch.arange(12.0).reshape(3, 4), torch.tensor([0.5, -2.0, 9.0])
    steps = torch.tensor([5, 2**40])
    square = weight.t()[1:]
    value = collections.OrderedDict(
        [("weight", weight), ("bias", bias), ("steps", steps), ("tied", weight), ("strided", square), ("lr", 0.1)]
    )
    keys = {"weight": 1001, "bias": 1002, "steps": 1003, "tied": 1001, "strided": 1004}
    storages = {
        2001: (weight, "cpu", torch.FloatStorage),
        2002: (bias, "cpu", torch.FloatStorage),
        2003: (steps, "cpu", torch.LongStorage),
    }
    tensors = {
        1001: (2001, 0, (3, 4), (4, 1), torch.FloatTensor),
        1002: (2002, 0, (3,), (1,), torch.FloatTensor),
        1003: (2003, 0, (2,), (1,), torch.LongTensor),
        1004: (2001, 1, (3, 3), (1, 4), torch.FloatTensor),
    }

    class Keys(pickle.Pickler):
        def persistent_id(self, x):
            return str(keys[x.key]) if isinstance(x, Key) else None

    content = collections.OrderedDict((key, Key(key) if key in keys else x) for key, x in value.items())
    out = io.BytesIO()
    Keys(out, protocol=2).dump(content)
    tar("tar", value, storages, [], tensors, out.getvalue())

    # Python 2, storages that are views of others, a bare storage, parameters and the class of a whole model.
    root = torch.arange(10, dtype=torch.int32)
    part = root[2:8]
    parameter = nn.Parameter(bias.clone())
    pid = lambda key: Raw(python2(str(key)) + b"Q")
    persistent = dump2(
        collections.OrderedDict(
            [
                ("root", pid(11)),
                ("part", pid(12)),
                ("end", pid(14)),
                ("parameter", old_parameter(pid(13), True)),
                ("config", build(Raw(python2((name("argparse", "Namespace"), None, None)) + b"Q)\x81"), {"lr": 0.5})),
            ]
        )
    )
    value = collections.OrderedDict(
        [
            ("root", root),
            ("part", part.view(2, 3)),
            ("end", root[6:8]),
            ("parameter", parameter),
            ("config", argparse.Namespace(lr=0.5)),
        ]
    )
    classes = {cls: name("torch", cls) for cls in ["IntStorage", "FloatStorage", "IntTensor", "FloatTensor"]}
    storages = {21: (root, "cpu", classes["IntStorage"]), 23: (parameter.data, "cpu", classes["FloatStorage"])}
    views = [(22, 21, 2, 6), (24, 22, 4, 2)]
    tensors = {
        11: (21, 0, (10,), (1,), classes["IntTensor"]),
        12: (22, 0, (2, 3), (3, 1), classes["IntTensor"]),
        13: (23, 0, (3,), (1,), classes["FloatTensor"]),
        14: (24, 0, (2,), (1,), classes["IntTensor"]),
    }
    tar("tar_python2", value, storages, views, tensors, persistent, dump2)


class Key:
    """Stands for a tensor in a pickle of keys."""

    def __init__(self, key):
        self.key = key


# --- TorchScript -----------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.register_buffer("scale", torch.rand(width, 1, 1))
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return torch.relu(self.conv(x) * self.scale * self.gain)


class Script(nn.Module):
    sizes: list[int]
    names: dict[str, int]

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 2)
        self.blocks = nn.Sequential(Block(2), Block(2))
        self.tied = nn.Linear(4, 2)
        self.tied.weight = self.last.weight
        self.register_buffer("mean", torch.tensor([0.5, 0.25], dtype=torch.float64))
        self.frozen = nn.Parameter(torch.arange(3.0), requires_grad=False)
        self.sizes = [4, 5]
        self.names = {"a": 1}
        self.rates = (0.5, True)
        self.label = "text"

    def forward(self, x):
        x = self.blocks(x * self.sizes[0] + self.names["a"])
        return self.last(x.flatten(1)[:, :4]) + self.tied(x.flatten(1)[:, :4]) + self.frozen.sum() + self.mean.sum()


def torchscript(file, module):
    """Saves a module of TorchScript without the text of library functions and the paths in its debug records."""
    path = OUT / f"{file}.pt"
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            record = entry.filename.split("/", 1)[1]
            if entry.filename.endswith(".debug_pkl") or record.startswith("code/") and record != "code/__torch__.py":
                continue
            info = zipfile.ZipInfo(f"{file}/{record}", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED if record.startswith("code/") else zipfile.ZIP_STORED
            new.writestr(info, old.read(entry))
    buffer.seek(0)
    state = torch.jit.load(buffer).state_dict(keep_vars=True)
    expect(file, collections.OrderedDict(state.items()))


def torchscript_files():
    torch.manual_seed(2)
    torchscript("scripted", torch.jit.script(Script()))
    torchscript("traced", torch.jit.trace(small_net().eval(), torch.rand(1, 1, 4, 4)))


# --- Several files, plain pickles ------------------------------------------------------------------------------------


def shards():
    torch.manual_seed(3)
    state = collections.OrderedDict((f"layer{i}.{part}", torch.rand(2, i + 1)) for i in range(3) for part in "ab")
    state["half"] = torch.rand(3).half()
    names = list(state)
    parts = {1: names[0:2] + names[6:], 2: names[2:4], 3: names[4:6]}
    where = {key: number for number, keys in parts.items() for key in keys}
    for kind, save in [
        ("pytorch_model.bin", lambda part, path: torch.save(part, path)),
        ("model.safetensors", lambda part, path: safetensors.torch.save_file(part, path, {"format": "pt"})),
    ]:
        stem, end = kind.split(".")
        file = lambda number: f"{stem}-{number:05}-of-00003.{end}"
        for number, keys in parts.items():
            part = collections.OrderedDict((key, state[key]) for key in keys)
            if number == 2 and end == "bin":
                torch.save(part, OUT / file(number), **LEGACY)
            else:
                save(part, OUT / file(number))
        size = sum(tensor.nbytes for tensor in state.values())
        index = {"metadata": {"total_size": size}, "weight_map": {key: file(where[key]) for key in names}}
        (OUT / f"{kind}.index.json").write_text(json.dumps(index, indent=2) + "\n")
    expect("shards", state)


def pickles():
    torch.manual_seed(4)
    some = {key: value for key, value in files.values().items() if key not in ("long list", "long dict")}
    numpy = some.pop("numpy")  # written otherwise by protocol 5
    for protocol in (5, 4, 3, 2, 1, 0):
        if protocol < 5:
            some["numpy"] = numpy
        if protocol == 1:
            del some["slots"]  # Python cannot pickle it so
        (OUT / f"plain_protocol{protocol}.pkl").write_bytes(pickle.dumps(some, protocol))
        expect(f"plain_protocol{protocol}", some)
    state = collections.OrderedDict(small_net().state_dict().items())
    state["parameter"] = nn.Parameter(torch.arange(3, dtype=torch.bfloat16))
    state["strided"] = torch.arange(12).reshape(3, 4).t()[1:]
    for protocol in (2, 4):
        (OUT / f"plain_tensors{protocol}.pkl").write_bytes(pickle.dumps(state, protocol))
        expect(f"plain_tensors{protocol}", state)
    several = [{"epoch": 1}, [1.5, torch.arange(2)], None]
    with open(OUT / "plain_saves.pkl", "wb") as f:
        for value in several:
            pickle.dump(value, f)
    expect("plain_saves", *several)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    without_sources()
    legacy_files()
    legacy_views()
    legacy_python2()
    legacy_parameters()
    several_saves()
    tar_files()
    torchscript_files()
    shards()
    pickles()


if __name__ == "__main__":
    main()
