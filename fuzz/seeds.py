"""Write the seeds of the fuzz targets into fuzz/corpus, from the committed files.

usage: fuzz/seeds.py
"""
import io
import json
import pickletools
import re
import tarfile
import zipfile
import zlib
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENDINGS = {".pt", ".pth", ".pkl", ".tar", ".safetensors", ".json", ".pt2"}
# As in fuzz_targets/zip.rs.
NAMES = re.findall(r'^    "(a/.*|b/.*)",$', (ROOT / "fuzz/fuzz_targets/zip.rs").read_text(), re.MULTILINE)


def put(target, name, data):
    folder = ROOT / "fuzz/corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def put_zip(name, archive, data):
    """The archive in the form of the target `zip`: see there."""
    aligned, seed = b".storage_alignment" in data, bytearray([0])
    if b"PK\x06\x06" in data:
        seed[0] |= 1
    for entry in archive.infolist():
        inner = "a/" + entry.filename.partition("/")[2] if "/" in entry.filename else "a/" + entry.filename
        stored = archive.read(entry)
        flags = 64 * aligned | (4 if entry.flag_bits & 8 else 0)
        size = b""
        if entry.compress_type != zipfile.ZIP_STORED:
            if len(seed) % 2:
                flags |= 1
            else:
                packer = zlib.compressobj(9, zlib.DEFLATED, -15)
                flags, size = flags | 2, len(stored).to_bytes(4, "little")
                stored = packer.compress(stored) + packer.flush()
        if len(stored) > 0xffff:
            return
        if inner in NAMES:
            label = bytes([NAMES.index(inner)])
        else:
            short = inner.encode()[:254 - len(NAMES)]
            label = bytes([len(NAMES) + len(short)]) + short
        seed += label + bytes([flags]) + len(stored).to_bytes(2, "little") + size + stored
    put("zip", name, bytes(seed) + b"\xff")


def put_program(name, archive):
    """The texts of a program in the form of the target `program`: see there."""
    texts = []
    for end in ("models/model.json", "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"):
        inner = [entry for entry in archive.namelist() if entry.endswith("/" + end)]
        if not inner:
            return
        text = json.loads(archive.read(inner[0]))
        for node in text.get("graph_module", {}).get("graph", {}).get("nodes", []):
            node["metadata"] = {}
        texts.append(json.dumps(text, separators=(",", ":")).encode())
    put("program", name, b"\0".join(texts))


def main():
    files = sorted((ROOT / "tests/data").rglob("*")) + sorted((ROOT / "tests/hostile/files").iterdir())
    for path in files:
        if path.suffix not in ENDINGS or path.stat().st_size > 1 << 17:
            continue
        data = path.read_bytes()
        put("load", path.name, data)
        if data[:4] == b"PK\x03\x04":
            try:
                archive = zipfile.ZipFile(io.BytesIO(data))
                for name in archive.namelist():
                    if name.endswith("data.pkl"):
                        put("pickle", path.name, archive.read(name))
                put_zip(path.name, archive, data)
                put_program(path.name, archive)
            except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError, ValueError, zlib.error):
                pass
        elif data[257:262] == b"ustar":
            try:
                members = tarfile.open(fileobj=io.BytesIO(data))
                parts = [members.extractfile(name).read() for name in ("pickle", "tensors", "storages")]
                if all(len(part) < 1020 for part in parts):
                    lengths = bytes(-(-len(part) // 4) for part in parts) + b"\0"
                    put("tar", path.name, lengths + b"".join(part + b"\0" * (-len(part) % 4) for part in parts))
            except (tarfile.TarError, KeyError, AttributeError):
                pass
        elif data[:2] == b"\x80\x02" and b"\x6c\xfc\x9c\x46" in data[:20]:
            # The target puts the magic number, the version and an empty description of the system before its input.
            stream = io.BytesIO(data)
            try:
                for _ in range(3):
                    list(pickletools.genops(stream))
            except ValueError:
                continue
            put("legacy", path.name, stream.read())
        elif data[8:9] == b"{":
            put("safetensors", path.name, data[8:])
        elif data[:1] == b"\x80":
            put("pickle", path.name, data)


if __name__ == "__main__":
    main()
