"""Files that registrations read and write: images, maps on other grids, what is refused, and what headers say."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.analyze import AnalyzeHeader
from nibabel.orientations import aff2axcodes

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.files import refuse_overwrite
from histomri.core.images import Image, parse_map_name, read_sidecar, sidecar_path, write_map
from histomri.core.nifti import open_nifti, read_first_volume, read_voxels
from histomri.registration.io.native import family
from histomri.registration.options import INPUTS, ApplyOptions, is_slide
from histomri.registration.transform import Transform

_VOLUMES = (".nii", ".nii.gz", ".hdr", ".img", ".mgz", ".mgh")
_SAMPLE = re.compile(r"sub-([0-9A-Za-z]+)_")
_ENDINGS = {**INPUTS, "slide": (".tif", ".tiff")}
_ROWS_COLUMNS = np.array([[0.0, -1.0], [-1.0, 0.0], [0.0, 0.0]])
"""World directions of the two axes of a map as `histomri patches` stores it: x and y run against those of the slide."""
_COLUMNS_ROWS = _ROWS_COLUMNS[:, ::-1]
_ALONG = 0.9998  # cosine of a degree: an axis that is off by more counts as turned
_FEW = 0.1


def as_image(image: Any, what: str) -> Image:
    """Return an Image, read from a path if it is one; `what` names it in the message."""
    if isinstance(image, str | Path):
        return load_first_volume(Path(image))
    if not isinstance(image, Image):
        problem = f"the {what} is a {type(image).__name__}, and an Image or the path of a NIfTI file is needed"
        raise InputError(problem, hint="wrap an array as histomri.core.images.Image(array, affine)")
    return image


def load_first_volume(path: Path) -> Image:
    """Read an image; of a 4D series the first volume alone."""
    if path.is_file() and not path.name.lower().endswith(_VOLUMES):
        hint = "give .nii or .nii.gz, or a slide such as .svs, .ndpi, .ome.tif, .png"
        raise InputError("is neither a NIfTI image nor a slide, by its ending", path=path, hint=hint)
    image = open_nifti(path)
    if len(image.shape) != 4 or image.shape[3] == 1:
        return Image.load(path)
    try:
        volume = read_first_volume(image, path)
        return Image(volume[..., 0] if volume.shape[2] == 1 else volume, np.asarray(image.affine, dtype=float))
    except GeometryError as error:
        raise GeometryError(error.problem, path=path, hint=error.hint) from error


def read_labels(path: Path, image: Image) -> Image:
    """Return an image with its voxels in the type of their file."""
    opened = open_nifti(path)
    stored = np.dtype(opened.get_data_dtype()).newbyteorder("=")
    scaled = (opened.dataobj.slope, opened.dataobj.inter) != (1, 0)
    data = read_voxels(opened, path, float if scaled else stored)
    return Image(data.reshape(image.data.shape), image.affine)


def write_drawn(
    out: Path, drawn: Image, source: Path, like: Path, xfms: Sequence[Path] = (), **form: Any
) -> list[Path]:
    """Write a map on the grid of another image, with unit and description of its source; `form` is for `write_map`."""
    found = read_sidecar(source)
    words = {key: found[key] for key in ("Units", "Description") if found.get(key)}
    if not parse_map_name(out.name).get("param"):
        words = {"Units": "arbitrary", "Description": f"{source.name} on the grid of {like.name}", **words}
    return write_map(out, drawn.data, drawn.affine, sources=[source, like, *xfms], **{**form, **words})


def refuse_outputs(options: ApplyOptions, out: Path) -> None:
    """Raise InputError for a wrong ending, and for an output or its sidecar that would replace a file in use."""
    kind, endings = options.kind, _ENDINGS[options.kind]
    if not out.name.lower().endswith(endings):
        better = {"slide": ".ome.tif", "map": ".nii.gz"}.get(kind, endings[0])
        raise InputError(f"a {kind} becomes a file that ends otherwise", path=out, hint=f"let --out end in {better}")
    written = {"map": [out, sidecar_path(out)], "slide": [out, slide_sidecar(out)]}.get(kind, [out])
    used = [options.input, *options.transforms, options.like, options.moving, options.fixed]
    used += [path for xfm in options.transforms for path in family(xfm)]
    used += [sidecar_path(options.input)] if kind == "map" else []
    for path in written:
        refuse_overwrite(path, used)


def refuse_other_samples(*paths: Path | None, otherwise: str = "rename one of them") -> None:
    """Raise InputError if files are of different samples, by the ``sub-`` that their names begin with."""
    labels = [(path, found[1]) for path in paths if path is not None and (found := _SAMPLE.match(path.name))]
    for path, label in labels:
        if label != (first := labels[0])[1]:
            problem = f"is of sample {label}, and {first[0].name} of sample {first[1]}"
            raise InputError(problem, path=path, hint=f"give files of one sample, or {otherwise} if they are")


def slide_sidecar(out: Path) -> Path:
    """Return the JSON file beside a warped slide."""
    return out.with_name(f"{out.name.split('.')[0]}.json")


def handedness_warnings(paths: Sequence[Path]) -> tuple[str, ...]:
    """Warn of images whose header states no orientation, or two: left and right are then a guess."""
    return tuple(text for path in paths if not is_slide(path) and (text := _handedness(path)))


def _handedness(path: Path) -> str | None:
    header = open_nifti(path).header
    if not isinstance(header, AnalyzeHeader):  # .mgz, which always states one
        return None
    codes = [int(header[name]) if name in header else 0 for name in ("sform_code", "qform_code")]
    if 0 in codes:
        guess = "which side is left is a guess, so a mirrored result and landmarks of another program may not fit"
        return None if any(codes) else f"{path.name} states no orientation (sform and qform code 0): {guess}"
    forms = header.get_sform(), header.get_qform()
    mirrored = np.linalg.det(forms[0][:3, :3]) * np.linalg.det(forms[1][:3, :3]) < 0
    against = np.einsum("ij,ij->j", forms[0][:3, :3], forms[1][:3, :3]) < 0
    if not mirrored and not against.any():
        return None
    sform, qform = ("".join(map(str, aff2axcodes(form))) for form in forms)
    how = f"sform {sform} is {'mirrored' if mirrored else 'turned'} against qform {qform}"
    used = "the sform was used, other programs may use the other: mend the header, or check which side is left"
    return f"{path.name}: the two orientations in its header contradict each other, {how}; {used}"


def section_warnings(path: Path, affine: FloatArray) -> tuple[str, ...]:
    """Warn of a map of a section whose header puts it in another world than that of its slide."""
    if is_slide(path) or (problem := _other_world(path.name, np.asarray(affine))) is None:
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
    affine = np.array(record["Affine"], dtype=float)
    if (problem := _other_world(_name(transform, "Moving"), affine)) is None:
        return ()
    hint = "register a map written by `histomri patches`, or the slide itself; maps, and tables in mm, can be carried"
    corners = np.array([[i, j, 0, 1] for i in (0, record["Shape"][0] - 1) for j in (0, record["Shape"][1] - 1)])
    if (corners @ affine.T)[:, :2].min(axis=0).max() > 0:  # a slide has x and y below 0 in its world
        problem += " and puts it where no slide is, so coordinates of the slide cannot be carried"
        raise GeometryError(problem, hint=hint)
    return (f"{problem}: coordinates of the slide are carried rightly only if this header is right; else {hint}",)


def beside_warnings(transform: Transform, points: FloatArray) -> tuple[str, ...]:
    """Warn where hardly any points, (N, 2|3) mm of the world they start from, lie on or around the image registered."""
    side = "Fixed" if "InverseOf" in transform.info else "Moving"
    record = _record(transform, side)
    if record is None or not len(points):
        return ()
    affine, shape = np.array(record["Affine"], dtype=float), record["Shape"]
    world = np.column_stack([points, np.zeros(len(points))])[:, :3]
    index = ((world - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T)[:, : len(shape)]
    fraction = float(np.all((index > -1) & (index < shape), axis=1).mean())
    # An annotation around the section has its corners beside it, and its middle on it.
    middle = np.median(index, axis=0)
    if fraction >= _FEW or np.all((middle > -1) & (middle < shape)):
        return ()
    few = f"only {fraction:.0%} of" if fraction else "none of"
    lie = f"{few} the {len(points)} points lies on {_name(transform, side)}, which was registered"
    return (f"{lie}: check the pixel size and the signs, and that they are of this section",)


def _record(transform: Transform, side: str) -> dict[str, Any] | None:
    """Return what a transform, or the one that it is the inverse of, records of an image."""
    record = transform.info.get("InverseOf", transform.info).get(side)
    return record if isinstance(record, dict) and {"Affine", "Shape"} <= set(record) else None


def _name(transform: Transform, side: str) -> str:
    sources, at = transform.info.get("InverseOf", transform.info).get("Sources") or (), int(side == "Fixed")
    return str(sources[at]) if len(sources) > at else f"the {side.lower()} image"


def _other_world(name: str, affine: FloatArray) -> str | None:
    """Return how the header of a section differs from one in the world of its slide, None if it does not.

    Maps of ours hold rows and columns in this order. Others may hold columns first, as SimpleITK and ITK do.
    """
    words, axes = parse_map_name(name), affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)
    ours = words.get("suffix") == "histomap" and "space" not in words
    usual = (_ROWS_COLUMNS,) if ours else (_ROWS_COLUMNS, _COLUMNS_ROWS)
    if any((axes * form).sum(axis=0).min() > _ALONG for form in usual):
        return None
    if not ours:
        return f"{name} has a world of its own, not that of its slide (x_mm = -x_um / 1000, y_mm = -y_um / 1000)"
    how = "mirrored" if np.linalg.det(axes[:2]) > 0 else "turned"
    return f"{name}: its header shows the section {how} against the slide"
