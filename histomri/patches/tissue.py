"""The analysed area of each patch: its part inside the imaged field and the tissue."""

from dataclasses import dataclass

import numpy as np
import shapely
from shapely.errors import GEOSException
from shapely.geometry.base import BaseGeometry

from histomri.cells import CellTable
from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.patches.grid import PatchGrid

BOUNDING_BOX = "bounding box of the cells"  # the source of an extent where nothing better is known


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
        bounds = (0.0, 0.0, *field_um)
        names.append("imaged field")
        region = None if region is None else shapely.intersection(region, shapely.box(*bounds))
    if region is not None:
        if region.area == 0:
            raise InputError(f"{' and '.join(names)} do not overlap", hint="check --roi and --mpp")
        low_x, low_y, high_x, high_y = (float(value) for value in region.bounds)
        return Extent((low_x, low_y, high_x, high_y), region, " and ".join(names))
    if field_um is not None:
        return Extent((0.0, 0.0, *field_um), None, names[0])
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


def _tidy(fraction: FloatArray) -> FloatArray:
    """Make whole patches exactly whole: their fraction is a quotient of rounded numbers."""
    return np.where(np.abs(fraction - 1) < 1e-9, 1.0, np.where(fraction < 1e-9, 0.0, fraction))
