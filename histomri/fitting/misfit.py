"""Residuals of a fit, by voxel, and by b-value and diffusion time; its spread under repeated noise, by bootstrap."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import i0e, i1e

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.core.progress import Progress, share_of
from histomri.fitting import Dictionary, FitResult, fit
from histomri.fitting.choices import Normalisation, check_scan, fitted_measurements
from histomri.mri import Acquisition

# Counts of values in classes that grow with their size can be added, and quantiles found from the sum. Class k > 0
# holds values above S g^(k-1) up to S g^k with S = 1e-9 and g = 1.01, class -k the same below zero, and class 0 what
# is smaller: a quantile from counts lies within 1 % of the one of the values, whatever their size.
_SMALLEST, _GROWTH = 1e-9, 1.01
_CHUNK_VALUES, _INTERVAL = 20_000_000, (0.025, 0.975)


@dataclass(frozen=True)
class Residuals:
    """Expected minus measured normalised signals, the sign of the figures of Grussu et al. 2025.

    Values and, where it was given, the noise level of the normalised signals are (V, N), of the N measurements fitted,
    whose protocol is `acquisition`; NaN where nothing was fitted.
    """

    values: FloatArray
    sigma: FloatArray | None
    acquisition: Acquisition

    @property
    def rms(self) -> FloatArray:
        """Root of the mean square by voxel, (V,), in units of the signal at b = 0."""
        return np.asarray(np.sqrt((self.values**2).mean(axis=1)))

    def table(self) -> pd.DataFrame:
        """Return statistics over voxels, one row per distinct measurement.

        Columns are b_smm2, delta_ms, Delta_ms, te_ms, n (voxels x repeats), mean, sd, rms, t (mean over its standard
        error, of which beyond ±4 shows a misfit rather than noise), q25, median, q75, and z_mean, z_sd in units of the
        noise level where that is known: about 0 and a little below 1 for a model that fits.
        """
        kinds, kind = self._kinds()
        rows = []
        for k, (b, delta, separation, echo) in enumerate(kinds):
            chosen = kind == k
            good = np.isfinite(self.values[:, chosen])
            some = self.values[:, chosen][good]
            row = {"b_smm2": b, "delta_ms": delta, "Delta_ms": separation, "te_ms": echo if echo >= 0 else np.nan}
            row |= {"n": some.size, **_statistics(some)}
            if self.sigma is not None:
                z = some / self.sigma[:, chosen][good]
                row |= {"z_mean": z.mean() if z.size else np.nan, "z_sd": z.std(ddof=1) if z.size > 1 else np.nan}
            rows.append(row)
        return pd.DataFrame(rows)

    def counts(self) -> pd.DataFrame:
        """Count values in narrow `classes`, from which quantiles over many samples follow: measurement, class, n."""
        _, kind = self._kinds()
        good = np.isfinite(self.values)
        found = pd.DataFrame({"measurement": np.nonzero(good)[1], "class": class_of(self.values[good])})
        found["measurement"] = kind[found["measurement"]].astype(np.int32)
        return found.value_counts(sort=False).rename("n").reset_index().astype({"n": np.int64})

    def _kinds(self) -> tuple[FloatArray, IntArray]:
        """Return b, delta, Delta and TE (-1 if unknown) of the distinct measurements, and which each one is."""
        used = self.acquisition
        te = np.full(len(used), np.nan) if used.te_ms is None else used.te_ms
        keys = np.stack([used.b_smm2, used.delta_ms, used.Delta_ms, np.nan_to_num(te, nan=-1.0)], axis=1)
        kinds, kind = np.unique(np.round(keys, 6), axis=0, return_inverse=True)
        return kinds, np.ravel(kind)


def residuals(
    result: FitResult, signals: ArrayLike, acquisition: Acquisition, *, sigma: ArrayLike | None = None,
    s0: ArrayLike | None = None, fv: ArrayLike | None = None, t2t: ArrayLike | None = None,
    dictionary: Dictionary | None = None,
) -> Residuals:  # fmt: skip
    """Compare a fit with the signals it was made from.

    The model's signal is expected by least squares, √(s² + σ²) by the offset-Gaussian, and the mean of the Rician
    distribution by the exact likelihood. InputError if the fit had a noise level and none is given here, or the numbers
    of voxels differ.

    Parameters
    ----------
    result, signals, acquisition, sigma, s0, fv, t2t
        Of `fit`, and what was given to it.
    dictionary : Dictionary, optional
        The one fitted, where the result is of one.
    """
    values, acquisition = check_scan(signals, acquisition)
    raw = np.asarray(values, dtype=float)
    if raw.shape[0] != result.maps["exit"].size:
        raise InputError(f"signals have shape {raw.shape}, and the fit {result.maps['exit'].size} voxels")
    noise = result.parameters["noise"]
    if noise != "none" and sigma is None:
        raise InputError(f"the fit had the {noise} objective, and no noise level is given", hint="give sigma")
    used = fitted_measurements(result.parameters, acquisition)
    how = Normalisation.choose(acquisition, used, raw.shape[0], s0, fv, t2t, as_they_are="with_b0" in result.parameters)
    chosen, good = acquisition.select(used), result.maps["exit"] > 0
    values = np.full((raw.shape[0], int(used.sum())), np.nan)
    divisor = how.divisors(raw, slice(None))[good]
    expected = how.expected(fitted_signals(result, chosen, used, dictionary)[good], divisor)
    levels = None
    if sigma is not None:
        levels = np.full_like(values, np.nan)
        levels[good] = np.broadcast_to(np.asarray(sigma, dtype=float), good.shape)[good, None] / divisor
        expected = mean_signal(expected, levels[good], noise)
    values[good] = expected - raw[good][:, used] / divisor
    return Residuals(values, levels, chosen)


def fitted_signals(
    result: FitResult, chosen: Acquisition, used: BoolArray, dictionary: Dictionary | None
) -> FloatArray:
    """Return the noise-free normalised signals of the measurements fitted, (V, N); NaN where nothing was fitted."""
    if dictionary is None:
        return result.predict(chosen)
    good = result.maps["exit"] > 0
    signals = np.full((good.size, int(used.sum())), np.nan)
    if good.any():
        values = np.stack([result.maps[name][good] for name in dictionary.names], axis=1)
        signals[good] = dictionary.select(used).predict(values)
    return signals


def mean_signal(signal: FloatArray, sigma: FloatArray, noise: str) -> FloatArray:
    """Return the measured signal that a noise model expects of a noise-free one.

    The mean of the Rician distribution is σ √(π/2) L(-s²/2σ²), with L the Laguerre function of order 1/2
    (Gudbjartsson and Patz 1995, doi 10.1002/mrm.1910340618).
    """
    if noise == "offset-gaussian":
        return np.asarray(np.hypot(signal, sigma))
    if noise == "rician":
        x = signal**2 / (4 * sigma**2)
        return np.asarray(sigma * np.sqrt(np.pi / 2) * ((1 + 2 * x) * i0e(x) + 2 * x * i1e(x)))
    return signal


def _statistics(values: FloatArray) -> dict[str, float]:
    if values.size == 0:
        return dict.fromkeys(("mean", "sd", "rms", "t", "q25", "median", "q75"), np.nan)
    mean, sd = float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else np.nan
    t = mean / (sd / np.sqrt(values.size)) if sd > 0 else np.nan
    quartiles = dict(zip(("q25", "median", "q75"), np.quantile(values, (0.25, 0.5, 0.75)).tolist()))
    return {"mean": mean, "sd": sd, "rms": float(np.sqrt((values**2).mean())), "t": t, **quartiles}


def bootstrap(
    result: FitResult, signals: ArrayLike, acquisition: Acquisition, *, count: int = 100,
    kind: Literal["parametric", "residual"] = "parametric", sigma: ArrayLike | None = None, s0: ArrayLike | None = None,
    fv: ArrayLike | None = None, t2t: ArrayLike | None = None,
    dictionary: Dictionary | None = None, seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, FloatArray]:  # fmt: skip
    """Fit again and again with new noise on the fitted signals.

    InputError if the parametric kind has no noise level, or the count is below 2.

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
        one = replace(result, maps={name: values[part] for name, values in result.maps.items()})
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
    used = fitted_measurements(result.parameters, acquisition)
    how = Normalisation.choose(
        acquisition, used, raw.shape[0], given["s0"], given["fv"], given["t2t"],
        as_they_are="with_b0" in result.parameters,
    )  # fmt: skip
    divisor = how.divisors(raw, slice(None))
    clean = how.expected(fitted_signals(result, acquisition.select(used), used, dictionary), divisor) * divisor
    left, inflated = None, 1.0
    if kind == "residual":
        left = -residuals(result, raw, acquisition, dictionary=dictionary, **given).values * divisor
        inflated = np.sqrt(left.shape[1] / max(left.shape[1] - len(result.parameters["bounds"]), 1))
    settings = result.parameters
    limits = {name: (pair[0], pair[1]) for name, pair in settings["bounds"].items()}
    same: dict[str, Any] = {name: settings[name] for name in ("noise", "bmin_smm2", "preset")} | given
    same["robust"] = settings.get("robust")
    draws = np.empty((len(names), count, raw.shape[0]), dtype=np.float32)
    for n in range(count):
        again = raw.copy()
        if left is None:
            noise = given["sigma"][:, None] * rng.standard_normal((2, *clean.shape))
            again[:, used] = np.hypot(clean + noise[0], noise[1])
        else:
            pick = rng.integers(0, left.shape[1], size=left.shape)
            again[:, used] += inflated * np.take_along_axis(left, pick, axis=1) - left
        maps = fit(again, acquisition, dictionary or result.model_declared or result.model, bounds=limits, **same).maps
        draws[:, n] = [maps[name] for name in names]
        progress((n + 1) / count)
    return draws


def class_of(values: FloatArray) -> IntArray:
    """Return the class of each finite value."""
    steps = np.ceil(np.log(np.maximum(np.abs(values), _SMALLEST) / _SMALLEST) / np.log(_GROWTH))
    return np.asarray(np.sign(values) * steps, dtype=np.int32)


def quantiles_of_counts(counts: pd.DataFrame, probabilities: tuple[float, ...]) -> pd.DataFrame:
    """Return quantiles of each group of counts: index group, a column per probability from 0 to 1.

    Counts have the columns group, class and n; a class may come several times. The quantiles are those that
    `numpy.quantile` finds for values spread evenly in their classes.
    """
    added = counts.groupby(["group", "class"], sort=True)["n"].sum()
    groups, classes = (added.index.get_level_values(name).to_numpy() for name in ("group", "class"))
    up_to = np.cumsum(added.to_numpy())
    names, first = np.unique(groups, return_index=True)
    before = np.r_[0, up_to][first]
    sizes = np.r_[before[1:], up_to[-1]] - before
    places = (sizes[:, None] - 1) * np.asarray(probabilities)
    below = np.floor(places)
    low, high = (
        _at(before[:, None] + np.minimum(rank, sizes[:, None] - 1), up_to, added.to_numpy(), classes)
        for rank in (below, below + 1)
    )
    return pd.DataFrame(low + (places - below) * (high - low), pd.Index(names, name="group"), list(probabilities))


def _at(rank: FloatArray, up_to: IntArray, n: IntArray, classes: IntArray) -> FloatArray:
    """Return the values with these ranks, from 0, among all values in the order of groups and classes."""
    place = np.searchsorted(up_to, rank, side="right")
    fraction = (rank - (up_to[place] - n[place]) + 0.5) / n[place]
    # The end that is farther from zero, and the nearer one; class 0 is a point.
    outer = np.sign(classes[place]) * (_SMALLEST * _GROWTH ** np.abs(classes[place]).astype(float))
    lower, upper = np.sort([outer, outer / _GROWTH], axis=0)
    return np.asarray(lower + fraction * (upper - lower))
