"""Affines of ITK and ANTs, as text (.tfm, .txt) or MATLAB file (.mat), two- or three-dimensional.

ITK stores, in LPS+ mm, the map from a point of the fixed image to the point of the moving image whose value belongs
there. These are read here and not by nitransforms, which keeps text in single precision, and knows neither 2D affines
nor ANTs' MatrixOffsetTransformBase.
"""

from pathlib import Path

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.door import reading
from histomri.core.errors import InputError
from histomri.registration.io.native import RAS_LPS, family, own_warps, read_native
from histomri.registration.io.pulled import check_count, from_pull, read_numbers
from histomri.registration.io.registry import Images, TransformFormat, register_format
from histomri.registration.transform import Transform

_SAME = 1e-6
_AFFINES = ("AffineTransform", "MatrixOffsetTransformBase")
_MATLAB_KEYS = ("__header__", "__version__", "__globals__")
_ANTS_AFFINE = "0GenericAffine.mat"


def _read_text(path: Path, images: Images) -> Transform:
    with reading(path, "ITK text transform", says="is binary, and an ITK text transform was expected"):
        lines = path.read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0].startswith("#Insight Transform File"):
        raise InputError("is not an ITK text transform")
    entries = [line.split(":", 1) for line in lines if ":" in line and not line.startswith("#")]
    if [key.strip() for key, _ in entries].count("Transform") != 1:
        raise InputError("holds several transforms or none, and one affine was expected")
    words = {key.strip(): value.strip() for key, value in entries}
    axes = _axes(words["Transform"])
    parameters = read_numbers(words.get("Parameters", ""), axes * (axes + 1))
    centre = read_numbers(words.get("FixedParameters", " ".join(["0"] * axes)), axes)
    return _with_deformation(_affine(parameters, centre, path), path)


def _read_matlab(path: Path, images: Images) -> Transform:
    from scipy.io import loadmat

    with reading(path, "MATLAB file", says="is no MATLAB file of ITK ({})"):
        content = loadmat(path)
    names = [name for name in content if name not in (*_MATLAB_KEYS, "fixed")]
    if len(names) != 1:
        raise InputError("holds several transforms or none, and one affine was expected")
    axes = _axes(names[0])
    parameters = check_count(content[names[0]], axes * (axes + 1))
    return _affine(parameters, check_count(content.get("fixed", np.zeros(axes)), axes), path)


def _axes(name: str) -> int:
    kind, *rest = name.split("_")
    if kind not in _AFFINES or rest[-2:] not in (["3", "3"], ["2", "2"]):
        problem = f"holds a {name}, and a two- or three-dimensional affine was expected"
        raise InputError(problem, hint="write it as AffineTransform_double_3_3")
    return int(rest[-1])


def _affine(parameters: FloatArray, centre: FloatArray, path: Path) -> Transform:
    axes = len(centre)
    pull = np.eye(4)
    pull[:axes, :axes] = parameters[: axes**2].reshape(axes, axes)
    pull[:axes, 3] = parameters[axes**2 :] + centre - pull[:axes, :axes] @ centre
    if axes == 2:  # a body is turned over, never mirrored
        pull[2, 2] = np.sign(np.linalg.det(pull[:2, :2]))
    return from_pull(RAS_LPS @ pull @ RAS_LPS, path)


def _with_deformation(affine: Transform, path: Path) -> Transform:
    """Return an affine with the displacements that were written together with it."""
    if not _own_warps(path):
        return affine
    whole = path.with_suffix(".json")
    hint = f"pass {whole.name}, or move the .tfm to a folder of its own to use the affine part alone"
    if not whole.exists():
        problem = "is the affine part of a transform that deforms, and its JSON file, which says how, is gone"
        raise InputError(problem, hint=hint)
    found = read_native(whole)
    if not np.allclose(found.matrix, affine.matrix, rtol=0, atol=_SAME):
        raise InputError(f"is another affine than that of {whole.name} beside it, which deforms", hint=hint)
    return found


def _own_warps(path: Path) -> list[Path]:
    return own_warps(path.with_suffix("")) if path.suffix.lower() == ".tfm" else []


def _text_warnings(transform: Transform, path: Path) -> list[str]:
    text = f"{path.name} is the affine part alone: the deformation in {{}} beside it was applied too"
    return [text.format(warp.name) for warp in _own_warps(path)[:1]]


def _ants_warnings(transform: Transform, path: Path) -> list[str]:
    warp = path.with_name(path.name.removesuffix(_ANTS_AFFINE) + "1Warp.nii.gz")
    if not path.name.endswith(_ANTS_AFFINE) or not warp.exists():
        return []
    return [f"{path.name} is the affine part alone, and the deformation in {warp.name} is not applied"]


register_format(TransformFormat("ITK text", (".tfm", ".txt"), _read_text, companions=family, warnings=_text_warnings))
register_format(TransformFormat("MATLAB file of ITK", (".mat",), _read_matlab, warnings=_ants_warnings))
