"""From the records of walkers to sums of signals, whose ratios are means."""

import math
from typing import Any

import numpy as np
from numba import njit

from histomri.core.kernel_cache import ensure_cache

ensure_cache()
SUMS = 5  # of y, x, y², xy, x²: a walker adds y = weight times signal and x = weight


@njit(cache=True, error_model="numpy")
def _weigh(record: Any, begin: int, end: int, kappas: Any, weight: Any) -> None:
    """Fill in how much more probable the path between two edges is at other permeabilities than the first, (C,)."""
    crossings, over = record[end, 3] - record[begin, 3], record[end, 4] - record[begin, 4]
    for c in range(kappas.size):
        if kappas[c] != kappas[0]:
            ratio = crossings * math.log(kappas[c] / kappas[0]) if crossings > 0.0 else 0.0
            weight[c] = math.exp(ratio - (kappas[c] - kappas[0]) * over)


@njit(cache=True)
def _dephase(record: Any, first: int, last: int, pieces: Any, amplitude: Any, phase: Any) -> None:
    """Fill in the phase of a unit gradient along x, y and z, (3,)."""
    phase[:] = 0.0
    for i in range(first, last):
        for a in range(3):
            phase[a] += amplitude[i] * (record[pieces[i, 1], a] - record[pieces[i, 0], a])


@njit(cache=True)
def _close(y: Any, x: Any, sums: Any) -> None:
    """Add what one walker gives to the sums of a shot: y (C, k, 2) and x (C, 2)."""
    for c in range(sums.shape[0]):
        for k in range(sums.shape[1]):
            for o in range(2):
                a, b = y[c, k, o], x[c, o]
                sums[c, k, o, 0] += a
                sums[c, k, o, 1] += b
                sums[c, k, o, 2] += a * a
                sums[c, k, o, 3] += a * b
                sums[c, k, o, 4] += b * b


@njit(cache=True, nogil=True)
def add_up(
    records: Any, placements: Any, pieces: Any, amplitude: Any, first_piece: Any, first_placement: Any,
    first_measurement: Any, strength: Any, kappas: Any, rates: Any, spans: Any, sums: Any,
) -> None:  # fmt: skip
    """Add the walkers of (W, S + 1, RECORD) records to sums (C, K, 2, SUMS), apart by the side they begin on.

    kappas (C,) are the permeabilities of the waters, that of the walk first; rates (C, 2) are their 1 / T2 inside and
    outside.
    """
    most = (first_measurement[1:] - first_measurement[:-1]).max()
    y, x = np.zeros((kappas.size, most, 2)), np.zeros((kappas.size, 2))
    phase, weight = np.zeros(3), np.ones(kappas.size)
    length = np.array([spans[begin:end].sum() for begin, end in placements])
    for w in range(records.shape[0]):
        record = records[w]
        for h in range(first_placement.size - 1):
            k0, k1 = first_measurement[h], first_measurement[h + 1]
            y[:, :, :] = 0.0
            x[:, :] = 0.0
            for q in range(first_placement[h], first_placement[h + 1]):
                begin, end = placements[q, 0], placements[q, 1]
                outside = 1 - int(record[begin, 6])
                inside_ms = record[end, 5] - record[begin, 5]
                _weigh(record, begin, end, kappas, weight)
                x[:, outside] += weight
                third = weight * np.exp(-rates[:, 0] * inside_ms - rates[:, 1] * (length[q] - inside_ms)) / 3.0
                _dephase(record, first_piece[q], first_piece[q + 1], pieces, amplitude, phase)
                for k in range(k0, k1):
                    g = strength[k]
                    cosines = math.cos(g * phase[0]) + math.cos(g * phase[1]) + math.cos(g * phase[2])
                    for c in range(kappas.size):
                        y[c, k - k0, outside] += third[c] * cosines
            _close(y, x, sums[:, k0:k1])
