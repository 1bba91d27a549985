"""The analysed area of each patch, the outline of the tissue where cells are, and which cell counts in which patch."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from shapely.errors import GEOSException
from shapely.geometry.base import BaseGeometry
from skimage.morphology import remove_small_holes, remove_small_objects

from histomri.cells import CellTable
from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.patches.grid import PatchGrid
from histomri.slides import mask_polygons

BOUNDING_BOX = "bounding box of the cells"  # the source of an extent where nothing better is known
_COARSE_UM = 200.0
_SPACINGS_PER_PIXEL = 2.5  # so that a pixel of tissue is rarely without a cell: exp(-2.5^2) if they lay at random
_CLOSE_PIXELS = 2
_SPECK_PIXELS = 40
_HOLE_PIXELS = 15
ASSIGNMENTS = ("centroid", "clip")
_MOST_PATCHES = 10_000  # cells of more patches are no cells
_BATCH = 200_000
_MOST_BOXES = 50  # along a side, to tell which points need no comparison with an outline


@dataclass(frozen=True)
class Extent:
    """Where cells could have been found."""

    bounds_um: tuple[float, float, float, float]  # rectangle that holds it: x low, y low, x high, y high
    region: BaseGeometry | None  # its outline in µm, None if it is the whole rectangle
    source: str  # how the extent is known, for the sidecar

    @property
    def area_um2(self) -> float:
        """Area of the region inside the rectangle."""
        if self.region is not None:
            return float(shapely.area(self.region))
        return (self.bounds_um[2] - self.bounds_um[0]) * (self.bounds_um[3] - self.bounds_um[1])


def extent_of(cells: CellTable, tissue: BaseGeometry | None = None) -> Extent:
    """Return the extent of cells: tissue (µm) and region of interest inside the field, as far as they are known."""
    if len(cells) == 0:
        raise InputError("the cell table is empty", hint="run the cell detection again")
    field_um, region, names = cells.metadata.field_um, tissue, ["tissue outline"] if tissue is not None else []
    if (interest := cells.region) is not None:
        region = interest if region is None else shapely.intersection(region, interest)
        names.append("region of interest")
    if field_um is not None:
        names.append("imaged field")
        if region is None:
            return Extent((0.0, 0.0, *field_um), None, names[0])
        region = shapely.intersection(region, shapely.box(0, 0, *field_um))
    if region is not None:
        if region.area == 0:
            raise InputError(f"{' and '.join(names)} do not overlap", hint="check --roi and --mpp")
        low_x, low_y, high_x, high_y = map(float, region.bounds)
        return Extent((low_x, low_y, high_x, high_y), region, " and ".join(names))
    x, y = cells.data["x_um"].to_numpy(), cells.data["y_um"].to_numpy()
    box = (float(x.min()), float(y.min()), float(x.max()), float(y.max()))
    if not (box[2] > box[0] and box[3] > box[1]):
        raise InputError("the cells lie on a line, so they span no area", hint="give a region of interest, --roi")
    return Extent(box, None, BOUNDING_BOX)


def tissue_fraction(grid: PatchGrid, extent: Extent) -> FloatArray:
    """Return the fraction of each patch inside the extent, (ny, nx), from 0 to 1."""
    left, right, top, bottom = grid.edges_um
    low_x, low_y, high_x, high_y = extent.bounds_um
    if extent.region is None:
        along_x = np.clip(np.minimum(right, high_x) - np.maximum(left, low_x), 0, None) / (right - left)
        along_y = np.clip(np.minimum(bottom, high_y) - np.maximum(top, low_y), 0, None) / (bottom - top)
        return _tidy(along_y[:, None] * along_x[None, :])
    boxes = shapely.box(left[None, :], top[:, None], right[None, :], bottom[:, None])
    shapely.prepare(extent.region)
    fraction = np.where(shapely.contains_properly(extent.region, boxes), 1.0, 0.0)
    border = (fraction == 0) & shapely.intersects(extent.region, boxes)
    try:
        part = shapely.area(shapely.intersection(boxes[border], extent.region))
    except GEOSException as error:
        raise GeometryError(f"the region of interest cannot be cut into patches ({error})") from error
    fraction[border] = part / shapely.area(boxes[border])
    return _tidy(fraction)


def points_inside(x_um: FloatArray, y_um: FloatArray, extent: Extent) -> BoolArray:
    """Return which points (N,) lie inside the extent's region, (N,); all, if it is the whole rectangle.

    Only those near its border are compared with the outline.
    """
    if extent.region is None:
        return np.ones(len(x_um), dtype=bool)
    low_x, low_y, high_x, high_y = extent.bounds_um
    count = int(np.clip(np.sqrt(len(x_um)) / 8, 1, _MOST_BOXES))
    grid = PatchGrid((low_x, low_y), ((high_x - low_x) / count, (high_y - low_y) / count), (count, count))
    left, right, top, bottom = grid.edges_um
    boxes = shapely.box(left[None, :], top[:, None], right[None, :], bottom[:, None])
    shapely.prepare(extent.region)
    whole = shapely.contains_properly(extent.region, boxes)
    row, column, near = grid.index(x_um, y_um)
    inside = whole[row, column] & near
    border = near & ~inside & shapely.intersects(extent.region, boxes)[row, column]
    inside[border] = shapely.contains_xy(extent.region, x_um[border], y_um[border])
    return np.asarray(inside)


def _tidy(fraction: FloatArray) -> FloatArray:
    """Make whole patches exactly whole: their fraction is a quotient of rounded numbers."""
    return np.where(np.abs(fraction - 1) < 1e-9, 1.0, np.where(fraction < 1e-9, 0.0, fraction))


def outline_of(cells: CellTable) -> BaseGeometry:
    """Return the region that the cells of a table cover; see `tissue_outline`."""
    return tissue_outline(cells.data["x_um"].to_numpy(), cells.data["y_um"].to_numpy())


def tissue_mask(cells: CellTable, tissue: BaseGeometry | None = None, pixel_um: float = 100.0) -> Image | None:
    """Return the tissue as a fine mask in the world of the slide; None if nothing but the field is known.

    `tissue` is its outline in µm; the metadata of the cells may hold a region of interest; `pixel_um` is the pixel size
    of the mask in µm.
    """
    extent = extent_of(cells, tissue)
    if extent.region is None:
        return None
    bounds = np.array(extent.bounds_um)
    grid = PatchGrid.covering(bounds[::2], bounds[1::2], patch_um=pixel_um)
    return Image((tissue_fraction(grid, extent) >= 0.5).astype(float), grid.affine)


def tissue_outline(x_um: FloatArray, y_um: FloatArray) -> BaseGeometry:
    """Return the region that cells cover, with its holes, as polygons in µm of the slide.

    Cells are counted on a grid of 2.5 times their mean distance. Gaps up to four pixels wide are closed, as are
    holes of fewer than 15 pixels, and specks of fewer than 40 pixels are left out. The outline is good to about
    a pixel (50 µm for liver); an annotation drawn by a pathologist is better. `x_um`, `y_um` (N,) are centroids.
    Raises InputError if the cells are too few or too scattered to cover anything.
    """
    coarse, _ = _occupied(x_um, y_um, _COARSE_UM, margin=0)
    # The mean distance of cells is the root of the area that one cell has to itself.
    pixel = _SPACINGS_PER_PIXEL * float(np.sqrt(np.count_nonzero(coarse) * _COARSE_UM**2 / x_um.size))
    occupied, origin = _occupied(x_um, y_um, pixel, margin=_CLOSE_PIXELS + 1)
    disc = np.hypot(*np.mgrid[-_CLOSE_PIXELS : _CLOSE_PIXELS + 1, -_CLOSE_PIXELS : _CLOSE_PIXELS + 1]) <= _CLOSE_PIXELS
    mask = remove_small_objects(ndimage.binary_closing(occupied, disc), max_size=_SPECK_PIXELS - 1)
    mask = remove_small_holes(mask, max_size=_HOLE_PIXELS - 1)
    if not mask.any():
        problem = f"{x_um.size} cells are too few or too scattered to show where the tissue is"
        raise InputError(problem, hint="give its outline (--roi), or take the whole field (--tissue field)")
    return shapely.transform(mask_polygons(mask), lambda corners: corners * pixel + origin)


def _occupied(x_um: FloatArray, y_um: FloatArray, pixel: float, margin: int) -> tuple[BoolArray, tuple[float, float]]:
    origin = (float(x_um.min()) - margin * pixel, float(y_um.min()) - margin * pixel)
    column, row = (((values - low) / pixel).astype(np.intp) for values, low in zip((x_um, y_um), origin))
    occupied = np.zeros((int(row.max()) + 1 + margin, int(column.max()) + 1 + margin), dtype=bool)
    occupied[row, column] = True
    return occupied, origin


@dataclass(frozen=True)
class Assignment:
    """Pairs of cell and patch; a cell may be in several, or in none."""

    cell: IntArray  # (M,): row of the cell
    patch: IntArray  # (M,): flat index of the patch
    part: FloatArray | None = None  # (M,): part of the cell's area that counts in the patch; None if all of it does


def assign(cells: CellTable, grid: PatchGrid, fraction: FloatArray, extent: Extent, how: str) -> Assignment:
    """Assign cells to patches by their centroid, or by exact clipping of their outline."""
    if how not in ASSIGNMENTS:
        raise InputError(f"cells cannot be assigned by {how!r}", hint=f"choose one of {', '.join(ASSIGNMENTS)}")
    open_patches = fraction.ravel() > 0
    found = _by_centroid(cells, grid, open_patches) if how == "centroid" else _by_outline(cells, grid, fraction, extent)
    if not found.cell.size:
        raise InputError("no cell lies on the grid of patches", hint="check the field, the region and their units")
    return found


def _by_centroid(cells: CellTable, grid: PatchGrid, open_patches: BoolArray) -> Assignment:
    x, y = cells.data["x_um"].to_numpy(), cells.data["y_um"].to_numpy()
    everyone = np.arange(x.size)
    if grid.window_um == grid.patch_um:
        row, column, inside = grid.index(x, y)
        patch = row * grid.shape[1] + column
        inside &= open_patches[patch]
        return Assignment(everyone, patch) if inside.all() else Assignment(everyone[inside], patch[inside])
    pairs = []
    columns = _windows_over(x, grid.origin_um[0], grid.patch_um[0], grid.window_um[0], grid.shape[1])
    for row, in_row in _windows_over(y, grid.origin_um[1], grid.patch_um[1], grid.window_um[1], grid.shape[0]):
        for column, in_column in columns:
            patch = row * grid.shape[1] + column
            there = in_row & in_column
            there &= open_patches[np.where(there, patch, 0)]
            pairs.append((everyone[there], patch[there]))
    return Assignment(*map(np.concatenate, zip(*pairs)))


def _windows_over(
    values: FloatArray, origin: float, step: float, window: float, count: int
) -> list[tuple[IntArray, BoolArray]]:
    """Return the windows along one axis that each value may lie in, and whether it does; low edges are inside."""
    last = np.floor((values - origin + window / 2) / step - 0.5).astype(np.intp)
    found = []
    for back in range(int(np.ceil(window / step)) + 1):
        index = last - back
        low = origin + (index + 0.5) * step - window / 2
        found.append((index, (index >= 0) & (index < count) & (values >= low) & (values < low + window)))
    return found


def _by_outline(cells: CellTable, grid: PatchGrid, fraction: FloatArray, extent: Extent) -> Assignment:
    """Share the area of each cell among the patches that its outline reaches, as far as they were analysed."""
    if cells.outlines is None:
        hint = "read them from GeoJSON with `histomri cells --geometries`, or assign by centroid"
        raise InputError("the cells have no outlines to clip", hint=hint)
    if grid.window_um != grid.patch_um:
        raise InputError("overlapping windows cannot be clipped", hint="assign by centroid, or leave out --step-um")
    starts = range(0, len(cells), _BATCH)
    pieces = [_clip(cells.outlines[start : start + _BATCH], start, grid, fraction, extent) for start in starts]
    cell, patch, area = map(np.concatenate, zip(*pieces))
    there = area > 0
    # The measured area may differ a little from that of the outline; the part is that of the outline.
    whole = shapely.area(cells.outlines)
    return Assignment(cell[there], patch[there], np.minimum(area[there] / whole[cell[there]], 1.0))


def _clip(
    outlines: NDArray[np.object_], start: int, grid: PatchGrid, fraction: FloatArray, extent: Extent
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return cell, patch and area of the pieces of some outlines."""
    low_x, low_y, high_x, high_y = shapely.bounds(outlines).T
    top, left, _ = grid.index(low_x, low_y)
    bottom, right, _ = grid.index(high_x, high_y)
    wide = right - left + 1
    count = wide * (bottom - top + 1)
    if count.max() > _MOST_PATCHES:
        raise GeometryError("a cell reaches over more patches than a cell can", hint="check the size of the patches")
    which = np.repeat(np.arange(outlines.size), count)
    nth = np.arange(which.size) - np.repeat(np.cumsum(count) - count, count)
    row, column = top[which] + nth // wide[which], left[which] + nth % wide[which]
    area = shapely.area(outlines)[which]
    left_um, top_um, right_um, bottom_um = grid.bounds_um
    inside = (low_x >= left_um) & (low_y >= top_um) & (high_x <= right_um) & (high_y <= bottom_um)
    cut = (count[which] > 1) | ~inside[which] | (fraction[row, column] < 1)
    if cut.any():
        x, y = grid.origin_um[0] + column[cut] * grid.patch_um[0], grid.origin_um[1] + row[cut] * grid.patch_um[1]
        boxes = shapely.box(x, y, x + grid.patch_um[0], y + grid.patch_um[1])
        try:
            parts = shapely.intersection(outlines[which[cut]], boxes)
            border = fraction[row[cut], column[cut]] < 1
            bounds = shapely.box(*extent.bounds_um) if extent.region is None else extent.region
            parts[border] = shapely.intersection(parts[border], bounds)
        except GEOSException as error:
            raise GeometryError(f"an outline cannot be cut into patches ({error})") from error
        area[cut] = shapely.area(parts)
    return which + start, row * grid.shape[1] + column, area
