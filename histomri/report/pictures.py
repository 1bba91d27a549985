"""Pixels: maps as PNG data URIs, their scales, and what the cursor and a click find: numbers, sizes of the cells."""

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from histomri.core.array_files import read_parquet
from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.registration import Transform

MOST_PATCHES = 20_000  # of a section; histograms of more would make the report too large
BINS = 32
_OFF = -1.0  # where a pixel lies on no patch
_LONG_LABEL = 5  # characters; longer ones run into each other where bars stand side by side
_LEVELS = 254  # one byte per pixel, of which 0 says "not measured"


@dataclass(frozen=True)
class Scale:
    """A colour scale; values beyond its ends take the colour of the end."""

    low: float
    high: float
    cmap: str  # of matplotlib, perceptually uniform
    unit: str
    title: str

    def gradient(self) -> str:
        """Return the CSS of the colour bar."""
        colours = (255 * colormaps[self.cmap](np.linspace(0, 1, 17))[:, :3]).round().astype(int)
        return f"linear-gradient(to right, {', '.join('#' + bytes(colour.tolist()).hex() for colour in colours)})"

    def ticks(self) -> list[dict[str, str]]:
        """Return label and place (percent from the left) of round values."""
        long = max(len(number(end)) for end in (self.low, self.high)) > _LONG_LABEL
        values = MaxNLocator(nbins=3 if long else 5, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        span = self.high - self.low
        inside = [value for value in values if self.low - 1e-9 * span <= value <= self.high + 1e-9 * span]
        places = [100 * (value - self.low) / span for value in inside]
        # Labels near an end are pushed inwards, so that they stay on the page.
        shifts = ["0" if place < 4 else "-100%" if place > 96 else "-50%" for place in places]
        rows = zip(inside, places, shifts)
        return [{"label": number(value), "left": f"{place:.2f}", "shift": shift} for value, place, shift in rows]


def number(value: float) -> str:
    """Return a value as a short label, thousands with a thin space."""
    value = float(f"{value:.3g}")
    text = f"{value:g}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", "\u202f")
    return text.replace("-", "\u2212")


def fit_scale(
    arrays: Sequence[FloatArray], cmap: str, unit: str, title: str, floor: float | None = None, top: float = 98.0
) -> Scale:
    """Choose a scale from the 2nd to the 98th (or `top`) percentile of all arrays, widened to round numbers."""
    values = np.concatenate([array[np.isfinite(array)].ravel() for array in arrays] or [np.zeros(0)])
    low, high = np.percentile(values, [2, top]) if values.size else (0.0, 1.0)
    if not high > low:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    step = 10.0 ** np.floor(np.log10(high - low)) / 4
    low = floor if floor is not None else float(np.floor(low / step) * step)
    return Scale(low, float(np.ceil(high / step) * step), cmap, unit, title)


def png(picture: FloatArray, scale: Scale) -> str:
    """Return a picture as a PNG data URI, one pixel per value; not measured is transparent.

    Its pixels are the numbers of `levels`, and its palette is the scale: the page reads values from the picture itself.
    """
    coded = levels(picture, scale)
    palette = np.zeros((_LEVELS + 2, 3), np.uint8)
    palette[1:] = (colormaps[scale.cmap](np.linspace(0, 1, _LEVELS + 1))[:, :3] * 255).round()
    lines = np.pad(coded, ((0, 0), (1, 0)))  # each line begins with 0: no filter
    header = struct.pack(">2I5B", coded.shape[1], coded.shape[0], 8, 3, 0, 0, 0)  # 8 bits, with a palette
    parts = {b"IHDR": header, b"PLTE": palette.tobytes(), b"tRNS": b"\0", b"IDAT": _deflated(lines), b"IEND": b""}
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )
    return data_uri("image/png", b"\x89PNG\r\n\x1a\n" + content)


def levels(picture: FloatArray, scale: Scale) -> NDArray[np.uint8]:
    """Return a picture as bytes: 0 not measured, 1 to 255 from the low to the high end of the scale."""
    fraction = np.clip((picture - scale.low) / (scale.high - scale.low), 0, 1)
    return np.where(np.isfinite(picture), 1 + np.round(np.nan_to_num(fraction) * _LEVELS), 0).astype(np.uint8)


def packed(numbers: NDArray[Any]) -> str:
    """Return numbers for the page: their bytes, compressed, in base64."""
    return base64.b64encode(_deflated(numbers)).decode()


def _deflated(numbers: NDArray[Any]) -> bytes:
    return zlib.compress(np.ascontiguousarray(numbers).tobytes(), level=9)


def outline(inside: BoolArray) -> str:
    """Return the border of a set of pixels as an SVG path, in pixels."""
    padded = np.pad(inside, 1)
    across = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])  # borders between rows
    along = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])  # borders between columns
    return "".join([f"M{x} {y}h1" for y, x in across] + [f"M{x} {y}v1" for y, x in along])


def data_uri(kind: str, content: bytes) -> str:
    """Return content as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


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
    table = read_parquet(cells, "cell table", ["x_um", "y_um", "diameter_um"])
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
