"""The card on how well the models describe the signals of a sample: verdict, table of fits, residuals in colours."""

from collections.abc import Callable
from typing import Any

import numpy as np

from histomri.mri import list_spoilt
from histomri.report.figures.charts import new_figure
from histomri.report.misfit import Described
from histomri.report.text import decimals, model_name

_LIMIT = 5.0  # noise levels, of the colours


def misfit_card(
    found: list[Described], best: tuple[str, str] | None, draw: Callable[[Callable[[], Any]], str | None]
) -> dict[str, Any] | None:
    """Return the card: sentences, rows of the table, and a figure of the best fit as a URI."""
    if not found:
        return None
    shown = next((each for each in found if each.key == best), found[0])
    means = [each.record["Mean"]["Verdict"] for each in found if each.record.get("Mean")]
    texts = [f"{_title(shown)}: {_verdict(shown)}", *dict.fromkeys(f"{text[:1].upper()}{text[1:]}." for text in means)]
    figure = draw(lambda: misfit_figure(shown))
    return {"text": texts, "rows": [_row(each) for each in found], "figure": figure, "fit": _title(shown)}


def misfit_figure(one: Described) -> Any:
    """Draw the median residual of each volume and slice in colours; a frame marks what is spoilt."""
    medians = one.table.pivot(index="slice", columns="volume", values="median_z")
    figure = new_figure(max(5.0, 1.6 + 0.27 * medians.shape[1]), 1.5 + 0.24 * min(len(medians), 30))
    axes = figure.subplots()
    drawn = axes.imshow(medians.to_numpy(), cmap="RdBu_r", vmin=-_LIMIT, vmax=_LIMIT, aspect="auto")
    b = one.table.drop_duplicates("volume").set_index("volume")["b_smm2"]
    axes.set_xticks(range(medians.shape[1]), [f"{v}\n{b[v]:.0f}" for v in medians.columns], fontsize=7)
    step = max(1, len(medians) // 20)
    axes.set_yticks(range(0, len(medians), step), medians.index[::step], fontsize=8)
    axes.set_xlabel("volume (from 0), and its b (s/mm²)")
    axes.set_ylabel("slice (from 0)")
    rows, columns = list(medians.index), list(medians.columns)
    for each in one.spoilt:
        if each.volume in columns and each.slice in rows:
            x, y = columns.index(each.volume), rows.index(each.slice)
            axes.plot(
                [x - 0.5, x + 0.5, x + 0.5, x - 0.5, x - 0.5], [y - 0.5, y - 0.5, y + 0.5, y + 0.5, y - 0.5], "k-"
            )
    axes.set_title("measured − expected, median over the slice (noise levels)", fontsize=9.5, loc="left")
    figure.colorbar(drawn, ax=axes, extend="both", pad=0.01)
    return figure


def _title(one: Described) -> str:
    return f"{model_name(one.key[0])}, {one.key[1]}"


def _verdict(one: Described) -> str:
    poor = float(one.record.get("ShareOfPBelow0.01", np.nan))
    if one.spoilt:
        done = {"loo": "left out there", "tukey": "weighed down there"}.get(str(one.record.get("Robust")), "fitted")
        return f"spoilt, {done}: {list_spoilt(one.spoilt, one.table['slice'].to_numpy())}."
    if not np.isfinite(poor):
        return "too few measurements to judge."
    if poor > 0.1:
        return f"no volume is spoilt, but {100 * poor:.0f} % of the voxels do not fit this model (χ², p < 0.01)."
    return f"it describes the signals: no volume is spoilt, and {100 * poor:.1f} % of the voxels have p < 0.01."


def _row(one: Described) -> dict[str, str]:
    record = one.record
    counts = {
        name: int(record.get(name, 0)) for name in ("fitted", "at_bound", "VoxelsFittedAgain", "MeasurementsLeftOut")
    }
    ratio, poor = (record.get(name) for name in ("MedianChi2PerFreedom", "ShareOfPBelow0.01"))
    return {
        "model": model_name(one.key[0]), "strategy": one.key[1], "n": str(counts["fitted"] + counts["at_bound"]),
        "chi2": "–" if ratio is None or not np.isfinite(ratio) else decimals(float(ratio)),
        "poor": "–" if poor is None or not np.isfinite(poor) else f"{100 * poor:.1f} %",
        "again": str(counts["VoxelsFittedAgain"]), "out": str(counts["MeasurementsLeftOut"]), "verdict": _verdict(one),
    }  # fmt: skip
