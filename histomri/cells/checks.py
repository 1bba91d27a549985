"""What a careful eye would see in a cell table: duplicates, impossible sizes, wrong units."""

import numpy as np
import pandas as pd

from histomri.cells.raw import RawExport
from histomri.cells.sieve import Sieve, categories
from histomri.cells.table import CellTable, Compartment

# The detector keeps nuclei of 10-400 µm²; a median beyond this is most likely a wrong unit.
NUCLEUS_UM2 = (10.0, 200.0)
# Areas are measured on the detector's outline, the ratio on the simplified polygon: they differ by a few per cent.
TOLERANCE = 1.05


def check_table(table: CellTable) -> tuple[str, ...]:
    """Return warnings about a table, in words."""
    data, compartment = table.data, table.metadata.compartment
    area = data["area_um2"].to_numpy()
    nucleus = data["nucleus_area_um2"].to_numpy()
    return tuple(
        filter(
            None,
            (
                _nuclei_only(compartment),
                _duplicates(data),
                _nucleus_larger(area, nucleus) if compartment == "cell" else None,
                _nucleus_size(nucleus),
                _expansion(area, nucleus) if compartment == "cell" else None,
            ),
        )
    )


def check_planes(raw: RawExport, sieve: Sieve) -> tuple[str, ...]:
    """Warn if cells of several focal planes or times lie on top of each other."""
    warnings = []
    for name, words in (("z", "focal planes"), ("t", "time points")):
        if name in raw.text:
            count = np.unique(categories(raw.text[name])[1][sieve.keep]).size
            if count > 1:
                warnings.append(
                    f"{raw.path.name}: cells of {count} {words} lie on top of each other and are all counted"
                )
    return tuple(warnings)


def check_count(n_rows: int, n_expected: int | None, name: str) -> tuple[str, ...]:
    """Warn if the export holds another number of objects than its sidecar says."""
    if n_expected is None or n_expected == n_rows:
        return ()
    return (f"{name} has {n_rows:,} rows, and the JSON file beside it says {n_expected:,}: the export is not complete",)


def _nuclei_only(compartment: Compartment) -> str | None:
    if compartment == "cell":
        return None
    return (
        "the table has no cell outlines, only nuclei (or plain detections): all sizes and fractions are of NUCLEI; "
        "for cells, use a cell expansion above 0 in QuPath"
    )


def _duplicates(data: pd.DataFrame) -> str | None:
    columns = [data[name].to_numpy(dtype=float).view(np.uint64) for name in ("x_um", "y_um", "area_um2")]
    key = columns[0] * np.uint64(0x9E3779B97F4A7C15) ^ columns[1] * np.uint64(0xC2B2AE3D27D4EB4F)
    key = (key ^ (key >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) ^ columns[2]
    count = key.size - pd.unique(key).size
    if count == 0:
        return None
    return (
        f"{count:,} cells have the position and area of another cell: detected or exported twice, so they count twice"
    )


def _nucleus_larger(area: np.ndarray, nucleus: np.ndarray) -> str | None:
    known = np.isfinite(nucleus)
    count = int(np.count_nonzero(nucleus[known] > TOLERANCE * area[known]))
    return f"{count:,} cells have a nucleus larger than the cell" if count else None


def _nucleus_size(nucleus: np.ndarray) -> str | None:
    known = nucleus[np.isfinite(nucleus)]
    if not known.size:
        return None
    median = float(np.median(known))
    if NUCLEUS_UM2[0] <= median <= NUCLEUS_UM2[1]:
        return None
    return f"the median nucleus has {median:.3g} µm², where 10-200 is usual: the unit or the pixel size may be wrong"


def _expansion(area: np.ndarray, nucleus: np.ndarray) -> str | None:
    """Tell cell outlines that are the nucleus plus a constant rim, as QuPath's expansion makes them."""
    with np.errstate(invalid="ignore"):
        rim = np.sqrt(area / np.pi) - np.sqrt(nucleus / np.pi)
    rim = rim[np.isfinite(rim)]
    if rim.size < 50:
        return None
    low, middle, high = np.quantile(rim, [0.25, 0.5, 0.75])
    if middle <= 0 or high - low > 0.1 * middle:
        return None
    return (
        f"most cell outlines are the nucleus plus {middle:.1f} µm: QuPath expanded the nuclei and saw no membrane, so "
        "cell sizes follow nuclear sizes"
    )
