"""Fit of a tissue model to the signals of many voxels."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import FloatArray
from histomri.core.progress import Progress, share_of
from histomri.fitting import choices
from histomri.fitting.choices import Bic, Noise, Normalisation, Voxels, log_likelihood, normalised
from histomri.fitting.dictionary import Dictionary, fit_examples
from histomri.fitting.engine import COST, EXIT, N_OUT, Engine
from histomri.fitting.models import Model, get_model
from histomri.fitting.results import FitResult, bound_warnings, maps_from
from histomri.mri import Acquisition

_CHUNK = 50_000


def fit(
    signals: ArrayLike, acquisition: Acquisition | str | Path, model: str | Model | Dictionary = "diff-in", *,
    sigma: ArrayLike | None = None, bmin_smm2: float | None = None, strategy: str | None = None,
    s0: ArrayLike | None = None, fv: ArrayLike | None = None, t2t: ArrayLike | None = None,
    fv_se: ArrayLike | None = None, noise: Noise | None = None, preset: str = "mouse-exvivo",
    bounds: Mapping[str, tuple[float, float]] | None = None, bic: Bic = "schwarz", progress: Progress | None = None,
) -> FitResult:  # fmt: skip
    """Fit a tissue model to each voxel.

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
        S0 (1 - fV) exp(-TE/T2); otherwise by the mean at b = 0 of the same echo time.
    noise : {"offset-gaussian", "rician", "none"}, optional
        The likelihood; by default offset-Gaussian if sigma is given and least squares ("none") if it is not.
    preset, bounds : {"mouse-exvivo", "invivo-3t", "invivo-1.5t"}, and mapping of str to (float, float), optional
        Bounds and thresholds; bounds that replace these. Those of a dictionary are the range of its examples.
    bic : {"schwarz", "paper"}
        P ln N - 2 ln λ, or Eq. 15 of the paper, P ln N - ln λ.

    Returns
    -------
    FitResult
        Maps (V,). Without fV, F equals fI. Of a dictionary those of its parameters, and F and CD where it has fI, vCS.

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
    >>> fit(signals, mouse, "diff-in", strategy="high-b").maps["vCS"].round(2)
    array([16.])
    """
    values, acquisition = choices.check_scan(signals, acquisition)
    noise = choices.choose_noise(noise, sigma)
    choices.check_bic(bic)
    strategy, threshold = choices.choose_threshold(preset, strategy, bmin_smm2)
    declared = model if isinstance(model, Dictionary) else get_model(model)
    if isinstance(declared, Dictionary):
        limits = declared.bounds
    else:
        limits = choices.replace_bounds(declared.bounds(preset), bounds, declared.display_name, held=False)
    used = choices.choose_measurements(acquisition, threshold, len(limits), declared.display_name)
    how = Normalisation.choose(acquisition, used, values.shape[0], s0, fv, t2t, fv_se)
    levels = choices.noise_level(sigma, values.shape[0])
    fit_part: Callable[..., dict[str, FloatArray]]
    if isinstance(declared, Dictionary):
        declared.require(len(acquisition))
        size, fit_part = declared.chunk, partial(fit_examples, declared.select(used))
    else:
        size, fit_part = _CHUNK, partial(_fit_part, Engine.build(declared, acquisition.select(used), limits))
    parts, count = [], values.shape[0]
    for start in range(0, max(count, 1), size):  # a part at a time, so that the memory is bounded
        part = slice(start, min(start + size, count))
        voxels = normalised(values[part].astype(np.float64), levels[part], part, how, noise)
        parts.append(fit_part(voxels, noise, bic))
        share_of(progress)(part.stop / max(count, 1))
    maps = {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}
    settings: dict[str, Any] = {
        "preset": preset, "strategy": strategy, "bmin_smm2": threshold, "measurements": int(used.sum()),
        "bounds": {name: list(pair) for name, pair in limits.items()}, "noise": noise, "normalisation": how.description,
        "bic": bic,
    }  # fmt: skip
    if isinstance(declared, Dictionary):
        settings["examples"] = declared.parameters.shape[0]
    result = FitResult(declared.name, maps, settings)
    return replace(result, warnings=bound_warnings(result.counts, f"{declared.display_name} ({strategy})"))


def _fit_part(engine: Engine, voxels: Voxels, noise: str, bic: str) -> dict[str, FloatArray]:
    out = np.full((voxels.good.size, N_OUT), np.nan)
    out[:, EXIT] = voxels.codes
    out[voxels.good] = engine.run(voxels.y, voxels.sigma, noise)
    likelihood = np.full(voxels.good.size, np.nan)
    likelihood[voxels.good] = log_likelihood(out[voxels.good, COST], voxels.y, voxels.sigma, noise)
    return maps_from(out, engine.model, voxels.blood, likelihood, voxels.y.shape[1], bic)
