"""Sizes against spacing, and shapes against sizes: positions in another unit, lumps, and outlines that are no cells."""

import numpy as np
import pandas as pd
import shapely

from histomri.core.arrays import BoolArray, FloatArray, IntArray

_WINDOW = 5_000  # cells of one place are enough to tell
_FEWEST = 100
_CROWDED = 0.7  # median distance of neighbours / sum of their radii; of outlines that do not overlap it is 1 or more
_CUT_RIM, _FEWEST_CUT, _UNTOUCHED = 0.85, 30, 0.3
_PROPORTIONAL = 0.5  # correlation of rim and nucleus: an expansion makes none, outlines that were seen do
_LUMP_AREA, _LUMP_SOLIDITY, _LUMP_CIRCULARITY, _LUMP_SCATTER = 1.6, 0.9, 0.75, 1.4
_NOTED_LUMPS = 1e-3  # of the nuclei
_GIANT = 100.0  # times the median area
# Measurement, the limit, and whether a lump has less of it; that of nuclei before that of the whole object.
_SHAPES = (
    ("nucleus_solidity", _LUMP_SOLIDITY, True), ("solidity", _LUMP_SOLIDITY, True),
    ("nucleus_circularity", _LUMP_CIRCULARITY, True), ("circularity", _LUMP_CIRCULARITY, True),
    ("scatter", _LUMP_SCATTER, False),
)  # fmt: skip


def check_spacing(data: pd.DataFrame, outside: BoolArray | None = None) -> str | None:
    """Return a warning if the cells are too near to each other, or too far, for their sizes.

    `outside` (N,) are the cells that lie in no other; doubles are no sign of a wrong unit.
    """
    rows = np.arange(len(data)) if outside is None else np.flatnonzero(outside)
    x, y, area, nucleus = (
        data[name].to_numpy(dtype=float)[rows] for name in ("x_um", "y_um", "area_um2", "nucleus_area_um2")
    )
    if x.size < _FEWEST:
        return None
    if x.size > _WINDOW:  # those around the median cell
        far = np.maximum(np.abs(x - np.median(x)), np.abs(y - np.median(y)))
        near = np.argpartition(far, _WINDOW)[:_WINDOW]
        x, y, area, nucleus = x[near], y[near], area[near], nucleus[near]
    radius = np.sqrt(area / np.pi)
    distance, neighbour = _nearest(x, y)
    ratio = float(np.median(distance / (radius + radius[neighbour])))
    if ratio < _CROWDED:
        text = (
            f"cells are {ratio:.2f} times as far from their neighbour as both radii (median), so most outlines overlap"
        )
        return f"{text}: are positions and areas in the units that they are said to have, and of one calibration?"
    return _too_far(distance, radius, np.sqrt(nucleus / np.pi))


def _too_far(distance: FloatArray, radius: FloatArray, nucleus: FloatArray) -> str | None:
    """Warn of expanded nuclei that were stopped by neighbours which are nowhere near."""
    with np.errstate(invalid="ignore"):
        rim = radius - nucleus
    known = np.isfinite(rim)
    if np.count_nonzero(known) < _FEWEST:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):  # rims that are all the same
        proportional = np.corrcoef(rim[known], nucleus[known])[0, 1] > _PROPORTIONAL
    if proportional:
        return None
    free = float(np.quantile(rim[known], 0.95))
    cut = known & (rim < _CUT_RIM * free)
    largest = float(np.quantile(radius, 0.95))
    if np.count_nonzero(cut) < _FEWEST_CUT or np.mean(distance[cut] > radius[cut] + largest) < _UNTOUCHED:
        return None
    text = "the outlines were stopped by neighbours that are too far away to touch them"
    return f"{text}: positions seem too large for the areas; was the slide calibrated anew after the detection?"


def _nearest(x: FloatArray, y: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return distance to the nearest neighbour at another place and its row, (N,); infinite and 0 if there is none."""
    points = shapely.points(x, y)
    (own, found), apart = shapely.STRtree(points).query_nearest(
        points, exclusive=True, all_matches=False, return_distance=True
    )
    distance, neighbour = np.full(x.size, np.inf), np.zeros(x.size, dtype=np.intp)
    distance[own], neighbour[own] = apart, found
    return distance, neighbour


def find_lumps(data: pd.DataFrame) -> BoolArray | None:
    """Return which objects are probably several nuclei under one outline, (N,); None if no shape is known.

    They are larger than 1.6 times the median nucleus and dented (solidity below 0.9), or else of a circularity below
    0.75, or, of masks, spread 1.4 times as wide as a disc.
    """
    found = next(((name, limit, less) for name, limit, less in _SHAPES if name in data.columns), None)
    if found is None:
        return None
    name, limit, less = found
    area = data["nucleus_area_um2"].to_numpy(dtype=float)
    known = np.isfinite(area)
    if not known.any():
        return None
    shape = data[name].to_numpy(dtype=float)
    with np.errstate(invalid="ignore"):
        odd = shape < limit if less else shape > limit
        return np.asarray(odd & (area > _LUMP_AREA * np.median(area[known])))


def lumps_text(lumps: BoolArray) -> tuple[str, ...]:
    """Return the warning about lumps; none of a few that change no number."""
    count = int(np.count_nonzero(lumps))
    if count < _NOTED_LUMPS * lumps.size:
        return ()
    text = f"{count:,} of {lumps.size:,} nuclei are large and dented or long, perhaps two under one outline"
    return (f"{text} (column `lump`): look at them on the slide",)


def check_giants(area_um2: FloatArray) -> str | None:
    """Warn of objects that are far larger than a cell."""
    if area_um2.size < 10:
        return None
    median = float(np.median(area_um2))
    count = int(np.count_nonzero(area_um2 > _GIANT * median))
    if not count:
        return None
    text = f"{count:,} objects have more than {_GIANT:.0f} times the median area of {median:.3g} µm²"
    return f"{text}: regions among the cells, or numbers that lost their decimal sign? --max-size-um drops them"
