"""The correlations of all measurements over samples as a figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis import correlation_table
from histomri.core.columns import TITLES
from histomri.report.figures.charts import new_figure
from histomri.report.labels import label_of, ordered


def matrix_plot(rows: pd.DataFrame, title: str, by_hand: Sequence[str] = ()) -> Any:
    """Plot the correlations of all measurements over samples; stars mark p < 0.05, not adjusted.

    A small number is the N of a correlation that rests on fewer samples than others. None if fewer than two
    measurements vary.
    """
    names = ordered(name for name in (*TITLES, *by_hand) if name in rows and rows[name].nunique() > 2)
    if len(names) < 2:
        return None
    found = correlation_table(rows[names], names, kinds=("pearson",)).set_index(["x", "y"])
    size = len(names)
    r, p, n = np.eye(size), np.zeros((size, size)), np.zeros((size, size), dtype=int)
    for (x, y), row in found.iterrows():
        i, j = names.index(x), names.index(y)
        r[i, j] = r[j, i] = row["r"]
        p[i, j] = p[j, i] = row["p"]
        n[i, j] = n[j, i] = row["n"]
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
