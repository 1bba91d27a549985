"""Where the descents of one voxel begin: every local minimum of a grid, and the best point on each of its faces.

The grid has four axes, L, D0I, DEinf and beta; the fifth parameter, the fraction, has a closed form at every point.
"""

from typing import Any

import numpy as np
from numba import njit

from histomri.fitting.objective import FAST

RESTARTS = 7
"""Ways in which `restart_at_bound` starts once more."""
MOST_MINIMA, FACES = 24, 8
_INSET = 0.05


@njit(**FAST)
def score_grid(data: Any, atoms: Any, low: float, high: float, room: Any, scores: Any, fractions: Any) -> None:
    """Score every pair of atoms with its best fraction by least squares, on signals freed of the floor of the noise.

    Atoms are signals inside, (P, U), and outside, (U, Q); scores and fractions are (P, Q).
    """
    inside, outside = atoms
    aim, yo, oo, io = room
    yo[:] = 0.0
    oo[:] = 0.0
    for u in range(aim.size):
        value = data[0, u]
        aim[u] = np.sqrt(max(value * abs(value) - data[1, u], 0.0)) if data[1, u] > 0.0 else value
        for q in range(yo.size):
            weighted = data[2, u] * outside[u, q]
            yo[q] += weighted * aim[u]
            oo[q] += weighted * outside[u, q]
    for p in range(inside.shape[0]):
        yi, ii = 0.0, 0.0
        io[:] = 0.0
        for u in range(aim.size):
            weighted = data[2, u] * inside[p, u]
            yi += weighted * aim[u]
            ii += weighted * inside[p, u]
            for q in range(yo.size):
                io[q] += weighted * outside[u, q]
        for q in range(yo.size):
            span = max(ii - 2.0 * io[q] + oo[q], 1e-30)
            overlap = yi - yo[q] - io[q] + oo[q]
            best = min(max(overlap / span, low), high)
            scores[p, q] = oo[q] - 2.0 * yo[q] - 2.0 * best * overlap + best * best * span
            fractions[p, q] = best


@njit(**FAST)
def keep_lowest(value: float, position: int, count: int, lowest: Any, positions: Any) -> int:
    """Enter a value in the sorted list of the lowest, of which the worst falls out if it is full; return its length."""
    place = min(count, lowest.size - 1)
    while place > 0 and lowest[place - 1] > value:
        lowest[place] = lowest[place - 1]
        positions[place] = positions[place - 1]
        place -= 1
    lowest[place] = value
    positions[place] = position
    return min(count + 1, len(lowest))


@njit(**FAST)
def local_grid_minima(scores: Any, slack: float, places: Any, lowest: Any) -> int:
    """List the points that no neighbour along an axis betters, best first, as positions in the flat grid.

    Of neighbours that are equal within `slack` the first counts as better, so that plateaus give few. Returns their
    number, at most that of `lowest`.
    """
    n1, n2, n3 = scores.shape[1:]
    stride0, stride1 = n1 * n2 * n3, n2 * n3
    flat = scores.ravel()
    count = 0
    for p in range(flat.size):
        here = flat[p]
        i, j, k, m = p // stride0, p // stride1 % n1, p // n3 % n2, p % n3
        if (
            (m > 0 and flat[p - 1] < here + slack)
            or (m < n3 - 1 and flat[p + 1] < here - slack)
            or (k > 0 and flat[p - n3] < here + slack)
            or (k < n2 - 1 and flat[p + n3] < here - slack)
            or (j > 0 and flat[p - stride1] < here + slack)
            or (j < n1 - 1 and flat[p + stride1] < here - slack)
            or (i > 0 and flat[p - stride0] < here + slack)
            or (i < scores.shape[0] - 1 and flat[p + stride0] < here - slack)
            or (count == lowest.size and here >= lowest[count - 1])
        ):
            continue
        count = keep_lowest(here, p, count, lowest, places)
    return count


@njit(**FAST)
def add_faces(scores: Any, places: Any, count: int) -> int:
    """Append the best point on each face of the grid that is not listed yet; return the new number."""
    flat = scores.ravel()
    stride = flat.size
    for axis in range(4):
        size = scores.shape[axis]
        block, stride = stride, stride // size
        if size == 1:
            continue
        for side in range(2):
            best = -1
            for start in range(side * (size - 1) * stride, flat.size, block):
                for p in range(start, start + stride):
                    if best < 0 or flat[p] < flat[best]:
                        best = p
            if not np.any(places[:count] == best):
                places[count] = best
                count += 1
    return count


@njit(**FAST)
def put(p: int, scores: Any, fractions: Any, axes: Any, theta: Any) -> None:
    """Fill in the parameters of a point of the grid."""
    n1, n2, n3 = scores.shape[1:]
    theta[0] = fractions.ravel()[p]
    theta[1], theta[2] = axes[1][p // (n2 * n3) % n1], axes[0][p // (n1 * n2 * n3)]
    theta[3], theta[4] = axes[2][p // n3 % n2], axes[3][p % n3]


@njit(**FAST)
def list_starts(data: Any, grid: Any, limits: Any, slack: float, room: Any, thetas: Any) -> int:
    """Fill in the parameters of each start, (S, 5), best first but for the faces; return their number."""
    atoms, axes = grid
    scoring, scores, fractions, places, lowest = room
    pairs = (atoms[0].shape[0], atoms[1].shape[1])
    score_grid(data, atoms, limits[0, 0], limits[1, 0], scoring, scores.reshape(pairs), fractions.reshape(pairs))
    count = local_grid_minima(scores, slack, places, lowest)
    if axes[2].size > 1:
        count = add_faces(scores, places, count)
    for k in range(count):
        put(places[k], scores, fractions, axes, thetas[k])
    return int(count)


@njit(**FAST)
def restart_at_bound(chance: int, best: Any, limits: Any, theta: Any) -> bool:
    """Start once more from the best, with the compartment that the data hardly see at an extreme; False if pointless.

    Chances 0 and 1 are for the extra-cellular diffusivity, 2 to 4 for the inner compartment, 5 and 6 for beta.
    """
    theta[:] = best
    if chance > 4:
        theta[4] = limits[chance - 5, 4]
        return bool(limits[0, 4] < limits[1, 4])
    outside = limits[0, 3] < limits[1, 3]
    if (chance < 2 and not (outside and best[0] >= 0.5)) or (chance >= 2 and best[0] >= (0.5 if outside else 0.15)):
        return False
    inset = _INSET * (limits[1, 0] - limits[0, 0])
    theta[0] = min(max(best[0], limits[0, 0] + inset), limits[1, 0] - inset)
    if chance < 2:
        theta[3] = limits[chance, 3]
    else:
        theta[1], theta[2] = limits[1 if chance < 4 else 0, 1], limits[0 if chance == 2 else 1, 2]
    return True
