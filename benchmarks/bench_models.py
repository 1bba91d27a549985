"""Which model for which protocol and level: every model and strategy, fitted to walked tissue of known size.

Usage: python benchmarks/bench_models.py [TISSUES]    (for each permeability; 150 if left out)

Tissues are spheres of unequal size packed at random, F .20 to .60, vCS 10 to 26 µm, D0I 1 to 2 and D0E 1.6 to 2.8
µm²/ms, one T2, permeable by 0, 10, 25 and 50 µm/s. Levels are the noise-corrected mean of 200 voxels at SNR 30, and
single voxels at SNR 30. TCS is the correlation of vCS with the truth plus that of F, within a permeability; then the
mean over the four. Differences of less than 0.15 between regions say nothing. Biases are given by permeability too.
"""

import sys

import numpy as np
from machine import describe

from histomri.fitting import MODELS, fit
from histomri.mri import Acquisition
from histomri.simulation.library import PackedTissue, walked_signals

SNR, REGION, COPIES = 30, 200, 4
PERMEABILITIES = (0.0, 10.0, 25.0, 50.0)
NEVER = 1e9  # ms: no relaxation


def tissues(count: int, permeability: float, rng: np.random.Generator) -> PackedTissue:
    """Return random tissues of one permeability."""
    between = {
        "fraction": (0.2, 0.6), "cv": (0.1, 0.3), "vcs_um": (10, 26), "d0i_um2_ms": (1, 2), "d0e_um2_ms": (1.6, 2.8),
    }  # fmt: skip
    values = {name: rng.uniform(*ends, count) for name, ends in between.items()}
    return PackedTissue(**values, permeability_um_s=np.full(count, permeability), t2i_ms=NEVER, t2e_ms=NEVER)


def measured(clean: np.ndarray, level: str, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Return noisy signals and their noise level: of single voxels, or means of regions."""
    count = REGION if level == "region" else COPIES
    noise = rng.standard_normal((2, len(clean), count, clean.shape[1])) / SNR
    voxels = np.hypot(clean[:, None] + noise[0], noise[1])
    if level == "voxel":
        return voxels.reshape(-1, clean.shape[1]), 1 / SNR
    return np.sqrt(np.maximum((voxels**2).mean(axis=1) - 2 / SNR**2, 0.0)), 1 / SNR / np.sqrt(REGION)


def score(maps: dict[str, np.ndarray], tissue: PackedTissue) -> tuple[float, ...]:
    """Return TCS, root mean square error and bias of vCS, bias of F, and the share at a bound."""
    copies = maps["vCS"].size // tissue.fraction.size
    size, f = (np.repeat(each, copies) for each in (tissue.vcs_um, tissue.fraction))
    off, tcs = maps["vCS"] - size, 0.0
    for estimate, truth in ((maps["vCS"], size), (maps["F"], f)):
        tcs += float(np.corrcoef(estimate, truth)[0, 1]) if np.ptp(estimate) > 0 else 0.0
    return tcs, float(np.sqrt(np.mean(off**2))), off.mean(), (maps["F"] - f).mean(), np.mean(maps["exit"] == 2)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 150
    print(describe("numba"))
    # Models with a T2 for each compartment are for raw signals of tissue that has two.
    names = [name for name, model in MODELS.items() if "T2I" not in model.parameters]
    for level in ("region", "voxel"):
        for preset in ("mouse-exvivo", "invivo-3t", "invivo-1.5t"):
            rng, acquisition = np.random.default_rng(1), Acquisition.preset(preset)
            samples = [tissues(count, each, rng) for each in PERMEABILITIES]
            data = [measured(walked_signals(each, acquisition), level, rng) for each in samples]
            print(f"\n{preset}, {level}\n")
            print("| model | strategy | TCS | rms vCS, µm | bias vCS, µm | bias F | at a bound |")
            print("|---|---|---|---|---|---|---|")
            biases: dict[str, np.ndarray] = {}
            for name in names:
                for strategy in ("whole", "high-b"):
                    try:
                        found = [
                            fit(signals, acquisition, name, preset=preset, strategy=strategy, sigma=sigma, s0=1.0,
                                robust="none").maps
                            for signals, sigma in data
                        ]  # fmt: skip
                    except ValueError as error:  # too few measurements for so many parameters
                        print(f"| {name} | {strategy} | {error} | | | | |")
                        continue
                    each = np.array([score(maps, tissue) for maps, tissue in zip(found, samples)])
                    row = each.mean(axis=0)
                    biases[f"| {name} | {strategy} |"] = each[:, 2:4].T
                    numbers = f"{row[0]:.2f} | {row[1]:.1f} | {row[2]:+.1f} | {row[3]:+.2f} | {row[4]:.0%}"
                    print(f"| {name} | {strategy} | {numbers} |", flush=True)
            print(f"\nbias at {', '.join(f'{each:g}' for each in PERMEABILITIES)} µm/s\n")
            print("| model | strategy | vCS, µm | F |\n|---|---|---|---|")
            for title, (size, f) in biases.items():
                print(title, ", ".join(f"{x:+.1f}" for x in size), "|", ", ".join(f"{x:+.2f}" for x in f), "|")


if __name__ == "__main__":
    main()
