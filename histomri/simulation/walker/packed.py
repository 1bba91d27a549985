"""Walks in and around spheres of unequal size, packed at random in a periodic cube.

A grid of cells lists, for each cell, the spheres that are near it; a walker inside needs its own sphere only.
"""

import math
from typing import Any

import numpy as np
from numba import njit

from histomri.core.kernel_cache import ensure_cache

from .kernels import FAR, LEFT, OWN, SHIFT, displaced, duration, make_walk, meet, tally, uniform, wrapped

ensure_cache()
REACH = 0.35  # of the mean radius: edge of the cells of the grid, and how near a sphere must be to be listed in one


@njit(error_model="numpy", cache=True)
def _is_listed(centre: Any, radius: float, i: int, j: int, k: int, size: float, reach: float) -> bool:
    """Tell whether a sphere is near a cell; no walker outside is in a cell that lies within the sphere."""
    nearest, farthest = 0.0, 0.0
    for a in range(3):
        begin = size * (i if a == 0 else (j if a == 1 else k))
        below, above = begin - centre[a], centre[a] - begin - size
        gap = max(0.0, max(below, above))
        nearest += gap * gap
        farthest += max(abs(below), abs(above)) ** 2
    return bool(nearest < (radius + reach) ** 2 and farthest >= radius**2)


@njit(error_model="numpy", cache=True)
def list_neighbours(spheres: Any, edge: float, cells: int, reach: float, first: Any, entries: Any) -> None:
    """Fill in, for each cell of a grid of cells³, the spheres (N, 4: centre and radius) within `reach` of it.

    Called twice: with no entries it counts them into first (cells³ + 1,), shifted by one; then it fills entries
    (E, 4): centre of the image that is near, and radius.
    """
    size = edge / cells
    for s in range(len(spheres)):
        centre, radius = spheres[s, :3], spheres[s, 3]
        low = np.floor((centre - radius - reach) / size).astype(np.int64)
        high = np.floor((centre + radius + reach) / size).astype(np.int64)
        for i in range(low[0], high[0] + 1):
            for j in range(low[1], high[1] + 1):
                for k in range(low[2], high[2] + 1):
                    if not _is_listed(centre, radius, i, j, k, size, reach):
                        continue
                    home = (i % cells, j % cells, k % cells)
                    cell = (home[0] * cells + home[1]) * cells + home[2]
                    if len(entries) == 0:
                        first[cell + 1] += 1
                        continue
                    entry = entries[first[cell]]
                    first[cell] += 1
                    entry[0] = centre[0] + (home[0] - i) * size
                    entry[1] = centre[1] + (home[1] - j) * size
                    entry[2] = centre[2] + (home[2] - k) * size
                    entry[3] = radius


@njit(error_model="numpy", cache=True, inline="always")
def _cell(s: Any, size: float, cells: int) -> int:
    last = cells - 1
    i, j, k = min(int(s[0] / size), last), min(int(s[1] / size), last), min(int(s[2] / size), last)
    return (i * cells + j) * cells + k


@njit(error_model="numpy", cache=True, inline="always")
def _distance(x: float, y: float, z: float, cx: float, cy: float, cz: float) -> float:
    return math.sqrt((x - cx) * (x - cx) + (y - cy) * (y - cy) + (z - cz) * (z - cz))


@njit(error_model="numpy", cache=True)
def _is_free(s: Any, spheres: Any, edge: float) -> bool:
    for n in range(len(spheres)):
        squared = 0.0
        for a in range(3):
            gap = s[a] - spheres[n, a]
            gap -= edge * math.floor(gap / edge + 0.5)
            squared += gap * gap
        if squared < spheres[n, 3] ** 2:
            return False
    return True


@njit(error_model="numpy", cache=True)
def _start(s: Any, state: Any, inside: bool, tissue: Any) -> Any:
    edge, spheres, share = tissue[:3]
    state, u = uniform(state)
    own = spheres[min(np.searchsorted(share, u), len(spheres) - 1)]
    s[OWN : OWN + 4] = own
    while True:
        for a in range(3):
            state, u = uniform(state)
            s[a] = own[a] + (2.0 * u - 1.0) * own[3] if inside else u * edge
        r = _distance(s[0], s[1], s[2], own[0], own[1], own[2])
        if r < own[3] if inside else _is_free(s, spheres, edge):
            return state


@njit(error_model="numpy", cache=True, inline="always")
def _step_size(s: Any, tissue: Any, cell: int, fine: float) -> float:
    """Return the size of a step outside; a walker pushed into a sphere where two touch goes back to its rim."""
    first, entries, reach = tissue[3], tissue[4], tissue[6]
    d0, other, radius = reach, reach, reach / REACH
    for e in range(first[cell], first[cell + 1]):
        cx, cy, cz, rim = entries[e, 0], entries[e, 1], entries[e, 2], entries[e, 3]
        r = _distance(s[0], s[1], s[2], cx, cy, cz)
        if r < rim:
            scale = rim * (1.0 + 1e-12) / r
            s[0], s[1], s[2] = cx + (s[0] - cx) * scale, cy + (s[1] - cy) * scale, cz + (s[2] - cz) * scale
        gap = max(r - rim, 0.0)
        if gap < d0:
            d0, other, radius = gap, d0, rim
        elif gap < other:
            other = gap
    least = max(min(fine * radius, 0.2 * (d0 + other)), 0.1 * fine * radius)
    return float(max(0.25 * d0, least))


@njit(error_model="numpy", cache=True, inline="always")
def _meet_all(
    x1: float, y1: float, z1: float, size: float, spread: float, u: float, cell: int, s: Any, state: Any, tissue: Any,
    medium: Any,
) -> Any:  # fmt: skip
    """Meet the spheres near a walker outside; return the end point, the state and the side, and note its sphere."""
    first, entries = tissue[3], tissue[4]
    side = 1
    for e in range(first[cell], first[cell + 1]):
        cx, cy, cz, rim = entries[e, 0], entries[e, 1], entries[e, 2], entries[e, 3]
        d0 = max(_distance(s[0], s[1], s[2], cx, cy, cz) - rim, 0.0)
        if d0 >= FAR * size:
            continue
        r1 = _distance(x1, y1, z1, cx, cy, cz)
        end, state, side = meet(d0, r1 - rim, spread, u, s, state, 1, medium)
        if side == 0 or end != r1 - rim:
            scale = (rim - end if side == 0 else rim + end) / r1
            x1, y1, z1 = cx + (x1 - cx) * scale, cy + (y1 - cy) * scale, cz + (z1 - cz) * scale
        if side == 0:
            s[OWN], s[OWN + 1], s[OWN + 2], s[OWN + 3] = cx, cy, cz, rim
            break
        state, u = uniform(state)
    return x1, y1, z1, state, side


@njit(error_model="numpy", cache=True, inline="always")
def _meet_own(
    x1: float, y1: float, z1: float, d0: float, spread: float, u: float, s: Any, state: Any, medium: Any
) -> Any:
    """Meet the membrane from inside; return the end point, the state and the side."""
    cx, cy, cz, rim = s[OWN], s[OWN + 1], s[OWN + 2], s[OWN + 3]
    r1 = _distance(x1, y1, z1, cx, cy, cz)
    end, state, side = meet(d0, rim - r1, spread, u, s, state, 0, medium)
    if side == 1 or end != rim - r1:
        scale = (rim - end if side == 0 else rim + end) / r1
        x1, y1, z1 = cx + (x1 - cx) * scale, cy + (y1 - cy) * scale, cz + (z1 - cz) * scale
    return x1, y1, z1, state, side


@njit(error_model="numpy", cache=True, inline="always")
def _step(s: Any, state: Any, side: int, tissue: Any, medium: Any, longest: float, fine: float) -> tuple[Any, int]:
    diffusivity, cell, d0 = medium[1 + side] * medium[1 + side], 0, 0.0
    if side == 0:
        d0 = s[OWN + 3] - _distance(s[0], s[1], s[2], s[OWN], s[OWN + 1], s[OWN + 2])
        size = max(0.25 * d0, fine * s[OWN + 3])
    else:
        cell = _cell(s, tissue[0] / tissue[5], tissue[5])
        size = _step_size(s, tissue, cell, fine)
    x, y, z = s[0], s[1], s[2]
    tau, size = duration(size, diffusivity, longest, s[LEFT])
    state, x1, y1, z1, u = displaced(state, x, y, z, size)
    if side == 0:
        x1, y1, z1, state, after = _meet_own(x1, y1, z1, d0, diffusivity * tau, u, s, state, medium)
    else:
        x1, y1, z1, state, after = _meet_all(x1, y1, z1, size, diffusivity * tau, u, cell, s, state, tissue, medium)
    tally(s, tau, x + x1, y + y1, z + z1, side + after)
    s[0], s[1], s[2] = x1, y1, z1
    if after == 1:
        for a in range(3):
            s[a], s[SHIFT + a] = wrapped(s[a], s[SHIFT + a], 0.0, tissue[0])
    return state, after


walk = make_walk(_start, _step)
