"""Writes what PyTorch makes of numbers in other dtypes, for tests/conversions.rs: a checksum for each pair of dtypes.

    python tools/conversions.py [FILE]

The numbers are every value of the dtypes of up to 16 bits, and fixed random ones of the wider: of any bits, and of
moderate size. NaNs count as one value, since PyTorch itself makes different ones of vectors and of what remains; so does
what C++ leaves undefined and PyTorch makes different things of.
"""

import json
import sys
import zlib
from pathlib import Path

import numpy
import torch

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests/data/conversions.json")
REAL = (
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool uint16 uint32 uint64 float8_e4m3fn float8_e5m2 "
    "float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu"
).split()
COMPLEX = "complex32 complex64 complex128".split()
COUNT = 20_000


def words(seed):
    """Random 64-bit words, by splitmix64."""
    with numpy.errstate(over="ignore"):
        z = (numpy.arange(1, COUNT + 1, dtype=numpy.uint64) + numpy.uint64(seed * COUNT)) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        return z ^ (z >> numpy.uint64(31))


def moderate(name, z):
    """Numbers around 1 and integers of few bits, the hard cases among them."""
    u = numpy.uint64
    if name == "float64":
        exponent = u(1023 - 40) + (z >> u(52)) % u(80)
        return (z & u(1 << 63)) | exponent << u(52) | (z & u((1 << 52) - 1))
    if name == "float32":
        exponent = u(127 - 30) + (z >> u(40)) % u(60)
        # Half of them with few bits, so that ties occur.
        mantissa = numpy.where(z & u(1) == 0, z & u(0x7FFFFF), z & u(0x7F0000))
        return (z >> u(32) & u(1 << 31)) | exponent << u(23) | mantissa
    shift = z % u(63)
    return (z >> shift) if name.startswith("u") else (z.view(numpy.int64) >> shift.view(numpy.int64)).view(u)


def sources(name):
    size = torch.empty(0, dtype=getattr(torch, name)).element_size()
    if size == 1:
        yield "all", numpy.arange(256, dtype=numpy.uint8)
    elif size == 2:
        yield "all", numpy.arange(65536, dtype=numpy.uint16).view(numpy.uint8)
    else:
        for kind in ["any", "moderate"]:
            z = words(["any", "moderate"].index(kind))
            if name in COMPLEX:
                if kind == "any":
                    yield kind, z.view(numpy.uint8)
                continue
            z = moderate(name, z) if kind == "moderate" else z
            yield kind, numpy.ascontiguousarray(z.view(numpy.uint8).reshape(-1, 8)[:, :size]).reshape(-1)


def canonical(x, source):
    """The bytes of a tensor, with one NaN, and 0 for an integer of NaN or out of a `uint32`'s range."""
    x = x.clone()
    if source.dtype.is_floating_point and not (x.dtype.is_floating_point or x.dtype == torch.bool):
        value = source.double()
        keep = (value > -1) & (value < 2**32) if x.dtype == torch.uint32 else ~value.isnan()
        x.view(torch.uint8).reshape(-1, x.element_size())[~keep] = 0
    if x.is_complex():
        x = torch.view_as_real(x)
    if x.dtype.is_floating_point:
        is_nan = x.float().isnan()
        data = x.reshape(-1).view(torch.uint8).reshape(-1, x.element_size()).clone()
        data[is_nan.reshape(-1)] = 0xFF
        return data.numpy().tobytes()
    return x.reshape(-1).view(torch.uint8).numpy().tobytes()


def main():
    cases = []
    for names in [REAL, COMPLEX]:
        for name in names:
            for kind, data in sources(name):
                source = torch.from_numpy(data.copy()).view(getattr(torch, name))
                for to in names:
                    if to != name:
                        result = canonical(source.to(getattr(torch, to)), source)
                        cases.append([name, kind, to, zlib.crc32(result)])
    content = {"torch": torch.__version__, "count": COUNT, "cases": cases}
    OUT.write_text(json.dumps(content, separators=(",", ":")).replace("],[", "],\n[") + "\n")
    print(f"{OUT}: {len(cases)} cases")


if __name__ == "__main__":
    main()
