"""From the records of walkers to sums of signals, whose ratios are means."""

import math
from typing import Any

import numpy as np
from numba import njit

from histomri.core.kernel_cache import ensure_cache

ensure_cache()
SUMS = 5  # of y, x, y², xy, x²: a walker adds y = weight times signal and x = weight


@njit(cache=True, nogil=True)
def add_up(
    records: Any, placements: Any, pieces: Any, amplitude: Any, first_piece: Any, first_placement: Any,
    first_measurement: Any, strength: Any, kappa: float, kappas: Any, rate_in: float, rate_out: float, spans: Any,
    sums: Any,
) -> None:  # fmt: skip
    """Add the walkers of (W, S + 1, RECORD) records to sums (kappas, K, 2, SUMS), apart by the side they begin on.

    kappas are the permeabilities asked for, kappa that of the walk; the ratio of the probabilities of a path under both
    weighs it. rate_in and rate_out are 1 / T2 inside and outside.
    """
    n_kappas = kappas.size
    most = 0
    for h in range(first_placement.size - 1):
        most = max(most, first_measurement[h + 1] - first_measurement[h])
    y, x = np.zeros((n_kappas, most, 2)), np.zeros((n_kappas, 2))
    phase = np.zeros(3)
    weight = np.ones(n_kappas)
    length = np.zeros(placements.shape[0])
    for q in range(placements.shape[0]):
        for e in range(placements[q, 0], placements[q, 1]):
            length[q] += spans[e]
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
                decay = 1.0
                if rate_in > 0.0 or rate_out > 0.0:
                    decay = math.exp(-rate_in * inside_ms - rate_out * (length[q] - inside_ms))
                for c in range(n_kappas):
                    if kappas[c] != kappa:
                        crossings = record[end, 3] - record[begin, 3]
                        over = record[end, 4] - record[begin, 4]
                        ratio = crossings * math.log(kappas[c] / kappa) if crossings > 0.0 else 0.0
                        weight[c] = math.exp(ratio - (kappas[c] - kappa) * over)
                    x[c, outside] += weight[c]
                phase[:] = 0.0
                for i in range(first_piece[q], first_piece[q + 1]):
                    for a in range(3):
                        phase[a] += amplitude[i] * (record[pieces[i, 1], a] - record[pieces[i, 0], a])
                for k in range(k0, k1):
                    g = strength[k]
                    mean = math.cos(g * phase[0]) + math.cos(g * phase[1]) + math.cos(g * phase[2])
                    signal = decay * mean * (1.0 / 3.0)
                    for c in range(n_kappas):
                        y[c, k - k0, outside] += weight[c] * signal
            for c in range(n_kappas):
                for o in range(2):
                    if x[c, o] > 0.0:
                        for k in range(k0, k1):
                            a, b = y[c, k - k0, o], x[c, o]
                            sums[c, k, o, 0] += a
                            sums[c, k, o, 1] += b
                            sums[c, k, o, 2] += a * a
                            sums[c, k, o, 3] += a * b
                            sums[c, k, o, 4] += b * b
