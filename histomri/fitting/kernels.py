"""The compiled fit: bounded Newton descents from the starts of a grid, one voxel at a time.

One fit serves every model, with any number of parameters: what a model brings is its objective with derivatives, and
what lists the starts. Parameters that are not free have equal bounds. `size` has as many entries as there are
parameters; of a tuple the compiler knows the length. The result of a voxel depends on nothing but that voxel.
"""

from typing import Any

import numpy as np
from numba import njit

from histomri.core.kernel_cache import ensure_cache, source_hash
from histomri.fitting.box_qp import bounded_step, cholesky, gain_of, is_stationary, polish, substitute
from histomri.fitting.composed import (
    MORE_ROWS,
    MOST_STARTS,
    evaluate_composed,
    evaluate_composed_rician,
    list_composed_starts,
    list_room,
    restart_nowhere,
)
from histomri.fitting.objective import FAST, evaluate_both, evaluate_inside, evaluate_rician
from histomri.fitting.starts import FACES, MOST_MINIMA, RESTARTS, list_starts, restart_at_bound

ensure_cache()
COST, EXIT, COVARIANCE, STEPS = range(4)
"""Columns of the output after the values and their standard errors; the covariance is that of one pair."""
MORE_COLUMNS = 4
_ITERATIONS = 200
_BRIEF = 3  # steps that every start may take
_CATCH_UP = 7.0  # how many steps of the last size are granted to catch up with the best
_SAME = 1e-3
_LOOSE = 1e-6
_BOWL = 0.1
_AT_BOUND = 1e-6


@njit(**FAST)
def _step(
    theta: Any, limits: Any, local: Any, damping: float, least: float, scratch: Any, size: Any
) -> tuple[float, Any]:
    """Find a step and what it promises; from the curvature without second derivatives if the exact one is bad."""
    damped, step, work = scratch
    gradient, hessian = local[0], local[1 + len(size) : 1 + 2 * len(size)]
    for attempt in range(2):
        if attempt == 1:
            hessian = local[1 : 1 + len(size)]
        for i in range(len(size)):
            for j in range(len(size)):
                damped[i, j] = hessian[i, j]
            damped[i, i] += damping * local[1 + i, i] + 1e-300
        kind = bounded_step(theta, limits, gradient, damped, step, work, attempt == 1, size)
        if kind > 0:
            break
    promised = gain_of(gradient, hessian, step, size)
    if kind == 2 and not promised > least:
        polish(theta, limits, gradient, damped, step, size)
        promised = gain_of(gradient, hessian, step, size)
    return promised, hessian


@njit(**FAST)
def _in_known_bowl(theta: Any, cost: float, minima: Any, count: int, size: Any) -> bool:
    """Tell whether a point lies in the bowl of a minimum already found: where its quadratic still holds."""
    places, costs, locals_ = minima
    for k in range(count):
        rise = 0.0
        for i in range(len(size)):
            bent = 0.0
            for j in range(len(size)):
                bent += locals_[k, 1 + len(size) + i, j] * (theta[j] - places[k, j])
            rise += (theta[i] - places[k, i]) * (locals_[k, 0, i] + 0.5 * bent)
        if rise >= 0.0 and abs(cost - costs[k] - rise) <= _BOWL * rise:
            return True
    return False


@njit(**FAST)
def _propose(theta: Any, limits: Any, local: Any, damping: float, least: float, scratch: Any, size: Any) -> Any:
    """Find the damping at which a step promises something; the last result is True where none does, at a minimum."""
    loosened = False
    while damping <= 1e12:
        promised, hessian = _step(theta, limits, local, damping, least, scratch, size)
        if promised > least:
            return promised, damping, False
        if damping <= _LOOSE and is_stationary(theta, limits, local[0], hessian, least, size):
            break
        # A strong damping also makes small promises: loosen it, once, before believing; and the other way round.
        damping = _LOOSE if damping > _LOOSE and not loosened else damping * 100.0
        loosened = loosened or damping == _LOOSE
    return 0.0, damping, True


@njit(**FAST)
def _accept(theta: Any, trial: Any, local: Any, new_local: Any, size: Any) -> None:
    for i in range(len(size)):
        theta[i] = trial[i]
    for i in range(2 * len(size) + 1):
        for j in range(len(size)):
            local[i, j] = new_local[i, j]


@njit(**FAST)
def _move(theta: Any, step: Any, limits: Any, trial: Any, size: Any) -> None:
    for i in range(len(size)):
        trial[i] = min(max(theta[i] + step[i], limits[0, i]), limits[1, i])


def _descent(evaluate: Any) -> Any:
    @njit(**FAST)
    def descend(theta: Any, limits: Any, setup: Any, data: Any, tol: Any, limit: int, target: float, minima: Any,
                known: int, scratch: Any, size: Any) -> tuple[float, float, int, bool]:  # fmt: skip
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
                _accept(theta, trial, local, new_local, size)
                if known > 0 and (
                    (iteration > 2 and cost - target > _CATCH_UP * max(drop, last))
                    or _in_known_bowl(theta, cost, minima, known, size)
                ):
                    break
            else:
                damping *= growth
                growth *= 2.0
            if not cost < np.inf or iteration == limit:
                break
            least = tol[0] * abs(cost) + tol[1]
            promised, damping, done = _propose(theta, limits, local, damping, least, small, size)
            if done:
                break
            _move(theta, step, limits, trial, size)
        return cost, drop, iteration, done

    return descend


@njit(**FAST)
def _errors(theta: Any, limits: Any, plain: Any, work: Any, size: Any, pair: Any, out: Any) -> None:
    """Fill in standard errors, from the Fisher information of the parameters between their bounds; flag the others."""
    factor, right, free = work
    n, count, bound = len(size), 0, False
    for i in range(len(size)):
        out[n + i] = np.nan
        low, high = limits[0, i], limits[1, i]
        margin = _AT_BOUND * (high - low)
        if low == high:
            continue
        if theta[i] - low <= margin or high - theta[i] <= margin:
            bound = True
            continue
        free[count] = i
        count += 1
    out[2 * n + EXIT] = 2.0 if bound else 1.0
    out[2 * n + COVARIANCE] = np.nan
    if not cholesky(plain, free, count, factor):
        return
    for a in range(count):
        right[:] = 0.0
        right[a] = 1.0
        substitute(factor, count, right)
        out[n + free[a]] = np.sqrt(right[a])
        if free[a] == pair[0]:
            out[2 * n + COVARIANCE] = 0.0
            for c in range(count):
                if free[c] == pair[1]:
                    out[2 * n + COVARIANCE] = right[c]


@njit(**FAST)
def _is_repeated(thetas: Any, order: Any, count: int, limits: Any, size: Any) -> bool:
    """Tell whether the start `order[count]` has come to where one of those before it went."""
    for k in range(count):
        far = 0.0
        for i in range(len(size)):
            if limits[0, i] < limits[1, i]:
                far = max(far, abs(thetas[order[k], i] - thetas[order[count], i]) / (limits[1, i] - limits[0, i]))
        if far < _SAME:
            return True
    return False


@njit(**FAST)
def _is_dominated(n: int, order: Any, thetas: Any, costs: Any, drops: Any, limits: Any, zero: float, size: Any) -> bool:
    """Tell whether the start `order[n]` need not be followed, after its first steps."""
    k, target = order[n], costs.min()
    if costs[k] == np.inf or (n > 0 and target <= zero):
        return True
    if n > 2 and drops[k] > 0.0 and costs[k] - target > _CATCH_UP * drops[k]:
        return True
    return bool(_is_repeated(thetas, order, n, limits, size))


def _make_fit(evaluate: Any, list_starts: Any, restart: Any) -> Any:
    """Compile the fit of one voxel, from an objective, what lists the starts, and what starts once more."""
    descend = _descent(evaluate)

    @njit(**FAST)
    def fit_voxel(data: Any, setup: Any, grid: Any, limits: Any, tolerance: Any, room: Any, scratch: Any,
                  out: Any) -> None:  # fmt: skip
        """Descend briefly from every start, follow the promising ones, and the best to the end."""
        listing, thetas, costs, drops, minima = room
        finest, fine, slack, zero, size, pair = tolerance
        n_parameters = len(size)
        count = list_starts(data, grid, limits, slack, listing, thetas)
        costs[:] = np.inf
        steps, known = 0, 0
        for k in range(count):
            costs[k], drops[k], taken, _ = descend(
                thetas[k], limits, setup, data, fine, _BRIEF, np.inf, minima, 0, scratch, size
            )
            steps += taken + 1
        order = np.argsort(costs[:count])
        for n in range(count + RESTARTS):
            k, target = n, costs.min()
            if n < count:
                k = order[n]
                useful = not _is_dominated(n, order, thetas, costs, drops, limits, zero, size)
            else:
                useful = target > zero and restart(n - count, thetas[np.argmin(costs)], limits, thetas[k])
            if not useful:
                continue
            costs[k], drops[k], taken, done = descend(
                thetas[k], limits, setup, data, fine, _ITERATIONS, target, minima, known, scratch, size
            )
            steps += taken + 1
            if done:
                minima[0][known], minima[1][known], minima[2][known] = (
                    thetas[k],
                    costs[k],
                    scratch[0][: 2 * n_parameters + 1],
                )
                known += 1
        best = np.argmin(costs)
        costs[best], _, taken, _ = descend(
            thetas[best], limits, setup, data, finest, _ITERATIONS, np.inf, minima, 0, scratch, size
        )
        out[:n_parameters] = thetas[best]
        out[2 * n_parameters + COST], out[2 * n_parameters + EXIT] = costs[best], -1.0
        out[2 * n_parameters + STEPS] = steps + taken + 1
        if costs[best] < np.inf:
            _errors(thetas[best], limits, scratch[0][1 : 1 + n_parameters], scratch[3][2], size, pair, out)

    return fit_voxel


_INSIDE, _BOTH, _RICIAN = (
    _make_fit(each, list_starts, restart_at_bound) for each in (evaluate_inside, evaluate_both, evaluate_rician)
)
_COMPOSED, _COMPOSED_RICIAN = (
    _make_fit(each, list_composed_starts, restart_nowhere) for each in (evaluate_composed, evaluate_composed_rician)
)


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
def _allocate(n: int, starts: int, more: int, width: int) -> Any:
    """Make what a fit of n parameters writes on: room for its starts, and scratch for its descents.

    The objective has `more` rows of `width` numbers, at least n, for itself, below its derivatives.
    """
    minima = (np.empty((starts, n)), np.empty(starts), np.empty((starts, 2 * n + 1, width)))
    work = (np.zeros((n, n)), np.empty(n), np.empty(n, np.int64))
    small = (np.empty((n, n)), np.empty(n), work)
    rows = 2 * n + 1 + more
    scratch = (np.zeros((rows, width)), np.zeros((rows, width)), np.empty(n), small)
    return (np.empty((starts, n)), np.empty(starts), np.zeros(starts), minima), scratch


@njit
def _allocate_composed(grid: Any, n: int, parts: int, width: int) -> Any:
    """Make what the fit of a model made of compartments writes on."""
    room, scratch = _allocate(n, MOST_STARTS + RESTARTS, MORE_ROWS, max(n, 2 * parts))
    return (list_room(grid, width), *room), scratch


@njit
def _allocate_pair(axes: Any, width: int) -> Any:
    """Make what the fit of spheres, with or without a compartment beside them, writes on."""
    shape = (axes[0].size, axes[1].size, axes[2].size, axes[3].size)
    outer = shape[2] * shape[3]
    listing = (
        (np.empty(width), np.empty(outer), np.empty(outer), np.empty(outer)), np.empty(shape), np.empty(shape),
        np.empty(MOST_MINIMA + FACES, np.int64), np.empty(MOST_MINIMA),
    )  # fmt: skip
    room, scratch = _allocate(5, MOST_MINIMA + FACES + RESTARTS, 0, 5)
    return (listing, *room), scratch


def _compile(sources: int, kind: int) -> Any:
    @njit(cache=True, nogil=True, **FAST)
    def fit_voxels(y: Any, sigma: Any, noisy: bool, groups: Any, setup: Any, grid: Any, limits: Any, tolerance: Any,
                   out: Any) -> None:  # fmt: skip
        """Fit every voxel: y and sigma (V, M), out (V, N_OUT)."""
        _ = sources  # part of the key of the cache
        group, counts = groups
        data = np.zeros((3, counts.size))
        if kind < 3:
            room, scratch = _allocate_pair(grid[1], counts.size)
        else:
            room, scratch = _allocate_composed(grid, len(tolerance[4]), setup[7].shape[0], counts.size)
        for v in range(y.shape[0]):
            spread = _average(y[v], sigma[v], group, counts, noisy, data)
            # Only the branch of this kind is compiled. A kernel among the closed-over variables would defeat the cache.
            if kind == 0:
                _INSIDE(data, setup, grid, limits, tolerance, room, scratch, out[v])
            elif kind == 1:
                _BOTH(data, setup, grid, limits, tolerance, room, scratch, out[v])
            elif kind == 2:
                _RICIAN(data, setup, grid, limits, tolerance, room, scratch, out[v])
            elif kind == 3:
                _COMPOSED(data, setup, grid, limits, tolerance, room, scratch, out[v])
            else:
                _COMPOSED_RICIAN(data, setup, grid, limits, tolerance, room, scratch, out[v])
            out[v, 2 * len(tolerance[4]) + COST] += spread

    return fit_voxels


_SOURCES = source_hash(__file__, "box_qp", "composed", "objective", "starts")
FIT_VOXELS = tuple(_compile(_SOURCES, kind) for kind in range(5))
"""For spheres alone, for those with a compartment beside them, and for the exact Rician likelihood of either; for any
model made of compartments, and for the exact Rician likelihood of these."""
