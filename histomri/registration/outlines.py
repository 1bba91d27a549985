"""Tissue masks and signed distances to their outline."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter, label, map_coordinates
from scipy.spatial import cKDTree
from skimage.filters import threshold_otsu
from skimage.measure import find_contours

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.registration.planes import Plane

_LEAST_BACKGROUND, _SMALL_PIECE, _LEAST_PIXELS, _LARGEST_GRID = 0.05, 0.05, 20, 1200
_TISSUE_FROM, _CLEAR_OF_NOISE = 0.35, 5.0
_NEAREST = 2  # pieces of the outline that a distance is measured to: those with the nearest middles
_BRIGHT_BORDER = 0.5
"""Fraction of the border from which bright pixels surround the tissue: fluid, agar or the rest of a body."""


def tissue_mask(image: Image, what: str = "image") -> FloatArray:
    """Return where the tissue is, 1 or 0, from the image itself.

    NaN is background if it reaches the border of the picture. Else exact zeros are, if there are at least 5 % of them.
    Without either, Otsu's threshold separates bright tissue from dark noise, lowered where dark tissue can still be
    distinguished. Pieces smaller than a twentieth of the largest are dropped. An InputError is raised if there is no
    background, or most of the border is bright, as where fluid surrounds the tissue.
    """
    known = np.isfinite(data := np.asarray(image.data))
    if not known.any():
        raise InputError(f"the {what} holds no finite value")
    if not _border(known).all():
        return _large_pieces(known).astype(float)
    data = np.where(known, data, np.median(data[known]))
    nonzero = data != 0
    masked = np.mean(~nonzero) >= _LEAST_BACKGROUND and nonzero.any()
    return (_large_pieces(nonzero) if masked else _bright(data, what)).astype(float)


def _bright(data: FloatArray, what: str) -> BoolArray:
    """Return what is clearly brighter than the noise."""
    if np.ptp(data) == 0:
        raise InputError(f"the {what} is constant, so tissue cannot be told from background", hint="give a mask")
    level = float(threshold_otsu(data.ravel()))  # a last axis of 3 or 4 is no colour
    empty, tissue = data[data <= level], data[data > level]
    # Otsu's level takes dark tissue, far from the coil, for background: go lower, but stay clear of the noise.
    ground = float(np.median(empty))
    noise = 1.4826 * float(np.median(np.abs(empty - ground)))
    lower = max(ground + _TISSUE_FROM * (float(np.median(tissue)) - ground), ground + _CLEAR_OF_NOISE * noise)
    bright = _large_pieces(data > min(level, lower))
    fraction = float(_border(bright).mean())
    if fraction > _BRIGHT_BORDER:
        around = f"bright along {100 * fraction:.0f} % of its border, as where fluid surrounds the tissue"
        raise InputError(f"the {what} is {around}, so the two cannot be told apart", hint="give a mask of the tissue")
    return bright


def _border(mask: BoolArray) -> BoolArray:
    """Return the values along the border of the picture, or of every slice."""
    return np.concatenate([edge.ravel() for edge in (mask[[0, -1]], mask[1:-1, [0, -1]])])


def coverage(mask: Image, what: str = "mask") -> FloatArray:
    """Return a mask as the covered fraction of each pixel.

    Values between 0 and 1 are taken as fractions (a fraction puts the outline at the right place inside the pixel),
    everything else as tissue where it is positive. An InputError is raised if the mask is empty.
    """
    data = np.nan_to_num(np.asarray(mask.data, dtype=float), nan=0.0, posinf=0.0, neginf=0.0)
    values = data if data.min() >= 0 and data.max() <= 1 else (data > 0).astype(float)
    if not (values > 0.5).any():
        raise InputError(f"the {what} is empty")
    return np.asarray(values)


@dataclass(frozen=True, eq=False)
class Outline:
    """The signed distance to the outline of the tissue in one plane, on a fine isotropic grid.

    The first grid point is at `origin` (2,), p and q mm, and the grid runs along the two columns of `axes` (2, 2),
    which are those of the pixels of the mask: turned in space, it gives the same numbers. `inside` (A, B) is tissue
    with holes left open, `filled` with holes filled, and `distance` and `distance_filled` are signed, mm, negative
    inside.
    """

    origin: FloatArray
    axes: FloatArray
    step_mm: float
    inside: BoolArray
    filled: BoolArray
    distance: FloatArray
    distance_filled: FloatArray

    @classmethod
    def of(cls, values: FloatArray, plane: Plane, step_mm: float, margin_mm: float, what: str = "mask") -> "Outline":
        """Compute the outline of a coverage, (I, J) in 0..1, that lies in `plane`.

        An InputError is raised if fewer than 20 pixels are covered, or all are.
        """
        if (covered := int((values > 0.5).sum())) < _LEAST_PIXELS:
            raise InputError(f"the {what} covers {covered} pixels, too few for an outline", hint="give another mask")
        if covered == values.size:
            raise InputError(f"the {what} covers the whole image, so it has no outline", hint="give another mask")
        i, j = np.nonzero(values > 0.5)
        first = plane.grid[:2, 0] / np.linalg.norm(plane.grid[:2, 0])
        axes = np.column_stack([first, (-first[1], first[0])])
        points = axes.T @ (plane.grid @ np.stack([i, j, np.ones_like(i)]))[:2]
        low, high = points.min(axis=1) - plane.voxel_mm, points.max(axis=1) + plane.voxel_mm
        step_mm = max(step_mm, float((high - low + 2 * margin_mm).max()) / _LARGEST_GRID)
        origin = axes @ (low - margin_mm)
        shape = tuple(np.ceil((high - low + 2 * margin_mm) / step_mm).astype(int) + 1)
        places = origin + step_mm * np.indices(shape).reshape(2, -1).T @ axes.T
        index = np.linalg.inv(plane.grid) @ np.column_stack([places, np.ones(len(places))]).T
        # A light blur takes the staircase off a coarse mask; a stronger one keeps a fine mask from being undersampled.
        blur = max(0.5, 0.5 * step_mm / plane.voxel_mm)
        margin = 3 + int(np.ceil(4 * blur))
        smooth = gaussian_filter(np.pad(values, margin), blur, mode="constant")
        if not (smooth > 0.5).any():
            raise InputError(f"the {what} is too thin for an outline", hint="give another mask")
        holes = binary_fill_holes(smooth > 0.5) & (smooth <= 0.5)
        closed = np.where(holes, 1 - smooth, smooth)  # above a half there, so that no outline is left around them
        fields = []
        for level in (smooth, closed) if holes.any() else (smooth,):
            covered_here = map_coordinates(level, index[:2] + margin, order=1, mode="constant").reshape(shape) > 0.5
            segments = _segments(level, margin, plane)
            fields.append((covered_here, _distances(segments, places, covered_here)))
        (inside, with_holes), (filled, without) = fields[0], fields[-1]
        return cls(origin, axes, step_mm, inside, filled, with_holes, without)

    @property
    def area_mm2(self) -> float:
        """Area with holes filled."""
        return float(self.filled.sum() * self.step_mm**2)

    @property
    def centre(self) -> FloatArray:
        """Centroid with holes filled, (2,) mm."""
        return self.place(np.array([axis.mean() for axis in np.nonzero(self.filled)]))

    def place(self, index: FloatArray) -> FloatArray:
        """Return p, q of places on the grid, (..., 2), mm."""
        return np.asarray(self.origin + self.step_mm * index @ self.axes.T)

    def index(self, points: FloatArray) -> FloatArray:
        """Return the place on the grid of p, q, (..., 2)."""
        return np.asarray((points - self.origin) @ self.axes / self.step_mm)

    def at(self, points: FloatArray, *, filled: bool) -> FloatArray:
        """Return signed distance and its derivatives at p, q, (N, 2) -> (3, N); edge values go on outside the grid."""
        field = self.distance_filled if filled else self.distance
        index = np.clip(self.index(points), 0, np.array(field.shape) - 1 - 1e-6)
        corner = index.astype(np.intp)
        u, v = (index - corner).T
        flat = corner[:, 0] * field.shape[1] + corner[:, 1]
        # The four corners of a cell give the bilinear value and its slope at once; a library call per part is slower.
        v00, v01, v10, v11 = (field.ravel().take(flat + move) for move in (0, 1, field.shape[1], field.shape[1] + 1))
        low, high = v00 + (v10 - v00) * u, v01 + (v11 - v01) * u
        along = (v10 - v00) * (1 - v) + (v11 - v01) * v
        return np.stack([low + (high - low) * v, *(self.axes @ np.stack([along, high - low]) / self.step_mm)])


def _segments(smooth: FloatArray, margin: int, plane: Plane) -> tuple[FloatArray, FloatArray]:
    """Return the pieces of the outline at half coverage, as their starts and ends, (N, 2) mm in the plane.

    They are found in the pixels of the mask itself: whatever way the plane is turned, they are the same.
    """
    lines = [line - margin for line in find_contours(smooth, 0.5)]
    lines = [np.column_stack([line, np.ones(len(line))]) @ plane.grid[:2].T for line in lines]
    return np.concatenate([line[:-1] for line in lines]), np.concatenate([line[1:] for line in lines])


def _distances(segments: tuple[FloatArray, FloatArray], points: FloatArray, inside: BoolArray) -> FloatArray:
    """Return the signed distance of points, in the order of `inside`, to the pieces of an outline, mm."""
    start, end = segments
    along = end - start
    squared = np.maximum(np.sum(along**2, axis=1), 1e-300)
    nearest = cKDTree((start + end) / 2).query(points, k=min(_NEAREST, len(start)))[1].reshape(len(points), -1)
    least = np.full(len(points), np.inf)
    for chosen in nearest.T:
        away = points - start[chosen]
        place = np.clip(np.sum(away * along[chosen], axis=1) / squared[chosen], 0.0, 1.0)
        np.minimum(least, np.sum((away - place[:, None] * along[chosen]) ** 2, axis=1), out=least)
    distance = np.sqrt(least).reshape(inside.shape)
    return np.asarray(np.where(inside, -distance, distance))


def signed_distance(inside: BoolArray) -> FloatArray:
    """Return the distance of every pixel to the outline of a mask, in pixels, negative inside."""
    # Half a pixel: the transform measures between pixel centres, and the outline runs between them.
    outer, inner = distance_transform_edt(~inside) - 0.5, distance_transform_edt(inside) - 0.5
    return np.asarray(np.where(inside, -inner, outer))


def _large_pieces(mask: BoolArray) -> BoolArray:
    labels, count = label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= _SMALL_PIECE * sizes.max())[labels])
