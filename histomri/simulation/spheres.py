"""Signals of permeable spheres for every combination of sizes, fractions, diffusivities and permeabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, write_json
from histomri.core.formulas import without_formulas
from histomri.core.progress import Progress, share_of
from histomri.mri import Acquisition
from histomri.simulation.packing import Distribution, pack_spheres, sphere_diameters
from histomri.simulation.walker.reuse import pilot_error, require_walkers, walk_permeabilities
from histomri.simulation.walker.substrates import Lattice, Packed, Substrate
from histomri.simulation.walker.walk import FINE, MonteCarlo, Water, walk

# What a dictionary calls them: the names that maps have, where there is one.
PARAMETERS = {
    "vCS": "diameter of the spheres, of unequal ones their volume-weighted size, µm",
    "fI": "share of the water in the spheres (their volume fraction)",
    "D0I": "diffusivity in the spheres, µm²/ms",
    "D0E": "diffusivity between the spheres, µm²/ms",
    "permeability": "permeability of the membrane, µm/s",
    "cv": "coefficient of variation of the diameters",
}
Arrangement = Literal["lattice", "random"]
_SPHERES = 400  # in the cube of a random packing


def simulate_permeable_spheres(
    acquisition: Acquisition,
    *, diameter_um: float, fraction: float, d0i_um2_ms: float, d0e_um2_ms: float, permeability_um_s: float = 0.0,
    walkers: int = 50_000, dt_ms: float = 1.0, seed: int = 0, fine: float = FINE,
) -> MonteCarlo:  # fmt: skip
    """Simulate the signals of equal spheres on a cubic lattice.

    The signals are averaged over the gradient along the three axes of the lattice.

    Parameters
    ----------
    acquisition : Acquisition
        Protocol of M volumes, of any gradient waveforms.
    diameter_um, fraction : float
        Of the spheres; their volume fraction is at most pi/6 (where they touch).
    d0i_um2_ms, d0e_um2_ms, permeability_um_s : float
        Diffusivities inside and outside, and permeability of the membrane.
    walkers, seed
        Each walker has its own random sequence, so the result does not depend on the number of cores.
    dt_ms, fine : float
        Longest step, and smallest step beside a membrane as a fraction of the radius. Between them the distance from
        the nearest membrane decides.

    Raises
    ------
    InputError
        If a number is out of range.

    Examples
    --------
    >>> from histomri.mri import Acquisition
    >>> from histomri.simulation import simulate_permeable_spheres
    >>> tissue = {'diameter_um': 16, 'fraction': 0.4, 'd0i_um2_ms': 1.5, 'd0e_um2_ms': 2.0, 'permeability_um_s': 25}
    >>> result = simulate_permeable_spheres(Acquisition([1200], 18.2, 31.8), **tissue, walkers=1000)
    >>> bool(abs(result.signals[0] - 0.35) < 4 * result.standard_error[0])
    True
    """
    water = Water(d0i_um2_ms, d0e_um2_ms, permeability_um_s)
    settings = {"walkers": walkers, "seed": seed, "longest_ms": dt_ms, "fine": fine}
    return walk(Lattice(diameter_um, fraction), [acquisition], water, **settings)[0][0]  # type: ignore[arg-type]


@dataclass(frozen=True, repr=False)
class SphereSignals(Displayed):
    """Simulated signals of K kinds of spheres."""

    parameters: pd.DataFrame  # (K, 6) with the columns `PARAMETERS`
    signals: FloatArray  # (K, M) of all water, 1 at b = 0
    standard_error: FloatArray  # (K, M) from the finite number of walkers
    settings: dict[str, Any]  # walkers, steps, seed, arrangement and relaxation

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
            without_formulas(self.parameters[varies]).to_csv(part, index=False)
        fixed = {name: float(self.parameters[name].iloc[0]) for name in self.parameters if name not in varies}
        sidecar = {
            "Description": "Random walks in and around permeable spheres, a row per kind",
            "Columns": {name: PARAMETERS[name] for name in varies},
            "Fixed": fixed,
            **provenance(parameters=self.settings),
        }
        return [*written, folder / "params.csv", write_json(folder / "params.json", sidecar)]


def simulate_sphere_signals(
    acquisition: Acquisition,
    *, diameters_um: Sequence[float], fractions: Sequence[float], d0i_um2_ms: Sequence[float] = (2.0,),
    d0e_um2_ms: Sequence[float] = (2.0,), permeabilities_um_s: Sequence[float] = (0.0,), cvs: Sequence[float] = (0.0,),
    arrangement: Arrangement = "lattice", distribution: Distribution = "gamma", t2i_ms: float | None = None,
    t2e_ms: float | None = None, walkers: int = 20_000, standard_error: float | None = None, dt_ms: float = 1.0,
    fine: float = FINE, seed: int = 0, jobs: int | None = None, progress: Progress | None = None,
) -> SphereSignals:  # fmt: skip
    """Simulate every combination of the given sizes, fractions, diffusivities and permeabilities.

    Permeabilities share walks where their standard errors allow it; see `walk_permeabilities`.

    Parameters
    ----------
    acquisition : Acquisition
        Protocol of M volumes.
    diameters_um, fractions, d0i_um2_ms, d0e_um2_ms, permeabilities_um_s, cvs : sequence of float
        Values to combine; see `simulate_permeable_spheres`. cvs are coefficients of variation of the diameters, whose
        volume-weighted size is then diameters_um.
    arrangement : {"lattice", "random"}
        Equal spheres on a cubic lattice, or spheres packed at random.
    distribution : {"gamma", "lognormal"}
        Of diameters that vary.
    t2i_ms, t2e_ms : float, optional
        Relaxation times in and between the spheres; signals are then those of the echo times of the protocol.
    walkers, dt_ms, fine, seed, jobs, progress
        Walkers and seed are of each combination; jobs is a number of threads, which changes no result; `progress` is
        called with the fraction done.
    standard_error : float, optional
        If some signals would not reach it with so many walkers, the error says so before the walks begin.

    Raises
    ------
    InputError
        If no values are given for a parameter, some are out of range, spheres do not pack, or walkers are too few.
    """
    lists = (diameters_um, fractions, d0i_um2_ms, d0e_um2_ms, permeabilities_um_s, cvs)
    for name, values in zip(PARAMETERS, lists):
        if len(values) == 0 or len(set(values)) != len(values):
            raise InputError(f"{name} needs one or more different values, and has {list(values)}")
    if arrangement == "lattice" and any(cvs):
        raise InputError("spheres of unequal size fit on no lattice", hint="choose the random arrangement")
    tissues = _substrates(diameters_um, fractions, cvs, arrangement, distribution, seed)
    rows = list(product(tissues.items(), d0i_um2_ms, d0e_um2_ms))
    settings: dict[str, Any] = {"walkers": walkers, "fine": fine, "longest_ms": dt_ms, "jobs": jobs}
    if standard_error is not None:
        pilot = {"seed": seed, "fine": fine, "longest_ms": dt_ms, "jobs": jobs}
        largest = max(
            pilot_error(each, [acquisition], Water(d0i, d0e, 0.0, t2i_ms, t2e_ms), permeabilities_um_s, **pilot)
            for (_, each), d0i, d0e in rows
        )
        require_walkers(largest, walkers, standard_error)
    seeds, report = np.random.SeedSequence(seed).generate_state(len(rows), np.uint64), share_of(progress)
    found, kinds = list[MonteCarlo](), list[tuple[float, ...]]()
    for n, (((diameter, _, cv), substrate), d0i, d0e) in enumerate(rows):
        water = Water(d0i, d0e, t2i_ms=t2i_ms, t2e_ms=t2e_ms)
        results = walk_permeabilities(
            substrate, [acquisition], water, permeabilities_um_s, seed=int(seeds[n]), **settings
        )
        found += [one for (one,) in results]
        kinds += [(diameter, round(substrate.fraction, 4), d0i, d0e, kappa, cv) for kappa in permeabilities_um_s]
        report((n + 1) / len(rows))
    about = {
        "walkers": walkers, "dt_ms": dt_ms, "fine": fine, "seed": seed, "arrangement": arrangement,
        "distribution": distribution if any(cvs) else None, "t2i_ms": t2i_ms, "t2e_ms": t2e_ms,
    }  # fmt: skip
    signals, errors = (np.array([getattr(one, name) for one in found]) for name in ("signals", "standard_error"))
    return SphereSignals(pd.DataFrame(kinds, columns=list(PARAMETERS)), signals, errors, about)


def _substrates(
    diameters_um: Sequence[float], fractions: Sequence[float], cvs: Sequence[float], arrangement: Arrangement,
    distribution: Distribution, seed: int,
) -> dict[tuple[float, float, float], Substrate]:  # fmt: skip
    """Return the substrates by diameter, fraction and CV; all of them, so that one that does not pack ends it early."""
    found: dict[tuple[float, float, float], Substrate] = {}
    for diameter, fraction, cv in product(diameters_um, fractions, cvs):
        if arrangement == "lattice":
            found[diameter, fraction, cv] = Lattice(diameter, fraction)
            continue
        rng = np.random.default_rng([seed, 1])
        sizes = sphere_diameters(_SPHERES, vcs_um=diameter, cv=cv, rng=rng, distribution=distribution)
        found[diameter, fraction, cv] = Packed(pack_spheres(sizes, fraction, seed=seed))
    return found
