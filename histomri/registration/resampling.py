"""Drawing one image on the grid of another, with unknown voxels kept unknown."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates, minimum_filter, spline_filter

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.images import Image

_LEAST_WEIGHT = 0.5
_SUPPORT = 4  # voxels along an axis that a cubic spline weighs at a place
_ON_SLICE = 1e-3


def resample(transform: Any, image: Image, like: Image, order: int = 1) -> Image:
    """Draw `image` on the grid of `like`; see `Transform.resample`.

    Cubic interpolation is scipy's B-spline. A spline sees every voxel, so one without a value, or the end of the image,
    would ring through its surroundings: such voxels are filled with the nearest known one, and the spline is used only
    where all voxels within two of the place are known. Linear interpolation under an affine transform is DIPY's, the
    rest scipy's: DIPY's nearest neighbour leaves out half a voxel at the far edges, and its maps cannot chain several
    fields.
    """
    if order not in (0, 1, 3):
        raise InputError(f"order {order} is not available", hint="use order=1 or 3 for maps, or 0 for labels")
    shape = like.data.shape if like.data.ndim == 3 else (*like.data.shape, 1)
    volume: NDArray[Any] = np.asarray(image.data) if order == 0 else np.asarray(image.data, dtype=float)
    volume = volume[..., None] if (flat := volume.ndim == 2) else volume
    if transform.is_affine and order == 1:
        matrix = np.linalg.inv(image.affine) @ np.linalg.inv(transform.matrix) @ like.affine
        i, j, k = np.ogrid[: shape[0], : shape[1], : shape[2]]
        depth = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 2] * k + matrix[2, 3]
        values = _normalised(volume, _affine_sampler(matrix, shape, flat=flat))
    else:
        grid = np.stack([axis.ravel() for axis in np.indices(shape)], axis=1)
        world = transform.inverse().points(grid @ like.affine[:3, :3].T + like.affine[:3, 3])
        index = np.linalg.inv(image.affine[:3, :3]) @ (world - image.affine[:3, 3]).T
        depth = index[2].reshape(shape)
        if flat:
            index = np.stack([index[0], index[1], np.zeros_like(index[2])])
        if order == 0:
            values = _nearest(volume, index).reshape(shape)
        else:
            values = _normalised(volume, partial(map_coordinates, coordinates=index, order=1, mode="grid-constant"))
            values = (values if order == 1 else _with_spline(volume, index, values)).reshape(shape)
    if flat:  # it is as thick as the thicker of the two slices
        half = float(0.5 * max(image.voxel_mm[2], like.voxel_mm[2]) / image.voxel_mm[2]) + 1e-6
        values[np.abs(depth) > half] = _unknown(values.dtype)
    return Image(values.reshape(like.data.shape), like.affine)


def _unknown(dtype: np.dtype[Any]) -> float | int:
    """Return what stands for "not known": integers have no NaN, and 0 is no label."""
    return np.nan if dtype.kind == "f" else 0


def _nearest(volume: NDArray[Any], index: FloatArray) -> NDArray[Any]:
    """Return the nearest voxel of each place, in the type of the volume: no label goes through a float."""
    size, nearest = np.array(volume.shape)[:, None], np.floor(index + 0.5)
    inside = np.all((nearest >= 0) & (nearest < size), axis=0)
    values = volume[tuple(np.clip(nearest, 0, size - 1).astype(int))]
    return np.where(inside & np.isfinite(values), values, np.array(_unknown(volume.dtype), dtype=volume.dtype))


def _with_spline(volume: FloatArray, index: FloatArray, linear: FloatArray) -> FloatArray:
    """Return the values of a cubic spline where all voxels around are known, `linear` elsewhere."""
    known = np.isfinite(volume)
    if not known.any():
        return linear
    size = [1 if length == 1 else _SUPPORT for length in volume.shape]
    corner = np.floor(index)
    if np.all(np.abs(index[2] - np.rint(index[2])) < _ON_SLICE):  # on one slice its neighbours have no say
        size[2], corner[2] = 1, np.rint(index[2])
    origin = [-1 if length > 1 else 0 for length in size]
    complete = minimum_filter(known.astype(np.uint8), size, mode="constant", cval=0, origin=origin)
    spline = _nearest(complete, corner).astype(bool)
    filled = volume[tuple(distance_transform_edt(~known, return_distances=False, return_indices=True))]
    heights = spline_filter(filled, order=3, mode="mirror")
    values = linear.copy()
    values[spline] = map_coordinates(heights, index[:, spline], order=3, mode="mirror", prefilter=False)
    return values


def _normalised(volume: FloatArray, sample: Any) -> FloatArray:
    known = np.isfinite(volume)
    weight = sample(known.astype(float))
    total = sample(np.where(known, volume, 0.0))
    enough = weight >= _LEAST_WEIGHT - 1e-9
    return np.where(enough, total / np.where(enough, weight, 1.0), np.nan)


def _affine_sampler(matrix: FloatArray, shape: tuple[int, ...], *, flat: bool) -> Any:
    from dipy.align.imaffine import AffineMap

    matrix = matrix.copy()
    if flat:  # the plane is extended along its normal; how far is decided by the depth
        matrix[2] = 0.0

    def sample(volume: FloatArray) -> FloatArray:
        # The matrix goes in as the world of the grid, because DIPY inverts its affine, and a flat one has no inverse.
        own = {"codomain_grid_shape": volume.shape, "codomain_grid2world": np.eye(4)}
        grid = AffineMap(np.eye(4), domain_grid_shape=shape, domain_grid2world=matrix, **own)
        return np.asarray(grid.transform(volume, interpolation="linear"), dtype=float)

    return sample
