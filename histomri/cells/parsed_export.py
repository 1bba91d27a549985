"""The result of every reader: the columns of one export under canonical names, nothing dropped, units as they came."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from histomri.core.arrays import FloatArray


@dataclass(frozen=True)
class Wanted:
    """What to read beside identity, position and areas: all known measurements, or those of `also`; the outlines."""

    measurements: bool = True
    geometries: bool = False
    also: tuple[str, ...] = ()

    def takes(self, measurement: str) -> bool:
        """Whether to read a measurement, by its canonical name."""
        return self.measurements or measurement in self.also


@dataclass(frozen=True)
class ParsedExport:
    """One export as it was read.

    Attributes
    ----------
    path : Path
        The file.
    n_rows : int
        Number of objects in it.
    text : dict
        Canonical name (``image``, ``object_type``, ``object_id``, ...) to Arrow column of n_rows strings.
    numbers : dict
        Canonical name without unit (``x``, ``cell_area``, ...) to (n_rows,) float array; a missing value is NaN.
    units : dict
        Name in `numbers` to "um", "um2", "px", "px2", or None where the file does not say.
    raw_names : dict
        Canonical name to the name in the file, for messages.
    ignored : tuple of str
        Columns that were not read.
    warnings : tuple of str
    outlines : (n_rows,) object ndarray or None
        Outline of each object in pixels (shapely), None where it has none; only if asked for.
    pixel_size_um, size_px : (x, y) or None
        As the file itself states them; only pictures do.
    n_cut : int
        Rows cut short in the last line of the file; they are not among the n_rows.
    """

    path: Path
    n_rows: int
    text: dict[str, pa.ChunkedArray]
    numbers: dict[str, FloatArray]
    units: dict[str, str | None]
    raw_names: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    outlines: NDArray[np.object_] | None = None
    pixel_size_um: tuple[float, float] | None = None
    size_px: tuple[int, int] | None = None
    n_cut: int = 0
