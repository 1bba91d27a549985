"""The compiled fit: bounded Newton descents from the starts of a grid, one voxel at a time.

One set of kernels serves every model: the parameter vector always is (fI, D0I, L, DEinf, beta), and a model
declares which of them are free. The result of a voxel depends on nothing but that voxel.
"""

from typing import Any

import numpy as np
from numba import njit

from histomri.core.kernel_cache import ensure_cache, source_hash
from histomri.fitting.box_qp import N_PARAMETERS, bounded_step, cholesky, gain_of, is_stationary, polish, substitute
from histomri.fitting.objective import FAST, evaluate_both, evaluate_inside, evaluate_rician
from histomri.fitting.starts import (
    FACES,
    MOST_MINIMA,
    RESTARTS,
    add_faces,
    local_grid_minima,
    put,
    restart_at_bound,
    score_grid,
)  # fmt: skip

ensure_cache()
N_OUT = 2 * N_PARAMETERS + 4
"""Columns of the output: values, standard errors, cost, exit, covariance of fI and L, steps."""
_COST, _EXIT, _COVARIANCE, _STEPS = range(2 * N_PARAMETERS, N_OUT)
_ITERATIONS = 200
_BRIEF = 3  # steps that every start may take
_CATCH_UP = 7.0  # how many steps of the last size are granted to catch up with the best
_SAME = 1e-3
_LOOSE = 1e-6
_BOWL = 0.1
_AT_BOUND = 1e-6


@njit(**FAST)
def _step(theta: Any, limits: Any, local: Any, damping: float, least: float, scratch: Any) -> tuple[float, Any]:
    """Find a step and what it promises; from the curvature without second derivatives if the exact one is bad."""
    damped, step, work = scratch
    gradient, hessian = local[0], local[6:11]
    for attempt in range(2):
        if attempt == 1:
            hessian = local[1:6]
        for i in range(N_PARAMETERS):
            for j in range(N_PARAMETERS):
                damped[i, j] = hessian[i, j]
            damped[i, i] += damping * local[1 + i, i] + 1e-300
        kind = bounded_step(theta, limits, gradient, damped, step, work, attempt == 1)
        if kind > 0:
            break
    promised = gain_of(gradient, hessian, step)
    if kind == 2 and not promised > least:
        polish(theta, limits, gradient, damped, step)
        promised = gain_of(gradient, hessian, step)
    return promised, hessian


@njit(**FAST)
def _in_known_bowl(theta: Any, cost: float, minima: Any, count: int) -> bool:
    """Tell whether a point lies in the bowl of a minimum already found: where its quadratic still holds."""
    places, costs, locals_ = minima
    for k in range(count):
        rise = 0.0
        for i in range(N_PARAMETERS):
            bent = 0.0
            for j in range(N_PARAMETERS):
                bent += locals_[k, 6 + i, j] * (theta[j] - places[k, j])
            rise += (theta[i] - places[k, i]) * (locals_[k, 0, i] + 0.5 * bent)
        if rise >= 0.0 and abs(cost - costs[k] - rise) <= _BOWL * rise:
            return True
    return False


@njit(**FAST)
def _propose(theta: Any, limits: Any, local: Any, damping: float, least: float, scratch: Any) -> Any:
    """Find the damping at which a step promises something; the last result is True where none does, at a minimum."""
    loosened = False
    while damping <= 1e12:
        promised, hessian = _step(theta, limits, local, damping, least, scratch)
        if promised > least:
            return promised, damping, False
        if damping <= _LOOSE and is_stationary(theta, limits, local[0], hessian, least):
            break
        # A strong damping also makes small promises: loosen it, once, before believing; and the other way round.
        damping = _LOOSE if damping > _LOOSE and not loosened else damping * 100.0
        loosened = loosened or damping == _LOOSE
    return 0.0, damping, True


@njit(**FAST)
def _accept(theta: Any, trial: Any, local: Any, new_local: Any) -> None:
    for i in range(N_PARAMETERS):
        theta[i] = trial[i]
    for i in range(2 * N_PARAMETERS + 1):
        for j in range(N_PARAMETERS):
            local[i, j] = new_local[i, j]


@njit(**FAST)
def _move(theta: Any, step: Any, limits: Any, trial: Any) -> None:
    for i in range(N_PARAMETERS):
        trial[i] = min(max(theta[i] + step[i], limits[0, i]), limits[1, i])


def _descent(evaluate: Any) -> Any:
    @njit(**FAST)
    def descend(theta: Any, limits: Any, setup: Any, data: Any, tol: Any, limit: int, target: float, minima: Any,
                known: int, scratch: Any) -> tuple[float, float, int, bool]:  # fmt: skip
        """Damped Newton within bounds, in place; only steps that lower the objective are taken.

        It gives up in the bowl of a minimum known, or when at the pace of the last steps it will not catch up with the
        objective of `target`. Returns the objective, by how much the last step lowered it, the number of steps, and
        whether this is a minimum.
        """
        local, new_local, trial, small = scratch
        step = small[1]
        cost, drop, last = np.inf, 0.0, 0.0
        damping, growth, promised = 1e-3, 2.0, 1.0
        trial[:] = theta
        done = False
        for iteration in range(limit + 1):
            new = evaluate(trial, setup, data, new_local)
            if new < cost:
                if iteration > 0:
                    last, drop = drop, cost - new
                    gain = drop / promised
                    damping = max(damping * max(1.0 / 9.0, 1.0 - (2.0 * gain - 1.0) ** 3), 1e-12)
                    growth = 2.0
                cost = new
                _accept(theta, trial, local, new_local)
                if known > 0 and (
                    (iteration > 2 and cost - target > _CATCH_UP * max(drop, last))
                    or _in_known_bowl(theta, cost, minima, known)
                ):
                    break
            else:
                damping *= growth
                growth *= 2.0
            if not cost < np.inf or iteration == limit:
                break
            least = tol[0] * abs(cost) + tol[1]
            promised, damping, done = _propose(theta, limits, local, damping, least, small)
            if done:
                break
            _move(theta, step, limits, trial)
        return cost, drop, iteration, done

    return descend


@njit(**FAST)
def _errors(theta: Any, limits: Any, plain: Any, work: Any, out: Any) -> None:
    """Fill in standard errors, from the Fisher information of the parameters between their bounds; flag the others."""
    factor, right, free = work
    count, bound = 0, False
    for i in range(N_PARAMETERS):
        out[N_PARAMETERS + i] = np.nan
        low, high = limits[0, i], limits[1, i]
        margin = _AT_BOUND * (high - low)
        if low == high:
            continue
        if theta[i] - low <= margin or high - theta[i] <= margin:
            bound = True
            continue
        free[count] = i
        count += 1
    out[_EXIT] = 2.0 if bound else 1.0
    out[_COVARIANCE] = np.nan
    if not cholesky(plain, free, count, factor):
        return
    for a in range(count):
        right[:] = 0.0
        right[a] = 1.0
        substitute(factor, count, right)
        out[N_PARAMETERS + free[a]] = np.sqrt(right[a])
        if free[a] == 0:
            out[_COVARIANCE] = 0.0
            for c in range(count):
                if free[c] == 2:
                    out[_COVARIANCE] = right[c]


@njit(**FAST)
def _is_repeated(thetas: Any, order: Any, count: int, limits: Any) -> bool:
    """Tell whether the start `order[count]` has come to where one of those before it went."""
    for k in range(count):
        far = 0.0
        for i in range(N_PARAMETERS):
            if limits[0, i] < limits[1, i]:
                far = max(far, abs(thetas[order[k], i] - thetas[order[count], i]) / (limits[1, i] - limits[0, i]))
        if far < _SAME:
            return True
    return False


@njit(**FAST)
def _is_dominated(n: int, order: Any, thetas: Any, costs: Any, drops: Any, limits: Any, zero: float) -> bool:
    """Tell whether the start `order[n]` need not be followed, after its first steps."""
    k, target = order[n], costs.min()
    if costs[k] == np.inf or (n > 0 and target <= zero):
        return True
    if n > 2 and drops[k] > 0.0 and costs[k] - target > _CATCH_UP * drops[k]:
        return True
    return bool(_is_repeated(thetas, order, n, limits))


def _voxel(evaluate: Any) -> Any:
    descend = _descent(evaluate)

    @njit(**FAST)
    def fit_voxel(data: Any, setup: Any, grid: Any, limits: Any, tolerance: Any, room: Any, scratch: Any,
                  out: Any) -> None:  # fmt: skip
        """Descend briefly from every start, follow the promising ones, and the best to the end."""
        atoms, axes = grid
        scoring, scores, fractions, places, lowest, thetas, costs, drops, minima = room
        finest, fine, slack, zero = tolerance
        pairs = (atoms[0].shape[0], atoms[1].shape[1])
        score_grid(data, atoms, limits[0, 0], limits[1, 0], scoring, scores.reshape(pairs), fractions.reshape(pairs))
        count = local_grid_minima(scores, slack, places, lowest)
        if axes[2].size > 1:
            count = add_faces(scores, places, count)
        costs[:] = np.inf
        steps, known = 0, 0
        for k in range(count):
            put(places[k], scores, fractions, axes, thetas[k])
            costs[k], drops[k], taken, _ = descend(
                thetas[k], limits, setup, data, fine, _BRIEF, np.inf, minima, 0, scratch
            )
            steps += taken + 1
        order = np.argsort(costs[:count])
        for n in range(count + RESTARTS):
            k, target = n, costs.min()
            if n < count:
                k = order[n]
                useful = not _is_dominated(n, order, thetas, costs, drops, limits, zero)
            else:
                useful = target > zero and restart_at_bound(n - count, thetas[np.argmin(costs)], limits, thetas[k])
            if not useful:
                continue
            costs[k], drops[k], taken, done = descend(
                thetas[k], limits, setup, data, fine, _ITERATIONS, target, minima, known, scratch
            )
            steps += taken + 1
            if done:
                minima[0][known], minima[1][known], minima[2][known] = thetas[k], costs[k], scratch[0]
                known += 1
        best = np.argmin(costs)
        costs[best], _, taken, _ = descend(
            thetas[best], limits, setup, data, finest, _ITERATIONS, np.inf, minima, 0, scratch
        )
        out[:N_PARAMETERS] = thetas[best]
        out[_COST], out[_EXIT], out[_STEPS] = costs[best], -1.0, steps + taken + 1
        if costs[best] < np.inf:
            _errors(thetas[best], limits, scratch[0][1:6], scratch[3][2], out)

    return fit_voxel


_INSIDE, _BOTH, _RICIAN = (_voxel(each) for each in (evaluate_inside, evaluate_both, evaluate_rician))


@njit(error_model="numpy")
def _average(y: Any, sigma: Any, group: Any, counts: Any, noisy: bool, data: Any) -> float:
    """Fill in mean, variance and weight of each group, (3, U); return the objective of what varies within."""
    data[0] = 0.0
    data[1] = 1.0 if noisy else 0.0
    for m in range(group.size):
        u = group[m]
        data[0, u] += y[m] / counts[u]
        if noisy:
            data[1, u] = sigma[m] * sigma[m]
    for u in range(counts.size):
        data[2, u] = counts[u] / data[1, u] if noisy else counts[u]
    left = 0.0
    for m in range(group.size):
        u = group[m]
        left += 0.5 * (y[m] - data[0, u]) ** 2 * data[2, u] / counts[u]
    return left


@njit
def _allocate(axes: Any, width: int) -> Any:
    """Make what `fit_voxel` writes on: room for its starts, and scratch for its descents."""
    size, starts = N_PARAMETERS, MOST_MINIMA + FACES + RESTARTS
    shape = (axes[0].size, axes[1].size, axes[2].size, axes[3].size)
    outer = shape[2] * shape[3]
    room = (
        (np.empty(width), np.empty(outer), np.empty(outer), np.empty(outer)), np.empty(shape), np.empty(shape),
        np.empty(starts, np.int64), np.empty(MOST_MINIMA), np.empty((starts, size)), np.empty(starts),
        np.zeros(starts), (np.empty((starts, size)), np.empty(starts), np.empty((starts, 2 * size + 1, size))),
    )  # fmt: skip
    work = (np.zeros((size, size)), np.empty(size), np.empty(size, np.int64))
    small = (np.empty((size, size)), np.empty(size), work)
    return room, (np.zeros((2 * size + 1, size)), np.zeros((2 * size + 1, size)), np.empty(size), small)


def _compile(sources: int, kind: int) -> Any:
    @njit(cache=True, nogil=True, **FAST)
    def fit_voxels(y: Any, sigma: Any, noisy: bool, groups: Any, setup: Any, grid: Any, limits: Any, tolerance: Any,
                   out: Any) -> None:  # fmt: skip
        """Fit every voxel: y and sigma (V, M), out (V, N_OUT)."""
        _ = sources  # part of the key of the cache
        group, counts = groups
        data = np.zeros((3, counts.size))
        room, scratch = _allocate(grid[1], counts.size)
        for v in range(y.shape[0]):
            spread = _average(y[v], sigma[v], group, counts, noisy, data)
            # Only the branch of this kind is compiled. A kernel among the closed-over variables would defeat the cache.
            if kind == 0:
                _INSIDE(data, setup, grid, limits, tolerance, room, scratch, out[v])
            elif kind == 1:
                _BOTH(data, setup, grid, limits, tolerance, room, scratch, out[v])
            else:
                _RICIAN(data, setup, grid, limits, tolerance, room, scratch, out[v])
            out[v, _COST] += spread

    return fit_voxels


_SOURCES = source_hash(__file__, "box_qp", "objective", "starts")
FIT_VOXELS = tuple(_compile(_SOURCES, kind) for kind in range(3))
"""For models of spheres alone, for those with an extra-cellular part, and for the exact Rician likelihood of any."""
