"""The walker against that of 0.1.0: seconds of CPU per walker, and whether both give the same signals.

One core, the same number of walkers, the three protocols of the presets; the ratios are of one run. Today's walker
serves the three protocols with one walk, and two other permeabilities if asked; that of 0.1.0 walks each on its own.
"""

import argparse
import time

import numba
import numpy as np
from fixed_step_walk import signals as fixed
from machine import describe

from histomri.core.presets import PRESET_NAMES
from histomri.mri import Acquisition
from histomri.simulation import Lattice, Water, walk

D0I, D0E, KAPPA = 1.5, 2.0, 25.0


def main() -> None:
    """Print a row per size and fraction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--walkers", type=int, default=2000)
    parser.add_argument("--diameter", type=float, nargs="*", default=[8.0, 16.0, 22.0, 30.0])
    parser.add_argument("--fraction", type=float, nargs="*", default=[0.4])
    options = parser.parse_args()
    numba.set_num_threads(1)
    protocols = [Acquisition.preset(name) for name in PRESET_NAMES]
    walk(Lattice(16.0, 0.4), protocols, Water(D0I, D0E, KAPPA), walkers=250, jobs=1)  # compiles
    fixed(protocols[1], **_tissue(16.0, 0.4), walkers=100)
    print(describe())
    print("L um    F  us/walker 0.1.0  now  ratio   now with three kappas  rms z of the difference")
    for size in options.diameter:
        for fraction in options.fraction:
            start = time.process_time()
            old = [fixed(each, **_tissue(size, fraction), walkers=options.walkers) for each in protocols]
            middle = time.process_time()
            new = walk(Lattice(size, fraction), protocols, Water(D0I, D0E, KAPPA), walkers=options.walkers, jobs=1)[0]
            end = time.process_time()
            walk(Lattice(size, fraction), protocols, Water(D0I, D0E, KAPPA), walkers=options.walkers, jobs=1,
                 also=[Water(D0I, D0E, kappa) for kappa in (15.0, 40.0)], least_share=0.0)  # fmt: skip
            three = time.process_time() - end
            error = np.concatenate([np.hypot(a[1], b.standard_error) for a, b in zip(old, new)])
            away = np.concatenate([a[0] - b.signals for a, b in zip(old, new)])[error > 0]
            per = 1e6 / options.walkers
            spent = ((middle - start) * per, (end - middle) * per)
            z = np.sqrt(np.mean((away / error[error > 0]) ** 2))
            print(f"{size:4g} {fraction:5.3f} {spent[0]:12.0f} {spent[1]:8.1f} {spent[0] / spent[1]:6.1f}"
                  f" {three * per:14.1f} {z:20.2f}")  # fmt: skip


def _tissue(size: float, fraction: float) -> dict[str, float]:
    return {"diameter_um": size, "fraction": fraction, "d0i_um2_ms": D0I, "d0e_um2_ms": D0E,
            "permeability_um_s": KAPPA}  # fmt: skip


if __name__ == "__main__":
    main()
