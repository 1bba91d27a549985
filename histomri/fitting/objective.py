"""Objective of one voxel with gradient and curvature, in a form that the compiler turns into vector instructions.

A row is one measurement, or several that share encoding, b and noise level, averaged. Everything about a row stays in
registers and only sums leave the loop: arrays written in between would keep the compiler from vectorising.
"""

from typing import Any

import numpy as np
from numba import njit

FAST = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "arcp", "nsz", "afn"}}
"""Compiler options: no checks of division, sums in any order; infinities and NaN keep their meaning."""
_SHIFT = 6755399441055744.0  # 1.5 * 2^52: adding it leaves the nearest integer in the lowest bits


@njit(error_model="numpy", fastmath={"contract"})
def exp(x: float) -> float:
    """Return exp(x) for x <= 0 to 1e-14; numpy's is a call, which no loop can be vectorised around."""
    x = max(x, -700.0)
    shifted = x * 1.4426950408889634 + _SHIFT
    k = shifted - _SHIFT
    r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10
    p = 1.0 + r * (1.0 / 12.0)
    p = 1.0 + r * p * (1.0 / 11.0)
    p = 1.0 + r * p * (1.0 / 10.0)
    p = 1.0 + r * p * (1.0 / 9.0)
    p = 1.0 + r * p * (1.0 / 8.0)
    p = 1.0 + r * p * (1.0 / 7.0)
    p = 1.0 + r * p * (1.0 / 6.0)
    p = 1.0 + r * p * (1.0 / 5.0)
    p = 1.0 + r * p * (1.0 / 4.0)
    p = 1.0 + r * p * (1.0 / 3.0)
    p = 1.0 + r * p * (1.0 / 2.0)
    p = 1.0 + r * p
    power = (np.float64(shifted).view(np.int64) + 1023) << 52  # 2^k, written as its exponent
    return p * np.int64(power).view(np.float64)


# Bessel functions, as compiled code cannot call scipy.special.
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


@njit(**FAST)
def offset_gaussian(signal: float, y: float, variance: float, precision: float) -> tuple[float, float, float]:
    """Return a row's part of the objective, its slope over the signal, and the weight of squared slopes."""
    root = max(np.sqrt(signal * signal + variance), 1e-150)
    residual = root - y
    ratio = signal / root if variance > 0.0 else 1.0
    return 0.5 * precision * residual * residual, precision * residual * ratio, precision * ratio * ratio


# Inlined before it is compiled: other products and sums would else be fused, and results change in the last bit.
@njit(inline="always", **FAST)
def rician(signal: float, y: float, variance: float, precision: float) -> tuple[float, float, float]:
    """Return the same for the exact likelihood of magnitudes, whose Bessel functions are slow."""
    argument = y * signal / variance
    residual = signal - y
    cost = precision * (0.5 * residual * residual - variance * log_i0e(argument))
    square = signal * signal
    return cost, precision * (signal - y * i1_over_i0(argument)), precision * square / (square + variance)


@njit(**FAST)
def _write(local: Any, gradient: Any, hessian: Any, second: Any) -> None:
    """Fill gradient (5,), curvature without and with second derivatives (5, 5) from lower triangles, row by row."""
    n = 0
    for i in range(5):
        local[0, i] = gradient[i]
        for j in range(i + 1):
            local[1 + i, j] = local[1 + j, i] = hessian[n]
            local[6 + i, j] = local[6 + j, i] = hessian[n] + second[n]
            n += 1


def _make(extra: bool, likelihood: Any) -> Any:
    """Compile the objective for models with or without extra-cellular part."""

    @njit(**FAST)
    def evaluate(theta: Any, setup: Any, data: Any, local: Any) -> float:
        table, log0, inverse_step, b, bq, outer = setup
        fraction, d0, size, de, beta = theta[0], theta[1], theta[2], theta[3], theta[4]
        position = (np.log(4.0 * d0 / (size * size)) - log0) * inverse_step
        knot = min(max(int(position), 0), table.shape[0] - 1)
        z = position - knot
        c = table[knot]
        y, variance, precision = data[0], data[1], data[2]
        rest, by_size = 1.0 - fraction, 1.0 / size
        cost = 0.0
        g0 = g1 = g2 = g3 = g4 = 0.0
        h00 = h01 = h02 = h03 = h04 = h11 = h12 = h13 = h14 = h22 = h23 = h24 = h33 = h34 = h44 = 0.0
        k01 = k02 = k03 = k04 = k11 = k12 = k22 = k33 = k34 = k44 = 0.0
        for u in range(b.size):
            value = c[0, u] + z * (c[1, u] + z * (c[2, u] + z * c[3, u]))
            slope = (c[1, u] + z * (2.0 * c[2, u] + 3.0 * z * c[3, u])) * inverse_step
            bend = (2.0 * c[2, u] + 6.0 * z * c[3, u]) * inverse_step * inverse_step
            inside = exp(-d0 * value)
            by_d = value + slope
            by_l = -2.0 * d0 * slope * by_size
            signal = fraction * inside
            x0 = inside
            if extra:
                outside = outer * exp(-(b[u] * de + bq[u] * beta))
                signal += rest * outside
                x0 -= outside
                gone = -rest * outside
                x3, x4 = gone * b[u], gone * bq[u]
            x1, x2 = -fraction * inside * by_d, -fraction * inside * by_l
            term, force, weight = likelihood(signal, y[u], variance[u], precision[u])
            cost += term
            g0 += force * x0
            g1 += force * x1
            g2 += force * x2
            w0, w1, w2 = weight * x0, weight * x1, weight * x2
            h00 += w0 * x0
            h01 += w0 * x1
            h02 += w0 * x2
            h11 += w1 * x1
            h12 += w1 * x2
            h22 += w2 * x2
            pull = force * inside
            k01 -= pull * by_d
            k02 -= pull * by_l
            pull *= fraction
            k11 += pull * (by_d * by_d - (slope + bend) / d0)
            k12 += pull * (by_d * by_l + 2.0 * (slope + bend) * by_size)
            k22 += pull * (by_l * by_l - d0 * (2.0 * slope + 4.0 * bend) * by_size * by_size)
            if extra:
                g3 += force * x3
                g4 += force * x4
                h03 += w0 * x3
                h04 += w0 * x4
                h13 += w1 * x3
                h14 += w1 * x4
                h23 += w2 * x3
                h24 += w2 * x4
                h33 += weight * x3 * x3
                h34 += weight * x3 * x4
                h44 += weight * x4 * x4
                push = force * outside
                k03 += push * b[u]
                k04 += push * bq[u]
                push *= rest
                k33 += push * b[u] * b[u]
                k34 += push * b[u] * bq[u]
                k44 += push * bq[u] * bq[u]
        hessian = (h00, h01, h11, h02, h12, h22, h03, h13, h23, h33, h04, h14, h24, h34, h44)
        second = (0.0, k01, k11, k02, k12, k22, k03, 0.0, 0.0, k33, k04, 0.0, 0.0, k34, k44)
        _write(local, (g0, g1, g2, g3, g4), hessian, second)
        return cost

    return evaluate


evaluate_inside = _make(False, offset_gaussian)
evaluate_both = _make(True, offset_gaussian)
evaluate_rician = _make(True, rician)
