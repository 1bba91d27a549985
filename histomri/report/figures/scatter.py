"""MRI against histology: a point per sample, and a point per voxel."""

from typing import Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

from histomri.report.collect import Key, Sample
from histomri.report.figures.charts import BLUE, ORANGE, Card, Chart, Looks, heading, legend_below, new_figure
from histomri.report.text import correlation_text, fit_label, label_of, rows_of, voxel_text

MOST_POINTS = 3000
# Columns of histology and MRI, and what they measure; voxels are compared by the first two.
PANELS = (
    ("vCS_histo_um", "vCS_mri_um", "Cell size vCS"),
    ("F_histo", "F_mri", "Intra-cellular fraction F"),
    ("CD_histo_mm2", "CD_mri_mm3", "Cell density CD"),
)
_VOXELS = (("fitted", "o", BLUE), ("at a bound", "s", ORANGE))


def samples_card(key: Key, rows: pd.DataFrame) -> Card | None:
    """Draw MRI against histology by a model and strategy, a point per sample: colour by group, marker by scanner.

    None if no sample has both.
    """
    shown = _known(rows, PANELS)
    if not shown:
        return None
    figure = new_figure(7.2, 3.0)
    chart, looks, texts = Chart(figure), Looks.of(rows), []
    for axes, (x, y, name) in zip(_panels(figure, len(shown)), shown):
        across, along = label_of(x, rows[x]), label_of(y, rows[y])
        tips = [f"{across.name} {across.value(a)}\n{along.name} {along.value(b)}" for a, b in zip(rows[x], rows[y])]
        looks.draw(chart, axes, rows, rows[x] / across.divisor, rows[y] / along.divisor, tips)
        found = correlation_text(rows[x], rows[y])
        axes.set_title(f"r = {found['r']}, p {found['p']}\nN = {found['n']}", loc="left")
        texts.append(f"{name}: {found['line'].rstrip('.')}.")
        _finish(axes, rows, x, y)
    looks.legend(figure, rows)
    heading(figure, fit_label(key))
    return Card("samples", f"One point per sample: {fit_label(key)}", tuple(texts), chart)


def voxels_card(sample: Sample, key: Key | None, seed: int = 0) -> Card | None:
    """Draw MRI against histology, a point per voxel of a sample; those with a parameter at its bound by themselves.

    None if the sample has no pairs of voxels. The seed is that of the choice among more than `MOST_POINTS` voxels.
    """
    if sample.voxels is None or key is None:
        return None
    rows = rows_of(sample.voxels, key)
    shown = _known(rows, PANELS[:2])
    if not shown:
        return None
    figure = new_figure(7.2, 3.5)
    chart, texts = Chart(figure), []
    drawn = rows if len(rows) <= MOST_POINTS else rows.sample(MOST_POINTS, random_state=seed).sort_index()
    at_bound = drawn["at_bound"].astype(bool)
    for axes, (x, y, name) in zip(_panels(figure, len(shown)), shown):
        for part, (_, marker, colour) in zip((drawn[~at_bound], drawn[at_bound]), _VOXELS):
            _draw_voxels(chart, axes, part.dropna(subset=[x, y]), x, y, marker, colour)
        found = voxel_text(rows, x, y)
        count = f"{found['n']} voxels, {found['n_eff']} independent"
        axes.set_title(f"r = {found['r']}, p {found['p']}\n{count}", loc="left")
        texts.append(f"{name}: {found['line'].rstrip('.')}.")
        _finish(axes, drawn, x, y)
    if len(drawn) < len(rows):
        texts.append(f"{len(drawn)} of {len(rows)} voxels drawn.")
    if at_bound.any():
        legend_below(figure, _VOXELS)
    heading(figure, f"{sample.id}: {fit_label(key)}")
    return Card(f"voxels_sub-{sample.id}", f"Voxel by voxel: {fit_label(key)}", tuple(texts), chart)


def _known(rows: pd.DataFrame, panels: tuple[tuple[str, str, str], ...]) -> list[tuple[str, str, str]]:
    """Return the panels that have a point."""
    return [(x, y, name) for x, y, name in panels if {x, y} <= set(rows) and rows[[x, y]].notna().all(axis=1).any()]


def _panels(figure: Any, count: int) -> list[Any]:
    """Return so many panels beside each other; a single one is as wide as one of two."""
    axes = list(figure.subplots(1, max(count, 2), squeeze=False).flat)
    for unused in axes[count:]:
        unused.set_visible(False)
    return axes[:count]


def _draw_voxels(chart: Chart, axes: Any, rows: pd.DataFrame, x: str, y: str, marker: str, colour: str) -> None:
    if rows.empty:
        return
    lines = [f"{label_of(name).name} {{}} {label_of(name).unit}".rstrip() for name in (x, y)]
    columns = (rows[name] for name in (*"ijk", x, y))
    values = [f"{i} {j} {k} {a:.3g} {b:.3g}" for i, j, k, a, b in zip(*columns)]
    template = "\n".join(["voxel {}, {}, {}", *lines])
    chart.cloud(axes, rows[x], rows[y], template, values, marker=marker, colour=colour, size=3.0)


def _finish(axes: Any, rows: pd.DataFrame, x: str, y: str) -> None:
    """Name the axes; where both sides have one unit, draw the line of equality."""
    across, along = label_of(x, rows[x]), label_of(y, rows[y])
    axes.set(xlabel=across.axis, ylabel=along.axis)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    if (across.unit, across.divisor) == (along.unit, along.divisor):
        both = rows[[x, y]].dropna().to_numpy(float)
        ends = [both.min(), both.max()]
        axes.plot(ends, ends, "--", color="#999999", linewidth=0.8, zorder=0)
