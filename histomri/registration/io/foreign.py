"""Transforms of other programs that nitransforms reads, and what all such readers share.

They pull: a matrix takes a point of the fixed image to its place in the moving image.
"""

from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.registration.displacement import Displacement
from histomri.registration.io.registry import Images, TransformFormat, register_format
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


def _nifti_like(images: Any) -> dict[str, Any]:
    """Return the two images, both given, as nitransforms takes them; of these only shape and affine are read."""
    from nibabel import Nifti1Image

    shapes = ((*image.data.shape, 1)[:3] for image in images)
    made = [Nifti1Image(np.broadcast_to(np.uint8(0), shape), image.affine) for shape, image in zip(shapes, images)]
    return dict(zip(("moving", "reference"), made, strict=True))


def _read_afni(path: Path, images: Images) -> Transform:
    """Read a matrix of 3dAllineate: the pull in LPS mm of both images without their obliquity."""
    from nitransforms.io.afni import AFNILinearTransform

    rows = [line for line in path.read_text(encoding="ascii").splitlines() if line.strip() and line.strip()[0] != "#"]
    if len(rows) not in (1, 3):  # in one row, or as a matrix
        raise InputError(f"holds {len(rows)} rows, and one affine was expected")
    read_numbers(" ".join(rows), 12)
    return from_pull(AFNILinearTransform.from_string(" ".join(rows)).to_ras(**_nifti_like(images)), path)


def _read_fsl(path: Path, images: Images) -> Transform:
    """Read a matrix of flirt.

    FSL stores the map from the moving to the fixed image, in mm counted along the stored axes of each, the first axis
    reversed where the voxel axes are right-handed: without both images a matrix means nothing.
    """
    from nitransforms.io.fsl import FSLLinearTransform

    numbers = read_numbers(path.read_text(encoding="ascii"), 16)
    return from_pull(FSLLinearTransform(numbers.reshape(4, 4)).to_ras(**_nifti_like(images)), path)


def _is_text(path: Path) -> bool:
    """Whether a .mat file is text, as FSL writes it, and not MATLAB's."""
    content = path.read_bytes()
    return content.isascii() and b"\x00" not in content


def _read_lta(path: Path, images: Images) -> Transform:
    """Read a transform of FreeSurfer; both images are described in the file."""
    from nitransforms.io.lta import FSLinearTransformArray

    found = FSLinearTransformArray.from_string(path.read_text(encoding="utf-8"))
    if found["nxforms"] != 1:
        raise InputError(f"holds {found['nxforms']} transforms, and one was expected")
    return from_pull(np.asarray(found.to_ras()[0]), path)


def _read_composite(path: Path, images: Images) -> Transform:
    """Read affines and displacement fields of ITK and ANTs, one after the other."""
    from nitransforms.io.itk import ITKCompositeH5, ITKLinearTransform

    parts = ITKCompositeH5.from_filename(path)
    if not parts:
        raise InputError("holds no transform")
    whole = Transform.identity()
    for part in parts:  # ITK pulls through the last one first, so points are pushed through the first one first
        if isinstance(part, ITKLinearTransform):
            link = from_pull(part.to_ras(), path)
        else:
            vectors = np.asarray(part.dataobj, dtype=float)
            link = Transform(np.eye(4), (Displacement(vectors, part.affine, inverted=True),))
        whole = link.compose(whole)
    return Transform(whole.matrix, whole.displacements, {"Sources": [path.name]})


register_format(TransformFormat("AFNI matrix", (".1d",), _read_afni, needs_images=True))
register_format(TransformFormat("FSL matrix", (".mat",), _read_fsl, holds=_is_text, needs_images=True))
register_format(TransformFormat("composite transform of ITK", (".h5", ".hdf5"), _read_composite))
register_format(TransformFormat("LTA file", (".lta",), _read_lta))
