"""Minimum of a small quadratic within bounds, for compiled code."""

from typing import Any

import numpy as np
from numba import njit

N_PARAMETERS = 5
_SWEEPS = 40


@njit
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


@njit
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


@njit
def _free_set(theta: Any, lower: Any, upper: Any, gradient: Any, free: Any) -> int:
    """List the parameters that may move: not fixed, and not pushed against a bound."""
    count = 0
    for i in range(N_PARAMETERS):
        if lower[i] == upper[i]:
            continue
        if (theta[i] <= lower[i] and gradient[i] > 0.0) or (theta[i] >= upper[i] and gradient[i] < 0.0):
            continue
        free[count] = i
        count += 1
    return count


@njit
def _worst(theta: Any, lower: Any, upper: Any, free: Any, count: int, right: Any) -> int:
    """Return which free parameter would leave its bounds by most, -1 if none."""
    worst, excess = -1, 0.0
    for a in range(count):
        i = free[a]
        moved = theta[i] + right[a]
        over = max(lower[i] - moved, moved - upper[i]) / (upper[i] - lower[i])
        if over > excess:
            worst, excess = a, over
    return worst


@njit
def bounded_step(
    theta: Any, lower: Any, upper: Any, gradient: Any, damped: Any, free: Any, step: Any, work: Any
) -> None:
    """Minimise the damped quadratic within the bounds: parameters that would leave are set to the bound in turn."""
    factor, right = work
    step[:] = 0.0
    count = _free_set(theta, lower, upper, gradient, free)
    clipped = False
    while count > 0:
        if not cholesky(damped, free, count, factor):
            clipped = True
            break
        for a in range(count):
            right[a] = -gradient[free[a]]
            for j in range(N_PARAMETERS):
                right[a] -= damped[free[a], j] * step[j]
        substitute(factor, count, right)
        worst = _worst(theta, lower, upper, free, count, right)
        if worst < 0:
            for a in range(count):
                step[free[a]] = right[a]
            break
        clipped = True
        i = free[worst]
        step[i] = (lower[i] if right[worst] < 0.0 else upper[i]) - theta[i]
        count -= 1
        for a in range(worst, count):
            free[a] = free[a + 1]
    if clipped:
        _polish(theta, lower, upper, gradient, damped, step)


@njit
def gain_of(gradient: Any, hessian: Any, step: Any) -> float:
    """Return how much a step lowers the quadratic."""
    total = 0.0
    for i in range(N_PARAMETERS):
        bent = 0.0
        for j in range(N_PARAMETERS):
            bent += hessian[i, j] * step[j]
        total -= step[i] * (gradient[i] + 0.5 * bent)
    return total


@njit
def _polish(theta: Any, lower: Any, upper: Any, gradient: Any, damped: Any, step: Any) -> None:
    """Improve a clipped step coordinate by coordinate: clipping alone may settle on a point that is no better."""
    if not gain_of(gradient, damped, step) > 0.0:
        step[:] = 0.0
    for _ in range(_SWEEPS):
        largest = 0.0
        for i in range(N_PARAMETERS):
            if lower[i] == upper[i] or not damped[i, i] > 1e-290:
                continue
            slope = gradient[i]
            for j in range(N_PARAMETERS):
                slope += damped[i, j] * step[j]
            moved = theta[i] + step[i] - slope / damped[i, i]
            change = min(max(moved, lower[i]), upper[i]) - theta[i] - step[i]
            step[i] += change
            largest = max(largest, abs(change) / (upper[i] - lower[i]))
        if largest < 1e-6:
            break


@njit
def is_stationary(theta: Any, lower: Any, upper: Any, gradient: Any, hessian: Any, least: float) -> bool:
    """Tell whether no parameter alone can lower the quadratic by more than `least` within its bounds."""
    for i in range(N_PARAMETERS):
        if lower[i] == upper[i] or not hessian[i, i] > 1e-290:
            continue
        move = min(max(-gradient[i] / hessian[i, i], lower[i] - theta[i]), upper[i] - theta[i])
        if -move * (gradient[i] + 0.5 * hessian[i, i] * move) > least:
            return False
    return True
