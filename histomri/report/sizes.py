"""How large the cells are in every patch: the histograms behind a click on a map."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pyarrow import ArrowInvalid

from histomri.core.arrays import FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.core.files import require_file
from histomri.core.images import Image
from histomri.registration import Transform
from histomri.report.pictures import packed

MOST_PATCHES = 20_000  # of a section; histograms of more would make the report too large
BINS = 32
_OFF = -1.0


@dataclass
class PatchSizes:
    """Histograms of cell diameters, and which patch lies under each pixel."""

    edges_um: FloatArray  # (BINS + 1,) limits of the classes, corrected like the maps
    counts: IntArray  # (ny * nx, BINS) cells per patch and class; the largest cells are in the last one
    # For the pictures of the section and of the MRI slice: the patch under each pixel, -1 where there is none.
    patches: dict[str, FloatArray] = field(default_factory=dict)
    corrected: str = ""  # the correction of the diameters, as text

    def embed(self) -> dict[str, Any]:
        """Return the histograms for the page: the used patches only, as little-endian numbers, packed."""
        used = np.flatnonzero(self.counts.sum(axis=1))
        place = np.zeros(len(self.counts) + 1, "<u2")  # 0 is no patch; the last entry serves -1
        place[used] = np.arange(1, used.size + 1)
        table = np.minimum(self.counts[used], 65535).astype("<u2")
        under = {name: np.nan_to_num(picture, nan=_OFF).astype(int) for name, picture in self.patches.items()}
        pixels = {name: packed(place[patch]) for name, patch in under.items()}
        edges = [float(f"{edge:.4g}") for edge in self.edges_um]
        return {"edges": edges, "counts": packed(table), "pixels": pixels, "corrected": self.corrected}


def count_sizes(
    cells: Path, section: Image, settings: dict[str, Any], patches: dict[str, FloatArray] | None = None
) -> PatchSizes:
    """Count the cells of each patch of a section by diameter.

    `cells` is the table that the maps were made from, `section` one of the maps, `settings` the parameters in its
    sidecar, for the corrections, and `patches` the pictures of the section.
    """
    shape = section.data.shape
    if section.data.size > MOST_PATCHES:
        raise InputError(f"histograms of {section.data.size:,} patches would make the report too large")
    try:
        table = pq.read_table(require_file(cells, "cell table"), columns=["x_um", "y_um", "diameter_um"])
    except (ArrowInvalid, KeyError) as error:
        raise InputError(f"cannot be read ({error})", path=cells) from error
    x, y, size = (table[name].to_numpy().astype(float) for name in ("x_um", "y_um", "diameter_um"))
    row, column = index_of(np.stack([-1e-3 * x, -1e-3 * y, np.zeros_like(x)], axis=1), section)
    factor, corrected = _correction(settings)
    good = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1]) & np.isfinite(size)
    row, column, size = row[good], column[good], size[good] * factor
    top = float(np.ceil(np.quantile(size, 0.998))) if size.size else 40.0
    edges = np.linspace(0.0, top, BINS + 1)
    flat = (row * shape[1] + column) * BINS + np.minimum((size / (top / BINS)).astype(int), BINS - 1)
    counts = np.bincount(flat, minlength=section.data.size * BINS).reshape(section.data.size, BINS)
    return PatchSizes(edges, counts, dict(patches or {}), corrected)


def _correction(settings: dict[str, Any]) -> tuple[float, str]:
    """Return the one factor that undoes what the maps were corrected for, as far as there is one, and its name."""
    if factor := settings.get("SizeFactor"):
        return float(factor), "diameters corrected for shrinkage and sectioning, as the maps"
    if factor := settings.get("ShrinkageStretch"):  # Wicksell's correction changes the distribution, not each diameter
        return float(factor), "diameters of profiles, corrected for shrinkage alone"
    return 1.0, "diameters of profiles, not corrected"


def patches_of_section(section: Image) -> FloatArray:
    """Return the number of each patch of a section, in its own order."""
    return np.arange(section.data.size, dtype=float).reshape(section.data.shape)


def patches_under(like: Image, section: Image, transform: Transform | None) -> FloatArray:
    """Return the number of the patch under the middle of each pixel of an MRI slice, -1 where there is none."""
    i, j = np.indices(like.data.shape)
    index = np.stack([i.ravel(), j.ravel(), np.zeros(i.size), np.ones(i.size)])
    world: FloatArray = np.asarray((like.affine @ index)[:3].T, dtype=float)
    row, column = index_of(world if transform is None else transform.inverse().points(world), section)
    rows, columns = section.data.shape
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    return np.where(inside, row * columns + column, _OFF).reshape(like.data.shape)


def index_of(world_mm: FloatArray, section: Image) -> tuple[IntArray, IntArray]:
    """Return row and column of the patches that hold points of the section's world."""
    inverse = np.linalg.inv(section.affine)
    index = world_mm @ inverse[:2, :3].T + inverse[:2, 3]
    # Half a patch to either side belongs to it, its lower edges included.
    row, column = np.floor(index + 0.5 + 1e-9).astype(int).T
    return row, column
