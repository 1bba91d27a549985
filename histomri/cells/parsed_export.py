"""The result of every reader: the columns of one export under canonical names, nothing dropped, units as they came."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from histomri.core.arrays import FloatArray


@dataclass(frozen=True)
class Wanted:
    """Beside identity, position and areas: all known measurements, or those of `also`; the outlines."""

    measurements: bool = True
    geometries: bool = False
    also: tuple[str, ...] = ()

    def takes(self, measurement: str) -> bool:
        """Whether to read a measurement, by its canonical name."""
        return self.measurements or measurement in self.also


@dataclass(frozen=True)
class ParsedExport:
    """One export as it was read."""

    path: Path  # the file
    n_rows: int  # number of objects in it
    # canonical name (``image``, ``object_type``, ``object_id``, ...) to Arrow column of n_rows strings
    text: dict[str, pa.ChunkedArray]
    # canonical name without unit (``x``, ``cell_area``, ...) to (n_rows,) float array; a missing value is NaN
    numbers: dict[str, FloatArray]
    units: dict[str, str | None]  # name in `numbers` to "um", "um2", "px", "px2", or None where the file does not say
    raw_names: dict[str, str] = field(default_factory=dict)  # canonical name to the name in the file, for messages
    ignored: tuple[str, ...] = ()  # columns that were not read
    warnings: tuple[str, ...] = ()
    # (n_rows,): outline of each object in pixels (shapely), None where it has none; only if asked for
    outlines: NDArray[np.object_] | None = None
    pixel_size_um: tuple[float, float] | None = None  # (x, y), as the file itself states it; only pictures do
    size_px: tuple[int, int] | None = None
    n_cut: int = 0  # rows cut short in the last line of the file; they are not among the n_rows
