"""Memory and time of a whole run: 1,000,000 voxels x 21 volumes from NIfTI to maps, and with a mask of 1 %.

Usage: python benchmarks/bench_fit_memory.py [--edge 100] [--all]
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from machine import describe

from histomri.fitting import predict
from histomri.mri import Acquisition

BODY = "invivo-3t"


def write_scan(folder: Path, edge: int) -> None:
    """Write a scan of cells of 12 to 20 µm with noise, and a mask of the hundredth part, slab by slab."""
    acquisition, rng = Acquisition.preset(BODY), np.random.default_rng(1)
    signals = np.empty((edge, edge, edge, len(acquisition)), np.float32)
    for i in range(edge):
        truth = {"fI": rng.uniform(0.4, 0.8, edge**2), "D0I": 1.5, "vCS": rng.uniform(12, 20, edge**2), "DEinf": 2.2}
        tissue = predict("diff-in-ex", truth, acquisition) * np.exp(-acquisition.te_ms / 45)
        blood = np.exp(-acquisition.b_smm2 / 1000 * 30 - acquisition.te_ms / 200)
        clean = 1000 * (0.1 * blood + 0.9 * tissue)
        noise = 4 * rng.standard_normal((2, *clean.shape))
        signals[i] = np.hypot(clean + noise[0], noise[1]).reshape(edge, edge, -1)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    nib.save(nib.Nifti1Image(signals, affine), folder / "dwi.nii.gz")
    mask = np.zeros((edge,) * 3, np.uint8)
    mask[edge // 2] = 1
    nib.save(nib.Nifti1Image(mask, affine), folder / "mask.nii.gz")


def fit(folder: str, masked: bool, t2ivim: bool) -> None:
    """Run once and print seconds and the peak of memory: the work of a process of its own."""
    from histomri.fitting import FitRun
    from histomri.fitting.options import FitOptions

    start = time.perf_counter()
    place = Path(folder)
    options = FitOptions(
        dwi=place / "dwi.nii.gz", protocol=BODY, sigma=4.0, models=("diff-in",), strategies=("whole",),
        mask=place / "mask.nii.gz" if masked else None, t2ivim=t2ivim,
    )  # fmt: skip
    FitRun.plan(options, place / f"out{masked}{t2ivim}").fit().write()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"{time.perf_counter() - start:.1f} s | {peak:.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=100, help="voxels along each axis")
    parser.add_argument("--all", action="store_true", help="T2-IVIM of all voxels too: three minutes more")
    parser.add_argument("--one", nargs=3, metavar=("FOLDER", "MASKED", "T2IVIM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        fit(options.one[0], options.one[1] == "True", options.one[2] == "True")
        return
    print(describe("numba", "nibabel"))
    with tempfile.TemporaryDirectory() as folder:
        write_scan(Path(folder), options.edge)
        print("\n| voxels fitted | steps | whole run | peak memory |\n|---|---|---|---|")
        runs = [(True, False), (False, False), (True, True)] + ([(False, True)] if options.all else [])
        for masked, t2ivim in runs:
            command = [sys.executable, __file__, "--one", folder, str(masked), str(t2ivim)]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]
            count = options.edge**2 if masked else options.edge**3
            print(f"| {count:,} | {'T2-IVIM and ' if t2ivim else ''}Diff-in | {found} |", flush=True)


if __name__ == "__main__":
    main()
