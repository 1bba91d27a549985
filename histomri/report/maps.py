"""The maps of a sample, ready for the page: pictures, scales, captions."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.orientation import View
from histomri.report.collect import Key, Run, Sample
from histomri.report.pictures import Scale, fit_scale, levels, number, packed, png
from histomri.report.text import best_fit, fit_label

_HIGHEST_ERROR = 98.0  # percentile
Maps = dict[str, FloatArray]


@dataclass(frozen=True)
class Quantity:
    """What is shown side by side, with the scale of either side (the same one where the units agree)."""

    name: str
    title: str
    histology: Scale
    mri: Scale
    mri_name: str = ""  # of its map, if it is another one

    @property
    def of_mri(self) -> str:
        """Name of the map of MRI."""
        return self.mri_name or self.name


def choose_scales(run: Run) -> dict[str, Quantity]:
    """Choose one scale per quantity for the whole run, so that samples can be compared by eye."""
    best = [(sample, best_fit(run, sample)) for sample in run.samples]

    def histology(name: str) -> list[FloatArray]:
        return [sample.section[name] for sample in run.samples if name in sample.section]

    def mri(name: str) -> list[FloatArray]:
        return [sample.fits[key][name] for sample, key in best if key is not None and name in sample.fits[key]]

    def shared(name: str, cmap: str, unit: str, title: str) -> Quantity:
        # The percentiles of each side are taken separately, or the one with more pixels would decide alone.
        sides = [fit_scale(side, cmap, unit, title) for side in (histology(name), mri(name)) if side]
        low, high = min((side.low for side in sides), default=0.0), max((side.high for side in sides), default=1.0)
        scale = Scale(max(low, 0.0), high, cmap, unit, title)
        return Quantity(name, title, scale, scale)

    title = "Cell density"
    # The few voxels with tiny cells have densities far beyond all others, and would leave these in the dark.
    dense = fit_scale(mri("CDsphere"), "cividis", "cells/mm³", f"{title}, MRI (CDsphere)", floor=0.0, top=85.0)
    volume = run.size == "volume"
    unit, what = ("per mm³", "histology") if volume else ("cells/mm²", "histology (CD)")
    sparse = fit_scale(histology("CD"), "cividis", unit, f"{title}, {what}", floor=0.0)
    return {
        "vCS": shared("vCS", "viridis", "µm", "Cell size vCS"),
        "F": shared("F", "magma", "", "Intra-cellular fraction F"),
        "CD": Quantity("CD", title, sparse, dense, "CDsphere"),
    }


def fit_id(key: Key) -> str:
    """Return a name for a model and strategy that HTML can carry."""
    return f"{key[0]}--{key[1]}"


def map_cards(sample: Sample, scales: dict[str, Quantity], best: Key | None) -> list[dict[str, Any]]:
    """Return, for each quantity, the section, the section on the MRI grid, and the fitted maps."""

    def shown(maps: Maps, name: str, scale: Scale, view: View | None, what: str) -> dict[str, Any] | None:
        return draw(maps.get(name), scale, view, what, maps.get(f"{name}_se"))

    cards = []
    for name, quantity in scales.items():
        section = shown(sample.section, name, quantity.histology, sample.section_view, "histology section")
        on_mri = shown(sample.on_mri, name, quantity.histology, sample.mri_view, "histology on the MRI grid")
        fits = []
        for key, maps in sample.fits.items():
            if one := shown(maps, quantity.of_mri, quantity.mri, sample.mri_view, f"MRI, {fit_label(key)}"):
                fits.append({"fit": fit_id(key), "shown": key == best, "label": fit_label(key), "map": one})
        if section or on_mri or fits:
            # One bar where both sides have one scale.
            bars = [colour_bar(scale) for scale in dict.fromkeys((quantity.histology, quantity.mri))]
            about = {"name": name, "title": quantity.title, "bars": bars}
            cards.append({**about, "section": section, "on_mri": on_mri, "fits": fits})
    return cards


def colour_bar(scale: Scale) -> dict[str, Any]:
    """Return the colour bar of a scale: gradient, ticks, title."""
    title = f"{scale.title} ({scale.unit})" if scale.unit else scale.title
    return {"gradient": scale.gradient(), "ticks": scale.ticks(), "title": title}


def aspect(shape: tuple[int, ...], view: View) -> str:
    """Return width over height of a picture, as CSS."""
    return f"{shape[1] * view.pixel_mm[0]:.4f} / {shape[0] * view.pixel_mm[1]:.4f}"


def draw(
    data: FloatArray | None, scale: Scale, view: View | None, what: str, error: FloatArray | None = None
) -> dict[str, Any] | None:
    """Return a picture for the page, with values and standard errors under the cursor, and its description."""
    if data is None or view is None:
        return None
    values, spread, errors = data[np.isfinite(data)], "nothing measured", ""
    if values.size:
        low, middle, high = (number(float(value)) for value in np.percentile(values, [5, 50, 95]))
        most = f"median {middle}, most from {low} to {high}"
        spread = most if values.size > 1 else f"{middle}, one value for all of it"
    known = error[np.isfinite(error)] if error is not None else np.zeros(0)
    # A few huge errors, where the data are uninformative, must not leave one level for all others.
    highest = 1.01 * float(np.percentile(known, _HIGHEST_ERROR)) if known.size else 0.0
    if error is not None and highest > 0:
        spread += f", standard error {number(float(np.median(known)))}"
        errors = packed(levels(error, Scale(0.0, highest, scale.cmap, scale.unit, "")))
    unit = f" {scale.unit}" if scale.unit else ""
    return {
        "src": png(data, scale), "errors": errors, "highest_error": highest, "rows": data.shape[0],
        "columns": data.shape[1], "aspect": aspect(data.shape, view), "low": scale.low, "high": scale.high,
        "unit": scale.unit, "alt": f"{scale.title.split(',')[0]}, {what}: {spread}{unit}", "spread": spread,
    }  # fmt: skip
