"""Is the objective as low as it can be? Random voxels of every model against many-start descents of another kind.

The reference is the lowest of many Levenberg-Marquardt descents from random starts, in numpy with derivatives by
differences, on tables of its own: it shares neither starts, nor derivatives, nor stopping with the engine.

Usage: python benchmarks/bench_fit_optimum.py [--voxels 5000] [--starts 6]
"""

import argparse

import numpy as np
from machine import describe
from straight_fit import PRESET, SNR, Straight, protocol, simulate

from histomri.fitting import Model
from histomri.fitting.composed_tables import engine_of
from histomri.fitting.dictionary import descend
from histomri.fitting.models import PAPER_MODELS


def reference(model: Model, y: np.ndarray, sigma: np.ndarray, noise: str, starts: int) -> np.ndarray:
    """Return the lowest objective of each voxel over all starts."""
    straight, rng = Straight(model, protocol(model.name)), np.random.default_rng(7)
    best = np.full(y.shape[0], np.inf)
    for _ in range(starts):
        start = rng.uniform(0.02, 0.98, (y.shape[0], straight.lower.size))
        best = np.minimum(best, descend(straight.signals, y, sigma, noise, start)[1])
    return best


def row(model: Model, voxels: int, starts: int) -> str:
    acquisition, cells = protocol(model.name), []
    engine = engine_of(model, acquisition, model.bounds(PRESET))
    for snr, noise, tolerance in ((None, "none", 1e-8), (SNR, "offset-gaussian", 1e-3)):
        y = simulate(model, acquisition, voxels, snr, seed=11)
        sigma = np.full(y.shape, 1 / SNR)
        ours, best = engine.run(y, sigma, noise)[:, 10], reference(model, y, sigma, noise, starts)
        cells += [f"{100 * np.mean(ours <= best + tolerance):.2f}", f"{100 * np.mean(best <= ours + tolerance):.1f}"]
    return f"| {model.display_name} | {len(acquisition)} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxels", type=int, default=5000)
    parser.add_argument("--starts", type=int, default=6)
    options = parser.parse_args()
    print(describe("numba", "scipy"))
    print(
        f"{options.voxels} voxels per model, {options.starts} random starts; not worse: within 1e-8 of the sum of "
        "squares without noise, 1e-3 of half chi² at SNR 30\n"
    )
    print("| model | measurements | engine not worse, no noise, % | starts not worse, % | engine, SNR 30 | starts |")
    print("|---|---|---|---|---|---|")
    for model in PAPER_MODELS:
        print(row(model, options.voxels, options.starts), flush=True)


if __name__ == "__main__":
    main()
