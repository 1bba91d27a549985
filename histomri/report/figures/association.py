"""The figure of a measurement given by hand, such as Ki-67, against every metric of MRI and histology."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from scipy.special import stdtrit

from histomri.core.arrays import FloatArray
from histomri.core.columns import TITLES
from histomri.report.figures.charts import Card, Chart, Looks, heading, panels
from histomri.report.labels import label_of, ordered
from histomri.report.text import decimals, p_text


def association_card(
    rows: pd.DataFrame, correlations: pd.DataFrame, measure: str, looks: Looks, title: str
) -> Card | None:
    """Draw a measurement of the samples of one model and strategy, with the correlations of `histomri correlate`.

    None if it goes with no metric of which anything is known.
    """
    name = label_of(measure).name
    chart = _chart(rows, correlations, measure, looks, f"{name}: {title}")
    if chart is None:
        return None
    found = {other: kinds["pearson"] for other, kinds in partners(correlations, measure).items()}
    defined = {other: row for other, row in found.items() if np.isfinite(row["r"]) and label_of(other).name != other}
    text = "Pearson's r, with the line of least squares and its 95\u202f% band, and Spearman's ρ."
    if defined:
        other, row = max(defined.items(), key=lambda item: abs(item[1]["r"]))
        closest = f"Closest: {label_of(other).name}, r = {decimals(row['r'])}, {p_text(row['p'])}, N = {row['n']}."
        text = f"{closest} {text} p are of single tests; correlations.csv adjusts for their number."
    return Card(f"association_{measure}", f"What goes with {name}?", (text,), chart)


def _chart(rows: pd.DataFrame, correlations: pd.DataFrame, measure: str, looks: Looks, title: str) -> Chart | None:
    table = partners(correlations, measure)
    names = [name for name in table if name in rows and name in TITLES]
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
        tips = [f"{label.name} {label.value(a)}\n{own.name} {own.value(b)}" for a, b in zip(part[name], part[measure])]
        looks.draw(chart, panel, part, x, y, tips)
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
    """Return the rows of a table of correlations about a column, by the other column and by kind."""
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
    """Return the least-squares line of (N,) complete cases at (M,) places, and half the width of its 95 % band.

    The band is that of the expected mean (Student's t); three cases are the fewest.
    """
    n, centre = len(x), x.mean()
    about = ((x - centre) ** 2).sum()
    slope = ((x - centre) * y).sum() / about
    fitted = y.mean() + slope * (at - centre)
    residual = y - y.mean() - slope * (x - centre)
    variance = (residual**2).sum() / (n - 2)
    se = np.sqrt(variance * (1.0 / n + (at - centre) ** 2 / about))
    return np.asarray(fitted), np.asarray(float(stdtrit(n - 2, 0.975)) * se)
