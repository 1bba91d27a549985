"""The compiled core of the walks: snapping-out Brownian motion with steps that adapt to the nearest membrane.

A step far from any membrane is long, a step beside one is short. What a step does at a membrane is exact for a plane at
any length of the step: the local time at the membrane is drawn from its distribution given both ends of the step, the
end is reflected by it (Skorokhod), and it runs down an exponential clock; when the clock ends, the walker changes side,
gets a new clock, and goes on with what is left. (Grebenkov, Phys. Rev. Lett. 2020, doi 10.1103/PhysRevLett.125.078102;
Lejay, J. Stat. Phys. 2016, doi 10.1007/s10955-016-1532-9.)
"""

import math
from typing import Any

import numpy as np
from numba import njit
from scipy.special import ndtri

from histomri.core.arrays import FloatArray
from histomri.core.kernel_cache import ensure_cache

ensure_cache()

# What is recorded of a walker at every edge of the plan: integrals of its position, crossings and local time so far,
# time inside so far, and whether it is inside.
RECORD = 7
_BITS = 12
_FAR = 5.0  # standard deviations of a step: a membrane farther off is not met
_NEVER = 14.0  # a membrane is met with the probability exp(-d0 d1 / (D tau)) at most


def _normal_table() -> FloatArray:
    """Return the means of the normal distribution in 4096 bins of equal probability, scaled to variance 1."""
    edges = ndtri(np.arange(2**_BITS + 1) / 2**_BITS)
    density = np.exp(-0.5 * edges**2) / math.sqrt(2.0 * math.pi)
    means = -np.diff(density) * 2**_BITS
    return np.asarray(means / means.std())


NORMAL = _normal_table()


@njit(cache=True, inline="always")
def mix(state: Any) -> Any:
    """Return the splitmix64 number of a state."""
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True, inline="always")
def advance(state: Any) -> Any:
    """Return the next state of a splitmix64 sequence."""
    return state + np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True, inline="always")
def uniform(bits: Any) -> float:
    """Return a number between 0 and 1, neither included, from 64 random bits."""
    return (float(bits >> np.uint64(11)) + 0.5) * (1.0 / 9007199254740992.0)


@njit(cache=True, inline="always")
def local_time(d0: float, d1: float, spread: float, u: float) -> float:
    """Return the local time at a plane of a step from distance d0 to d1 (before reflection); spread is D tau."""
    if d1 >= 0.0 and d0 * d1 >= _NEVER * spread:
        return 0.0
    gap = d1 - d0
    return 0.5 * (math.sqrt(gap * gap - 4.0 * spread * math.log(u)) - d0 - d1)


@njit(cache=True)
def cross(
    time: float, side: int, clock: float, state: Any, kappa: float, root0: float, root1: float
) -> tuple[int, float, Any, float, float]:
    """Run the clock down by a local time; return side, clock, state, crossings, and local time over diffusivity.

    Local time is counted in units of the root of the diffusivity of the side, which is what both sides share.
    """
    rest = time / (root0 if side == 0 else root1)
    crossings, over = 0.0, 0.0
    while True:
        root = root0 if side == 0 else root1
        rate = kappa / root
        if clock > rate * rest:
            return side, clock - rate * rest, state, crossings, over + rest / root
        used = clock / rate
        over += used / root
        rest -= used
        side, crossings = 1 - side, crossings + 1.0
        state = advance(state)
        clock = -math.log(uniform(mix(state)))
