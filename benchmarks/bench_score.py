"""Time and memory of scoring a study of 25 cases from voxel tables of a million rows.

Usage: python benchmarks/bench_score.py [--rows N] [--cases N] [--repeats R]
With another checkout first in PYTHONPATH that one is measured; compare the user CPU, which others' work changes least.
"""

import argparse
import multiprocessing
import platform
import resource
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc

from histomri.analysis import CorrelateOptions, ScoreOptions
from histomri.study.steps import correlate, score

MODELS = ("diff-in", "diff-in-ex", "diff-in-ex-fast", "diff-in-extd", "diff-in-extd-fast")
STRATEGIES = ("whole", "high-b")
BUDGET_S, BUDGET_MIB = 60.0, 2048.0


def write_voxels(path: Path, rows: int, cases: int, seed: int = 0) -> int:
    """Write a voxel table of all cases, models and strategies; return its number of rows."""
    rng = np.random.default_rng(seed)
    side = max(round((rows / (cases * len(MODELS) * len(STRATEGIES))) ** 0.5), 3)
    index = np.argwhere(np.ones((side, side), dtype=bool))
    n, parts = len(index), []
    for case in range(cases):
        size, fraction = rng.uniform(15, 28) + rng.normal(size=n), rng.uniform(0.4, 0.8) + 0.05 * rng.normal(size=n)
        for strategy in STRATEGIES:
            for place, model in enumerate(MODELS):
                vcs = size + (1 + place) * rng.normal(size=n)
                f = fraction + 0.05 * (1 + place) * rng.normal(size=n)
                parts.append(
                    pd.DataFrame(
                        {
                            "sample": f"case{case:02d}",
                            "group": "crc" if case % 2 else "melanoma",
                            "scanner": "3T" if case % 3 else "1.5T",
                            "model": model,
                            "strategy": strategy,
                            "i": index[:, 0],
                            "j": index[:, 1],
                            "k": 3,
                            "x_mm": index[:, 0] * 0.4,
                            "y_mm": index[:, 1] * 0.4,
                            "z_mm": 0.0,
                            "vCS_mri_um": vcs,
                            "F_mri": f,
                            "CD_mri_mm3": 1e9 * f / vcs**3,
                            "vCS_histo_um": size,
                            "F_histo": fraction,
                            "CD_histo_mm2": 1e6 * fraction / size**2,
                            "BIC": rng.normal(size=n) + place,
                            "AIC": rng.normal(size=n) + place,
                            "at_bound": rng.random(n) < 0.05,
                        }
                    )
                )
    table = pd.concat(parts, ignore_index=True)
    table[table.select_dtypes("float64").columns] = table.select_dtypes("float64").astype("float32")
    pc.write_csv(pa.Table.from_pandas(table, preserve_index=False), path)
    return len(table)


def one_job(name: str, table: Path, out: Path, results: "multiprocessing.Queue[tuple[float, ...]]") -> None:
    """Run one stage in a process of its own, so that its peak memory is its own."""
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
    if name == "score":
        score.run(ScoreOptions(table=table), out)
    else:
        correlate.run(CorrelateOptions(table=table, model="diff-in", strategy="high-b"), out)
    # ru_maxrss is in KiB on Linux, in bytes on macOS.
    unit = 1024.0**2 if platform.system() == "Darwin" else 1024.0
    now = resource.getrusage(resource.RUSAGE_SELF)
    results.put((time.perf_counter() - start, now.ru_utime - used, now.ru_maxrss / unit))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--cases", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "pairs_voxel.csv"
        rows = write_voxels(table, options.rows, options.cases)
        print(f"{rows} rows of {options.cases} cases, {table.stat().st_size / 2**20:.0f} MiB")
        budget = f"budget {BUDGET_S:.0f} s, {BUDGET_MIB:.0f} MiB"
        print(f"{'stage':<22}{'median s':>10}{'user s':>10}{'peak MiB':>10}   {budget}")
        for name in ("score", "correlate (one model)"):
            found = []
            for repeat in range(options.repeats):
                results = context.Queue()
                job = context.Process(target=one_job, args=(name, table, Path(folder) / f"out{repeat}", results))
                job.start()
                found.append(results.get())
                job.join()
            seconds, user, memory = (float(np.median(column)) for column in zip(*found))
            print(f"{name:<22}{seconds:>10.2f}{user:>10.2f}{memory:>10.0f}")
    packages = ", ".join(f"{name} {version(name)}" for name in ("histomri", "numpy", "pandas", "pyarrow", "scipy"))
    print(f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, {packages}")


if __name__ == "__main__":
    main()
