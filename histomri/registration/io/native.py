"""Transforms of ours: JSON for everything, ITK text for the affine part, NIfTI for displacements.

The two conventions differ in two ways. Coordinates: JSON holds RAS+ mm, ITK uses LPS+ mm (x and y change sign).
Direction: JSON holds the matrix that moves points, from the moving to the fixed world. ITK resamples by pulling: its
transform takes a point of the fixed image to the point of the moving image whose value belongs there. The matrix in
the .tfm is therefore the inverse of the one in the JSON, with both worlds turned to LPS.
"""

from glob import escape
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from histomri.core.array_files import as_numbers
from histomri.core.arrays import FloatArray
from histomri.core.door import reading
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, read_json, write_json, write_text
from histomri.core.nifti import open_nifti, read_voxels
from histomri.registration.displacement import Displacement
from histomri.registration.io.registry import Images, TransformFormat, register_format
from histomri.registration.transform import Transform

FORMAT = "histomri-transform"
RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME_GRID_MM = 1e-3
_ITK_HEADER = "#Insight Transform File V1.0"


def save_transform(transform: Transform, path: str | Path) -> list[Path]:
    """Write a transform as JSON, ITK text and, if it deforms, NIfTI displacement fields; see `Transform.save`."""
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".json", ".tfm") else path
    warps = [stem.with_name(f"{stem.name}_warp{number}.nii.gz") for number in range(len(transform.displacements))]
    fields = []
    for warp, field in zip(warps, transform.displacements, strict=True):
        _write_field(warp, field)
        where = {"Planes": field.vectors.shape[2], "Affine": field.affine}
        fields.append({"File": warp.name, "Inverted": field.inverted, **where})
    for stale in set(own_warps(stem)) - set(warps):  # of an earlier run: it does not belong to this one
        stale.unlink()
    info = dict(transform.record)
    content = {
        "Format": FORMAT,
        "Version": 1,
        "Kind": "affine" if transform.is_affine else "deformable",
        "Description": "Maps points of the moving world to the fixed world: matrix first, then each displacement",
        "CoordinateSystem": "RAS+",
        "Units": "mm",
        "MatrixMovingToFixed": transform.matrix,
        "Displacements": fields,
        "Info": info,
        **provenance(info.get("Sources", ()), info.get("Parameters")),
    }
    itk = write_text(stem.with_name(stem.name + ".tfm"), itk_text(transform.matrix))
    return [write_json(stem.with_name(stem.name + ".json"), content), itk, *warps]


def own_warps(stem: Path) -> list[Path]:
    """Return the displacement files that lie beside a transform, given without its ending."""
    return sorted(stem.parent.glob(f"{escape(stem.name)}_warp[0-9]*.nii.gz"))


def family(path: Path) -> list[Path]:
    """Return the files that are written together with a transform: JSON, ITK text and displacements."""
    return [path.with_suffix(".json"), path.with_suffix(".tfm"), *own_warps(path.with_suffix(""))]


def itk_text(matrix: FloatArray) -> str:
    """Return the ITK text of an affine transform given as moving-to-fixed RAS+ mm, (4, 4)."""
    pull = RAS_LPS @ np.linalg.inv(matrix) @ RAS_LPS
    numbers = " ".join(repr(float(value)) for value in (*pull[:3, :3].ravel(), *pull[:3, 3]))
    return (
        f"{_ITK_HEADER}\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
    )


def read_native(path: Path, images: Images = (None, None)) -> Transform:
    """Read the JSON file of a transform, and the displacements that it names."""
    content = read_json(path, "transform")
    if not isinstance(content, dict) or content.get("Format") != FORMAT:
        raise InputError("is JSON, but not a transform written by histomri")
    with reading(path, "transform", says="the transform is incomplete or damaged ({})", unchecked=True):
        if content["Units"] != "mm" or content["CoordinateSystem"] != "RAS+":
            raise InputError("the transform is not in RAS+ mm")
        fields = [_displacement(path, item) for item in content["Displacements"]]
        matrix = as_numbers(content["MatrixMovingToFixed"])
        return Transform(matrix, tuple(fields), dict(content.get("Info") or {}))


def _displacement(path: Path, item: dict[str, Any]) -> Displacement:
    """Return a displacement that the JSON file at `path` names, on the grid it had before NIfTI rounded it."""
    found = _read_field(path.parent / item["File"], bool(item["Inverted"]))
    if "Affine" not in item:  # of a version that left it to the header, and wrote a slice as one plane
        return found
    found = found.middle() if item["Planes"] == 1 else found
    exact = Displacement(found.vectors, as_numbers(item["Affine"]), found.inverted)
    if exact.affine.shape != (4, 4) or not np.allclose(exact.affine, found.affine, rtol=0, atol=_SAME_GRID_MM):
        hint = "keep the files of one registration together, or register again"
        raise InputError(f"lies elsewhere than {path.name} says", path=path.parent / item["File"], hint=hint)
    return exact


def _write_field(path: Path, displacement: Displacement) -> None:
    """Write the vectors as ITK and ANTs expect them: (I, J, K, 1, 3), intent vector, LPS components.

    A file with one plane is two-dimensional to ITK, and beyond its planes ITK moves nothing: the plane of a slice is
    written three times, a slice apart, so that points of the slice lie well inside.
    """
    solid = displacement.thickened()
    image = nib.Nifti1Image((solid.vectors * (-1.0, -1.0, 1.0))[:, :, :, None, :], solid.affine, dtype=np.float64)
    image.header.set_intent("vector")
    image.header.set_xyzt_units(xyz="mm")
    image.set_sform(solid.affine, code="scanner")
    with atomic_path(path) as temporary:
        nib.save(image, temporary)


def _read_field(path: Path, inverted: bool) -> Displacement:
    image: Any = open_nifti(path)
    data = read_voxels(image, path, float)
    if data.ndim != 5 or data.shape[3:] != (1, 3):
        raise InputError("is not a displacement field of shape (I, J, K, 1, 3)", path=path)
    return Displacement(data[:, :, :, 0] * (-1.0, -1.0, 1.0), np.asarray(image.affine, dtype=float), inverted)


register_format(TransformFormat("transform", (".json",), read_native, companions=family, write=save_transform))
