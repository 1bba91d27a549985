"""The compiled fit of two pools, blood (or free fluid) and tissue, to signals over b and echo time.

The parameter vector is (S0, fV, T2T, DV, T2V, DT, K); a parameter whose bounds are equal is not fitted. Each voxel is
matched with a lattice of pairs of decays, amplitudes in closed form; the best pair of each region starts a bounded
Levenberg-Marquardt descent, and the best few of those are followed to the end.
"""

from typing import Any

import numpy as np
from numba import njit, prange

from histomri.core.kernel_cache import ensure_cache, source_hash
from histomri.fitting.objective import FAST, exp

ensure_cache()
N = 7
N_OUT = 2 * N + 3
"""Columns of the output: values, standard errors, cost, exit, cost of the best start."""
_BLOCK = 64
_BRIEF, _LONG = 6, 400  # steps of a descent
_FOLLOWED = 3
_AT_BOUND = 1e-6
_TOLERANCE = 1e-9


@njit(**FAST)
def _fill_rows(theta: Any, b: Any, te: Any, y: Any, sigma: float, floor: bool, rows: Any) -> float:
    """Fill the derivatives of the residuals and, last, the residuals, a row each; return half the sum of squares."""
    s0, fv, t2t, dv, t2v, dt, kurtosis = theta[0], theta[1], theta[2], theta[3], theta[4], theta[5], theta[6]
    rate_t, rate_v, bend, variance, cost = 1.0 / t2t, 1.0 / t2v, kurtosis / 6.0, sigma * sigma, 0.0
    precision = 1.0 / sigma
    for m in range(y.size):
        decay = b[m] * dt
        rows[0, m] = exp(-b[m] * dv - te[m] * rate_v)
        rows[1, m] = exp(min(-decay + bend * decay * decay - te[m] * rate_t, 30.0))
    for m in range(y.size):
        blood, tissue, decay = rows[0, m], rows[1, m], b[m] * dt
        unit = fv * blood + (1.0 - fv) * tissue
        signal = s0 * unit
        chain, residual = 1.0, signal - y[m]
        if floor:
            root = np.sqrt(signal * signal + variance)
            chain = signal / root * precision
            residual = (root - y[m]) * precision
        scale = s0 * chain
        vascular, solid = scale * fv * blood, scale * (1.0 - fv) * tissue
        rows[0, m] = unit * chain
        rows[1, m] = scale * (blood - tissue)
        rows[2, m] = solid * te[m] * rate_t * rate_t
        rows[3, m] = -vascular * b[m]
        rows[4, m] = vascular * te[m] * rate_v * rate_v
        rows[5, m] = solid * b[m] * (2.0 * bend * decay - 1.0)
        rows[6, m] = solid * decay * decay * (1.0 / 6.0)
        rows[7, m] = residual
        cost += 0.5 * residual * residual
    return float(cost)


@njit(**FAST)
def _evaluate(theta: Any, limits: Any, data: Any, rows: Any, gradient: Any, hessian: Any) -> float:
    """Return half the sum of squared residuals, and fill its gradient and Gauss-Newton matrix; held ones have zeros."""
    lower, upper = limits
    b, te, y, sigma, floor = data
    cost = _fill_rows(theta, b, te, y, sigma, floor, rows)
    gradient[:] = 0.0
    hessian[:, :] = 0.0
    for i in range(N):
        if lower[i] < upper[i]:
            total = 0.0
            for m in range(y.size):
                total += rows[i, m] * rows[N, m]
            gradient[i] = total
            for j in range(i + 1):
                if lower[j] < upper[j]:
                    total = 0.0
                    for m in range(y.size):
                        total += rows[i, m] * rows[j, m]
                    hessian[i, j] = hessian[j, i] = total
    return float(cost)


@njit(**FAST)
def _solve(matrix: Any, free: Any, count: int, factor: Any, right: Any) -> bool:
    """Solve in place for the parameters listed by the first `count` of `free`; False if not positive definite.

    The factors are L below the diagonal, D L' above it, and 1/D on it: a division for each parameter, and no root.
    """
    for a in range(count):
        row = free[a]
        pivot, value = matrix[row, row], right[a]
        least = 1e-14 * pivot
        for c in range(a):
            total = matrix[row, free[c]]
            for k in range(c):
                total -= factor[a, k] * factor[k, c]
            scaled = total * factor[c, c]
            factor[c, a], factor[a, c] = total, scaled
            pivot -= total * scaled
            value -= scaled * right[c]
        if not pivot > least:
            return False
        factor[a, a], right[a] = 1.0 / pivot, value
    for a in range(count - 1, -1, -1):
        value = right[a] * factor[a, a]
        for k in range(a + 1, count):
            value -= factor[k, a] * right[k]
        right[a] = value
    return True


@njit(**FAST)
def _list_free(theta: Any, lower: Any, upper: Any, gradient: Any, damped: Any, free: Any) -> int:
    """List the parameters that may move: not fixed, not pushed against a bound, not without effect."""
    count = 0
    for i in range(N):
        held = (theta[i] <= lower[i] and gradient[i] > 0.0) or (theta[i] >= upper[i] and gradient[i] < 0.0)
        if lower[i] < upper[i] and not held and damped[i, i] > 1e-200:
            free[count] = i
            count += 1
    return count


@njit(**FAST)
def _worst(theta: Any, lower: Any, upper: Any, free: Any, count: int, right: Any) -> int:
    """Return which free parameter would leave its bounds by most, -1 if none."""
    worst, excess = -1, 0.0
    for a in range(count):
        i = free[a]
        moved = theta[i] + right[a]
        over = max(lower[i] - moved, moved - upper[i])
        if over > 0.0 and over > excess * (upper[i] - lower[i]):
            worst, excess = a, over / (upper[i] - lower[i])
    return worst


@njit(**FAST)
def _step(theta: Any, lower: Any, upper: Any, gradient: Any, damped: Any, step: Any, free: Any, work: Any) -> bool:
    """Fill the damped Newton step; parameters that would leave their bounds are put there one by one."""
    factor, right = work
    step[:] = 0.0
    count = _list_free(theta, lower, upper, gradient, damped, free)
    while count > 0:
        for a in range(count):
            right[a] = -gradient[free[a]]
            for j in range(N):
                right[a] -= damped[free[a], j] * step[j]
        if not _solve(damped, free, count, factor, right):
            return False
        worst = _worst(theta, lower, upper, free, count, right)
        if worst < 0:
            for a in range(count):
                step[free[a]] = right[a]
            return True
        i = free[worst]
        step[i] = (lower[i] if right[worst] < 0.0 else upper[i]) - theta[i]
        count -= 1
        for a in range(worst, count):
            free[a] = free[a + 1]
    return True


@njit(**FAST)
def _descend(theta: Any, limits: Any, data: Any, most: int, scratch: Any) -> Any:
    """Lower the objective within the bounds; changes `theta`, returns the objective at first and at last.

    Leaves the gradient and the Gauss-Newton matrix at the last point in `scratch`. There is one call of the objective
    only, because the compiler copies it to wherever it is called.
    """
    lower, upper = limits
    gradient, hessian, damped, step, trial, new_gradient, new_hessian, free, work, rows = scratch
    first = cost = np.inf
    damping, calm, solved = 1e-3, 0, True
    trial[:] = theta
    for n in range(most + 1):
        lowered = np.inf
        if solved:
            lowered = _evaluate(trial, limits, data, rows, new_gradient, new_hessian)
        if lowered < cost:
            calm = calm + 1 if cost - lowered < _TOLERANCE * cost + 1e-24 else 0
            theta[:] = trial
            gradient[:] = new_gradient
            hessian[:, :] = new_hessian
            cost = lowered
            damping = max(damping / 8.0, 1e-12)
        else:
            damping *= 6.0
        if n == 0:
            first, damping = cost, 1e-3
        if calm >= 2 or damping > 1e10:
            break
        damped[:, :] = hessian
        for i in range(N):
            damped[i, i] *= 1.0 + damping
        solved = _step(theta, lower, upper, gradient, damped, step, free, work)
        for i in range(N):
            trial[i] = min(max(theta[i] + step[i], lower[i]), upper[i])
    return first, cost


@njit(**FAST)
def _amplitudes(along: Any, across: Any, norm1: Any, norm2: Any, cross: Any) -> Any:
    """Return the amplitudes, neither negative, with which two decays match a signal best."""
    determinant = norm1 * norm2 - cross**2
    if determinant > 1e-10 * norm1 * norm2:
        first = (along * norm2 - across * cross) / determinant
        second = (across * norm1 - along * cross) / determinant
        if first >= 0.0 and second >= 0.0:
            return first, second
    # One amplitude is zero: the pool that matches better alone remains.
    if across > 0.0 and across**2 * norm1 > max(along, 0.0) ** 2 * norm2:
        return 0.0, across / norm2
    return max(along, 0.0) / norm1, 0.0


@njit(**FAST)
def _start(y: Any, grid: Any, overlap: Any, regions: Any, starts: Any, lowest: Any, limits: Any) -> None:
    """Find, for each region of the lattice, the pair of decays that matches best."""
    blood, tissue, blood_norm, tissue_norm, cross, blood_nodes, tissue_nodes = grid
    for q in range(tissue.shape[0]):
        total = 0.0
        for m in range(y.size):
            total += tissue[q, m] * y[m]
        overlap[q] = total
    lowest[:] = np.inf
    for p in range(blood.shape[0]):
        along = 0.0
        for m in range(y.size):
            along += blood[p, m] * y[m]
        for q in range(tissue.shape[0]):
            first, second = _amplitudes(along, overlap[q], blood_norm[p], tissue_norm[q], cross[p, q])
            gain = first * along + second * overlap[q]
            cell = regions[p, q]
            if -gain < lowest[cell]:
                lowest[cell] = -gain
                starts[cell, 0] = first + second
                starts[cell, 1] = first / max(first + second, 1e-300)
                starts[cell, 2] = tissue_nodes[q, 0]
                starts[cell, 3:5] = blood_nodes[p]
                starts[cell, 5:7] = tissue_nodes[q, 1:]
    lower, upper = limits
    for cell in range(lowest.size):
        if lowest[cell] == np.inf:
            continue
        # A fraction of exactly zero would hide the gradient of everything in that pool.
        starts[cell, 1] = min(max(starts[cell, 1], 0.02), 0.9)
        for i in range(N):
            starts[cell, i] = min(max(starts[cell, i], lower[i]), upper[i])


@njit(**FAST)
def _errors(theta: Any, limits: Any, data: Any, cost: float, scratch: Any, out: Any) -> None:
    """Fill the standard errors of the parameters inside their bounds, and the exit code."""
    lower, upper = limits
    y, floor = data[2], data[4]
    hessian, free, work = scratch[1], scratch[7], scratch[8]
    count, code = 0, 1.0
    for i in range(N):
        margin = _AT_BOUND * (upper[i] - lower[i])
        if lower[i] == upper[i]:
            continue
        if i > 0 and (theta[i] <= lower[i] + margin or theta[i] >= upper[i] - margin):
            # Only what the signals are divided by counts: T2 and diffusivity of blood rarely leave their bounds.
            if i <= 2:
                code = 2.0
        elif hessian[i, i] > 1e-200:
            free[count] = i
            count += 1
    out[2 * N + 1] = code
    scale = 1.0 if floor else (2.0 * cost / (y.size - count) if y.size > count else np.nan)
    factor, right = work
    for a in range(count):
        right[:] = 0.0
        right[a] = 1.0
        if not _solve(hessian, free, count, factor, right):
            return
        out[N + free[a]] = np.sqrt(scale * right[a])


@njit(**FAST)
def _fit_block(
    start: int, stop: int, y: Any, sigma: Any, floor: bool, b: Any, te: Any, grid: Any, regions: Any, limits: Any,
    out: Any,
) -> None:  # fmt: skip
    """Fit some voxels, one after the other."""
    cells = regions.max() + 1
    followed = min(_FOLLOWED, cells)
    scratch = (
        np.empty(N), np.empty((N, N)), np.empty((N, N)), np.empty(N), np.empty(N), np.empty(N), np.empty((N, N)),
        np.empty(N, np.int64), (np.empty((N, N)), np.empty(N)), np.empty((N + 1, y.shape[1])),
    )  # fmt: skip
    overlap, starts = np.empty(grid[1].shape[0]), np.empty((cells, N))
    lowest, costs = np.empty(cells), np.empty(cells)
    for v in range(start, stop):
        data = (b, te, y[v], sigma[v], floor)
        _start(y[v], grid, overlap, regions, starts, lowest, limits)
        costs[:] = np.inf
        first = np.inf
        order = np.arange(cells)
        # Every region briefly, the most promising ones to the end, and the best once more for its curvature.
        for turn in range(cells + followed + 1):
            if turn == cells:
                order = np.argsort(costs)
            cell, most = order[turn % cells], _BRIEF if turn < cells else _LONG
            if turn == cells + followed:
                cell, most = np.argmin(costs), 0
            if lowest[cell] == np.inf:
                continue
            before, costs[cell] = _descend(starts[cell], limits, data, most, scratch)
            if turn < cells:
                first = min(first, before)
        # The last turn was that of the best.
        best = np.argmin(costs)
        out[v, :N] = starts[best]
        out[v, 2 * N] = costs[best]
        out[v, 2 * N + 1] = -1.0
        out[v, 2 * N + 2] = first
        if costs[best] < np.inf:
            _errors(starts[best], limits, data, costs[best], scratch, out[v])


def _compile(sources: int) -> Any:
    @njit(parallel=True, cache=True)
    def fit_voxels(y: Any, sigma: Any, floor: bool, b: Any, te: Any, grid: Any, regions: Any, lower: Any, upper: Any,
                   out: Any) -> None:  # fmt: skip
        """Fit every voxel: y (V, M), sigma (V,), out (V, 17); b in ms/µm², te in ms."""
        _ = sources  # part of the key of the cache
        for block in prange((y.shape[0] + _BLOCK - 1) // _BLOCK):
            stop = min((block + 1) * _BLOCK, y.shape[0])
            _fit_block(block * _BLOCK, stop, y, sigma, floor, b, te, grid, regions, (lower, upper), out)

    return fit_voxels


fit_voxels = _compile(source_hash(__file__, "objective"))
