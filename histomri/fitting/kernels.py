"""The compiled fit: a grid of atoms for the start, then bounded Levenberg-Marquardt, one voxel at a time in parallel.

One set of kernels serves every model: the parameter vector always is (fI, D0I, L, DEinf, beta), and a model says
which of them are free. Rows are the distinct pairs of encoding and b; measurements that share a row (several echo
times) share its exponentials.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, prange

from histomri.fitting.boxed import N_PARAMETERS, bounded_step, cholesky, gain_of, is_stationary, substitute
from histomri.fitting.special import i1_over_i0, log_i0e

N_OUT = 2 * N_PARAMETERS + 5
"""Columns of the output: values, standard errors, cost, exit, covariance of fI and L, cost of the best start, steps."""
LEAST_SQUARES, OFFSET_GAUSSIAN, RICIAN = 0, 1, 2
_BLOCK = 64
_ITERATIONS = 200
_BRIEF = 3
_HOPELESS = 100.0
_SAME = 1e-3
_LOOSE = 1e-6
_AT_BOUND = 1e-6


@njit
def _signals(theta: Any, setup: Any, signal: Any, jacobian: Any) -> None:
    """Fill the signal and its derivatives, (U,) and (U, 5), for one parameter vector."""
    tables, log0, step, encoding, b, inverse_delta, has_extra = setup
    fraction, d0, size, de, beta = theta[0], theta[1], theta[2], theta[3], theta[4]
    position = (np.log(4.0 * d0 / (size * size)) - log0) / step
    knot = min(max(int(position), 0), tables.shape[1] - 1)
    z = position - knot
    last, adc, adc_d0, adc_size = -1, 0.0, 0.0, 0.0
    for u in range(b.size):
        e = encoding[u]
        if e != last:
            c = tables[e, knot]
            value = c[0] + z * (c[1] + z * (c[2] + z * c[3]))
            slope = (c[1] + z * (2.0 * c[2] + 3.0 * z * c[3])) / step
            adc = d0 * value
            adc_d0 = value + slope
            adc_size = -2.0 * d0 * slope / size
            last = e
        inside = np.exp(-b[u] * adc)
        lost = -fraction * b[u] * inside
        if has_extra:
            outside = np.exp(-b[u] * (de + beta * inverse_delta[u]))
            gone = -(1.0 - fraction) * b[u] * outside
            jacobian[u, 3] = gone
            jacobian[u, 4] = gone * inverse_delta[u]
        else:
            outside = 0.0
        signal[u] = fraction * inside + (1.0 - fraction) * outside
        jacobian[u, 0] = inside - outside
        jacobian[u, 1] = lost * adc_d0
        jacobian[u, 2] = lost * adc_size


@njit
def _objective(signal: Any, y: Any, sigma: Any, row: Any, noise: int, force: Any, weight: Any) -> float:
    """Return the objective; fill its derivative and curvature with respect to the signal of each row."""
    cost = 0.0
    force[:] = 0.0
    weight[:] = 0.0
    for m in range(y.size):
        u = row[m]
        s = signal[u]
        if noise == LEAST_SQUARES:
            residual = s - y[m]
            cost += residual * residual
            force[u] += 2.0 * residual
            weight[u] += 2.0
            continue
        precision = 1.0 / (sigma[m] * sigma[m])
        root = np.sqrt(s * s + sigma[m] * sigma[m])
        slope = s / root
        weight[u] += slope * slope * precision
        if noise == OFFSET_GAUSSIAN:
            residual = root - y[m]
            cost += 0.5 * residual * residual * precision
            force[u] += residual * slope * precision
        else:
            z = y[m] * s * precision
            residual = s - y[m]
            cost += 0.5 * residual * residual * precision - log_i0e(z)
            force[u] += (s - y[m] * i1_over_i0(z)) * precision
    return cost


@njit
def _normal_equations(jacobian: Any, force: Any, weight: Any, gradient: Any, hessian: Any) -> None:
    gradient[:] = 0.0
    hessian[:] = 0.0
    for u in range(force.size):
        for i in range(N_PARAMETERS):
            ji = jacobian[u, i]
            gradient[i] += force[u] * ji
            wji = weight[u] * ji
            for j in range(i + 1):
                hessian[i, j] += wji * jacobian[u, j]
    for i in range(N_PARAMETERS):
        for j in range(i):
            hessian[j, i] = hessian[i, j]


@njit
def _descend(theta: Any, lower: Any, upper: Any, setup: Any, y: Any, sigma: Any, row: Any, noise: int, tol: Any,
             limit: int, rival: float, scratch: Any) -> tuple[float, float, int]:  # fmt: skip
    """Levenberg-Marquardt within bounds, in place; only steps that lower the objective are taken.

    It gives up when, at the pace of the last step, a hundred more would not reach the objective of a `rival`.
    Returns the objective, by how much the last step lowered it, and the number of steps.
    """
    signal, jacobian, force, weight, gradient, hessian, damped, step, trial, free, work = scratch
    _signals(theta, setup, signal, jacobian)
    cost = _objective(signal, y, sigma, row, noise, force, weight)
    _normal_equations(jacobian, force, weight, gradient, hessian)
    damping, growth, drop = 1e-3, 2.0, 0.0
    for iteration in range(limit):
        damped[:] = hessian
        for i in range(N_PARAMETERS):
            damped[i, i] += damping * hessian[i, i] + 1e-300
        bounded_step(theta, lower, upper, gradient, damped, free, step, work)
        promised = gain_of(gradient, hessian, step)
        least = tol[0] * abs(cost) + tol[1]
        if promised <= least:
            if damping <= _LOOSE and is_stationary(theta, lower, upper, gradient, hessian, least):
                return cost, drop, iteration
            # A strong damping also makes small promises: loosen it before believing; and the other way round.
            damping = damping * 100.0 if damping <= _LOOSE else _LOOSE
            if damping > 1e12:
                return cost, drop, iteration
            continue
        for i in range(N_PARAMETERS):
            trial[i] = min(max(theta[i] + step[i], lower[i]), upper[i])
        _signals(trial, setup, signal, jacobian)
        new = _objective(signal, y, sigma, row, noise, force, weight)
        if new < cost:
            drop = cost - new
            gain = drop / promised
            cost = new
            theta[:] = trial
            if iteration > 1 and cost - rival > _HOPELESS * drop:
                return cost, drop, iteration
            _normal_equations(jacobian, force, weight, gradient, hessian)
            damping = max(damping * max(1.0 / 9.0, 1.0 - (2.0 * gain - 1.0) ** 3), 1e-12)
            growth = 2.0
        else:
            damping *= growth
            growth *= 2.0
            if damping > 1e12:
                return cost, drop, iteration
    return cost, drop, limit


@njit
def _grid(y: Any, sigma: Any, row: Any, noise: int, atoms: Any, low: float, high: float, buffers: Any) -> None:
    """Score every pair of atoms with the best fraction in closed form (unweighted least squares)."""
    inside, outside, ii, io, oo = atoms
    sums, yi, yo, score, fraction = buffers
    sums[:] = 0.0
    yy = 0.0
    for m in range(y.size):
        value = y[m]
        if noise != LEAST_SQUARES:
            value = np.sqrt(max(value * value - sigma[m] * sigma[m], 0.0))
        sums[row[m]] += value
        yy += value * value
    _project(inside, sums, yi)
    _project(outside, sums, yo)
    for p in range(inside.shape[0]):
        for q in range(outside.shape[0]):
            span = ii[p] - 2.0 * io[p, q] + oo[q]
            overlap = yi[p] - yo[q] - io[p, q] + oo[q]
            best = min(max(overlap / max(span, 1e-30), low), high)
            fraction[p, q] = best
            score[p, q] = yy - 2.0 * yo[q] + oo[q] - 2.0 * best * overlap + best * best * span


@njit
def _project(atoms: Any, sums: Any, result: Any) -> None:
    for p in range(atoms.shape[0]):
        total = 0.0
        for u in range(sums.size):
            total += atoms[p, u] * sums[u]
        result[p] = total


@njit
def _choose(score: Any, cells: Any, starts: Any, lowest: Any) -> None:
    """List the best pair of atoms of each region of the parameter space, (cells, 2); -1 for regions without any."""
    inside, outside = cells
    lowest[:] = np.inf
    starts[:] = -1
    for p in range(score.shape[0]):
        for q in range(score.shape[1]):
            k = inside[p] + outside[q]
            if score[p, q] < lowest[k]:
                lowest[k] = score[p, q]
                starts[k, 0], starts[k, 1] = p, q


@njit
def _errors(theta: Any, lower: Any, upper: Any, setup: Any, y: Any, sigma: Any, row: Any, noise: int, scratch: Any,
            out: Any) -> None:  # fmt: skip
    """Fill in standard errors, from the Fisher information of the parameters between their bounds; flag the others."""
    signal, jacobian, force, weight, gradient, hessian = scratch[:6]
    free, (factor, right) = scratch[9], scratch[10]
    _signals(theta, setup, signal, jacobian)
    cost = _objective(signal, y, sigma, row, noise, force, weight)
    _normal_equations(jacobian, force, weight, gradient, hessian)
    count, bound = 0, False
    for i in range(N_PARAMETERS):
        out[N_PARAMETERS + i] = np.nan
        margin = _AT_BOUND * (upper[i] - lower[i])
        if lower[i] == upper[i]:
            continue
        if theta[i] - lower[i] <= margin or upper[i] - theta[i] <= margin:
            bound = True
            continue
        free[count] = i
        count += 1
    out[2 * N_PARAMETERS + 1] = 2.0 if bound else 1.0
    out[2 * N_PARAMETERS + 2] = np.nan
    scale = 1.0
    if noise == LEAST_SQUARES:
        # The curvature is 2 JᵀJ, and the noise has to be taken from the residuals.
        scale = 2.0 * cost / (y.size - count) if y.size > count else np.nan
    if not cholesky(hessian, free, count, factor):
        return
    for a in range(count):
        right[:] = 0.0
        right[a] = 1.0
        substitute(factor, count, right)
        out[N_PARAMETERS + free[a]] = np.sqrt(scale * right[a])
        if free[a] == 0:
            out[2 * N_PARAMETERS + 2] = 0.0
            for c in range(count):
                if free[c] == 2:
                    out[2 * N_PARAMETERS + 2] = scale * right[c]


@njit
def _known(thetas: Any, order: Any, count: int, lower: Any, upper: Any) -> bool:
    """Tell whether the start `order[count]` has come to where one of those before it went."""
    for k in range(count):
        far = 0.0
        for i in range(N_PARAMETERS):
            if lower[i] < upper[i]:
                far = max(far, abs(thetas[order[k], i] - thetas[order[count], i]) / (upper[i] - lower[i]))
        if far < _SAME:
            return True
    return False


@njit
def _fit_voxel(y: Any, sigma: Any, row: Any, setup: Any, grid: Any, lower: Any, upper: Any, noise: int, tol: Any,
               buffers: Any, starts: Any, scratch: Any, out: Any) -> None:  # fmt: skip
    """Try the best atom of every region briefly, then follow the most promising to the end."""
    atoms, nodes, cells = grid
    chosen, lowest, thetas, costs, drops = starts
    signal, jacobian, force, weight = scratch[0], scratch[1], scratch[2], scratch[3]
    _grid(y, sigma, row, noise, atoms, lower[0], upper[0], buffers)
    _choose(buffers[3], cells, chosen, lowest)
    first, steps = np.inf, 0
    for k in range(lowest.size):
        costs[k] = np.inf
        p, q = chosen[k, 0], chosen[k, 1]
        if p < 0:
            continue
        thetas[k, 0] = buffers[4][p, q]
        thetas[k, 1], thetas[k, 2] = nodes[0][p, 0], nodes[0][p, 1]
        thetas[k, 3], thetas[k, 4] = nodes[1][q, 0], nodes[1][q, 1]
        _signals(thetas[k], setup, signal, jacobian)
        first = min(first, _objective(signal, y, sigma, row, noise, force, weight))
        costs[k], drops[k], iterations = _descend(
            thetas[k], lower, upper, setup, y, sigma, row, noise, tol, _BRIEF, np.inf, scratch
        )
        steps += iterations
    order = np.argsort(costs)
    for n in range(order.size):
        k = order[n]
        rival = costs.min()
        if (
            costs[k] == np.inf
            or (n > 2 and drops[k] > 0.0 and costs[k] - rival > _HOPELESS * drops[k])
            or _known(thetas, order, n, lower, upper)
        ):
            continue
        costs[k], drops[k], iterations = _descend(
            thetas[k], lower, upper, setup, y, sigma, row, noise, tol, _ITERATIONS, rival, scratch
        )
        steps += iterations
    best = np.argmin(costs)
    out[:N_PARAMETERS] = thetas[best]
    out[2 * N_PARAMETERS] = costs[best]
    out[2 * N_PARAMETERS + 3] = first
    out[2 * N_PARAMETERS + 4] = steps
    if not costs[best] < np.inf:
        out[2 * N_PARAMETERS + 1] = -1.0
        return
    _errors(thetas[best], lower, upper, setup, y, sigma, row, noise, scratch, out)


def _compile(mark: int) -> Any:
    @njit(parallel=True, cache=True)
    def fit_voxels(y: Any, sigma: Any, row: Any, setup: Any, atoms: Any, nodes: Any, cells: Any, n_cells: int,
                   lower: Any, upper: Any, noise: int, tol: Any, out: Any) -> None:  # fmt: skip
        """Fit every voxel: y and sigma (V, M), out (V, 15)."""
        _ = mark  # part of the key of the cache
        blocks = (y.shape[0] + _BLOCK - 1) // _BLOCK
        n_rows, n_in, n_out = setup[4].size, atoms[0].shape[0], atoms[1].shape[0]
        for block in prange(blocks):
            grid = (atoms, nodes, cells)
            work = (np.empty((N_PARAMETERS, N_PARAMETERS)), np.empty(N_PARAMETERS))
            scratch = (
                np.empty(n_rows), np.zeros((n_rows, N_PARAMETERS)), np.empty(n_rows), np.empty(n_rows),
                np.empty(N_PARAMETERS), np.empty((N_PARAMETERS, N_PARAMETERS)), np.empty((N_PARAMETERS, N_PARAMETERS)),
                np.empty(N_PARAMETERS), np.empty(N_PARAMETERS), np.empty(N_PARAMETERS, np.int64), work,
            )  # fmt: skip
            buffers = (
                np.empty(n_rows), np.empty(n_in), np.empty(n_out), np.empty((n_in, n_out)), np.empty((n_in, n_out)),
            )  # fmt: skip
            starts = (
                np.empty((n_cells, 2), np.int64), np.empty(n_cells), np.empty((n_cells, N_PARAMETERS)),
                np.empty(n_cells), np.empty(n_cells),
            )  # fmt: skip
            for v in range(block * _BLOCK, min((block + 1) * _BLOCK, y.shape[0])):
                _fit_voxel(y[v], sigma[v], row, setup, grid, lower, upper, noise, tol, buffers, starts, scratch, out[v])

    return fit_voxels


# The cache notices changes of this file only; the mark makes it notice those of the others.
_MARK = zlib.crc32(b"".join(Path(__file__).with_name(name).read_bytes() for name in ("boxed.py", "special.py")))
fit_voxels = _compile(_MARK)
