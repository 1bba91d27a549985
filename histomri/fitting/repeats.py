"""Spread of a fit under repeated noise: parametric and residual bootstrap, through the same engine."""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.progress import Progress, share_of
from histomri.fitting import Dictionary, FitResult, fit, residuals
from histomri.fitting.misfit import fitted_signals
from histomri.fitting.normalise import Normalisation
from histomri.mri import Acquisition

_CHUNK_VALUES = 20_000_000
_INTERVAL = (0.025, 0.975)


def bootstrap(
    result: FitResult, signals: ArrayLike, acquisition: Acquisition, *, count: int = 100,
    kind: Literal["parametric", "residual"] = "parametric", sigma: ArrayLike | None = None, s0: ArrayLike | None = None,
    fv: ArrayLike | None = None, t2t: ArrayLike | None = None, dictionary: Dictionary | None = None, seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, FloatArray]:  # fmt: skip
    """Fit again and again with new noise on the fitted signals.

    Parameters
    ----------
    result, signals, acquisition, sigma, s0, fv, t2t, dictionary
        Of `fit`, and what was given to it.
    count, seed : int
        Repeats, of which intervals need at least about 100, and seed of the random numbers.
    kind : {"parametric", "residual"}
        New Rician noise of the level given, or the voxel's own residuals drawn with replacement and inflated by
        √(N / (N - P)) for the parameters that were fitted to them.

    Returns
    -------
    dict of str to (V,) ndarray
        For each parameter fitted, F and CD: ``vCS_bootse`` standard deviation, ``vCS_low`` and ``vCS_high`` the 2.5 and
        97.5 percentiles. NaN where nothing was fitted. Estimates at bounds are counted as they are, so that unlike
        standard errors these exist everywhere.

    Raises
    ------
    InputError
        If the parametric kind has no noise level, or the count is below 2.
    """
    if count < 2:
        raise InputError(f"{count} repeats have no spread", hint="give at least 2, better 100")
    if kind not in ("parametric", "residual"):
        raise InputError(f"there is no bootstrap {kind!r}", hint="choose parametric or residual")
    if kind == "parametric" and sigma is None:
        raise InputError("the parametric bootstrap needs the noise level", hint="give sigma, or kind 'residual'")
    raw = np.asarray(signals)
    voxels = np.flatnonzero(result.maps["exit"] > 0)
    names = [*result.parameters["bounds"], *(name for name in ("F", "CD") if name in result.maps)]
    out = {f"{name}_{what}": np.full(raw.shape[0], np.nan) for name in names for what in ("bootse", "low", "high")}
    given = {
        name: None if value is None else np.broadcast_to(np.asarray(value, dtype=float), raw.shape[:1])
        for name, value in (("sigma", sigma), ("s0", s0), ("fv", fv), ("t2t", t2t))
    }
    step = max(1, _CHUNK_VALUES // (count * len(names)))
    for start in range(0, voxels.size, step):
        part = voxels[start : start + step]
        chosen = {name: each if each is None else each[part] for name, each in given.items()}
        one = FitResult(result.model, {name: values[part] for name, values in result.maps.items()}, result.parameters)
        report = share_of(progress, start / voxels.size, (start + part.size) / voxels.size)
        scan, numbers = (raw[part].astype(float), acquisition), np.random.default_rng([seed, start])
        draws = _repeat(one, names, *scan, count, kind, chosen, dictionary, numbers, report)
        for k, name in enumerate(names):
            out[f"{name}_bootse"][part] = draws[k].std(axis=0, ddof=1)
            out[f"{name}_low"][part], out[f"{name}_high"][part] = np.quantile(draws[k], _INTERVAL, axis=0)
    return out


def _repeat(
    result: FitResult, names: list[str], raw: FloatArray, acquisition: Acquisition, count: int, kind: str,
    given: dict[str, Any], dictionary: Dictionary | None, rng: np.random.Generator, progress: Progress,
) -> FloatArray:  # fmt: skip
    """Return the estimates of all repeats, (names, count, V)."""
    used = np.asarray((acquisition.b_smm2 > result.parameters["bmin_smm2"]) & ~acquisition.is_b0)
    how = Normalisation.choose(acquisition, used, raw.shape[0], given["s0"], given["fv"], given["t2t"])
    divisor = how.divisors(raw, slice(None))
    clean = fitted_signals(result, acquisition.select(used), used, dictionary) * divisor
    left, inflated = None, 1.0
    if kind == "residual":
        left = -residuals(result, raw, acquisition, dictionary=dictionary, **given).values * divisor
        inflated = np.sqrt(left.shape[1] / max(left.shape[1] - len(result.parameters["bounds"]), 1))
    settings = result.parameters
    limits = {name: (pair[0], pair[1]) for name, pair in settings["bounds"].items()}
    same: dict[str, Any] = {name: settings[name] for name in ("noise", "bmin_smm2", "preset")} | given
    draws = np.empty((len(names), count, raw.shape[0]), dtype=np.float32)
    for n in range(count):
        again = raw.copy()
        if left is None:
            noise = given["sigma"][:, None] * rng.standard_normal((2, *clean.shape))
            again[:, used] = np.hypot(clean + noise[0], noise[1])
        else:
            pick = rng.integers(0, left.shape[1], size=left.shape)
            again[:, used] += inflated * np.take_along_axis(left, pick, axis=1) - left
        maps = fit(again, acquisition, dictionary or result.model, bounds=limits, **same).maps
        draws[:, n] = [maps[name] for name in names]
        progress((n + 1) / count)
    return draws
