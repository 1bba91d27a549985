"""Whole-slide images: one small interface, whichever library can read the file."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image as Picture
from shapely.geometry.base import BaseGeometry

from histomri.core.arrays import FloatArray
from histomri.core.calibration import PixelSize
from histomri.core.display import Displayed
from histomri.core.errors import InputError, UnitError

RGB = NDArray[np.uint8]
_BLOCK_PIXELS = 16_000_000  # so much of a stored level is held at once: 48 MB
LARGEST_PICTURE = 400_000_000  # a whole picture is made in memory; beyond this, tiles are meant


class Slide(Displayed, ABC):
    """An opened slide; a context manager.

    Coordinates are those of QuPath: x right, y down, from the top left corner of the full-resolution image, which for
    slides with an empty margin is the corner of the scanned part. `size_px` (width, height) is the size of that image,
    `pixel_size_um` (x, y) its pixel size, None if it is not known, and `pixel_size_from` the source of that;
    `level_sizes` are the sizes of the stored levels, the full resolution first.
    """

    path: Path
    pixel_size_um: PixelSize | None = None
    pixel_size_from: str = ""
    size_px: tuple[int, int]
    level_sizes: tuple[tuple[int, int], ...]

    @abstractmethod
    def read(self, level: int, x: int, y: int, width: int, height: int) -> RGB:
        """Read a part of a stored level as (height, width, 3); x and y are pixels of that level.

        Parts that were never scanned are white.
        """

    def stated_pixel_sizes(self) -> list[tuple[str, PixelSize | None]]:
        """Return the pixel sizes that the file states, by source."""
        return []

    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def facts(self) -> dict[str, Any]:
        """Return the facts that `repr` shows."""
        size = "unknown" if self.pixel_size_um is None else "{:.4g} x {:.4g} µm".format(*self.pixel_size_um)
        levels = ", ".join(f"{width} x {height}" for width, height in self.level_sizes)
        return {"slide": self.path.name, "pixel size": size, "levels": f"{levels} px"}

    def plot(self, um_per_px: float | None = None, axes: Any = None) -> Any:
        """Draw the whole slide, by default some 1000 pixels wide; return the Axes, in µm."""
        from matplotlib import pyplot

        wide, high = self.field_um
        axes = axes if axes is not None else pyplot.subplots()[1]
        axes.imshow(self.thumbnail(um_per_px or max(wide, high) / 1000), extent=(0, wide, high, 0))
        axes.set(xlabel="x (µm)", ylabel="y (µm)", title=self.path.name)
        return axes

    @property
    def downsamples(self) -> tuple[float, ...]:
        """How much smaller each stored level is than the first."""
        return tuple(self.size_px[0] / width for width, _ in self.level_sizes)

    @property
    def field_um(self) -> tuple[float, float]:
        """Width and height of the image in µm."""
        if self.pixel_size_um is None:
            raise UnitError("the slide states no pixel size", path=self.path, hint="give the pixel size, --mpp")
        return self.size_px[0] * self.pixel_size_um[0], self.size_px[1] * self.pixel_size_um[1]

    def at(self, um_per_px: float) -> "View":
        """Return the slide at a wanted resolution; nothing is read yet.

        The smallest stored level that is fine enough is taken, whatever its number, and averaged down. The slide is
        never enlarged: where the wanted resolution is finer than the slide's, the view has that of the slide.
        """
        field = self.field_um
        if not (np.isfinite(um_per_px) and um_per_px > 0):
            raise InputError(f"a resolution of {um_per_px} µm per pixel is not possible", path=self.path)
        factors = [um_per_px * size / length for size, length in zip(self.size_px, field)]
        fine_enough = [level for level, down in enumerate(self.downsamples) if down <= min(factors) * 1.001]
        level = max(fine_enough, key=lambda index: self.downsamples[index], default=0)
        width, height = (max(round(n / max(f, 1)), 1) for n, f in zip(self.size_px, factors))
        return View(self, level, (width, height), (field[0] / width, field[1] / height))

    def thumbnail(self, um_per_px: float) -> RGB:
        """Return the whole slide at a wanted resolution, (h, w, 3)."""
        view = self.at(um_per_px)
        width, height = view.size_px
        if width * height > LARGEST_PICTURE:
            problem = f"a picture at {um_per_px:g} µm per pixel has {width * height / 1e6:,.0f} million pixels"
            raise InputError(problem, path=self.path, hint="take a coarser one, or tiles")
        return view.read(0, 0, width, height)

    def tiles(self, um_per_px: float, size: int = 512, region: BaseGeometry | None = None) -> Iterator["Tile"]:
        """Cut the slide into tiles at a wanted resolution, row by row; see `View.tiles`."""
        return self.at(um_per_px).tiles(size, region)


@dataclass(frozen=True, eq=False)
class Tile:
    """A part of a slide."""

    rgb: RGB  # (h, w, 3) uint8
    x: int  # of the top left corner, in pixels of the view
    y: int
    um_per_px: tuple[float, float]  # x, y
    centres_um: tuple[FloatArray, FloatArray]  # of the pixels: x of each column (w,), y of each row (h,)


@dataclass(frozen=True, eq=False)
class View:
    """A slide at one resolution."""

    slide: Slide
    level: int  # stored level that it is made of
    size_px: tuple[int, int]  # width, height in its own pixels
    um_per_px: tuple[float, float]  # x, y; within half a pixel per slide of the wanted size

    def read(self, x: int, y: int, width: int, height: int) -> RGB:
        """Read a part, (height, width, 3); x, y, width and height are pixels of the view."""
        wide, high = self.size_px
        if min(x, y) < 0 or min(width, height) < 1 or x + width > wide or y + height > high:
            problem = f"there is no part of {width} x {height} px at ({x}, {y}) in a view of {wide} x {high} px"
            raise InputError(problem, path=self.slide.path)
        out = np.empty((height, width, 3), np.uint8)
        self._fill(out, x, y)
        return out

    def centres_um(self, x: int, y: int, width: int, height: int) -> tuple[FloatArray, FloatArray]:
        """Return the centres of the pixels of a part in µm of the slide: x of each column (w,), y of each row (h,)."""
        across, down = self.um_per_px
        return (x + np.arange(width) + 0.5) * across, (y + np.arange(height) + 0.5) * down

    def tiles(self, size: int = 512, region: BaseGeometry | None = None) -> Iterator[Tile]:
        """Give the tiles row by row, each once and without overlap; those at the right and lower edge are smaller.

        `size` is the edge of a tile in pixels, which bounds the memory; tiles that do not touch `region` (shapely
        geometry, µm) are passed over.
        """
        if size < 1:
            raise InputError(f"tiles of {size} pixels are not possible")
        if region is not None:
            shapely.prepare(region)
        across, down = self.um_per_px
        for y in range(0, self.size_px[1], size):
            height = min(size, self.size_px[1] - y)
            for x in range(0, self.size_px[0], size):
                width = min(size, self.size_px[0] - x)
                box = shapely.box(x * across, y * down, (x + width) * across, (y + height) * down)
                if region is None or shapely.intersects(region, box):
                    centres = self.centres_um(x, y, width, height)
                    yield Tile(self.read(x, y, width, height), x, y, self.um_per_px, centres)

    def _fill(self, out: RGB, x: int, y: int) -> None:
        """Read the part at (x, y) into `out`, in pieces if the stored part is large."""
        height, width = out.shape[:2]
        stored = self.slide.level_sizes[self.level]
        scale = stored[0] / self.size_px[0], stored[1] / self.size_px[1]
        if width * scale[0] * height * scale[1] > _BLOCK_PIXELS and max(width, height) > 1:
            across, down = (width // 2, 0) if width >= height else (0, height // 2)
            self._fill(out[:, :across] if across else out[:down], x, y)
            self._fill(out[down:, across:], x + across, y + down)
            return
        left, right = x * scale[0], min((x + width) * scale[0], stored[0])
        top, bottom = y * scale[1], min((y + height) * scale[1], stored[1])
        x0, y0 = int(left + 1e-6), int(top + 1e-6)
        x1, y1 = int(np.ceil(right - 1e-6)), int(np.ceil(bottom - 1e-6))
        picture = self.slide.read(self.level, x0, y0, x1 - x0, y1 - y0)
        if picture.shape[:2] != (height, width):
            box = (max(left - x0, 0.0), max(top - y0, 0.0), min(right - x0, x1 - x0), min(bottom - y0, y1 - y0))
            picture = np.asarray(Picture.fromarray(picture).resize((width, height), Picture.Resampling.BOX, box=box))
        out[:] = picture
