"""Writes a file with every kind of tensor and NumPy array that PyTorch saves, for tests/kinds.rs, and what they are as
JSON beside it.

    python tools/kinds.py [DIRECTORY]
"""

import collections
import json
import sys
import warnings
from pathlib import Path

import numpy
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests/data/checkpoint")


class Call:
    """Is pickled as a call of a function, with the state that is set on what it gives."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced


class Image(torch.Tensor):
    """A subclass that adds nothing but its attributes."""


def attributed(x, **attributes):
    for name, value in attributes.items():
        setattr(x, name, value)
    return x


def tensors():
    numbers = torch.randn(4, 6)
    scales, zeros = torch.rand(4) + 0.01, torch.arange(4)
    eye = torch.arange(16.0).reshape(4, 4).tril()
    flat = torch.arange(6.0)
    storage = torch.storage.TypedStorage(wrap_storage=flat.untyped_storage(), dtype=torch.float32, _internal=True)
    hooks = collections.OrderedDict()
    yield "qint8", torch.quantize_per_tensor(numbers, 0.037, 3, torch.qint8), "quantized qint8 [4, 6]"
    yield "quint8 t", torch.quantize_per_tensor(numbers, 0.05, 128, torch.quint8).t(), "quantized quint8 [6, 4]"
    yield "qint32", torch.quantize_per_tensor(numbers * 1e6, 0.037, 12345, torch.qint32), "quantized qint32 [4, 6]"
    yield "channels", torch.quantize_per_channel(numbers, scales, zeros, 0, torch.qint8), "quantized qint8 [4, 6]"
    last = torch.quantize_per_channel(torch.randn(2, 3, 4), scales, zeros, 2, torch.quint8)
    yield "last channels", last, "quantized quint8 [2, 3, 4]"
    float4 = torch.quantize_per_channel(torch.randn(4, 5), scales, torch.rand(4), 0, torch.quint4x2)
    yield "quint4x2", float4, "quantized quint4x2 [4, 5]"
    yield "coo", eye.to_sparse(), "sparse_coo float32 [4, 4]"
    yield "csr", eye.to_sparse_csr(), "sparse_csr float32 [4, 4]"
    yield "csc", eye.to_sparse_csc(), "sparse_csc float32 [4, 4]"
    yield "bsr", eye.to_sparse_bsr((2, 2)), "sparse_bsr float32 [4, 4]"
    yield "bsc", eye.to_sparse_bsc((2, 2)), "sparse_bsc float32 [4, 4]"
    yield "sparse parameter", nn.Parameter(eye.to_sparse()), "sparse_coo float32 [4, 4]"
    parts = [torch.ones(2, 3), torch.ones(4, 3)]
    yield "nested", torch.nested.nested_tensor(parts), "nested float32 [18]"
    yield "jagged", torch.nested.nested_tensor(parts, layout=torch.jagged), "jagged float32 [6, 3]"
    yield "meta", torch.empty(2, 3, device="meta"), "meta float32 [2, 3]"
    two = TwoTensor(torch.ones(2, 3), torch.zeros(2, 3))
    yield "wrapper", two, "torch.testing._internal.two_tensor.TwoTensor float32 [2, 3]"
    yield "parameter", attributed(nn.Parameter(torch.arange(3.0)), tag="of a parameter"), "float32 [3]"
    yield "buffer", nn.Buffer(torch.arange(3.0)), "float32 [3]"
    yield "subclass", attributed(torch.arange(4.0).as_subclass(Image), tag="of a subclass"), "float32 [4]"
    rebuild = torch._utils._rebuild_device_tensor_from_numpy
    array = numpy.arange(6, dtype="f4").reshape(2, 3)
    yield "from numpy", Call(rebuild, array, torch.bfloat16, "xla:0", True), "bfloat16 [2, 3]"
    rebuild = torch._utils._rebuild_device_tensor_from_cpu_tensor
    yield "from cpu", Call(rebuild, flat.view(2, 3).t(), torch.float32, "mtia:0", False), "float32 [3, 2]"
    yield "old parameter", Call(nn.Parameter, flat[2:4], state=(False, False, hooks)), "float32 [2]"
    yield "variable", Call(nn.Parameter, state=(flat[1:4], None, hooks, False, False)), "float32 [3]"
    yield "old tensor", Call(torch.Tensor, state=(storage, 1, (2,), (2,))), "float32 [2]"


EXPECTED = {
    "from numpy": torch.arange(6.0).bfloat16(),
    "from cpu": torch.arange(6.0).view(2, 3).t(),
    "old parameter": torch.tensor([2.0, 3.0]),
    "variable": torch.tensor([1.0, 2.0, 3.0]),
    "old tensor": torch.tensor([1.0, 3.0]),
}


def arrays():
    yield "float64", numpy.linspace(0, 1, 6).reshape(2, 3)
    yield "fortran", numpy.asfortranarray(numpy.arange(6, dtype="i4").reshape(2, 3))
    yield "big-endian", numpy.arange(6, dtype=">f4").reshape(3, 2)
    yield "big-endian complex", (numpy.arange(4) * (1 + 2j)).astype(">c8")
    for code in ["?", "i1", "i2", "i8", "u1", "u2", "u4", "u8", "f2", "c16"]:
        yield code, numpy.arange(5).astype(code)
    yield "empty", numpy.empty((0, 3), dtype="f4")
    yield "scalar array", numpy.array(7, dtype="i2")


def contents(x):
    x = x.dequantize() if x.is_quantized else x
    x = x.detach().contiguous()
    return bytes(x.reshape(-1).view(torch.uint8).tolist()).hex()


def main():
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    values, expected = {}, {}
    for name, x, text in tensors():
        values[name], expected[name] = x, {"is": text}
        plain = EXPECTED.get(name, x)
        if plain.layout == torch.strided and not plain.is_nested and not plain.is_meta and type(plain) is not TwoTensor:
            expected[name]["data"] = contents(plain)
    named = dict(arrays())
    for name, array in named.items():
        little = array.astype(array.dtype.newbyteorder("<"))
        code = str(torch.from_numpy(little.copy()).dtype).removeprefix("torch.")
        expected[f"array {name}"] = {"is": f"{code} {list(array.shape)}", "data": little.tobytes("C").hex()}
    values |= {f"array {name}": array for name, array in named.items()}
    values["scalars"] = [numpy.float64(1.5), numpy.float16(0.5), numpy.int32(-3), numpy.bool_(True), numpy.uint64(2**63)]
    values["object array"] = numpy.array(["text", None], dtype=object)
    for protocol in [2, 5]:
        torch.save(values, OUT / f"kinds{protocol}.pt", pickle_protocol=protocol)
    content = {"torch": torch.__version__, "values": expected}
    (OUT / "kinds.json").write_text(json.dumps(content, separators=(",", ":")).replace("},", "},\n") + "\n")
    print(f"{len(values)} values")


if __name__ == "__main__":
    main()
