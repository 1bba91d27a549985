"""Speed and memory of reading cells from GeoJSON, against Python's and orjson's parsers on the same file.

Each job runs in a process of its own, so that its peak memory is its own; the jobs take turns, and time is that of the
processor, because other programs may be busy. The parsers make objects of the file and nothing else, no table.
Memory is the peak of the resident set; a third of it are pages of shared libraries.

Usage: python benchmarks/bench_geojson.py [--cells N] [--measurements M] [--repeats R] [--jobs NAME ..] [--keep FILE]
"""

import argparse
import json
import math
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

JOBS = ("histomri", "histomri, all measurements", "histomri, gz", "orjson.loads", "json.load")


def ring(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
    points = np.round(np.stack([x, y], axis=1), 2).tolist()
    return [*points, points[0]]


def write_cells(path: Path, n: int, n_measurements: int, seed: int = 0) -> None:
    """Write n cells as QuPath 0.5 and later do: outline of 40 corners, nucleus of 30."""
    rng = np.random.default_rng(seed)
    outer, inner = np.linspace(0, 2 * np.pi, 40, endpoint=False), np.linspace(0, 2 * np.pi, 30, endpoint=False)
    names = ["Cell: Area", "Nucleus: Area", *(f"Nucleus: Stain{i}: Mean" for i in range(n_measurements - 2))]

    def polygon(x: float, y: float, far: np.ndarray, angle: np.ndarray) -> dict[str, object]:
        return {"type": "Polygon", "coordinates": [ring(x + far * np.cos(angle), y + far * np.sin(angle))]}

    with path.open("w") as stream:
        stream.write('{"type":"FeatureCollection","features":[')
        for number in range(n):
            x, y, size = rng.uniform(100, 50_000), rng.uniform(100, 30_000), rng.uniform(20, 40)
            far = size * (1 + 0.1 * rng.standard_normal(outer.size))
            near = 0.6 * size * (1 + 0.1 * rng.standard_normal(inner.size))
            values = np.round(rng.uniform(0, 100, n_measurements), 4).tolist()
            feature = {
                "type": "Feature",
                "id": f"{number:08x}-2a77-4a0b-9d0e-5f6e3c1b2a01",
                "geometry": polygon(x, y, far, outer),
                "nucleusGeometry": polygon(x, y, near, inner),
                "properties": {
                    "objectType": "cell",
                    "classification": {"names": ["Tumor", "Positive"], "color": [250, 62, 62]},
                    "measurements": dict(zip(names, values)),
                },
            }
            stream.write((",\n" if number else "") + json.dumps(feature, separators=(",", ":")))
        stream.write("]}")


def job(name: str, path: Path) -> None:
    """Do one job and print its time, its peak memory in MB, and that of the bare imports."""
    if name.startswith("histomri"):
        from histomri.cells import read_cells

        source = path.with_name(path.name + ".gz") if "gz" in name else path
        warm = path.with_name("warm.geojson")
        write_cells(warm, 2, 3)
        read_cells(warm, mpp=0.25)  # imports done, memory counts from here
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        read_cells(source, mpp=0.25, measurements="all" in name)
    else:
        import orjson

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        if name == "json.load":
            with path.open() as stream:
                json.load(stream)
        else:
            orjson.loads(path.read_bytes())
    seconds = time.process_time() - start
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, before / 1024]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=60_000)
    parser.add_argument("--measurements", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jobs", nargs="+", default=JOBS, choices=JOBS)
    parser.add_argument("--keep", type=Path, help="file to read; it is written first if it is not there")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        job(given.job, given.keep)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = given.keep or Path(folder) / "cells.geojson"
        if not path.exists():
            write_cells(path, given.cells, given.measurements)
        if "histomri, gz" in given.jobs:
            subprocess.run(["gzip", "-kf1", str(path)], check=True)
        results: dict[str, list[list[float]]] = {name: [] for name in given.jobs}
        for _ in range(given.repeats):
            for name in given.jobs:
                words = [sys.executable, __file__, "--job", name, "--keep", str(path)]
                answer = subprocess.run(words, capture_output=True, text=True, check=True)
                results[name].append(json.loads(answer.stdout))
        report(path.stat().st_size / 1e6, results)


def report(megabytes: float, results: dict[str, list[list[float]]]) -> None:
    print(f"{megabytes:.0f} MB; {platform.machine()}, {platform.system()}, Python {platform.python_version()}; medians")
    print(f"{'':30}{'s':>8}{'MB/s':>8}{'peak MB':>9}{'above imports':>15}")
    for name, runs in results.items():
        seconds, peak, before = np.median(runs, axis=0)
        print(f"{name:30}{seconds:8.2f}{megabytes / seconds:8.0f}{peak:9.0f}{peak - before:15.0f}")
    ours = np.median(results["histomri"], axis=0)[0] if "histomri" in results else math.nan
    for name in ("orjson.loads", "json.load"):
        if name in results:
            print(f"histomri takes {ours / np.median(results[name], axis=0)[0]:.2f} x the time of {name}")


if __name__ == "__main__":
    main()
