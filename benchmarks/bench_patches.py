"""Time from a QuPath table to maps, against what Arrow alone needs to read the same columns.

Usage: python benchmarks/bench_patches.py [--cells N] [--repeats R]
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from histomri.cells import CellOptions, read_cells
from histomri.patches import PatchOptions
from histomri.study.steps import cells, patches

NEEDED = ("Image", "Object ID", "Object type", "Name", "Classification", "Centroid X µm", "Centroid Y µm")
AREAS = ("Nucleus: Area", "Cell: Area")


def write_table(path: Path, n: int, seed: int = 0) -> list[str]:
    """Write n cells with 40 columns as QuPath 0.5 does; return the column names."""
    rng = np.random.default_rng(seed)
    nucleus = rng.lognormal(np.log(35), 0.3, n)
    columns: dict[str, object] = {
        "Image": ["A01_HE.ndpi"] * n,
        "Object ID": [f"{value:08x}-2a77-4a0b-9d0e-5f6e3c1b2a01" for value in range(n)],
        "Object type": ["Cell"] * n,
        "Name": [""] * n,
        "Classification": np.array(["", "Positive", "Tumor: Negative"])[rng.integers(0, 3, n)],
        "Parent": ["Annotation"] * n,
        "ROI": ["Polygon"] * n,
        "Centroid X µm": np.round(rng.uniform(0, 14000, n), 1),
        "Centroid Y µm": np.round(rng.uniform(0, 9000, n), 1),
        "Nucleus: Area": np.round(nucleus, 4),
        "Cell: Area": np.round(nucleus * rng.uniform(2, 4, n), 4),
    }
    for index in range(40 - len(columns)):
        columns[f"Nucleus: Stain{index} OD mean"] = np.round(rng.random(n), 4)
    options = pc.WriteOptions(delimiter="\t", quoting_style="none")
    pc.write_csv(pa.table(columns), path, options)
    return list(columns)


def arrow_read(path: Path, columns: tuple[str, ...] | None) -> None:
    options = pc.ConvertOptions(include_columns=list(columns)) if columns else None
    pc.read_csv(path, parse_options=pc.ParseOptions(delimiter="\t"), convert_options=options)


def measure(jobs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median time of each job; the jobs take turns, so that a busy machine is busy for all."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.tsv"
        write_table(path, given.cells)
        maps = lambda table: PatchOptions.read(cells=table, patch_um=386)  # noqa: E731
        jobs: dict[str, Callable[[], object]] = {
            "Arrow, needed columns": lambda: arrow_read(path, (*NEEDED, *AREAS)),
            "read_cells, needed columns": lambda: read_cells(path, measurements=False),
            "TSV to NIfTI maps": lambda: patches.run(maps(path), Path(folder) / "maps"),
            "Arrow, all columns": lambda: arrow_read(path, None),
            "read_cells, all measurements": lambda: read_cells(path),
            "TSV to Parquet, all measurements": lambda: cells.run(
                CellOptions.read(exports=path), Path(folder) / "c.parquet"
            ),
            "Parquet to NIfTI maps": lambda: patches.run(maps(Path(folder) / "c.parquet"), Path(folder) / "m"),
        }
        seconds = measure(jobs, given.repeats)
        megabytes = path.stat().st_size / 1e6
    print(f"{given.cells:,} cells x 40 columns, {megabytes:.0f} MB; median of {given.repeats}")
    print(
        f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, pyarrow {pa.__version__}, ",
        end="",
    )
    print(f"numpy {np.__version__}")
    print(f"{'':34}{'s':>8}{'cells/s':>14}{'x Arrow':>10}")
    for name, value in seconds.items():
        base = seconds["Arrow, all columns" if "all" in name else "Arrow, needed columns"]
        print(f"{name:34}{value:8.2f}{given.cells / value:14,.0f}{value / base:10.2f}")
    limit = 1.5 * seconds["Arrow, needed columns"] + 1
    print(f"TSV to NIfTI: {seconds['TSV to NIfTI maps']:.2f} s, wanted at most 1.5 x Arrow + 1 s = {limit:.2f} s")


if __name__ == "__main__":
    main()
