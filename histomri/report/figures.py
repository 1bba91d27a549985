"""The figures of a run for a paper: as files, by matplotlib."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from histomri.analysis import correlation_table
from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.files import atomic_path
from histomri.core.orientation import View
from histomri.report.charts import STYLE, new_figure
from histomri.report.collect import Run, Sample, collect
from histomri.report.figures_residuals import residuals_plot
from histomri.report.labels import LABELS, label_of, ordered
from histomri.report.maps import Quantity, choose_scales, fit_label
from histomri.report.pictures import Scale, fit_scale, number
from histomri.report.ranking import ranking_plot
from histomri.report.scatter import samples_card, voxels_card
from histomri.report.statistics import statistics_cards
from histomri.report.words import best_fit, best_rows

FigureFormat = Literal["svg", "pdf", "png"]
_FEWEST = 3  # samples of a figure over samples


def write_figures(folder: str | Path, kind: FigureFormat, out: str | Path | None = None) -> list[Path]:
    """Write every figure of a run as a file of its own.

    Parameters
    ----------
    folder : path-like
        Results folder of a run.
    kind : {"svg", "pdf", "png"}
        File format; png has 300 dots per inch.
    out : path-like, optional
        Folder for the figures; ``figures`` in the results folder by default.

    Returns
    -------
    list of Path
        ranking, ranking_<scanner>, samples, correlations, agreement, regression, groups, association_<measurement>,
        prediction_<basis>, residuals_<scanner>, maps_sub-<id>, voxels_sub-<id>: those there are data for.

    Raises
    ------
    InputError
        If the folder holds no study.json, or the format is unknown.
    """
    if kind not in get_args(FigureFormat):
        raise InputError(f"there is no format {kind!r}", hint=f"choose {', '.join(get_args(FigureFormat))}")
    from matplotlib import rc_context

    run = collect(Path(folder))
    target = Path(out) if out is not None else Path(folder) / "figures"
    written = []
    with rc_context(STYLE):
        for name, figure in _figures(run):
            path = target / f"{name}.{kind}"
            # Times in the files would make every run of the same study differ.
            stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
            with atomic_path(path) as temporary:
                figure.savefig(temporary, format=kind, metadata=stamp)
            written.append(path)
    return written


def _figures(run: Run) -> Iterator[tuple[str, Any]]:
    if run.ranking:
        yield "ranking", ranking_plot(run.ranking)
    for scanner, ranking in run.scanners.items():
        yield f"ranking_{_plain(scanner)}", ranking_plot(ranking)
    yield from _over_samples(run)
    for card in statistics_cards(run):
        yield card.name, card.chart.figure
    for scanner, table in residuals_by_scanner(run).items():
        yield f"residuals_{_plain(scanner)}", residuals_plot(table, scanner)
    scales = choose_scales(run)
    for sample in run.samples:
        best = best_fit(run, sample)
        if sample.section or sample.fits:
            yield f"maps_sub-{sample.id}", maps_plot(sample, scales, best)
        voxels = voxels_card(sample, best)
        if voxels is not None:
            yield voxels.name, voxels.chart.figure


def _over_samples(run: Run) -> Iterator[tuple[str, Any]]:
    found = best_rows(run)
    if found is None or len(found[1]) < _FEWEST:
        return
    card = samples_card(*found)
    if card is not None:
        yield card.name, card.chart.figure
    matrix = matrix_plot(found[1], fit_label(found[0]), run.measures)
    if matrix is not None:
        yield "correlations", matrix


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in name)


def matrix_plot(rows: pd.DataFrame, title: str, by_hand: Sequence[str] = ()) -> Any:
    """Plot the correlations of all measurements over samples; stars mark p < 0.05 as they stand.

    A small number is the N of a correlation that rests on fewer samples than others.

    None if fewer than two measurements vary.
    """
    names = ordered(name for name in (*LABELS, *by_hand) if name in rows and rows[name].nunique() > 2)
    if len(names) < 2:
        return None
    labels = [label_of(name).name for name in names]
    found = correlation_table(rows[names], names, kinds=("pearson",)).set_index(["x", "y"])
    r, p, n = np.eye(len(names)), np.zeros((len(names),) * 2), np.zeros((len(names),) * 2, dtype=int)
    for (x, y), row in found.iterrows():
        i, j = names.index(x), names.index(y)
        r[i, j] = r[j, i] = row["r"]
        p[i, j] = p[j, i] = row["p"]
        n[i, j] = n[j, i] = row["n"]
    shown = np.isfinite(r) & (n > 0)
    fewest, most = (int(n[shown].min()), int(n[shown].max())) if shown.any() else (0, 0)
    figure = new_figure(1.6 + 0.42 * len(names), 1.2 + 0.42 * len(names))
    axes = figure.subplots()
    picture = axes.imshow(r, cmap="RdBu_r", vmin=-1, vmax=1)
    for i in range(len(names)):
        for j in range(len(names)):
            if i != j and np.isfinite(r[i, j]):
                text = f"{r[i, j]:.2f}{'*' if p[i, j] < 0.05 else ''}".replace("-", "\u2212")
                look = {"ha": "center", "va": "center", "color": "white" if abs(r[i, j]) > 0.6 else "k"}
                axes.text(j, i, text, fontsize=6.5, **look)
                if n[i, j] < most:
                    axes.text(j, i + 0.34, str(n[i, j]), fontsize=4.5, **look)
    axes.set_xticks(range(len(names)), labels, rotation=50, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    number = f"N = {most}" if fewest == most else f"N = {fewest} to {most} (small, where below {most})"
    axes.set_title(f"Pearson's r over samples, {number}\n* p < 0.05, not adjusted; {title}", loc="left")
    figure.colorbar(picture, ax=axes, shrink=0.7, label="r")
    return figure


def residuals_by_scanner(run: Run) -> dict[str, pd.DataFrame]:
    """Return what the fits leave unexplained, by scanner."""
    if run.residuals is None:
        return {}
    return {str(scanner): table for scanner, table in run.residuals.groupby("scanner", sort=False)}


def maps_plot(sample: Sample, scales: dict[str, Quantity], best: tuple[str, str] | None) -> Any:
    """Plot the maps of a sample: histology on its own grid and on that of the MRI, the fit, and their difference."""
    fitted = sample.fits.get(best, {}) if best is not None else {}
    quantities = [quantity for name, quantity in scales.items() if name in sample.section or name in fitted]
    figure = new_figure(7.2, 0.4 + 2.1 * len(quantities))
    panels = figure.subplots(len(quantities), 4, squeeze=False)
    for row, quantity in zip(panels, quantities):
        fit = fitted.get(quantity.name)
        section, on_mri = sample.section.get(quantity.name), sample.on_mri.get(quantity.name)
        same = quantity.histology is quantity.mri
        difference = fit - on_mri if same and fit is not None and on_mri is not None else None
        _show(figure, row[0], "section", section, quantity.histology, sample.section_view)
        _show(figure, row[1], "section on the MRI grid", on_mri, quantity.histology, sample.mri_view)
        _show(figure, row[2], "MRI", fit, quantity.mri, sample.mri_view)
        scale = _symmetric(difference, quantity.mri) if difference is not None else quantity.mri
        _show(figure, row[3], "MRI − histology", difference, scale, sample.mri_view)
        row[0].set_ylabel(quantity.title)
    name = f"{sample.id}: {fit_label(best)}" if best is not None else sample.id
    figure.suptitle(name, fontsize=9, x=0.01, ha="left")
    return figure


def _symmetric(difference: FloatArray, scale: Scale) -> Scale:
    size = fit_scale([np.abs(difference)], "RdBu_r", scale.unit, "difference").high
    return Scale(-size, size, "RdBu_r", scale.unit, "difference")


def _show(figure: Any, axes: Any, title: str, picture: FloatArray | None, scale: Scale, view: View | None) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if picture is None or view is None:
        return
    if picture.size == 1:  # one patch for the whole section is no picture
        text = f"{number(float(picture.ravel()[0]))} {scale.unit}"
        axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
        return
    axes.set_title(title, fontsize=7.5)
    drawn = axes.imshow(
        picture, cmap=scale.cmap, vmin=scale.low, vmax=scale.high, interpolation="nearest",
        aspect=view.pixel_mm[1] / view.pixel_mm[0],
    )  # fmt: skip
    bar = figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.85, aspect=18, pad=0.03, label=scale.unit)
    bar.locator = MaxNLocator(3)
    bar.formatter.set_powerlimits((-3, 4))
    bar.outline.set_visible(False)
    bar.update_ticks()
