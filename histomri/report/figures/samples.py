"""MRI against histology: a point per sample, a point per voxel, and the maps of a sample."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from histomri.analysis.patients import codes_of
from histomri.core.arrays import FloatArray
from histomri.core.columns import PATIENT
from histomri.core.orientation import View
from histomri.report.collect import Key, Sample
from histomri.report.figures.charts import BLUE, ORANGE, Card, Chart, Looks, heading, legend_below, new_figure, panels
from histomri.report.maps import Quantity
from histomri.report.pictures import Scale, fit_scale, number
from histomri.report.text import correlation_text, fit_label, label_of, rows_of, voxel_text

MOST_POINTS = 3000
# Columns of histology and MRI, and what they measure; voxels are compared by the first two.
PANELS = (
    ("vCS_histo_um", "vCS_mri_um", "Cell size vCS"),
    ("F_histo", "F_mri", "Intra-cellular fraction F"),
    # CD of MRI is F/vCS³; as cells per volume, 6/π times it, it can stand on an axis of cells.
    ("CD_histo_mm2", "CDsphere_mri_mm3", "Cell density"),
    ("cellNV_histo_mm3", "CDsphere_mri_mm3", "Cell density"),
    ("nucleiNV_histo_mm3", "CDsphere_mri_mm3", "Density of nuclei against cell density"),
)
_VOXELS = (("fitted", "o", BLUE), ("at a bound", "s", ORANGE))


def samples_card(key: Key, rows: pd.DataFrame) -> Card | None:
    """Draw MRI against histology by a model and strategy, a point per sample; None if no sample has both."""
    shown = _known(rows, PANELS)
    if not shown:
        return None
    figure, places = panels(len(shown), max(len(shown), 2), height=2.4)
    chart, looks, texts = Chart(figure), Looks.of(rows), []
    patients = codes_of(rows[PATIENT])[0] if PATIENT in rows else None
    for axes, (x, y, name) in zip(places, shown):
        across, along = label_of(x, rows[x]), label_of(y, rows[y])
        tips = [f"{across.name} {across.value(a)}\n{along.name} {along.value(b)}" for a, b in zip(rows[x], rows[y])]
        looks.draw(chart, axes, rows, rows[x] / across.divisor, rows[y] / along.divisor, tips)
        found = correlation_text(rows[x], rows[y], patients=patients)
        axes.set_title(f"r = {found['r']}, p {found['p']}\nN = {found['n']}", loc="left")
        texts.append(f"{name}: {found['line'].rstrip('.')}.")
        _finish(axes, rows, x, y)
    looks.legend(figure, rows)
    heading(figure, fit_label(key))
    return Card("samples", f"One point per sample: {fit_label(key)}", tuple(texts), chart)


def voxels_card(sample: Sample, key: Key | None, seed: int = 0) -> Card | None:
    """Draw MRI against histology, a point per voxel; `seed` chooses among too many. None if there are no pairs."""
    rows = rows_of(sample.voxels, key) if sample.voxels is not None and key is not None else pd.DataFrame()
    shown = _known(rows, PANELS[:2])
    if key is None or not shown:
        return None
    figure, places = panels(len(shown), max(len(shown), 2), height=2.9)
    chart, texts = Chart(figure), []
    drawn = rows if len(rows) <= MOST_POINTS else rows.sample(MOST_POINTS, random_state=seed).sort_index()
    at_bound = drawn["at_bound"].astype(bool)
    for axes, (x, y, name) in zip(places, shown):
        for part, (_, marker, colour) in zip((drawn[~at_bound], drawn[at_bound]), _VOXELS):
            _draw_voxels(chart, axes, part.dropna(subset=[x, y]), x, y, marker, colour)
        found = voxel_text(rows, x, y)
        title = f"r = {found['r']}, beyond the edge {found['r_edge']} (p {found['p']})"
        title += f"\n{found['n']} voxels, {found['n_eff']} independent"
        axes.set_title(title, loc="left")
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


def _draw_voxels(chart: Chart, axes: Any, rows: pd.DataFrame, x: str, y: str, marker: str, colour: str) -> None:
    if rows.empty:
        return
    lines = [f"{label_of(name).name} {{}} {label_of(name).unit}".rstrip() for name in (x, y)]
    values = [f"{i} {j} {k} {a:.3g} {b:.3g}" for i, j, k, a, b in zip(*(rows[name] for name in (*"ijk", x, y)))]
    template = "\n".join(["voxel {}, {}, {}", *lines])
    chart.cloud(axes, rows[x], rows[y], template, values, marker=marker, colour=colour, size=3.0)


def _finish(axes: Any, rows: pd.DataFrame, x: str, y: str) -> None:
    """Name the axes; where both sides have one unit, draw the line of equality."""
    across, along = label_of(x, rows[x]), label_of(y, rows[y])
    axes.set(xlabel=across.axis, ylabel=along.axis)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    if (across.unit, across.divisor) == (along.unit, along.divisor):
        both = rows[[x, y]].dropna().to_numpy(float)
        ends = [both.min() / across.divisor, both.max() / across.divisor]
        axes.plot(ends, ends, "--", color="#999999", linewidth=0.8, zorder=0)


def maps_plot(sample: Sample, scales: dict[str, Quantity], best: Key | None) -> Any:
    """Plot the maps of a sample: histology on its own grid and on that of the MRI, the fit, and their difference."""
    fitted = sample.fits.get(best, {}) if best is not None else {}
    quantities = [quantity for name, quantity in scales.items() if name in sample.section or name in fitted]
    figure = new_figure(7.2, 0.4 + 2.1 * len(quantities))
    for row, quantity in zip(figure.subplots(len(quantities), 4, squeeze=False), quantities):
        fit = fitted.get(quantity.of_mri)
        section, on_mri = sample.section.get(quantity.name), sample.on_mri.get(quantity.name)
        same = quantity.histology is quantity.mri
        difference = fit - on_mri if same and fit is not None and on_mri is not None else None
        scale = _symmetric(difference, quantity.mri) if difference is not None else quantity.mri
        _show(figure, row[0], "section", section, quantity.histology, sample.section_view)
        _show(figure, row[1], "section on the MRI grid", on_mri, quantity.histology, sample.mri_view)
        _show(figure, row[2], "MRI", fit, quantity.mri, sample.mri_view)
        _show(figure, row[3], "MRI − histology", difference, scale, sample.mri_view)
        row[0].set_ylabel(quantity.title)
    heading(figure, f"{sample.id}: {fit_label(best)}" if best is not None else sample.id)
    return figure


def _symmetric(difference: FloatArray, scale: Scale) -> Scale:
    size = fit_scale([np.abs(difference)], "RdBu_r", scale.unit, "difference").high
    return Scale(-size, size, "RdBu_r", scale.unit, "difference")


def _show(figure: Any, axes: Any, title: str, picture: FloatArray | None, scale: Scale, view: View | None) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if picture is None or view is None:
        return
    if picture.size == 1:  # one patch for the whole section is no picture
        text = f"{number(float(picture.ravel()[0]))} {scale.unit}"
        axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
        return
    axes.set_title(title, fontsize=7.5)
    look = {"cmap": scale.cmap, "vmin": scale.low, "vmax": scale.high, "interpolation": "nearest"}
    drawn = axes.imshow(picture, aspect=view.pixel_mm[1] / view.pixel_mm[0], **look)
    bar = figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.85, aspect=18, pad=0.03, label=scale.unit)
    bar.locator = MaxNLocator(3)
    bar.formatter.set_powerlimits((-3, 4))
    bar.outline.set_visible(False)
    bar.update_ticks()
