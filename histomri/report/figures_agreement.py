"""Figures of agreement (Bland and Altman) and of regression."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from histomri.report.charts import BLUE, ORANGE, SMALL, Chart, Looks, heading, new_figure
from histomri.report.labels import Label, label_of
from histomri.report.words import decimals, p_text

COLLINEAR = 10.0  # variance inflation from which coefficients cannot be told apart
_GREY = "#666666"


def agreement_chart(
    rows: pd.DataFrame, agreement: pd.DataFrame, sizes: pd.DataFrame | None, looks: Looks, title: str
) -> Chart:
    """Draw difference against mean with bias and limits of agreement, and beside it the bias by size.

    Parameters
    ----------
    rows : DataFrame
        One row per sample.
    agreement : DataFrame
        As `histomri agree` writes it, of the same model and strategy.
    sizes : DataFrame or None
        The bias in classes of size.
    looks, title
        As in `groups_chart`.
    """
    pairs = [row for row in agreement.to_dict("records") if row["first"] in rows and row["second"] in rows]
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
    for name, colour, style, words, side in (
        ("bias", BLUE, "-", "bias", "center"),
        ("upper", _GREY, "--", "+1.96 SD", "bottom"),
        ("lower", _GREY, "--", "\u22121.96 SD", "top"),
    ):
        value, low, high = (row[key] / scale for key in (name, f"{name}_low", f"{name}_high"))
        axes.axhspan(low, high, color=colour, alpha=0.12, linewidth=0)
        axes.axhline(value, color=colour, linestyle=style, linewidth=1.0)
        axes.text(
            1.01, value, f"{words}  {_short(value)}", transform=axes.get_yaxis_transform(), va=side, fontsize=SMALL,
            color=colour,
        )  # fmt: skip
    axes.axhline(0, color="#bbbbbb", linewidth=0.6, zorder=0)
    names = [label_of(row[side]) for side in ("first", "second")]
    said = [
        f"{names[0].name} {names[0].value(a)}\n{names[1].name} {names[1].value(b)}\ndifference {label.value(a - b)}"
        for a, b in zip(rows[row["first"]], rows[row["second"]])
    ]
    looks.draw(chart, axes, rows, mean, difference, said)
    unit = "%" if row["relative"] else label.scaled_unit
    axes.set_xlabel(f"mean of both{f' ({label.scaled_unit})' if label.scaled_unit else ''}")
    axes.set_ylabel(f"{names[0].name} \u2212 {names[1].name}{f' ({unit})' if unit else ''}")
    text = f"slope {_short(row['slope'])} [{_short(row['slope_low'])}, {_short(row['slope_high'])}], "
    text = f"{text}{p_text(row['p_slope'])}, " if np.isfinite(row["slope"]) else ""
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
    for x, y, n in zip(middle, np.where(np.isfinite(above), above, bias), sizes["n"]):
        axes.annotate(
            f"n = {n}", (x, y), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=SMALL, color=_GREY
        )
    axes.margins(y=0.1)
    axes.set_xlabel(label_of(row["second"], sizes["size_to"]).axis)
    axes.set_title("bias by size", loc="left")
    axes.tick_params(labelleft=False)


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "\u2212") if abs(value) < 100 else f"{value:.0f}".replace("-", "\u2212")


def regression_chart(coefficients: pd.DataFrame, models: pd.DataFrame, title: str) -> Chart:
    """Draw the standardised coefficients of each response with their robust intervals; collinear ones are open.

    Parameters
    ----------
    coefficients, models : DataFrame
        As `histomri regress` writes them, of one model and strategy.
    title : str
        Of the figure.
    """
    fits = [row for row in models.to_dict("records") if (coefficients["response"] == row["response"]).any()]
    lines = len(coefficients) + len(fits)
    figure = new_figure(7.2, 0.9 + 0.23 * lines)
    axes, chart = figure.subplots(), Chart(figure)
    names: list[tuple[float, str]] = []
    y = 0.0
    for fit in fits:
        response = label_of(fit["response"]).name
        text = f"{response}:  R² = {decimals(fit['r2'])}, N = {fit['n']}"
        axes.text(0.01, y, text, transform=axes.get_yaxis_transform(), va="center", fontweight="bold")
        for row in coefficients[coefficients["response"] == fit["response"]].to_dict("records"):
            y += 1.0
            names.append((y, label_of(row["term"]).name))
            _draw_coefficient(chart, axes, y, response, row)
        y += 1.4
    axes.axvline(0, color="#999999", linewidth=0.7, zorder=0)
    axes.set_yticks([place for place, _ in names], [name for _, name in names])
    axes.set_ylim(y - 0.6, -0.8)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.08)
    axes.set_xlabel("standardised coefficient, with its 95 % interval (HC3)")
    for place, head in ((1.02, "p (HC3)"), (1.18, "VIF")):
        axes.text(place, -0.9, head, transform=axes.get_yaxis_transform(), va="bottom", fontsize=7, color=_GREY)
    figure.get_layout_engine().set(w_pad=0.12)
    heading(figure, title)
    return chart


def _draw_coefficient(chart: Chart, axes: Any, y: float, response: str, row: Mapping[str, Any]) -> None:
    flagged = not row["VIF"] < COLLINEAR
    colour = ORANGE if flagged else BLUE
    interval = f"[{decimals(row['ci_low_hc3'])}, {decimals(row['ci_high_hc3'])}]"
    words = (
        f"{response} on {label_of(row['term']).name}\nbeta {decimals(row['beta'])} {interval}\n"
        f"{p_text(row['p_hc3'])}, VIF {decimals(row['VIF'], 1)}"
    )
    axes.plot([row["ci_low_hc3"], row["ci_high_hc3"]], [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
    look = {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.1} if flagged else {}
    chart.points(axes, [row["beta"]], [y], [words], marker="s", color=colour, markersize=5, zorder=3, **look)
    p = p_text(row["p_hc3"]).removeprefix("p ").removeprefix("= ")
    note = "  collinear" if flagged else ""
    texts = ((1.02, p, "black"), (1.18, f"{decimals(row['VIF'], 1)}{note}", "#a84a00" if flagged else "black"))
    for place, text, ink in texts:
        axes.text(place, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7, color=ink)
