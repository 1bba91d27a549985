"""What headers say about which side is left, and whether the world of a section is that of its slide."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.analyze import AnalyzeHeader
from nibabel.orientations import aff2axcodes

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError
from histomri.core.images import open_nifti, parse_map_name
from histomri.registration.options import is_slide
from histomri.registration.transform import Transform

_ROWS_COLUMNS = np.array([[0.0, -1.0], [-1.0, 0.0], [0.0, 0.0]])
"""World directions of the two axes of a map as `histomri patches` stores it: x and y run against those of the slide."""
_COLUMNS_ROWS = _ROWS_COLUMNS[:, ::-1]
_ALONG = 0.9998
"""Cosine of a degree: an axis that is off by more counts as turned."""
_FEW = 0.1


def handedness_warnings(paths: Sequence[Path]) -> tuple[str, ...]:
    """Warn of images whose header states no orientation, or two: left and right are then a guess."""
    return tuple(text for path in paths if not is_slide(path) and (text := _handedness(path)))


def _handedness(path: Path) -> str | None:
    header = open_nifti(path).header
    if not isinstance(header, AnalyzeHeader):  # .mgz, which always states one
        return None
    codes = [int(header[name]) if name in header else 0 for name in ("sform_code", "qform_code")]
    if codes == [0, 0]:
        return (
            f"{path.name} states no orientation (sform and qform code 0): which side is left is a guess, so a mirrored "
            "result and landmarks of another program may not fit"
        )
    if 0 in codes:
        return None
    forms = header.get_sform(), header.get_qform()
    mirrored = np.linalg.det(forms[0][:3, :3]) * np.linalg.det(forms[1][:3, :3]) < 0
    against = np.einsum("ij,ij->j", forms[0][:3, :3], forms[1][:3, :3]) < 0
    if not mirrored and not against.any():
        return None
    letters = ["".join(map(str, aff2axcodes(form))) for form in forms]
    how = "mirrored against" if mirrored else "turned against"
    return (
        f"{path.name}: the two orientations in its header contradict each other, sform {letters[0]} is {how} qform "
        f"{letters[1]}; the sform was used, other programs may use the other: mend the header, or check which side is "
        "left"
    )


def section_warnings(path: Path, affine: FloatArray) -> tuple[str, ...]:
    """Warn of a map of a section whose header puts it in another world than that of its slide."""
    problem = None if is_slide(path) else _other_world(path.name, np.asarray(affine))
    if problem is None:
        return ()
    return (
        f"{problem}. The map is laid on the MRI as its voxels and this header show it, so `apply` and `pair` carry "
        "maps rightly, but whether it is turned over depends on the header, and `apply` would carry cells and regions "
        "of the slide to wrong places: unless the voxels were reordered together with the header, write the map again "
        "with `histomri patches`",
    )


def slide_warnings(transform: Transform) -> tuple[str, ...]:
    """Warn before coordinates of the slide go through a transform of a section in another world than that of its slide.

    A GeometryError is raised if that section lies where no slide is.
    """
    record = _record(transform, "Moving")
    if record is None or "Slide" in record:
        return ()
    name, affine = _name(transform, "Moving"), np.array(record["Affine"], dtype=float)
    problem = _other_world(name, affine)
    if problem is None:
        return ()
    hint = "register a map written by `histomri patches`, or the slide itself; maps, and tables in mm, can be carried"
    corners = np.array([[i, j, 0, 1] for i in (0, record["Shape"][0] - 1) for j in (0, record["Shape"][1] - 1)])
    if (corners @ affine.T)[:, :2].min(axis=0).max() > 0:  # a slide has x and y below 0 in its world
        raise GeometryError(
            f"{problem} and puts it where no slide is, so coordinates of the slide cannot be carried", hint=hint
        )
    return (f"{problem}: coordinates of the slide are carried rightly only if this header is right; else {hint}",)


def beside_warnings(transform: Transform, points: FloatArray) -> tuple[str, ...]:
    """Warn where hardly any points, (N, 2|3) mm of the world they start from, lie on or around the image registered."""
    side = "Fixed" if "InverseOf" in transform.info else "Moving"
    record = _record(transform, side)
    if record is None or not len(points):
        return ()
    affine, shape = np.array(record["Affine"], dtype=float), record["Shape"]
    world = np.zeros((len(points), 3))
    world[:, : points.shape[1]] = points
    index = ((world - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T)[:, : len(shape)]
    # An annotation around the section has its corners beside it, and its middle on it.
    on_it = np.all((index > -1) & (index < shape), axis=1)
    middle = np.median(index, axis=0)
    fraction = float(on_it.mean())
    if fraction >= _FEW or np.all((middle > -1) & (middle < shape)):
        return ()
    few = f"only {fraction:.0%} of" if fraction else "none of"
    return (
        f"{few} the {len(points)} points lies on {_name(transform, side)}, which was registered: check the pixel size "
        "and the signs, and that they are of this section",
    )


def _record(transform: Transform, side: str) -> dict[str, Any] | None:
    """Return what a transform, or the one that it is the inverse of, records of an image."""
    record = transform.info.get("InverseOf", transform.info).get(side)
    return record if isinstance(record, dict) and {"Affine", "Shape"} <= set(record) else None


def _name(transform: Transform, side: str) -> str:
    sources = transform.info.get("InverseOf", transform.info).get("Sources") or ()
    at = ("Moving", "Fixed").index(side)
    return str(sources[at]) if len(sources) > at else f"the {side.lower()} image"


def _other_world(name: str, affine: FloatArray) -> str | None:
    """Return how the header of a section differs from one in the world of its slide, None if it does not.

    Maps of ours hold rows and columns in this order. Others may hold columns first, as SimpleITK and ITK do.
    """
    words = parse_map_name(name)
    ours = words.get("suffix") == "histomap" and "space" not in words
    axes = affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)
    usual = (_ROWS_COLUMNS,) if ours else (_ROWS_COLUMNS, _COLUMNS_ROWS)
    if any((axes * form).sum(axis=0).min() > _ALONG for form in usual):
        return None
    if not ours:
        return f"{name} has a world of its own, not that of its slide (x_mm = -x_um / 1000, y_mm = -y_um / 1000)"
    how = "mirrored" if np.linalg.det(axes[:2]) > 0 else "turned"
    return f"{name}: its header shows the section {how} against the slide"
