"""A protocol in, and what it can tell out: table and figure of the Cramér-Rao bound."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, write_json
from histomri.fitting import STRATEGIES, CramerRao, choose_preset, choose_threshold, crlb, get_model, preset_warnings
from histomri.mri import Acquisition, read_acquisition
from histomri.study.result import StepResult

_SIZES = np.arange(8.0, 40.5, 1.0)
_SHOWN = (10.0, 14.0, 18.0, 24.0, 30.0)
_LABELS = {"fI": "fI", "D0I": "D0I, µm²/ms", "vCS": "vCS, µm", "DEinf": "DEinf, µm²/ms", "beta": "beta, µm²"}


def run_crlb(
    protocol: str | Path,
    out: str | Path,
    *,
    snr: float,
    models: Sequence[str] = ("diff-in",),
    preset: str | None = None,
    strategy: str | None = None,
    bmin: float | None = None,
    t2t_ms: float | None = None,
) -> StepResult:
    """Write the smallest standard deviations that a protocol allows, before anyone is scanned.

    Parameters
    ----------
    protocol : str or path-like
        Any form that `read_acquisition` takes without images.
    out : path-like
        Folder for crlb.csv, crlb.json and crlb.png.
    snr : float
        Signal at b = 0 and the shortest echo time over the noise level of one measurement.
    models : sequence of str
        Models to judge.
    preset, strategy, bmin
        Bounds and choice of measurements, as in `run_fit`; without strategy and threshold, both strategies.
        The preset by default is that of a protocol named after it, or else mouse-exvivo.
    t2t_ms : float, optional
        Tissue T2, ms, by which later echoes are noisier.

    Returns
    -------
    StepResult
        The three files; one message per model and strategy, and a warning where a parameter is left open.
    """
    acquisition, chosen = read_acquisition(protocol), choose_preset(preset, protocol)
    both = strategy is None and bmin is None
    thresholds = [choose_threshold(chosen, each, bmin) for each in (STRATEGIES if both else (strategy,))]
    result = write_crlb(
        acquisition, out, [Path(protocol)], snr=snr, models=models, preset=chosen, thresholds=thresholds, t2t_ms=t2t_ms
    )
    assumed = preset_warnings(chosen, acquisition) if preset is None else ()
    return replace(result, warnings=assumed + result.warnings)


def write_crlb(
    acquisition: Acquisition,
    out: str | Path,
    sources: Sequence[Path],
    *,
    snr: float,
    models: Sequence[str],
    preset: str,
    thresholds: Sequence[tuple[str, float]],
    t2t_ms: float | None = None,
) -> StepResult:
    """Write table, figure and JSON of the bound for some models and (strategy, b threshold) pairs."""
    if not models:
        raise InputError("no model was named", hint="pass --model diff-in")
    results = [
        crlb(model, acquisition, snr, {"vCS": _SIZES}, preset=preset, strategy=None, bmin_smm2=bmin, t2t_ms=t2t_ms)
        for model in dict.fromkeys(models)
        for _, bmin in thresholds
    ]
    table = pd.concat([_table(each, snr) for each in results], ignore_index=True)
    out = Path(out)
    csv, figure = out / "crlb.csv", out / "crlb.png"
    with atomic_path(csv) as temporary:
        table.to_csv(temporary, index=False)
    _draw(results, acquisition, snr, figure)
    settings = {"preset": preset, "snr": snr, "t2t_ms": t2t_ms}
    content = {"rows": table.to_dict("records"), **provenance(sources, settings)}
    outputs = (csv, write_json(out / "crlb.json", content), figure)
    return StepResult(
        outputs,
        tuple(_message(each) for each in results),
        tuple(warning for each in results for warning in _warnings(each)),
        {"snr": snr, "tissue": {name: float(v[0]) for name, v in results[0].values.items() if name != "vCS"}},
    )


def _table(result: CramerRao, snr: float) -> pd.DataFrame:
    rows = []
    for name, (lower, upper) in result.bounds.items():
        told = result.informative(name)
        for size in _SHOWN:
            i = int(np.argmin(np.abs(_SIZES - size)))
            rows.append(
                {
                    "model": result.model, "strategy": result.strategy, "bmin_smm2": result.bmin_smm2,
                    "measurements": result.measurements, "snr": snr, "vCS_um": size, "parameter": name,
                    "value": float(result.values[name][i]), "sd": float(result.sd[name][i]), "lower": lower,
                    "upper": upper, "told_by": "data" if told[i] else "bounds",
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _message(result: CramerRao) -> str:
    i = int(np.argmin(np.abs(_SIZES - 18.0)))
    spread = ", ".join(f"{name} ± {result.sd[name][i]:.2g}" for name in result.bounds)
    return (
        f"{get_model(result.model).display_name} ({result.strategy}, b > {result.bmin_smm2:g} s/mm², "
        f"{result.measurements} measurements): at vCS 18 µm {spread}"
    )


def _warnings(result: CramerRao) -> list[str]:
    i = int(np.argmin(np.abs(_SIZES - 18.0)))
    title = f"{get_model(result.model).display_name} ({result.strategy})"
    open_ = [name for name in result.bounds if not np.isfinite(result.sd[name][i])]
    held = [name for name in result.bounds if not result.informative(name)[i] and name not in open_]
    warnings = []
    if open_:
        warnings.append(f"{title}: these measurements leave {', '.join(open_)} open, whatever the noise")
    if held:
        warnings.append(f"{title}: at vCS 18 µm the bounds say more than the data about {', '.join(held)}")
    return warnings


def _draw(results: Sequence[CramerRao], acquisition: Acquisition, snr: float, path: Path) -> None:
    from matplotlib.figure import Figure

    names = [name for name in _LABELS if any(name in each.bounds for each in results)]
    figure = Figure(figsize=(3.4 * len(names), 3.6), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    models = list(dict.fromkeys(each.model for each in results))
    for axis, name in zip(axes, names):
        for each in results:
            if name in each.bounds:
                label = f"{get_model(each.model).display_name}, {each.strategy}"
                style = "--" if each.strategy == "high-b" else "-"
                axis.semilogy(_SIZES, each.sd[name], style, color=f"C{models.index(each.model)}", label=label)
        width = max(each.bounds[name][1] - each.bounds[name][0] for each in results if name in each.bounds)
        axis.axhspan(width / np.sqrt(12), 1e3 * width, color="0.9")
        axis.set_ylim(width * 1e-3, width * 10)
        axis.set_xlabel("vCS, µm")
        axis.set_title(_LABELS[name], fontsize=10)
    axes[0].set_ylabel(f"smallest standard deviation, SNR {snr:.3g}")
    axes[0].legend(fontsize=7)
    figure.suptitle(f"{len(acquisition)} volumes; grey: the bounds say more than the data", fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
