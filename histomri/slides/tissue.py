"""Where the tissue is on a slide, and the way between masks and polygons."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import remove_small_holes, remove_small_objects

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import InputError
from histomri.slides.slide import Slide

# Optical densities between which the threshold may lie: below is noise of the lamp, above pale tissue would be lost.
_LEAST_OD, _MOST_OD = 0.03, 0.08
_DENSE_OD = 0.1  # densities are cut here before the threshold is sought, or it may fall between pale and dark tissue
_DARKEST_GLASS = 60  # glass and pale tissue are brighter in every channel; fluorescence lacks a colour
_BLACK = 8  # some scanners fill the rest with black; no stain is that dark in all channels
_BLUR_UM = 10.0
_COARSEST_UM, _FINEST_UM = 8.0, 1.0


class Raster:
    """A region (valid polygons, in the unit of the coordinates asked for later) whose pixels are asked for by tiles.

    A pixel belongs to the region if its centre does. The rows of pixel centres are crossed with the edges of the
    polygons, and between the first and second, third and fourth crossing a row is inside.
    """

    def __init__(self, region: BaseGeometry) -> None:
        rings, owner = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(region)), return_index=True)
        same = owner[1:] == owner[:-1]
        start, stop = rings[:-1][same], rings[1:][same]
        level = start[:, 1] != stop[:, 1]
        swap = (start[:, 1] > stop[:, 1])[:, None]
        # Edges from their upper end (low y) to their lower end.
        self._high = np.where(swap, stop, start)[level]
        self._low = np.where(swap, start, stop)[level]

    def inside(self, x: FloatArray, y: FloatArray) -> BoolArray:
        """Return which pixels are inside, (h, w), for centres of columns `x` (w,) and rows `y` (h,), ascending."""
        first = np.searchsorted(y, self._high[:, 1])  # half-open: a corner counts for one of its two edges
        count = np.searchsorted(y, self._low[:, 1]) - first
        edge = np.repeat(np.arange(count.size), count)
        row = np.arange(edge.size) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        high, low = self._high[edge], self._low[edge]
        crossing = high[:, 0] + (y[row] - high[:, 1]) / (low[:, 1] - high[:, 1]) * (low[:, 0] - high[:, 0])
        column = np.searchsorted(x, crossing)
        toggles = np.bincount(row * (x.size + 1) + column, minlength=y.size * (x.size + 1))
        return np.asarray(np.cumsum(toggles.reshape(y.size, x.size + 1), axis=1)[:, :-1] % 2 == 1)


def mask_polygons(mask: BoolArray, pixel_size: tuple[float, float] = (1.0, 1.0)) -> BaseGeometry:
    """Return the outline of a mask (h, w) along the edges of its pixels, holes included; its area is that of the mask.

    The top left corner of the mask is at (0, 0), y down; `pixel_size` is (x, y). A Polygon or MultiPolygon of shapely,
    empty if the mask is.
    """
    edges = np.diff(np.pad(np.asarray(mask, dtype=bool), ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(edges == 1)
    _, stop = np.nonzero(edges == -1)
    # Runs of pixels are far fewer than pixels. Whole numbers first: an edge rounded two ways would not merge.
    region = shapely.union_all(shapely.box(start, row, stop, row + 1))
    if region.is_empty:
        return shapely.MultiPolygon()
    return shapely.transform(region, lambda corners: corners * np.asarray(pixel_size))


@dataclass(frozen=True, eq=False)
class Tissue:
    """The tissue of a slide."""

    mask: BoolArray  # (h, w): rows run down, columns to the right, from the top left corner of the slide
    um_per_px: tuple[float, float]  # pixel size of the mask, x and y

    @cached_property
    def region(self) -> BaseGeometry:
        """Outline with its holes as polygons in µm of the slide; empty if there is no tissue."""
        return mask_polygons(self.mask, self.um_per_px)

    @property
    def area_um2(self) -> float:
        """Area of the tissue."""
        return float(np.count_nonzero(self.mask) * self.um_per_px[0] * self.um_per_px[1])

    def inside(self, x_um: FloatArray, y_um: FloatArray) -> BoolArray:
        """Return which pixels are tissue, (h, w); `x_um` (w,) and `y_um` (h,) are centres of columns and rows."""
        column = np.clip((x_um / self.um_per_px[0]).astype(np.intp), 0, self.mask.shape[1] - 1)
        row = np.clip((y_um / self.um_per_px[1]).astype(np.intp), 0, self.mask.shape[0] - 1)
        return np.asarray(self.mask[row[:, None], column[None, :]])

    def to_pixels(self, pixel_size_um: tuple[float, float]) -> BaseGeometry:
        """Return the outline in pixels of the full-resolution image, as QuPath wants it."""
        return shapely.transform(self.region, lambda points: points / np.asarray(pixel_size_um))


def find_tissue(
    slide: Slide, um_per_px: float | None = None, *, threshold: float | None = None, min_area_um2: float = 20_000.0,
    max_hole_um2: float = 5_000.0,
) -> Tissue:  # fmt: skip
    """Find the tissue of a bright-field slide, whose pixel size is known, by its optical density.

    Raises InputError if the slide is dark (fluorescence).

    Parameters
    ----------
    slide : Slide
    um_per_px : float, optional
        Resolution at which it is sought; 8 µm, or finer (to 1 µm) for a picture smaller than 2 mm.
    threshold : float, optional
        Optical density above which there is tissue; sought between 0.03 and 0.08 if not given.
    min_area_um2, max_hole_um2 : float
        Smaller specks are left out (where the picture is small, those below a fiftieth of it), and holes up to this
        area count as tissue.
    """
    field = slide.field_um
    um_per_px = um_per_px or float(np.clip(min(field) / 256, _FINEST_UM, _COARSEST_UM))
    picture, view = slide.thumbnail(um_per_px), slide.at(um_per_px)
    pixel_area = view.um_per_px[0] * view.um_per_px[1]
    speck = min(min_area_um2, field[0] * field[1] / 50) / pixel_area
    try:
        mask = _dense(picture, threshold, max(_BLUR_UM / um_per_px, 1.0))
    except InputError as error:
        raise InputError(error.problem, path=slide.path, hint=error.hint) from error
    return Tissue(_cleaned(mask, speck, max_hole_um2 / pixel_area), view.um_per_px)


def tissue_mask(
    rgb: NDArray[np.uint8], *, threshold: float | None = None, min_size: float = 0.001, blur_px: float = 2.0
) -> BoolArray:
    """Find the tissue in a bright-field picture by its optical density, (h, w).

    Parameters
    ----------
    rgb : (h, w, 3) uint8 ndarray
        Picture of the slide, such as a thumbnail at 4-16 µm per pixel.
    threshold : float, optional
        Optical density above which there is tissue; Otsu's threshold, kept between 0.03 and 0.08, if not given.
    min_size, blur_px : float
        Specks and holes smaller than this fraction of the picture are removed, after a Gaussian blur by which the gaps
        between cells count as tissue.
    """
    mask = _dense(rgb, threshold, blur_px)
    return _cleaned(mask, min_size * mask.size, min_size * mask.size)


def _dense(rgb: NDArray[np.uint8], threshold: float | None, blur_px: float) -> BoolArray:
    picture = np.asarray(rgb)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or picture.size == 0:
        raise InputError(f"a picture of shape (h, w, 3), 8 bits, was expected; got {picture.shape}, {picture.dtype}")
    # Glass is the brightest common value of each channel; it is not 255 on most scanners.
    glass = np.percentile(picture.reshape(-1, 3), 99.5, axis=0)
    if glass.min() < _DARKEST_GLASS:
        problem = "is dark: a fluorescence image? Tissue and stains are found on bright-field slides only"
        raise InputError(problem, hint="give the region as --roi, and count cells in place of stain")
    table = np.clip(-np.log10(np.maximum(np.arange(256), 1)[:, None] / glass), 0, None) / 3
    density = sum(table[picture[..., channel], channel] for channel in range(3))
    density = np.where((picture < _BLACK).all(axis=2), 0.0, density)
    density = gaussian(density, sigma=blur_px) if blur_px > 0 else density
    if threshold is None:
        capped = np.minimum(density, _DENSE_OD)
        threshold = float(np.clip(threshold_otsu(capped), _LEAST_OD, _MOST_OD)) if np.ptp(capped) > 0 else _MOST_OD
    return np.asarray(density > threshold)


def _cleaned(mask: BoolArray, speck_px: float, hole_px: float) -> BoolArray:
    mask = remove_small_objects(mask, max_size=max(int(speck_px) - 1, 0))
    return np.asarray(remove_small_holes(mask, max_size=max(int(hole_px) - 1, 0)), dtype=bool)
