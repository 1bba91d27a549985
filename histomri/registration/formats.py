"""Transforms on disk: JSON for everything, ITK text for the affine part, NIfTI for displacements.

The two conventions differ in two ways. Coordinates: JSON holds RAS+ mm, ITK uses LPS+ mm (x and y change sign).
Direction: JSON holds the matrix that moves points, from the moving to the fixed world. ITK resamples by pulling: its
transform takes a point of the fixed image to the point of the moving image whose value belongs there. The matrix in
the .tfm is therefore the inverse of the one in the JSON, with both worlds turned to LPS.
"""

from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.files import atomic_path, provenance, read_json, require_file, write_json, write_text
from histomri.core.images import Image
from histomri.registration.displacement import Displacement
from histomri.registration.foreign import RAS_LPS, read_itk_text, read_mat
from histomri.registration.records import registrations
from histomri.registration.transform import Transform

FORMAT = "histomri-transform"
_ANTS_AFFINE = "0GenericAffine.mat"
_SAME = 1e-6
_SAME_GRID_MM = 1e-3
_ITK_HEADER = "#Insight Transform File V1.0"


def save_transform(transform: Transform, path: str | Path) -> list[Path]:
    """Write `transform` as JSON, ITK text and, if it deforms, NIfTI displacement fields; see `Transform.save`."""
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".json", ".tfm") else path
    warps = [stem.with_name(f"{stem.name}_warp{number}.nii.gz") for number in range(len(transform.displacements))]
    for warp, displacement in zip(warps, transform.displacements, strict=True):
        _write_field(warp, displacement)
    for stale in set(own_warps(stem)) - set(warps):  # of an earlier run that bent: it does not belong to this one
        stale.unlink()
    info = dict(transform.info)
    content = {
        "Format": FORMAT,
        "Version": 1,
        "Kind": "affine" if transform.is_affine else "deformable",
        "Description": "Maps points of the moving world to the fixed world: matrix first, then each displacement",
        "CoordinateSystem": "RAS+",
        "Units": "mm",
        "MatrixMovingToFixed": transform.matrix,
        "Displacements": [
            {
                "File": warp.name,
                "Inverted": displacement.inverted,
                "Planes": displacement.vectors.shape[2],
                "Affine": displacement.affine,
            }
            for warp, displacement in zip(warps, transform.displacements, strict=True)
        ],
        "Info": info,
        **provenance(info.get("Sources", ()), info.get("Parameters")),
    }
    itk = write_text(stem.with_name(stem.name + ".tfm"), itk_text(transform.matrix))
    return [write_json(stem.with_name(stem.name + ".json"), content), itk, *warps]


def own_warps(stem: Path) -> list[Path]:
    """Return the displacement files that lie beside a transform, given without its ending."""
    return sorted(stem.parent.glob(f"{escape(stem.name)}_warp[0-9]*.nii.gz"))


def itk_text(matrix: FloatArray) -> str:
    """Return the ITK text of an affine transform given as moving-to-fixed RAS+ mm, (4, 4)."""
    pull = RAS_LPS @ np.linalg.inv(matrix) @ RAS_LPS
    numbers = " ".join(repr(float(value)) for value in (*pull[:3, :3].ravel(), *pull[:3, 3]))
    return (
        f"{_ITK_HEADER}\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
    )


def load_transform(path: str | Path, moving: Image | None = None, fixed: Image | None = None) -> Transform:
    """Read a transform of ours or of another program; see `Transform.load`."""
    path = require_file(path, "transform")
    if path.suffix.lower() == ".json":
        return _from_json(path)
    if path.suffix.lower() in (".tfm", ".txt"):
        return _with_bending(read_itk_text(path), path)
    if path.suffix.lower() == ".mat":
        return read_mat(path, moving, fixed)
    raise InputError(
        f"'{path.suffix}' is no ending of a transform", path=path, hint="give a .json, .tfm, .txt or .mat file"
    )


def doubts_of(transform: Transform, path: str | Path) -> tuple[str, ...]:
    """Return what a person should know before using a transform: how it was judged, and what became of its bending.

    The text files of ITK hold the affine part alone. Beside a .tfm of ours lie the displacements, which are then read
    as well; those of ANTs lie beside its ``0GenericAffine.mat`` and are not.
    """
    path, doubts = Path(path), []
    if path.suffix.lower() == ".tfm" and (warps := own_warps(path.with_suffix(""))):
        doubts.append(f"{path.name} is the affine part alone: the bending in {warps[0].name} beside it was applied too")
    ants = path.with_name(path.name.removesuffix(_ANTS_AFFINE) + "1Warp.nii.gz")
    if path.name.endswith(_ANTS_AFFINE) and ants.exists():
        doubts.append(f"{path.name} is the affine part alone, and the bending in {ants.name} is not applied")
    for record in registrations(transform.record):
        quality = record.get("QualityControl")
        if isinstance(quality, dict) and quality.get("verdict") == "failed":
            doubts.append(f"{path.name} is of a registration that failed: {'; '.join(quality.get('reasons', []))}")
    return tuple(doubts)


def _with_bending(affine: Transform, path: Path) -> Transform:
    """Return an affine with the displacements that were written together with it."""
    warps = own_warps(path.with_suffix("")) if path.suffix.lower() == ".tfm" else []
    if not warps:
        return affine
    whole = path.with_suffix(".json")
    hint = f"pass {whole.name}, or move the .tfm to a folder of its own to use the affine part alone"
    if not whole.exists():
        raise InputError(
            "is the affine part of a transform that bends, and its JSON file, which tells how, is gone",
            path=path,
            hint=hint,
        )
    found = _from_json(whole)
    if not np.allclose(found.matrix, affine.matrix, rtol=0, atol=_SAME):
        raise InputError(f"is another affine than that of {whole.name} beside it, which bends", path=path, hint=hint)
    return found


def _from_json(path: Path) -> Transform:
    content = read_json(path, "transform")
    if not isinstance(content, dict) or content.get("Format") != FORMAT:
        raise InputError("is JSON, but not a transform written by histomri", path=path)
    try:
        if content["Units"] != "mm" or content["CoordinateSystem"] != "RAS+":
            raise InputError("the transform is not in RAS+ mm", path=path)
        fields = [_displacement(path, item) for item in content["Displacements"]]
        matrix = np.array(content["MatrixMovingToFixed"], dtype=float)
        return Transform(matrix, tuple(fields), dict(content.get("Info") or {}))
    except (KeyError, TypeError) as error:
        raise InputError(f"the transform is incomplete or damaged ({error})", path=path) from error
    except GeometryError as error:
        raise GeometryError(error.problem, path=error.path or path, hint=error.hint) from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the transform is damaged ({error})", path=path) from error


def _displacement(path: Path, item: dict[str, Any]) -> Displacement:
    """Return a displacement that the JSON file at `path` tells of, on the grid it had before NIfTI rounded it."""
    found = _read_field(path.parent / item["File"], bool(item["Inverted"]))
    if "Affine" not in item:  # of a version that left it to the header, and wrote a slice as one plane
        return found
    found = found.middle() if item["Planes"] == 1 else found
    told = Displacement(found.vectors, np.array(item["Affine"], dtype=float), found.inverted)
    if told.affine.shape != (4, 4) or not np.allclose(told.affine, found.affine, rtol=0, atol=_SAME_GRID_MM):
        raise InputError(
            f"lies elsewhere than {path.name} says",
            path=path.parent / item["File"],
            hint="keep the files of one registration together, or register again",
        )
    return told


def _write_field(path: Path, displacement: Displacement) -> None:
    """Write the vectors as ITK and ANTs expect them: (I, J, K, 1, 3), intent vector, LPS components.

    A file with one plane is two-dimensional to ITK, and beyond its planes ITK moves nothing: the plane of a slice is
    written three times, a slice apart, so that points of the slice lie well inside.
    """
    import nibabel as nib

    solid = displacement.thickened()
    image = nib.Nifti1Image((solid.vectors * (-1.0, -1.0, 1.0))[:, :, :, None, :], solid.affine, dtype=np.float64)
    image.header.set_intent("vector")
    image.header.set_xyzt_units(xyz="mm")
    image.set_sform(solid.affine, code="scanner")
    with atomic_path(path) as temporary:
        nib.save(image, temporary)


def _read_field(path: Path, inverted: bool) -> Displacement:
    from histomri.core.images import open_nifti

    image: Any = open_nifti(path)
    try:
        data = np.asarray(image.dataobj, dtype=float)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"the displacements cannot be read ({error})", path=path, hint="copy it again") from error
    if data.ndim != 5 or data.shape[3:] != (1, 3):
        raise InputError("is not a displacement field of shape (I, J, K, 1, 3)", path=path)
    vectors = data[:, :, :, 0] * (-1.0, -1.0, 1.0)
    return Displacement(vectors, np.asarray(image.affine, dtype=float), inverted)
