"""Between masks and polygons, both ways."""

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from histomri.core.arrays import BoolArray, FloatArray


class Raster:
    """A region whose pixels are asked for tile by tile.

    A pixel belongs to the region if its centre does. The rows of pixel centres are crossed with the edges of the
    polygons, and between the first and second, third and fourth crossing a row is inside.

    Parameters
    ----------
    region : shapely geometry
        Valid polygons, in the unit of the coordinates asked for later.
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
    """Return the outline of a mask along the edges of its pixels, holes included.

    Parameters
    ----------
    mask : (h, w) bool ndarray
    pixel_size : (x, y)
        Size of a pixel; the top left corner of the mask is at (0, 0), y down.

    Returns
    -------
    shapely geometry
        Polygon or MultiPolygon, empty if the mask is; its area is that of the pixels.
    """
    edges = np.diff(np.pad(np.asarray(mask, dtype=bool), ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(edges == 1)
    _, stop = np.nonzero(edges == -1)
    # Runs of pixels are far fewer than pixels. Whole numbers first: an edge rounded two ways would not merge.
    region = shapely.union_all(shapely.box(start, row, stop, row + 1))
    if region.is_empty:
        return shapely.MultiPolygon()
    return shapely.transform(region, lambda corners: corners * np.asarray(pixel_size))
