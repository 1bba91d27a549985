"""Drawing one image on the grid of another, with unknown voxels kept unknown."""

from typing import TYPE_CHECKING, Any

import numpy as np

from histomri.arrays import FloatArray
from histomri.errors import InputError
from histomri.maps import Image

if TYPE_CHECKING:
    from histomri.registration.transform import Transform

_LEAST_WEIGHT = 0.5


def resample(transform: "Transform", image: Image, like: Image, order: int = 1) -> Image:
    """Draw `image` on the grid of `like`; see `Transform.resample`.

    Linear interpolation under an affine transform is DIPY's. The rest is scipy's: DIPY's nearest neighbour leaves out
    half a voxel at the far edges, and its DiffeomorphicMap cannot chain several fields.
    """
    if order not in (0, 1):
        raise InputError(f"order {order} is not available", way_out="use order=1 for maps or order=0 for labels")
    shape = like.data.shape if like.data.ndim == 3 else (*like.data.shape, 1)
    volume = np.asarray(image.data, dtype=float)
    flat = volume.ndim == 2
    volume = volume[..., None] if flat else volume
    if transform.is_affine and order == 1:
        matrix = np.linalg.inv(image.affine) @ np.linalg.inv(transform.matrix) @ like.affine
        depth = _depths(matrix, shape)
        sample = _affine_sampler(matrix, shape, flat=flat)
    else:
        index = _indices(transform, image, like, shape)
        depth = index[2].reshape(shape)
        sample = _sampler(index, shape, flat=flat, order=order)
    values = _normalised(volume, sample, order)
    if flat:
        values[np.abs(depth) > _half_slice(image, like)] = np.nan
    return Image(values.reshape(like.data.shape), like.affine)


def _normalised(volume: FloatArray, sample: Any, order: int) -> FloatArray:
    known = np.isfinite(volume)
    weight = sample(known.astype(float))
    total = sample(np.where(known, volume, 0.0))
    enough = weight >= (_LEAST_WEIGHT - 1e-9 if order else 1.0)
    return np.where(enough, total / np.where(enough, weight, 1.0), np.nan)


def _affine_sampler(matrix: FloatArray, shape: tuple[int, ...], *, flat: bool) -> Any:
    from dipy.align.imaffine import AffineMap

    matrix = matrix.copy()
    if flat:  # the plane is extended along its normal; how far is decided by the depth
        matrix[2] = 0.0

    def sample(volume: FloatArray) -> FloatArray:
        # The matrix goes in as the world of the grid, because DIPY inverts its affine, and a flat one has no inverse.
        grid = AffineMap(
            np.eye(4),
            domain_grid_shape=shape,
            domain_grid2world=matrix,
            codomain_grid_shape=volume.shape,
            codomain_grid2world=np.eye(4),
        )
        return np.asarray(grid.transform(volume, interpolation="linear"), dtype=float)

    return sample


def _sampler(index: FloatArray, shape: tuple[int, ...], *, flat: bool, order: int) -> Any:
    from scipy.ndimage import map_coordinates

    if flat:
        index = np.stack([index[0], index[1], np.zeros_like(index[2])])

    def sample(volume: FloatArray) -> FloatArray:
        values = map_coordinates(volume, index, order=order, mode="grid-constant", cval=0.0, prefilter=False)
        return np.asarray(values.reshape(shape))

    return sample


def _indices(transform: "Transform", image: Image, like: Image, shape: tuple[int, ...]) -> FloatArray:
    grid = np.stack([axis.ravel() for axis in np.indices(shape)], axis=1)
    world = transform.inverse().points(grid @ like.affine[:3, :3].T + like.affine[:3, 3])
    return np.asarray(np.linalg.inv(image.affine[:3, :3]) @ (world - image.affine[:3, 3]).T)


def _depths(matrix: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    i, j, k = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return np.asarray(matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 2] * k + matrix[2, 3])


def _half_slice(image: Image, like: Image) -> float:
    """Return half the thicker of the two slices, in slices of `image`."""
    own = image.voxel_mm[2]
    return float(0.5 * max(own, like.voxel_mm[2]) / own) + 1e-6
