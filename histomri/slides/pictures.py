"""Pictures of the cells, pixels or vacuoles that were counted, for a person to check."""

from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from histomri.core.arrays import BoolArray, FloatArray
from histomri.slides.labelling import HotSpot
from histomri.slides.slide import RGB
from histomri.slides.vacuoles import Vacuoles

_POSITIVE, _NEGATIVE, _OTHER = (0.55, 0.27, 0.07), (0.25, 0.45, 0.75), (0.75, 0.75, 0.75)
_STAINED, _OUTLINE, _SPOT = (1.0, 0.0, 0.6), (0.0, 0.55, 0.1), (0.85, 0.1, 0.1)
_SIZES = ((0.0, 0.45, 0.9), (0.9, 0.35, 0.0), (0.5, 0.0, 0.6), (0.0, 0.5, 0.2))
_MOST_DOTS = 100_000
_LONG_SIDE = 1000


def draw_cells(
    x_um: FloatArray, y_um: FloatArray, positive: BoolArray, negative: BoolArray, *, title: str,
    region: BaseGeometry | None = None, spot: HotSpot | None = None,
) -> Figure:  # fmt: skip
    """Draw the cells that were counted, the region and the hot spot; return a Figure."""
    figure, (axis,) = _figure(1, (8, 8.4))
    other = ~(positive | negative)
    layers = ((other, _OTHER, "not counted"), (negative, _NEGATIVE, "negative"), (positive, _POSITIVE, "positive"))
    many = x_um.size > _MOST_DOTS
    if many:
        _draw_binned(axis, x_um, y_um, layers)
    size = float(np.clip(4e4 / max(x_um.size, 1), 0.5, 14))
    for which, colour, name in layers:
        label = f"{name} ({np.count_nonzero(which):,})"
        # On top of a binned picture the dots are there for the legend only.
        x, y = ([], []) if many else (x_um[which], y_um[which])
        axis.scatter(x, y, s=20 if many else size, color=colour, linewidths=0, label=label)
    if region is not None:
        _outline(axis, region)
    if spot is not None:
        edge, (left, top) = spot.window_um, spot.corner_um
        axis.plot(
            [left, left + edge, left + edge, left, left], [top, top, top + edge, top + edge, top], color=_SPOT,
            linewidth=2, label=f"hot spot ({spot.index.value:.1%} of {spot.index.n_counted:,})",
        )  # fmt: skip
    axis.set(aspect="equal", xlabel="x (µm)", ylabel="y (µm)")
    axis.invert_yaxis()
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=4, frameon=False, markerscale=2)
    axis.set_title(title, parse_math=False)
    return figure


def draw_stain(
    overview: RGB, overview_fraction: FloatArray, detail: RGB, detail_stained: BoolArray, detail_counted: BoolArray, *,
    title: str, field_um: tuple[float, float], grid_um: tuple[float, float],
    detail_um: tuple[float, float, float, float], outlines: tuple[BaseGeometry, ...],
) -> Figure:  # fmt: skip
    """Draw the slide with its stained fraction, and a part of it pixel by pixel; return a Figure.

    `overview_fraction` (ny, nx) is NaN where nothing was counted; its grid, of size `grid_um`, starts at the corner of
    the slide and may reach a little beyond it. The detail lies at `detail_um` (x low, y low, x high, y high).
    """
    figure, axes = _figure(3, (15, 5.6))
    axes[0].imshow(_paled(overview), extent=(0, field_um[0], field_um[1], 0))
    layer = np.full((*overview_fraction.shape, 4), (*_STAINED, 0.0))
    layer[..., 3] = np.clip(np.nan_to_num(overview_fraction), 0, 1) ** 0.5
    axes[0].imshow(layer, extent=(0, grid_um[0], grid_um[1], 0), interpolation="nearest")
    for outline in outlines:
        _outline(axes[0], outline)
    low_x, low_y, high_x, high_y = detail_um
    axes[0].plot([low_x, high_x, high_x, low_x, low_x], [low_y, low_y, high_y, high_y, low_y], color="black")
    axes[0].set(xlim=(0, field_um[0]), ylim=(field_um[1], 0), ylabel="y (µm)")
    counted = np.where(detail_counted[..., None], detail, _paled(detail))
    counted[detail_stained & detail_counted] = np.round(np.array(_STAINED) * 255)
    for axis, picture in ((axes[1], detail), (axes[2], counted)):
        axis.imshow(picture, extent=(low_x, high_x, high_y, low_y), interpolation="nearest")
    shown = "stained fraction (magenta), counted region (green)", "the black frame: as it is"
    for axis, subtitle in zip(axes, (*shown, "stained pixels (magenta); pale: not counted")):
        axis.set(aspect="equal", xlabel="x (µm)", title=subtitle)
    figure.suptitle(title, parse_math=False)
    return figure


def _draw_binned(axis: Any, x: FloatArray, y: FloatArray, layers: tuple[tuple[BoolArray, Any, str], ...]) -> None:
    """Draw so many cells that dots would hide each other: a pixel has the mean colour of its cells."""
    low = x.min(), y.min()
    pixel = max(float(max(np.ptp(x), np.ptp(y))) / _LONG_SIDE, 1e-9)
    column, row = ((values - start) // pixel for values, start in zip((x, y), low))
    shape = int(row.max()) + 1, int(column.max()) + 1
    flat = (row * shape[1] + column).astype(np.intp)
    counts = np.stack([np.bincount(flat[which], minlength=shape[0] * shape[1]) for which, _, _ in layers], axis=-1)
    total = counts.sum(axis=-1, keepdims=True)
    colours = counts @ np.array([colour for _, colour, _ in layers]) / np.maximum(total, 1)
    picture = np.where(total > 0, colours, 1.0).reshape(*shape, 3)
    extent = (low[0], low[0] + shape[1] * pixel, low[1] + shape[0] * pixel, low[1])
    axis.imshow(picture, extent=extent, interpolation="nearest")


def _outline(axis: Any, region: BaseGeometry) -> None:
    for ring in shapely.get_rings(shapely.get_parts(region)):
        points = shapely.get_coordinates(ring)
        axis.plot(points[:, 0], points[:, 1], color=_OUTLINE, linewidth=1)


def _paled(picture: RGB) -> NDArray[np.uint8]:
    return (picture // 2 + 127).astype(np.uint8)


def _figure(columns: int, size: tuple[float, float]) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, columns, number + 1) for number in range(columns)]


def draw_fat(
    overview: RGB, fraction: FloatArray, detail: RGB, vacuoles: Vacuoles, *, title: str, field_um: tuple[float, float],
    grid_um: tuple[float, float], detail_um: tuple[float, float, float, float], outlines: tuple[BaseGeometry, ...],
) -> Figure:  # fmt: skip
    """Draw the fat fraction over the slide, and the part with the most fat hole by hole; return a Figure.

    `fraction` (ny, nx) is NaN where there is no tissue; its grid, of size `grid_um`, starts at the corner of the slide.
    """
    figure, axes = _figure(3, (15, 5.6))
    axes[0].imshow(_paled(overview), extent=(0, field_um[0], field_um[1], 0))
    shown = np.ma.masked_invalid(fraction)
    top = max(float(shown.max()) if shown.count() else 0.0, 0.01)
    image = axes[0].imshow(shown, extent=(0, grid_um[0], grid_um[1], 0), cmap="magma_r", vmin=0, vmax=top, alpha=0.75)
    figure.colorbar(image, ax=axes[0], label="fat per tissue", shrink=0.8)
    for outline in outlines:
        _outline(axes[0], outline)
    low_x, low_y, high_x, high_y = detail_um
    axes[0].plot([low_x, high_x, high_x, low_x, low_x], [low_y, low_y, high_y, high_y, low_y], color="black")
    axes[0].set(xlim=(0, field_um[0]), ylim=(field_um[1], 0), ylabel="y (µm)")
    for axis in axes[1:]:
        axis.imshow(detail, extent=(low_x, high_x, high_y, low_y), interpolation="nearest")
    x, y, radius = vacuoles.x_um, vacuoles.y_um, vacuoles.diameter_um / 2
    near = (x > low_x - 20) & (x < high_x + 20) & (y > low_y - 20) & (y < high_y + 20)
    edges = vacuoles.edges_um
    for number, (low, high) in enumerate(pairwise(edges)):
        chosen = near & (vacuoles.size_class == number)
        ring = shapely.buffer(shapely.points(x[chosen], y[chosen]), radius[chosen], quad_segs=8)
        colour = _SIZES[number % len(_SIZES)]
        label = f"{low:g}-{high:g} µm ({np.count_nonzero(vacuoles.size_class == number):,} on the slide)"
        axes[2].plot([], [], color=colour, label=label)
        lines = [shapely.get_coordinates(shape) for shape in ring]
        axes[2].add_collection(LineCollection(lines, colors=[colour], linewidths=1.2))
    axes[2].legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False)
    axes[2].set(xlim=(low_x, high_x), ylim=(high_y, low_y))
    subtitles = ("fat fraction, tissue (green)", "the black frame: as it is", "vacuoles that were counted, by size")
    for axis, subtitle in zip(axes, subtitles):
        axis.set(aspect="equal", xlabel="x (µm)", title=subtitle)
    figure.suptitle(title, parse_math=False)
    return figure
