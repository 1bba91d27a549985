"""Holes in tissue that look like fat vacuoles: empty, round, and of the size of a droplet.

A pixel is empty if it is nearly as bright as the glass. Connected empty pixels are a hole. Of a hole, roundness is
A^2 / (2 pi J), with its area A and polar moment of area J: 1 for a disc, 0.8 for an ellipse twice as long as wide, and
less for clefts, sinusoids and tears. Vessels and tears are too large or not round.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import shapely
from scipy import ndimage
from shapely.geometry.base import BaseGeometry

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.slides.options import EDGES_UM, EMPTY_OD, ROUNDNESS
from histomri.slides.slide import RGB, Slide, View
from histomri.slides.stains import analysed_pixels, estimate_background
from histomri.slides.tissue import Raster, Tissue

_UM_PER_PX = 0.5
_BLUR_UM = 0.35  # noise of single pixels would tear the edges
_TILE_PX = 1024
_LEAST_PX = 6.0  # a droplet of fewer pixels across has no shape
_CORNERS = 16


@dataclass(frozen=True, eq=False)
class Vacuoles:
    """Round holes of a slide, and what else was empty."""

    x_um: FloatArray  # (N,): centroids
    y_um: FloatArray
    area_um2: FloatArray
    roundness: FloatArray  # (N,): 1 for a disc
    edges_um: tuple[float, ...]  # classes of diameter: from each edge to the next
    tissue_um2: float  # area that was searched
    n_not_round: int  # holes of a droplet's size that are not round
    not_round_um2: float
    too_large_um2: float  # vessels, ducts, tears and folds' rims: area only, as they have no single size
    background_rgb: FloatArray  # (3,)
    background_from: str
    empty_od: float  # optical density below which a pixel is empty
    um_per_px: tuple[float, float]

    @property
    def diameter_um(self) -> FloatArray:
        """Diameters of the discs with the same areas, (N,)."""
        return np.asarray(np.sqrt(self.area_um2 * (4 / np.pi)))

    @property
    def size_class(self) -> IntArray:
        """Number of the size class of each, (N,), from 0."""
        return np.searchsorted(self.edges_um, self.diameter_um, side="right") - 1

    @property
    def fraction(self) -> float:
        """Area of the vacuoles per area of tissue."""
        return float(self.area_um2.sum() / self.tissue_um2)

    def region(self) -> BaseGeometry:
        """Return the vacuoles as polygons of the same area and centre, µm, to be cut out of the tissue."""
        corner = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
        radius = np.sqrt(self.area_um2 / (_CORNERS / 2 * np.sin(2 * np.pi / _CORNERS)))
        x = self.x_um[:, None] + radius[:, None] * np.cos(corner)
        y = self.y_um[:, None] + radius[:, None] * np.sin(corner)
        return shapely.union_all(shapely.polygons(np.stack([x, y], axis=-1)))


@dataclass(frozen=True, eq=False)
class Holes:
    """Holes of one picture, in its pixels."""

    labels: IntArray  # (h, w): number of the hole of each pixel, 0 for none
    x: FloatArray  # (N,): centroids, pixels from the corner
    y: FloatArray
    area: FloatArray
    roundness: FloatArray
    at_edge: BoolArray  # (N,): reaches the edge of the picture, so that its size is not known


def measure_holes(empty: BoolArray, aspect: float = 1.0) -> Holes:
    """Measure the holes of a mask (h, w); `aspect` is the height of its pixels over their width."""
    labels, n = ndimage.label(empty)
    rows, columns = np.nonzero(labels)
    which = labels[rows, columns] - 1
    count = np.bincount(which, minlength=n).astype(float)
    x, y = columns + 0.5, rows + 0.5
    mean_x, mean_y = (np.bincount(which, values, n) / np.maximum(count, 1) for values in (x, y))
    # A pixel has a moment of its own, 1/12 along each axis.
    spread = np.bincount(which, (x - mean_x[which]) ** 2 + aspect**2 * (y - mean_y[which]) ** 2, n)
    polar = spread + count * (1 + aspect**2) / 12
    frame = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    at_edge = np.zeros(n + 1, dtype=bool)
    at_edge[frame] = True
    roundness = count**2 * aspect / (2 * np.pi * np.maximum(polar, 1e-9))
    return Holes(labels, mean_x, mean_y, count, roundness, at_edge[1:])


def empty_pixels(rgb: RGB, background_rgb: FloatArray, empty_od: float, blur_px: float) -> BoolArray:
    """Return which pixels (h, w) are nearly as bright as the glass, by their mean optical density."""
    values = np.maximum(np.arange(256), 1)[:, None]
    table = (np.clip(-np.log10(values / background_rgb), 0, None) / 3).astype(np.float32)
    density = table[rgb[..., 0], 0] + table[rgb[..., 1], 1] + table[rgb[..., 2], 2]
    return np.asarray(ndimage.gaussian_filter(density, blur_px) < empty_od)


def find_vacuoles(
    slide: Slide, tissue: Tissue, *, region: BaseGeometry | None = None, edges_um: tuple[float, ...] = EDGES_UM,
    empty_od: float = EMPTY_OD, roundness: float = ROUNDNESS, progress: Callable[[float], None] | None = None,
) -> Vacuoles:  # fmt: skip
    """Find the fat vacuoles in the tissue of a bright-field slide.

    Parameters
    ----------
    slide, tissue : Slide, Tissue
        The tissue as `find_tissue` finds it, in which holes of this size count as tissue.
    region : shapely geometry, optional
        Where to look, µm; all of the tissue if left out.
    edges_um : tuple of float
        Diameters at which classes of size begin and end, ascending; smaller and larger holes are no vacuoles.
    empty_od, roundness : float
        Optical density below which a pixel is empty; least roundness of a vacuole.
    """
    edges = np.asarray(edges_um, dtype=float)
    if edges.size < 2 or not (np.diff(edges) > 0).all() or edges[0] <= 0:
        raise InputError(f"size classes {edges_um} are not possible", hint="give ascending diameters, such as 5,15,40")
    glass, source = estimate_background(slide.thumbnail(tissue.um_per_px[0]), tissue.mask)
    view = slide.at(min(_UM_PER_PX, edges[0] / _LEAST_PX))
    if max(view.um_per_px) * _LEAST_PX > edges[0] * 1.01:
        problem = f"pixels of {max(view.um_per_px):.3g} µm are too large to see holes of {edges[0]:g} µm"
        raise InputError(
            problem, path=slide.path, hint=f"begin the classes at {_LEAST_PX * max(view.um_per_px):.2g} µm"
        )
    raster = None if region is None else Raster(region)
    margin = int(np.ceil(edges[-1] / min(view.um_per_px))) + 2
    found, searched, rest = list[FloatArray](), 0, np.zeros(3)
    corners = [(x, y) for y in range(0, view.size_px[1], _TILE_PX) for x in range(0, view.size_px[0], _TILE_PX)]
    for number, (x, y) in enumerate(corners):
        wide, high = (min(_TILE_PX, size - low) for size, low in zip(view.size_px, (x, y)))
        inside = analysed_pixels(*view.centres_um(x, y, wide, high), tissue, raster)
        if inside.any():
            searched += int(np.count_nonzero(inside))
            vacuoles, others = _of_tile(view, (x, y), inside, margin, glass, edges, empty_od, roundness)
            found.append(vacuoles)
            rest += others
        if progress is not None:
            progress((number + 1) / len(corners))
    if not searched:
        raise InputError("there is no tissue to look for fat in", path=slide.path, hint="check the region, --roi")
    table, pixel = np.concatenate(found), view.um_per_px[0] * view.um_per_px[1]
    return Vacuoles(
        table[:, 0], table[:, 1], table[:, 2], table[:, 3], tuple(map(float, edges)), searched * pixel, int(rest[0]),
        float(rest[1] * pixel), float(rest[2] * pixel), glass, source, empty_od, view.um_per_px,
    )  # fmt: skip


def _of_tile(
    view: View, corner: tuple[int, int], inside: BoolArray, margin: int, glass: FloatArray, edges: FloatArray,
    empty_od: float, roundness: float,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Return x, y, area and roundness (N, 4) in µm of the vacuoles whose centroid is in a tile, and what else is empty.

    The tile is read with a margin, so that a vacuole is seen whole; a hole that leaves the margin is too large.
    """
    (x, y), (high, wide), (across, down) = corner, inside.shape, view.um_per_px
    left, top = max(x - margin, 0), max(y - margin, 0)
    right, bottom = min(x + wide + margin, view.size_px[0]), min(y + high + margin, view.size_px[1])
    rgb = view.read(left, top, right - left, bottom - top)
    holes = measure_holes(empty_pixels(rgb, glass, empty_od, _BLUR_UM / across), down / across)
    diameter = np.sqrt(holes.area * across * down * 4 / np.pi)
    row, column = np.floor(holes.y + top - y).astype(np.intp), np.floor(holes.x + left - x).astype(np.intp)
    here = (row >= 0) & (row < high) & (column >= 0) & (column < wide)
    here[here] = inside[row[here], column[here]]
    sized = (diameter >= edges[0]) & (diameter < edges[-1]) & ~holes.at_edge
    round_ = holes.roundness >= roundness
    large = np.concatenate([[False], (diameter >= edges[-1]) | holes.at_edge])
    core = holes.labels[y - top : y - top + high, x - left : x - left + wide]
    too_large = np.count_nonzero(large[core] & inside)
    odd = here & sized & ~round_
    kept = here & sized & round_
    place = (holes.x[kept] + left) * across, (holes.y[kept] + top) * down
    vacuoles = np.stack([*place, holes.area[kept] * across * down, holes.roundness[kept]], axis=1)
    return vacuoles, np.array([np.count_nonzero(odd), holes.area[odd].sum(), too_large])
