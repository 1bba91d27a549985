"""Stained area fraction, tile by tile; and the stain vectors of a slide from its own pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.slides.slide import Slide, Tile
from histomri.slides.stains import Stains
from histomri.slides.tissue import Raster, Tissue

# Paler pixels have no colour to speak of; the darkest are clipped, folded or black.
_PALE_OD, _DARK_OD = 0.15, 1.5
_EDGES = (1, 99)  # per cent; the very edges are noise
_LEAST_PIXELS = 1000
# Hematoxylin and DAB are some 40 degrees apart; within so few there is one stain only.
_LEAST_ANGLE = 15.0
_TILE_PX, _MOST_TILES, _MOST_PIXELS = 256, 60, 400_000
_HINT = "leave out --stains, or estimate them in QuPath (Analyze > Preprocessing) and pass the text"


def estimate_stains(rgb: NDArray[np.uint8], background_rgb: FloatArray) -> Stains:
    """Estimate hematoxylin and DAB from pixels of both, by the method of Macenko et al. (2009).

    In optical density, the pixels of two stains fill a wedge of a plane, and its edges are the stains. The plane is
    that of the two largest principal components, the edges are extreme percentiles of the angle in it
    (doi 10.1109/ISBI.2009.5193250).

    Parameters
    ----------
    rgb : (N, 3) uint8 ndarray
        Pixels of tissue.
    background_rgb : (3,) ndarray
        Colour of the glass.

    Raises
    ------
    InputError
        If there are too few stained pixels, or only one stain.
    """
    density = -np.log10(np.maximum(rgb, 1) / background_rgb)
    density = density[(density.max(axis=1) > _PALE_OD) & (density.max(axis=1) < _DARK_OD)]
    if len(density) < _LEAST_PIXELS:
        raise InputError(f"{len(density):,} stained pixels are too few to estimate the stains from", hint=_HINT)
    plane = np.linalg.eigh(density.T @ density)[1][:, :0:-1]
    # The first component points to where the stain is, so that angles lie around 0.
    plane[:, 0] *= np.sign(plane[:, 0].sum())
    across = density @ plane
    low, high = np.deg2rad(np.percentile(np.rad2deg(np.arctan2(across[:, 1], across[:, 0])), _EDGES))
    edges = np.stack([np.cos([low, high]), np.sin([low, high])], axis=1) @ plane.T
    edges = np.clip(edges, 0, None)
    edges /= np.linalg.norm(edges, axis=1, keepdims=True)
    if _degrees(edges[0], edges[1]) < _LEAST_ANGLE:
        raise InputError(
            f"the stains of the slide are {_degrees(edges[0], edges[1]):.0f} degrees apart, as if there were one only",
            hint=_HINT,
        )
    usual = Stains.h_dab()
    # DAB is brown: of the two, the one that takes more blue than red.
    dab = int(np.argmax(edges[:, 2] - edges[:, 0]))
    hematoxylin, brown = edges[1 - dab], edges[dab]
    vectors = np.stack([hematoxylin, brown, np.cross(hematoxylin, brown)])
    return Stains(usual.names, vectors, background_rgb, "estimated from the slide (Macenko)")


def usual_angles(stains: Stains) -> tuple[float, float]:
    """Return how far hematoxylin and DAB are from their usual colours, degrees."""
    usual = Stains.h_dab()
    return _degrees(stains.vectors[0], usual.vectors[0]), _degrees(stains.vectors[1], usual.vectors[1])


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
        across, down = (
            (start + np.arange(n) + 0.5) * size for start, n, size in zip((x, y), (width, height), view.um_per_px)
        )
        inside = tissue.inside(across, down)
        if raster is not None:
            inside &= raster.inside(across, down)
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
        rows = np.arange(0, self.counted.shape[0], factor)
        columns = np.arange(0, self.counted.shape[1], factor)
        stained, counted = (
            np.add.reduceat(np.add.reduceat(cells, rows, axis=0), columns, axis=1)
            for cells in (self.stained, self.counted)
        )
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
    slide: Slide,
    stains: Stains,
    *,
    threshold: float = 0.2,
    um_per_px: float = 1.0,
    tissue: Tissue | None = None,
    region: BaseGeometry | None = None,
    cell_um: float = 25.0,
    tile_px: int = 512,
    progress: Callable[[float], None] | None = None,
) -> StainedArea:
    """Count the pixels stained with DAB; `histomri.patches.measure_stained_area` makes Ki-67 of them.

    Parameters
    ----------
    slide : Slide
        Bright-field, pixel size known.
    stains : Stains
        With a background.
    threshold : float
        Amount of DAB (optical density, QuPath's units) from which a pixel is stained.
    um_per_px : float
        Resolution at which pixels are judged.
    tissue, region : Tissue, shapely geometry, optional
        Only pixels of the tissue count, and those whose centre is in the region (µm).
    cell_um : float
        Grid of the counts that are kept; a cell is rounded to whole pixels.
    tile_px : int
        Tiles that are read at a time.
    """
    if not (np.isfinite(threshold) and threshold > 0):
        raise InputError(f"a threshold of {threshold} is not possible", hint="pass an optical density, such as 0.2")
    view = slide.at(um_per_px)
    raster = None if region is None else Raster(region)
    step = tuple(max(round(cell_um / size), 1) for size in view.um_per_px)
    shape = (-(-view.size_px[1] // step[1]), -(-view.size_px[0] // step[0]))
    stained, counted = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    dab, n_pixels = stains.dab, view.size_px[0] * view.size_px[1]
    for tile in view.tiles(tile_px, region):
        inside = analysed_pixels(*tile.centres_um, tissue, raster)
        if inside.any():
            above = (stains.amount(tile.rgb, dab) >= threshold) & inside
            for total, mask in ((stained, above), (counted, inside)):
                _add(total, mask, tile, (step[0], step[1]))
        if progress is not None:
            progress(min((tile.y * view.size_px[0] + tile.x * tile.rgb.shape[0] + inside.size) / n_pixels, 1.0))
    if not counted.any():
        raise InputError("there is no tissue to count in", path=slide.path, hint="check the region, --roi")
    size = (step[0] * view.um_per_px[0], step[1] * view.um_per_px[1])
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
