"""A mask of numbered cells to a table: seconds, memory and ratio to scikit-image's regionprops of the same pixels.

The mask is a tiled TIFF of discs with numbers of their own. `--read-only FILE` only reads one, for a process of its own
(its memory is then that of the read).
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from machine import describe
from skimage.measure import regionprops_table

from histomri.cells import read_cells


def main() -> None:
    """Print the times of both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=10_000, help="pixels along an edge of the mask")
    parser.add_argument("--read-only", type=Path)
    options = parser.parse_args()
    if options.read_only is not None:
        start = time.perf_counter()
        table = read_cells(options.read_only, mpp=0.5)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{len(table.data):,} cells, {time.perf_counter() - start:.2f} s, {peak:.0f} MB at most")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = write_mask(Path(folder) / "mask.tif", options.side)
        read_cells(path, mpp=0.5)  # compiles
        start = time.perf_counter()
        table = read_cells(path, mpp=0.5)
        middle = time.perf_counter()
        rival = regionprops_table(tifffile.imread(path), properties=("label", "area", "centroid"))
        end = time.perf_counter()
        assert len(rival["label"]) == len(table.data)
        print(describe("numba", "tifffile", "scikit-image"))
        print(f"{options.side} x {options.side} pixels, {len(table.data):,} cells: {middle - start:.2f} s; "
              f"scikit-image {end - middle:.2f} s, {(end - middle) / (middle - start):.1f} x as long")  # fmt: skip


def write_mask(path: Path, side: int, pitch: int = 20, radius: int = 7) -> Path:
    """Write discs on a square grid, each with its own number."""
    offset = (np.arange(pitch) + 0.5 - pitch / 2) ** 2
    disc = (offset[:, None] + offset[None, :] < radius**2).astype(np.uint32)
    number = side // pitch
    labels = np.kron(np.arange(1, number**2 + 1, dtype=np.uint32).reshape(number, number), disc)
    tifffile.imwrite(path, labels, tile=(512, 512), compression="deflate")
    return path


if __name__ == "__main__":
    main()
