"""How well a model describes the signals of each voxel, and fits that single bad measurements do not spoil.

χ² is twice the objective: it belongs to the fit of all measurements, whatever is left out afterwards, and so do logL,
BIC and AIC, as criteria of models fitted to different measurements cannot be compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from scipy.special import gammaincc, gammainccinv, i0e, i1e

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.fitting.choices import Normalisation, Voxels, normalised
from histomri.fitting.results import MISFIT_P
from histomri.mri.spoilt import LEAST_VOXELS, SpoiltVolume, find_spoilt, list_spoilt, thinned

Robust = Literal["loo", "tukey", "none"]
ROBUST: tuple[str, ...] = ("loo", "tukey", "none")
Maps = dict[str, FloatArray]
_CURED, _TRIED = 1e-3, 5
# Of voxels that the model describes so many may lose a measurement to noise alone.
_LOST = 5e-4
# Where more of a slice than this has a bad χ² the model is wrong, and no single measurement.
_WRONG_MODEL = 0.75
_TUKEY, _ROUNDS, _CHUNK = 6.0, 8, 20_000
_PLAIN = ("cost", "logL", "BIC", "AIC")


class Solver(Protocol):
    """What fits some voxels, all measurements or some, and says what it expects of each of them."""

    noise: str

    def run(self, voxels: Voxels, kept: BoolArray | None = None) -> Maps:
        """Return maps of voxels that all can be fitted, to the measurements kept."""

    def run_weighted(self, voxels: Voxels, weights: FloatArray) -> Maps:
        """Return the same with a weight, (V, N), for each measurement."""

    def signals(self, maps: Mapping[str, FloatArray]) -> FloatArray:
        """Return noise-free signals of all measurements, (V, N)."""


def choose_robust(robust: str | None, noise: str, dictionary: bool) -> str:
    """Choose how to treat single bad measurements: if nothing is asked, leave-one-out where the noise is known."""
    if robust is None:
        return "none" if noise == "none" else "loo"
    if robust not in ROBUST:
        raise InputError(f"there is no robust fit {robust!r}", hint=f"choose among {', '.join(ROBUST)}")
    if robust != "none" and noise == "none":
        raise InputError(
            f"a robust fit ({robust}) needs the noise level", hint="give sigma (--sigma), or robust 'none'"
        )
    if robust == "tukey" and dictionary:
        raise InputError("Tukey's weights are for the models, and not for dictionaries", hint="choose loo")
    return robust


def standardised(signal: FloatArray, y: FloatArray, sigma: FloatArray, noise: str) -> FloatArray:
    """Return measured minus expected signals over their standard deviation, (V, N), of noise-free signals."""
    if noise == "offset-gaussian":
        return np.asarray((y - np.hypot(signal, sigma)) / sigma)
    x = signal**2 / (4 * sigma**2)
    mean = sigma * np.sqrt(np.pi / 2) * ((1 + 2 * x) * i0e(x) + 2 * x * i1e(x))
    return np.asarray((y - mean) / np.sqrt(np.maximum(2 * sigma**2 + signal**2 - mean**2, 1e-12 * sigma**2)))


def freedom(maps: Mapping[str, FloatArray], names: tuple[str, ...], measurements: IntArray) -> FloatArray:
    """Return measurements less free parameters, (V,): one at its bound has no error and is not counted."""
    free = sum((np.isfinite(maps[f"{name}_se"]).astype(int) for name in names), np.zeros(maps["exit"].size, dtype=int))
    return np.asarray(measurements - free, dtype=float)


def tail(chi2: FloatArray, degrees: FloatArray) -> FloatArray:
    """Return the probability of a larger χ², (V,); NaN without a degree of freedom."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(degrees > 0, gammaincc(np.maximum(degrees, 1) / 2, chi2 / 2), np.nan))


@dataclass(frozen=True)
class Misfit:
    """What came of looking for misfit: spoilt volumes, and what was fitted again without which measurements."""

    robust: str
    spoilt: tuple[SpoiltVolume, ...]
    refitted: int
    dropped: int
    poor: float  # share of the voxels with p < 0.01
    median: float  # of χ² over its degrees of freedom

    def record(self) -> dict[str, Any]:
        """Return the same for a sidecar."""
        return {
            "Robust": self.robust, "VoxelsFittedAgain": self.refitted, "MeasurementsLeftOut": self.dropped,
            "ShareOfPBelow0.01": round(self.poor, 4), "MedianChi2PerFreedom": round(self.median, 4),
            "SpoiltVolumes": [each.record() for each in self.spoilt],
        }  # fmt: skip

    def warnings(self, title: str, slices: IntArray) -> tuple[str, ...]:
        """Name spoilt volumes, and say what was done about them."""
        if not self.spoilt:
            return ()
        done = {"loo": "left out there", "tukey": "weighed down there", "none": "fitted as they are (robust none)"}
        return (f"{title}: spoilt, {done[self.robust]}: {list_spoilt(self.spoilt, slices)}",)


@dataclass(frozen=True)
class Scanned:
    """Signals (V, M) and noise levels (V,) as they were given to a fit, and slices (V,) and volumes (N,) from 0."""

    signals: Any
    levels: FloatArray
    how: Normalisation
    slices: IntArray
    volumes: IntArray

    def some(self, chosen: IntArray, noise: str) -> Voxels:
        """Normalise some voxels, all of which can be fitted; they may repeat."""
        return normalised(self.signals[chosen].astype(np.float64), self.levels[chosen], chosen, self.how, noise)


@dataclass
class _Examined:
    """Fitted voxels: `maps`, (V,) each, are changed in place, and `kept`, (V, N), says which measurements are in."""

    scan: Scanned
    maps: Maps
    solver: Solver
    names: tuple[str, ...]
    kept: BoolArray

    @property
    def fitted(self) -> IntArray:
        """The voxels that could be fitted."""
        return np.flatnonzero(self.maps["exit"] > 0)

    def spoilt(self) -> list[SpoiltVolume]:
        """Find volumes that are spoilt in a slice, from some hundred of its voxels."""
        fitted, slices = self.fitted, self.scan.slices
        parts = [thinned(fitted[slices[fitted] == name]) for name in np.unique(slices[fitted])]
        if not parts:
            return []
        sample = np.concatenate(parts)
        voxels = self._some(sample)

        def describe(chosen: IntArray, kept: BoolArray) -> FloatArray:
            maps = self._of(sample[chosen]) if kept.all() else self.solver.run(voxels.some(chosen), kept)
            return np.asarray(np.hypot(self.solver.signals(maps), voxels.sigma[chosen]))

        return find_spoilt(voxels.y, voxels.sigma, slices[sample], describe, len(self.names), self.scan.volumes)

    def leave_out(self, spoilt: list[SpoiltVolume]) -> None:
        """Fit again without the spoilt volumes, and without one more measurement in single voxels.

        One more is left out where χ² stays bad (p < 0.01), if that gains more than noise does in one of 2000
        voxels, and the others then fit. What the whole slice misses in that volume is the model's, and no gain.
        """
        fitted, slices = self.fitted, self.scan.slices
        for each in spoilt:
            self.kept[np.ix_(slices == each.slice, self.scan.volumes == each.volume)] = False
        chi2, p = self.maps["chi2"].copy(), self.maps["pMisfit"].copy()
        for part in _chunks(fitted[~self.kept[fitted].all(axis=1)]):
            maps = self._fit(part, self.kept[part])
            self._put(part, maps)
            chi2[part] = self._chi2(maps, part, self.kept[part])
            p[part] = tail(chi2[part], freedom(maps, self.names, self.kept[part].sum(axis=1)))
        room = freedom(self.maps, self.names, self.kept.sum(axis=1)) >= 2
        bad = (p < MISFIT_P) & room
        bad[fitted] &= ~_everywhere(p[fitted] < MISFIT_P, slices[fitted])
        usual = {name: self._usual(np.flatnonzero((slices == name) & (p > 0))) for name in np.unique(slices[bad])}
        for part in _chunks(np.flatnonzero(bad)):
            middle, spread = (np.stack([usual[name][k] for name in slices[part]]) for k in (0, 1))
            self._leave_one_out(part, chi2[part], middle, spread)

    def _usual(self, voxels: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return median and robust spread, 1 or more, of the residuals of a slice by measurement, (N,) each."""
        if voxels.size < LEAST_VOXELS:
            return np.zeros(self.kept.shape[1]), np.ones(self.kept.shape[1])
        some = thinned(voxels)
        z = self._residuals(self._of(some), self._some(some))
        middle = np.median(z, axis=0)
        return middle, np.maximum(1.4826 * np.median(np.abs(z - middle), axis=0), 1.0)

    def _leave_one_out(self, part: IntArray, chi2: FloatArray, middle: FloatArray, spread: FloatArray) -> None:
        signed = self._residuals(self._of(part), self._some(part))
        z = np.where(self.kept[part], np.abs(signed), -1.0)
        own = ((signed - middle) / np.where(signed == 0, 1.0, signed) / spread) ** 2
        columns = np.argsort(-z, axis=1, kind="stable")[:, :_TRIED]
        voxels = np.repeat(part, columns.shape[1])
        without = self.kept[voxels]
        without[np.arange(voxels.size), columns.ravel()] = False
        maps = self._fit(voxels, without)
        rest = np.nan_to_num(self._chi2(maps, voxels, without).reshape(columns.shape), nan=np.inf)
        best = np.argmin(rest, axis=1)
        place, left = np.arange(part.size) * columns.shape[1] + best, rest[np.arange(part.size), best]
        chosen = {name: values[place] for name, values in maps.items()}
        cured = tail(left, freedom(chosen, self.names, without[place].sum(axis=1))) > _CURED
        gain = (chi2 - left) * np.minimum(own[np.arange(part.size), columns[np.arange(part.size), best]], 1.0)
        enough = 2 * gammainccinv(0.5, _LOST / self.kept[part].sum(axis=1))
        good = np.flatnonzero((gain > enough) & cured)
        self.kept[part[good]] = without[place[good]]
        self._put(part[good], {name: values[good] for name, values in chosen.items()})

    def weigh(self) -> None:
        """Fit again with Tukey's weights, (1 - (z/6)²)², of residuals z in noise levels."""
        for part in _chunks(self.fitted):
            maps, some = self._of(part), self._some(part)
            weights = np.ones(some.y.shape)
            for _ in range(_ROUNDS):
                z = np.nan_to_num(self._residuals(maps, some), nan=np.inf)
                weights = np.maximum(1 - (z / _TUKEY) ** 2, 0.0) ** 2
                maps = self.solver.run_weighted(some, weights)
            self._put(part, maps)
            self.kept[part] = weights > 0

    def judge(self) -> None:
        """Add χ² and its p to the maps, of the fit of all measurements."""
        chi2 = 2 * self.maps["cost"]
        if self.solver.noise != "offset-gaussian":
            for part in _chunks(self.fitted):
                chi2[part] = self._chi2(self._of(part), part, self.kept[part])
        count = np.full(chi2.size, self.kept.shape[1])
        self.maps |= {"chi2": chi2, "pMisfit": tail(chi2, freedom(self.maps, self.names, count))}

    def _fit(self, voxels: IntArray, kept: BoolArray) -> Maps:
        """Fit voxels, which may repeat, each to its own choice of measurements."""
        patterns, which = np.unique(kept, axis=0, return_inverse=True)
        out: Maps = {}
        for k, pattern in enumerate(patterns):
            chosen = np.flatnonzero(np.ravel(which) == k)
            for name, values in self.solver.run(self._some(voxels[chosen]), pattern).items():
                out.setdefault(name, np.full(voxels.size, np.nan))[chosen] = values
        return out

    def _put(self, part: IntArray, maps: Maps) -> None:
        for name, values in maps.items():
            if name not in _PLAIN:
                self.maps[name][part] = values

    def _chi2(self, maps: Maps, part: IntArray, kept: BoolArray) -> FloatArray:
        if self.solver.noise == "offset-gaussian":
            return np.asarray(2 * maps["cost"])
        return np.asarray((self._residuals(maps, self._some(part)) ** 2 * kept).sum(axis=1))

    def _residuals(self, maps: Mapping[str, FloatArray], voxels: Voxels) -> FloatArray:
        return standardised(self.solver.signals(maps), voxels.y, voxels.sigma, self.solver.noise)

    def _of(self, part: IntArray) -> Maps:
        return {name: values[part] for name, values in self.maps.items()}

    def _some(self, part: IntArray) -> Voxels:
        return self.scan.some(part, self.solver.noise)


def look_for_misfit(maps: Maps, scan: Scanned, solver: Solver, names: tuple[str, ...], robust: str) -> Misfit:
    """Add χ² and its p to maps, (V,), find spoilt volumes, and fit again, in place, where that is wanted, and why."""
    one = _Examined(scan, maps, solver, names, np.ones((maps["exit"].size, scan.volumes.size), dtype=bool))
    one.judge()
    fitted = one.fitted
    degrees = freedom(maps, names, np.full(maps["exit"].size, scan.volumes.size))
    p, some = maps["pMisfit"], fitted[degrees[fitted] > 0]
    poor = float(np.mean(p[some] < MISFIT_P)) if some.size else float("nan")
    median = float(np.median(maps["chi2"][some] / degrees[some])) if some.size else float("nan")
    spoilt = one.spoilt()
    if robust == "loo":
        one.leave_out(spoilt)
    elif robust == "tukey":
        one.weigh()
    dropped = np.where(maps["exit"] > 0, (~one.kept).sum(axis=1), np.nan)
    if robust != "none":
        maps["dropped"] = dropped
    refitted = fitted.size if robust == "tukey" else int(np.count_nonzero(dropped[fitted]))
    return Misfit(robust, tuple(spoilt), refitted, int(dropped[fitted].sum()), poor, median)


def _everywhere(bad: BoolArray, slices: IntArray) -> BoolArray:
    """Return the voxels of slices, of 20 voxels or more, of which nearly all are bad, (G,)."""
    _, place = np.unique(slices, return_inverse=True)
    share = np.bincount(place, weights=bad) / np.bincount(place)
    return np.asarray((share > _WRONG_MODEL)[place] & (np.bincount(place) >= LEAST_VOXELS)[place])


def _chunks(voxels: IntArray) -> list[IntArray]:
    return [voxels[start : start + _CHUNK] for start in range(0, voxels.size, _CHUNK)]
