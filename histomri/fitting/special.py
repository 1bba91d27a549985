"""Bessel functions for compiled code, which cannot call scipy.special."""

import numpy as np
from numba import njit


@njit
def log_i0e(z: float) -> float:
    """Return ln(exp(-z) I0(z)) for z >= 0."""
    if z < 25.0:
        term, total, quarter = 1.0, 1.0, 0.25 * z * z
        for k in range(1, 80):
            term *= quarter / (k * k)
            total += term
            if term < 1e-17 * total:
                break
        return float(np.log(total) - z)
    term, total = 1.0, 1.0
    for k in range(1, 20):
        term *= (2 * k - 1) ** 2 / (8.0 * k * z)
        total += term
        if term < 1e-17:
            break
    return float(np.log(total) - 0.5 * np.log(2.0 * np.pi * z))


@njit
def i1_over_i0(z: float) -> float:
    """Return I1(z) / I0(z) for z >= 0."""
    if z < 25.0:
        quarter = 0.25 * z * z
        term0, total0, term1, total1 = 1.0, 1.0, 1.0, 1.0
        for k in range(1, 80):
            term0 *= quarter / (k * k)
            term1 *= quarter / (k * (k + 1.0))
            total0 += term0
            total1 += term1
            if term0 < 1e-17 * total0:
                break
        return 0.5 * z * total1 / total0
    term0, total0, term1, total1 = 1.0, 1.0, 1.0, 1.0
    for k in range(1, 20):
        odd = (2 * k - 1) ** 2
        term0 *= odd / (8.0 * k * z)
        term1 *= (odd - 4.0) / (8.0 * k * z)
        total0 += term0
        total1 += term1
        if term0 < 1e-17:
            break
    return total1 / total0
