"""Volumes that are spoilt before any model is fitted, and the T2-IVIM step without them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import FloatArray
from histomri.core.errors import ProtocolError
from histomri.core.presets import get_preset
from histomri.fitting import FitResult, fit_t2ivim
from histomri.fitting.bounds import parse_bounds
from histomri.fitting.options import FitOptions
from histomri.fitting.t2ivim import T2IVIM_PARAMETERS
from histomri.mri import Acquisition, Series, SpoiltVolume, find_spoilt_before_fit


def spoilt_before_any_model(signals: FloatArray, series: Series, sigma: ArrayLike) -> tuple[SpoiltVolume, ...]:
    """Find spoilt volumes among signals, (V, M), by a smooth curve over b, from some hundred voxels of each slice."""
    level = np.broadcast_to(np.asarray(sigma, dtype=float), signals.shape[:1])
    return tuple(find_spoilt_before_fit(signals, level, series.slices, series.acquisition, series.volumes))


def fit_t2ivim_without(signals: FloatArray, series: Series, spoilt: Iterable[SpoiltVolume], **how: Any) -> FitResult:
    """Fit T2-IVIM to signals, (V, M), each slice without its spoilt volumes; `how` is passed on."""
    kept = np.ones(signals.shape, dtype=bool)
    for each in spoilt:
        kept[np.ix_(series.slices == each.slice, series.volumes == each.volume)] = False
    if kept.all():
        return fit_t2ivim(signals, series.acquisition, **how)
    patterns, which = np.unique(kept, axis=0, return_inverse=True)
    maps, last = dict[str, FloatArray](), FitResult("t2ivim", {})
    for k, pattern in enumerate(patterns):
        voxels = np.flatnonzero(np.ravel(which) == k)
        try:
            last = fit_t2ivim(signals[voxels][:, pattern], series.acquisition.select(pattern), **how)
        except ProtocolError:  # too little is left
            last = fit_t2ivim(signals[voxels], series.acquisition, **how)
        for name, values in last.maps.items():
            maps.setdefault(name, np.full(signals.shape[0], np.nan))[voxels] = values
    return FitResult(last.model, maps, {**last.parameters, "measurements": len(series.acquisition)}, last.warnings)


def t2ivim_settings(options: FitOptions, preset: str, acquisition: Acquisition) -> dict[str, Any] | None:
    """Return how S0, fV and T2 are to be fitted first; None if they are not."""
    if not _needs_t2ivim(options, preset, acquisition):
        return None
    own = {name: pair for name, pair in parse_bounds(options.bounds).items() if name in T2IVIM_PARAMETERS}
    kurtosis = None if options.kurtosis == "free" else options.kurtosis
    return {"preset": preset, "kurtosis": kurtosis, "blood_t2": options.blood_t2, "bounds": own}


def _needs_t2ivim(options: FitOptions, preset: str, acquisition: Acquisition) -> bool:
    """Tell whether S0, fV and T2 are to be fitted: by default in vivo, with several echo times, if not given.

    Ex vivo no blood flows, and the signal at b = 0 of each echo time serves.
    """
    if options.t2ivim is not None:
        return options.t2ivim
    several = acquisition.te_ms is not None and np.unique(np.round(acquisition.te_ms, 1)).size > 1
    return several and (options.s0, options.fv, options.t2t) == (None, None, None) and get_preset(preset).in_vivo
