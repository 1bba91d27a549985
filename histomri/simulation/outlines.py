"""Areas of round profiles that stop where they meet their neighbours, in closed form along rays.

From its middle, each profile is followed in 48 directions. A boundary between two profiles crosses a ray where a
formula says, so nothing is drawn on a raster, and the cost grows with the number of profiles alone.
"""

import math

import numba
import numpy as np

from histomri.core.arrays import FloatArray, IntArray
from histomri.core.kernel_cache import ensure_cache

ensure_cache()
_RAYS = 48
_GROWN, _POWER = 0, 1
_MOST = 96  # neighbours of one profile that are looked at


def grown_areas(centre_um: FloatArray, radius_um: FloatArray, period_um: FloatArray, rim_um: float) -> FloatArray:
    """Grow N discs by a rim until they meet; return their areas, (N,) µm².

    Growth of two discs meets where the distances from their edges are equal: |p - a| - r_a = |p - b| - r_b. Seen from
    a, in the direction u, that is at (d² - (r_b - r_a)²) / (2 (u·d + r_b - r_a)), d from a to b. No disc is made
    smaller than it was.

    Parameters
    ----------
    centre_um, radius_um : arrays, (N, 2) and (N,)
        The discs.
    period_um : array, (2,)
        After which the field repeats along x and y; inf where it does not.
    rim_um : float
        Widest rim.
    """
    everyone = np.arange(len(radius_um))
    return _areas(centre_um, radius_um, radius_um + rim_um, period_um, everyone, _GROWN)


def power_areas(centre_um: FloatArray, radius_um: FloatArray, period_um: FloatArray, chosen: IntArray) -> FloatArray:
    """Divide what overlapping discs share along their power lines; return the areas of the chosen discs, µm².

    The power line of two circles runs through the points where they cross: on it |p - a|² - r_a² = |p - b|² - r_b².
    Parameters are those of `grown_areas`; `chosen` are the K discs that are wanted.
    """
    return _areas(centre_um, radius_um, radius_um, period_um, chosen, _POWER)


def nearest_profiles(
    centre_um: FloatArray, radius_um: FloatArray, period_um: FloatArray, reach_um: float
) -> tuple[IntArray, FloatArray]:
    """Return for each of N discs the one whose edge is nearest, (N,), and that gap, (N,) µm.

    Only gaps below `reach_um` are looked for; where there is none, the disc is -1 and the gap inf.
    """
    grown = radius_um + 0.5 * reach_um
    nearest, gap = np.full(len(radius_um), -1), np.full(len(radius_um), np.inf)
    if len(radius_um) > 1:
        grid = _sorted(centre_um, 2.0 * float(grown.max()), period_um)
        _nearest(centre_um, radius_um, grown, *grid, np.asarray(period_um, dtype=float), nearest, gap)
    return nearest, gap


def _areas(
    centre: FloatArray, radius: FloatArray, grown: FloatArray, period: FloatArray, chosen: IntArray, rule: int
) -> FloatArray:
    if len(chosen) == 0:
        return np.zeros(0)
    grid = _sorted(centre, 2.0 * float(grown.max()), period)
    angle = 2.0 * np.pi * np.arange(_RAYS) / _RAYS
    rays = np.column_stack([np.cos(angle), np.sin(angle)])
    return np.asarray(
        _bounded(
            np.ascontiguousarray(centre, dtype=float), radius, grown, *grid, np.asarray(period, dtype=float),
            chosen.astype(np.int64), rays, rule,
        )
    )  # fmt: skip


def _sorted(centre: FloatArray, edge: float, period: FloatArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Sort discs into boxes: the box of each, (N, 2), the order, where each box starts, the number of boxes, (2,)."""
    wrapped = np.isfinite(period)
    low = np.where(wrapped, 0.0, centre.min(axis=0))
    width = np.where(wrapped, period, np.ptp(centre, axis=0) + 1e-6)
    number = np.maximum((width / edge).astype(np.int64), 1)
    place = (centre - low) / width
    place = np.where(wrapped, place - np.floor(place), place)
    box = np.minimum((place * number).astype(np.int64), number - 1)
    flat = box[:, 1] * number[0] + box[:, 0]
    order = np.argsort(flat, kind="stable")
    return box, order, np.searchsorted(flat[order], np.arange(number[0] * number[1] + 1)), number


@numba.njit(cache=True, nogil=True)
def _around(
    i: int, centre: FloatArray, grown: FloatArray, box: IntArray, order: IntArray, start: IntArray, number: IntArray,
    period: FloatArray, who: IntArray, away: FloatArray,
) -> int:  # fmt: skip
    """Write into `who` and `away` the discs that the grown disc i meets; return how many there are."""
    found = 0
    for a in range(min(3, number[0])):
        column = _box(box[i, 0] + a - (1 if number[0] > 1 else 0), number[0], period[0])
        for b in range(min(3, number[1])):
            row = _box(box[i, 1] + b - (1 if number[1] > 1 else 0), number[1], period[1])
            if column < 0 or row < 0:
                continue
            for k in range(start[row * number[0] + column], start[row * number[0] + column + 1]):
                j = order[k]
                dx = _shortest(centre[j, 0] - centre[i, 0], period[0])
                dy = _shortest(centre[j, 1] - centre[i, 1], period[1])
                if j != i and found < _MOST and dx * dx + dy * dy < (grown[i] + grown[j]) ** 2:
                    who[found], away[found, 0], away[found, 1] = j, dx, dy
                    found += 1
    return found


@numba.njit(cache=True, inline="always")
def _box(place: int, number: int, period: float) -> int:
    """Return the box at a place that may lie beyond the field; -1 if there is none."""
    if math.isinf(period):
        return place if 0 <= place < number else -1
    return place % number


@numba.njit(cache=True, inline="always")
def _shortest(away: float, period: float) -> float:
    return away if math.isinf(period) else away - period * np.rint(away / period)


@numba.njit(cache=True, nogil=True)
def _bounded(
    centre: FloatArray, radius: FloatArray, grown: FloatArray, box: IntArray, order: IntArray, start: IntArray,
    number: IntArray, period: FloatArray, chosen: IntArray, rays: FloatArray, rule: int,
) -> FloatArray:  # fmt: skip
    area = np.empty(chosen.size)
    who, away = np.empty(_MOST, dtype=np.int64), np.empty((_MOST, 2))
    for k in range(chosen.size):
        i = chosen[k]
        found = _around(i, centre, grown, box, order, start, number, period, who, away)
        if found == 0:
            area[k] = math.pi * grown[i] ** 2
            continue
        total = 0.0
        for ray in range(rays.shape[0]):
            low, high = 0.0, grown[i]
            for n in range(found):
                dx, dy = away[n, 0], away[n, 1]
                forward, squared = rays[ray, 0] * dx + rays[ray, 1] * dy, dx * dx + dy * dy
                if rule == _GROWN:
                    larger = radius[who[n]] - radius[i]
                    if forward + larger > 0.0:
                        crossing = (squared - larger * larger) / (2.0 * (forward + larger))
                        high = min(high, max(crossing, radius[i]))
                else:
                    line = 0.5 * (squared + radius[i] ** 2 - radius[who[n]] ** 2)
                    if forward > 0.0:
                        high = min(high, max(line / forward, 0.0))
                    elif line < 0.0:  # the middle lies beyond the line: the disc begins behind it
                        low = max(low, line / forward) if forward < 0.0 else high
            if high > low:
                total += high * high - low * low
        area[k] = math.pi * total / rays.shape[0]
    return area


@numba.njit(cache=True, nogil=True)
def _nearest(
    centre: FloatArray, radius: FloatArray, grown: FloatArray, box: IntArray, order: IntArray, start: IntArray,
    number: IntArray, period: FloatArray, nearest: IntArray, gap: FloatArray,
) -> None:  # fmt: skip
    who, away = np.empty(_MOST, dtype=np.int64), np.empty((_MOST, 2))
    for i in range(radius.size):
        for n in range(_around(i, centre, grown, box, order, start, number, period, who, away)):
            space = math.sqrt(away[n, 0] ** 2 + away[n, 1] ** 2) - radius[i] - radius[who[n]]
            if space < gap[i]:
                nearest[i], gap[i] = who[n], space
