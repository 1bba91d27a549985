"""Scatter plots with hover, by Bokeh, without anything from the network."""

import re
import uuid
from typing import Any

import numpy as np
import pandas as pd
from bokeh.document import Document
from bokeh.embed import components
from bokeh.models import ColumnDataSource, HoverTool, Range1d, Title
from bokeh.plotting import figure
from bokeh.resources import Resources

INK, MUTED, RULE = "#1d2a35", "#5b6b78", "#e3e8ec"
# Okabe & Ito, without the yellow that vanishes on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex", "star")
FONT = "system-ui, sans-serif"
MOST_POINTS = 3000
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def library() -> str:
    """Return the script element that holds Bokeh's own code."""
    return str(Resources(mode="inline", components=["bokeh"]).render_js())


def embed(figures: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Return one script for all figures and the element of each."""
    if not figures:
        return "", {}
    document = Document()
    with document.models.freeze():  # or each figure that is added would be searched together with all before it
        for each in figures.values():
            document.add_root(each)
    script, elements = components(figures)
    # Bokeh draws the names of its elements by chance; the same results should give the same file.
    names = {old: str(uuid.UUID(int=place)) for place, old in enumerate(dict.fromkeys(_UUID.findall(script)))}

    def named(text: str) -> str:
        return _UUID.sub(lambda found: names.setdefault(found[0], str(uuid.UUID(int=len(names)))), text)

    return named(str(script)), {key: named(str(element)) for key, element in elements.items()}


def voxel_scatter(voxels: pd.DataFrame, x: str, y: str, label: str, unit: str, seed: int = 0) -> Any:
    """Plot one MRI measurement against histology, one point per voxel.

    Parameters
    ----------
    voxels : DataFrame
        Rows of one model and strategy.
    x, y : str
        Columns of histology and MRI.
    label, unit : str
        Of the measurement.
    seed : int
        Of the choice of points, if there are more than `MOST_POINTS`.
    """
    columns = list(dict.fromkeys(["i", "j", "k", x, y, "at_bound"]))
    rows = voxels[columns].dropna(subset=[x, y])
    if len(rows) > MOST_POINTS:
        rows = rows.sample(MOST_POINTS, random_state=seed).sort_index()
    plot = _plot(label, unit, rows[x].to_numpy(float), rows[y].to_numpy(float))
    at_bound = rows["at_bound"].astype(bool)
    points = []
    for part, colour, name in ((rows[~at_bound], COLOURS[0], "fitted"), (rows[at_bound], COLOURS[1], "at a bound")):
        if not len(part):
            continue
        source = ColumnDataSource(
            {
                "x": part[x].to_numpy(np.float32),
                "y": part[y].to_numpy(np.float32),
                **{axis: part[axis].to_numpy(np.int16) for axis in "ijk"},
            }
        )
        points.append(
            plot.scatter(
                "x", "y", source=source, size=5, color=colour, alpha=0.45, line_color=None, legend_label=name,
                hover_alpha=1.0,
            )
        )  # fmt: skip
    _finish(plot, points, [("voxel i, j, k", "@i, @j, @k"), ("histology", "@x{0.000}"), ("MRI", "@y{0.000}")])
    return plot


def sample_scatter(rows: pd.DataFrame, x: str, y: str, label: str, x_unit: str, y_unit: str) -> Any:
    """Plot one MRI measurement against histology, one point per sample, a marker per group."""
    rows = rows.dropna(subset=[x, y])
    plot = _plot(label, x_unit, rows[x].to_numpy(float), rows[y].to_numpy(float), y_unit)
    groups = rows["group"].fillna("").astype(str)
    points = []
    for place, group in enumerate(sorted(groups.unique())):
        part = rows[groups == group]
        source = ColumnDataSource(
            {
                "x": part[x].to_numpy(float),
                "y": part[y].to_numpy(float),
                "sample": part["sample"].astype(str).tolist(),
                "group": [group or "none"] * len(part),
            }
        )
        points.append(
            plot.scatter(
                "x", "y", source=source, size=12, color=COLOURS[place % len(COLOURS)], alpha=0.9, line_color="white",
                marker=MARKERS[place % len(MARKERS)], legend_label=group or "all samples",
            )
        )  # fmt: skip
    _finish(
        plot, points, [("sample", "@sample"), ("group", "@group"), ("histology", "@x{0.000}"), ("MRI", "@y{0.000}")]
    )
    return plot


def _plot(label: str, x_unit: str, x: Any, y: Any, y_unit: str | None = None) -> Any:
    """Return an empty plot; with one unit for both sides it has one range and the line of equality."""
    same = y_unit is None or y_unit == x_unit
    plot = figure(
        height=330, sizing_mode="stretch_width", min_width=260, toolbar_location="above",
        tools="pan,wheel_zoom,box_zoom,reset,save", active_drag="box_zoom", background_fill_color="white",
        border_fill_color="white",
    )  # fmt: skip
    if len(x):
        ranges = [_range([*x, *y])] * 2 if same else [_range(x), _range(y)]
        plot.x_range, plot.y_range = Range1d(*ranges[0]), Range1d(*ranges[1])
        if same:
            plot.line(list(ranges[0]), list(ranges[0]), color=MUTED, line_dash="4 4", line_width=1)
    suffix = [f" ({unit})" if unit else "" for unit in (x_unit, x_unit if y_unit is None else y_unit)]
    # The title names the measurement; named again here it would run out of a narrow plot.
    plot.xaxis.axis_label, plot.yaxis.axis_label = f"Histology{suffix[0]}", f"MRI{suffix[1]}"
    plot.add_layout(Title(text=label, text_font_size="14px", text_color=INK, text_font=FONT), "above")
    for axis in (plot.xaxis, plot.yaxis):
        axis.axis_label_text_font_style, axis.axis_label_text_color = "normal", INK
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_size, axis.major_label_text_font_size = "13px", "12px"
        axis.major_label_text_color, axis.axis_line_color = MUTED, MUTED
        axis.minor_tick_line_color, axis.major_tick_line_color = None, MUTED
        axis.formatter.use_scientific = False
        axis.ticker.desired_num_ticks = 5  # more would run into each other on a narrow plot
    plot.xgrid.grid_line_color = plot.ygrid.grid_line_color = RULE
    plot.outline_line_color, plot.toolbar.logo, plot.toolbar.autohide = None, None, True
    return plot


def _finish(plot: Any, points: list[Any], tips: list[tuple[str, str]]) -> None:
    plot.add_tools(HoverTool(renderers=points, tooltips=tips))
    if plot.legend:
        legend = plot.legend[0]
        # Below the plot: inside it would lie on points.
        plot.add_layout(legend, "below")
        legend.orientation, legend.ncols, legend.click_policy = "horizontal", 3, "hide"
        legend.background_fill_alpha, legend.border_line_color = 0.8, None
        legend.label_text_font = FONT
        legend.label_text_font_size, legend.padding, legend.spacing = "12px", 4, 0
        legend.visible = len(points) > 1


def _range(values: Any) -> tuple[float, float]:
    low, high = float(np.min(values)), float(np.max(values))
    margin = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin
