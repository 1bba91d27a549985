"""Stains: how much of each there is in a pixel, by colour deconvolution in QuPath's units.

By Beer and Lambert the optical density of a pixel is the sum of those of its stains (Ruifrok and Johnston 2001,
Anal Quant Cytol Histol 23:291): OD = -log10(value / background) = amounts @ vectors. Each vector has length 1, so that
an amount is an optical density and QuPath's thresholds (0.2 for positive) mean the same here.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.core.files import require_file
from histomri.slides.slide import Slide, Tile
from histomri.slides.tissue import Raster, Tissue

_HINT = (
    'pass QuPath\'s own text, {"Name": "H-DAB", "Stain 1": "Hematoxylin", "Values 1": "0.65 0.70 0.29", "Stain 2": '
    '"DAB", "Values 2": "0.27 0.57 0.78", "Background": "243 243 243"}, or a file that holds it'
)
_DARKEST_BACKGROUND = 150  # pixels darker than this in some channel are no glass
_LEAST_GLASS = 0.005
# Paler pixels have no colour to speak of; the darkest are clipped, folded or black.
_PALE_OD, _DARK_OD = 0.15, 1.5
_EDGES = (1, 99)  # per cent; the very edges are noise
_LEAST_PIXELS = 1000
_LEAST_ANGLE = 15.0  # hematoxylin and DAB are some 40 degrees apart; within so few there is one stain only
_TILE_PX, _MOST_TILES, _MOST_PIXELS = 256, 60, 400_000
_OTHER_STAINS = "leave out --stains, or estimate them in QuPath (Analyze > Preprocessing) and pass the text"


@dataclass(frozen=True, eq=False)
class Stains:
    """Vectors of three stains of a slide, (3, 3): a row per stain, red, green, blue optical density, of length 1."""

    names: tuple[str, str, str]  # of the three stains
    vectors: FloatArray
    background_rgb: FloatArray | None = None  # (3,): colour of the glass; None if it has to be estimated
    source: str = "given"  # where the vectors are from

    def __post_init__(self) -> None:
        vectors = np.array(self.vectors, dtype=float)
        if vectors.shape != (3, 3) or not np.isfinite(vectors).all():
            raise InputError("stain vectors are three times three finite numbers", hint=_HINT)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if (lengths < 1e-6).any() or abs(np.linalg.det(vectors / np.maximum(lengths, 1e-6))) < 1e-3:
            raise InputError("the stain vectors are too alike to separate the stains", hint=_HINT)
        object.__setattr__(self, "vectors", vectors / lengths)
        if self.background_rgb is not None:
            background = np.array(self.background_rgb, dtype=float)
            if background.shape != (3,) or not ((background >= 1) & (background <= 255)).all():
                problem = f"a background of {self.background_rgb} is not possible"
                raise InputError(problem, hint="give R,G,B, each from 1 to 255")
            object.__setattr__(self, "background_rgb", background)

    @classmethod
    def h_dab(cls) -> "Stains":
        """Return hematoxylin and DAB with the vectors of Ruifrok and Johnston, which scikit-image has."""
        from skimage.color import rgb_from_hdx

        return cls(("Hematoxylin", "DAB", "Residual"), rgb_from_hdx, None, "default H-DAB (Ruifrok and Johnston)")

    @classmethod
    def from_qupath(cls, text: str, source: str = "given", *, typed: bool = False) -> "Stains":
        """Read the text that QuPath shows and stores for stain vectors; a third stain may be missing.

        In its own files, QuPath's background of 255 is its way of saying that none was set, so it is estimated then; a
        background that a person `typed` is used as it is.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError("the stain vectors are no JSON", hint=_HINT) from error
        if not isinstance(content, dict):
            raise InputError("the stain vectors are no JSON object", hint=_HINT)
        first, second = _numbers(content, "Values 1"), _numbers(content, "Values 2")
        third = _numbers(content, "Values 3") if "Values 3" in content else np.cross(first, second)
        one, two, three = (str(content.get(f"Stain {number}", "Residual")) for number in (1, 2, 3))
        background = _numbers(content, "Background") if "Background" in content else np.full(3, 255)
        stated = "Background" in content
        glass = background if (stated and typed) or (background != 255).any() else None
        if stated and glass is None:
            source += ", whose background of 255 means that none was set"
        return cls((one, two, three), np.stack([first, second, third]), glass, source)

    @classmethod
    def read(cls, given: str, option: str = "--stains") -> "Stains":
        """Read stain vectors as a person gives them: QuPath's text itself, or a file that holds it."""
        if given.lstrip().startswith("{"):
            return cls.from_qupath(given, option, typed=True)
        path = require_file(given, "file of stain vectors")
        return cls.from_qupath(path.read_text(encoding="utf-8-sig", errors="replace"), path.name, typed=True)

    @property
    def dab(self) -> int:
        """Number of the stain DAB."""
        found = [number for number, name in enumerate(self.names) if "dab" in name.lower()]
        if len(found) != 1:
            raise InputError(
                f"the stains {', '.join(self.names)} do not have one that is called DAB", hint="name it so"
            )
        return found[0]

    def amount(self, rgb: NDArray[np.uint8], stain: int) -> NDArray[np.float32]:
        """Return how much of a stain, by its number, each pixel (..., 3) has, (...,), as optical density.

        As in QuPath, a channel brighter than the background has density 0, and amounts may be negative.
        """
        if self.background_rgb is None:
            raise InputError("the background has to be known before stains are separated")
        weights = np.linalg.inv(self.vectors)[:, stain]
        values = np.maximum(np.arange(256), 1)[:, None]
        table = (np.clip(-np.log10(values / self.background_rgb), 0, None) * weights).astype(np.float32)
        return np.asarray(table[rgb[..., 0], 0] + table[rgb[..., 1], 1] + table[rgb[..., 2], 2])

    def amounts(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return how much of each stain each pixel has, (..., 3); see `amount`."""
        return np.stack([self.amount(rgb, stain) for stain in range(3)], axis=-1)


def estimate_background(rgb: NDArray[np.uint8], tissue: BoolArray) -> tuple[FloatArray, str]:
    """Return the colour of the glass, (3,), and how it was found, from a thumbnail (h, w, 3) and its tissue (h, w).

    Glass is the median of what is no tissue, without pure white, which fills the parts that were not scanned. Without
    glass in the picture, its brightest half percent stands in: gaps and vessels.
    """
    glass = rgb[~tissue & (rgb < 255).any(axis=2) & (rgb.min(axis=2) >= _DARKEST_BACKGROUND)]
    if len(glass) >= _LEAST_GLASS * tissue.size:
        return np.median(glass, axis=0), "median of the glass"
    white = (rgb == 255).all(axis=2) & ~tissue
    if np.count_nonzero(white) >= _LEAST_GLASS * tissue.size:
        return np.full(3, 255.0), "white glass"
    return np.percentile(rgb.reshape(-1, 3), 99.5, axis=0), "brightest 0.5 % of the picture (it shows no glass)"


def _numbers(content: dict[str, Any], key: str) -> FloatArray:
    value = content.get(key)
    try:
        words = value.replace(",", " ").split() if isinstance(value, str) else list(value)  # type: ignore[arg-type]
        numbers = np.array([float(word) for word in words])
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.shape != (3,) or not np.isfinite(numbers).all():
        raise InputError(f"the stain vectors lack three numbers at {key!r}", hint=_HINT)
    return numbers


def estimate_stains(rgb: NDArray[np.uint8], background_rgb: FloatArray) -> Stains:
    """Estimate hematoxylin and DAB from pixels of both, by the method of Macenko et al. (2009).

    In optical density, the pixels of two stains fill a wedge of a plane, and its edges are the stains. The plane is
    that of the two largest principal components, the edges are extreme percentiles of the angle in it
    (doi 10.1109/ISBI.2009.5193250). `rgb` (N, 3), 8 bits, are pixels of tissue, `background_rgb` (3,) is the glass.
    Raises InputError if there are too few stained pixels, or only one stain.
    """
    density = -np.log10(np.maximum(rgb, 1) / background_rgb)
    density = density[(density.max(axis=1) > _PALE_OD) & (density.max(axis=1) < _DARK_OD)]
    if len(density) < _LEAST_PIXELS:
        raise InputError(f"{len(density):,} stained pixels are too few to estimate the stains from", hint=_OTHER_STAINS)
    plane = np.linalg.eigh(density.T @ density)[1][:, :0:-1]
    # The first component points to where the stain is, so that angles lie around 0.
    plane[:, 0] *= np.sign(plane[:, 0].sum())
    across = density @ plane
    low, high = np.deg2rad(np.percentile(np.rad2deg(np.arctan2(across[:, 1], across[:, 0])), _EDGES))
    edges = np.stack([np.cos([low, high]), np.sin([low, high])], axis=1) @ plane.T
    edges = np.clip(edges, 0, None)
    edges /= np.linalg.norm(edges, axis=1, keepdims=True)
    if (angle := _degrees(edges[0], edges[1])) < _LEAST_ANGLE:
        problem = f"the stains of the slide are {angle:.0f} degrees apart, as if there were one only"
        raise InputError(problem, hint=_OTHER_STAINS)
    # DAB is brown: of the two, the one that takes more blue than red.
    dab = int(np.argmax(edges[:, 2] - edges[:, 0]))
    vectors = np.stack([edges[1 - dab], edges[dab], np.cross(edges[1 - dab], edges[dab])])
    return Stains(Stains.h_dab().names, vectors, background_rgb, "estimated from the slide (Macenko)")


def usual_angles(stains: Stains) -> tuple[float, float]:
    """Return how far hematoxylin and DAB are from their usual colours, degrees."""
    hematoxylin, dab, _ = map(_degrees, stains.vectors, Stains.h_dab().vectors)
    return hematoxylin, dab


def tissue_pixels(
    slide: Slide, tissue: Tissue, um_per_px: float, region: BaseGeometry | None = None
) -> NDArray[np.uint8]:
    """Return pixels of the tissue, (N, 3), from tiles all over it; the same ones each time."""
    raster, view = None if region is None else Raster(region), slide.at(um_per_px)
    corners = [(x, y) for y in range(0, view.size_px[1], _TILE_PX) for x in range(0, view.size_px[0], _TILE_PX)]
    rng, pixels = np.random.default_rng(0), list[NDArray[np.uint8]]()
    for number in rng.permutation(len(corners)):
        x, y = corners[number]
        width, height = (min(_TILE_PX, size - start) for start, size in zip((x, y), view.size_px))
        inside = analysed_pixels(*view.centres_um(x, y, width, height), tissue, raster)
        if inside.any():
            pixels.append(view.read(x, y, width, height)[inside])
        if len(pixels) == _MOST_TILES:
            break
    found = np.concatenate(pixels) if pixels else np.empty((0, 3), np.uint8)
    return found if len(found) <= _MOST_PIXELS else rng.choice(found, _MOST_PIXELS, replace=False)


def _degrees(first: FloatArray, second: FloatArray) -> float:
    return float(np.rad2deg(np.arccos(np.clip(first @ second, -1, 1))))


@dataclass(frozen=True, eq=False)
class StainedArea:
    """How much of the tissue is stained."""

    stained: IntArray  # (ny, nx): stained pixels, per cell of a grid from the corner of the slide
    counted: IntArray  # (ny, nx): all pixels of the tissue or region
    cell_um: tuple[float, float]  # size of a cell of that grid
    um_per_px: tuple[float, float]  # resolution at which pixels were counted
    threshold: float  # optical density from which a pixel is stained

    @property
    def fraction(self) -> float:
        """Stained pixels per counted pixel; NaN if none was counted."""
        total = self.counted.sum()
        return float(self.stained.sum() / total) if total else float("nan")

    @property
    def area_mm2(self) -> float:
        """Area that was counted."""
        return float(self.counted.sum() * self.um_per_px[0] * self.um_per_px[1] / 1e6)

    def blocks(self, factor: int) -> tuple[IntArray, IntArray]:
        """Return stained and counted pixels of blocks of factor x factor cells."""
        rows, columns = (np.arange(0, length, factor) for length in self.counted.shape)
        by_row = (np.add.reduceat(cells, rows, axis=0) for cells in (self.stained, self.counted))
        stained, counted = (np.add.reduceat(cells, columns, axis=1) for cells in by_row)
        return stained, counted

    def standard_error(self, factor: int) -> float:
        """Return the standard error of the fraction over blocks of factor x factor cells; NaN with fewer than two.

        Neighbouring pixels are alike, so pixels are no independent samples; blocks larger than the patterns of the
        tissue nearly are. This is the error of a ratio of two sums (Cochran, Sampling Techniques, 1977, 6.3).
        """
        stained, counted = (block.ravel().astype(float) for block in self.blocks(factor))
        used = counted > 0
        n = int(np.count_nonzero(used))
        if n < 2:
            return float("nan")
        residual = stained[used] - self.fraction * counted[used]
        return float(np.sqrt(n / (n - 1) * (residual**2).sum()) / counted.sum())


def stained_area(
    slide: Slide, stains: Stains, *, threshold: float = 0.2, um_per_px: float = 1.0, tissue: Tissue | None = None,
    region: BaseGeometry | None = None, cell_um: float = 25.0, tile_px: int = 512,
    progress: Callable[[float], None] | None = None,
) -> StainedArea:  # fmt: skip
    """Count the pixels stained with DAB; `histomri.patches.measure_stained_area` makes Ki-67 of them.

    Parameters
    ----------
    slide, stains : Slide, Stains
        Bright-field, with a known pixel size; with a background.
    threshold, um_per_px : float
        Amount of DAB (optical density, QuPath's units) from which a pixel is stained; resolution of these pixels.
    tissue, region : Tissue, shapely geometry, optional
        Only pixels of the tissue count, and those whose centre is in the region (µm).
    cell_um, tile_px : float, int
        Grid of the counts that are kept, a cell is rounded to whole pixels; edge of the tiles that are read at a time.
    """
    if not (np.isfinite(threshold) and threshold > 0):
        raise InputError(f"a threshold of {threshold} is not possible", hint="pass an optical density, such as 0.2")
    view = slide.at(um_per_px)
    raster = None if region is None else Raster(region)
    across, down = (max(round(cell_um / size), 1) for size in view.um_per_px)
    shape = (-(-view.size_px[1] // down), -(-view.size_px[0] // across))
    stained, counted = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    dab, n_pixels = stains.dab, view.size_px[0] * view.size_px[1]
    for tile in view.tiles(tile_px, region):
        inside = analysed_pixels(*tile.centres_um, tissue, raster)
        if inside.any():
            above = (stains.amount(tile.rgb, dab) >= threshold) & inside
            for total, mask in ((stained, above), (counted, inside)):
                _add(total, mask, tile, (across, down))
        if progress is not None:
            progress(min((tile.y * view.size_px[0] + tile.x * tile.rgb.shape[0] + inside.size) / n_pixels, 1.0))
    if not counted.any():
        raise InputError("there is no tissue to count in", path=slide.path, hint="check the region, --roi")
    size = (across * view.um_per_px[0], down * view.um_per_px[1])
    return StainedArea(stained, counted, size, view.um_per_px, threshold)


def analysed_pixels(x: FloatArray, y: FloatArray, tissue: Tissue | None, raster: Raster | None) -> BoolArray:
    """Return which pixels are in tissue and region (h, w), for centres of columns (w,) and rows (h,), µm."""
    inside = np.ones((y.size, x.size), dtype=bool)
    if tissue is not None:
        inside &= tissue.inside(x, y)
    if raster is not None and inside.any():
        inside &= raster.inside(x, y)
    return inside


def _add(total: NDArray[np.int64], mask: BoolArray, tile: Tile, step: tuple[int, int]) -> None:
    """Add the pixels of a tile to the cells they lie in."""
    x, y = (tile.x + np.arange(mask.shape[1])) // step[0], (tile.y + np.arange(mask.shape[0])) // step[1]
    first_x, first_y = np.flatnonzero(np.diff(x, prepend=-1)), np.flatnonzero(np.diff(y, prepend=-1))
    sums = np.add.reduceat(np.add.reduceat(mask, first_y, axis=0, dtype=np.int64), first_x, axis=1)
    total[y[0] : y[-1] + 1, x[0] : x[-1] + 1] += sums


def ratio(stained: IntArray, counted: IntArray) -> FloatArray:
    """Return stained per counted, NaN where nothing was counted."""
    return np.asarray(np.divide(stained, counted, out=np.full(counted.shape, np.nan), where=counted > 0))
