"""The maps of a sample as a figure."""

from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from histomri.core.arrays import FloatArray
from histomri.core.orientation import View
from histomri.report.collect import Key, Sample
from histomri.report.figures.charts import heading, new_figure
from histomri.report.maps import Quantity
from histomri.report.pictures import Scale, fit_scale, number
from histomri.report.text import fit_label


def maps_plot(sample: Sample, scales: dict[str, Quantity], best: Key | None) -> Any:
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
