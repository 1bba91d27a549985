"""Several permeabilities from as few walks as their standard errors allow."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from histomri.core.errors import InputError
from histomri.mri import Acquisition

from .substrates import Substrate
from .walk import MonteCarlo, Water, walk

_PILOT = 1000
ENOUGH = 0.5  # effective share of the walkers with which a permeability is not walked on its own


def walk_permeabilities(
    substrate: Substrate, acquisitions: Sequence[Acquisition], water: Water, permeabilities_um_s: Sequence[float],
    *, seed: int = 0, enough: float = ENOUGH, **settings: Any,
) -> list[list[MonteCarlo]]:  # fmt: skip
    """Return the signals at each permeability, by protocol.

    One walk at the geometric mean of the lowest and the highest permeability serves all for which its paths leave an
    effective share of at least `enough` of the walkers. The others, and closed membranes, are walked on their own.

    Parameters
    ----------
    substrate, acquisitions, water, settings
        See `walk`; the permeability of the water is not used.
    permeabilities_um_s : sequence of float
        Those wanted.
    seed : int
        Of all walks; each has random numbers of its own.
    enough : float
        Smallest effective share that is accepted.
    """
    seeds = np.random.SeedSequence(seed).generate_state(len(permeabilities_um_s) + 1, np.uint64)
    found: dict[float, list[MonteCarlo]] = {}
    open_ones = sorted({kappa for kappa in permeabilities_um_s if kappa > 0})
    if len(open_ones) > 1:
        shared = replace(water, permeability_um_s=float(np.sqrt(open_ones[0] * open_ones[-1])))
        also, own = [replace(water, permeability_um_s=kappa) for kappa in open_ones], int(seeds[-1])
        _, *results = walk(substrate, acquisitions, shared, also=also, seed=own, least_share=0.0, **settings)
        found = {kappa: one for kappa, one in zip(open_ones, results) if one[0].effective_share >= enough}
    for kappa, own in zip(permeabilities_um_s, seeds.tolist()):
        if kappa not in found:
            alone = replace(water, permeability_um_s=kappa)
            found[kappa] = walk(substrate, acquisitions, alone, seed=own, **settings)[0]
    return [found[kappa] for kappa in permeabilities_um_s]


def pilot_error(
    substrate: Substrate, acquisitions: Sequence[Acquisition], water: Water, permeabilities_um_s: Sequence[float],
    **settings: Any,
) -> float:  # fmt: skip
    """Return the largest standard error of a signal that a thousand walkers leave."""
    pilot = walk_permeabilities(substrate, acquisitions, water, permeabilities_um_s, walkers=_PILOT, **settings)
    return max(float(one.standard_error.max()) for found in pilot for one in found)


def require_walkers(of_pilot: float, walkers: int, wanted: float) -> float:
    """Return the largest standard error to expect: it falls with the root of the number of walkers.

    Raises
    ------
    InputError
        If it is larger than the one wanted; the message says how many walkers reach that.
    """
    expected = float(of_pilot * (_PILOT / walkers) ** 0.5)
    if expected > wanted:
        # A tenth more, as the pilot is a sample too.
        needed = int(np.ceil(1.1 * _PILOT * (of_pilot / wanted) ** 2 / 1000)) * 1000
        problem = f"{walkers:,} walkers give standard errors of signals up to {expected:.2g}, and {wanted:g} is wanted"
        raise InputError(problem, hint=f"give --walkers {needed}, or a larger --standard-error")
    return expected
