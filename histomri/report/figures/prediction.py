"""The figure of a prediction: predicted against measured, the fitted surface, and how sure it is."""

import re
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from histomri.core.arrays import FloatArray
from histomri.report.collect import Predicted
from histomri.report.figures.charts import BLUE, Card, Chart, heading, new_figure
from histomri.report.text import Label, decimals, fit_label, interval_text, label_of, p_text

_STEPS = 25  # of a surface
BASES = {"cubic": "all ten terms up to the third degree", "printed": "the seven terms of Eq. 17 as printed"}


def prediction_card(basis: str, found: Predicted, *, aside: bool) -> Card:
    """Draw a prediction from the files of `histomri predict`."""
    record, settings = found.record, found.settings
    metrics = " and ".join(_metric(found, name).name for name in "xy")
    folds = f"{settings.get('folds')}-fold cross-validation"
    if settings.get("group_by"):
        folds += f", cases of one {settings['group_by']} in one fold ({record['n_groups']} of them)"
    interval = f", 95\u202f% interval {interval_text(record['r_ci'])}" if record.get("r_ci") else ""
    low, high = record["fold_r_range"]
    texts = [
        f"{quantity(found)} from {metrics} by a polynomial ({BASES[basis]}), {folds}: r = {decimals(record['r'])}"
        f"{interval}, {p_text(record['p'])}, N = {record['n']}; single folds {decimals(low)} to {decimals(high)}.",
        "Left, predictions of cases that were not used for them; the line is equality. The surfaces are fitted to all "
        f"cases and end where these end. {_highest(found)}".rstrip(),
    ]
    if settings.get("model") and settings.get("strategy"):
        texts.append(f"Metrics of {fit_label((settings['model'], settings['strategy']))}.")
    texts += [f"{text[0].upper()}{text[1:]}." for text in record.get("warnings") or ()]
    question = f"Can {label_of(_column(found)).name} be predicted{f' by {BASES[basis]}' if aside else ''}?"
    chart = _chart(found, f"Prediction of {quantity(found)} from {metrics}, {basis} polynomial")
    return Card(f"prediction_{basis}", question, tuple(texts), chart, aside)


def _chart(found: Predicted, title: str) -> Chart:
    """Draw out-of-fold predictions against the measured values, the surface with its cases, and its band's width."""
    figure = new_figure(7.2, 2.8)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1))
    chart = Chart(figure)
    _draw_cases(chart, left, found)
    x, y, layers = surface_of(found.surface, found.settings["x"], found.settings["y"])
    cases = found.cases.dropna(subset=["predicted"])
    measured = cases[found.settings["target"]].to_numpy(dtype=float)
    low, high = np.percentile(measured, [2, 98])
    picture = _draw_surface(middle, x, y, layers["predicted"], "viridis", (low, high))
    middle.contour(x, y, layers["predicted"].T, 6, colors="white", linewidths=0.5)
    look = {"cmap": "viridis", "vmin": low, "vmax": high, "s": 9, "edgecolors": "black", "linewidths": 0.3, "zorder": 3}
    across, along = (cases[found.settings[name]] for name in "xy")
    chart.points(middle, across, along, _tips(found, cases), c=measured, **look)
    _colour_bar(figure, middle, picture, quantity(found))
    band = _draw_surface(right, x, y, layers["high"] - layers["low"], "cividis", None)
    _colour_bar(figure, right, band, "width of the 95 % band")
    middle.set_title("fitted surface, measured cases", loc="left")
    right.set_title("uncertainty of the surface", loc="left")
    for axes in (middle, right):
        axes.set(xlabel=_metric(found, "x").axis, ylabel=_metric(found, "y").axis)
    heading(figure, title)
    return chart


def quantity(found: Predicted) -> str:
    """Return what is predicted, with its unit."""
    label = label_of(_column(found))
    return label.axis if _column(found) == found.settings["target"] else f"log₁₀ {label.axis}"


def _column(found: Predicted) -> str:
    """Return the column that is predicted, or whose logarithm is."""
    logarithm = re.fullmatch(r"log10\((.+)\)", found.settings["target"])
    return logarithm[1] if logarithm else str(found.settings["target"])


def surface_of(surface: pd.DataFrame, x: str, y: str) -> tuple[FloatArray, FloatArray, dict[str, FloatArray]]:
    """Return the axes of a fitted surface and its layers as matrices, NaN beyond the cases."""
    names = ["predicted", "low", "high"]
    known = surface[[x, y, *names]].copy()
    known.loc[~surface["inside"].astype(bool), names] = np.nan
    tables = {name: known.pivot(index=x, columns=y, values=name) for name in names}
    along, across = (axis.to_numpy(dtype=float) for axis in tables["predicted"].axes)
    return along, across, {name: table.to_numpy(dtype=float) for name, table in tables.items()}


def _draw_cases(chart: Chart, axes: Any, found: Predicted) -> None:
    cases = found.cases.dropna(subset=["predicted"])
    truth, predicted = cases[found.settings["target"]], cases["predicted"]
    look = {"marker": "o", "color": BLUE, "markersize": 4, "alpha": 0.75, "zorder": 3}
    chart.points(axes, truth, predicted, _tips(found, cases), **look)
    ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
    axes.plot(ends, ends, "--", color="#999999", linewidth=0.7, zorder=0)
    record = found.record
    interval = f" {interval_text(record['r_ci'])}" if record.get("r_ci") else ""
    axes.set_title(f"r = {decimals(record['r'])}{interval}\n{p_text(record['p'])}, N = {record['n']}", loc="left")
    axes.set(xlabel=f"measured {quantity(found)}", ylabel=f"predicted {quantity(found)}")
    margin = 0.04 * (ends[1] - ends[0])
    limits = (ends[0] - margin, ends[1] + margin)
    axes.set(xlim=limits, ylim=limits, box_aspect=1)


def _tips(found: Predicted, cases: pd.DataFrame) -> list[str]:
    x, y = (_metric(found, name) for name in "xy")
    names = cases["sample"] if "sample" in cases else cases.index.map(lambda place: f"case {place + 1}")
    columns = [*(found.settings[name] for name in ("x", "y", "target")), "predicted", "fold"]
    return [
        f"{name}\n{x.name} {x.value(a)}, {y.name} {y.value(b)}\n"
        f"measured {decimals(truth)}, predicted {decimals(guess)} (fold {fold:.0f})"
        for name, a, b, truth, guess, fold in zip(names, *(cases[column] for column in columns))
    ]


def _draw_surface(
    axes: Any, x: FloatArray, y: FloatArray, layer: FloatArray, cmap: str, ends: tuple[float, float] | None
) -> Any:
    low, high = ends if ends is not None else (0.0, float(np.nanpercentile(layer, 95)))
    drawn = axes.contourf(x, y, layer.T, np.linspace(low, high, _STEPS), cmap=cmap, extend="both" if ends else "max")
    drawn.set(edgecolor="face", linewidth=0.3)  # or the page shows through between the steps
    return drawn


def _colour_bar(figure: Any, axes: Any, drawn: Any, label: str) -> None:
    bar = figure.colorbar(drawn, ax=axes, location="bottom", aspect=24, label=label)
    bar.set_ticks(MaxNLocator(4).tick_values(*drawn.get_clim()))
    bar.ax.set_xlim(*drawn.get_clim())
    bar.outline.set_visible(False)


def _metric(found: Predicted, name: str) -> Label:
    return label_of(found.settings[name])


def _highest(found: Predicted) -> str:
    """Say where among the cases the fitted surface is highest."""
    inside = found.surface[found.surface["inside"].astype(bool)]
    if inside.empty:
        return ""
    top = inside.loc[inside["predicted"].idxmax()]
    values = {name: _metric(found, name).value(float(top[found.settings[name]]), 2) for name in "xy"}
    return f"It is highest at {' and '.join(f'{_metric(found, name).name} {text}' for name, text in values.items())}."
