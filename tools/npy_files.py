"""Write the .npy files of tests/data/npy with NumPy.

usage: npy_files.py [OUT_DIR]
"""
import sys
from pathlib import Path

import numpy as np


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/data/npy")
    folder.mkdir(parents=True, exist_ok=True)
    six = np.arange(6).reshape(2, 3)
    for dtype in ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u4", "u2", "u1", "b1"]:
        np.save(folder / f"{dtype}.npy", six.astype(dtype))
    for dtype in ["f4", "f2", "i8", "u8"]:
        np.save(folder / f"big_{dtype}.npy", six.astype(f">{dtype}"))
    np.save(folder / "fortran_i2.npy", np.asfortranarray(six.astype("i2")))
    np.save(folder / "fortran_cube.npy", np.asfortranarray(np.arange(24, dtype="f4").reshape(2, 3, 4)))
    np.save(folder / "scalar.npy", np.float32(2.5))
    np.save(folder / "empty.npy", np.zeros((0, 3), "f4"))
    for version in [2, 3]:
        with open(folder / f"version_{version}.npy", "wb") as file:
            np.lib.format.write_array(file, six.astype("i4"), version=(version, 0))


if __name__ == "__main__":
    main()
