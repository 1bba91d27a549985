"""From raw signals to the normalised signals that the tissue models describe."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError, ProtocolError
from histomri.fitting.choices import per_voxel
from histomri.fitting.results import BACKGROUND, FAILED, Blood
from histomri.mri import Acquisition


@dataclass(frozen=True)
class Normalisation:
    """How signals are divided: by the mean at b = 0 of the same echo time, or by S0 (1 - fV) exp(-TE/T2T).

    `used` (M,) are the measurements to fit; s0, fv, t2t (ms) and the error of fv are (V,) where they are known.
    """

    acquisition: Acquisition
    used: BoolArray
    s0: FloatArray | None
    fv: FloatArray | None
    t2t: FloatArray | None
    fv_se: FloatArray | None

    @classmethod
    def choose(
        cls, acquisition: Acquisition, used: BoolArray, voxels: int, s0: ArrayLike | None, fv: ArrayLike | None,
        t2t: ArrayLike | None, fv_se: ArrayLike | None = None,
    ) -> "Normalisation":  # fmt: skip
        """Check S0, fV and T2: fV and T2 need S0, T2 echo times, and signals without S0 a volume at b = 0."""
        if s0 is None and (fv is not None or t2t is not None):
            raise InputError("fV and T2 can only be used together with S0", hint="give S0 too (--s0)")
        if t2t is not None and acquisition.te_ms is None:
            raise ProtocolError("T2 is given, and the protocol has no echo times", hint="add a row of TE (ms)")
        if fv_se is not None and fv is None:
            raise InputError("the error of fV is given, and fV is not", hint="give both")
        given = {"S0": s0, "fV": fv, "T2": t2t, "the error of fV": fv_se}
        maps = (None if value is None else per_voxel(name, value, voxels) for name, value in given.items())
        result = cls(acquisition, used, *maps)
        if s0 is None:
            result._references()
        return result

    @property
    def description(self) -> str:
        """What signals are divided by, for the sidecar."""
        if self.s0 is None:
            return "mean signal at b = 0" + (" and the same echo time" if self.acquisition.te_ms is not None else "")
        return "S0" + (" (1 - fV)" if self.fv is not None else "") + (" exp(-TE/T2)" if self.t2t is not None else "")

    def divisors(self, signals: FloatArray, part: slice) -> FloatArray:
        """Return what the used measurements of some voxels are divided by, (V, N)."""
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


def normalised(raw: FloatArray, sigma: FloatArray, part: slice, how: Normalisation, noise: str) -> Voxels:
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
