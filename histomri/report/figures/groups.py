"""The figure of groups: every measurement by group, with tests."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray
from histomri.report.figures.charts import SMALL, Card, Chart, Looks, heading, labels_of, panels
from histomri.report.text import decimals, label_of, ordered, p_text

_BRACKETS, _COLUMNS, _FEWEST_BOXED = 3, 3, 4
_NEAR = 0.05  # of the range: points closer than this lie beside each other
_SIGNIFICANT = 0.05


def groups_card(rows: pd.DataFrame, comparisons: pd.DataFrame, looks: Looks, title: str) -> Card:
    """Draw the samples of one model and strategy by group, with the tests of `histomri compare`."""
    pairs = comparisons[["group_a", "group_b"]].drop_duplicates()
    tests, kept = int(comparisons["p_welch"].notna().sum()), int((comparisons["q_welch"] < _SIGNIFICANT).sum())
    which = "The bracket names" if len(pairs) == 1 else "Brackets name, of the pairs with p < 0.05, the three smallest,"
    text = (
        f"Lines are medians, boxes quartiles (from four samples on). {which} p of Welch's t-test and Hedges' g. "
        f"Below 0.05 when adjusted for the number of tests (false discovery rate): {kept} of {tests}."
    )
    return Card("groups", "Do the groups differ?", (text,), _chart(rows, comparisons, looks, f"Groups: {title}"))


def _chart(rows: pd.DataFrame, comparisons: pd.DataFrame, looks: Looks, title: str) -> Chart:
    names = [name for name in ordered(comparisons["column"]) if name in rows]
    figure, axes = panels(len(names), _COLUMNS, height=2.1)
    chart = Chart(figure)
    groups = sorted(set(comparisons["group_a"]) | set(comparisons["group_b"]))
    for place, (panel, name) in enumerate(zip(axes, names)):
        _draw_groups(chart, panel, rows, name, groups, looks)
        _draw_brackets(panel, comparisons[comparisons["column"] == name], groups)
        bottom = place + _COLUMNS >= len(names)
        panel.set_xticks(range(len(groups)), groups if bottom else [""] * len(groups))
        panel.tick_params(axis="x", length=0)
        for text in panel.get_xticklabels():
            text.set(rotation=40, ha="right", rotation_mode="anchor")
            text.set_in_layout(panel.get_subplotspec().is_last_row())  # above an empty place there is room for it
    looks.legend(figure, rows.assign(group=None))  # the groups stand below the panels
    heading(figure, title)
    return chart


def _draw_groups(chart: Chart, axes: Any, rows: pd.DataFrame, name: str, groups: Sequence[str], looks: Looks) -> None:
    label = label_of(name, rows[name])
    values = rows[name].to_numpy(dtype=float) / label.divisor
    labels = labels_of(rows, "group").to_numpy()
    places = np.full(len(rows), np.nan)
    spread = np.ptp(values[np.isfinite(values)]) if np.isfinite(values).any() else 0.0
    for place, group in enumerate(groups):
        mine = np.flatnonzero((labels == group) & np.isfinite(values))
        places[mine] = place + _beside(values[mine], _NEAR * spread)
        if mine.size >= _FEWEST_BOXED:
            low, middle, high = np.percentile(values[mine], [25, 50, 75])
            axes.bar(place, high - low, 0.66, low, color=looks.colours[group], alpha=0.16, zorder=1)
            axes.plot([place - 0.33, place + 0.33], [middle] * 2, color=looks.colours[group], linewidth=1.4, zorder=2)
    tips = [f"{label.name} {label.value(value)}" for value in rows[name]]
    looks.draw(chart, axes, rows, places, values, tips)
    axes.set_ylabel(label.axis)
    axes.set_xlim(-0.6, len(groups) - 0.4)


def _beside(values: FloatArray, near: float) -> FloatArray:
    """Return shifts to either side, so that values that are nearly alike do not hide each other."""
    order = np.argsort(values, kind="stable")
    shifts = np.zeros(len(values))
    alike = 0
    for before, this in pairwise(order):
        alike = alike + 1 if values[this] - values[before] < near else 0
        shifts[this] = 0.13 * ((alike + 1) // 2) * (1 if alike % 2 else -1)
    return np.clip(shifts, -0.4, 0.4)


def _draw_brackets(axes: Any, pairs: pd.DataFrame, groups: Sequence[str]) -> None:
    """Name p and effect of the only pair of groups, or of the few with the smallest p below 0.05."""
    tested = pairs[pairs["p_welch"].notna()].sort_values("p_welch", kind="stable")
    shown = tested if len(pairs) == 1 else tested[tested["p_welch"] < _SIGNIFICANT].head(_BRACKETS)
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
    axes.spines["left"].set_bounds(low, high)
    step, span = 0.16 * (high - low), len(groups)
    for nth, row in enumerate(shown.to_dict("records")):
        ends = sorted(groups.index(row[side]) for side in ("group_a", "group_b"))
        y = high + (0.3 + nth) * step
        axes.plot([ends[0], *ends, ends[1]], [y - 0.2 * step, y, y, y - 0.2 * step], color="#555555", linewidth=0.7)
        text = f"{p_text(row['p_welch'])}, g = {decimals(row['hedges_g'], 1)}"
        middle = np.clip(0.5 * sum(ends), 0.33 * span - 0.5, 0.67 * span - 0.5)  # so that the text stays on the panel
        axes.text(middle, y + 0.08 * step, text, ha="center", va="bottom", fontsize=SMALL, color="#333333")
    axes.set_ylim(low, high + (0.3 + max(len(shown), 1)) * step)
    if not len(shown):
        text = "no pair with p < 0.05" if len(tested) else "too few for a test"
        axes.text(0.5 * (span - 1), high, text, ha="center", va="bottom", fontsize=SMALL, color="#555555")
