"""Minimum of a small quadratic within bounds, for compiled code.

`size` has as many entries as there are parameters: of a tuple the compiler knows the length and unrolls all loops.
"""

from typing import Any

import numpy as np
from numba import njit

from histomri.fitting.objective import FAST

_SWEEPS = 40


@njit(**FAST)
def cholesky(matrix: Any, free: Any, count: int, factor: Any) -> bool:
    """Factor the part of `matrix` named by the first `count` of `free`; False if it is not positive."""
    for a in range(count):
        for c in range(a + 1):
            total = matrix[free[a], free[c]]
            for k in range(c):
                total -= factor[a, k] * factor[c, k]
            if a == c:
                if not total > 1e-14 * matrix[free[a], free[a]]:
                    return False
                factor[a, a] = np.sqrt(total)
            else:
                factor[a, c] = total / factor[c, c]
    return True


@njit(**FAST)
def substitute(factor: Any, count: int, right: Any) -> None:
    """Solve in place with a Cholesky factor."""
    for a in range(count):
        for k in range(a):
            right[a] -= factor[a, k] * right[k]
        right[a] /= factor[a, a]
    for a in range(count - 1, -1, -1):
        for k in range(a + 1, count):
            right[a] -= factor[k, a] * right[k]
        right[a] /= factor[a, a]


@njit(**FAST)
def _solve(matrix: Any, held: Any, right: Any, factor: Any, size: Any) -> bool:
    """Solve in place for the parameters not held; False if their part of the matrix is not positive.

    The size is fixed, with ones for those held.
    """
    for a in range(len(size)):
        for c in range(a):
            total = 0.0 if held[a] + held[c] > 0 else matrix[a, c]
            for k in range(c):
                total -= factor[a, k] * factor[c, k] * factor[k, k]
            factor[a, c] = total / factor[c, c]
        pivot = matrix[a, a] if held[a] == 0 else 1.0
        least = 1e-14 * pivot
        for k in range(a):
            pivot -= factor[a, k] * factor[a, k] * factor[k, k]
        if not pivot > least:
            return False
        factor[a, a] = pivot
    for a in range(len(size)):
        for k in range(a):
            right[a] -= factor[a, k] * right[k]
    for a in range(len(size) - 1, -1, -1):
        right[a] /= factor[a, a]
        for k in range(a + 1, len(size)):
            right[a] -= factor[k, a] * right[k]
    return True


@njit(**FAST)
def _solve_five(matrix: Any, held: Any, right: Any) -> bool:
    """Do the same for five parameters with every number in a register, in half of the time."""
    h0, h1, h2, h3, h4 = held[0] > 0, held[1] > 0, held[2] > 0, held[3] > 0, held[4] > 0
    m0, m1 = 1.0 if h0 else matrix[0, 0], 1.0 if h1 else matrix[1, 1]
    m2, m3, m4 = 1.0 if h2 else matrix[2, 2], 1.0 if h3 else matrix[3, 3], 1.0 if h4 else matrix[4, 4]
    u10 = 0.0 if h1 or h0 else matrix[1, 0]
    u20, u21 = 0.0 if h2 or h0 else matrix[2, 0], 0.0 if h2 or h1 else matrix[2, 1]
    u30, u31 = 0.0 if h3 or h0 else matrix[3, 0], 0.0 if h3 or h1 else matrix[3, 1]
    u32 = 0.0 if h3 or h2 else matrix[3, 2]
    u40, u41 = 0.0 if h4 or h0 else matrix[4, 0], 0.0 if h4 or h1 else matrix[4, 1]
    u42, u43 = 0.0 if h4 or h2 else matrix[4, 2], 0.0 if h4 or h3 else matrix[4, 3]
    i0 = 1.0 / m0
    l10, l20, l30, l40 = u10 * i0, u20 * i0, u30 * i0, u40 * i0
    d1 = m1 - l10 * u10
    u21, u31, u41 = u21 - l20 * u10, u31 - l30 * u10, u41 - l40 * u10
    i1 = 1.0 / d1
    l21, l31, l41 = u21 * i1, u31 * i1, u41 * i1
    d2 = m2 - l20 * u20 - l21 * u21
    u32, u42 = u32 - l30 * u20 - l31 * u21, u42 - l40 * u20 - l41 * u21
    i2 = 1.0 / d2
    l32, l42 = u32 * i2, u42 * i2
    d3 = m3 - l30 * u30 - l31 * u31 - l32 * u32
    u43 = u43 - l40 * u30 - l41 * u31 - l42 * u32
    i3 = 1.0 / d3
    l43 = u43 * i3
    d4 = m4 - l40 * u40 - l41 * u41 - l42 * u42 - l43 * u43
    positive = m0 > 0.0 and d1 > 1e-14 * m1 and d2 > 1e-14 * m2 and d3 > 1e-14 * m3 and d4 > 1e-14 * m4
    if not positive:
        return False
    y0 = right[0]
    y1 = right[1] - l10 * y0
    y2 = right[2] - l20 * y0 - l21 * y1
    y3 = right[3] - l30 * y0 - l31 * y1 - l32 * y2
    y4 = right[4] - l40 * y0 - l41 * y1 - l42 * y2 - l43 * y3
    x4 = y4 / d4
    x3 = y3 * i3 - l43 * x4
    x2 = y2 * i2 - l32 * x3 - l42 * x4
    x1 = y1 * i1 - l21 * x2 - l31 * x3 - l41 * x4
    right[0] = y0 * i0 - l10 * x1 - l20 * x2 - l30 * x3 - l40 * x4
    right[1], right[2], right[3], right[4] = x1, x2, x3, x4
    return True


@njit(**FAST)
def _hold(theta: Any, limits: Any, gradient: Any, held: Any, size: Any) -> None:
    """Mark the parameters that may not move: fixed, or pushed against a bound."""
    for i in range(len(size)):
        low, high = theta[i] <= limits[0, i], theta[i] >= limits[1, i]
        held[i] = (low and gradient[i] > 0.0) or (high and gradient[i] < 0.0) or (low and high)


@njit(**FAST)
def _worst(theta: Any, limits: Any, held: Any, right: Any, size: Any) -> int:
    """Return which parameter would leave its bounds by most, -1 if none."""
    worst, excess = -1, 0.0
    for i in range(len(size)):
        moved = theta[i] + right[i]
        over = max(limits[0, i] - moved, moved - limits[1, i]) * limits[2, i]
        if held[i] == 0 and over > excess:
            worst, excess = i, over
    return worst


@njit(**FAST)
def bounded_step(
    theta: Any, limits: Any, gradient: Any, damped: Any, step: Any, work: Any, anyhow: bool, size: Any
) -> int:
    """Minimise the damped quadratic within the bounds: parameters that would leave are set to the bound in turn.

    Returns 1 if that is exact, 2 if that is not certain, and 0, unless `anyhow` is set, if there is no minimum.
    """
    factor, right, held = work
    _hold(theta, limits, gradient, held, size)
    step[:] = 0.0
    clipped = False
    for _ in range(len(size)):
        for a in range(len(size)):
            right[a] = -gradient[a] if held[a] == 0 else 0.0
            if clipped and held[a] == 0:
                for j in range(len(size)):
                    right[a] -= damped[a, j] * step[j]
        found = _solve_five(damped, held, right) if len(size) == 5 else _solve(damped, held, right, factor, size)
        if not found:
            return 2 if clipped or anyhow else 0
        worst = _worst(theta, limits, held, right, size)
        if worst < 0:
            for i in range(len(size)):
                if held[i] == 0:
                    step[i] = right[i]
            return 2 if clipped else 1
        clipped = True
        step[worst] = (limits[0, worst] if right[worst] < 0.0 else limits[1, worst]) - theta[worst]
        held[worst] = 1
    return 2


@njit(**FAST)
def gain_of(gradient: Any, hessian: Any, step: Any, size: Any) -> float:
    """Return how much a step lowers the quadratic."""
    total = 0.0
    for i in range(len(size)):
        bent = 0.0
        for j in range(len(size)):
            bent += hessian[i, j] * step[j]
        total -= step[i] * (gradient[i] + 0.5 * bent)
    return total


@njit(**FAST)
def polish(theta: Any, limits: Any, gradient: Any, damped: Any, step: Any, size: Any) -> None:
    """Improve a clipped step coordinate by coordinate: clipping alone may settle on a point that is no better."""
    if not gain_of(gradient, damped, step, size) > 0.0:
        step[:] = 0.0
    for _ in range(_SWEEPS):
        largest = 0.0
        for i in range(len(size)):
            if limits[0, i] == limits[1, i] or not damped[i, i] > 1e-290:
                continue
            slope = gradient[i]
            for j in range(len(size)):
                slope += damped[i, j] * step[j]
            moved = theta[i] + step[i] - slope / damped[i, i]
            change = min(max(moved, limits[0, i]), limits[1, i]) - theta[i] - step[i]
            step[i] += change
            largest = max(largest, abs(change) * limits[2, i])
        if largest < 1e-6:
            break


@njit(**FAST)
def is_stationary(theta: Any, limits: Any, gradient: Any, hessian: Any, least: float, size: Any) -> bool:
    """Tell whether no parameter alone can lower the quadratic by more than `least` within its bounds."""
    for i in range(len(size)):
        if limits[0, i] == limits[1, i] or not hessian[i, i] > 1e-290:
            continue
        move = min(max(-gradient[i] / hessian[i, i], limits[0, i] - theta[i]), limits[1, i] - theta[i])
        if -move * (gradient[i] + 0.5 * hessian[i, i] * move) > least:
            return False
    return True
