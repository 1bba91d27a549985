"""Time of the fit by model over that of another checkout, in turns in one run, and how far apart the results are.

Usage: python benchmarks/fit_ratio.py OTHER_CHECKOUT [--voxels 2000]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]
ROUNDS = 3
CODE = """
import sys, time
import numpy as np
from histomri.fitting import fit, fit_t2ivim, predict
from histomri.mri import Acquisition
models = ("diff-in", "diff-in-ex", "diff-in-ex-fast", "diff-in-extd", "diff-in-extd-fast")
rng, found = np.random.default_rng(1), {}
count = int(sys.argv[2])
for preset in ("mouse-exvivo", "invivo-3t"):
    scan = Acquisition.preset(preset)
    tissue = {"fI": (0.1, 0.9), "D0I": (0.8, 2.6), "vCS": (8, 40), "DEinf": (0.8, 2.6), "beta": (0, 10)}
    signals = predict("diff-in-extd", {name: rng.uniform(*pair, count) for name, pair in tissue.items()}, scan)
    signals[:, scan.is_b0] = 1
    signals = np.hypot(*(rng.standard_normal((2, *signals.shape)) / 30 + np.stack([signals, 0 * signals])))
    for model in models:
        def run(some):
            return fit(some, scan, model, sigma=1 / 30, preset=preset, s0=1.0, robust="none").maps
        run(signals[:8])
        start = time.process_time()
        maps = run(signals)
        found[f"{preset}/{model}/time"] = time.process_time() - start
        for name in ("cost", "vCS", "fI"):
            found[f"{preset}/{model}/{name}"] = maps[name]
    raw = signals * np.exp(-scan.te_ms / 50)
    fit_t2ivim(raw[:8], scan, preset=preset)
    start = time.process_time()
    found[f"{preset}/t2ivim/cost"] = fit_t2ivim(raw, scan, preset=preset).maps["cost"]
    found[f"{preset}/t2ivim/time"] = time.process_time() - start
np.savez(sys.argv[1], **found)
"""


def measure(checkout: Path, out: Path, voxels: int) -> dict[str, np.ndarray]:
    """Fit with the program of a checkout, in a process of its own on one core."""
    one = {name: "1" for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    where = {**os.environ, **one, "PYTHONPATH": str(checkout)}
    subprocess.run([sys.executable, "-c", CODE, str(out), str(voxels)], check=True, env=where, cwd=checkout)
    with np.load(out) as stored:
        return dict(stored)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path)
    parser.add_argument("--voxels", type=int, default=2000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.npz"
        pairs = [
            (measure(given.other.resolve(), out, given.voxels), measure(HERE, out, given.voxels)) for _ in range(ROUNDS)
        ]
    print("| protocol | model | other, us/voxel | this, us/voxel | times faster | cost, vCS, fI differ by > 1e-9 |")
    print("|---|---|---|---|---|---|")
    for key in (name for name in pairs[0][1] if name.endswith("/time")):
        old, new = (min(float(pair[k][key]) for pair in pairs) / given.voxels * 1e6 for k in (0, 1))
        preset, model, _ = key.split("/")
        apart = [
            float(np.mean(np.abs(pairs[0][0][name] - pairs[0][1][name]) > 1e-9 * np.abs(pairs[0][0][name])))
            for name in (f"{preset}/{model}/{each}" for each in ("cost", "vCS", "fI"))
            if name in pairs[0][1]
        ]
        shares = ", ".join(f"{100 * share:.2f} %" for share in apart)
        print(f"| {preset} | {model} | {old:.1f} | {new:.1f} | {old / new:.2f} | {shares} |")


if __name__ == "__main__":
    main()
