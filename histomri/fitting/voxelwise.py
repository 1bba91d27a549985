"""Fit of a tissue model to the signals of many voxels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import InputError
from histomri.fitting.choices import (
    Bic,
    Noise,
    check_bic,
    check_scan,
    choose_measurements,
    choose_noise,
    choose_threshold,
    noise_level,
)
from histomri.fitting.engine import COST, EXIT, N_OUT, Engine
from histomri.fitting.models import Model, get_model
from histomri.fitting.normalise import Normalisation
from histomri.fitting.results import BACKGROUND, FAILED, FitResult, Vascular, bound_warnings, maps_from
from histomri.mri import Acquisition

_CHUNK = 50_000


def fit(
    signals: ArrayLike,
    acquisition: Acquisition | str | Path,
    model: str | Model = "diff-in",
    *,
    sigma: ArrayLike | None = None,
    bmin_smm2: float | None = None,
    strategy: str | None = None,
    s0: ArrayLike | None = None,
    fv: ArrayLike | None = None,
    t2t: ArrayLike | None = None,
    fv_se: ArrayLike | None = None,
    noise: Noise | None = None,
    preset: str = "mouse-exvivo",
    bounds: Mapping[str, tuple[float, float]] | None = None,
    bic: Bic = "schwarz",
    progress: Callable[[float], None] | None = None,
) -> FitResult:
    """Fit a tissue model to each voxel.

    Parameters
    ----------
    signals : (V, M) array-like
        Raw signals, one row per voxel; `histomri.mri.Series` reads them from images.
    acquisition : Acquisition, str or path-like
        Protocol of the M volumes, or its file, or the name of a preset.
    model : str or Model
        Such as "diff-in", or a declaration of one's own.
    sigma : float or (V,) array-like, optional
        Noise level, in the units of the signals.
    bmin_smm2 : float, optional
        Fit the measurements with b above this; by default the preset's for the strategy.
    strategy : {"whole", "high-b"}, optional
        Which of the preset's thresholds; "whole" by default. A threshold given by `bmin_smm2` alone is recorded as the
        strategy that has it, or else as "custom".
    s0, fv, t2t : float or (V,) array-like, optional
        Signal without diffusion and relaxation, vascular fraction, tissue T2 (ms): signals are then divided by
        S0 (1 - fV) exp(-TE/T2); otherwise by the mean at b = 0 of the same echo time.
    fv_se : float or (V,) array-like, optional
        Standard error of fV, which then is part of those of F and CD.
    noise : {"offset-gaussian", "rician", "none"}, optional
        The likelihood; by default offset-Gaussian if sigma is given and least squares ("none") if it is not.
    preset : {"mouse-exvivo", "invivo-3t", "invivo-1.5t"}
        Bounds and thresholds.
    bounds : mapping of str to (float, float), optional
        Bounds that replace the preset's.
    bic : {"schwarz", "paper"}
        P ln N - 2 ln λ, or Eq. 15 of the paper, P ln N - ln λ.
    progress : callable, optional
        Called with the fraction done.

    Returns
    -------
    FitResult
        Maps of shape (V,). Without fV, F equals fI.

    Raises
    ------
    InputError, ProtocolError
        If what is given does not fit together; voxels that cannot be fitted get exit codes instead.

    Notes
    -----
    Objective and models are those of Grussu et al. 2025, doi 10.1038/s43856-025-01246-2: the offset-Gaussian
    log-likelihood is -½ Σ (m - sqrt(s² + σ²))² / σ² - N/2 ln(2πσ²).

    Examples
    --------
    >>> from histomri.fitting import fit, predict
    >>> from histomri.mri import Acquisition
    >>> mouse = Acquisition.preset("mouse-exvivo")
    >>> signals = predict("diff-in", {"fI": 0.6, "D0I": 1.5, "vCS": 16.0}, mouse)
    >>> signals[:, mouse.is_b0] = 1
    >>> result = fit(signals, mouse, "diff-in", strategy="high-b")
    >>> result.maps["vCS"].round(2)
    array([16.])
    """
    values, acquisition = check_scan(signals, acquisition)
    declared = get_model(model)
    noise = choose_noise(noise, sigma)
    check_bic(bic)
    strategy, threshold = choose_threshold(preset, strategy, bmin_smm2)
    used = choose_measurements(acquisition, threshold, len(declared.parameters), declared.display_name)
    limits = _limits(declared, preset, bounds)
    normalisation = Normalisation.choose(acquisition, used, values.shape[0], s0, fv, t2t)
    engine = Engine.build(declared, acquisition.select(used), limits)
    levels = noise_level(sigma, values.shape[0])
    vascular = normalisation.vascular(fv_se)
    maps = fit_in_parts(
        lambda voxels, blood: _fit_part(voxels, blood, engine, noise, bic),
        _CHUNK, values, levels, normalisation, vascular, noise, progress,
    )  # fmt: skip
    settings = settings_of(preset, strategy, threshold, normalisation, limits, noise, bic)
    result = FitResult(declared.name, maps, settings)
    return replace(result, warnings=bound_warnings(result.counts, f"{declared.display_name} ({strategy})"))


def _fit_part(voxels: "Voxels", blood: Vascular, engine: Engine, noise: str, bic: str) -> dict[str, FloatArray]:
    out = np.full((voxels.good.size, N_OUT), np.nan)
    out[:, EXIT] = voxels.codes
    out[voxels.good] = engine.run(voxels.y, voxels.sigma, noise)
    likelihood = np.full(voxels.good.size, np.nan)
    likelihood[voxels.good] = log_likelihood(out[voxels.good, COST], voxels.y, voxels.sigma, noise)
    return maps_from(out, engine.model, blood, likelihood, voxels.y.shape[1], bic)


@dataclass(frozen=True)
class Voxels:
    """Those of some voxels that can be fitted.

    Attributes
    ----------
    y, sigma : (G, N) ndarray
        Normalised signals of the measurements to fit, and their noise levels (ones for least squares).
    good : (V,) ndarray of bool
        Which voxels these are.
    codes : (V,) ndarray
        Exit codes of the others.
    """

    y: FloatArray
    sigma: FloatArray
    good: BoolArray
    codes: FloatArray


def fit_in_parts(
    fit_part: Callable[[Voxels, Vascular], dict[str, FloatArray]], size: int, signals: Any, sigma: FloatArray,
    how: Normalisation, vascular: Vascular, noise: str, progress: Callable[[float], None] | None,
) -> dict[str, FloatArray]:  # fmt: skip
    """Fit `size` voxels at a time, so that the memory is bounded, and return the maps of all, (V,) each."""
    count = signals.shape[0]
    parts = []
    for start in range(0, max(count, 1), size):
        part = slice(start, min(start + size, count))
        voxels = _normalised(signals[part].astype(np.float64), sigma[part], part, how, noise)
        parts.append(fit_part(voxels, Vascular(vascular.fraction[part], vascular.error[part])))
        if progress is not None:
            progress(part.stop / max(count, 1))
    return {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}


def settings_of(
    preset: str, strategy: str, bmin_smm2: float, how: Normalisation, bounds: Mapping[str, tuple[float, float]],
    noise: str, bic: str,
) -> dict[str, Any]:  # fmt: skip
    """Return what every result of a fit records of how it was made."""
    return {
        "preset": preset,
        "strategy": strategy,
        "bmin_smm2": bmin_smm2,
        "measurements": int(how.used.sum()),
        "bounds": {name: list(pair) for name, pair in bounds.items()},
        "noise": noise,
        "normalisation": how.description,
        "bic": bic,
    }


def _normalised(raw: FloatArray, sigma: FloatArray, part: slice, how: Normalisation, noise: str) -> Voxels:
    """Divide the signals of a part of the voxels, (V, M), and sort out those that cannot be fitted."""
    divisor = how.divisors(raw, part)
    involved = raw[:, how.involved()]
    background = np.all(involved == 0, axis=1)
    if how.s0 is not None:
        # Maps made elsewhere mark what lies outside their mask with 0 or NaN.
        background |= ~(how.s0[part] != 0) | np.isnan(how.s0[part])
    good = _fittable(involved, divisor, sigma, noise) & ~background
    y = raw[good][:, how.used] / divisor[good]
    if noise == "rician":
        positive = np.all(y > 0, axis=1)
        good[np.flatnonzero(good)[~positive]] = False
        y = y[positive]
    levels = sigma[good, None] / divisor[good] if noise != "none" else np.ones_like(y)
    return Voxels(y, levels, good, np.where(background, BACKGROUND, FAILED).astype(float))


def _fittable(involved: FloatArray, divisor: FloatArray, sigma: FloatArray, noise: str) -> BoolArray:
    """Tell which voxels have finite signals, something to normalise by and a noise level, (V,)."""
    good = np.all(np.isfinite(involved), axis=1)
    with np.errstate(invalid="ignore"):
        good &= np.all(np.isfinite(divisor) & (divisor > 0), axis=1)
        if noise != "none":
            good &= np.isfinite(sigma) & (sigma > 0)
    return np.asarray(good)


def log_likelihood(cost: FloatArray, y: FloatArray, sigma: FloatArray, noise: str) -> FloatArray:
    """Return the log-likelihood at an objective, (V,)."""
    n = y.shape[1]
    if noise == "none":
        # The noise level that fits best takes the place of the one not given.
        return np.asarray(-0.5 * n * (np.log(2 * np.pi * np.maximum(cost, 1e-300) / n) + 1))
    if noise == "rician":
        return np.asarray(np.log(y / sigma**2).sum(axis=1) - cost)
    return np.asarray(-cost - np.log(sigma).sum(axis=1) - 0.5 * n * np.log(2 * np.pi))


def _limits(
    model: Model, preset: str, bounds: Mapping[str, tuple[float, float]] | None
) -> dict[str, tuple[float, float]]:
    limits = model.bounds(preset)
    for name, (lower, upper) in (bounds or {}).items():
        if name not in limits:
            raise InputError(f"{model.display_name} does not fit {name}", hint=f"its parameters: {', '.join(limits)}")
        least = 0.0 if name in ("fI", "DEinf", "beta") else 1e-3
        if not (least <= lower < upper < np.inf) or (name == "fI" and upper > 1):
            raise InputError(
                f"the bounds of {name} are {lower:g} and {upper:g}, which leaves no room or makes no sense"
            )
        limits[name] = (float(lower), float(upper))
    return limits
