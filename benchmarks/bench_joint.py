"""Walkers in packed permeable spheres, fitted: bias and correlation of cell size and fraction by permeability.

Usage: python benchmarks/bench_joint.py [DATA]    (the folder with simulated_signals/joint_pgse_signals.npz)

The signals (MATI/JOINT, BSD-2) have diameters 10 to 20 µm at 15 mean residence times, δ 12 ms, 12 diffusion times of 34
to 504 ms and b up to 3000 s/mm²; fin is 0.618 throughout. Diffusion times up to 104 ms are fitted, where the tissue
models may hold, with Rician noise of SNR 50.
"""

import sys
from pathlib import Path

import numpy as np
from machine import describe

from histomri.fitting import MODELS, PAPER_NAMES, fit
from histomri.mri import Acquisition

SNR, REPEATS, LONGEST_MS = 50, 20, 104
CLASSES_UM_S = ((0, 0), (3, 10), (10, 25), (25, 80))
BOUNDS = {"vCS": (4.0, 40.0)}


def read(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, Acquisition]:
    """Return signals (K, M), diameters and permeabilities (K,), and the protocol."""
    stored = np.load(folder / "simulated_signals" / "joint_pgse_signals.npz")
    signals = stored["signal"].reshape(stored["d_um"].size, -1)
    b, delta, separation = (stored[name].ravel().astype(float) for name in ("b_ms_um2", "delta_ms", "Delta_ms"))
    used = separation <= LONGEST_MS
    acquisition = Acquisition(1000 * b[used], delta[used], separation[used])
    return signals[:, used] / signals.max(), stored["d_um"], stored["Pm"], acquisition


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / "simulated_signals").is_dir():
        print(f"no simulated_signals in {folder}: nothing to fit")
        return
    signals, size, permeability, acquisition = read(folder)
    print(describe("numba"))
    rng = np.random.default_rng(1)
    clean = np.repeat(signals, REPEATS, axis=0)
    noise = rng.standard_normal((2, *clean.shape)) / SNR
    noisy = np.hypot(clean + noise[0], noise[1])
    true, crossing = np.repeat(size, REPEATS), np.repeat(1000 * permeability, REPEATS)
    print("\n| model | strategy | permeability, µm/s | bias of vCS, µm | SD, µm | r with size | mean F (true 0.618) |")
    print("|---|---|---|---|---|---|---|")
    for name in PAPER_NAMES:
        for strategy, bmin in (("whole", 900), ("high-b", 1700)):
            maps = fit(noisy, acquisition, name, sigma=1 / SNR, s0=1.0, bmin_smm2=bmin, bounds=BOUNDS).maps
            for low, high in CLASSES_UM_S:
                chosen = (crossing >= low) & (crossing <= high) & (maps["exit"] > 0)
                off = maps["vCS"][chosen] - true[chosen]
                r = np.corrcoef(maps["vCS"][chosen], true[chosen])[0, 1]
                span = f"{low:g} to {high:g}" if high else "0"
                print(
                    f"| {MODELS[name].display_name} | {strategy} | {span} | {off.mean():+.1f} | {off.std():.1f} | "
                    f"{r:.2f} | {maps['F'][chosen].mean():.2f} |"
                )


if __name__ == "__main__":
    main()
