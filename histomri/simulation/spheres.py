"""Random walks in and around permeable spheres on a cubic lattice: signals that no formula gives.

Walkers take steps of fixed length sqrt(6 D dt). At a membrane of permeability kappa they cross with the probability
P_i = P0_i / (1 + (P0_i + P0_e) / 2), P0 = (2/3) kappa step / D, which keeps the concentration even on both sides
(P_i step_i = P_e step_e), and are reflected otherwise. On crossing, the rest of the step is scaled by
sqrt(D_new / D_old). (Fieremans and Lee 2018, doi 10.1016/j.neuroimage.2018.06.046.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numba import njit, prange

from histomri.core.arrays import FloatArray
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, write_json
from histomri.core.kernel_cache import ensure_cache
from histomri.core.progress import Progress, share_of
from histomri.mri import Acquisition, Waveform

ensure_cache()
# What a dictionary calls them: the names that maps have, where there is one.
PARAMETERS = {
    "vCS": "diameter of the spheres, µm",
    "fI": "share of the water in the spheres (their volume fraction)",
    "D0I": "diffusivity in the spheres, µm²/ms",
    "D0E": "diffusivity between the spheres, µm²/ms",
    "permeability": "permeability of the membrane, µm/s",
}
_LARGEST_FRACTION, _LARGEST_CROSSING = np.pi / 6.0, 0.05


@dataclass(frozen=True, repr=False)
class MonteCarlo(Displayed):
    """Signals of a simulation, (M,), with their standard errors."""

    signals: FloatArray  # of all water
    standard_error: FloatArray
    intra: FloatArray  # of the water that started inside the spheres
    intra_error: FloatArray
    extra: FloatArray  # of the water that started outside
    extra_error: FloatArray
    fraction_start: float  # part of the walkers inside, before
    fraction_end: float  # and after; the same, if the membrane is in balance

    def facts(self) -> dict[str, Any]:
        """Return the range of the signals and their largest error."""
        signals = f"{self.signals.size}, {self.signals.min():.3g} to {self.signals.max():.3g}"
        return {"signals": signals, "largest error": f"{self.standard_error.max():.2g}"}


def simulate_permeable_spheres(
    acquisition: Acquisition,
    *, diameter_um: float, fraction: float, d0i_um2_ms: float, d0e_um2_ms: float, permeability_um_s: float = 0.0,
    walkers: int = 50_000, dt_ms: float = 0.02, seed: int = 0,
) -> MonteCarlo:  # fmt: skip
    """Simulate the signals of equal spheres on a cubic lattice.

    The signals are averaged over the gradient along the three axes of the lattice.

    Parameters
    ----------
    acquisition : Acquisition
        Protocol of M volumes.
    diameter_um, fraction : float
        Of the spheres; their volume fraction is at most pi/6 (where they touch).
    d0i_um2_ms, d0e_um2_ms, permeability_um_s : float
        Diffusivities inside and outside, and permeability of the membrane.
    walkers, dt_ms, seed
        Each walker has its own random sequence, so the result does not depend on the number of cores.

    Raises
    ------
    InputError
        If a number is out of range, or the step too long for the permeability or the spheres.
    """
    _check(diameter_um, fraction, (d0i_um2_ms, d0e_um2_ms, dt_ms), permeability_um_s, walkers)
    radius = 0.5 * diameter_um
    edge = diameter_um * (np.pi / (6.0 * fraction)) ** (1.0 / 3.0)
    steps = np.sqrt(6.0 * np.array([d0i_um2_ms, d0e_um2_ms]) * dt_ms)
    raw = (2.0 / 3.0) * 1e-3 * permeability_um_s * steps / np.array([d0i_um2_ms, d0e_um2_ms])
    crossing = raw / (1.0 + 0.5 * raw.sum())
    if crossing.max() > _LARGEST_CROSSING or steps.max() > 0.25 * radius:
        raise InputError(f"time steps of {dt_ms:g} ms are too long for this tissue", hint="choose a smaller dt_ms")
    encodings, index = acquisition.encodings()
    weights = _step_weights([encoding.waveform for encoding in encodings], dt_ms)
    phase, started, ended = _walk(walkers, np.uint64(seed), weights, edge, radius, steps, crossing)
    unit = np.array([encoding.waveform.weighting for encoding in encodings])
    strength = np.where(index >= 0, np.sqrt(1e-3 * acquisition.b_smm2 / np.append(unit, 1.0)[index]), 0.0)
    groups: list[FloatArray] = []
    for chosen in (np.ones(walkers, dtype=bool), started, ~started):
        values = np.array([np.cos(a * phase[chosen, e]).mean(axis=1) for a, e in zip(strength, index)])
        groups += [values.mean(axis=1), values.std(axis=1) / np.sqrt(max(int(chosen.sum()), 1))]
    total, error, intra, intra_error, extra, extra_error = groups
    return MonteCarlo(total, error, intra, intra_error, extra, extra_error, float(started.mean()), float(ended.mean()))


def _check(diameter: float, fraction: float, positive: tuple[float, ...], permeability: float, walkers: int) -> None:
    if not (diameter > 0 and all(value > 0 for value in positive)):
        raise InputError("diameter, diffusivities and time step must be positive numbers")
    if not 0 < fraction <= _LARGEST_FRACTION * (1 + 1e-5):
        problem = f"spheres on a cubic lattice cannot fill {fraction:g} of the volume"
        raise InputError(problem, hint="choose at most pi/6 = 0.5236")
    if not 0 <= permeability < np.inf:
        raise InputError("the permeability must be 0 or more, in µm/s")
    if walkers < 100:
        raise InputError(f"{walkers} walkers are too few for any signal", hint="give thousands")


def _step_weights(waveforms: list[Waveform], dt_ms: float) -> FloatArray:
    """Return the gradient's integral over each step, (steps, E), exact where a pulse begins or ends within one."""
    longest = max(waveform.start_ms[-1] + waveform.duration_ms[-1] for waveform in waveforms)
    edges = dt_ms * np.arange(int(np.ceil(longest / dt_ms - 1e-9)) + 1)
    weights = np.zeros((edges.size - 1, len(waveforms)))
    for e, waveform in enumerate(waveforms):
        for start, duration, amplitude in zip(waveform.start_ms, waveform.duration_ms, waveform.amplitude):
            weights[:, e] += amplitude * np.diff(np.clip(edges, start, start + duration))
    return weights


@njit(cache=True)
def _random(state: Any) -> float:
    """Advance a splitmix64 sequence and return a number in [0, 1)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def _distance(p: Any, d: Any, centre: Any, radius: float, inside: bool) -> Any:
    """Return how far a point is from a sphere's surface along direction d, or -1 if it never meets it."""
    along, squared = 0.0, -radius * radius
    for a in range(3):
        offset = p[a] - centre[a]
        along += offset * d[a]
        squared += offset * offset
    root = along * along - squared
    if root <= 0.0 or (along >= 0.0 and not inside):
        return -1.0
    return -along + np.sqrt(root) if inside else -along - np.sqrt(root)


@njit(cache=True)
def _nearest_hit(
    p: Any, d: Any, reach: float, edge: float, radius: float, inside: bool, centre: Any, hit: Any
) -> float:
    """Return the distance along direction d to the membrane, or -1 if it is farther than `reach`; fill its centre."""
    for a in range(3):
        centre[a] = edge * np.floor(p[a] / edge + 0.5)
    best = _distance(p, d, centre, radius, inside)
    for a in range(3):
        hit[a] = centre[a]
    if not inside:
        # Spheres of the neighbouring cells, where a face is within reach.
        for a in range(3):
            offset = p[a] - centre[a]
            if 0.5 * edge - abs(offset) < reach:
                home = centre[a]
                centre[a] += edge if offset > 0.0 else -edge
                other = _distance(p, d, centre, radius, inside)
                if other >= 0.0 and (best < 0.0 or other < best):
                    best = other
                    for c in range(3):
                        hit[c] = centre[c]
                centre[a] = home
    return best if 0.0 <= best <= reach else -1.0


@njit(cache=True)
def _step(p: Any, state: Any, inside: bool, edge: float, radius: float, steps: Any, crossing: Any, work: Any) -> bool:
    """Move a walker by one step, reflecting or crossing at membranes; return whether it ends inside."""
    d, centre, hit, normal = work[0], work[1], work[2], work[3]
    d[2] = 2.0 * _random(state) - 1.0
    angle, ring = 2.0 * np.pi * _random(state), np.sqrt(1.0 - d[2] * d[2])
    d[0], d[1] = ring * np.cos(angle), ring * np.sin(angle)
    rest = steps[0] if inside else steps[1]
    for _ in range(50):
        distance = _nearest_hit(p, d, rest, edge, radius, inside, centre, hit)
        advance = rest if distance < 0.0 else distance
        for a in range(3):
            p[a] += advance * d[a]
        if distance < 0.0:
            break
        rest -= distance
        across = 0.0
        for a in range(3):
            normal[a] = (p[a] - hit[a]) / radius
            across += d[a] * normal[a]
        side = 0 if inside else 1
        if crossing[side] > 0.0 and _random(state) < crossing[side]:
            rest *= steps[1 - side] / steps[side]
            inside = not inside
        else:
            for a in range(3):
                d[a] -= 2.0 * across * normal[a]
        # Rounding must not leave the walker on the wrong side: put it a hair's breadth within its compartment.
        rim = radius * (1.0 - 1e-9 if inside else 1.0 + 1e-9)
        for a in range(3):
            p[a] = hit[a] + rim * normal[a]
    return inside


@njit(cache=True, parallel=True)
def _walk(
    walkers: int, seed: Any, weights: Any, edge: float, radius: float, steps: Any, crossing: Any
) -> tuple[Any, Any, Any]:
    """Walk all walkers; return phases at unit gradient (walkers, E, 3), and who started and ended inside."""
    n_steps, encodings = weights.shape
    phase = np.zeros((walkers, encodings, 3))
    started = np.zeros(walkers, dtype=np.bool_)
    ended = np.zeros(walkers, dtype=np.bool_)
    for w in prange(walkers):
        state = np.empty(1, dtype=np.uint64)
        state[0] = (seed * np.uint64(0x2545F4914F6CDD1D)) ^ (np.uint64(w + 1) * np.uint64(0xD1342543DE82EF95))
        for _ in range(4):
            _random(state)
        p, before, work = np.empty(3), np.empty(3), np.empty((4, 3))
        for a in range(3):
            p[a] = (_random(state) - 0.5) * edge
        inside = p[0] * p[0] + p[1] * p[1] + p[2] * p[2] < radius * radius
        started[w] = inside
        for t in range(n_steps):
            for a in range(3):
                before[a] = p[a]
            inside = _step(p, state, inside, edge, radius, steps, crossing, work)
            for e in range(encodings):
                for a in range(3):
                    phase[w, e, a] += weights[t, e] * 0.5 * (before[a] + p[a])
        ended[w] = inside
    return phase, started, ended


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
    walkers, dt_ms, seed, progress
        Walkers and seed are of each combination; `progress` is called with the fraction done.

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
