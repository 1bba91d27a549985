"""What it costs that files are looked at before they are read, and read to their end with their checksums.

Every read runs in a process of its own, in turns with the same read of an earlier checkout (--before), or else of the
library underneath; time is that of the processor, because other programs may be busy, without imports and the first
read. The ratio is the median over the turns of one time by the other; histomri aims at 1.05 at most against --before.
The first volume of a gzip file is the exception: its checksum stands at the end, so the whole file is read.

Usage: python benchmarks/bench_reads.py [--before CHECKOUT] [--turns N] [--megabytes N]
"""

import argparse
import gzip
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

OURS = Path(__file__).resolve().parents[1]


def write_files(folder: Path, megabytes: int) -> None:
    """Write a file of each kind, of about so many megabytes in memory."""
    import nibabel as nib
    import pandas as pd
    import tifffile
    from PIL import Image

    rng = np.random.default_rng(0)
    volumes = 20
    side = round((megabytes * 2**20 / 2 / volumes) ** (1 / 3))
    signal = rng.normal(1000, 30, (side, side, side, volumes)).astype(np.int16)
    nib.save(nib.Nifti1Image(signal, np.eye(4)), folder / "d.nii.gz")
    nib.save(nib.Nifti1Image(signal, np.eye(4)), folder / "d.nii")
    count = megabytes * 8000
    names = ("Image", "Object ID", "Classification", "Centroid X µm", "Centroid Y µm", "Cell: Area µm^2")
    places = rng.uniform(10, 20000, (count, 2)).round(2)
    columns = ["a.svs", [f"{k:032x}" for k in range(count)], "Tumor", *places.T, rng.uniform(60, 250, count).round(2)]
    cells = pd.DataFrame(dict(zip(names, columns, strict=True)))
    cells.to_csv(folder / "c.tsv", sep="\t", index=False)
    (folder / "c.tsv.gz").write_bytes(gzip.compress((folder / "c.tsv").read_bytes(), 6))
    table = pd.DataFrame(rng.normal(size=(count, 12)).round(6), columns=[f"v{k}" for k in range(12)])
    table.to_csv(folder / "t.csv", index=False)
    table.to_parquet(folder / "t.parquet", index=False)
    table.head(100 * megabytes).to_excel(folder / "t.xlsx", index=False)
    np.savez(folder / "a.npz", values=signal)
    pixels = rng.integers(0, 255, (round((megabytes * 2**20 / 3) ** 0.5),) * 2 + (3,), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "p.png")
    tiles = {"tile": (256, 256), "compression": "zlib", "resolution": (20000, 20000), "resolutionunit": 3}
    tifffile.imwrite(folder / "s.tif", pixels, photometric="rgb", **tiles)


def _image(path: Path) -> Any:
    from histomri.mri.images import open_dwi

    images = open_dwi(path)
    return images.read(np.ones(images.shape[:3], bool))


def _first(path: Path) -> Any:
    from histomri.registration.files import load_first_volume

    return load_first_volume(path)


def _cells(path: Path) -> Any:
    from histomri.cells import read_cells

    return read_cells(path)


def _table(path: Path) -> Any:
    from histomri.core.tables import read_table

    return read_table(path)


def _slide(path: Path) -> Any:
    from histomri.slides import open_slide

    with open_slide(path, mpp=0.5) as slide:
        return slide.thumbnail(0.5)


def _nibabel(path: Path) -> Any:
    import nibabel as nib

    image: Any = nib.load(path)
    return np.asarray(image.dataobj, dtype=np.float32)


def _pandas(path: Path) -> Any:
    import pandas as pd

    if path.suffix == ".xlsx":
        return pd.read_excel(path, dtype=str)
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, dtype=str, sep="\t" if ".tsv" in path.name else ",")


def _picture(path: Path) -> Any:
    import tifffile
    from PIL import Image

    return tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path).convert("RGB"))


JOBS: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], Any]]] = {
    "diffusion images": ("d.nii", _image, _nibabel),
    "diffusion images, gzip": ("d.nii.gz", _image, _nibabel),
    "first volume, gzip": ("d.nii.gz", _first, _nibabel),
    "cells": ("c.tsv", _cells, _pandas),
    "cells, gzip": ("c.tsv.gz", _cells, _pandas),
    "table": ("t.csv", _table, _pandas),
    "table, Parquet": ("t.parquet", _table, _pandas),
    "table, workbook": ("t.xlsx", _table, _pandas),
    "slide, PNG": ("p.png", _slide, _picture),
    "slide, TIFF": ("s.tif", _slide, _picture),
}


def measure(name: str, folder: Path, library: bool) -> float:
    """Return the seconds of one read, after a first one."""
    file, ours, theirs = JOBS[name]
    read = theirs if library else ours
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read(folder / file)
        start = time.process_time()
        read(folder / file)
    return time.process_time() - start


def elsewhere(name: str, folder: Path, checkout: Path, *, library: bool = False) -> float:
    """Return the seconds of one read in another process, with the code of a checkout."""
    command = [sys.executable, __file__, "--job", name, "--folder", str(folder)] + ["--library"] * library
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="an earlier checkout, to compare with")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--library", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        print(measure(given.job, given.folder, given.library))
        return
    print(describe("nibabel", "pandas", "pyarrow", "pillow", "tifffile"))
    print(f"{'read':24} {'histomri':>10} {'before' if given.before else 'library':>10} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_files(folder, given.megabytes)
        for name in JOBS:
            turns = []
            for _ in range(given.turns):
                other = given.before or OURS
                theirs = elsewhere(name, folder, other, library=given.before is None)
                turns.append((elsewhere(name, folder, OURS), theirs))
            ratio = statistics.median(ours / theirs for ours, theirs in turns)
            ours, theirs = (min(times) for times in zip(*turns, strict=True))
            print(f"{name:24} {ours:8.2f} s {theirs:8.2f} s {ratio:6.2f}", flush=True)


if __name__ == "__main__":
    main()
