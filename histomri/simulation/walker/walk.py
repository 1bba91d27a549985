"""Signals of water that walks through permeable tissue, with standard errors: no formula of a fitted model is used."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.progress import Progress, share_of
from histomri.mri import Acquisition

from .kernels import RECORD
from .plan import Plan, make_plan
from .substrates import Compiled, Substrate
from .sums import SUMS, add_up

_CHUNK = 250  # walkers that are recorded before they are added up; sums are taken in their order, whatever the cores
LEAST_SHARE = 0.3
FINE = 0.08


@dataclass(frozen=True)
class Water:
    """How water moves and relaxes.

    Attributes
    ----------
    d0i_um2_ms, d0e_um2_ms : float
        Diffusivities inside and outside the cells.
    permeability_um_s : float
        Of the membranes.
    t2i_ms, t2e_ms : float or None
        Relaxation times inside and outside; None if the echo time has no effect.
    """

    d0i_um2_ms: float
    d0e_um2_ms: float
    permeability_um_s: float = 0.0
    t2i_ms: float | None = None
    t2e_ms: float | None = None

    def __post_init__(self) -> None:
        for name in ("d0i_um2_ms", "d0e_um2_ms"):
            if not 0 < getattr(self, name) < np.inf:
                raise InputError(f"{name} = {getattr(self, name)!r} is no diffusivity", hint="give a positive number")
        if not 0 <= self.permeability_um_s < np.inf:
            raise InputError("the permeability must be 0 or more, in µm/s")
        if (self.t2i_ms is None) != (self.t2e_ms is None):
            raise InputError("T2 is given for one side of the membranes", hint="give both T2, or neither")
        for name in ("t2i_ms", "t2e_ms"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise InputError(f"{name} = {value!r} is no relaxation time", hint="give a positive number of ms")


@dataclass(frozen=True, repr=False)
class MonteCarlo(Displayed):
    """Signals of a simulation, (M,), with their standard errors."""

    signals: FloatArray  # of all water
    standard_error: FloatArray
    intra: FloatArray  # of the water that starts inside the cells
    intra_error: FloatArray
    extra: FloatArray  # of the water that starts outside
    extra_error: FloatArray
    fraction_start: float  # part of the water inside, before
    fraction_end: float  # and after; the same, if the membrane is in balance
    effective_share: float = 1.0  # of the walkers, where they were walked with another permeability

    def facts(self) -> dict[str, Any]:
        """Return the range of the signals and their largest error."""
        signals = f"{self.signals.size}, {self.signals.min():.3g} to {self.signals.max():.3g}"
        return {"signals": signals, "largest error": f"{self.standard_error.max():.2g}"}


def walk(
    substrate: Substrate, acquisitions: Sequence[Acquisition], water: Water, *,
    also: Sequence[Water] = (), walkers: int = 20_000, seed: int = 0, fine: float = FINE, longest_ms: float = 1.0,
    jobs: int | None = None, progress: Progress | None = None, least_share: float = LEAST_SHARE,
) -> list[list[MonteCarlo]]:  # fmt: skip
    """Walk through a substrate once, and return the signals of several protocols, and of other membranes and T2.

    Parameters
    ----------
    substrate : Substrate
        See `Lattice` and `Packed`.
    acquisitions : sequence of Acquisition
        Protocols. One that takes less time than the longest is placed into the walk several times.
    water : Water
        Diffusivities, permeability and relaxation.
    also : sequence of Water
        Water of the same diffusivities. At another permeability the same paths are weighed by how much more probable
        they are there; another relaxation costs nothing.
    walkers, seed
        Each walker has its own random sequence, so the result does not depend on the number of cores.
    fine : float
        Smallest step beside a membrane as a fraction of the cells' radius; with 0.08 signals are right to 0.002.
    longest_ms : float
        Longest step.
    jobs : int, optional
        Threads; default: all cores.
    progress : callable, optional
        Called with the fraction done.
    least_share : float
        The smallest effective share of the walkers that is accepted for another permeability.

    Returns
    -------
    list of list of MonteCarlo
        By water (`water` first), by protocol. The signals are means over gradients along x, y and z.

    Raises
    ------
    InputError
        If a number is out of range, or the paths say too little about another permeability.
    """
    waters = [water, *also]
    _check(walkers, fine, longest_ms, waters)
    plan = make_plan(acquisitions, echoes=water.t2i_ms is not None)
    n_inside = int(np.clip(round(substrate.fraction * walkers), 20, walkers - 20))
    one = partial(_chunk, substrate.compiled, plan, waters, walkers, n_inside, np.uint64(seed), fine, longest_ms)
    starts, report = range(0, walkers, _CHUNK), share_of(progress)
    sums, inside = np.zeros((len(waters), plan.strength.size, 2, SUMS)), 0.0
    for done, (part, ended) in enumerate(_in_threads(one, starts, jobs or os.cpu_count() or 1), start=1):
        sums += part
        inside += ended
        report(done / len(starts))
    shares = _shares(sums)
    if shares.min() < least_share:
        worst = waters[int(shares.argmin())].permeability_um_s
        problem = f"walks at {water.permeability_um_s:g} µm/s say too little about {worst:g} µm/s"
        hint = f"walk it on its own: the effective share of the walkers is {shares.min():.2f}, under {least_share:g}"
        raise InputError(problem, hint=hint)
    ends = (n_inside / walkers, inside / walkers)
    return [
        [_signals(part[volumes], substrate.fraction, ends, float(share)) for volumes in plan.volumes]
        for part, share in zip(sums, shares)
    ]


def _check(walkers: int, fine: float, longest_ms: float, waters: list[Water]) -> None:
    if walkers < 100:
        raise InputError(f"{walkers} walkers are too few for any signal", hint="give thousands")
    if not 0 < fine <= 0.25:
        raise InputError(f"steps of {fine:g} radii beside a membrane are too coarse", hint="give 0.02 to 0.1")
    if not longest_ms > 0:
        raise InputError("the longest step must be a positive number of ms")
    if len({(each.d0i_um2_ms, each.d0e_um2_ms, each.t2i_ms is None) for each in waters}) > 1:
        problem = "water of other diffusivities, or one without T2, cannot share a walk"
        raise InputError(problem, hint="walk it on its own")
    if len({each.permeability_um_s > 0 for each in waters}) > 1:
        problem = "paths through closed membranes say nothing about open ones, nor these about closed ones"
        raise InputError(problem, hint="walk a permeability of 0 on its own")


def _in_threads(work: Any, starts: range, jobs: int) -> Iterator[tuple[FloatArray, float]]:
    """Yield the results in order; the compiled code runs without the interpreter's lock."""
    if jobs == 1:
        yield from map(work, starts)
        return
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(work, starts)


def _chunk(
    compiled: Compiled, plan: Plan, waters: list[Water], walkers: int, n_inside: int, seed: np.uint64, fine: float,
    longest_ms: float, first: int,
) -> tuple[FloatArray, float]:  # fmt: skip
    count, water = min(_CHUNK, walkers - first), waters[0]
    records = np.empty((count, plan.spans.size + 1, RECORD))
    run, tissue = compiled
    kappas = 1e-3 * np.array([each.permeability_um_s for each in waters])
    medium = (float(kappas[0]), np.sqrt(water.d0i_um2_ms), np.sqrt(water.d0e_um2_ms))
    run(first, count, n_inside, seed, plan.spans, tissue, medium, longest_ms, fine, records)
    sums = np.zeros((len(waters), plan.strength.size, 2, SUMS))
    rates = np.array([[1.0 / (t2 or np.inf) for t2 in (each.t2i_ms, each.t2e_ms)] for each in waters])
    add_up(records, *plan.arrays, kappas, rates, plan.spans, sums)
    return sums, float(records[:, -1, 6].sum())


def _shares(sums: FloatArray) -> FloatArray:
    """Return the effective share of the walkers by permeability: the square of the sum over the sum of the squares."""
    number = sums[..., 1] ** 2 / sums[..., 4]
    return np.asarray((number / number[:1]).min(axis=(1, 2)))


def _signals(sums: FloatArray, fraction: float, ends: tuple[float, float], share: float) -> MonteCarlo:
    """Return means and standard errors from (M, 2, SUMS) sums: ratios of weighted sums, inside and outside apart."""
    y, x, yy, xy, xx = np.moveaxis(sums, -1, 0)
    mean = y / x
    error = np.sqrt(np.maximum(yy - 2 * mean * xy + mean**2 * xx, 0.0)) / x
    parts = np.array([fraction, 1.0 - fraction])
    sides = (mean[:, 0], error[:, 0], mean[:, 1], error[:, 1])
    return MonteCarlo(mean @ parts, np.hypot(*(error * parts).T), *sides, *ends, share)
