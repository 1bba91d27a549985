"""Walks in and around equal spheres on a cubic lattice."""

import math
from typing import Any

import numpy as np
from numba import njit

from histomri.core.kernel_cache import ensure_cache

from .kernels import NORMAL, advance, cross, local_time, mix, uniform

ensure_cache()
_MASK = np.uint64(4095)
_LANES = 16  # walkers that take turns: the processor works on the step of one while another waits for its roots


@njit(cache=True)
def _start(p: Any, state: Any, inside: bool, edge: float, radius: float) -> Any:
    """Put a walker somewhere inside the sphere or outside of it, within its cube; return the state."""
    while True:
        for a in range(3):
            state = advance(state)
            p[a] = (uniform(mix(state)) - 0.5) * (2.0 * radius if inside else edge)
        squared = p[0] * p[0] + p[1] * p[1] + p[2] * p[2]
        if (squared < radius * radius) == inside:
            return state


@njit(cache=True, nogil=True, fastmath={"contract"})
def walk(
    first: int, count: int, n_inside: int, seed: Any, spans: Any, longest: float, edge: float, radius: float,
    d_in: float, d_out: float, kappa: float, fine: float, out: Any,
) -> None:  # fmt: skip
    """Walk `count` walkers, numbered from `first`, and record them at every edge of the plan.

    Walkers below n_inside start inside. spans (S,) are the durations between the edges, ms; out is (count, S + 1,
    RECORD). fine is the smallest step beside a membrane as a fraction of the radius.
    """
    normal = NORMAL
    n_spans = spans.size
    p = np.zeros((_LANES, 3))  # position relative to the centre of the home sphere
    home = np.zeros((_LANES, 3))  # and that centre, relative to where the walker started from
    total = np.zeros((_LANES, 6))  # running integral of the position, crossings, local time over D, time inside
    clock, left = np.zeros(_LANES), np.zeros(_LANES)
    side, span, row = np.zeros(_LANES, np.int64), np.zeros(_LANES, np.int64), np.zeros(_LANES, np.int64)
    state = np.zeros(_LANES, np.uint64)
    root_in, root_out = math.sqrt(d_in), math.sqrt(d_out)
    far, near, nearest = radius * fine, 0.1 * radius * fine, 0.0
    waiting, active = 0, 0
    while True:
        while active < _LANES and waiting < count:
            k = active
            number = np.uint64(first + waiting + 1)
            state[k] = mix(mix(seed * np.uint64(0x2545F4914F6CDD1D)) ^ (number * np.uint64(0xD1342543DE82EF95)))
            inside = first + waiting < n_inside
            state[k] = _start(p[k], state[k], inside, edge, radius)
            state[k] = advance(state[k])
            clock[k] = -math.log(uniform(mix(state[k]))) if kappa > 0.0 else np.inf
            side[k] = 0 if inside else 1
            row[k], span[k], left[k] = waiting, 0, spans[0]
            home[k, :] = 0.0
            total[k, :] = 0.0
            out[waiting, 0, :] = 0.0
            out[waiting, 0, 6] = 1.0 if inside else 0.0
            waiting += 1
            active += 1
        if active == 0:
            return
        k = 0
        while k < active:
            x, y, z = p[k, 0], p[k, 1], p[k, 2]
            r2 = x * x + y * y + z * z
            r = math.sqrt(r2)
            s = side[k]
            if s == 0:
                d0 = radius - r
                size, diffusivity, root = max(0.25 * d0, far), d_in, root_in
            else:
                d0 = r - radius
                nearest = math.sqrt(r2 + edge * (edge - 2.0 * max(abs(x), abs(y), abs(z)))) - radius
                size = max(0.25 * d0, max(min(far, 0.2 * (d0 + nearest)), near))
                diffusivity, root = d_out, root_out
            tau = size * size / (2.0 * diffusivity)
            rest = left[k]
            if tau > longest:
                tau = longest
                size = root * math.sqrt(2.0 * tau)
            if 2.0 * tau > rest:
                tau = rest if tau >= 0.75 * rest else 0.5 * rest
                size = root * math.sqrt(2.0 * tau)
            spread = diffusivity * tau
            now = advance(state[k])
            bits = mix(now)
            x1 = x + size * normal[bits & _MASK]
            y1 = y + size * normal[(bits >> np.uint64(12)) & _MASK]
            z1 = z + size * normal[(bits >> np.uint64(24)) & _MASK]
            u = (float(bits >> np.uint64(36)) + 0.5) * (1.0 / 268435456.0)
            r1 = math.sqrt(x1 * x1 + y1 * y1 + z1 * z1)
            d1 = radius - r1 if s == 0 else r1 - radius
            hx, hy, hz = home[k, 0], home[k, 1], home[k, 2]
            beside = (hx + x, hy + y, hz + z)
            after = s
            time = local_time(d0, d1, spread, u)
            if time > 0.0:
                if kappa > 0.0:
                    after, clock[k], now, n, over = cross(time, s, clock[k], now, kappa, root_in, root_out)
                    total[k, 3] += n
                    total[k, 4] += over
                end = d1 + time
                if after != s:
                    end *= root_out / root_in if s == 0 else root_in / root_out
                scale = (radius - end if after == 0 else radius + end) / r1
                x1 *= scale
                y1 *= scale
                z1 *= scale
            if s == 1 and after == 1:
                if nearest < 5.0 * size:
                    for a in range(3):
                        along = x if a == 0 else (y if a == 1 else z)
                        d0 = math.sqrt(r2 + edge * (edge - 2.0 * abs(along))) - radius
                        if d0 < 5.0 * size:
                            step = edge if along > 0.0 else -edge
                            qx, qy, qz = x1, y1, z1
                            if a == 0:
                                qx -= step
                            elif a == 1:
                                qy -= step
                            else:
                                qz -= step
                            r1 = math.sqrt(qx * qx + qy * qy + qz * qz)
                            d1 = r1 - radius
                            if d1 < 0.0 or d0 * d1 < 14.0 * spread:
                                now = advance(now)
                                time = local_time(d0, d1, spread, uniform(mix(now)))
                                if time > 0.0:
                                    if kappa > 0.0:
                                        after, clock[k], now, n, over = cross(
                                            time, 1, clock[k], now, kappa, root_in, root_out
                                        )
                                        total[k, 3] += n
                                        total[k, 4] += over
                                    end = d1 + time
                                    if after == 0:
                                        end *= root_in / root_out
                                    scale = (radius - end if after == 0 else radius + end) / r1
                                    x1, y1, z1 = qx * scale, qy * scale, qz * scale
                                    if a == 0:
                                        x1 += step
                                    elif a == 1:
                                        y1 += step
                                    else:
                                        z1 += step
                                    if after == 0:
                                        break
                half = 0.5 * edge
                if abs(x1) > half or abs(y1) > half or abs(z1) > half:
                    if x1 > half:
                        x1 -= edge
                        hx += edge
                    elif x1 < -half:
                        x1 += edge
                        hx -= edge
                    if y1 > half:
                        y1 -= edge
                        hy += edge
                    elif y1 < -half:
                        y1 += edge
                        hy -= edge
                    if z1 > half:
                        z1 -= edge
                        hz += edge
                    elif z1 < -half:
                        z1 += edge
                        hz -= edge
                    home[k, 0], home[k, 1], home[k, 2] = hx, hy, hz
                if after == 1:
                    r2 = x1 * x1 + y1 * y1 + z1 * z1
                    if r2 < radius * radius:
                        scale = radius * (1.0 + 1e-12) / math.sqrt(r2)
                        x1 *= scale
                        y1 *= scale
                        z1 *= scale
            p[k, 0], p[k, 1], p[k, 2] = x1, y1, z1
            side[k], state[k] = after, now
            weight = 0.5 * tau
            total[k, 0] += weight * (beside[0] + hx + x1)
            total[k, 1] += weight * (beside[1] + hy + y1)
            total[k, 2] += weight * (beside[2] + hz + z1)
            total[k, 5] += weight * (2.0 - s - after)
            rest -= tau
            if rest <= 1e-12:
                j = span[k] + 1
                w = row[k]
                for a in range(6):
                    out[w, j, a] = total[k, a]
                out[w, j, 6] = 1.0 - after
                if j == n_spans:
                    active -= 1
                    if k < active:
                        p[k], home[k], total[k] = p[active], home[active], total[active]
                        clock[k], left[k], side[k] = clock[active], left[active], side[active]
                        span[k], row[k], state[k] = span[active], row[active], state[active]
                    continue
                span[k], rest = j, spans[j]
            left[k] = rest
            k += 1
