"""Residuals of a fit, by voxel, and by b-value and diffusion time."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import i0e, i1e

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.fitting import Dictionary, FitResult
from histomri.fitting.choices import check_scan
from histomri.fitting.classes import class_of
from histomri.fitting.normalise import Normalisation
from histomri.mri import Acquisition


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

    Parameters
    ----------
    result, signals, acquisition, sigma, s0, fv, t2t
        Of `fit`, and what was given to it.
    dictionary : Dictionary, optional
        The one fitted, where the result is of one.

    Returns
    -------
    Residuals
        Against the model's signal for least squares, √(s² + σ²) for the offset-Gaussian, and the mean of the Rician
        distribution for the exact likelihood.

    Raises
    ------
    InputError
        If the fit had a noise level and none is given here, or the numbers of voxels differ.
    """
    values, acquisition = check_scan(signals, acquisition)
    raw = np.asarray(values, dtype=float)
    if raw.shape[0] != result.maps["exit"].size:
        raise InputError(f"signals have shape {raw.shape}, and the fit {result.maps['exit'].size} voxels")
    noise = result.parameters["noise"]
    if noise != "none" and sigma is None:
        raise InputError(f"the fit had the {noise} objective, and no noise level is given", hint="give sigma")
    used = np.asarray((acquisition.b_smm2 > result.parameters["bmin_smm2"]) & ~acquisition.is_b0)
    how = Normalisation.choose(acquisition, used, raw.shape[0], s0, fv, t2t)
    chosen, good = acquisition.select(used), result.maps["exit"] > 0
    values = np.full((raw.shape[0], int(used.sum())), np.nan)
    divisor = how.divisors(raw, slice(None))[good]
    expected = fitted_signals(result, chosen, used, dictionary)[good]
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
