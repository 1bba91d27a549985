"""The figure of regression: standardised coefficients with robust intervals."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from histomri.report.figures.charts import BLUE, ORANGE, Card, Chart, heading, new_figure
from histomri.report.labels import label_of
from histomri.report.text import decimals, interval_text, p_text

COLLINEAR = 10.0  # variance inflation from which coefficients cannot be separated
_GREY = "#666666"


def regression_card(coefficients: pd.DataFrame, models: pd.DataFrame, title: str) -> Card:
    """Draw the regressions of a model and strategy, from the tables of `histomri regress`; collinear ones are open."""
    text = (
        "All values as z-scores (Eq. 16): a coefficient says by how many standard deviations the MRI metric changes "
        "with one of the histological property, the others held still. Intervals are robust (HC3)."
    )
    flagged = coefficients[~(coefficients["VIF"] < COLLINEAR)]
    names = [f"{label_of(row['term']).name} for {label_of(row['response']).name}" for _, row in flagged.iterrows()]
    warning = (
        f"Open squares: variance inflation (VIF) of {COLLINEAR:g} or more ({', '.join(names)}). The properties go "
        "together so closely that their coefficients cannot be separated."
    )
    texts = (text, warning) if len(flagged) else (text,)
    chart = _chart(coefficients, models, f"Regression on histology: {title}")
    return Card("regression", "Which property of the tissue does each MRI metric follow?", texts, chart)


def _chart(coefficients: pd.DataFrame, models: pd.DataFrame, title: str) -> Chart:
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
    interval = interval_text((row["ci_low_hc3"], row["ci_high_hc3"]))
    tip = (
        f"{response} on {label_of(row['term']).name}\nbeta {decimals(row['beta'])} {interval}\n"
        f"{p_text(row['p_hc3'])}, VIF {decimals(row['VIF'], 1)}"
    )
    axes.plot([row["ci_low_hc3"], row["ci_high_hc3"]], [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
    look = {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.1} if flagged else {}
    chart.points(axes, [row["beta"]], [y], [tip], marker="s", color=colour, markersize=5, zorder=3, **look)
    p = p_text(row["p_hc3"]).removeprefix("p ").removeprefix("= ")
    note = "  collinear" if flagged else ""
    texts = ((1.02, p, "black"), (1.18, f"{decimals(row['VIF'], 1)}{note}", "#a84a00" if flagged else "black"))
    for place, text, ink in texts:
        axes.text(place, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7, color=ink)
