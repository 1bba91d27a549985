"""A slide drawn where its MRI, or the next section, is: tile by tile, each from the part of the slide that it needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.files import atomic_path, provenance, write_json
from histomri.core.images import Image
from histomri.core.orientation import View
from histomri.registration.files import slide_sidecar
from histomri.registration.sides import slide_image
from histomri.registration.transform import Transform, slice_found

_LARGEST_PICTURE_PX, _LARGEST_PIECE, _MOST_PIXELS = 900, 60_000_000, 4_000_000_000
_EMPTY, _TILE = 255, 256
_LITTLE, _SAME_SIZE = 0.01, 0.02
Shape = tuple[int, int]


class Picture(Protocol):
    """A slide at one resolution, such as `histomri.slides.View`."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""

    @property
    def um_per_px(self) -> tuple[float, float]:
        """Pixel size."""

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Read a part, (height, width, 3)."""


def warp_region(
    transform: Transform, picture: Picture, affine: FloatArray, shape: Shape, *, order: int = 1
) -> NDArray[np.uint8]:
    """Draw a slide on a grid in the world of the MRI, (I, J, 3) uint8, white where the slide ends.

    The transform goes from the world of the slide to that of the MRI; `affine` takes the index (i, j, 0) of the result,
    of the `shape` (I, J), to world mm; `order` is 0 for the nearest pixel, 1 for linear interpolation. An InputError is
    raised if so much of the slide would be needed at once that it does not fit; take smaller pieces or a coarser level.
    """
    if order not in (0, 1):
        raise InputError(f"order {order} is not available", hint="use order=1, or order=0 for labels")
    i, j = np.indices(shape).reshape(2, -1)
    world = np.column_stack([i, j]) @ np.asarray(affine)[:3, :2].T + np.asarray(affine)[:3, 3]
    there = -transform.inverse().points(world)[:, :2] * 1000 / picture.um_per_px - 0.5
    result = np.full((*shape, 3), _EMPTY, np.uint8)
    size = np.array(picture.size_px)
    inside = np.all((there > -0.5) & (there < size - 0.5), axis=1)
    if not inside.any():
        return result
    low = np.clip(np.floor(there[inside].min(axis=0)).astype(int), 0, size - 1)
    high = np.clip(np.floor(there[inside].max(axis=0)).astype(int) + 2, 1, size)
    width, height = (int(length) for length in high - low)
    if width * height > _LARGEST_PIECE:
        problem = f"this piece needs {width} x {height} pixels of the slide at once"
        raise InputError(problem, hint="smaller pieces, or coarser")
    part = picture.read(int(low[0]), int(low[1]), width, height).astype(float)
    where = (there[inside] - low).T[::-1]
    for channel in range(3):
        drawn = map_coordinates(part[..., channel], where, order=order, mode="nearest")
        result.reshape(-1, 3)[inside, channel] = np.clip(np.rint(drawn), 0, 255)
    return result


def warp_tiles(
    transform: Transform, picture: Picture, affine: FloatArray, shape: Shape, *, size: int = 256, order: int = 1
) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """Give a warped slide tile by tile, as (first i, first j, pixels); see `warp_region`."""
    if size < 1:
        raise GeometryError(f"tiles of {size} pixels are not possible")
    for i in range(0, shape[0], size):
        for j in range(0, shape[1], size):
            corner = np.array(affine, dtype=float)
            corner[:, 3] = corner @ (i, j, 0.0, 1.0)
            piece = min(size, shape[0] - i), min(size, shape[1] - j)
            yield i, j, warp_region(transform, picture, corner, piece, order=order)


@dataclass(frozen=True, eq=False)
class SlidePictures:
    """Two slides in colour on one grid, one as it lies on the other, and the size of that one."""

    moved: NDArray[np.uint8]
    fixed: NDArray[np.uint8]
    size_mm: tuple[float, float]

    @classmethod
    def of(cls, found: Transform, moving: Picture | None, fixed: Picture | None) -> "SlidePictures | None":
        """Draw both on the grid of the fixed one, at most 900 pixels long; None if one is no slide."""
        if moving is None or fixed is None:
            return None
        width, height = fixed.size_px
        step = -(-max(width, height) // _LARGEST_PICTURE_PX)
        still = fixed.read(0, 0, width, height)[::step, ::step]
        um = np.asarray(fixed.um_per_px) * step
        grid = slide_image(np.zeros(still.shape[:2]), (float(um[0]), float(um[1])))
        moved = warp_region(found, moving, grid.affine, still.shape[:2])
        size = um * (still.shape[1], still.shape[0]) / 1000
        return cls(moved, still, (float(size[0]), float(size[1])))


@dataclass(frozen=True, eq=False)
class Canvas:
    """The grid that a slide is drawn on: affine, index (i, j, 0) to world mm, shape (I, J), and pixel size."""

    affine: FloatArray
    shape: tuple[int, int]
    um_per_px: float

    @classmethod
    def over_slice(
        cls, like: Image, um_per_px: float, transform: Transform, k: int | None = None, path: Path | None = None
    ) -> "Canvas":
        """Return the grid that covers slice `k`, or that registered, the way up in which radiologists look at it."""
        if like.data.ndim == 3:
            k = slice_found(transform.info) if k is None else k
            if k is None:
                problem = "has several slices, and the transform does not say which"
                raise InputError(problem, path=path, hint="pass --slice")
            if k >= like.data.shape[2]:
                raise GeometryError(f"there is no slice {k}", path=path)
            like = like.slice(k)
        view, step = View.of(like), um_per_px / 1000
        order = [1, 0] if view.transpose else [0, 1]
        size, voxel = np.array(like.data.shape)[order], like.voxel_mm[order]
        edges = like.affine[:3, order].T.copy()
        corner = like.affine[:3, 3] - edges.sum(axis=0) / 2
        for n, flipped in enumerate((view.flip_rows, view.flip_columns)):
            if flipped:
                corner = corner + size[n] * edges[n]
                edges[n] *= -1
        shape = np.maximum(np.rint(size * voxel / step), 1).astype(int)
        affine = np.eye(4)
        affine[:3, :2] = (edges / voxel[:, None] * step).T
        affine[:3, 2] = like.affine[:3, 2]
        affine[:3, 3] = corner + affine[:3, :2].sum(axis=1) / 2
        return cls(affine, (int(shape[0]), int(shape[1])), um_per_px)

    @classmethod
    def over_slide(cls, field_um: tuple[float, float], um_per_px: float) -> "Canvas":
        """Return the grid that covers a slide, from its top left corner."""
        shape = max(round(field_um[1] / um_per_px), 1), max(round(field_um[0] / um_per_px), 1)
        return cls(slide_image(np.zeros((1, 1)), um_per_px).affine, shape, um_per_px)

    def warnings(self, drawn: float, like: str) -> tuple[str, ...]:
        """Warn where hardly anything was drawn; `drawn` is what `carry_slide` returns."""
        if not drawn:
            return (f"nothing of the slide lies in the field of view of {like}",)
        white = f"only {100 * drawn:.2g} % of the picture is not white: check that {like}"
        right = "is, or is in the world of, the image that was registered, and that the slide is the section's"
        return (f"{white} {right}",) if drawn < _LITTLE else ()


def carry_slide(transform: Transform, picture: Picture, canvas: Canvas, path: Path, *, order: int = 1) -> float:
    """Draw a slide on a canvas, as a tiled OME-TIFF, and return the fraction of its pixels that are not white.

    The transform goes from the world of the slide to that of the canvas; `picture` is the slide at the resolution to
    draw from, such as `histomri.slides.View`; `order` is 0 for the nearest pixel, 1 for linear interpolation.
    """
    shape, um, coloured = canvas.shape, canvas.um_per_px, 0
    if shape[0] * shape[1] > _MOST_PIXELS:
        raise InputError(f"the result would have {shape[0]} x {shape[1]} pixels", hint="pass a larger --um-per-px")

    def tiles() -> Iterator[NDArray[np.uint8]]:
        nonlocal coloured
        for _, _, piece in warp_tiles(transform, picture, canvas.affine, shape, size=_TILE, order=order):
            tile = np.full((_TILE, _TILE, 3), 255, np.uint8)
            tile[: piece.shape[0], : piece.shape[1]] = piece
            coloured += int((tile < 255).any(axis=2).sum())
            yield tile

    size = {f"PhysicalSize{axis}": um for axis in "XY"} | {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
    form: dict[str, Any] = {"ome": True, "metadata": {"axes": "YXS", **size}, "tile": (_TILE, _TILE)}
    form |= {"photometric": "rgb", "compression": "zlib", "bigtiff": shape[0] * shape[1] > 1_000_000_000}
    form |= {"resolution": (1e4 / um, 1e4 / um), "resolutionunit": "CENTIMETER"}
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, tiles(), shape=(*shape, 3), dtype=np.uint8, **form)
    return coloured / (shape[0] * shape[1])


def other_slide_warnings(transform: Transform, name: str, field_um: tuple[float, float]) -> tuple[str, ...]:
    """Warn of a slide that is not as large as the one that was registered."""
    record = transform.info.get("Moving")
    if not isinstance(record, dict) or not {"Size_px", "PixelSize_um"} <= set(record):
        return ()
    field = np.multiply(record["Size_px"], record["PixelSize_um"])
    if np.allclose(field_um, field, rtol=_SAME_SIZE):
        return ()
    other = f"the registered {record.get('Slide')} of {field[0]:.0f} x {field[1]:.0f} µm"
    own = f"{name} is of {field_um[0]:.0f} x {field_um[1]:.0f} µm"
    return (f"{own}, and {other}: is it another slide, or another picture of it?",)


def write_place(out: Path, canvas: Canvas, sources: Sequence[Path], order: int) -> Path:
    """Write the JSON file that says where a drawn slide lies."""
    where = {"Units": "mm", "CoordinateSystem": "fixed world, RAS+", "AffineRowColumnToWorld": canvas.affine}
    settings = {"UmPerPx": canvas.um_per_px, "Order": order}
    return write_json(slide_sidecar(out), {**where, **provenance(sources, settings)})
