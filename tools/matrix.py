"""Writes one file for each dtype, layout, container and pickle protocol that PyTorch writes, for tests/matrix.rs, with
what is in it as JSON beside it.

    python tools/matrix.py DIRECTORY                        all of them
    python tools/matrix.py tests/data/matrix --every 41     the few that are committed

files.py and containers.py write the crafted kinds into the same directory, in the same form. Then
`SCONCE_MATRIX=DIRECTORY cargo test --test matrix` reads them all.
"""

import argparse
import json
import warnings
import zipfile
from pathlib import Path

import numpy
import torch

from files import CARRIED, RUNNABLE, Expected

UNTYPED = "float4_e2m1fn_x2 bits8 bits16 bits1x8 bits2x4 bits4x2 bcomplex32".split()
QUANTIZED = "qint8 quint8 qint32".split()


def random(dtype, count):
    """A tensor of a dtype from random bytes."""
    size = torch.empty(0, dtype=dtype).element_size()
    data = torch.randint(0, 256, (count * size,), dtype=torch.uint8)
    if dtype == torch.bool:
        return data % 2 == 1
    # The untyped ones are made from integers of their size only.
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32}.get(size)
    return data.view(integers).view(dtype) if integers else data.view(dtype)


def layouts(dtype):
    whole = random(dtype, 24).reshape(4, 6)
    yield "contiguous", whole
    yield "transposed", random(dtype, 6).reshape(2, 3).t()
    yield "sliced", whole[1:4:2, 1:5]
    yield "expanded", random(dtype, 3).reshape(3, 1).expand(3, 4)
    yield "scalar", random(dtype, 3)[1]
    yield "empty", random(dtype, 1)[:0].reshape(0, 3)
    yield "channels_last", random(dtype, 24).reshape(1, 2, 4, 3).permute(0, 3, 1, 2)
    if dtype.is_complex and dtype != torch.bcomplex32:
        yield "conj", random(dtype, 6).reshape(2, 3).conj()
        yield "neg", random(dtype, 6).conj().imag


def quantized():
    for name in QUANTIZED:
        dtype = getattr(torch, name)
        yield name, "contiguous", torch.quantize_per_tensor(torch.randn(4, 6), 0.037, 3, dtype)
        yield name, "transposed", torch.quantize_per_tensor(torch.randn(4, 6), 0.037, 3, dtype).t()
        yield name, "sliced", torch.quantize_per_tensor(torch.randn(4, 6), 0.11, 0, dtype)[1:3]
        scales, zero_points = torch.rand(4) + 0.01, torch.arange(4)
        yield name, "channels0", torch.quantize_per_channel(torch.randn(4, 6), scales, zero_points, 0, dtype)
        yield name, "channels1", torch.quantize_per_channel(torch.randn(2, 4, 3), scales, zero_points, 1, dtype)


def elements(x):
    """The bytes of the elements in row-major order, whatever the dtype."""
    x = x.detach()
    if x.is_conj() or x.is_neg():
        x = x.resolve_conj().resolve_neg()
    size = x.element_size()
    data = numpy.array(x.untyped_storage().tolist(), dtype=numpy.uint8)
    data = numpy.lib.stride_tricks.as_strided(
        data[x.storage_offset() * size :], (*x.shape, size), (*(stride * size for stride in x.stride()), 1)
    )
    return data.tobytes()


class Exact(Expected):
    """As `Expected`, for the dtypes that torch cannot copy too."""

    def tensor(self, x):
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
                "data": elements(x).hex() if x.numel() else "",
            },
        ]


def cases():
    for name in RUNNABLE + CARRIED + UNTYPED:
        for layout, x in layouts(getattr(torch, name)):
            yield name, layout, x
    yield from quantized()


def zip64(source, path):
    """The same records with the long sizes of zip64."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.namelist():
            with new.open(zipfile.ZipInfo(entry, (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True) as record:
                record.write(old.read(entry))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    count = written = 0
    for name, layout, x in cases():
        content = {"torch": torch.__version__, "value": Exact().value({"x": x})}
        if x.is_quantized:
            content["floats"] = elements(x.dequantize().contiguous()).hex()
        kinds = [(kind, protocol) for kind in ["zip", "legacy"] for protocol in [2, 3, 4, 5]] + [("zip64", 2)]
        for kind, protocol in kinds:
            count += 1
            if count % options.every:
                continue
            path = options.directory / f"{name}-{layout}-{kind}{protocol}.pt"
            torch.save({"x": x}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=kind != "legacy")
            if kind == "zip64":
                path.rename(path.with_suffix(".old"))
                zip64(path.with_suffix(".old"), path)
                path.with_suffix(".old").unlink()
            path.with_suffix(".json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
            written += 1
    print(f"{written} files in {options.directory}")


if __name__ == "__main__":
    main()
