"""Write the seeds of the fuzz targets into fuzz/corpus, from the committed files.

usage: fuzz/seeds.py
"""
import io
import pickletools
import tarfile
import zipfile
import zlib
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENDINGS = {".pt", ".pth", ".pkl", ".tar", ".safetensors", ".json"}


def put(target, name, data):
    folder = ROOT / "fuzz/corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


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
