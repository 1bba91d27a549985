"""The figures of correlations: of all measurements, and of one given by hand, such as Ki-67, with every metric."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from scipy.special import stdtrit

from histomri.analysis import correlation_table
from histomri.analysis.patients import codes_of
from histomri.core.arrays import FloatArray
from histomri.core.columns import PATIENT, TITLES
from histomri.report.figures.charts import Card, Chart, Looks, heading, new_figure, panels
from histomri.report.text import decimals, label_of, ordered, p_text


def matrix_plot(rows: pd.DataFrame, title: str, by_hand: Sequence[str] = ()) -> Any:
    """Plot the correlations of all measurements over samples; stars mark p < 0.05, not adjusted.

    A small number is the N of a correlation that rests on fewer samples than others. None if fewer than two
    measurements vary.
    """
    names = ordered(name for name in (*TITLES, *by_hand) if name in rows and rows[name].nunique() > 2)
    if len(names) < 2:
        return None
    patients = pd.Series(codes_of(rows[PATIENT])[0], index=rows.index) if PATIENT in rows else None
    found = correlation_table(rows[names], names, kinds=("pearson",), patients=patients).set_index(["x", "y"])
    size = len(names)
    r, p, n = np.eye(size), np.zeros((size, size)), np.zeros((size, size), dtype=int)
    for (x, y), row in found.iterrows():
        i, j = names.index(x), names.index(y)
        for matrix, value in zip((r, p, n), row[["r", "p", "n"]]):
            matrix[i, j] = matrix[j, i] = value
    shown = np.isfinite(r) & (n > 0)
    fewest, most = (int(n[shown].min()), int(n[shown].max())) if shown.any() else (0, 0)
    figure = new_figure(1.6 + 0.42 * size, 1.2 + 0.42 * size)
    axes = figure.subplots()
    picture = axes.imshow(r, cmap="RdBu_r", vmin=-1, vmax=1)
    for i, j in np.argwhere(np.isfinite(r) & ~np.eye(size, dtype=bool)).tolist():
        text = f"{r[i, j]:.2f}{'*' if p[i, j] < 0.05 else ''}".replace("-", "\u2212")
        look = {"ha": "center", "va": "center", "color": "white" if abs(r[i, j]) > 0.6 else "k"}
        axes.text(j, i, text, fontsize=6.5, **look)
        if n[i, j] < most:
            axes.text(j, i + 0.34, str(n[i, j]), fontsize=4.5, **look)
    labels = [label_of(name).name for name in names]
    axes.set_xticks(range(size), labels, rotation=50, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    number = f"N = {most}" if fewest == most else f"N = {fewest} to {most} (small, where below {most})"
    axes.set_title(f"Pearson's r over samples, {number}\n* p < 0.05, not adjusted; {title}", loc="left")
    figure.colorbar(picture, ax=axes, shrink=0.7, label="r")
    return figure


def association_card(
    rows: pd.DataFrame, correlations: pd.DataFrame, measure: str, looks: Looks, title: str
) -> Card | None:
    """Draw a measurement against every metric, with the correlations of `histomri correlate`; None without any."""
    name = label_of(measure).name
    chart = _chart(rows, correlations, measure, looks, f"{name}: {title}")
    if chart is None:
        return None
    partners = {name: kinds["pearson"] for name, kinds in _partners(correlations, measure).items() if name in TITLES}
    defined = {label_of(name): row for name, row in partners.items() if np.isfinite(row["r"])}
    text = "Pearson's r, with the line of least squares and its 95\u202f% band, and Spearman's ρ."
    if defined:
        label, row = max(defined.items(), key=lambda item: abs(item[1]["r"]))
        closest = f"Closest: {label.name}, r = {decimals(row['r'])}, {p_text(row['p'])}, N = {row['n']}."
        text = f"{closest} {text} p are of single tests; correlations.csv adjusts for their number."
    return Card(f"association_{measure}", f"What goes with {name}?", (text,), chart)


def _chart(rows: pd.DataFrame, correlations: pd.DataFrame, measure: str, looks: Looks, title: str) -> Chart | None:
    table = _partners(correlations, measure)
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
        if panel.get_subplotspec().is_first_col():
            panel.set_ylabel(own.axis)
    low, high = np.concatenate(reach).min(), np.concatenate(reach).max()
    axes[0].set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))  # of all panels; bands may run out of it
    looks.legend(figure, rows.dropna(subset=[measure]))
    cases = sorted({int(table[name]["pearson"]["n"]) for name in names})
    heading(figure, f"{title}, N = {' to '.join(map(str, dict.fromkeys((cases[0], cases[-1]))))}")
    return chart


def _partners(correlations: pd.DataFrame, measure: str) -> dict[str, dict[str, dict[str, Any]]]:
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
    se = np.sqrt((residual**2).sum() / (n - 2) * (1.0 / n + (at - centre) ** 2 / about))
    return np.asarray(fitted), np.asarray(float(stdtrit(n - 2, 0.975)) * se)
