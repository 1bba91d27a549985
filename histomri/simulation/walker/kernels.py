"""The compiled core of the walks: snapping-out Brownian motion with steps that adapt to the nearest membrane.

A step far from any membrane is long, a step beside one is short. What a step does at a membrane is exact for a plane at
any length of the step: the local time at the membrane is drawn from its distribution given both ends of the step, the
end is reflected by it (Skorokhod), and it runs down an exponential clock; when the clock ends, the walker changes side,
gets a new clock, and goes on with what is left. (Grebenkov, Phys. Rev. Lett. 2020, doi 10.1103/PhysRevLett.125.078102;
Lejay, J. Stat. Phys. 2016, doi 10.1007/s10955-016-1532-9.)
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from scipy.special import ndtri

from histomri.core.arrays import FloatArray
from histomri.core.kernel_cache import ensure_cache

ensure_cache()

# What is recorded of a walker at every edge of the plan: integrals of its position, crossings and local time over
# diffusivity so far, time inside so far, and whether it is inside.
RECORD = 7
# The numbers of a walker: position, what to add to it so that it begins at the origin and never wraps, the six sums
# that are recorded, the clock of its next crossing, time to the next edge, and the sphere that it is in, if any.
POSITION, SHIFT, SUMS, CROSSINGS, LOCAL, INSIDE, CLOCK, LEFT, OWN, NUMBERS = 0, 3, 6, 9, 10, 11, 12, 13, 14, 18
FAR = 5.0  # standard deviations of a step: a membrane farther off is not met
_BITS = 12
_NEVER = 14.0  # a membrane is met with the probability exp(-d0 d1 / (D tau)) at most
_INSTANT = 1e-12  # ms; rounding may leave so much of a span


def _normal_table() -> FloatArray:
    """Return the means of the normal distribution in 4096 bins of equal probability, scaled to variance 1."""
    edges = ndtri(np.arange(2**_BITS + 1) / 2**_BITS)
    density = np.exp(-0.5 * edges**2) / math.sqrt(2.0 * math.pi)
    means = -np.diff(density) * 2**_BITS
    return np.asarray(means / means.std())


_NORMAL = _normal_table()


@njit(error_model="numpy", cache=True, inline="always")
def mix(state: Any) -> Any:
    """Return the splitmix64 number of a state."""
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(error_model="numpy", cache=True, inline="always")
def uniform(state: Any) -> tuple[Any, float]:
    """Return the next state of a splitmix64 sequence, and a number between 0 and 1, neither included."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    return state, (float(mix(state) >> np.uint64(11)) + 0.5) * (1.0 / 9007199254740992.0)


@njit(error_model="numpy", cache=True, inline="always")
def displaced(state: Any, x: float, y: float, z: float, size: float) -> tuple[Any, float, float, float, float]:
    """Return the next state, a point moved by a normal step, and a number between 0 and 1, from 64 random bits."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    bits, mask = mix(state), np.uint64(4095)
    u = (float(bits >> np.uint64(36)) + 0.5) * (1.0 / 268435456.0)
    x += size * _NORMAL[bits & mask]
    y += size * _NORMAL[(bits >> np.uint64(12)) & mask]
    z += size * _NORMAL[(bits >> np.uint64(24)) & mask]
    return state, x, y, z, u


@njit(error_model="numpy", cache=True, inline="always")
def duration(size: float, diffusivity: float, longest: float, left: float) -> tuple[float, float]:
    """Return how long a step of a standard deviation lasts, and its standard deviation, cut to what is left."""
    tau = size * size / (2.0 * diffusivity)
    if tau <= longest and 2.0 * tau <= left:
        return tau, size
    tau = min(tau, longest)
    if 2.0 * tau > left:
        tau = left if tau >= 0.75 * left else 0.5 * left
    return tau, math.sqrt(2.0 * diffusivity * tau)


@njit(error_model="numpy", cache=True, inline="always")
def wrapped(value: float, shift: float, low: float, edge: float) -> tuple[float, float]:
    """Return a coordinate moved by an edge into [low, low + edge), and the shift that undoes it."""
    if value < low:
        return value + edge, shift - edge
    if value >= low + edge:
        return value - edge, shift + edge
    return value, shift


@njit(error_model="numpy", cache=True, inline="always")
def tally(s: Any, tau: float, x: float, y: float, z: float, sides: int) -> None:
    """Add a step to the sums of a walker: x, y, z and sides are those at its beginning and end together."""
    half = 0.5 * tau
    s[SUMS] += half * (2.0 * s[SHIFT] + x)
    s[SUMS + 1] += half * (2.0 * s[SHIFT + 1] + y)
    s[SUMS + 2] += half * (2.0 * s[SHIFT + 2] + z)
    s[INSIDE] += half * (2.0 - sides)
    s[LEFT] -= tau


@njit(error_model="numpy", cache=True)
def _cross(time: float, s: Any, state: Any, side: int, medium: Any) -> tuple[Any, int]:
    """Run the clock of a walker down by a local time; return the state and the side it ends on.

    Local time is counted in units of the root of the diffusivity of the side, which is what both sides share.
    """
    kappa, root_in, root_out = medium
    root = root_in if side == 0 else root_out
    rest = time / root
    while s[CLOCK] <= kappa / root * rest:
        used = s[CLOCK] * root / kappa
        s[LOCAL] += used / root
        s[CROSSINGS] += 1.0
        rest -= used
        side = 1 - side
        root = root_in if side == 0 else root_out
        state, u = uniform(state)
        s[CLOCK] = -math.log(u)
    s[CLOCK] -= kappa / root * rest
    s[LOCAL] += rest / root
    return state, side


@njit(error_model="numpy", cache=True, inline="always")
def meet(
    d0: float, d1: float, spread: float, u: float, s: Any, state: Any, side: int, medium: Any
) -> tuple[float, Any, int]:
    """Return the distance from a membrane at which a step ends, the state of the random numbers, and the side.

    d0 and d1 are the signed distances before and after the step as if there were no membrane; spread is D tau.
    """
    if d1 >= 0.0 and d0 * d1 >= _NEVER * spread:
        return d1, state, side
    gap = d1 - d0
    time = 0.5 * (math.sqrt(gap * gap - 4.0 * spread * math.log(u)) - d0 - d1)
    if time <= 0.0:
        return d1, state, side
    end = d1 + time
    if medium[0] == 0.0:
        return end, state, side
    state, after = _cross(time, s, state, side, medium)
    if after != side:
        end *= medium[2 - side] / medium[1 + side]
    return end, state, after


def make_walk(start: Callable[..., Any], step: Callable[..., Any]) -> Callable[..., None]:
    """Return the compiled walk of a kind of tissue.

    start(s, state, inside, tissue) puts a walker into the tissue and returns the state of its random numbers;
    step(s, state, side, tissue, medium, longest, fine) moves it and returns state and side (0 inside, 1 outside).
    """

    @njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
    def walk(
        first: int, count: int, n_inside: int, seed: Any, spans: Any, tissue: Any, medium: Any, longest: float,
        fine: float, out: Any,
    ) -> None:  # fmt: skip
        """Walk `count` walkers, numbered from `first`, and record them at every edge of the plan.

        Walkers below n_inside start inside. spans (S,) are the durations between the edges, ms; out is (count, S + 1,
        RECORD); medium holds the permeability (µm/ms) and the roots of the diffusivities inside and outside.
        """
        s = np.zeros(NUMBERS)
        for w in range(count):
            number = np.uint64(first + w + 1) * np.uint64(0xD1342543DE82EF95)
            state = mix(mix(seed * np.uint64(0x2545F4914F6CDD1D)) ^ number)
            side = 0 if first + w < n_inside else 1
            s[:] = 0.0
            state = start(s, state, side == 0, tissue)
            for a in range(3):
                s[SHIFT + a] = -s[POSITION + a]
            state, u = uniform(state)
            s[CLOCK] = -math.log(u) if medium[0] > 0.0 else np.inf
            out[w, 0, :6] = 0.0
            out[w, 0, 6] = 1.0 - side
            for edge in range(spans.size):
                s[LEFT] = spans[edge]
                while s[LEFT] > _INSTANT:
                    state, side = step(s, state, side, tissue, medium, longest, fine)
                out[w, edge + 1, :6] = s[SUMS : SUMS + 6]
                out[w, edge + 1, 6] = 1.0 - side

    return walk  # type: ignore[no-any-return]
