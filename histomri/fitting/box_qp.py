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

    The size is fixed, with ones for those held, so that the compiler can unroll everything.
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
            right[a] = -gradient[a]
            for j in range(len(size)):
                right[a] -= damped[a, j] * step[j]
            if held[a] > 0:
                right[a] = 0.0
        if not _solve(damped, held, right, factor, size):
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
