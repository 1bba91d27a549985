"""Fit of a tissue model to the signals of many voxels, by an engine that holds its tables, grid and bounds."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.progress import Progress, share_of
from histomri.fitting import Dictionary, Model, choices, get_model, predict
from histomri.fitting.choices import Bic, Noise, Normalisation, Voxels, log_likelihood, normalised
from histomri.fitting.composed_tables import engine_of
from histomri.fitting.dictionary import fit_examples
from histomri.fitting.models import USABLE_EXCHANGE_MS
from histomri.fitting.results import FitResult, bound_warnings, maps_from
from histomri.fitting.robust import Robust, Scanned, choose_robust, look_for_misfit
from histomri.fitting.signals import exchange_time, require_te
from histomri.fitting.tables import Engine
from histomri.mri import Acquisition

_CHUNK = 50_000


def fit(
    signals: ArrayLike, acquisition: Acquisition | str | Path, model: str | Model | Dictionary = "diff-in", *,
    sigma: ArrayLike | None = None, bmin_smm2: float | None = None, strategy: str | None = None,
    s0: ArrayLike | None = None, fv: ArrayLike | None = None, t2t: ArrayLike | None = None,
    fv_se: ArrayLike | None = None, noise: Noise | None = None,
    preset: str = "mouse-exvivo", bounds: Mapping[str, tuple[float, float]] | None = None, bic: Bic = "schwarz",
    robust: Robust | None = None, slices: ArrayLike | None = None, volumes: ArrayLike | None = None,
    progress: Progress | None = None,
) -> FitResult:  # fmt: skip
    """Fit a tissue model to each voxel.

    Objective and models are those of Grussu et al. 2025, doi 10.1038/s43856-025-01246-2: the offset-Gaussian
    log-likelihood is -½ Σ (m - sqrt(s² + σ²))² / σ² - N/2 ln(2πσ²). InputError or ProtocolError if what is given does
    not fit together; voxels that cannot be fitted get exit codes instead.

    Parameters
    ----------
    signals, acquisition : (V, M) array-like, and Acquisition, str or path-like
        Raw signals, one row per voxel, as `histomri.mri.Series` reads them from images; the protocol of the M volumes,
        its file, or the name of a preset.
    model : str, Model or Dictionary
        Such as "diff-in", or a declaration of one's own, or simulated signals of the same protocol.
    sigma, fv_se : float or (V,) array-like, optional
        Noise level, in the units of the signals; standard error of fV, which then is part of those of F and CD.
    bmin_smm2, strategy : float and {"whole", "high-b"}, optional
        Fit the measurements with b above this; by default the preset's for the strategy, "whole". A threshold given
        alone is recorded as the strategy that has it, or else as "custom".
    s0, fv, t2t : float or (V,) array-like, optional
        Signal without diffusion and relaxation, vascular fraction, tissue T2 (ms): signals are then divided by
        S0 (1 - fV) exp(-TE/T2); otherwise by the mean at b = 0 of the same echo time. Models that fit S0 and T2
        themselves take signals as they are, whatever is given, and count blood as water outside the cells.
    noise : {"offset-gaussian", "rician", "none"}, optional
        The likelihood; by default offset-Gaussian if sigma is given and least squares ("none") if it is not.
    preset, bounds : {"mouse-exvivo", "invivo-3t", "invivo-1.5t"}, and mapping of str to (float, float), optional
        Bounds and thresholds; bounds that replace these. Those of a dictionary are the range of its examples.
    bic : {"schwarz", "paper"}
        P ln N - 2 ln λ, or Eq. 15 of the paper, P ln N - ln λ.
    robust : {"loo", "tukey", "none"}, optional
        "loo" leaves spoilt volumes out of the slices they spoil, and one measurement out of single voxels that fit
        without it only; "tukey" weighs measurements by their residuals. By default "loo" if sigma is given.
    slices, volumes : (V,) and (M,) array-like of int, optional
        Slice of each voxel, and number of each volume in its series, from 0; by default all voxels count as one slice.

    Returns
    -------
    FitResult
        Maps (V,). Without fV, F equals fI. With sigma also chi2, and pMisfit: the probability of a larger χ² if the
        model is true; both, logL and BIC are of the fit of all measurements. Of a dictionary those of its
        parameters, and F and CD where it has fI, vCS.

    Examples
    --------
    >>> from histomri.fitting import fit, predict
    >>> from histomri.mri import Acquisition
    >>> mouse = Acquisition.preset("mouse-exvivo")
    >>> signals = predict("diff-in", {"fI": 0.6, "D0I": 1.5, "vCS": 16.0}, mouse)
    >>> signals[:, mouse.is_b0] = 1
    >>> fit(signals, mouse, "diff-in", strategy="high-b").maps["vCS"].round(2)
    array([16.])
    """
    values, acquisition = choices.check_scan(signals, acquisition)
    noise = choices.choose_noise(noise, sigma)
    choices.check_bic(bic)
    how_robust = choose_robust(robust, noise, isinstance(model, Dictionary))
    declared = model if isinstance(model, Dictionary) else get_model(model).at(preset)
    strategy, threshold = choices.choose_threshold(preset, strategy, bmin_smm2, declared)
    if isinstance(declared, Dictionary):
        limits, level = declared.bounds, None
    else:
        limits = choices.replace_bounds(declared.bounds(preset), bounds, declared.display_name, held=False)
        level = declared.level
        require_te(declared, acquisition)
    used = choices.choose_measurements(acquisition, threshold, len(limits), declared.display_name, level is not None)
    how = Normalisation.choose(acquisition, used, values.shape[0], s0, fv, t2t, fv_se, as_they_are=level is not None)
    levels = choices.noise_level(sigma, values.shape[0])
    if isinstance(declared, Dictionary):
        declared.require(len(acquisition))
    chosen = declared.select(used) if isinstance(declared, Dictionary) else declared
    solver = _Solver(chosen, acquisition.select(used), limits, noise, bic)
    parts, count = [], values.shape[0]
    for start in range(0, max(count, 1), solver.size):  # a part at a time, so that the memory is bounded
        part = slice(start, min(start + solver.size, count))
        parts.append(solver.run(normalised(values[part].astype(np.float64), levels[part], part, how, noise)))
        share_of(progress)(part.stop / max(count, 1))
    maps = {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}
    settings: dict[str, Any] = {
        "preset": preset, "strategy": strategy, "bmin_smm2": threshold, "measurements": int(used.sum()),
        "bounds": {name: list(pair) for name, pair in limits.items()}, "noise": noise, "normalisation": how.description,
        "bic": bic, "robust": how_robust,
    }  # fmt: skip
    if isinstance(declared, Dictionary):
        settings["examples"] = declared.parameters.shape[0]
    else:
        settings |= _about(declared, acquisition.select(used))
    title, warnings = f"{declared.display_name} ({strategy})", tuple[str, ...]()
    if noise != "none":
        places = (choices.slices_of(slices, count), choices.volumes_of(volumes, acquisition)[used])
        scan = Scanned(values, levels, how, *places)
        misfit = look_for_misfit(maps, scan, solver, tuple(limits), how_robust)
        settings["misfit"], warnings = misfit.record(), misfit.warnings(title, scan.slices)
    if level is not None:
        for name in (level, f"{level}_se"):
            maps[name] = maps[name] * how.scale(values)
    own = declared if isinstance(declared, Model) else None
    result = FitResult(declared.name, maps, settings, model_declared=own)
    notes = (*bound_warnings(result.counts, title, maps), *warnings, *_nuisance_warnings(settings, title))
    return replace(result, warnings=notes)


def _about(model: Model, used: Acquisition) -> dict[str, Any]:
    """Return settings that only some models have: parameters held, b = 0 fitted, and what is not to be believed."""
    about: dict[str, Any] = {}
    if model.fixed:
        about["held"] = dict(model.fixed)
    if model.level is not None:
        about["with_b0"] = True
    if model.exchange is not None and exchange_time(used).max() < USABLE_EXCHANGE_MS:
        about["nuisance"] = [model.exchange]
    return about


def _nuisance_warnings(settings: Mapping[str, Any], title: str) -> tuple[str, ...]:
    """Say which parameters the protocol cannot determine."""
    names = ", ".join(settings.get("nuisance", ()))
    text = f"{title}: diffusion times below {USABLE_EXCHANGE_MS:g} ms do not determine {names}, which is fitted only"
    return (f"{text} so that the others are not biased, and has no map",) if names else ()


def _fit_part(
    engine: Engine, voxels: Voxels, noise: str, bic: str, weights: FloatArray | None = None
) -> dict[str, FloatArray]:
    cost = 2 * len(engine.names)
    out = np.full((voxels.good.size, engine.columns), np.nan)
    out[:, cost + 1] = voxels.codes
    out[voxels.good] = engine.run(voxels.y, voxels.sigma, noise, weights)
    likelihood = np.full(voxels.good.size, np.nan)
    likelihood[voxels.good] = log_likelihood(out[voxels.good, cost], voxels.y, voxels.sigma, noise)
    return maps_from(out, engine, voxels.blood, likelihood, voxels.y.shape[1], bic)


class _Solver:
    """A model or a dictionary on the measurements used, (N,), which fits voxels to all of them or to some."""

    def __init__(
        self, declared: Model | Dictionary, acquisition: Acquisition, limits: Any, noise: str, bic: str
    ) -> None:
        self.declared, self.acquisition, self.noise, self.bic = declared, acquisition, noise, bic
        self._fit: Callable[..., dict[str, FloatArray]]
        self._whole: Engine | Dictionary
        if isinstance(declared, Dictionary):
            self.size, self._fit, self._whole = declared.chunk, fit_examples, declared
        else:
            self.size, self._fit, self._whole = _CHUNK, _fit_part, engine_of(declared, acquisition, limits)

    def run(self, voxels: Voxels, kept: BoolArray | None = None) -> dict[str, FloatArray]:
        """Return maps of voxels, (V,), fitted to the measurements kept."""
        if kept is None or kept.all():
            return self._fit(self._whole, voxels, self.noise, self.bic)
        return self._fit(self._whole.select(kept), voxels.columns(kept), self.noise, self.bic)

    def run_weighted(self, voxels: Voxels, weights: FloatArray) -> dict[str, FloatArray]:
        """Return maps of voxels that can be fitted, with a weight of each measurement, (V, N)."""
        return self._fit(self._whole, voxels, self.noise, self.bic, weights)

    def signals(self, maps: Mapping[str, FloatArray]) -> FloatArray:
        """Return noise-free signals, (V, N), of fitted parameters."""
        if isinstance(self.declared, Dictionary):
            return self.declared.predict(np.stack([maps[name] for name in self.declared.names], axis=1))
        return predict(self.declared, {name: maps[name] for name in self.declared.names}, self.acquisition)
