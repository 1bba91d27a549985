"""Stained area fraction: how much of the tissue is stained, pixel by pixel, tile by tile."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.slides.raster import Raster
from histomri.slides.slide import Slide, Tile
from histomri.slides.stains import Stains
from histomri.slides.tissue import Tissue


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
