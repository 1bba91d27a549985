"""What the readers of other programs share: their transforms pull, from a fixed point to its moving point."""

from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.registration.transform import Transform

_LEAST_VOLUME = 1e-12


def from_pull(pull: FloatArray, path: Path) -> Transform:
    """Return the transform of a matrix (4, 4), fixed to moving world, RAS+ mm."""
    pull = np.asarray(pull, dtype=float)
    if not np.all(np.isfinite(pull)) or abs(np.linalg.det(pull)) < _LEAST_VOLUME:
        raise GeometryError("the transform cannot be inverted")
    matrix = np.linalg.inv(pull)
    matrix[3] = (0, 0, 0, 1)
    return Transform(matrix, info={"Sources": [path.name]})


def nifti_like(images: Any) -> list[Any]:
    """Return the two images, both given, as nitransforms takes them; of these only shape and affine are read."""
    from nibabel import Nifti1Image

    shapes = ((*image.data.shape, 1)[:3] for image in images)
    return [Nifti1Image(np.broadcast_to(np.uint8(0), shape), image.affine) for shape, image in zip(shapes, images)]


def read_numbers(text: str, count: int) -> FloatArray:
    """Return the numbers in a text, of which there must be so many."""
    try:
        numbers = np.array([float(word) for word in text.split()])
    except ValueError as error:
        raise InputError(f"has a parameter that is no number ({error})") from error
    return check_count(numbers, count)


def check_count(numbers: Any, count: int) -> FloatArray:
    """Return numbers as a flat array, once they are as many as expected, and finite."""
    flat: FloatArray = np.asarray(numbers, dtype=float).ravel()
    if len(flat) != count or not np.all(np.isfinite(flat)):
        raise InputError(f"has {len(flat)} parameters where {count} finite ones were expected")
    return flat
