"""Walk the library of signals that `library` reads: `python -m histomri.simulation.make_library FOLDER`.

It takes about twenty minutes on two cores. Finished walks stay in FOLDER, so it can be stopped; at the end FOLDER holds
walked.npz, which belongs into histomri/simulation/data.
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy.stats import qmc

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance
from histomri.core.presets import PRESET_NAMES
from histomri.mri import Acquisition

from .library import RANGES, scaled, terms
from .packing import pack_spheres, sphere_diameters
from .walker.substrates import Packed
from .walker.walk import Water, walk

TISSUES, TESTS, WALKERS, SPHERES, SEED = 480, 32, 4000, 400, 1
# 1/T2I - 1/T2E, 1/ms: any number of them from one walk.
_RATES = (0.0, 0.006, 0.014, 0.024)


def main(folder: Path) -> Path:
    """Walk all tissues, fit the polynomials, test them, and write walked.npz."""
    protocols = {name: Acquisition.preset(name) for name in PRESET_NAMES}
    design = _design(TISSUES + TESTS)
    for number in range(len(design)):
        path = folder / f"tissue_{number:04d}.npz"
        if not path.exists():
            found = _walk(design[number], list(protocols.values()), number)
            with atomic_path(path) as part, part.open("wb") as file:
                np.savez(file, **found)  # type: ignore[arg-type]
        print(f"{number + 1} of {len(design)}", end="\r", flush=True)
    return _write(folder, design, protocols)


def _design(number: int) -> FloatArray:
    """Return tissues spread evenly over the ranges, (number, 6); sizes evenly over their logarithm."""
    low, high = np.array([(np.log(low), np.log(high)) if name == "vcs_um" else (low, high)
                          for name, (low, high) in list(RANGES.items())[:-1]]).T  # fmt: skip
    points = low + (high - low) * qmc.Sobol(low.size, seed=SEED).random(number)
    points[:, 2] = np.exp(points[:, 2])
    points[::8, 5] = 0.0  # closed membranes are a case of their own
    return np.asarray(points)


def _walk(tissue: FloatArray, acquisitions: list[Acquisition], number: int) -> dict[str, FloatArray]:
    """Return signals and standard errors of one tissue by protocol, (rates, M)."""
    fraction, cv, vcs, d0i, d0e, kappa = tissue.tolist()
    rng = np.random.default_rng([SEED, number])
    packing = pack_spheres(sphere_diameters(SPHERES, vcs_um=vcs, cv=cv, rng=rng, largest=None), fraction, seed=number)
    waters = [Water(d0i, d0e, kappa, 1.0 / rate if rate else np.inf, np.inf) for rate in _RATES]
    results = walk(Packed(packing), acquisitions, waters[0], also=waters[1:], walkers=WALKERS, seed=number)
    found = {"fraction": np.array(packing.fraction)}
    for i in range(len(acquisitions)):
        found[f"signals{i}"] = np.array([one[i].signals for one in results])
        found[f"errors{i}"] = np.array([one[i].standard_error for one in results])
    return found


def _write(folder: Path, design: FloatArray, protocols: dict[str, Acquisition]) -> Path:
    walks = [np.load(folder / f"tissue_{number:04d}.npz", allow_pickle=False) for number in range(len(design))]
    design = design.copy()
    design[:, 0] = [walk["fraction"] for walk in walks]
    rows = np.column_stack([np.repeat(design, len(_RATES), axis=0), np.tile(_RATES, len(design))])
    features, used = terms(scaled(rows)), np.repeat(np.arange(len(design)) < TISSUES, len(_RATES))
    content: dict[str, FloatArray | str] = {}
    agreement = {}
    for i, (name, acquisition) in enumerate(protocols.items()):
        signals, errors = (np.concatenate([walk[f"{what}{i}"] for walk in walks]) for what in ("signals", "errors"))
        found = np.column_stack([_fitted(features[used], s[used], e[used]) for s, e in zip(signals.T, errors.T)])
        away = np.exp(-features[~used] @ found) - signals[~used]
        noise = float(np.sqrt(np.mean(errors[~used] ** 2)))
        agreement[name] = {"rms": float(np.sqrt(np.mean(away**2))), "rms_of_the_walks": noise,
                           "bias": float(away.mean())}  # fmt: skip
        if acquisition.te_ms is None:
            raise InputError(f"the protocol {name} has no echo times")
        content |= {f"{name}_coefficients": found, f"{name}_te_ms": np.asarray(acquisition.te_ms)}
    settings = {"tissues": TISSUES, "tests": TESTS, "walkers": WALKERS, "spheres": SPHERES, "seed": SEED}
    content["about"] = json.dumps({**agreement, **provenance(parameters=settings)})
    with atomic_path(folder / "walked.npz") as part, part.open("wb") as file:
        np.savez_compressed(file, **content)  # type: ignore[arg-type]
    print("\n" + json.dumps(agreement, indent=1))
    return folder / "walked.npz"


def _fitted(features: FloatArray, signal: FloatArray, error: FloatArray) -> FloatArray:
    """Return the coefficients of -ln S: least squares in S, to first order, with the errors of the walks."""
    if np.all(signal == 1.0):
        return np.zeros(features.shape[1])
    weight = signal / np.hypot(error, 1e-3)
    target = -np.log(np.maximum(signal, 1e-3))
    return np.asarray(np.linalg.lstsq(features * weight[:, None], target * weight, rcond=1e-10)[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
