"""Diffusional kurtosis: the model-free ADC and excess kurtosis of each voxel."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import ProtocolError
from histomri.core.presets import get_preset
from histomri.core.progress import Progress, share_of
from histomri.fitting.choices import check_scan
from histomri.fitting.results import AT_BOUND, BACKGROUND, FAILED, FITTED, FitResult, bound_warnings
from histomri.mri import Acquisition

# Bounds of S0, ADC and K.
_LOWER, _UPPER = np.array([1e-6, 0.0, -1.0]), np.array([1e3, 5.0, 5.0])
_CHUNK, _STEPS = 20_000, 60
# Beyond this b the expansion that defines the kurtosis no longer holds.
_BMAX = 3000.0


def fit_dki(
    signals: ArrayLike, acquisition: Acquisition | str | Path, *, preset: str = "mouse-exvivo",
    bmin_smm2: float | None = None, bmax_smm2: float = _BMAX, te_ms: float | None = None, Delta_ms: float | None = None,
    progress: Progress | None = None,
) -> FitResult:  # fmt: skip
    """Fit s = S0 exp(-b ADC + K (b ADC)² / 6) by bounded least squares.

    Maps, (V,), are ADC (µm²/ms, 0 to 5), K (-1 to 5), S0, cost (sum of squares) and exit. ProtocolError if fewer than
    three different b-values remain, or an echo time is chosen and the protocol has none; InputError if the signals have
    another number of volumes.

    Parameters
    ----------
    signals, acquisition : (V, M) array-like, and Acquisition, str or path-like
        Raw signals and the protocol of the M volumes.
    preset : {"mouse-exvivo", "invivo-3t", "invivo-1.5t"}
        Which measurements by default: ex vivo TE 45 ms and Δ 30 ms where the protocol has them; in vivo b > 100,
        so that blood plays no part. Otherwise the shortest echo time that has three b-values, and any Δ.
    bmin_smm2, bmax_smm2, te_ms, Delta_ms : float, optional
        Use b above the one and up to the other, s/mm²; this echo time, and this diffusion time, only.

    Examples
    --------
    >>> from histomri.fitting import fit_dki
    >>> from histomri.mri import Acquisition
    >>> import numpy as np
    >>> mouse = Acquisition.preset('mouse-exvivo')
    >>> decay = mouse.b_smm2 / 1000 * 0.8
    >>> result = fit_dki(np.exp(-decay + decay**2 / 6)[None], mouse)
    >>> result.maps['ADC'].round(3), result.maps['K'].round(3)
    (array([0.8]), array([1.]))
    """
    values, acquisition = check_scan(signals, acquisition)
    used, settings = _select(acquisition, preset, bmin_smm2, bmax_smm2, te_ms, Delta_ms)
    b = acquisition.b_smm2[used] / 1000.0
    voxels = values.shape[0]
    maps = {name: np.full(voxels, np.nan) for name in ("ADC", "K", "S0", "cost", "exit")}
    for start in range(0, voxels, _CHUNK):
        part = slice(start, start + _CHUNK)
        y = values[part][:, used].astype(np.float64)
        scale = y.max(axis=1)
        good = np.all(np.isfinite(y), axis=1) & (scale > 0)
        codes = np.where(np.all(y == 0, axis=1), BACKGROUND, FAILED).astype(float)
        theta, cost = _best_of_two(y[good] / scale[good, None], b)
        margin = 1e-6 * (_UPPER - _LOWER)
        at_bound = ((theta <= _LOWER + margin) | (theta >= _UPPER - margin))[:, 1:].any(axis=1)
        codes[good] = np.where(at_bound, AT_BOUND, FITTED)
        columns = (theta[:, 1], theta[:, 2], theta[:, 0] * scale[good], cost * scale[good] ** 2)
        for name, column in zip(("ADC", "K", "S0", "cost"), columns):
            maps[name][np.arange(voxels)[part][good]] = column
        maps["exit"][part] = codes
        share_of(progress)(min(1.0, (start + _CHUNK) / voxels))
    return FitResult("dki", maps, settings, bound_warnings(FitResult("dki", maps).counts, "DKI"))


def _select(
    acquisition: Acquisition, preset: str, bmin: float | None, bmax: float, te: float | None, separation: float | None
) -> tuple[BoolArray, dict[str, Any]]:
    if te is not None and acquisition.te_ms is None:
        raise ProtocolError(f"TE {te:g} ms is chosen, and the protocol has no echo times", hint="leave --te out")
    usual = get_preset(preset)
    bmin = usual.dki_bmin_smm2 if bmin is None else bmin
    used = (acquisition.b_smm2 > bmin) & (acquisition.b_smm2 <= bmax)
    if acquisition.te_ms is not None:
        times = np.round(acquisition.te_ms, 3)
        if te is None:
            usable = (t for t in (usual.dki_te_ms, *np.unique(times)) if _enough(acquisition, used & (times == t)))
            te = next(map(float, usable), None)
        used &= times == te if te is not None else True
    gaps = np.round(acquisition.Delta_ms, 3)
    wanted = usual.dki_Delta_ms if separation is None else round(separation, 3)
    with_b0 = acquisition.is_b0 | (gaps == wanted)
    if separation is not None or (wanted is not None and _enough(acquisition, used & with_b0)):
        used &= with_b0
        separation = wanted if separation is None else separation
    if not _enough(acquisition, used):
        times_of = {"echo": acquisition.te_ms, "diffusion": acquisition.Delta_ms}
        others = "".join(_others(name, acquisition, times) for name, times in times_of.items())
        problem = f"fewer than three b-values remain for ADC and K (b from {max(bmin, 0):g} to {bmax:g} s/mm²)"
        raise ProtocolError(problem, hint=f"choose another range of b{others}")
    settings = {"preset": preset, "bmin_smm2": max(bmin, 0.0), "bmax_smm2": bmax, "te_ms": te, "Delta_ms": separation}
    return np.asarray(used), settings | {"measurements": int(used.sum())}


def _others(name: str, acquisition: Acquisition, times: FloatArray | None) -> str:
    """Return which echo or diffusion times there are to choose from, as the end of a sentence."""
    there = np.array([]) if times is None else np.unique(np.round(times[~acquisition.is_b0], 3))
    return f", or {name} time ({', '.join(f'{time:g}' for time in there)} ms)" if len(there) > 1 else ""


def _enough(acquisition: Acquisition, used: BoolArray) -> bool:
    return np.unique(np.round(acquisition.b_smm2[used], 1)).size >= 3


def _best_of_two(y: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Descend from the log-linear fit and from the best point of a grid: noise at high b can mislead the first."""
    theta, cost = _minimise(y, b, _log_linear(y, b))
    other, lower_cost = _minimise(y, b, _grid_best(y, b))
    better = lower_cost < cost
    theta[better] = other[better]
    return theta, np.where(better, lower_cost, cost)


def _grid_best(y: FloatArray, b: FloatArray) -> FloatArray:
    adc, kurtosis = (axis.ravel() for axis in np.meshgrid(np.geomspace(0.05, 4.0, 16), np.linspace(-0.8, 4.0, 13)))
    decay = b * adc[:, None]
    atoms = np.exp(np.minimum(-decay + kurtosis[:, None] * decay**2 / 6, 20.0))
    # Not a product of matrices: that rounds differently with other numbers of voxels or threads.
    overlap, norm = np.einsum("vm,am->va", y, atoms), (atoms**2).sum(axis=1)
    best = np.argmax(np.where(overlap > 0, overlap**2 / norm, 0.0), axis=1)
    s0 = np.maximum(overlap[np.arange(y.shape[0]), best] / norm[best], 1e-3)
    return np.stack([s0, adc[best], kurtosis[best]], axis=1)


def _minimise(y: FloatArray, b: FloatArray, start: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Levenberg-Marquardt within bounds, all voxels at once; returns (V, 3) S0, ADC, K and (V,) sums of squares."""
    theta = np.clip(start, _LOWER, _UPPER)
    cost = _residuals(theta, y, b)[2]
    damping = np.full(y.shape[0], 1e-3)
    active = np.arange(y.shape[0])
    for _ in range(_STEPS):
        if active.size == 0:
            break
        here = theta[active]
        residual, jacobian, _ = _residuals(here, y[active], b)
        gradient = np.einsum("vmi,vm->vi", jacobian, residual)
        hessian = np.einsum("vmi,vmj->vij", jacobian, jacobian)
        held = ((here <= _LOWER) & (gradient > 0)) | ((here >= _UPPER) & (gradient < 0))
        hessian[held[:, :, None] | held[:, None, :]] = 0.0
        diagonal = np.einsum("vii->vi", hessian)
        diagonal *= 1 + damping[active, None]
        diagonal[diagonal <= 1e-12] = 1.0
        step = np.linalg.solve(hessian, np.where(held, 0.0, -gradient)[..., None])[..., 0]
        trial = np.clip(here + step, _LOWER, _UPPER)
        new = _residuals(trial, y[active], b)[2]
        better = new < cost[active]
        theta[active[better]] = trial[better]
        gain = cost[active] - new
        cost[active[better]] = new[better]
        damping[active] = np.where(better, damping[active] / 9, damping[active] * 8)
        active = active[~((better & (gain <= 1e-12 * new)) | (damping[active] > 1e10))]
    return theta, cost


def _log_linear(y: FloatArray, b: FloatArray) -> FloatArray:
    """Weighted log-linear fit, in closed form."""
    design = np.stack([np.ones_like(b), -b, b**2 / 6], axis=1)
    clean = np.maximum(y, 0.02 * y.max(axis=1, keepdims=True))
    weight = clean**2
    normal = np.einsum("mi,vm,mj->vij", design, weight, design) + 1e-10 * np.eye(3)
    right = np.einsum("mi,vm->vi", design, weight * np.log(clean))
    log_s0, adc, curvature = np.linalg.solve(normal, right[..., None])[..., 0].T
    adc = np.clip(adc, 0.05, 4.0)
    return np.stack([np.exp(np.clip(log_s0, -10, 6)), adc, np.clip(curvature / adc**2, -0.5, 2.5)], axis=1)


def _residuals(theta: FloatArray, y: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    s0, adc, kurtosis = theta[:, 0, None], theta[:, 1, None], theta[:, 2, None]
    decay = b * adc
    shape = np.exp(np.minimum(-decay + kurtosis * decay**2 / 6, 50.0))
    signal = s0 * shape
    jacobian = np.stack([shape, signal * (-b + kurtosis * b * decay / 3), signal * decay**2 / 6], axis=2)
    residual = signal - y
    return residual, jacobian, np.asarray((residual**2).sum(axis=1))
