"""Whether one T2 and no exchange describe the mean signal of a tissue: what single voxels are too noisy to show."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.presets import get_preset
from histomri.fitting.composed_tables import engine_of
from histomri.fitting.models import get_model
from histomri.fitting.robust import tail
from histomri.mri import Acquisition

# The model itself misses the signal of spheres by what the noise of so many voxels is; more would always show that.
_MOST_VOXELS, LEAST_VOXELS = 200, 20
_P, _NODES = 1e-3, 31
_T2, _LEVEL = (6.0, 300.0), (0.6, 1.8)  # ms; over the signal at b = 0
_BLOOD_GONE = 150.0  # s/mm²


@dataclass(frozen=True)
class MeanVerdict:
    """How one T2 without exchange describes the mean over `voxels`: χ², degrees of freedom, p, T2 (ms), and trends.

    A trend is the change of measured over expected signal at high b, in percent per 10 ms, with its error, of echo time
    (te) or diffusion time (Delta), where the protocol varies it.
    """

    voxels: int
    chi2: float
    freedom: int
    p: float
    t2_ms: float | None
    trends: dict[str, tuple[float, float]]
    apart: bool  # whether echo and diffusion times vary apart

    @property
    def suspect(self) -> bool:
        """Whether two T2s or exchange are likely."""
        return self.p < _P

    def words(self) -> str:
        """Say it in a sentence."""
        p = f"p = {self.p:.2g}" if self.p >= _P else f"p < {_P:g}"
        found = f"mean over {self.voxels} voxels: χ² {self.chi2:.0f} for {self.freedom} degrees of freedom, {p}"
        if not self.suspect:
            return f"{found}; one T2 without exchange describes it"
        names = {"te": "TE", "Delta": "Δ"}
        strong = [
            f"{'rises' if slope > 0 else 'falls'} by {abs(slope):.2g} % of itself per 10 ms of {names[name]}"
            for name, (slope, error) in self.trends.items()
            if abs(slope) > 3 * error
        ]
        trend = f"; against the model the signal at high b {' and '.join(strong)}" if strong else ""
        both = "" if self.apart else "; TE and Δ change together, so the protocol cannot tell which of the two it is"
        return f"{found}: two T2s or exchange, by which F and vCS are biased{trend}{both}"

    def record(self) -> dict[str, Any]:
        """Return the same for a file."""
        trends = {name: {"PercentPer10ms": round(a, 3), "Error": round(b, 3)} for name, (a, b) in self.trends.items()}
        return {
            "Voxels": self.voxels, "Chi2": round(self.chi2, 2), "DegreesOfFreedom": self.freedom, "P": self.p,
            "T2": self.t2_ms, "Trends": trends, "Suspect": self.suspect, "Verdict": self.words(),
        }  # fmt: skip


def judge_mean(
    signals: FloatArray, acquisition: Acquisition, sigma: FloatArray, preset: str, blood: FloatArray | None = None
) -> MeanVerdict | None:
    """Fit Diff-in-ex with one T2 and a free level to the noise-corrected mean signal.

    None if there are fewer than 20 voxels, or too few measurements. In vivo those of b up to 150 s/mm² are left out,
    but for b = 0, of which the signal of blood is taken off where it is known.

    Parameters
    ----------
    signals, sigma, acquisition : (V, M) and (V,) ndarray, Acquisition
        Raw signals, noise levels, and the protocol of the M volumes.
    blood : (V, M) ndarray, optional
        Signal of blood.
    preset : str
        Whose bounds the parameters have.
    """
    good = np.isfinite(signals).all(axis=1) & (signals > 0).any(axis=1) & np.isfinite(sigma) & (sigma > 0)
    least = _BLOOD_GONE if get_preset(preset).in_vivo else 0.0
    used = np.asarray(acquisition.is_b0 | (acquisition.b_smm2 > least))
    voxels = int(good.sum())
    if voxels < LEAST_VOXELS or not acquisition.is_b0.any() or used.sum() < 8:
        return None
    power = float(np.mean(sigma[good] ** 2))
    mean = np.sqrt(np.maximum((signals[good].astype(float) ** 2).mean(axis=0) - 2 * power, 0.0))
    if blood is not None:
        mean = np.maximum(mean - np.nan_to_num(blood[good]).mean(axis=0), 1e-3 * mean.max())
    error = np.sqrt(power / min(voxels, _MOST_VOXELS))
    return _OneT2(mean, error, acquisition, used, preset).verdict(voxels)


class _OneT2:
    """Diff-in-ex of which level and T2 are found outside the engine, which fits the rest for each pair of them."""

    def __init__(self, mean: FloatArray, error: float, acquisition: Acquisition, used: BoolArray, preset: str) -> None:
        self.acquisition, te = _with_gradients(acquisition).select(used), acquisition.te_ms
        self.bounds = get_model("diff-in-ex").bounds(preset)
        self.engine = engine_of(get_model("diff-in-ex"), self.acquisition, self.bounds)
        self.cost = 2 * len(self.engine.names)
        self.mean, self.error = mean[used], error
        self.te = np.zeros(mean.size) if te is None else te
        first = acquisition.is_b0 & (self.te == self.te[acquisition.is_b0].min())
        self.start, self.shortest = float(mean[first].mean()), float(self.te.min())
        self.te = self.te[used]
        self.several = np.unique(np.round(self.te, 1)).size > 1

    def verdict(self, voxels: int) -> MeanVerdict | None:
        level, rate = (each.ravel() for each in np.meshgrid(*self._axes(), indexing="ij"))
        cost = self._run(level, rate)[:, self.cost]
        if not np.isfinite(cost).any():
            return None
        best = int(np.nanargmin(cost))
        place = minimize(
            lambda at: float(self._run(np.array([at[0]]), np.array([at[1] if self.several else 0.0]))[0, self.cost]),
            [level[best], rate[best]][: 1 + self.several], method="Nelder-Mead",
            options={"xatol": 1e-6, "fatol": 1e-3, "maxiter": 400},
        ).x  # fmt: skip
        rate = np.array([max(place[1], 0.0) if self.several else 0.0])
        row = self._run(place[:1], rate)[0]
        n = len(self.engine.names)
        freedom = self.mean.size - 1 - self.several - int(np.isfinite(row[n : 2 * n]).sum())
        if freedom < 1:
            return None
        chi2 = np.array([2 * row[self.cost]])
        t2 = float(1 / rate[0]) if rate[0] > 0 else None
        p = float(tail(chi2, np.array([float(freedom)]))[0])
        return MeanVerdict(voxels, float(chi2[0]), freedom, p, t2, *self._trends(row, place[0], rate[0]))

    def _axes(self) -> tuple[FloatArray, FloatArray]:
        rates = np.linspace(1 / _T2[1], 1 / _T2[0], 2 * _NODES) if self.several else np.zeros(1)
        return np.linspace(*_LEVEL, _NODES), rates

    def _run(self, level: FloatArray, rate: FloatArray) -> FloatArray:
        """Fit the rest: level at the shortest TE, over the signal at b = 0 there, and 1/T2 (1/ms), (V,) each."""
        divisor = self.start * level[:, None] * np.exp(-(self.te - self.shortest) * np.maximum(rate, 0.0)[:, None])
        return self.engine.run(self.mean / divisor, self.error / divisor, "offset-gaussian")

    def _trends(self, row: FloatArray, level: float, rate: float) -> tuple[dict[str, tuple[float, float]], bool]:
        from histomri.fitting import predict

        values = {name: row[i : i + 1] for i, name in enumerate(self.engine.names) if name in self.bounds}
        decay = self.start * level * np.exp(-(self.te - self.shortest) * rate)
        expected = predict("diff-in-ex", values, self.acquisition)[0] * decay
        high = self.acquisition.b_smm2 >= np.median(self.acquisition.b_smm2)
        ratio, weight = 100 * (self.mean / expected - 1)[high], (expected / self.error / 100)[high]
        found, axes = {}, {"te": self.te[high], "Delta": self.acquisition.Delta_ms[high]}
        axes = {name: axis / 10 for name, axis in axes.items() if np.ptp(axis) > 1}
        for name, axis in axes.items():
            centred = axis - np.average(axis, weights=weight**2)
            information = float(np.sum((weight * centred) ** 2))
            found[name] = (float(np.sum(weight**2 * centred * ratio)) / information, information**-0.5)
        apart = len(axes) < 2 or abs(np.corrcoef(list(axes.values()))[0, 1]) < 0.8
        return found, bool(apart)


def _with_gradients(acquisition: Acquisition) -> Acquisition:
    """Give volumes at b = 0 the timing of another one, which changes no signal there."""
    first, none = int(np.flatnonzero(~acquisition.is_b0)[0]), acquisition.is_b0
    delta, gap = (np.where(none, times[first], times) for times in (acquisition.delta_ms, acquisition.Delta_ms))
    shapes = acquisition.waveforms and [shapes_of(acquisition, first, i) for i in range(len(acquisition))]
    return Acquisition(np.where(none, 0.0, acquisition.b_smm2), delta, gap, acquisition.te_ms, shapes)


def shapes_of(acquisition: Acquisition, first: int, volume: int) -> Any:
    """Return the gradient shape of a volume, that of the first weighted one at b = 0."""
    shapes = acquisition.waveforms or ()
    return shapes[first if acquisition.is_b0[volume] else volume]
