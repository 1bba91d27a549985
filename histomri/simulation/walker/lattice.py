"""Walks in and around equal spheres on a cubic lattice; positions are relative to the centre of the home sphere."""

import math
from typing import Any

from numba import njit

from histomri.core.kernel_cache import ensure_cache

from .kernels import FAR, LEFT, SHIFT, displaced, duration, make_walk, meet, tally, uniform, wrapped

ensure_cache()


@njit(error_model="numpy", cache=True)
def _start(s: Any, state: Any, inside: bool, tissue: Any) -> Any:
    edge, radius = tissue
    while True:
        for a in range(3):
            state, u = uniform(state)
            s[a] = (u - 0.5) * (2.0 * radius if inside else edge)
        if (s[0] * s[0] + s[1] * s[1] + s[2] * s[2] < radius * radius) == inside:
            return state


@njit(error_model="numpy", cache=True, inline="always")
def _step_size(r2: float, side: int, farthest: float, tissue: Any, fine: float) -> tuple[float, float, float]:
    """Return the distance to the home sphere, that to the nearest other sphere, and the size of the step."""
    edge, radius = tissue
    r = math.sqrt(r2)
    if side == 0:
        return radius - r, math.inf, max(0.25 * (radius - r), fine * radius)
    d0, other = r - radius, math.sqrt(r2 + edge * (edge - 2.0 * farthest)) - radius
    # Where two spheres nearly touch, steps must be short compared with the gap.
    least = max(min(fine * radius, 0.2 * (d0 + other)), 0.1 * fine * radius)
    return d0, other, max(0.25 * d0, least)


@njit(error_model="numpy", cache=True, inline="always")
def _meet_others(
    start: Any, end: Any, r2: float, size: float, spread: float, s: Any, state: Any, tissue: Any, medium: Any
) -> Any:
    """Meet the six spheres around the home sphere that are near; return the end point, the state and the side."""
    edge, radius = tissue
    x1, y1, z1 = end
    for a in range(3):
        d0 = math.sqrt(r2 + edge * (edge - 2.0 * abs(start[a]))) - radius
        if d0 >= FAR * size:
            continue
        step = edge if start[a] > 0.0 else -edge
        cx, cy, cz = (step if a == 0 else 0.0), (step if a == 1 else 0.0), (step if a == 2 else 0.0)
        r1 = math.sqrt((x1 - cx) ** 2 + (y1 - cy) ** 2 + (z1 - cz) ** 2)
        state, u = uniform(state)
        distance, state, side = meet(d0, r1 - radius, spread, u, s, state, 1, medium)
        if side == 0 or distance != r1 - radius:
            scale = (radius - distance if side == 0 else radius + distance) / r1
            x1, y1, z1 = cx + (x1 - cx) * scale, cy + (y1 - cy) * scale, cz + (z1 - cz) * scale
        if side == 0:
            return x1, y1, z1, state, 0
    return x1, y1, z1, state, 1


@njit(error_model="numpy", cache=True, inline="always")
def _go_home(s: Any, x: float, y: float, z: float, side: int, tissue: Any) -> None:
    """Store a position relative to the sphere that is now nearest; a walker outside must not be within it."""
    edge, radius = tissue
    low = -0.5 * edge
    s[0], s[SHIFT] = wrapped(x, s[SHIFT], low, edge)
    s[1], s[SHIFT + 1] = wrapped(y, s[SHIFT + 1], low, edge)
    s[2], s[SHIFT + 2] = wrapped(z, s[SHIFT + 2], low, edge)
    r2 = s[0] * s[0] + s[1] * s[1] + s[2] * s[2]
    if side == 1 and r2 < radius * radius:
        scale = radius * (1.0 + 1e-12) / math.sqrt(r2)
        for a in range(3):
            s[a] *= scale


@njit(error_model="numpy", cache=True, inline="always")
def _step(s: Any, state: Any, side: int, tissue: Any, medium: Any, longest: float, fine: float) -> tuple[Any, int]:
    radius = tissue[1]
    x, y, z = s[0], s[1], s[2]
    r2 = x * x + y * y + z * z
    d0, other, size = _step_size(r2, side, max(abs(x), abs(y), abs(z)), tissue, fine)
    diffusivity = medium[1 + side] * medium[1 + side]
    tau, size = duration(size, diffusivity, longest, s[LEFT])
    state, x1, y1, z1, u = displaced(state, x, y, z, size)
    r1 = math.sqrt(x1 * x1 + y1 * y1 + z1 * z1)
    d1 = radius - r1 if side == 0 else r1 - radius
    end, state, after = meet(d0, d1, diffusivity * tau, u, s, state, side, medium)
    if after != side or end != d1:
        scale = (radius - end if after == 0 else radius + end) / r1
        x1, y1, z1 = x1 * scale, y1 * scale, z1 * scale
    if side == 1 and after == 1 and other < FAR * size:
        x1, y1, z1, state, after = _meet_others(
            (x, y, z), (x1, y1, z1), r2, size, diffusivity * tau, s, state, tissue, medium
        )
    tally(s, tau, x + x1, y + y1, z + z1, side + after)
    if side == 0 and after == 0:
        s[0], s[1], s[2] = x1, y1, z1
    else:
        _go_home(s, x1, y1, z1, after, tissue)
    return state, after


walk = make_walk(_start, _step)
