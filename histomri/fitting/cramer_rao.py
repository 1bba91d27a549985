"""What a protocol can determine before anyone is scanned: the Cramér-Rao bound of the tissue models."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, write_json
from histomri.core.formulas import without_formulas
from histomri.core.presets import STRATEGIES
from histomri.fitting import PARAMETERS, Model, choose_threshold, get_model, predict
from histomri.fitting.choices import choose_measurements, thresholds_of
from histomri.mri import Acquisition, as_acquisition

TYPICAL: dict[str, float] = {
    "fI": 0.6, "D0I": 1.5, "vCS": 18.0, "DEinf": 2.0, "beta": 3.0, "S0": 1.0, "T2I": 40.0, "T2E": 60.0, "kappa": 25.0,
}  # fmt: skip
"""Tissue for which the bound is given by default."""
_STEP, _SINGULAR = 1e-3, 1e-9
_SIZES = np.arange(8.0, 40.5, 1.0)
_SHOWN = (10.0, 14.0, 18.0, 24.0, 30.0)
_AT_18 = int(np.argmin(np.abs(_SIZES - 18.0)))
_LABELS = {
    "fI": "fI", "D0I": "D0I, µm²/ms", "vCS": "vCS, µm", "DEinf": "DEinf, µm²/ms", "beta": "beta, µm²",
    "T2I": "T2I, ms", "T2E": "T2E, ms", "kappa": "kappa, µm/s",
}  # fmt: skip


@dataclass(frozen=True)
class CramerRao:
    """Smallest standard deviations that any unbiased estimate can have, with the preset's bounds.

    The parameters assumed and their standard deviations are (V,); infinite where the measurements leave a parameter
    open. ``sd`` also has CD, cells/mm³, for F = fI. Fitted are the measurements with b above `bmin_smm2`.
    """

    model: str
    values: dict[str, FloatArray]
    sd: dict[str, FloatArray]
    bounds: dict[str, tuple[float, float]]
    measurements: int
    strategy: str
    bmin_smm2: float

    def informative(self, name: str) -> BoolArray:
        """Return where the data say more about a parameter than its bounds do, (V,) of bool.

        Someone who knows the bounds alone, and takes every value between them for equally likely, has a standard
        deviation of their distance / √12.
        """
        lower, upper = self.bounds[name]
        return np.asarray(self.sd[name] < (upper - lower) / np.sqrt(12))


def crlb(
    model: str | Model, acquisition: Acquisition | str | Path, snr: float,
    parameters: Mapping[str, ArrayLike] | None = None, *, preset: str = "mouse-exvivo", strategy: str | None = None,
    bmin_smm2: float | None = None, t2t_ms: float | None = None,
) -> CramerRao:  # fmt: skip
    """Return the Cramér-Rao bound of a model's parameters on a protocol, for every tissue.

    Gaussian noise and no bounds are assumed: the inverse of the Fisher information Jᵀ J / σ². Where it has no inverse,
    the parameters that take part in the combination not seen have an infinite bound. See Kay, Fundamentals of
    Statistical Signal Processing, 1993, chapter 3. InputError or ProtocolError if the numbers make no sense, or no
    measurement is above the threshold.

    Parameters
    ----------
    model, acquisition : str or Model, and Acquisition, str or path-like
        Such as "diff-in"; a protocol of M volumes, its file, or a preset, which need not have been scanned.
    snr : float
        Signal at b = 0, at the shortest echo time, over the noise level of one measurement.
    parameters : mapping of str to (V,) array-like, optional
        Tissue; by default `TYPICAL` (with DEinf moved into the bounds of the model).
    preset, strategy, bmin_smm2
        Bounds and choice of measurements, as in `fit`.
    t2t_ms : float, optional
        Tissue T2: later echoes are then noisier by exp(ΔTE/T2); without it all echo times are as good.
    """
    declared, acquisition = get_model(model).at(preset), as_acquisition(acquisition)
    if not (np.isfinite(snr) and snr > 0):
        raise InputError(f"the signal-to-noise ratio must be above 0, not {snr:g}")
    strategy, threshold = choose_threshold(preset, strategy, bmin_smm2, declared)
    level = declared.level
    used = acquisition.select(choose_measurements(acquisition, threshold, 0, declared.display_name, level is not None))
    bounds = declared.bounds(preset)
    values = _tissue(declared, bounds, parameters)
    # The level has a wide range of no meaning.
    width = np.array([1.0 if name == level else upper - lower for name, (lower, upper) in bounds.items()])
    jacobian = _jacobian(declared, values, dict(zip(bounds, width.tolist())), used)
    weight = _relaxation(used, acquisition, t2t_ms) ** 2 / _first_signal(declared, values, acquisition)[:, None] ** 2
    information = snr**2 * np.einsum("vmi,vm,vmj->vij", jacobian, weight, jacobian)
    covariance, open_ = invert_information(information)
    variance = np.where(open_, np.inf, np.diagonal(covariance, axis1=1, axis2=2)) * width**2
    sd = {name: np.sqrt(variance[:, i]) for i, name in enumerate(declared.parameters)}
    if {"fI", "vCS"} <= set(declared.parameters):
        i, j = declared.parameters.index("fI"), declared.parameters.index("vCS")
        f, size, mixed = values["fI"], values["vCS"], covariance[:, i, j] * width[i] * width[j]
        with np.errstate(invalid="ignore"):
            spread = variance[:, i] + (3 * f / size) ** 2 * variance[:, j] - 6 * f / size * mixed
        sd["CD"] = 1e9 / size**3 * np.sqrt(np.where(open_[:, i] | open_[:, j], np.inf, np.maximum(spread, 0.0)))
    return CramerRao(declared.name, values, sd, bounds, len(used), strategy, threshold)


def _tissue(
    model: Model, bounds: Mapping[str, tuple[float, float]], parameters: Mapping[str, ArrayLike] | None
) -> dict[str, FloatArray]:
    known = tuple(dict.fromkeys((*PARAMETERS, *model.names)))
    if unknown := sorted(set(parameters or {}) - set(known)):
        raise InputError(f"{model.display_name} has no {', '.join(unknown)}", hint=f"give {', '.join(known)}")
    middle = {each.name: float(np.mean(each.bounds)) for each in model.own}
    given: dict[str, ArrayLike] = {name: middle.get(name, TYPICAL.get(name, 1.0)) for name in known}
    given.update(model.fixed)
    given.update(parameters or {})
    for name, (lower, upper) in bounds.items():
        if name not in (parameters or {}):
            given[name] = float(np.clip(np.asarray(given[name], dtype=float), lower, upper))
    spread = np.broadcast_arrays(*(np.atleast_1d(np.asarray(given[name], dtype=float)) for name in known))
    tissue = dict(zip(known, spread))
    if not all(np.all(np.isfinite(each) & (each >= 0)) for each in spread) or np.any(tissue["vCS"] == 0):
        raise InputError("the parameters of the tissue must be numbers of at least 0, and the size above 0")
    return {name: np.array(tissue[name]) for name in known if name in model.names}


def _jacobian(
    model: Model, values: Mapping[str, FloatArray], widths: Mapping[str, float], used: Acquisition
) -> FloatArray:
    """Return derivatives with respect to parameters in units of these widths, (V, M, P)."""
    columns = []
    for name, width in widths.items():
        step = _STEP * width
        # The formula holds a little beyond the bounds, so differences can be central everywhere.
        plus, minus = (predict(model, {**values, name: values[name] + sign * step}, used) for sign in (1, -1))
        columns.append((plus - minus) / (2 * _STEP))
    return np.stack(columns, axis=-1)


def _first_signal(model: Model, values: Mapping[str, FloatArray], acquisition: Acquisition) -> FloatArray:
    """Return the signal at b = 0 and the shortest echo time, (V,): 1, unless the model fits its level."""
    if model.level is None:
        return np.ones(values[model.names[0]].size)
    te = np.zeros(len(acquisition)) if acquisition.te_ms is None else acquisition.te_ms
    first = acquisition.is_b0 & (te == te[acquisition.is_b0].min())
    return np.asarray(predict(model, values, acquisition.select(first)).mean(axis=1))


def _relaxation(used: Acquisition, whole: Acquisition, t2t_ms: float | None) -> FloatArray:
    if t2t_ms is None or used.te_ms is None or whole.te_ms is None:
        return np.ones(len(used))
    if not t2t_ms > 0:
        raise InputError(f"T2 must be above 0 ms, not {t2t_ms:g}")
    return np.asarray(np.exp(-(used.te_ms - whole.te_ms.min()) / t2t_ms))


def invert_information(information: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Return the pseudo-inverse (V, P, P), and which parameters take part in what is not seen, (V, P)."""
    value, vector = np.linalg.eigh(information)
    lost = value <= _SINGULAR * np.maximum(value[:, -1:], 1e-300)
    inverse = np.where(lost, 0.0, 1 / np.where(lost, 1.0, value))
    open_ = np.any(lost[:, None, :] & (np.abs(vector) > 1e-3), axis=-1)
    return np.asarray(np.einsum("vik,vk,vjk->vij", vector, inverse, vector)), np.asarray(open_)


def bound_of_protocol(
    acquisition: Acquisition | str | Path, *, snr: float, models: Sequence[str] = ("diff-in",),
    preset: str = "mouse-exvivo", thresholds: Iterable[tuple[str, float]] | None = None, t2t_ms: float | None = None,
) -> "ProtocolBound":  # fmt: skip
    """Find the smallest standard deviations that a protocol allows, over sizes from 8 to 40 µm.

    InputError or ProtocolError if no model is named, the numbers make no sense, or no measurement is above a threshold.

    Parameters
    ----------
    acquisition, snr, preset, t2t_ms
        As in `crlb`.
    models : sequence of str
        Models to judge.
    thresholds : iterable of (str, float), optional
        Strategies with their b thresholds, s/mm²; by default those of the preset.
    """
    acquisition = as_acquisition(acquisition)
    if not models:
        raise InputError("no model was named", hint="pass --model diff-in")
    wanted = list(thresholds or ())
    results = [
        crlb(model, acquisition, snr, {"vCS": _SIZES}, preset=preset, bmin_smm2=bmin, t2t_ms=t2t_ms)
        for model in dict.fromkeys(models) for bmin in _thresholds(get_model(model), preset, wanted)
    ]  # fmt: skip
    return ProtocolBound(tuple(results), acquisition, snr, preset, t2t_ms)


def _thresholds(model: Model, preset: str, wanted: list[tuple[str, float]]) -> list[float]:
    """Return the b thresholds at which to judge a model: those wanted of the strategies that it has, or all it has."""
    own = thresholds_of(model, preset)
    chosen = [own.get(name, bmin) for name, bmin in wanted if name in own or name not in STRATEGIES]
    return list(dict.fromkeys(chosen or own.values()))


@dataclass(frozen=True, repr=False)
class ProtocolBound(Displayed):
    """The Cramér-Rao bound of models on a protocol, a result per model and b threshold."""

    results: tuple[CramerRao, ...]
    acquisition: Acquisition
    snr: float
    preset: str
    t2t_ms: float | None

    def facts(self) -> dict[str, Any]:
        """Return the smallest standard deviations at 18 µm."""
        return dict(message.split(": ", 1) for message in self.messages)

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with a row per model, strategy, parameter and some sizes."""
        rows = []
        for each in self.results:
            for name, (lower, upper) in each.bounds.items():
                for size in _SHOWN:
                    i = int(np.argmin(np.abs(_SIZES - size)))
                    rows.append({
                        "model": each.model, "strategy": each.strategy, "bmin_smm2": each.bmin_smm2,
                        "measurements": each.measurements, "snr": self.snr, "vCS_um": size, "parameter": name,
                        "value": float(each.values[name][i]), "sd": float(each.sd[name][i]), "lower": lower,
                        "upper": upper, "determined_by": "data" if each.informative(name)[i] else "bounds",
                    })  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def messages(self) -> tuple[str, ...]:
        """A line on each model and strategy."""
        lines = []
        for each in self.results:
            how = f"{each.strategy}, b > {each.bmin_smm2:g} s/mm², {each.measurements} measurements"
            spread = ", ".join(f"{name} ± {each.sd[name][_AT_18]:.2g}" for name in each.bounds)
            lines.append(f"{get_model(each.model).display_name} ({how}): at vCS 18 µm {spread}")
        return tuple(lines)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Which parameters the measurements leave open, or determine less than the bounds do."""
        warnings = []
        for each in self.results:
            title = f"{get_model(each.model).display_name} ({each.strategy})"
            open_ = [name for name in each.bounds if not np.isfinite(each.sd[name][_AT_18])]
            held = [name for name in each.bounds if not each.informative(name)[_AT_18] and name not in open_]
            if open_:
                warnings.append(f"{title}: these measurements leave {', '.join(open_)} open, whatever the noise")
            if held:
                warnings.append(f"{title}: at vCS 18 µm the bounds say more than the data about {', '.join(held)}")
        return tuple(warnings)

    @property
    def summary(self) -> dict[str, Any]:
        """The noise and the tissue assumed."""
        tissue = {name: float(v[0]) for each in self.results for name, v in each.values.items() if name != "vCS"}
        return {"snr": self.snr, "tissue": tissue}

    def save(self, out: str | Path, sources: Iterable[str | Path] = ()) -> list[Path]:
        """Write crlb.csv, crlb.json and crlb.png into a folder; returns the files."""
        out, table = Path(out), self.to_pandas()
        csv, drawn = out / "crlb.csv", out / "crlb.png"
        with atomic_path(csv) as as_text, atomic_path(drawn) as as_picture:
            without_formulas(table).to_csv(as_text, index=False)
            self.plot().savefig(as_picture, format="png", dpi=110, metadata={"Software": None})
        settings = {"preset": self.preset, "snr": self.snr, "t2t_ms": self.t2t_ms}
        content = {"rows": table.to_dict("records"), **provenance(sources, settings)}
        return [csv, write_json(out / "crlb.json", content), drawn]

    def plot(self) -> Any:
        """Draw the standard deviation of each parameter over the size; returns the matplotlib Figure."""
        from matplotlib.figure import Figure

        names = [name for name in _LABELS if any(name in each.bounds for each in self.results)]
        figure = Figure(figsize=(3.4 * len(names), 3.6), layout="constrained")
        axes = figure.subplots(1, len(names), squeeze=False)[0]
        models = list(dict.fromkeys(each.model for each in self.results))
        for axis, name in zip(axes, names):
            shown = [each for each in self.results if name in each.bounds]
            for each in shown:
                label = f"{get_model(each.model).display_name}, {each.strategy}"
                style = "--" if each.strategy == "high-b" else "-"
                axis.semilogy(_SIZES, each.sd[name], style, color=f"C{models.index(each.model)}", label=label)
            width = max(each.bounds[name][1] - each.bounds[name][0] for each in shown)
            axis.axhspan(width / np.sqrt(12), 1e3 * width, color="0.9")
            axis.set(ylim=(width * 1e-3, width * 10), xlabel="vCS, µm")
            axis.set_title(_LABELS[name], fontsize=10)
        axes[0].set_ylabel(f"smallest standard deviation, SNR {self.snr:.3g}")
        axes[0].legend(fontsize=7)
        figure.suptitle(f"{len(self.acquisition)} volumes; grey: the bounds say more than the data", fontsize=9)
        return figure
