"""Objective of models made of compartments, with derivatives, and the starts of their descents, for compiled code.

What a model is made of comes as numbers, so that one compiled kernel serves every model. A compartment is a row of
`parts`: its kind, the places of its parameters, of its fraction (-1: what the others leave) and of its T2 (-1: none).
"""

from typing import Any

import numpy as np
from numba import njit

from histomri.fitting.objective import FAST, offset_gaussian, rician
from histomri.fitting.starts import keep_lowest

SPHERE, BALL, TIMED_BALL, GONE = range(4)
"""Kinds of compartments."""
MOST_STARTS, MORE_ROWS = 16, 4
"""Starts of a voxel, and rows of numbers that the objective needs for itself."""
_SWEEPS = 40
_SMALL = 1e-3  # below it functions of the rate of exchange are power series


@njit(**FAST)
def _place(value: Any, parts: Any, log0: float, inverse_step: float, knots: int, place: Any) -> None:
    """Find the place of each sphere in the tables: the knot, and how far beyond it."""
    for k in range(parts.shape[0]):
        if parts[k, 0] == SPHERE:
            d0, size = value[parts[k, 1]], value[parts[k, 2]]
            position = (np.log(4.0 * d0 / (size * size)) - log0) * inverse_step
            knot = min(max(int(position), 0), knots - 1)
            place[2 * k], place[2 * k + 1] = knot, position - knot


@njit(**FAST)
def _exponent(u: int, k: int, value: Any, setup: Any, place: Any) -> tuple[float, float, float]:
    """Return b ADC of a compartment, and its derivatives by the compartment's two parameters."""
    table, inverse_step, b, bq, parts = setup[0], setup[2], setup[3], setup[4], setup[7]
    kind = parts[k, 0]
    if kind == SPHERE:
        d0, size = value[parts[k, 1]], value[parts[k, 2]]
        c, z = table[int(place[2 * k])], place[2 * k + 1]
        ratio = c[0, u] + z * (c[1, u] + z * (c[2, u] + z * c[3, u]))
        slope = (c[1, u] + z * (2.0 * c[2, u] + 3.0 * z * c[3, u])) * inverse_step
        return d0 * ratio, ratio + slope, -2.0 * d0 * slope / size
    if kind == BALL:
        return b[u] * value[parts[k, 1]], b[u], 0.0
    if kind == TIMED_BALL:
        return b[u] * value[parts[k, 1]] + bq[u] * value[parts[k, 2]], b[u], bq[u]
    return setup[10][u], 0.0, 0.0


@njit(**FAST)
def _rest(value: Any, parts: Any) -> float:
    """Return the fraction that is left of all water."""
    rest = 1.0
    for k in range(parts.shape[0]):
        if parts[k, 3] >= 0:
            rest -= value[parts[k, 3]]
    return rest


@njit(**FAST)
def _mixture(u: int, value: Any, setup: Any, place: Any, slope: Any) -> float:
    """Return the signal of compartments side by side, and add to its derivatives."""
    te, parts = setup[5], setup[7]
    signal, rest, last = 0.0, _rest(value, parts), 0.0
    for k in range(parts.shape[0]):
        exponent, first, second = _exponent(u, k, value, setup, place)
        if parts[k, 4] >= 0:
            exponent += te[u] / value[parts[k, 4]]
        decay = np.exp(-exponent)
        share = rest
        if parts[k, 3] >= 0:
            share = value[parts[k, 3]]
            slope[parts[k, 3]] += decay
        else:
            last = decay
        signal += share * decay
        if parts[k, 1] >= 0:
            slope[parts[k, 1]] -= share * decay * first
        if parts[k, 2] >= 0:
            slope[parts[k, 2]] -= share * decay * second
        if parts[k, 4] >= 0:
            t2 = value[parts[k, 4]]
            slope[parts[k, 4]] += share * decay * te[u] / (t2 * t2)
    for k in range(parts.shape[0]):
        if parts[k, 3] >= 0:
            slope[parts[k, 3]] -= last
    return signal


@njit(**FAST)
def _two_sites(u: int, value: Any, setup: Any, place: Any, slope: Any) -> float:
    """Return the signal of two compartments that exchange water (Kärger), and add to its derivatives.

    Over the diffusion time t the first loses water at k = 6κ/L and the second at k f/(1-f). With x, z = b ADC of both,
    c = k t, g = f/(1-f), H = (x - z + c - c g)/2, M = (x + z + c + c g)/2, R² = H² + c² g, C = H (1-2f) + 2 c f:
    S = exp(-M) (cosh R + C sinh R / R), and M - R = (x z + x c g + z c)/(M + R), which does not cancel.
    """
    te, td, parts, links = setup[5], setup[6], setup[7], setup[8]
    f, kappa, size = value[parts[0, 3]], value[links[1]], value[parts[0, 2]]
    x, x1, x2 = _exponent(u, 0, value, setup, place)
    z, z1, z2 = _exponent(u, 1, value, setup, place)
    rest = max(1.0 - f, 1e-9)
    g, by_kappa = f / rest, 6e-3 * td[u] / size  # κ in µm/s
    c = by_kappa * kappa
    half, mean = 0.5 * (x - z + c - c * g), 0.5 * (x + z + c + c * g)
    square = half * half + c * c * g
    root = np.sqrt(square)
    slow = np.exp(-(x * z + x * c * g + z * c) / max(mean + root, 1e-300))
    fast = np.exp(-mean - root)
    even = 0.5 * (slow + fast)
    if root < _SMALL:
        odd = np.exp(-mean) * (1.0 + square / 6.0)
        bend = np.exp(-mean) * (1.0 / 6.0 + square / 60.0)
    else:
        odd = 0.5 * (slow - fast) / root
        bend = 0.5 * (even - odd) / square
    factor = half * (1.0 - 2.0 * f) + 2.0 * c * f
    signal = even + factor * odd
    to_square = 0.5 * odd + factor * bend  # of the signal, by R²
    # By x, z, c and f, each through M, H, R² and C.
    g_f = 1.0 / (rest * rest)
    by_x = -0.5 * signal + to_square * half + 0.5 * (1.0 - 2.0 * f) * odd
    by_z = -0.5 * signal - to_square * half - 0.5 * (1.0 - 2.0 * f) * odd
    half_c = 0.5 * (1.0 - g)
    by_c = (
        -0.5 * (1.0 + g) * signal + to_square * (2.0 * half * half_c + 2.0 * c * g)
        + (half_c * (1.0 - 2.0 * f) + 2.0 * f) * odd
    )  # fmt: skip
    half_f = -0.5 * c * g_f
    by_f = (
        -0.5 * c * g_f * signal + to_square * (2.0 * half * half_f + c * c * g_f)
        + (half_f * (1.0 - 2.0 * f) - 2.0 * half + 2.0 * c) * odd
    )  # fmt: skip
    relaxed = 1.0
    if parts[0, 4] >= 0:
        t2 = value[parts[0, 4]]
        relaxed = np.exp(-te[u] / t2)
        slope[parts[0, 4]] += relaxed * signal * te[u] / (t2 * t2)
    slope[parts[0, 1]] += relaxed * by_x * x1
    slope[parts[0, 2]] += relaxed * (by_x * x2 - by_c * c / size)
    slope[parts[1, 1]] += relaxed * by_z * z1
    if parts[1, 2] >= 0:
        slope[parts[1, 2]] += relaxed * by_z * z2
    slope[links[1]] += relaxed * by_c * by_kappa
    slope[parts[0, 3]] += relaxed * by_f
    return float(relaxed * signal)


@njit(**FAST)
def _signal(u: int, value: Any, setup: Any, place: Any, slope: Any) -> float:
    """Return a signal, and fill in its derivatives by the parameters as they are fitted."""
    links, logs = setup[8], setup[9]
    slope[:] = 0.0
    exchange = links[1] >= 0
    signal = _two_sites(u, value, setup, place, slope) if exchange else _mixture(u, value, setup, place, slope)
    if links[0] >= 0:
        level = value[links[0]]
        for i in range(slope.size):
            slope[i] *= level
        slope[links[0]] = signal
        signal *= level
    for i in range(logs.size):
        if logs[i]:
            slope[i] *= value[i]
    return float(signal)


@njit(**FAST)
def _add(local: Any, slope: Any, force: float, weight: float, n: int) -> None:
    """Add a row to gradient and curvature."""
    for i in range(n):
        if slope[i] != 0.0:
            local[0, i] += force * slope[i]
            for j in range(i + 1):
                local[1 + i, j] += weight * slope[i] * slope[j]


def _make(likelihood: Any) -> Any:
    """Compile the objective for any model made of compartments."""

    @njit(**FAST)
    def evaluate(theta: Any, setup: Any, data: Any, local: Any) -> float:
        table, log0, inverse_step, b, parts, logs = setup[0], setup[1], setup[2], setup[3], setup[7], setup[9]
        n, cost = theta.size, 0.0
        value, slope, place = local[2 * n + 1], local[2 * n + 2], local[2 * n + 3]
        for i in range(n):
            value[i] = np.exp(theta[i]) if logs[i] else theta[i]
        _place(value, parts, log0, inverse_step, table.shape[0], place)
        local[: 2 * n + 1] = 0.0
        for u in range(b.size):
            if data[2, u] > 0.0:
                signal = _signal(u, value, setup, place, slope)
                term, force, weight = likelihood(signal, data[0, u], data[1, u], data[2, u])
                cost += term
                _add(local, slope, force, weight, n)
        # Second derivatives are those of Gauss and Newton: residuals of the size of the noise add little to them.
        for i in range(n):
            for j in range(i + 1):
                curved = local[1 + i, j]
                local[1 + j, i] = local[1 + n + i, j] = local[1 + n + j, i] = curved
        return cost

    return evaluate


evaluate_composed = _make(offset_gaussian)
evaluate_composed_rician = _make(rician)


@njit(**FAST)
def _amplitudes(gram: Any, right: Any, low: Any, high: Any, found: Any) -> float:
    """Minimise ½ vᵀ G v - rᵀ v within bounds, coordinate by coordinate; returns twice the minimum."""
    count = right.size
    for j in range(count):
        found[j] = min(max(0.5, low[j]), high[j])
    for _ in range(_SWEEPS):
        change = 0.0
        for j in range(count):
            pull = right[j]
            for i in range(count):
                if i != j:
                    pull -= gram[j, i] * found[i]
            new = min(max(pull / max(gram[j, j], 1e-300), low[j]), high[j])
            change = max(change, abs(new - found[j]))
            found[j] = new
        if change < 1e-6:
            break
    total = 0.0
    for j in range(count):
        total -= 2.0 * right[j] * found[j]
        for i in range(count):
            total += found[j] * gram[j, i] * found[i]
    return total


@njit(**FAST)
def _products(data: Any, atoms: Any, index: Any, p: int, full: Any) -> None:
    """Fill in the products of the terms of a point with each other, (terms, terms)."""
    for i in range(index.shape[1]):
        for j in range(i + 1):
            total = 0.0
            for u in range(atoms.shape[1]):
                total += data[2, u] * atoms[index[p, i], u] * atoms[index[p, j], u]
            full[i, j] = full[j, i] = total


@njit(**FAST)
def _take_rest_out(full: Any, along: Any, rows: Any, rest: int, gram: Any, right: Any) -> None:
    """Fill in the quadratic of the amplitudes; where one compartment has what the others leave, without its own."""
    place = 0
    for i in range(rows.size):
        if i == rest:
            continue
        right[place] = along[rows[i]]
        other = 0
        for j in range(rows.size):
            if j != rest:
                gram[place, other] = full[i, j]
                if rest >= 0:
                    gram[place, other] += full[rest, rest] - full[i, rest] - full[j, rest]
                other += 1
        if rest >= 0:
            right[place] += full[rest, rest] - along[rows[rest]] - full[i, rest]
        place += 1


@njit(**FAST)
def _score(data: Any, grid: Any, room: Any) -> None:
    """Score every point of the grid with its best amplitudes, by least squares on signals freed of the noise floor."""
    atoms, index, _, _, rest, low, high, _ = grid
    aim, scores, amplitudes, along, gram, right, _, _ = room
    count = right.size
    full = gram[count:]
    for u in range(aim.size):
        value = data[0, u]
        aim[u] = np.sqrt(max(value * abs(value) - data[1, u], 0.0)) if data[1, u] > 0.0 else value
    for a in range(atoms.shape[0]):
        along[a] = 0.0
        for u in range(aim.size):
            along[a] += data[2, u] * atoms[a, u] * aim[u]
    for p in range(index.shape[0]):
        _products(data, atoms, index, p, full)
        base = full[rest, rest] - 2.0 * along[index[p, rest]] if rest >= 0 else 0.0
        _take_rest_out(full, along, index[p], rest, gram, right)
        scores[p] = base + _amplitudes(gram[:count, :count], right, low, high, amplitudes[p])


@njit(**FAST)
def _minima(scores: Any, shape: Any, slack: float, places: Any, lowest: Any) -> int:
    """List the points that no neighbour along an axis betters, best first; of equal ones the first counts as better."""
    count = 0
    for p in range(scores.size):
        here, stride, lower = scores[p], scores.size, True
        for axis in range(shape.size):
            stride //= shape[axis]
            at = p // stride % shape[axis]
            if (at > 0 and scores[p - stride] < here + slack) or (
                at < shape[axis] - 1 and scores[p + stride] < here - slack
            ):
                lower = False
                break
        if not lower or (count == lowest.size and here >= lowest[count - 1]):
            continue
        count = keep_lowest(here, p, count, lowest, places)
    return count


@njit(**FAST)
def list_composed_starts(data: Any, grid: Any, limits: Any, slack: float, room: Any, thetas: Any) -> int:
    """Fill in the parameters of each start, (S, n), best first; return their number."""
    _, _, points, shape, _, _, _, fractions = grid
    _, scores, amplitudes, _, _, _, places, lowest = room
    _score(data, grid, room)
    count = _minima(scores, shape, slack, places, lowest)
    for k in range(count):
        p, total = places[k], 0.0
        thetas[k] = points[p]
        for j in range(fractions.size - 1):
            total += amplitudes[p, j]
        level = fractions[fractions.size - 1]
        if level >= 0:
            thetas[k, level] = np.log(max(total, 1e-30))
        for j in range(fractions.size - 1):
            if fractions[j] >= 0:
                thetas[k, fractions[j]] = amplitudes[p, j] / max(total, 1e-30) if level >= 0 else amplitudes[p, j]
        for i in range(thetas.shape[1]):
            thetas[k, i] = min(max(thetas[k, i], limits[0, i]), limits[1, i])
    return int(count)


@njit
def restart_nowhere(chance: int, best: Any, limits: Any, theta: Any) -> bool:
    """Start nowhere once more."""
    return False


@njit
def list_room(grid: Any, width: int) -> Any:
    """Make what the list of starts is written on."""
    atoms, index, _, _, _, low, _, _ = grid
    points, count, terms = index.shape[0], low.size, index.shape[1]
    return (
        np.empty(width), np.empty(points), np.empty((points, count)), np.empty(atoms.shape[0]),
        np.empty((count + terms, max(count, terms))), np.empty(count), np.empty(MOST_STARTS, np.int64),
        np.empty(MOST_STARTS),
    )  # fmt: skip
