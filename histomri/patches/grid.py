"""The grid of patches on a slide, and where it lies in the world."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import GeometryError

LARGEST_GRID = 25_000_000  # far more than a slide has at any sensible patch size: beyond it a unit is wrong
MOST_OVERLAP = 20  # windows overlap so many times along each axis at most
_SLACK = 1e-9  # a field of 10 patches may come out as 10.0000000001: that is no eleventh patch


@dataclass(frozen=True)
class PatchGrid:
    """Rectangular patches, rows down (y), columns right (x), in µm of the slide.

    `shape` is (ny, nx), pairs are (x, y). Patches overlap where `window_um`, their size, exceeds their step `patch_um`.

    Examples
    --------
    >>> grid = PatchGrid.covering([0, 1900], [0, 900], patch_um=(400, 300))
    >>> grid.shape
    (3, 5)
    """

    origin_um: tuple[float, float]  # (x, y): outer corner of the first patch
    patch_um: tuple[float, float]  # (w, h): distance of neighbouring patches, and their size unless they overlap
    shape: tuple[int, int]  # (ny, nx): number of rows and of columns
    thickness_um: float = 4.0  # that the maps state for their single slice
    # (w, h): size of a patch; larger than `patch_um` if patches overlap, around the same centre
    window_um: tuple[float, float] = None  # type: ignore[assignment]  # set below

    def __post_init__(self) -> None:
        if self.window_um is None:
            object.__setattr__(self, "window_um", self.patch_um)
        size, window = (f"{width:g} x {height:g} µm" for width, height in (self.patch_um, self.window_um))
        if any(not step <= size <= MOST_OVERLAP * step for size, step in zip(self.window_um, self.patch_um)):
            hint = f"take a step of 1/{MOST_OVERLAP} to 1 of the size of a patch"
            raise GeometryError(f"windows of {window} every {size} are not possible", hint=hint)
        sizes, hint = (*self.patch_um, self.thickness_um), "give positive sizes in µm"
        if not all(np.isfinite((*sizes, *self.origin_um))) or min(sizes) <= 0:
            raise GeometryError(f"patches of {size}, {self.thickness_um:g} µm thick, are not possible", hint=hint)
        if min(self.shape) < 1:
            raise GeometryError(f"a grid of {self.shape[0]} x {self.shape[1]} patches has no patch")
        _refuse_many(*self.shape, self.patch_um)

    @classmethod
    def covering(
        cls, x_um: ArrayLike | None = None, y_um: ArrayLike | None = None, *,
        field_um: tuple[float, float] | None = None, patch_um: float | tuple[float, float], thickness_um: float = 4.0,
        step_um: float | tuple[float, float] | None = None,
    ) -> "PatchGrid":  # fmt: skip
        """Make the grid that covers a field from its corner, or the bounding box of points if there is no field.

        Patch edges are at multiples of the patch size from the corner of the slide either way, so that two exports of
        one slide share their patches. `x_um`, `y_um` (N,) are points to cover, `field_um` (width, height) is the size
        of the imaged field and wins over them. `patch_um` is the size of a patch, (w, h) or one number for a square,
        and `step_um` the distance of neighbouring patches, if they are to overlap; the first one has its corner where
        it would have it otherwise.
        """
        size, step = (
            np.broadcast_to(np.asarray(given, dtype=float), (2,))
            for given in (patch_um, patch_um if step_um is None else step_um)
        )
        for text, given in ((f"patches of {patch_um} µm are", size), (f"a step of {step_um} µm is", step)):
            if not (np.isfinite(given).all() and (given > 0).all()):
                raise GeometryError(f"{text} not possible", hint="give positive sizes in µm")
        if field_um is not None:
            low, high = np.zeros(2), np.asarray(field_um, dtype=float)
        else:
            points = np.stack([np.asarray(x_um, dtype=float).ravel(), np.asarray(y_um, dtype=float).ravel()])
            if points.size == 0 or not np.isfinite(points).all():
                raise GeometryError("a grid needs a field, or at least one point with finite coordinates")
            low, high = points.min(axis=1), points.max(axis=1)
        first = np.floor(low / size + _SLACK)
        count = np.maximum(np.ceil((high - first * size - size) / step - _SLACK) + 1, 1)
        _refuse_many(count[1], count[0], (size[0], size[1]))
        origin = first * size + (size - step) / 2
        corner, distance, window = ((float(pair[0]), float(pair[1])) for pair in (origin, step, size))
        return cls(corner, distance, (int(count[1]), int(count[0])), float(thickness_um), window)

    @classmethod
    def from_affine(cls, affine: FloatArray, shape: tuple[int, int]) -> "PatchGrid":
        """Return the grid whose `affine` this is."""
        w, h, t = float(-1000 * affine[0, 1]), float(-1000 * affine[1, 0]), float(1000 * affine[2, 2])
        if min(w, h, t) > 0:
            origin = (float(-1000 * affine[0, 3] - w / 2), float(-1000 * affine[1, 3] - h / 2))
            grid = cls(origin, (w, h), shape, t)
            if np.allclose(grid.affine, affine, atol=1e-6 * np.abs(affine).max()):
                return grid
        raise GeometryError("the affine is not that of a patch map")

    @property
    def affine(self) -> FloatArray:
        """Patch index (row, column, 0) to world, RAS+ mm, (4, 4): x right and y down are shown so by viewers."""
        w, h, x, y, t = (length / 1000 for length in (*self.patch_um, *self.origin_um, self.thickness_um))
        return np.array([[0, -w, 0, -(x + w / 2)], [-h, 0, 0, -(y + h / 2)], [0, 0, t, 0], [0, 0, 0, 1.0]])

    @property
    def bounds_um(self) -> tuple[float, float, float, float]:
        """Outer edges (x low, y low, x high, y high)."""
        (x, y), (w, h), (rows, columns) = self.origin_um, self.patch_um, self.shape
        return x, y, x + w * columns, y + h * rows

    @property
    def edges_um(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Low and high x of the columns, (nx,), then low and high y of the rows, (ny,)."""
        edges: list[FloatArray] = []
        for axis, count in enumerate(self.shape[::-1]):
            step, size = self.patch_um[axis], self.window_um[axis]
            low = self.origin_um[axis] + np.arange(count + 1) * step
            # Neighbours share their edge to the last bit, unless they overlap.
            whole, start = size == step, low[:-1]
            edges += [start, low[1:]] if whole else [start + (step - size) / 2, start + (step + size) / 2]
        return edges[0], edges[1], edges[2], edges[3]

    def centres_um(self) -> FloatArray:
        """Return the centres of the patches, (ny, nx, 2), x first."""
        sides = zip(self.origin_um, self.patch_um, self.shape[::-1])
        return np.stack(np.meshgrid(*(low + (np.arange(n) + 0.5) * size for low, size, n in sides)), axis=-1)

    def index(self, x_um: ArrayLike, y_um: ArrayLike) -> tuple[IntArray, IntArray, BoolArray]:
        """Return row, column, and whether inside, of each point.

        An edge belongs to the patch right of or below it; the outermost edges belong to the last patches. Row and
        column of a point outside are those of the nearest patch.
        """
        column, right = _along(x_um, self.origin_um[0], self.patch_um[0], self.shape[1])
        row, down = _along(y_um, self.origin_um[1], self.patch_um[1], self.shape[0])
        return row, column, right & down


def _refuse_many(rows: float, columns: float, size_um: tuple[float, float]) -> None:
    if not rows * columns <= LARGEST_GRID:
        problem = f"{rows:,.0f} x {columns:,.0f} patches of {size_um[0]:g} x {size_um[1]:g} µm are too many"
        raise GeometryError(problem, hint="check the unit of the positions, or take larger patches")


def _along(values: ArrayLike, origin: float, size: float, count: int) -> tuple[IntArray, BoolArray]:
    steps = (np.asarray(values, dtype=float) - origin) / size
    inside = (steps >= -_SLACK) & (steps <= count * (1 + _SLACK))
    return np.clip(np.nan_to_num(steps, nan=0.0), 0, count - 1).astype(np.intp), inside
