"""The outline of the tissue, guessed from where cells are, for tables that come without one."""

import numpy as np
import shapely
from scipy import ndimage
from shapely.geometry.base import BaseGeometry
from skimage.morphology import remove_small_holes, remove_small_objects

from histomri.cells import CellTable
from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.patches.grid import PatchGrid
from histomri.patches.tissue import extent_of, tissue_fraction
from histomri.slides import mask_polygons

_COARSE_UM = 200.0
_SPACINGS_PER_PIXEL = 2.5  # so that a pixel of tissue is rarely without a cell: exp(-2.5^2) if they lay at random
_CLOSE_PIXELS = 2
_SPECK_PIXELS = 40
_HOLE_PIXELS = 15


def outline_of(cells: CellTable) -> BaseGeometry:
    """Return the region that the cells of a table cover; see `tissue_outline`."""
    return tissue_outline(cells.data["x_um"].to_numpy(), cells.data["y_um"].to_numpy())


def tissue_mask(cells: CellTable, tissue: BaseGeometry | None = None, pixel_um: float = 100.0) -> Image | None:
    """Return the tissue as a fine mask in the world of the slide; None if nothing but the field is known.

    Parameters
    ----------
    cells : CellTable
        Its metadata may hold a region of interest.
    tissue : shapely geometry, optional
        Outline of the tissue in µm.
    pixel_um : float
        Pixel size of the mask, µm.
    """
    extent = extent_of(cells, tissue)
    if extent.region is None:
        return None
    low_x, low_y, high_x, high_y = extent.bounds_um
    corners = np.array([low_x, high_x]), np.array([low_y, high_y])
    grid = PatchGrid.covering(*corners, patch_um=(pixel_um, pixel_um))
    return Image((tissue_fraction(grid, extent) >= 0.5).astype(float), grid.affine)


def tissue_outline(x_um: FloatArray, y_um: FloatArray) -> BaseGeometry:
    """Return the region that cells cover, with its holes, as polygons in µm of the slide.

    Cells are counted on a grid of 2.5 times their mean distance. Gaps up to four pixels wide are closed, as are
    holes of fewer than 15 pixels, and specks of fewer than 40 pixels are left out. The outline is good to about
    a pixel (50 µm for liver); an annotation drawn by a pathologist is better.

    Parameters
    ----------
    x_um, y_um : (N,) ndarray
        Centroids, µm.

    Raises
    ------
    InputError
        If the cells are too few or too scattered to cover anything.
    """
    pixel = _SPACINGS_PER_PIXEL * _spacing_um(x_um, y_um)
    occupied, origin = _occupied(x_um, y_um, pixel, margin=_CLOSE_PIXELS + 1)
    disc = np.hypot(*np.mgrid[-_CLOSE_PIXELS : _CLOSE_PIXELS + 1, -_CLOSE_PIXELS : _CLOSE_PIXELS + 1]) <= _CLOSE_PIXELS
    mask = ndimage.binary_closing(occupied, disc)
    mask = remove_small_objects(mask, max_size=_SPECK_PIXELS - 1)
    mask = remove_small_holes(mask, max_size=_HOLE_PIXELS - 1)
    if not mask.any():
        raise InputError(
            f"{x_um.size} cells are too few or too scattered to show where the tissue is",
            hint="give its outline (--roi), or take the whole field (--tissue field)",
        )
    return shapely.transform(mask_polygons(mask), lambda corners: corners * pixel + origin)


def _spacing_um(x_um: FloatArray, y_um: FloatArray) -> float:
    """Return the mean distance of cells: the root of the area that one cell has to itself."""
    occupied, _ = _occupied(x_um, y_um, _COARSE_UM, margin=0)
    return float(np.sqrt(np.count_nonzero(occupied) * _COARSE_UM**2 / x_um.size))


def _occupied(x_um: FloatArray, y_um: FloatArray, pixel: float, margin: int) -> tuple[BoolArray, tuple[float, float]]:
    origin = (float(x_um.min()) - margin * pixel, float(y_um.min()) - margin * pixel)
    column = ((x_um - origin[0]) / pixel).astype(np.intp)
    row = ((y_um - origin[1]) / pixel).astype(np.intp)
    occupied = np.zeros((int(row.max()) + 1 + margin, int(column.max()) + 1 + margin), dtype=bool)
    occupied[row, column] = True
    return occupied, origin
