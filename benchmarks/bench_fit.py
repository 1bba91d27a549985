"""Speed of the fit: voxels per second by model, and how many times faster than scipy's trust-constr in the same run.

Usage: python benchmarks/bench_fit.py [--quick]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from machine import describe
from straight_fit import PRESET, SNR, Straight, protocol, simulate

from histomri.fitting import Model
from histomri.fitting.composed_tables import engine_of
from histomri.fitting.models import PAPER_MODELS


def start_up() -> tuple[float, float]:
    """Seconds from a fresh process to the first fit: compiling, and with the compiled code cached."""
    code = (
        "import numpy as np; from histomri.fitting import fit; from histomri.mri import Acquisition; "
        "fit(np.ones((1, 50)), Acquisition.preset('mouse-exvivo'), s0=1.0)"
    )
    times = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(2):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "NUMBA_CACHE_DIR": cache})
            times.append(time.perf_counter() - start)
    return times[0], times[1]


def row(model: Model, voxels: int, straight: int) -> str:
    acquisition = protocol(model.name)
    engine = engine_of(model, acquisition, model.bounds(PRESET))
    echoes = np.exp((acquisition.te_ms - acquisition.te_ms.min()) / 40)
    speeds = []
    for snr, noise, spread in ((None, "none", 1.0), (SNR, "offset-gaussian", 1.0), (SNR, "offset-gaussian", echoes)):
        signals = simulate(model, acquisition, voxels, snr)
        sigma = np.ascontiguousarray(np.broadcast_to(spread / SNR, signals.shape))
        engine.run(signals[:64], sigma[:64], noise)
        start = time.perf_counter()
        out = engine.run(signals, sigma, noise)
        speeds.append(voxels / (time.perf_counter() - start))
    reference = Straight(model, acquisition)
    out = engine.run(signals[:straight], np.full((straight, len(acquisition)), 1 / SNR), "offset-gaussian")
    start = time.perf_counter()
    found = np.array([reference.trust_constr(y) for y in signals[:straight]])
    seconds = (time.perf_counter() - start) / straight
    worse = np.mean(found > out[:, 10] + 1e-3)
    return (
        f"| {model.display_name} | {len(acquisition)} | {speeds[0]:,.0f} | {speeds[1]:,.0f} | {speeds[2]:,.0f} | "
        f"{seconds:.2f} | {seconds * speeds[1]:,.0f} | {100 * worse:.0f} % of {straight} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer voxels; half a minute")
    quick = parser.parse_args().quick
    print(describe("numba", "scipy"))
    cold, warm = start_up()
    print(f"first fit of a fresh process: {cold:.1f} s compiling, {warm:.1f} s with the cached kernels\n")
    print(
        "| model | measurements | voxels/s, no noise | voxels/s, SNR 30 | the same, noise level by echo | "
        "s/voxel trust-constr | times faster | trust-constr worse by > 1e-3 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for model in PAPER_MODELS:
        print(row(model, *((5_000, 3) if quick else (100_000, 24))), flush=True)


if __name__ == "__main__":
    main()
