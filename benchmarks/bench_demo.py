"""The demo as a whole process: wall time and peak memory of `histomri demo`, stage by stage.

The first run compiles the fitting kernels if they are not in the cache; the others find them there.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import describe


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    print(describe("numba", "scipy", "dipy", "pyarrow"))
    print("data: digital mouse liver, 6 samples, 145,000 to 297,000 cells and 50 DWI volumes each")
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / f"demo{run}" for run in range(runs)]
        seconds = [_timed(place) for place in places]
        out = places[-1]
        again = _timed(out)
        # The peak of the largest child; the demo is one process.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        record = json.loads((out / "study.json").read_text())
    print("\n| run | seconds |\n|---|---|")
    for number, duration in enumerate(seconds, start=1):
        print(f"| {number} | {duration:.1f} |")
    print("\n| stage of the last run | seconds, all samples |\n|---|---|")
    for stage in record["samples"][0]["seconds"]:
        print(f"| {stage} | {sum(sample['seconds'][stage] for sample in record['samples']):.1f} |")
    print(f"\nmedian {np.median(seconds):.1f} s, peak memory {peak:.2f} GiB")
    print(f"again in the folder of the last run, which keeps its stages: {again:.1f} s (simulation included)")


def _timed(out: Path) -> float:
    command = [sys.executable, "-c", "from histomri_cli.app import main; main()", "demo", str(out), "--quiet"]
    started = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
