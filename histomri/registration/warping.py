"""Slides drawn where the MRI is, piece by piece: only the part of the slide that a piece needs is read."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.registration.transform import Transform

_LARGEST_PIECE = 60_000_000
_EMPTY = 255


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
    transform: Transform, picture: Picture, affine: FloatArray, shape: tuple[int, int], *, order: int = 1
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
        raise InputError(
            f"this piece needs {width} x {height} pixels of the slide at once", hint="smaller pieces, or coarser"
        )
    part = picture.read(int(low[0]), int(low[1]), width, height).astype(float)
    where = (there[inside] - low).T[::-1]
    for channel in range(3):
        drawn = map_coordinates(part[..., channel], where, order=order, mode="nearest")
        result.reshape(-1, 3)[inside, channel] = np.clip(np.rint(drawn), 0, 255)
    return result


def warp_tiles(
    transform: Transform,
    picture: Picture,
    affine: FloatArray,
    shape: tuple[int, int],
    *,
    size: int = 256,
    **options: Any,
) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """Give a warped slide tile by tile, as (first i, first j, pixels); see `warp_region`."""
    if size < 1:
        raise GeometryError(f"tiles of {size} pixels are not possible")
    for i in range(0, shape[0], size):
        for j in range(0, shape[1], size):
            corner = np.array(affine, dtype=float)
            corner[:, 3] = corner @ (i, j, 0.0, 1.0)
            piece = min(size, shape[0] - i), min(size, shape[1] - j)
            yield i, j, warp_region(transform, picture, corner, piece, **options)
