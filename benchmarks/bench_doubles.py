"""Time to find cells inside other cells, against the read of the same table.

A million detections of dense tissue, as in `bench_patches.py` but without overlap; the same with a second run on top.
Time is that of the processor, because other programs may be busy; the jobs take turns.

Usage: python benchmarks/bench_doubles.py [--cells N] [--repeats R]
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
from bench_patches import write_table

from histomri.cells import read_cells
from histomri.cells.overlaps import find_overlaps


def tissue(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, y (µm) and areas (µm²) of n cells at random places of a grid with 12 µm between them."""
    rng = np.random.default_rng(seed)
    wide = int(np.ceil(np.sqrt(n)))
    place = rng.permutation(wide * wide)[:n]
    x, y = (12.0 * axis + rng.uniform(-2, 2, n) for axis in (place % wide, place // wide))
    return x, y, rng.lognormal(np.log(80), 0.3, n)


def spread(path: Path, x: np.ndarray, y: np.ndarray) -> None:
    """Put the cells of a table at these places: those of `write_table` lie on top of each other."""
    table = pc.read_csv(path, parse_options=pc.ParseOptions(delimiter="\t"))
    for name, values in (("Centroid X µm", x), ("Centroid Y µm", y)):
        table = table.set_column(table.column_names.index(name), name, pa.array(np.round(values, 1)))
    pc.write_csv(table, path, pc.WriteOptions(delimiter="\t", quoting_style="none"))


def measure(jobs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median time of each job, in seconds of the processor."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeats + 1):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            if turn:  # the first is for imports and memory
                times[name].append(time.process_time() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    x, y, area = tissue(given.cells)
    half = given.cells // 2
    twice = [np.concatenate([values[:half], values[:half] + 0.3]) for values in (x, y, area)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.tsv"
        write_table(path, given.cells)
        spread(path, x, y)
        jobs: dict[str, Callable[[], object]] = {
            "read_cells, needed columns": lambda: read_cells(path, measurements=False),
            "read_cells, all measurements": lambda: read_cells(path),
            "find_overlaps, tissue": lambda: find_overlaps(x, y, area),
            "find_overlaps, a second run": lambda: find_overlaps(*twice),
        }
        seconds = measure(jobs, given.repeats)
    print(f"{given.cells:,} detections; {platform.machine()}, {platform.system()}, Python {platform.python_version()}")
    check = seconds["find_overlaps, tissue"]
    for name, value in seconds.items():
        print(f"{name:34}{value:8.2f} s")
    for name in ("read_cells, needed columns", "read_cells, all measurements"):
        print(f"the check adds {check / (seconds[name] - check):.0%} to {name}, of which it is a part")


if __name__ == "__main__":
    main()
