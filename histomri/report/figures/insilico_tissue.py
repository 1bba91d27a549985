"""The tissue of an in-silico study: its substrates, and the ADC of the water in its cells over the diffusion time."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.patches import Circle, Rectangle

from histomri.report.figures.charts import Card, Chart, heading, new_figure

_SHADES = ("#0072b2", "#56b4e9", "#e69f00", "#d55e00", "#cc79a7", "#000000")
_CELL, _RIM, _BETWEEN = "#f2c6b4", "#b4532a", "#eaf1f6"
_SHOWN_UM = 75.0  # of the widest picture of a substrate
_PANELS = {
    "size": ("vCS_um", "vCS {:g} µm", "cell size"),
    "D0I": ("D0I_um2_ms", "D0I {:.2g} µm²/ms", "diffusivity in the cells"),
    "permeability": ("kappa_um_s", "κ {:g} µm/s", "permeability"),
}


def substrates_card(fractions: Sequence[float], diameters_um: Sequence[float]) -> Card:
    """Draw cross-sections of the lattices through the centres of cells: all fractions, smallest and largest cells."""
    sizes = list(dict.fromkeys((min(diameters_um), max(diameters_um))))
    span = min(_SHOWN_UM, 4.0 * max(sizes))
    figure = new_figure(7.2, 0.5 + (7.0 / max(len(fractions), 3) + 0.15) * len(sizes))
    panels = figure.subplots(len(sizes), len(fractions), squeeze=False)
    for axes, (size, fraction) in zip(panels.flat, product(sizes, sorted(fractions))):
        _section(axes, size, fraction, span)
    bar = Rectangle((0.04 * span, 0.035 * span), 20.0, 0.018 * span, color="black", zorder=4)
    panels[-1, 0].add_patch(bar)
    panels[-1, 0].text(
        0.04 * span + 10.0, 0.075 * span, "20 µm", ha="center", va="bottom", fontsize=7, zorder=5,
        bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1.0},
    )  # fmt: skip
    heading(figure, "Substrates: cross-sections through the centres of the cells, to scale")
    texts = (
        "Equal spheres on a cubic lattice; on the section each has its full diameter. The spaces between them connect "
        f"in three dimensions. Diameters of the study: {', '.join(f'{each:g}' for each in diameters_um)} µm.",
    )
    return Card("substrates", "In which tissue does the water walk?", texts, Chart(figure))


def _section(axes: Any, size: float, fraction: float, span: float) -> None:
    edge = size * (math.pi / (6.0 * fraction)) ** (1.0 / 3.0)
    axes.add_patch(Rectangle((0.0, 0.0), span, span, facecolor=_BETWEEN, linewidth=0))
    middles = (np.arange(math.ceil(span / edge) + 1) + 0.5) * edge
    for x, y in product(middles, middles):
        axes.add_patch(Circle((x, y), 0.5 * size, facecolor=_CELL, edgecolor=_RIM, linewidth=0.7))
    axes.set(xlim=(0, span), ylim=(0, span), aspect="equal", xticks=[], yticks=[])
    axes.set_title(f"F {fraction:.3g}, {size:g} µm", loc="left")
    axes.spines[:].set_visible(False)


def adc_card(adc: pd.DataFrame) -> Card:
    """Draw ADC of the water that starts in the cells over Δ, beside that of closed spheres."""
    shown = [name for name in _PANELS if (adc["varies"] == name).any()]
    figure = new_figure(7.2, 3.1)
    panels, chart = figure.subplots(1, len(shown), squeeze=False, sharey=True), Chart(figure)
    for axes, name in zip(panels.flat, shown):
        _over_time(chart, axes, adc[adc["varies"] == name], name)
    panels[0, 0].set_ylabel("ADC of intra-cellular water (µm²/ms)")
    panels[0, 0].set_ylim(bottom=0)
    heading(figure, "ADC of the water that starts in the cells. Points: walks; dashed: closed spheres (Gaussian phase)")
    closed = adc[adc["varies"] == "size"]["kappa_um_s"].iloc[0] if (adc["varies"] == "size").any() else 0.0
    texts = (
        "Pulses of 2.5 ms, b 300 s/mm². In closed spheres the ADC falls with Δ, which is what makes size measurable. "
        f"Water that leaves through the membrane (κ {closed:g} µm/s in the first two panels) walks on outside: the ADC "
        "falls less, or rises, and a model without exchange sees larger cells. Bars are 95\u202f% intervals.",
    )
    return Card("adc-time", "How does exchange change what the models see?", texts, chart)


def _over_time(chart: Chart, axes: Any, table: pd.DataFrame, name: str) -> None:
    column, label, title = _PANELS[name]
    for place, (value, part) in enumerate(table.groupby(column)):
        colour, text = _SHADES[place % len(_SHADES)], label.format(value)
        axes.plot(part["Delta_ms"], part["ADC_sphere_um2_ms"], linestyle="--", color=colour, linewidth=0.9)
        ends = 1.96 * part["ADC_se_um2_ms"]
        axes.vlines(part["Delta_ms"], part["ADC_um2_ms"] - ends, part["ADC_um2_ms"] + ends, color=colour, linewidth=1.0)
        tips = [
            f"{text}\nΔ {time:g} ms: {adc:.3g} ± {error:.1g} µm²/ms\nclosed sphere {closed:.3g}"
            for time, adc, error, closed in zip(
                part["Delta_ms"], part["ADC_um2_ms"], part["ADC_se_um2_ms"], part["ADC_sphere_um2_ms"]
            )
        ]
        chart.points(axes, part["Delta_ms"], part["ADC_um2_ms"], tips, marker="o", color=colour, markersize=3.5)
        axes.plot([], [], "o", color=colour, markersize=3.5, label=text)
    axes.set_xlabel("Δ (ms)")
    axes.set_title(title, loc="left")
    axes.legend(fontsize=6.5, handletextpad=0.2, borderaxespad=0.2, loc="best")
