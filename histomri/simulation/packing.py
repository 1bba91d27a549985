"""Random packings of spheres of unequal size in a periodic cube, by relaxation of overlaps.

The spheres start at random places at 0.6 of their radius and grow to it in nine stages. In each stage the pairs that
overlap are pushed apart by 1.05 times their overlap, the smaller sphere of a pair by more (weights r³ of the other),
until the largest overlap is below 1e-4 of the mean radius. What is left is removed by shrinking all radii alike.

Equal spheres jam at a volume fraction of 0.64; the more their sizes vary, the higher the limit.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
from scipy import stats

from histomri.core.arrays import FloatArray, IntArray
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.kernel_cache import ensure_cache

ensure_cache()
Distribution = Literal["lognormal", "gamma"]
_STAGES, _FIRST, _PUSH = 9, 0.6, 1.05
_TOLERANCE, _STAGE_TOLERANCE, _STAGE_SWEEPS = 1e-4, 0.02, 400
_BLOCK, _BLOCKS = 1000, 120  # sweeps between two looks at the progress, and how often at most
_PROGRESS = 0.97  # a block that leaves more of the overlap than this, twice in a row, is the last: the spheres jam
_SKIN = 0.4  # of the list of neighbours, in mean radii
_DENSEST = 0.7405  # of equal spheres, in a crystal; no random packing comes near it


@dataclass(frozen=True, repr=False)
class Packing(Displayed):
    """N spheres that do not overlap, in a periodic cube."""

    centre_um: FloatArray  # (N, 3), each in [0, edge)
    radius_um: FloatArray  # (N,)
    edge_um: float

    @property
    def fraction(self) -> float:
        """Volume fraction that the spheres fill."""
        return float(4.0 / 3.0 * np.pi * np.sum(self.radius_um**3) / self.edge_um**3)

    def facts(self) -> dict[str, Any]:
        """Return number, fraction, edge and mean diameter."""
        size = f"{2.0 * self.radius_um.mean():.4g} µm"
        facts = {"spheres": f"{self.radius_um.size:,}", "fraction": f"{self.fraction:.4f}"}
        return facts | {"edge": f"{self.edge_um:.4g} µm", "mean diameter": size}


def sphere_diameters(
    number: int, *, cv: float, rng: np.random.Generator, vcs_um: float | None = None, mean_um: float | None = None,
    distribution: Distribution = "lognormal", largest: float | None = 2.0,
) -> FloatArray:  # fmt: skip
    """Return diameters, (number,) µm, in random order, that are spread over a distribution as evenly as can be.

    Each of `number` equal parts of the distribution gives its median, and the size asked for is met exactly: of a few
    hundred independent draws the volume-weighted size would scatter by several per cent. Diameters beyond `largest`
    means count as that, or a few giants would decide on the volume-weighted size, and on the packing.

    Parameters
    ----------
    number : int
        How many.
    cv : float
        Coefficient of variation of the diameters, by number; 0 gives equal ones.
    vcs_um, mean_um : float
        Either the volume-weighted size (<D^7>/<D^3>)^(1/4) or the mean diameter by number, µm.
    distribution : {"lognormal", "gamma"}
        Their distribution, by number.
    largest : float, optional
        In means of the distribution; matters from a coefficient of 0.3 on. None keeps the whole tail.

    Raises
    ------
    InputError
        If not exactly one size is given, or a number is out of range.
    """
    if (vcs_um is None) == (mean_um is None):
        raise InputError("the size of the spheres is not clear", hint="give either vcs_um or mean_um")
    if distribution not in ("lognormal", "gamma"):
        raise InputError(f"there is no distribution {distribution!r}", hint="choose lognormal or gamma")
    size = float(mean_um if vcs_um is None else vcs_um)  # type: ignore[arg-type]
    if not (number >= 1 and 0 < size < np.inf and 0 <= cv < 2):
        raise InputError(
            f"{number} spheres of {size:g} µm with a coefficient of variation of {cv:g} cannot be drawn",
            hint="give at least one, a positive size, and a coefficient of 0 to 2",
        )
    if cv == 0:
        return np.full(number, size)
    rank = (rng.permutation(number) + 0.5) / number
    if distribution == "gamma":
        diameter = stats.gamma.ppf(rank, cv**-2, scale=cv**2)
    else:
        spread = np.sqrt(np.log1p(cv**2))
        diameter = np.exp(spread * stats.norm.ppf(rank) - 0.5 * spread**2)
    diameter = diameter if largest is None else np.minimum(diameter, largest)
    reached = diameter.mean() if vcs_um is None else np.sum(diameter**7) ** 0.25 / np.sum(diameter**3) ** 0.25
    return np.asarray(diameter * size / reached)


def vcs_over_mean(cv: float, distribution: Distribution = "lognormal") -> float:
    """Return (<D^7>/<D^3>)^(1/4) over <D> of a distribution with the given coefficient of variation."""
    if distribution == "gamma":
        return float(np.prod([1.0 + k * cv**2 for k in (3, 4, 5, 6)]) ** 0.25)
    return float((1.0 + cv**2) ** 4.5)


def pack_spheres(diameter_um: FloatArray, fraction: float, *, seed: int) -> Packing:
    """Pack spheres at random in a periodic cube of which they fill `fraction`.

    Parameters
    ----------
    diameter_um : array, (N,)
        Diameters, µm. They shrink by some 0.01 % on the way.
    fraction : float
        Volume fraction. Up to 0.6 whatever the diameters are; 0.65 needs a coefficient of variation of 0.4.
    seed : int
        The same seed gives the same packing.

    Returns
    -------
    Packing
        Centres and radii in the order of `diameter_um`.

    Raises
    ------
    InputError
        If the spheres jam before they reach the fraction, or are too few for a periodic cube.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> packing = pack_spheres(sphere_diameters(400, vcs_um=20.0, cv=0.2, rng=rng), 0.55, seed=1)
    >>> round(packing.fraction, 3)
    0.55
    """
    radius = 0.5 * np.array(diameter_um, dtype=float)
    if radius.ndim != 1 or radius.size == 0 or not np.all((radius > 0) & np.isfinite(radius)):
        raise InputError("the diameters of the spheres must be positive numbers")
    if not 0 < fraction < 1:
        raise InputError(f"spheres cannot fill {fraction:g} of a volume", hint="give a fraction between 0 and 0.65")
    edge = float((4.0 / 3.0 * np.pi * np.sum(radius**3) / fraction) ** (1.0 / 3.0))
    if edge < 4.0 * radius.max():
        raise InputError(
            f"{radius.size} spheres make a cube of {edge:.3g} µm, in which the largest would meet its own image",
            hint="pack more spheres",
        )
    centre = np.random.default_rng(seed).uniform(0.0, edge, (radius.size, 3))
    unit = float(radius.mean())
    overlap = unit * _grow(centre, radius, edge, unit) if fraction < _DENSEST else np.inf
    left = _fitting_scale(centre, radius, edge)
    if overlap > 2.0 * _TOLERANCE * unit:
        _refuse(fraction, fraction * left**3, overlap / unit, float(np.std(radius)) / unit)
    centre = np.mod(centre, edge)
    centre[centre >= edge] = 0.0  # what lay a rounding error below 0
    return Packing(centre, radius * left, edge)


def _refuse(fraction: float, reached: float, overlap: float, cv: float) -> None:
    if fraction >= _DENSEST:
        raise InputError(f"spheres packed at random cannot fill {fraction:g} of a volume", hint="ask for 0.6 or less")
    raise InputError(
        f"the spheres jam: at a fraction of {fraction:g} they still overlap by {overlap:.2g} mean radii, and without "
        f"overlap they fill {reached:.3g}",
        hint=f"ask for 0.6 or less, or let the diameters vary by more than {cv:.0%}",
    )


def _grow(centre: FloatArray, radius: FloatArray, edge: float, unit: float) -> float:
    """Grow the spheres to their radius, in place; return the largest overlap that is left, in mean radii."""
    for scale in np.linspace(_FIRST, 1.0, _STAGES)[:-1]:
        _relax(centre, scale * radius, edge, _SKIN * unit, _STAGE_TOLERANCE * unit, _STAGE_SWEEPS)
    worst, slow = np.inf, 0
    for _ in range(_BLOCKS):
        overlap = _relax(centre, radius, edge, _SKIN * unit, _TOLERANCE * unit, _BLOCK) / unit
        slow = slow + 1 if overlap > _PROGRESS * worst else 0
        worst = min(worst, overlap)
        if overlap <= _TOLERANCE or slow == 2:
            break
    return float(overlap)


def _fitting_scale(centre: FloatArray, radius: FloatArray, edge: float) -> float:
    """Return the factor, 1 or less, by which all radii must shrink so that no two spheres overlap."""
    first, second = _pairs(centre, radius, edge, 0.0)
    away = centre[first] - centre[second]
    away -= edge * np.rint(away / edge)
    reach = radius[first] + radius[second]
    return float(np.min(np.sqrt((away**2).sum(axis=1)) / reach, initial=1.0)) * (1.0 - 1e-12)


@numba.njit(cache=True, nogil=True)
def _relax(centre: FloatArray, radius: FloatArray, edge: float, skin: float, tolerance: float, sweeps: int) -> float:
    """Push overlapping pairs apart, sweep by sweep, until the largest overlap is below `tolerance`; return it."""
    first, second = _pairs(centre, radius, edge, skin)
    built = centre.copy()
    fresh = True
    worst = 0.0
    for _ in range(sweeps):
        worst = _sweep(centre, radius, edge, first, second)
        moved = _largest_move(centre, built)
        stale = moved > 0.5 * skin
        if stale or (worst < tolerance and not fresh):
            # An overlap below the limit counts only where no pair can be missing from the list.
            first, second = _pairs(centre, radius, edge, skin)
            built[:] = centre
            fresh = True
        elif worst < tolerance:
            return float(worst)
        else:
            fresh = False
    return float(worst)


@numba.njit(cache=True, nogil=True)
def _sweep(centre: FloatArray, radius: FloatArray, edge: float, first: IntArray, second: IntArray) -> float:
    worst = 0.0
    for k in range(first.size):
        i, j = first[k], second[k]
        dx, dy, dz = centre[j, 0] - centre[i, 0], centre[j, 1] - centre[i, 1], centre[j, 2] - centre[i, 2]
        dx -= edge * np.rint(dx / edge)
        dy -= edge * np.rint(dy / edge)
        dz -= edge * np.rint(dz / edge)
        squared = dx * dx + dy * dy + dz * dz
        reach = radius[i] + radius[j]
        if squared >= reach * reach:
            continue
        distance = max(np.sqrt(squared), 1e-9 * reach)
        worst = max(worst, reach - distance)
        step = _PUSH * (reach - distance) / distance
        a, b = radius[i] ** 3, radius[j] ** 3
        mine, other = step * b / (a + b), step * a / (a + b)
        centre[i, 0] -= mine * dx
        centre[i, 1] -= mine * dy
        centre[i, 2] -= mine * dz
        centre[j, 0] += other * dx
        centre[j, 1] += other * dy
        centre[j, 2] += other * dz
    return float(worst)


@numba.njit(cache=True, nogil=True)
def _largest_move(centre: FloatArray, built: FloatArray) -> float:
    largest = 0.0
    for i in range(centre.shape[0]):
        squared = 0.0
        for axis in range(3):
            squared += (centre[i, axis] - built[i, axis]) ** 2
        largest = max(largest, squared)
    return float(np.sqrt(largest))


@numba.njit(cache=True, nogil=True)
def _pairs(centre: FloatArray, radius: FloatArray, edge: float, skin: float) -> tuple[IntArray, IntArray]:
    """List the pairs whose surfaces are nearer than `skin`, each once."""
    number = centre.shape[0]
    side = int(edge // (2.0 * radius.max() + skin))
    side = side if side >= 3 else 1  # with two boxes a side, a neighbour would be met twice
    head = np.full(side**3, -1, dtype=np.int64)
    following = np.full(number, -1, dtype=np.int64)
    box = np.empty((number, 3), dtype=np.int64)
    for i in range(number):
        for axis in range(3):
            place = centre[i, axis] / edge
            box[i, axis] = min(int((place - np.floor(place)) * side), side - 1)
        here = (box[i, 0] * side + box[i, 1]) * side + box[i, 2]
        following[i] = head[here]
        head[here] = i
    first, second = np.empty(16 * number, dtype=np.int64), np.empty(16 * number, dtype=np.int64)
    found = 0
    around = 1 if side > 1 else 0
    for i in range(number):
        for a in range(-around, around + 1):
            for b in range(-around, around + 1):
                for c in range(-around, around + 1):
                    row = (box[i, 0] + a) % side * side + (box[i, 1] + b) % side
                    j = head[row * side + (box[i, 2] + c) % side]
                    while j >= 0:
                        if j < i and _near(centre, i, j, edge, radius[i] + radius[j] + skin):
                            if found == first.size:
                                first, second = np.append(first, first), np.append(second, second)
                            first[found], second[found] = i, j
                            found += 1
                        j = following[j]
    return first[:found], second[:found]


@numba.njit(cache=True, inline="always")
def _near(centre: FloatArray, i: int, j: int, edge: float, reach: float) -> bool:
    squared = 0.0
    for axis in range(3):
        away = centre[j, axis] - centre[i, axis]
        away -= edge * np.rint(away / edge)
        squared += away * away
    return squared < reach * reach
