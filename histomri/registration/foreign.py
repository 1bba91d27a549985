"""Affine transforms made by other programs: ITK and ANTs (text or MATLAB), and FSL.

ITK and ANTs store, in LPS+ mm, the map from a point of the fixed image to the point of the moving image whose value
belongs there. FSL stores the map from the moving to the fixed image, in mm counted along the stored axes of each, the
first axis reversed where the voxel axes are right-handed: without both images an FSL matrix means nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.registration.transform import Transform

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_ITK_AFFINES = ("AffineTransform", "MatrixOffsetTransformBase")
_MATLAB_KEYS = ("__header__", "__version__", "__globals__")


def read_itk_text(path: Path) -> Transform:
    """Read an affine in ITK's text format, two- or three-dimensional."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError("is binary, and an ITK text transform was expected", path=path) from error
    if not lines or not lines[0].startswith("#Insight Transform File"):
        raise InputError("is not an ITK text transform", path=path)
    entries = [line.split(":", 1) for line in lines if ":" in line and not line.startswith("#")]
    if [key.strip() for key, _ in entries].count("Transform") != 1:
        raise InputError("holds several transforms or none, and one affine was expected", path=path)
    words = {key.strip(): value.strip() for key, value in entries}
    axes = _axes(words["Transform"], path)
    parameters = _words(words.get("Parameters", ""), axes * (axes + 1), path)
    centre = _words(words.get("FixedParameters", " ".join(["0"] * axes)), axes, path)
    return _from_itk(parameters, centre, path)


def read_mat(path: Path, moving: Image | None, fixed: Image | None) -> Transform:
    """Read a .mat file: ANTs and ITK write MATLAB files under this name, FSL four lines of text."""
    if not is_fsl(path):
        return _from_matlab(path)
    numbers = _words(path.read_text(encoding="ascii"), 16, path)
    if moving is None or fixed is None:
        raise InputError(
            "is an FSL matrix, which counts mm along the axes of two images",
            path=path,
            hint="give both: Transform.load(path, moving=.., fixed=..)",
        )
    matrix = _fsl_world(fixed) @ numbers.reshape(4, 4) @ np.linalg.inv(_fsl_world(moving))
    return _checked(matrix, path)


def is_fsl(path: Path) -> bool:
    """Return whether a .mat file is text, as FSL writes it, and not MATLAB's."""
    if path.suffix.lower() != ".mat" or not path.is_file():
        return False
    content = path.read_bytes()
    return content.isascii() and b"\x00" not in content


def _from_matlab(path: Path) -> Transform:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content: Mapping[str, Any] = loadmat(path)
    except (MatReadError, ValueError, TypeError, OSError, NotImplementedError) as error:
        raise InputError(f"is no MATLAB file of ITK ({error})", path=path) from error
    names = [name for name in content if name not in (*_MATLAB_KEYS, "fixed")]
    if len(names) != 1:
        raise InputError("holds several transforms or none, and one affine was expected", path=path)
    axes = _axes(names[0], path)
    parameters = np.asarray(content[names[0]], dtype=float).ravel()
    centre = np.asarray(content.get("fixed", np.zeros(axes)), dtype=float).ravel()
    _check_count(parameters, axes * (axes + 1), path)
    _check_count(centre, axes, path)
    return _from_itk(parameters, centre, path)


def _axes(name: str, path: Path) -> int:
    kind, *rest = name.split("_")
    if kind not in _ITK_AFFINES or rest[-2:] not in (["3", "3"], ["2", "2"]):
        raise InputError(
            f"holds a {name}, and a two- or three-dimensional affine was expected",
            path=path,
            hint="write it as AffineTransform_double_3_3",
        )
    return int(rest[-1])


def _from_itk(parameters: FloatArray, centre: FloatArray, path: Path) -> Transform:
    axes = len(centre)
    pull = np.eye(4)
    pull[:axes, :axes] = parameters[: axes**2].reshape(axes, axes)
    pull[:axes, 3] = parameters[axes**2 :] + centre - pull[:axes, :axes] @ centre
    if abs(np.linalg.det(pull)) < 1e-12:
        raise GeometryError("the transform cannot be inverted", path=path)
    if axes == 2:  # a body is turned over, never mirrored
        pull[2, 2] = np.sign(np.linalg.det(pull[:2, :2]))
    return _checked(RAS_LPS @ np.linalg.inv(pull) @ RAS_LPS, path)


def _checked(matrix: FloatArray, path: Path) -> Transform:
    matrix = np.array(matrix)
    matrix[3] = (0, 0, 0, 1)
    try:
        return Transform(matrix, info={"Sources": [path.name]})
    except GeometryError as error:
        raise GeometryError(error.problem, path=path, hint=error.hint) from error


def _fsl_world(image: Image) -> FloatArray:
    """Return what takes FSL's mm of an image to its world."""
    scaled = np.diag([*image.voxel_mm, 1.0])
    if np.linalg.det(image.affine[:3, :3]) > 0:
        scaled[0] = (-image.voxel_mm[0], 0, 0, (image.data.shape[0] - 1) * image.voxel_mm[0])
    return np.asarray(image.affine @ np.linalg.inv(scaled))


def _words(text: str, count: int, path: Path) -> FloatArray:
    try:
        numbers = np.array([float(word) for word in text.split()])
    except ValueError as error:
        raise InputError(f"has a parameter that is no number ({error})", path=path) from error
    _check_count(numbers, count, path)
    return numbers


def _check_count(numbers: FloatArray, count: int, path: Path) -> None:
    if len(numbers) != count or not np.all(np.isfinite(numbers)):
        raise InputError(f"has {len(numbers)} parameters where {count} finite ones were expected", path=path)
