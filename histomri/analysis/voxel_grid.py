"""Where the voxels of a map lie: lags between them, their distance to the edge, and compact parts of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.ndimage import convolve, distance_transform_edt, generate_binary_structure, label

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError

# Autocovariance is estimated up to this fraction of the largest distance; beyond are few pairs and much noise. With 0.6
# the test holds its level from white noise to maps with 7 effective voxels; with all lags it is a little too strict.
_LAGS = 0.6
_LARGEST_GRID = 60_000_000  # cells of the padded grid, 0.5 GB in double precision
# Layers of voxels along the edge by their distance to the outside, in voxels: those beside it by a side or a corner, ..
_LAYERS = (0.0, 1.2, 1.7, 2.1, 2.6)
_NEIGHBOURS = {1: 2, 2: 5}  # more than half of those along a line, and in a plane
_OTHER_SLICE = 1e9  # so far that no distance reaches there
_DEPENDENT = 1e-9  # a term of the edge that adds less than this fraction is a sum of others


@dataclass(frozen=True)
class VoxelGrid:
    """Where voxels lie relative to each other; made once, used for every pair of maps on the same voxels."""

    mask: BoolArray  # bounding box of the voxels
    order: IntArray  # (N,), flat place of each voxel in the box
    sides: FloatArray  # (D,), of a voxel, in units of the smallest
    padded: tuple[int, ...]  # size of the grid on which lags do not wrap
    spectrum: np.ndarray  # transform of the padded mask
    n_pairs: FloatArray  # ordered pairs of voxels at each lag
    lag_class: IntArray  # of each lag: its distance in units of the smallest voxel side, rounded, and its direction
    near: BoolArray  # lags up to 0.6 of the largest distance between voxels

    @classmethod
    def of(cls, index: ArrayLike, spacing: ArrayLike | None = None) -> Self:
        """Lay out voxels of integer indices (N, D), D from 1 to 3, and sides `spacing` (D,), equal if not given.

        It is an InputError if a voxel comes twice, or the voxels are spread over a box too large to hold.
        """
        places = np.asarray(index)
        if places.ndim != 2 or not len(places):
            raise InputError("voxel indices must be a table of i, j, k")
        low, high = places.min(axis=0), places.max(axis=0)
        shape = tuple(int(side) for side in high - low + 1)
        padded = tuple(next_fast_len(2 * side - 1, real=True) for side in shape)
        if math.prod(padded) > _LARGEST_GRID:
            raise InputError(f"voxels are spread over a box of {' x '.join(map(str, shape))}, which is too large")
        order = np.ravel_multi_index(tuple((places - low).T), shape)
        mask = np.zeros(shape, dtype=bool)
        mask.flat[order] = True
        if mask.sum() != len(places):
            raise InputError("a voxel comes twice", hint="select one model and strategy")
        sides = np.ones(len(shape)) if spacing is None else np.asarray(spacing, dtype=float)
        sides = sides / sides.min()
        spectrum = rfftn(mask.astype(float), padded)
        n_pairs = np.rint(irfftn(np.abs(spectrum) ** 2, padded))
        lags = np.meshgrid(*[np.fft.fftfreq(n, 1.0 / n) * side for n, side in zip(padded, sides)], indexing="ij")
        distance = _rounded(lags)
        near = distance <= _LAGS * distance[n_pairs > 0].max()
        classes = _lag_classes([lags[axis] for axis in _plane_first(shape, sides)])
        return cls(mask, order, sides, padded, spectrum, n_pairs, classes, near)

    @cached_property
    def edge_terms(self) -> FloatArray:
        """Orthonormal terms of the distance to the edge, (N, T), the constant among them; see `edge_terms`."""
        terms: list[np.ndarray] = [np.ones(self.order.size)]
        for distance in edge_distances(self._outline, self._plane):
            away = distance.flat[self.order]
            terms += [(away >= low) & (away < high) for low, high in pairwise(_LAYERS)]
            terms += [away, np.log(away)]
        matrix = np.stack(terms, axis=1).astype(float)
        basis, sizes, _ = np.linalg.svd(matrix / np.linalg.norm(matrix, axis=0).clip(1.0), full_matrices=False)
        return np.asarray(basis[:, sizes > _DEPENDENT * sizes[0]])

    @property
    def missing(self) -> float:
        """Fraction of the voxels within the outline that are missing."""
        return 1.0 - self.order.size / float(self._outline.sum())

    @cached_property
    def _outline(self) -> BoolArray:
        return outline(self.mask, self._plane)

    @property
    def _plane(self) -> list[int]:
        return _plane_first(self.mask.shape, self.sides)[:2]

    def without_edge(self, values: FloatArray) -> FloatArray:
        """Return what the distance to the edge does not explain of the values of the voxels (N,)."""
        return np.asarray(values - self.edge_terms @ (self.edge_terms.T @ values))

    @cached_property
    def quarters(self) -> IntArray:
        """Four compact parts of the voxels, (N,)."""
        return compact_parts(self._places, 2)

    @cached_property
    def eighths(self) -> IntArray:
        """Eight compact parts of the voxels, (N,)."""
        return compact_parts(self._places, 3)

    @cached_property
    def neighbours(self) -> tuple[IntArray, IntArray]:
        """Pairs of voxels of one quarter that share a side in the slice, (M,) and (M,), as places in the order."""
        number = np.full(self.mask.shape, -1)
        number.flat[self.order] = np.arange(self.order.size)
        found = []
        for axis in self._plane:
            along = np.moveaxis(number, axis, 0)
            found.append(np.stack([along[:-1].ravel(), along[1:].ravel()]))
        one, other = np.concatenate(found, axis=1)
        kept = (one >= 0) & (other >= 0)
        one, other = one[kept], other[kept]
        inside = self.quarters[one] == self.quarters[other]
        return one[inside], other[inside]

    @property
    def _places(self) -> FloatArray:
        return np.asarray(np.stack(np.unravel_index(self.order, self.mask.shape), axis=1).astype(float))

    def autocovariance(self, values: FloatArray) -> FloatArray:
        """Return the autocovariance of a map, by distance and direction, at every lag of the padded grid."""
        image = np.zeros(self.mask.shape)
        image.flat[self.order] = values - values.mean()
        return self._by_class(irfftn(np.abs(rfftn(image, self.padded)) ** 2, self.padded))

    def without_mean(self, covariance: FloatArray) -> FloatArray:
        """Return the autocovariance to be expected of maps with this one once their mean is removed."""
        means = np.zeros(self.mask.shape)
        means[self.mask] = self.row_sums(covariance) / self.order.size
        # Sums over the pairs at each lag of the row means of either voxel.
        crossed = irfftn(rfftn(means, self.padded) * np.conj(self.spectrum), self.padded)
        mirrored = irfftn(np.conj(rfftn(means, self.padded)) * self.spectrum, self.padded)
        level = means[self.mask].mean()
        return self._by_class((covariance + level) * self.n_pairs - crossed - mirrored)

    def _by_class(self, products: FloatArray) -> FloatArray:
        """Average sums over the pairs at each lag within classes of distance and direction."""
        classes = self.lag_class.ravel()
        sums = np.bincount(classes, np.where(self.n_pairs > 0, products, 0.0).ravel())
        return np.asarray((sums / self._pairs_of_class)[self.lag_class])

    @cached_property
    def _pairs_of_class(self) -> FloatArray:
        return np.maximum(np.bincount(self.lag_class.ravel(), self.n_pairs.ravel()), 1.0)

    def row_sums(self, covariance: FloatArray) -> FloatArray:
        """Return the sums of the rows of the covariance matrix between voxels, without building it."""
        sums = irfftn(rfftn(covariance) * self.spectrum, self.padded)
        return np.asarray(sums[tuple(slice(side) for side in self.mask.shape)][self.mask])


def _plane_first(shape: tuple[int, ...], sides: FloatArray) -> list[int]:
    """Return the axes along which voxels differ, those of the slice first; the thickest side is through the slices."""
    varying = [axis for axis, size in enumerate(shape) if size > 1] or [0]
    if len(varying) < 3:
        return varying
    through = max(varying, key=lambda axis: (sides[axis], axis))
    return [*[axis for axis in varying if axis != through], through]


def _rounded(lags: Sequence[FloatArray]) -> IntArray:
    """Return the distance of lags along some axes, rounded."""
    # Halves go up, also those that rounding has left just below.
    return np.asarray(np.floor(np.sqrt(sum(lag**2 for lag in lags)) + 0.5 + 1e-9).astype(int))


def _lag_classes(lags: Sequence[FloatArray]) -> IntArray:
    """Return which lags are taken together, of lags along the axes of the slice and through the slices.

    In a slice those of one rounded distance and one of four directions: the ends of a line are one direction, and each
    holds what lies within 22.5 degrees. Slices are thick and made apart: lags of so many slices are by themselves.
    """
    classes = _rounded(lags[:2])
    if len(lags) > 1:
        classes = classes * 4 + np.rint(np.arctan2(lags[1], lags[0]) / (np.pi / 4)).astype(int) % 4
    if len(lags) > 2:
        slices = np.unique(np.abs(lags[2]).round(6), return_inverse=True)[1].reshape(lags[2].shape)
        classes = classes + slices * (classes.max() + 1)
    return classes


def outline(mask: BoolArray, plane: list[int]) -> BoolArray:
    """Return what of the box belongs to the tissue, with a rim around it in the slices along the axes of the plane.

    Voxels that miss among others, inside or along the outline, are failed fits and no edge: a place with more than half
    of its neighbours counts as tissue, until none is left.
    """
    tissue = np.pad(mask, [(1, 1) if axis in plane else (0, 0) for axis in range(mask.ndim)])
    size = [3 if axis in plane else 1 for axis in range(mask.ndim)]
    while True:
        neighbours = convolve(tissue.astype(np.int8), np.ones(size, dtype=np.int8), mode="constant")
        filled: BoolArray = tissue | (neighbours >= _NEIGHBOURS[len(plane)])
        if (filled == tissue).all():
            return filled
        tissue = filled


def edge_distances(tissue: BoolArray, plane: list[int]) -> list[FloatArray]:
    """Return the distances to the outside of an outline, and to its nearest hole if there is one, in voxels.

    Distances are taken within the slices along the axes of the plane, where partial volume acts. What does not belong
    to the tissue and does not reach the outside is a hole.
    """
    joined = generate_binary_structure(tissue.ndim, 1)
    for axis in set(range(tissue.ndim)) - set(plane):
        joined &= np.arange(3).reshape([3 if place == axis else 1 for place in range(tissue.ndim)]) == 1
    inner = tuple(slice(1, -1) if axis in plane else slice(None) for axis in range(tissue.ndim))
    border = np.ones(tissue.shape, dtype=bool)
    border[inner] = False
    numbers, _ = label(~tissue, joined)
    outside = np.isin(numbers, np.unique(numbers[border])) & ~tissue
    sampling = [1.0 if axis in plane else _OTHER_SLICE for axis in range(tissue.ndim)]
    parts = [part for part in (outside, ~tissue & ~outside) if part.any()]
    found = [np.asarray(distance_transform_edt(~part, sampling=sampling))[inner] for part in parts]
    # In a slice without a hole the nearest is that of another, which is no distance.
    return [np.minimum(distance, max(tissue.shape)) for distance in found]


def compact_parts(points: FloatArray, halvings: int) -> IntArray:
    """Divide points (N, D) into 2^halvings compact parts of equal number (to one), each half across its longer side."""
    parts = np.zeros(len(points), dtype=int)
    for _ in range(halvings):
        parts *= 2
        for part in np.unique(parts):
            members = np.flatnonzero(parts == part)
            spread = points[members].var(axis=0)
            # Rounding must not choose between two sides that are equally long.
            axis = int(np.flatnonzero(spread >= spread.max() * (1.0 - 1e-9))[0])
            others = [points[members, other] for other in reversed(range(points.shape[1])) if other != axis]
            along = np.lexsort((*others, points[members, axis]))
            parts[members[along[round(members.size / 2) :]]] += 1
    return parts
