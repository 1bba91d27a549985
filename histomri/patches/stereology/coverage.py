"""How much of the tissue the outlines of cells cover, and whether they lie over each other."""

import numpy as np
import shapely

from histomri.cells import CellTable
from histomri.core.arrays import BoolArray
from histomri.patches.tissue import Extent

_LOOKED_AT = 3000  # outlines, for their overlap


def covered_share(cells: CellTable, inside: BoolArray, extent: Extent) -> tuple[float, float]:
    """Return the share of the extent under the cells `inside` (N,), and the share of a cell that lies under others.

    Label masks cannot overlap, and areas alone do not show it: where the table has no outlines, the second number is
    0, and the first is the sum of the areas over that of the extent.
    """
    total = float(cells.data["area_um2"].to_numpy(dtype=float)[inside].sum()) / extent.area_um2
    if cells.outlines is None:
        return total, 0.0
    outlines = cells.outlines[inside]
    some = np.random.default_rng(0).permutation(outlines.size)[:_LOOKED_AT]
    one, other = shapely.STRtree(outlines).query(outlines[some], predicate="intersects")
    pair = some[one] != other
    shared = shapely.area(shapely.intersection(outlines[some[one[pair]]], outlines[other[pair]])).sum()
    overlap = float(shared / shapely.area(outlines[some]).sum())
    return total * (1.0 - 0.5 * overlap), overlap  # what two cells share was counted twice
