"""Bring histology onto the grid of an MRI slice."""

from collections.abc import Mapping

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError
from histomri.core.images import Image
from histomri.registration import Transform

MINIMUM_COVERAGE = 0.5
"""A resampled histology value counts if this fraction of its interpolation weights is measured."""

_SAME_MM = 1e-3  # sform and qform are stored as float32, which costs up to a few 1e-5 mm


def same_grid(one: Image, other: Image) -> bool:
    """Tell whether two images have the same shape and lie in the same place, to a thousandth of a millimetre."""
    if one.data.shape != other.data.shape:
        return False
    corners = np.array(np.meshgrid(*[(0.0, float(n)) for n in (*one.data.shape, 1)[:3]], [1.0])).reshape(4, -1)
    return bool(np.abs((one.affine - other.affine) @ corners).max() < _SAME_MM)


def require_same_grid(images: Mapping[str, Image], what: str) -> Image:
    """Return the first image, after checking that the others share its grid."""
    (first_name, first), *others = images.items()
    for name, image in others:
        if not same_grid(first, image):
            problem = f"{what}: {name} {image.data.shape} is not on the grid of {first_name} {first.data.shape}"
            raise GeometryError(problem, hint="make all of them from the same image")
    return first


def slice_of(image: Image, mri_slice: int | None) -> Image:
    """Return the slice as a 2D image; a 2D image is its own only slice."""
    if image.data.ndim == 2:
        if mri_slice not in (None, 0):
            raise GeometryError(f"there is no slice {mri_slice}: the MRI is a single slice")
        return image
    return image.slice(0 if mri_slice is None else mri_slice)


def find_slice(histology: Image, mri: Image, transform: Transform | None) -> int:
    """Return the MRI slice that holds the centre of the histology, or without a transform the one on its own grid."""
    if mri.data.ndim == 2:
        if transform is None and not same_grid(histology, mri):
            raise _different_grids(histology, mri)
        return 0
    if transform is None:
        for k in range(mri.data.shape[2]):
            if same_grid(histology, mri.slice(k)):
                return k
        raise _different_grids(histology, mri)
    centre = np.append((np.array([*histology.data.shape, 1.0]) - 1) / 2, 1.0)
    mapped = np.asarray(transform.points((histology.affine @ centre)[None, :3])).reshape(-1)
    position = float((np.linalg.inv(mri.affine) @ np.append(mapped[:3], 1.0))[2])
    k = round(position)
    if not 0 <= k < mri.data.shape[2]:
        last = mri.data.shape[2] - 1
        problem = f"the transform puts the histology at slice {position:.1f}, and the MRI has slices 0 to {last}"
        raise GeometryError(problem, hint="use the transform that was made for this MRI, from histology to MRI")
    return k


def _different_grids(histology: Image, mri: Image) -> GeometryError:
    problem = f"the histology maps {histology.data.shape} and the MRI maps {mri.data.shape} lie on different grids"
    hint = "register them and pass the transform (--xfm), or compare means of whole samples (--per sample)"
    return GeometryError(problem, hint=hint)


def onto_slice(image: Image, like: Image, transform: Transform | None) -> tuple[FloatArray, FloatArray]:
    """Resample a histology map onto an MRI slice: values, and the measured part of the weights they rest on, (I, J).

    The values are NaN where that part, the coverage, is below `MINIMUM_COVERAGE`.
    """
    finite = np.isfinite(image.data)
    if transform is None:
        return np.where(finite, image.data, np.nan), finite.astype(float)
    # A rim of empty patches makes "outside the section" the same as "not measured", at the border too.
    affine = image.affine.copy()
    affine[:, 3] = image.affine @ np.array([-1.0, -1.0, 0.0, 1.0])
    padded = Image(np.pad(np.where(finite, image.data, np.nan), 1, constant_values=np.nan), affine)
    measured = Image(np.pad(finite.astype(float), 1), affine)
    coverage = np.nan_to_num(np.asarray(transform.resample(measured, like, order=1).data, dtype=float), nan=0.0)
    values = np.asarray(transform.resample(padded, like, order=1).data, dtype=float)
    # The tolerance keeps a voxel halfway between two patches from depending on rounding.
    return np.where(coverage >= MINIMUM_COVERAGE - 1e-6, values, np.nan), coverage
