"""Signals of many kinds of permeable spheres: a dictionary for the fit of tissue that no formula describes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, write_json
from histomri.core.progress import Progress, share_of
from histomri.mri import Acquisition

from .montecarlo import simulate_permeable_spheres

# What a dictionary calls them: the names that maps have, where there is one.
PARAMETERS = {
    "vCS": "diameter of the spheres, µm",
    "fI": "share of the water in the spheres (their volume fraction)",
    "D0I": "diffusivity in the spheres, µm²/ms",
    "D0E": "diffusivity between the spheres, µm²/ms",
    "permeability": "permeability of the membrane, µm/s",
}


@dataclass(frozen=True, repr=False)
class SphereSignals(Displayed):
    """Simulated signals of K kinds of spheres."""

    parameters: pd.DataFrame  # (K, 5) vCS (diameter, µm), fI, D0I, D0E (µm²/ms) and permeability (µm/s)
    signals: FloatArray  # (K, M) of all water, 1 at b = 0
    standard_error: FloatArray  # (K, M) from the finite number of walkers
    settings: dict[str, float]  # walkers, time step and seed

    def facts(self) -> dict[str, Any]:
        """Return numbers of kinds and measurements, and the largest error."""
        kinds, measurements = self.signals.shape
        return {"kinds": kinds, "measurements": measurements, "largest error": f"{self.standard_error.max():.2g}"}

    def save(self, folder: str | Path) -> list[Path]:
        """Write signals.npy, signals_se.npy and params.csv, which holds the parameters that vary, and a sidecar."""
        folder = Path(folder)
        written = []
        for name, values in (("signals.npy", self.signals), ("signals_se.npy", self.standard_error)):
            with atomic_path(folder / name) as part, part.open("wb") as file:
                np.save(file, values, allow_pickle=False)
            written.append(folder / name)
        varies = [name for name in self.parameters if self.parameters[name].nunique() > 1]
        with atomic_path(folder / "params.csv") as part:
            self.parameters[varies].to_csv(part, index=False)
        fixed = {name: float(self.parameters[name].iloc[0]) for name in self.parameters if name not in varies}
        sidecar = {
            "Description": "Random walks in and around permeable spheres on a cubic lattice, a row per kind",
            "Columns": {name: PARAMETERS[name] for name in varies},
            "Fixed": fixed,
            **provenance(parameters=self.settings),
        }
        return [*written, folder / "params.csv", write_json(folder / "params.json", sidecar)]


def simulate_sphere_signals(
    acquisition: Acquisition,
    *, diameters_um: Sequence[float], fractions: Sequence[float], d0i_um2_ms: Sequence[float] = (2.0,),
    d0e_um2_ms: Sequence[float] = (2.0,), permeabilities_um_s: Sequence[float] = (0.0,),
    walkers: int = 20_000, dt_ms: float = 0.02, seed: int = 0, progress: Progress | None = None,
) -> SphereSignals:  # fmt: skip
    """Simulate every combination of the given sizes, fractions, diffusivities and permeabilities.

    Parameters
    ----------
    acquisition : Acquisition
        Protocol of M volumes.
    diameters_um, fractions, d0i_um2_ms, d0e_um2_ms, permeabilities_um_s : sequence of float
        Values to combine; see `simulate_permeable_spheres`.
    walkers, dt_ms, seed
        Of each combination, which has a random sequence of its own.
    progress : callable, optional
        Called with the fraction done.

    Raises
    ------
    InputError
        If no values are given for a parameter, or some are out of range.
    """
    lists = (diameters_um, fractions, d0i_um2_ms, d0e_um2_ms, permeabilities_um_s)
    for name, values in zip(PARAMETERS, lists):
        if len(values) == 0 or len(set(values)) != len(values):
            raise InputError(f"{name} needs one or more different values, and has {list(values)}")
    rows, report = list(product(*lists)), share_of(progress)
    seeds = np.random.SeedSequence(seed).generate_state(len(rows), np.uint64)
    signals, errors = np.empty((len(rows), len(acquisition))), np.empty((len(rows), len(acquisition)))
    for n, ((diameter, fraction, d0i, d0e, permeability), own) in enumerate(zip(rows, seeds)):
        result = simulate_permeable_spheres(
            acquisition, diameter_um=diameter, fraction=fraction, d0i_um2_ms=d0i, d0e_um2_ms=d0e,
            permeability_um_s=permeability, walkers=walkers, dt_ms=dt_ms, seed=int(own),
        )  # fmt: skip
        signals[n], errors[n] = result.signals, result.standard_error
        report((n + 1) / len(rows))
    settings = {"walkers": walkers, "dt_ms": dt_ms, "seed": seed}
    return SphereSignals(pd.DataFrame(rows, columns=list(PARAMETERS)), signals, errors, settings)
