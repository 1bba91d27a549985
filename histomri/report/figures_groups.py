"""Figures of groups, and of what goes with a measurement given by hand, such as Ki-67."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray
from histomri.report.charts import SMALL, Chart, Looks, heading, labels_of, panels
from histomri.report.labels import LABELS, label_of, ordered
from histomri.report.words import decimals, p_text

_BRACKETS = 3
_COLUMNS = 3  # of groups
_FEWEST_BOXED = 4
_NEAR = 0.05  # of the range: points closer than this lie beside each other
_SIGNIFICANT = 0.05


def groups_chart(rows: pd.DataFrame, comparisons: pd.DataFrame, looks: Looks, title: str) -> Chart:
    """Draw every measurement by group: points, median and quartiles, and brackets over the groups that differ most.

    Parameters
    ----------
    rows : DataFrame
        One row per sample, with its group.
    comparisons : DataFrame
        As `histomri compare` writes them, of the same model and strategy.
    looks : Looks
        Colours and markers.
    title : str
        Of the figure.
    """
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
    words = [f"{label.name} {label.value(value)}" for value in rows[name]]
    looks.draw(chart, axes, rows, places, values, words)
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


def association_chart(
    rows: pd.DataFrame, correlations: pd.DataFrame, measure: str, looks: Looks, title: str
) -> Chart | None:
    """Draw a measurement given by hand against every metric of MRI and histology, with its line and the line's band.

    None if it goes with no metric of which anything is known.

    Parameters
    ----------
    rows : DataFrame
        One row per sample.
    correlations : DataFrame
        As `histomri correlate` writes them, of the same model and strategy.
    measure : str
        Column, such as Ki67_fraction.
    looks, title
        As in `groups_chart`.
    """
    from matplotlib.ticker import MaxNLocator

    table = partners(correlations, measure)
    names = [name for name in table if name in rows and name in LABELS]
    if not names or measure not in rows:
        return None
    figure, axes = panels(len(names), None, height=1.95, sharey=True)
    chart = Chart(figure)
    own = label_of(measure, rows[measure])
    reach = [rows[measure].dropna().to_numpy(float) / own.divisor]
    for panel, name in zip(axes, names):
        label = label_of(name, rows[name])
        part = rows.dropna(subset=[name, measure])
        x, y = part[name].to_numpy(float) / label.divisor, part[measure].to_numpy(float) / own.divisor
        if np.isfinite(table[name]["pearson"]["r"]):
            at = np.linspace(x.min(), x.max(), 50)
            middle, half = line_band(x, y, at)
            panel.fill_between(at, middle - half, middle + half, color="#999999", alpha=0.22, linewidth=0)
            panel.plot(at, middle, color="#555555", linewidth=0.9)
            reach.append(middle)
        words = [f"{label.name} {label.value(a)}\n{own.name} {own.value(b)}" for a, b in zip(part[name], part[measure])]
        looks.draw(chart, panel, part, x, y, words)
        panel.set_title(_correlation_title(table[name]), loc="left", fontsize=7)
        panel.set_xlabel(label.axis)
        panel.xaxis.set_major_locator(MaxNLocator(4))
    low, high = np.concatenate(reach).min(), np.concatenate(reach).max()
    axes[0].set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))  # of all panels; bands may run out of it
    for panel in axes:
        if panel.get_subplotspec().is_first_col():
            panel.set_ylabel(own.axis)
    looks.legend(figure, rows.dropna(subset=[measure]))
    cases = sorted({int(table[name]["pearson"]["n"]) for name in names})
    heading(figure, f"{title}, N = {' to '.join(map(str, dict.fromkeys((cases[0], cases[-1]))))}")
    return chart


def partners(correlations: pd.DataFrame, measure: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the rows of a table of correlations that speak of a column, by the other column and by kind."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in correlations.to_dict("records"):
        if measure in (row["x"], row["y"]):
            other = str(row["y"] if row["x"] == measure else row["x"])
            found.setdefault(other, {})[str(row["kind"])] = {str(key): value for key, value in row.items()}
    return {name: found[name] for name in ordered(found) if "pearson" in found[name]}


def _correlation_title(kinds: dict[str, dict[str, Any]]) -> str:
    linear, ranks = kinds["pearson"], kinds.get("spearman")
    if not np.isfinite(linear["r"]):
        return "no correlation"
    text = f"r = {decimals(linear['r'])}, {p_text(linear['p'])}"
    if ranks is not None and np.isfinite(ranks["r"]):
        text += f"\nρ = {decimals(ranks['r'])}, {p_text(ranks['p'])}"
    return text


def line_band(x: FloatArray, y: FloatArray, at: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the line of least squares at some places, and half the width of its 95 % band.

    Parameters
    ----------
    x, y : (N,) ndarray
        Complete cases, at least three.
    at : (M,) ndarray
        Where the line is wanted.

    Returns
    -------
    (M,) ndarray, (M,) ndarray
        The mean of y expected there, and how far its interval (Student's t) reaches to either side.
    """
    from scipy.special import stdtrit

    n, centre = len(x), x.mean()
    about = ((x - centre) ** 2).sum()
    slope = ((x - centre) * y).sum() / about
    fitted = y.mean() + slope * (at - centre)
    residual = y - y.mean() - slope * (x - centre)
    variance = (residual**2).sum() / (n - 2)
    se = np.sqrt(variance * (1.0 / n + (at - centre) ** 2 / about))
    return np.asarray(fitted), np.asarray(float(stdtrit(n - 2, 0.975)) * se)
