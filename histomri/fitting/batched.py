"""Levenberg-Marquardt for many voxels at once, for forward models that are only known as functions of arrays."""

from collections.abc import Callable

import numpy as np
from scipy.special import ive

from histomri.core.arrays import BoolArray, FloatArray
from histomri.fitting.cramer_rao import invert_information

Forward = Callable[[FloatArray], FloatArray]
_ITERATIONS = 60
_STEP = 1e-4
_GAIN = 1e-9


def objective(signal: FloatArray, y: FloatArray, sigma: FloatArray, noise: str) -> tuple[FloatArray, ...]:
    """Return the objectives (V,), their slopes and their curvatures with respect to the signals, (V, M).

    Sum of squares for "none", negative log-likelihoods up to a constant otherwise, as in the compiled engine.
    """
    if noise == "none":
        residual = signal - y
        return (residual**2).sum(axis=1), 2 * residual, np.full_like(residual, 2.0)
    precision = sigma**-2.0
    root = np.hypot(signal, sigma)
    ratio = signal / root
    if noise == "offset-gaussian":
        residual = root - y
        return 0.5 * (precision * residual**2).sum(axis=1), precision * residual * ratio, precision * ratio**2
    z = y * signal * precision
    even, odd = ive(0, z), ive(1, z)
    cost = 0.5 * precision * (signal - y) ** 2 - np.log(even)
    return cost.sum(axis=1), precision * (signal - y * odd / even), precision * ratio**2


def descend(
    forward: Forward, y: FloatArray, sigma: FloatArray, noise: str, start: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Lower the objective of each voxel within [0, 1] of every parameter, from a start (V, P).

    `forward` leads from parameters (V, P) to signals (V, M). Returns where it ended, and the objective there, (V,),
    which is never above that of the start.
    """
    theta = start.copy()
    cost, *_ = objective(forward(theta), y, sigma, noise)
    damping, active = np.full(cost.shape, 1e-3), np.ones(cost.shape, dtype=bool)
    for _ in range(_ITERATIONS):
        v = np.flatnonzero(active)
        if v.size == 0:
            break
        signal, jacobian = _jacobian(forward, theta[v])
        _, force, weight = objective(signal, y[v], sigma[v], noise)
        gradient = np.einsum("vm,vmp->vp", force, jacobian)
        information = np.einsum("vmp,vm,vmq->vpq", jacobian, weight, jacobian)
        trial = _step(theta[v], gradient, information, damping[v])
        new, *_ = objective(forward(trial), y[v], sigma[v], noise)
        better = new < cost[v]
        gain = np.where(better, cost[v] - new, 0.0)
        theta[v[better]], cost[v[better]] = trial[better], new[better]
        damping[v] = np.where(better, damping[v] / 9, damping[v] * 4)
        small = better & (gain <= _GAIN * (np.abs(new) + 1e-3 * (noise != "none")))
        active[v] = ~(small | (damping[v] > 1e8))
    return theta, cost


def standard_errors(
    forward: Forward, theta: FloatArray, y: FloatArray, sigma: FloatArray, noise: str
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return standard errors (V, P), covariances (V, P, P) and which parameters are at a bound (V, P).

    Parameters at a bound, and those that the measurements leave open, have no error.
    """
    signal, jacobian = _jacobian(forward, theta)
    cost, _, weight = objective(signal, y, sigma, noise)
    information = np.einsum("vmp,vm,vmq->vpq", jacobian, weight, jacobian)
    at_bound = (theta < 1e-6) | (theta > 1 - 1e-6)
    covariance, open_ = invert_information(_hold(information, at_bound))
    if noise == "none":
        free = y.shape[1] - (~at_bound).sum(axis=1)
        covariance *= (2 * cost / np.where(free > 0, free, np.nan))[:, None, None]
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    return np.where(at_bound | open_, np.nan, np.sqrt(np.maximum(variance, 0.0))), covariance, at_bound


def _jacobian(forward: Forward, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    columns = []
    for i in range(theta.shape[1]):
        ahead, behind = theta.copy(), theta.copy()
        ahead[:, i] = np.minimum(theta[:, i] + _STEP, 1.0)
        behind[:, i] = np.maximum(theta[:, i] - _STEP, 0.0)
        columns.append((forward(ahead) - forward(behind)) / (ahead - behind)[:, i, None])
    return forward(theta), np.stack(columns, axis=-1)


def _step(theta: FloatArray, gradient: FloatArray, information: FloatArray, damping: FloatArray) -> FloatArray:
    held = ((theta <= 0) & (gradient > 0)) | ((theta >= 1) & (gradient < 0))
    diagonal = np.diagonal(information, axis1=1, axis2=2)
    damped = information + np.eye(theta.shape[1]) * (damping[:, None] * diagonal + 1e-300)[:, None, :]
    scale = 1 / np.sqrt(np.maximum(np.diagonal(damped, axis1=1, axis2=2), 1e-300))
    scaled = _hold(damped * scale[:, :, None] * scale[:, None, :], held) + 1e-12 * np.eye(theta.shape[1])
    right = np.where(held, 0.0, -gradient * scale)
    return np.clip(theta + np.linalg.solve(scaled, right[..., None])[..., 0] * scale, 0.0, 1.0)


def _hold(matrix: FloatArray, held: BoolArray) -> FloatArray:
    """Replace rows and columns of the parameters held by those of the identity."""
    either = held[:, :, None] | held[:, None, :]
    return np.where(either, np.eye(held.shape[1]) * held[:, :, None], matrix)
