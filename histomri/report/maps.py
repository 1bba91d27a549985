"""The maps of a sample, ready for the page: pictures, scales, captions."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.orientation import View
from histomri.report.collect import Run, Sample
from histomri.report.pictures import Scale, fit_scale, levels, number, packed, png
from histomri.report.words import STRATEGIES, best_fit, model_name

_HIGHEST_ERROR = 98.0  # percentile


@dataclass(frozen=True)
class Quantity:
    """What is shown side by side, with the scale of either side (the same one where the units agree)."""

    name: str
    title: str
    histology: Scale
    mri: Scale


def choose_scales(run: Run) -> dict[str, Quantity]:
    """Choose one scale per quantity for the whole run, so that samples can be compared by eye."""
    best = {id(sample): best_fit(run, sample) for sample in run.samples}

    def histology(name: str) -> list[FloatArray]:
        return [sample.section[name] for sample in run.samples if name in sample.section]

    def mri(name: str) -> list[FloatArray]:
        found = []
        for sample in run.samples:
            key = best[id(sample)]
            if key is not None and name in sample.fits[key]:
                found.append(sample.fits[key][name])
        return found

    def shared(name: str, cmap: str, unit: str, title: str) -> Scale:
        # Each side is asked for its percentiles separately, or the one with more pixels would decide alone.
        sides = [fit_scale(side, cmap, unit, title) for side in (histology(name), mri(name)) if side]
        low, high = min((side.low for side in sides), default=0.0), max((side.high for side in sides), default=1.0)
        return Scale(max(low, 0.0), high, cmap, unit, title)

    size = shared("vCS", "viridis", "µm", "Cell size vCS")
    fraction = shared("F", "magma", "", "Intra-cellular fraction F")
    return {
        "vCS": Quantity("vCS", "Cell size vCS", size, size),
        "F": Quantity("F", "Intra-cellular fraction F", fraction, fraction),
        "CD": Quantity(
            "CD",
            "Cell density CD",
            fit_scale(histology("CD"), "cividis", "cells/mm²", "Cell density CD, histology", floor=0.0),
            # The few voxels with tiny cells have densities far beyond all others, and would leave these in the dark.
            fit_scale(mri("CD"), "cividis", "cells/mm³", "Cell density CD, MRI", floor=0.0, top=85.0),
        ),
    }


def fit_id(key: tuple[str, str]) -> str:
    """Return a name for a model and strategy that HTML can carry."""
    return f"{key[0]}--{key[1]}"


def fit_label(key: tuple[str, str]) -> str:
    """Return a name for a model and strategy that people read."""
    return f"{model_name(key[0])}, {STRATEGIES.get(key[1], key[1])}"


def map_cards(sample: Sample, scales: dict[str, Quantity], best: tuple[str, str] | None) -> list[dict[str, Any]]:
    """Return, for each quantity, the section, the section on the MRI grid, and the fitted maps."""
    cards = []
    for name, quantity in scales.items():
        error = f"{name}_se"
        section = draw(
            sample.section.get(name),
            quantity.histology,
            sample.section_view,
            "histology section",
            sample.section.get(error),
        )
        on_mri = draw(
            sample.on_mri.get(name),
            quantity.histology,
            sample.mri_view,
            "histology on the MRI grid",
            sample.on_mri.get(error),
        )
        fits = []
        for key, maps in sample.fits.items():
            one = draw(maps.get(name), quantity.mri, sample.mri_view, f"MRI, {fit_label(key)}", maps.get(error))
            if one:
                fits.append({"fit": fit_id(key), "shown": key == best, "label": fit_label(key), "map": one})
        if section or on_mri or fits:
            cards.append(
                {
                    "name": name,
                    "title": quantity.title,
                    "section": section,
                    "on_mri": on_mri,
                    "fits": fits,
                    "bars": _bars(quantity),
                }
            )
    return cards


def _bars(quantity: Quantity) -> list[dict[str, Any]]:
    scales = [quantity.histology] if quantity.histology is quantity.mri else [quantity.histology, quantity.mri]
    return [colour_bar(scale) for scale in scales]


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
    """Return a picture for the page, with values and standard errors under the cursor, and what it shows in words."""
    if data is None or view is None:
        return None
    values = data[np.isfinite(data)]
    unit = f" {scale.unit}" if scale.unit else ""
    if values.size:
        low, middle, high = (number(float(value)) for value in np.percentile(values, [5, 50, 95]))
        spread = (
            f"median {middle}, most from {low} to {high}" if values.size > 1 else f"{middle}, one value for all of it"
        )
    else:
        spread = "nothing measured"
    known = error[np.isfinite(error)] if error is not None else np.zeros(0)
    # A few huge errors, where the data tell nothing, must not leave one level for all others.
    highest = 1.01 * float(np.percentile(known, _HIGHEST_ERROR)) if known.size else 0.0
    if highest > 0:
        spread += f", standard error {number(float(np.median(known)))}"
    return {
        "src": png(data, scale),
        "errors": packed(levels(error, Scale(0.0, highest, scale.cmap, scale.unit, "")))
        if error is not None and highest
        else "",
        "highest_error": highest,
        "rows": data.shape[0],
        "columns": data.shape[1],
        "aspect": aspect(data.shape, view),
        "low": scale.low,
        "high": scale.high,
        "unit": scale.unit,
        "alt": f"{scale.title.split(',')[0]}, {what}: {spread}{unit}",
        "spread": spread,
    }
