"""What maps of cells in three dimensions cost: `histomri patches` with a kind of outline against the run without it.

Usage: python benchmarks/bench_patches_3d.py [--cells N] [--repeats R] [--kinds R M E]

The cells are profiles of balls in a section of 4 µm, in clusters, in a field of 20 x 20 mm; patches of 386 µm.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench_patches import measure
from machine import describe

from histomri.cells import CellTable
from histomri.patches import PatchOptions
from histomri.simulation.scenes import FIELD_UM, SCENES, draw_scene
from histomri.study.steps import patches

SIDE_UM, RIM_UM, WANTED = 20_000.0, 5.0, 1.6


def write_cells(path: Path, kind: str, number: float) -> int:
    """Write a table of cells of a kind of outline; return how many there are."""
    shown = draw_scene(np.random.default_rng(0), SCENES["clusters of 60 um"], seen=number)
    nucleus, cell = shown.nucleus_um2, shown.cell_um2
    if kind == "R":
        cell = np.pi * (np.sqrt(nucleus / np.pi) + RIM_UM) ** 2
    stretch = SIDE_UM / FIELD_UM
    table = CellTable.from_columns(shown.x_um * stretch, shown.y_um * stretch, cell, nucleus_area_um2=nucleus)
    table.save(path)
    return len(table)


def options(table: Path, kind: str | None) -> PatchOptions:
    """Return the options of a run."""
    more = {} if kind is None else {"outline_kind": kind, "section_thickness_um": 4.0, "nucleus_limit_um2": 10.0}
    more |= {"cell_fraction": 0.7} if kind in ("N", "R") else {}
    return PatchOptions.read(cells=table, patch_um=386, **more)


def peak_gib(table: Path, kind: str | None) -> float:
    """Return the peak of the memory of a run in a process of its own."""
    command = [sys.executable, __file__, "--one", str(table), kind or "none"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def row(folder: Path, kind: str, number: float, repeats: int) -> str:
    """Return the row of a kind of outline."""
    table = folder / "cells.parquet"
    count = write_cells(table, kind, number)
    patches.run(options(table, kind), folder / "warm")  # kernels are compiled once
    jobs: dict[str, Callable[[], object]] = {
        "without": lambda: patches.run(options(table, None), folder / "without"),
        "with": lambda: patches.run(options(table, kind), folder / "with"),
    }
    seconds = measure(jobs, repeats)
    times = " | ".join(f"{value:.2f} s" for value in seconds.values())
    memory = " | ".join(f"{peak_gib(table, one):.2f} GiB" for one in (None, kind))
    return f"| {kind} | {count:,} | {times} | {seconds['with'] / seconds['without']:.2f} | {memory} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=float, default=1e6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=["R", "M", "E"])
    parser.add_argument("--one", nargs=2, metavar=("TABLE", "KIND"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        table, kind = given.one
        patches.run(options(Path(table), None if kind == "none" else kind), Path(table).parent / "one")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return
    print(describe("scipy", "numba", "pyarrow"))
    print(f"\n| kind | cells | without | with | ratio (at most {WANTED:g}) | memory without | with |")
    print("|---|---|---|---|---|---|---|")
    for kind in given.kinds:
        with tempfile.TemporaryDirectory() as folder:
            print(row(Path(folder), kind, given.cells, given.repeats), flush=True)


if __name__ == "__main__":
    main()
