"""The compiled fit of two pools, blood (or free fluid) and tissue, to signals over b and echo time.

The parameter vector is (S0, fV, T2T, DV, T2V, DT, K); a parameter whose bounds are equal is not fitted. Each voxel is
matched with a lattice of pairs of decays, amplitudes in closed form; the best pair of each region starts a bounded
Levenberg-Marquardt descent, and the best few of those are followed to the end.
"""

from typing import Any

import numpy as np
from numba import njit, prange

from histomri.core.kernel_cache import ensure_cache, source_hash
from histomri.fitting.box_qp import cholesky, substitute

ensure_cache()
N = 7
N_OUT = 2 * N + 3
"""Columns of the output: values, standard errors, cost, exit, cost of the best start."""
_BLOCK = 64
_BRIEF, _LONG = 6, 400  # steps of a descent
_FOLLOWED = 3
_AT_BOUND = 1e-6
_TOLERANCE = 1e-9


@njit
def _evaluate(theta: Any, b: Any, te: Any, y: Any, sigma: Any, floor: bool, gradient: Any, hessian: Any) -> float:
    """Return half the sum of squared residuals, and fill its gradient and Gauss-Newton matrix."""
    s0, fv, t2t, dv, t2v, dt, kurtosis = theta[0], theta[1], theta[2], theta[3], theta[4], theta[5], theta[6]
    cost = 0.0
    gradient[:] = 0.0
    hessian[:, :] = 0.0
    slope = np.empty(N)
    for m in range(y.size):
        blood = np.exp(-b[m] * dv - te[m] / t2v)
        decay = b[m] * dt
        tissue = np.exp(min(-decay + kurtosis * decay * decay / 6.0 - te[m] / t2t, 30.0))
        unit = fv * blood + (1.0 - fv) * tissue
        signal = s0 * unit
        chain, residual = 1.0, signal - y[m]
        if floor:
            root = np.sqrt(signal * signal + sigma * sigma)
            chain = signal / (root * sigma)
            residual = (root - y[m]) / sigma
        vascular, solid = s0 * fv * blood * chain, s0 * (1.0 - fv) * tissue * chain
        slope[0] = unit * chain
        slope[1] = s0 * (blood - tissue) * chain
        slope[2] = solid * te[m] / (t2t * t2t)
        slope[3] = -vascular * b[m]
        slope[4] = vascular * te[m] / (t2v * t2v)
        slope[5] = solid * (-b[m] + kurtosis * b[m] * decay / 3.0)
        slope[6] = solid * decay * decay / 6.0
        cost += 0.5 * residual * residual
        for i in range(N):
            gradient[i] += residual * slope[i]
            for j in range(i + 1):
                hessian[i, j] += slope[i] * slope[j]
    for i in range(N):
        for j in range(i):
            hessian[j, i] = hessian[i, j]
    return cost


@njit
def _solve(matrix: Any, free: Any, count: int, factor: Any, right: Any) -> bool:
    """Solve in place for the parameters listed by the first `count` of `free`; False if not positive definite."""
    if not cholesky(matrix, free, count, factor):
        return False
    substitute(factor, count, right)
    return True


@njit
def _list_free(theta: Any, lower: Any, upper: Any, gradient: Any, damped: Any, free: Any) -> int:
    """List the parameters that may move: not fixed, not pushed against a bound, not without effect."""
    count = 0
    for i in range(N):
        held = (theta[i] <= lower[i] and gradient[i] > 0.0) or (theta[i] >= upper[i] and gradient[i] < 0.0)
        if lower[i] < upper[i] and not held and damped[i, i] > 1e-200:
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


@njit
def _descend(theta: Any, limits: Any, data: Any, most: int, scratch: Any) -> Any:
    """Lower the objective within the bounds; changes `theta`, returns the objective at first and at last.

    Leaves the gradient and the Gauss-Newton matrix at the last point in `scratch`. There is one call of the objective
    only, because the compiler copies it to wherever it is called.
    """
    lower, upper = limits
    b, te, y, sigma, floor = data
    gradient, hessian, damped, step, trial, new_gradient, new_hessian, free, work = scratch
    first = cost = np.inf
    damping, calm, solved = 1e-3, 0, True
    trial[:] = theta
    for n in range(most + 1):
        lowered = np.inf
        if solved:
            lowered = _evaluate(trial, b, te, y, sigma, floor, new_gradient, new_hessian)
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


@njit
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


@njit
def _start(y: Any, grid: Any, overlap: Any, regions: Any, starts: Any, lowest: Any, limits: Any) -> None:
    """Find, for each region of the lattice, the pair of decays that matches best."""
    blood, tissue, blood_norm, tissue_norm, cross, blood_nodes, tissue_nodes = grid
    for q in range(tissue.shape[0]):
        overlap[q] = 0.0
        for m in range(y.size):
            overlap[q] += tissue[q, m] * y[m]
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


@njit
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


@njit
def _fit_block(
    start: int, stop: int, y: Any, sigma: Any, floor: bool, b: Any, te: Any, grid: Any, regions: Any, limits: Any,
    out: Any,
) -> None:  # fmt: skip
    """Fit some voxels, one after the other."""
    cells = regions.max() + 1
    followed = min(_FOLLOWED, cells)
    scratch = (
        np.empty(N), np.empty((N, N)), np.empty((N, N)), np.empty(N), np.empty(N), np.empty(N), np.empty((N, N)),
        np.empty(N, np.int64), (np.empty((N, N)), np.empty(N)),
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


fit_voxels = _compile(source_hash(__file__, "box_qp", "objective"))
