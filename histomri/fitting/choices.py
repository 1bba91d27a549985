"""What a fit needs: which measurements, which objective, normalised signals; and warnings about what nobody chose."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError, ProtocolError
from histomri.core.presets import IN_VIVO_NAMES, STRATEGIES, get_preset
from histomri.fitting.models import Model
from histomri.fitting.results import BACKGROUND, BIC_WEIGHTS, FAILED, Blood
from histomri.mri import Acquisition, as_acquisition

Noise = Literal["offset-gaussian", "rician", "none"]
Bic = Literal["schwarz", "paper"]
NOISES: tuple[str, ...] = ("none", "offset-gaussian", "rician")
CUSTOM = "custom"
"""Strategy of a fit whose b threshold is none of the preset's."""
# Every other parameter is a divisor somewhere.
_FROM_ZERO = ("fI", "DEinf", "beta", "fV", "KT", "ADC", "kappa")
# What may be negative.
_FROM_BELOW = {"K": -3.0}
# Above it the signal of living tissue in the body drowns in the noise, s/mm².
_LARGEST_IN_VIVO = 2000.0
# What imaging gradients add to b = 0, s/mm², stays below it.
_NEARLY_B0_SMM2 = 60.0


def preset_warnings(preset: str, acquisition: Acquisition) -> tuple[str, ...]:
    """Warn of a preset that nobody chose and that does not fit the protocol, which has no b above its thresholds."""
    threshold, largest = get_preset(preset).bmin_smm2["high-b"], float(acquisition.b_smm2.max())
    text = (
        f"no --preset was given, so {preset} sets bounds and b thresholds; its high b is above {threshold:g} s/mm², "
        f"but the largest of this protocol is {largest:g}: in vivo, give --preset {IN_VIVO_NAMES}"
    )
    return () if largest > threshold else (text,)


def bounds_warnings(preset: str, acquisition: Acquisition) -> tuple[str, ...]:
    """Warn of in-vivo bounds that nobody chose, where the protocol has a b at which mostly fixed tissue is scanned."""
    largest = float(acquisition.b_smm2.max())
    text = (
        f"no --preset was given, so {preset} sets the bounds of T2 and diffusivity; a b of {largest:g} s/mm² is high "
        "for living tissue: ex vivo, give --preset mouse-exvivo"
    )
    return (text,) if largest > _LARGEST_IN_VIVO and get_preset(preset).in_vivo else ()


def choose_threshold(
    preset: str, strategy: str | None = None, bmin_smm2: float | None = None, model: Model | Any = None
) -> tuple[str, float]:
    """Return strategy and b threshold, s/mm², of a fit, of which one, both or neither is given.

    Without either the whole set is fitted. A threshold alone has the strategy of the preset (or model) that has exactly
    this threshold, and is "custom" otherwise; InputError if the two contradict each other, or the model has no such
    strategy.
    """
    thresholds = thresholds_of(model, preset)
    if strategy is not None and strategy not in STRATEGIES:
        raise InputError(f"there is no strategy {strategy!r}", hint=f"choose among {', '.join(STRATEGIES)}")
    if strategy is not None and strategy not in thresholds:
        problem = f"{model.display_name} is fitted to all b, and has no strategy {strategy}"
        raise InputError(problem, hint="give --strategy whole")
    if bmin_smm2 is None:
        chosen = strategy or STRATEGIES[0]
        return chosen, float(thresholds[chosen])
    if not 0 <= bmin_smm2 < math.inf:
        raise InputError(f"the b threshold must be a number of at least 0, not {bmin_smm2:g}", hint="check --bmin")
    named = next((name for name, threshold in thresholds.items() if threshold == bmin_smm2), CUSTOM)
    if strategy is not None and named != strategy:
        problem = f"--strategy {strategy} of {preset} means b > {thresholds[strategy]:g} s/mm², and --bmin"
        raise InputError(f"{problem} {bmin_smm2:g} is given too", hint="give --strategy or --bmin, not both")
    return named, float(bmin_smm2)


def thresholds_of(model: Any, preset: str) -> Mapping[str, float]:
    """Return the b threshold, s/mm², by strategy: the model's, if it has its own, or the preset's."""
    return model.thresholds(preset) if isinstance(model, Model) else get_preset(preset).bmin_smm2


def choose_measurements(
    acquisition: Acquisition, threshold: float, parameters: int = 0, title: str = "", with_b0: bool = False
) -> BoolArray:
    """Return which of the M measurements are fitted, b above the threshold, or ProtocolError if too few are.

    With b = 0 those are fitted too, and ProtocolError says so if there is none.
    """
    used = np.asarray((acquisition.b_smm2 > threshold) & ~acquisition.is_b0)
    if with_b0 and used.any():
        if not acquisition.is_b0.any():
            raise ProtocolError(f"{title} fits S0, and there is no volume at b = 0", hint="choose another model")
        used |= acquisition.is_b0
    if used.sum() < max(parameters, 1):
        few = f"only {used.sum()} measurements have" if used.any() else "no measurement has"
        needed = f", and {title} has {parameters} parameters" if parameters else ""
        lower = f"lower the b threshold (--bmin; the largest b is {acquisition.b_smm2.max():g} s/mm²)"
        hint = f"{lower}, or choose the preset of the scan (--preset; in vivo {IN_VIVO_NAMES})"
        raise ProtocolError(f"{few} b > {threshold:g} s/mm²{needed}", hint=hint)
    return used


def fitted_measurements(settings: Mapping[str, Any], acquisition: Acquisition) -> BoolArray:
    """Return which of the M measurements a fit with these settings used."""
    used = (acquisition.b_smm2 > settings["bmin_smm2"]) & ~acquisition.is_b0
    return np.asarray(used | acquisition.is_b0 if settings.get("with_b0") else used)


def choose_noise(noise: Noise | None, sigma: ArrayLike | None) -> Noise:
    """Choose the objective by what is known; refuse one that lacks a noise level."""
    if noise is None:
        return "none" if sigma is None else "offset-gaussian"
    if noise not in NOISES:
        raise InputError(f"there is no noise model {noise!r}", hint=f"choose among {', '.join(NOISES)}")
    if noise != "none" and sigma is None:
        raise InputError(f"the {noise} likelihood needs the noise level", hint="give sigma, or noise 'none'")
    return noise


def check_bic(bic: str) -> None:
    """Refuse a definition of the BIC that there is not."""
    if bic not in BIC_WEIGHTS:
        raise InputError(f"there is no definition {bic!r} of the BIC", hint=f"choose among {', '.join(BIC_WEIGHTS)}")


def check_scan(signals: Any, acquisition: Any) -> tuple[Any, Acquisition]:
    """Return signals (V, M) and their protocol, which may be given as a path or by the name of a preset."""
    if isinstance(signals, str | Path):
        hint = "read images with series = histomri.mri.Series.open(dwi, protocol, mask), and pass series.read()"
        raise InputError(f"signals are an array (voxels, volumes), and {str(signals)!r} is text", hint=hint)
    acquisition = as_acquisition(acquisition)
    values = np.asarray(signals)
    if values.ndim != 2 or values.dtype.kind not in "iufb":
        raise InputError(f"signals must be real numbers of shape (voxels, volumes), not {values.shape}")
    if values.shape[1] != len(acquisition):
        raise ProtocolError(f"the signals have {values.shape[1]} volumes, and the protocol has {len(acquisition)}")
    return values, acquisition


def noise_level(sigma: ArrayLike | None, voxels: int) -> FloatArray:
    """Return the noise level of each voxel, (V,); ones where it is not known. A number must be above 0."""
    if sigma is None:
        return np.ones(voxels)
    number = np.asarray(sigma, dtype=float)
    if number.ndim == 0 and not (np.isfinite(number) and number > 0):
        hint = "give sigma in the units of the signal"
        raise InputError(f"sigma is {float(number):g}, and a noise level is above 0", hint=hint)
    return per_voxel("sigma", number, voxels)


def per_voxel(name: str, values: ArrayLike, voxels: int) -> FloatArray:
    """Return one value per voxel, (V,), of a number or such values."""
    array = np.asarray(values, dtype=float)
    if array.shape not in ((), (voxels,)):
        raise InputError(f"{name} has shape {array.shape}, and there are {voxels} voxels")
    return np.broadcast_to(array, (voxels,))


def slices_of(slices: ArrayLike | None, voxels: int) -> IntArray:
    """Return the slice of each voxel, (V,); -1, as if all were of one, where none is given."""
    if slices is None:
        return np.full(voxels, -1)
    array = np.asarray(slices)
    if array.shape != (voxels,) or array.dtype.kind not in "iu":
        raise InputError(f"slices have shape {array.shape}, and there are {voxels} voxels", hint="give whole numbers")
    return array.astype(np.int64)


def volumes_of(volumes: ArrayLike | None, acquisition: Acquisition) -> IntArray:
    """Return the number of each volume, (M,), in the series that it was read from; 0, 1, .. where none is given."""
    if volumes is None:
        return np.arange(len(acquisition))
    array = np.asarray(volumes)
    if array.shape != (len(acquisition),) or array.dtype.kind not in "iu":
        raise InputError(f"volumes have shape {array.shape}, and the protocol {len(acquisition)} volumes")
    return array.astype(np.int64)


def replace_bounds(
    limits: dict[str, tuple[float, float]], bounds: Mapping[str, tuple[float, float]] | None, title: str, held: bool
) -> dict[str, tuple[float, float]]:
    """Return the bounds of a model with others in their place, which may be equal if parameters may be held."""
    limits = dict(limits)
    for name, (lower, upper) in (bounds or {}).items():
        if name not in limits:
            raise InputError(f"{title} does not fit {name}", hint=f"its parameters: {', '.join(limits)}")
        # A parameter of one's own may start where it was declared to.
        least = min(_FROM_BELOW.get(name, 0.0 if name in _FROM_ZERO else 1e-3), limits[name][0])
        sensible = least <= lower <= upper < math.inf and (held or lower < upper)
        if not sensible or (name in ("fI", "fV") and upper > 1):
            problem = f"the bounds of {name} are {lower:g} and {upper:g}"
            raise InputError(f"{problem}, which leaves no room or makes no sense")
        limits[name] = (float(lower), float(upper))
    return limits


@dataclass(frozen=True)
class Normalisation:
    """How signals are divided: by the mean at b = 0 of the same echo time, or by S0 (1 - fV) exp(-TE/T2T).

    For models that fit S0 and T2 themselves (`as_they_are`) all signals of a voxel are divided by the same number, and
    their water outside the cells includes blood: where two T2s are taken for one, what T2-IVIM calls blood is more
    tissue than blood. `used` (M,) are the measurements to fit; s0, fv, t2t (ms) and the error of fv are (V,) where they
    are known.
    """

    acquisition: Acquisition
    used: BoolArray
    s0: FloatArray | None
    fv: FloatArray | None
    t2t: FloatArray | None
    fv_se: FloatArray | None
    as_they_are: bool = False

    @classmethod
    def choose(
        cls, acquisition: Acquisition, used: BoolArray, voxels: int, s0: ArrayLike | None, fv: ArrayLike | None,
        t2t: ArrayLike | None, fv_se: ArrayLike | None = None, as_they_are: bool = False,
    ) -> "Normalisation":  # fmt: skip
        """Check S0, fV and T2: fV and T2 need S0, T2 echo times, and signals without S0 a volume at b = 0."""
        if s0 is None and (fv is not None or t2t is not None):
            raise InputError("fV and T2 can only be used together with S0", hint="give S0 too (--s0)")
        if t2t is not None and acquisition.te_ms is None:
            raise ProtocolError("T2 is given, and the protocol has no echo times", hint="add a row of TE (ms)")
        if fv_se is not None and fv is None:
            raise InputError("the error of fV is given, and fV is not", hint="give both")
        named = {"S0": s0, "fV": fv, "T2": t2t, "the error of fV": fv_se}
        given = [None if value is None else per_voxel(name, value, voxels) for name, value in named.items()]
        if as_they_are:
            return cls(acquisition, used, None, None, None, None, as_they_are=True)
        result = cls(acquisition, used, given[0], given[1], given[2], given[3])
        if s0 is None:
            result._references()
        return result

    @property
    def description(self) -> str:
        """What signals are divided by, for the sidecar."""
        if self.as_they_are:
            return "none: S0 and T2 are fitted"
        if self.s0 is None:
            return "mean signal at b = 0" + (" and the same echo time" if self.acquisition.te_ms is not None else "")
        return "S0" + (" (1 - fV)" if self.fv is not None else "") + (" exp(-TE/T2)" if self.t2t is not None else "")

    def divisors(self, signals: FloatArray, part: slice | IntArray) -> FloatArray:
        """Return what the used measurements of some voxels are divided by, (V, N)."""
        if self.as_they_are:
            shape = (signals.shape[0], int(self.used.sum()))
            return np.asarray(np.broadcast_to(self.scale(signals)[:, None], shape))
        if self.s0 is None:
            divisors = np.empty((signals.shape[0], int(self.used.sum())))
            for volumes, places in self._references():
                divisors[:, places] = signals[:, volumes].mean(axis=1, keepdims=True)
            return divisors
        factor = self.s0[part, None] * (1 - self.fv[part, None] if self.fv is not None else 1.0)
        if self.t2t is None or self.acquisition.te_ms is None:
            return np.asarray(np.broadcast_to(factor, (factor.shape[0], int(self.used.sum()))))
        with np.errstate(divide="ignore", invalid="ignore"):
            decay = np.exp(-self.acquisition.te_ms[self.used] / self.t2t[part, None])
        return np.asarray(factor * np.where(self.t2t[part, None] > 0, decay, np.nan))

    def scale(self, signals: Any) -> FloatArray:
        """Return the mean signal at b = 0 and the shortest echo time there, (V,), of signals (V, M)."""
        acquisition, b0 = self.acquisition, self.acquisition.is_b0
        te = np.zeros(len(acquisition)) if acquisition.te_ms is None else np.round(acquisition.te_ms, 3)
        return np.asarray(signals[:, b0 & (te == te[b0].min())].astype(np.float64).mean(axis=1))

    def expected(self, fitted: FloatArray, divisor: FloatArray) -> FloatArray:
        """Return fitted signals, (V, N), over the divisors, as they are compared with normalised ones."""
        return fitted / divisor if self.as_they_are else fitted

    def _references(self) -> list[tuple[IntArray, IntArray]]:
        """Return, per echo time, the b = 0 volumes and the places among the used measurements."""
        acquisition = self.acquisition
        te = np.zeros(len(acquisition)) if acquisition.te_ms is None else np.round(acquisition.te_ms, 3)
        result: list[tuple[IntArray, IntArray]] = []
        for value in np.unique(te[self.used]):
            volumes = np.flatnonzero(acquisition.is_b0 & (te == value))
            if volumes.size == 0:
                where = "" if acquisition.te_ms is None else f" at TE = {value:g} ms"
                hint = "give S0 (--s0), and T2 (--t2t) if the echo time varies"
                least = float(acquisition.b_smm2.min())
                if acquisition.b0_below_smm2 <= least <= _NEARLY_B0_SMM2:
                    counted = f"--b0-below {math.floor(least) + 1} counts its smallest b, {least:g} s/mm², as b = 0"
                    hint = f"{counted}; or {hint}"
                raise ProtocolError(f"there is no volume at b = 0{where} to normalise by", hint=hint)
            result.append((volumes, np.flatnonzero(te[self.used] == value)))
        return result


@dataclass(frozen=True)
class Voxels:
    """The G of some voxels that can be fitted: normalised signals and noise levels (ones for least squares), (G, N).

    `good` (V,) says which these are, and `codes` (V,) are the exit codes of the others.
    """

    y: FloatArray
    sigma: FloatArray
    good: BoolArray
    codes: FloatArray
    blood: Blood

    def some(self, chosen: IntArray) -> "Voxels":
        """Return some of the voxels that can be fitted, by their place among these; all of the result can be."""
        every, blood = np.flatnonzero(self.good)[chosen], self.blood
        parts = (self.y[chosen], self.sigma[chosen], np.ones(chosen.size, dtype=bool), self.codes[every])
        return Voxels(*parts, (blood[0][every], blood[1][every]))

    def columns(self, kept: BoolArray) -> "Voxels":
        """Return the voxels with some of their measurements."""
        return replace(self, y=self.y[:, kept], sigma=self.sigma[:, kept])


def normalised(raw: FloatArray, sigma: FloatArray, part: slice | IntArray, how: Normalisation, noise: str) -> Voxels:
    """Divide the signals of a part of the voxels, (V, M), and sort out those that cannot be fitted.

    What can be has finite signals, something to normalise by, and a noise level where the objective needs one.
    """
    divisor = how.divisors(raw, part)
    involved = raw[:, how.used | how.acquisition.is_b0 if how.s0 is None else how.used]
    background = np.all(involved == 0, axis=1)
    if how.s0 is not None:
        # Maps made elsewhere mark what lies outside their mask with 0 or NaN.
        background |= ~(how.s0[part] != 0) | np.isnan(how.s0[part])
    good = np.all(np.isfinite(involved), axis=1) & ~background
    with np.errstate(invalid="ignore"):
        good &= np.all(np.isfinite(divisor) & (divisor > 0), axis=1)
        if noise != "none":
            good &= np.isfinite(sigma) & (sigma > 0)
    y = raw[good][:, how.used] / divisor[good]
    if noise == "rician":
        positive = np.all(y > 0, axis=1)
        good[np.flatnonzero(good)[~positive]] = False
        y = y[positive]
    levels = sigma[good, None] / divisor[good] if noise != "none" else np.ones_like(y)
    none = np.zeros(raw.shape[0])
    error = none if how.fv_se is None else np.nan_to_num(how.fv_se[part], nan=0.0)
    blood = (none if how.fv is None else how.fv[part], error)
    return Voxels(y, levels, good, np.where(background, BACKGROUND, FAILED).astype(float), blood)


def log_likelihood(cost: FloatArray, y: FloatArray, sigma: FloatArray, noise: str) -> FloatArray:
    """Return the log-likelihood at an objective, (V,)."""
    n = y.shape[1]
    if noise == "none":
        # The noise level that fits best takes the place of the one not given.
        return np.asarray(-0.5 * n * (np.log(2 * np.pi * np.maximum(cost, 1e-300) / n) + 1))
    if noise == "rician":
        return np.asarray(np.log(y / sigma**2).sum(axis=1) - cost)
    return np.asarray(-cost - np.log(sigma).sum(axis=1) - 0.5 * n * np.log(2 * np.pi))
