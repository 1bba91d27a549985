"""What a protocol can determine, as table, figure and messages: the Cramér-Rao bound of several models."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, write_json
from histomri.core.presets import STRATEGIES
from histomri.fitting.choices import choose_threshold
from histomri.fitting.cramer_rao import CramerRao, crlb
from histomri.fitting.models import get_model
from histomri.mri import Acquisition, as_acquisition

_SIZES = np.arange(8.0, 40.5, 1.0)
_SHOWN = (10.0, 14.0, 18.0, 24.0, 30.0)
_AT_18 = int(np.argmin(np.abs(_SIZES - 18.0)))
_LABELS = {"fI": "fI", "D0I": "D0I, µm²/ms", "vCS": "vCS, µm", "DEinf": "DEinf, µm²/ms", "beta": "beta, µm²"}


def bound_of_protocol(
    acquisition: Acquisition | str | Path, *, snr: float, models: Sequence[str] = ("diff-in",),
    preset: str = "mouse-exvivo", thresholds: Iterable[tuple[str, float]] | None = None, t2t_ms: float | None = None,
) -> "ProtocolBound":  # fmt: skip
    """Find the smallest standard deviations that a protocol allows, over sizes from 8 to 40 µm.

    Parameters
    ----------
    acquisition : Acquisition, str or path-like
        The protocol, its file, or the name of a preset; it need not have been scanned.
    snr : float
        Signal at b = 0 and the shortest echo time over the noise level of one measurement.
    models : sequence of str
        Models to judge.
    preset : str
        Bounds and thresholds.
    thresholds : iterable of (str, float), optional
        Strategies with their b thresholds, s/mm²; by default those of the preset.
    t2t_ms : float, optional
        Tissue T2, ms, by which later echoes are noisier.

    Raises
    ------
    InputError, ProtocolError
        If no model is named, the numbers make no sense, or no measurement is above a threshold.
    """
    acquisition = as_acquisition(acquisition)
    if not models:
        raise InputError("no model was named", hint="pass --model diff-in")
    chosen = thresholds or [choose_threshold(preset, strategy) for strategy in STRATEGIES]
    results = [
        crlb(model, acquisition, snr, {"vCS": _SIZES}, preset=preset, bmin_smm2=bmin, t2t_ms=t2t_ms)
        for model in dict.fromkeys(models)
        for bmin in dict.fromkeys(bmin for _, bmin in chosen)
    ]
    return ProtocolBound(tuple(results), acquisition, snr, preset, t2t_ms)


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
                informative = each.informative(name)
                for size in _SHOWN:
                    i = int(np.argmin(np.abs(_SIZES - size)))
                    rows.append(
                        {
                            "model": each.model, "strategy": each.strategy, "bmin_smm2": each.bmin_smm2,
                            "measurements": each.measurements, "snr": self.snr, "vCS_um": size, "parameter": name,
                            "value": float(each.values[name][i]), "sd": float(each.sd[name][i]), "lower": lower,
                            "upper": upper, "determined_by": "data" if informative[i] else "bounds",
                        }
                    )  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def messages(self) -> tuple[str, ...]:
        """A line on each model and strategy."""
        return tuple(
            f"{get_model(each.model).display_name} ({each.strategy}, b > {each.bmin_smm2:g} s/mm², "
            f"{each.measurements} measurements): at vCS 18 µm "
            + ", ".join(f"{name} ± {each.sd[name][_AT_18]:.2g}" for name in each.bounds)
            for each in self.results
        )

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
        tissue = {name: float(v[0]) for name, v in self.results[0].values.items() if name != "vCS"}
        return {"snr": self.snr, "tissue": tissue}

    def save(self, out: str | Path, sources: Iterable[str | Path] = ()) -> list[Path]:
        """Write crlb.csv, crlb.json and crlb.png into a folder; returns the files."""
        out, table = Path(out), self.to_pandas()
        csv, drawn = out / "crlb.csv", out / "crlb.png"
        with atomic_path(csv) as temporary:
            table.to_csv(temporary, index=False)
        with atomic_path(drawn) as temporary:
            self.plot().savefig(temporary, format="png", dpi=110, metadata={"Software": None})
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
            axis.set_ylim(width * 1e-3, width * 10)
            axis.set_xlabel("vCS, µm")
            axis.set_title(_LABELS[name], fontsize=10)
        axes[0].set_ylabel(f"smallest standard deviation, SNR {self.snr:.3g}")
        axes[0].legend(fontsize=7)
        figure.suptitle(f"{len(self.acquisition)} volumes; grey: the bounds say more than the data", fontsize=9)
        return figure
