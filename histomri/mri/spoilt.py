"""Spoilt volumes: measurements that most voxels of a slice do not agree with, found by leaving them out in turn.

Preparation and fit share this search. They differ in what is expected of a voxel: a smooth curve over b before any
model, and the tissue model after it.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import gammaincinv

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.mri import Acquisition

Describe = Callable[[IntArray, BoolArray], FloatArray]
"""From voxels, (v,) indices, and the measurements to keep, (N,), to the signals expected of all of them, (v, N)."""
_MEDIAN, _GAIN = 1.5, 5.0
# A volume is spoilt if leaving it out takes away most of the misfit; what bends the whole curve is a wrong model.
_LEFT = 0.4
_LEAST_CHANGE = 0.1  # smaller changes of the signal are within what models miss
_CLEAR = 1.0  # by how much the median χ² without the next best candidate is above that without the best
_MOST_SPOILT, _CANDIDATES = 3, 4
LEAST_VOXELS, _ENOUGH = 20, 400
# Diffusivity of blood for the smooth curve, µm²/ms.
_BLOOD = 20.0


@dataclass(frozen=True)
class SpoiltVolume:
    """A volume that is spoilt in a slice, both counted from 0; slice -1 means all voxels, of slices not known.

    `median` is that of measured minus expected signal over the noise level, where the volume is left out, `gain` by how
    much that lowers the median χ² of the slice, and `ratio` the median of measured over expected signal.
    """

    volume: int
    slice: int
    median: float
    gain: float
    ratio: float

    def words(self) -> str:
        """Say where it is, and what is wrong with it."""
        where = f", slice {self.slice}" if self.slice >= 0 else ""
        return f"volume {self.volume}{where}: signal {100 * self.ratio:.0f} % of expected"

    def record(self) -> dict[str, Any]:
        """Return the same for a sidecar."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def list_spoilt(found: Iterable[SpoiltVolume], slices: IntArray, most: int = 6) -> str:
    """Name spoilt volumes in words: one that is spoilt in several slices once, and at most so many."""
    every, by_volume = len(np.unique(slices)), dict[int, list[SpoiltVolume]]()
    for each in found:
        by_volume.setdefault(each.volume, []).append(each)
    words: list[str] = []
    for volume, places in by_volume.items():
        if len(places) == 1:
            words.append(places[0].words())
            continue
        where = "all slices" if len(places) == every else "slices " + ", ".join(str(each.slice) for each in places)
        percent = 100 * float(np.median([each.ratio for each in places]))
        words.append(f"volume {volume}, {where}: signal {percent:.0f} % of expected")
    more = f"; and {len(words) - most} more volumes" if len(words) > most else ""
    return "; ".join(words[:most]) + more


def find_spoilt(
    measured: FloatArray, sigma: FloatArray, slices: IntArray, describe: Describe, parameters: int, volumes: IntArray
) -> list[SpoiltVolume]:
    """Find the measurements that are spoilt in a slice.

    One is a candidate if its median residual over the slice is beyond 1.5 noise levels. It is spoilt if leaving it out
    lowers the median χ² of the slice by more than 5, takes away most of the excess of χ², and leaves it with less than
    90 or more than 110 % of the signal expected. Slices of fewer than 20 voxels are not judged.

    Parameters
    ----------
    measured, sigma : (V, N) ndarray
        Signals and their noise levels.
    slices, volumes : (V,) and (N,) ndarray of int
        Slice of each voxel, and number of each measurement in the series.
    describe : callable
        What is expected, where some measurements are left out.
    parameters : int
        How many are fitted to a voxel.
    """
    found = []
    for name in np.unique(slices):
        voxels = np.flatnonzero(slices == name)
        if voxels.size >= LEAST_VOXELS and measured.shape[1] - parameters >= 2:
            some = thinned(voxels)
            one = _Slice(some, measured[some], sigma[some], describe, parameters)
            found += [SpoiltVolume(int(volumes[column]), int(name), *rest) for column, *rest in one.search()]
    return found


def thinned(voxels: IntArray) -> IntArray:
    """Return at most 400 voxels of a slice, evenly spaced: enough for a median."""
    return np.asarray(voxels[np.linspace(0, voxels.size - 1, min(voxels.size, _ENOUGH)).astype(int)])


@dataclass(frozen=True)
class _Slice:
    voxels: IntArray
    measured: FloatArray
    sigma: FloatArray
    describe: Describe
    parameters: int

    def search(self) -> list[tuple[int, float, float, float]]:
        """Leave out what helps most, again and again; return column, median residual, gain and ratio of each."""
        kept = np.ones(self.measured.shape[1], dtype=bool)
        z, chi2, _ = self._without(kept)
        first, gains = self._excess(chi2, kept), dict[int, float]()
        most = min(_MOST_SPOILT, kept.size - self.parameters - 1)
        while len(gains) < most:
            size = np.where(kept, np.abs(np.median(z, axis=0)), 0.0)
            candidates = [int(c) for c in np.argsort(-size, kind="stable")[:_CANDIDATES] if size[c] > _MEDIAN]
            tried = {c: self._without(kept & (np.arange(kept.size) != c))[1] for c in candidates}
            if not tried:
                break
            best = min(tried, key=lambda c: tried[c])
            if chi2 - tried[best] <= _GAIN or sum(each < tried[best] + _CLEAR for each in tried.values()) > 1:
                break  # nothing helps, or it is not clear which one it is
            gains[best] = chi2 - tried[best]
            kept[best] = False
            z, chi2, _ = self._without(kept)
        if not gains or self._excess(chi2, kept) > _LEFT * first:
            return []
        z, _, expected = self._without(kept)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.nanmedian(self.measured / expected, axis=0)
        spoilt = [(c, float(np.median(z[:, c])), float(gain), float(ratio[c])) for c, gain in gains.items()]
        return spoilt if all(abs(each[3] - 1) > _LEAST_CHANGE for each in spoilt) else []

    def _without(self, kept: BoolArray) -> tuple[FloatArray, float, FloatArray]:
        """Return residuals in noise levels, the median χ², and what is expected, of what is kept."""
        expected = self.describe(self.voxels, kept)
        z = (self.measured - expected) / self.sigma
        good = np.isfinite(z).all(axis=1)
        if not good.any():
            return np.zeros_like(z), 0.0, expected
        return z[good], float(np.median((z[good][:, kept] ** 2).sum(axis=1))), expected

    def _excess(self, chi2: float, kept: BoolArray) -> float:
        """Return by how much the median χ² is above that of noise alone."""
        return max(chi2 - 2 * float(gammaincinv((kept.sum() - self.parameters) / 2, 0.5)), 0.0)


def find_spoilt_before_fit(
    signals: FloatArray, sigma: FloatArray, slices: IntArray, acquisition: Acquisition, volumes: IntArray
) -> list[SpoiltVolume]:
    """Find spoilt volumes by a smooth curve over b, from some hundred voxels of each slice.

    Signals are (V, M), raw; sigma, (V,), their noise level, which is found from the residuals where it is NaN.
    """
    good = np.flatnonzero(np.isfinite(signals).all(axis=1) & (signals > 0).any(axis=1))
    parts = [thinned(good[slices[good] == name]) for name in np.unique(slices[good])]
    if not parts or len(acquisition) < 7 or np.unique(np.round(acquisition.b_smm2, 1)).size < 4:
        return []  # nothing is left to judge a curve by
    sample = np.concatenate(parts)
    y, noise = signals[sample].astype(float), np.asarray(sigma, dtype=float)[sample]
    if not np.all(noise > 0):
        noise = np.where(noise > 0, noise, _scatter(y, acquisition))
    level = np.repeat(noise[:, None], y.shape[1], axis=1)
    describe, parameters = _smooth_curve(y, level, acquisition)
    return find_spoilt(y, level, slices[sample], describe, parameters, volumes)


def _scatter(y: FloatArray, acquisition: Acquisition) -> float:
    """Return the noise level that the scatter about a smooth curve shows."""
    describe, parameters = _smooth_curve(y, np.full_like(y, 1e-3 * y.max()), acquisition)
    left = y - describe(np.arange(len(y)), np.ones(y.shape[1], dtype=bool))
    spread = float(np.median(np.abs(left)) / 0.6745)
    return float(max(spread * np.sqrt(y.shape[1] / (y.shape[1] - parameters)), 1e-6 * float(y.max())))


def _smooth_curve(signals: FloatArray, sigma: FloatArray, acquisition: Acquisition) -> tuple[Describe, int]:
    """Return what a smooth curve over b expects of each voxel, and how many parameters it has.

    It is a kurtosis expansion of the logarithm of the signal, with a level for each echo time, a diffusivity that may
    change with diffusion and echo time, and the fast decay of blood. No tissue model is needed, and no iteration.
    """
    design = _design(acquisition)
    logarithm = np.log(np.sqrt(np.maximum(signals**2 - sigma**2, (0.5 * sigma) ** 2)))

    def describe(voxels: IntArray, kept: BoolArray) -> FloatArray:
        y = logarithm[voxels]
        # The error of a logarithm goes with one over the signal; one set of weights serves the slice.
        weight = np.median(signals[voxels], axis=0) * kept
        solve = np.linalg.pinv(design * weight[:, None], rcond=1e-8)
        fitted = np.minimum((y * weight) @ solve.T @ design.T, 80.0)
        return np.asarray(np.hypot(np.exp(fitted), sigma[voxels]))

    return describe, design.shape[1]


def _design(acquisition: Acquisition) -> FloatArray:
    """Return the columns of the smooth curve, (M, P), as many as leave four measurements over."""
    b, n = acquisition.b_smm2 / 1000.0, len(acquisition)
    te = np.zeros(n) if acquisition.te_ms is None else np.round(acquisition.te_ms, 3)
    gap = np.where(acquisition.is_b0, 0.0, acquisition.Delta_ms)
    gap = np.where(gap > 0, gap - np.mean(gap[gap > 0]) if np.any(gap > 0) else 0.0, 0.0) / 10.0
    echo = (te - te.mean()) / 10.0
    columns = [(te == time).astype(float) for time in np.unique(te)] + [b, b**2]
    optional = [np.exp(-_BLOOD * b), b * echo, b * gap, b**3, b**2 * gap]
    for column in optional:
        trial = np.stack([*columns, column], axis=1)
        if n - trial.shape[1] >= 4 and np.linalg.matrix_rank(trial, tol=1e-3) == trial.shape[1]:
            columns.append(column)
    return np.stack(columns, axis=1)
