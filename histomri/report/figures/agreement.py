"""The figure of agreement (Bland and Altman): differences against means, and the bias by size."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from histomri.report.figures.charts import BLUE, SMALL, Card, Chart, Looks, heading, new_figure
from histomri.report.text import Label, label_of, p_text

_GREY = "#666666"


def agreement_card(
    rows: pd.DataFrame, agreement: pd.DataFrame, sizes: pd.DataFrame | None, looks: Looks, title: str
) -> Card:
    """Draw the agreement of the samples of one model and strategy, from the tables of `histomri agree`."""
    texts = []
    for row in agreement.to_dict("records"):
        label, second = label_of(row["first"]), label_of(row["second"])
        unit = Label("", "%") if row["relative"] else label
        limits = f"limits of agreement {unit.value(row['lower'])} to {unit.value(row['upper'])}"
        bias = f"bias {unit.value(row['bias'])}"
        interval = f"95\u202f% interval [{unit.value(row['bias_low'])}, {unit.value(row['bias_high'])}]"
        changes = " The difference changes with size: bias and limits hold on average only."
        text = f"{label.name} less {second.name}: {bias}, {interval}; {limits}; N = {row['n']}."
        texts.append(text + (changes if row["p_slope"] < 0.05 else ""))
    texts.append("Bands are 95\u202f% intervals. Classes of size are by histology.")
    chart = _chart(rows, agreement, sizes, looks, f"MRI less histology: {title}")
    return Card("agreement", "How large is the difference between MRI and histology?", tuple(texts), chart)


def _chart(rows: pd.DataFrame, agreement: pd.DataFrame, sizes: pd.DataFrame | None, looks: Looks, title: str) -> Chart:
    pairs = [row for row in agreement.to_dict("records") if {row["first"], row["second"]} <= set(rows)]
    figure = new_figure(7.2, 0.6 + 2.3 * len(pairs))
    grid = figure.subplots(len(pairs), 2, width_ratios=(1.45, 1), squeeze=False, sharey="row")
    chart = Chart(figure)
    for (left, right), row in zip(grid, pairs):
        first, second = rows[row["first"]], rows[row["second"]]
        label = label_of(row["first"], [*first, *second])
        _draw_differences(chart, left, rows, row, label, looks)
        mine = sizes[(sizes["first"] == row["first"]) & (sizes["second"] == row["second"])] if sizes is not None else []
        if len(mine):
            _draw_sizes(right, mine, row, label)
        else:
            right.set_visible(False)
    looks.legend(figure, rows)
    heading(figure, title)
    return chart


def _draw_differences(
    chart: Chart, axes: Any, rows: pd.DataFrame, row: Mapping[str, Any], label: Label, looks: Looks
) -> None:
    first, second = (rows[row[side]].to_numpy(dtype=float) / label.divisor for side in ("first", "second"))
    mean, difference = (first + second) / 2, first - second
    if row["relative"]:
        difference = 100 * difference / mean
    scale = 1.0 if row["relative"] else label.divisor
    for name, colour, style, text, side in (
        ("bias", BLUE, "-", "bias", "center"),
        ("upper", _GREY, "--", "+1.96 SD", "bottom"),
        ("lower", _GREY, "--", "\u22121.96 SD", "top"),
    ):
        value, low, high = (row[key] / scale for key in (name, f"{name}_low", f"{name}_high"))
        axes.axhspan(low, high, color=colour, alpha=0.12, linewidth=0)
        axes.axhline(value, color=colour, linestyle=style, linewidth=1.0)
        look = {"va": side, "fontsize": SMALL, "color": colour}
        axes.text(1.01, value, f"{text}  {_short(value)}", transform=axes.get_yaxis_transform(), **look)
    axes.axhline(0, color="#bbbbbb", linewidth=0.6, zorder=0)
    names = [label_of(row[side]) for side in ("first", "second")]
    tips = [
        f"{names[0].name} {names[0].value(a)}\n{names[1].name} {names[1].value(b)}\ndifference {label.value(a - b)}"
        for a, b in zip(rows[row["first"]], rows[row["second"]])
    ]
    looks.draw(chart, axes, rows, mean, difference, tips)
    unit = "%" if row["relative"] else label.scaled_unit
    axes.set_xlabel(f"mean of both{f' ({label.scaled_unit})' if label.scaled_unit else ''}")
    axes.set_ylabel(f"{names[0].name} \u2212 {names[1].name}{f' ({unit})' if unit else ''}")
    slope = f"slope {_short(row['slope'])} [{_short(row['slope_low'])}, {_short(row['slope_high'])}], "
    text = f"{slope}{p_text(row['p_slope'])}, " if np.isfinite(row["slope"]) else ""
    axes.set_title(f"{text}N = {row['n']}", loc="left")


def _draw_sizes(axes: Any, sizes: pd.DataFrame, row: Mapping[str, Any], label: Label) -> None:
    """Draw the bias of each class of size, as wide as the class."""
    scale = 1.0 if row["relative"] else label.divisor
    low, high = (sizes[key].to_numpy(float) / label.divisor for key in ("size_from", "size_to"))
    bias, below, above = (sizes[key].to_numpy(float) / scale for key in ("bias", "bias_low", "bias_high"))
    middle = (low + high) / 2
    axes.axhline(0, color="#bbbbbb", linewidth=0.6, zorder=0)
    axes.hlines(bias, low, high, color=BLUE, linewidth=2.2, alpha=0.55)
    axes.vlines(middle, below, above, color=BLUE, linewidth=1.0)
    axes.plot(middle, bias, "o", color=BLUE, markersize=4)
    look = {"textcoords": "offset points", "ha": "center", "fontsize": SMALL, "color": _GREY}
    for x, y, n in zip(middle, np.where(np.isfinite(above), above, bias), sizes["n"]):
        axes.annotate(f"n = {n}", (x, y), xytext=(0, 3), **look)
    axes.margins(y=0.1)
    axes.set_xlabel(label_of(row["second"], sizes["size_to"]).axis)
    axes.set_title("bias by size", loc="left")
    axes.tick_params(labelleft=False)


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "\u2212") if abs(value) < 100 else f"{value:.0f}".replace("-", "\u2212")
