"""The compiled fit: a grid of atoms for the starts, then bounded Newton descents, one voxel at a time.

One set of kernels serves every model: the parameter vector always is (fI, D0I, L, DEinf, beta), and a model says
which of them are free.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from histomri.fitting.boxed import N_PARAMETERS, bounded_step, cholesky, gain_of, is_stationary, polish, substitute
from histomri.fitting.rows import FAST, evaluate_both, evaluate_inside, evaluate_rician

N_OUT = 2 * N_PARAMETERS + 4
"""Columns of the output: values, standard errors, cost, exit, covariance of fI and L, steps."""
_ITERATIONS = 200
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
def _leads(theta: Any, cost: float, minima: Any, count: int) -> bool:
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
    """Find the damping at which a step promises something; the last result tells that there is none, a minimum."""
    while damping <= 1e12:
        promised, hessian = _step(theta, limits, local, damping, least, scratch)
        if promised > least:
            return promised, damping, False
        if damping <= _LOOSE and is_stationary(theta, limits, local[0], hessian, least):
            break
        # A strong damping also makes small promises: loosen it before believing; and the other way round.
        damping = damping * 100.0 if damping <= _LOOSE else _LOOSE
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


def _make(evaluate: Any) -> Any:
    @njit(**FAST)
    def descend(theta: Any, limits: Any, setup: Any, data: Any, tol: Any, limit: int, rival: float,
                 hopeless: float, minima: Any, known: int, scratch: Any) -> tuple[float, float, int, bool]:  # fmt: skip
        """Damped Newton within bounds, in place; only steps that lower the objective are taken.

        It gives up when, at the pace of the last step, `hopeless` more would not reach the objective of a `rival`.
        Returns the objective, by how much the last step lowered it, and the number of steps.
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
                    (iteration > 2 and cost - rival > hopeless * max(drop, last)) or _leads(theta, cost, minima, known)
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
def _grid(data: Any, atoms: Any, low: float, high: float, sums: Any, yo: Any, cells: Any, chosen: Any, lowest: Any,
          fractions: Any) -> None:  # fmt: skip
    """Find the best pair of atoms of every region, with the best fraction in closed form (unweighted least squares)."""
    inside, outside, io, ii, oo, counts = atoms
    lowest[:] = np.inf
    chosen[:] = -1
    for u in range(counts.size):
        value = data[0, u]
        if data[1, u] > 0.0:
            value = np.sqrt(max(value * value - data[1, u], 0.0))
        sums[u] = value * counts[u]
    for q in range(outside.shape[0]):
        total = 0.0
        for u in range(sums.size):
            total += outside[q, u] * sums[u]
        yo[q] = total
    for p in range(inside.shape[0]):
        yi = 0.0
        for u in range(sums.size):
            yi += inside[p, u] * sums[u]
        for q in range(outside.shape[0]):
            span = max(ii[p] - 2.0 * io[p, q] + oo[q], 1e-30)
            overlap = yi - yo[q] - io[p, q] + oo[q]
            best = min(max(overlap / span, low), high)
            score = oo[q] - 2.0 * yo[q] - 2.0 * best * overlap + best * best * span
            k = cells[0][p] + cells[1][q]
            if score < lowest[k]:
                lowest[k] = score
                fractions[k] = best
                chosen[k, 0], chosen[k, 1] = p, q


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
    out[2 * N_PARAMETERS + 1] = 2.0 if bound else 1.0
    out[2 * N_PARAMETERS + 2] = np.nan
    if not cholesky(plain, free, count, factor):
        return
    for a in range(count):
        right[:] = 0.0
        right[a] = 1.0
        substitute(factor, count, right)
        out[N_PARAMETERS + free[a]] = np.sqrt(right[a])
        if free[a] == 0:
            out[2 * N_PARAMETERS + 2] = 0.0
            for c in range(count):
                if free[c] == 2:
                    out[2 * N_PARAMETERS + 2] = right[c]


@njit(**FAST)
def _known(thetas: Any, order: Any, count: int, limits: Any) -> bool:
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
def _place(k: int, grid: Any, chosen: Any, fractions: Any, theta: Any) -> None:
    """Put a start on the best atoms of its region."""
    nodes = grid[1]
    p, q = chosen[k, 0], chosen[k, 1]
    theta[0] = fractions[k]
    theta[1], theta[2] = nodes[0][p, 0], nodes[0][p, 1]
    theta[3], theta[4] = nodes[1][q, 0], nodes[1][q, 1]


@njit(**FAST)
def _hopeless(n: int, order: Any, thetas: Any, costs: Any, drops: Any, limits: Any, tune: Any) -> bool:
    """Tell whether the start `order[n]` need not be followed, after its first steps."""
    k, rival = order[n], costs.min()
    if costs[k] == np.inf or (n > 0 and rival <= tune[6]):
        return True
    if n > 2 and drops[k] > 0.0 and costs[k] - rival > tune[1] * drops[k]:
        return True
    return bool(_known(thetas, order, n, limits))


def _variant(evaluate: Any) -> Any:
    descend = _make(evaluate)

    @njit(**FAST)
    def fit_voxel(data: Any, setup: Any, grid: Any, limits: Any, tune: Any, buffers: Any, scratch: Any,
                  out: Any) -> None:  # fmt: skip
        """Try all starts briefly, follow the promising ones until little is to be gained, and the best to the end."""
        chosen, lowest, thetas, costs, drops, fractions, sums, yo, minima = buffers
        _grid(data, grid[0], limits[0, 0], limits[1, 0], sums, yo, grid[2], chosen, lowest, fractions)
        steps, known, count = 0, 0, lowest.size
        order = np.argsort(lowest)
        costs[:] = np.inf
        for n in range(2 * count + 1):
            rival, limit, first = np.inf, int(tune[0]), 4
            if n == count:
                order = np.argsort(costs)
            if n < count:
                k = n
                if chosen[k, 0] < 0:
                    continue
                _place(k, grid, chosen, fractions, thetas[k])
            elif n < 2 * count:
                k, rival, limit = order[n - count], costs.min(), _ITERATIONS
                if _hopeless(n - count, order, thetas, costs, drops, limits, tune):
                    continue
            else:
                k, limit, first, known = int(np.argmin(costs)), _ITERATIONS, 2, 0
            costs[k], drops[k], iterations, done = descend(
                thetas[k], limits, setup, data, tune[first:], limit, rival, tune[1], minima, known, scratch
            )
            steps += iterations + 1
            if done and n >= count and n < 2 * count:
                minima[0][known], minima[1][known], minima[2][known] = thetas[k], costs[k], scratch[0]
                known += 1
        best = np.argmin(costs)
        out[:N_PARAMETERS] = thetas[best]
        out[2 * N_PARAMETERS] = costs[best]
        out[2 * N_PARAMETERS + 1] = -1.0
        out[2 * N_PARAMETERS + 3] = steps
        if costs[best] < np.inf:
            _errors(thetas[best], limits, scratch[0][1:6], scratch[3][2], out)

    return fit_voxel


_INSIDE, _BOTH, _RICIAN = (_variant(each) for each in (evaluate_inside, evaluate_both, evaluate_rician))


def _compile(mark: int, kind: int) -> Any:
    @njit(cache=True, nogil=True, **FAST)
    def fit_voxels(data: Any, setup: Any, atoms: Any, nodes: Any, cells: Any, n_cells: int, limits: Any,
                   tune: Any, out: Any) -> None:  # fmt: skip
        """Fit every voxel: data (V, 3, U), out (V, N_OUT)."""
        _ = mark  # part of the key of the cache
        size = N_PARAMETERS
        work = (np.zeros((size, size)), np.empty(size), np.empty(size, np.int64))
        small = (np.empty((size, size)), np.empty(size), work)
        scratch = (np.zeros((11, size)), np.zeros((11, size)), np.empty(size), small)
        buffers = (
            np.empty((n_cells, 2), np.int64), np.empty(n_cells), np.empty((n_cells, size)), np.empty(n_cells),
            np.zeros(n_cells), np.empty(n_cells), np.empty(data.shape[2]), np.empty(atoms[1].shape[0]),
            (np.empty((n_cells, size)), np.empty(n_cells), np.empty((n_cells, 11, size))),
        )  # fmt: skip
        grid = (atoms, nodes, cells)
        for v in range(data.shape[0]):
            # Only the branch of this kind is compiled. A kernel among the closed-over variables would defeat the cache.
            if kind == 0:
                _INSIDE(data[v], setup, grid, limits, tune, buffers, scratch, out[v])
            elif kind == 1:
                _BOTH(data[v], setup, grid, limits, tune, buffers, scratch, out[v])
            else:
                _RICIAN(data[v], setup, grid, limits, tune, buffers, scratch, out[v])

    return fit_voxels


# The cache notices changes of this file only; the mark makes it notice those of the others.
_MARK = zlib.crc32(b"".join(Path(__file__).with_name(n).read_bytes() for n in ("boxed.py", "rows.py", "special.py")))
FIT_VOXELS = tuple(_compile(_MARK, kind) for kind in range(3))
"""For models of spheres alone, for those with an extra-cellular part, and for the exact Rician likelihood of any."""
