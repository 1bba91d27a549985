"""Stage: a transform applied to a map, to annotations or to points."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from histomri.errors import InputError
from histomri.files import require_file
from histomri.maps import Image, parse_map_name, read_sidecar, write_map
from histomri.registration import Transform, doubts_of
from histomri.study.stages.apply_guards import kind_of, refuse_options, refuse_other_samples, refuse_outputs
from histomri.study.stages.apply_points import apply_to_geojson, apply_to_table, ends_of
from histomri.study.stages.apply_slide import apply_to_slide
from histomri.study.stages.headers import handedness_warnings
from histomri.study.stages.register_inputs import Mpp, is_slide, load_first_volume
from histomri.study.stages.result import StageResult


def run_apply(
    xfm: Path,
    input: Path,
    out: Path,
    *,
    like: Path | None = None,
    inverse: bool = False,
    mpp: Mpp = None,
    fixed_mpp: Mpp = None,
    order: int = 1,
    um_per_px: float = 10.0,
    slice: int | None = None,
) -> StageResult:
    """Apply a transform to a file.

    Parameters
    ----------
    xfm : Path
        Transform, .json or an affine of ITK, ANTs or FSL.
    input : Path
        A NIfTI map (drawn on the grid of `like`); a slide (drawn over the field of view of `like`); a GeoJSON file in
        pixels of the slide (becomes mm of the fixed world, or pixels of the fixed slide); or a table with the columns
        x_mm, y_mm[, z_mm], or with µm of a slide: x_um, y_um or QuPath's centroids (other columns are kept).
    out : Path
        File to write.
    like : Path, optional
        NIfTI image whose grid a resampled map gets; for a slide also another slide.
    inverse : bool
        Go from the fixed world to the moving world. Of an MRI, a GeoJSON file is then expected in mm.
    mpp, fixed_mpp : float or (float, float), optional
        Pixel sizes in µm of the slide of the section and of the slide it was laid on, for GeoJSON if they differ from
        those that were registered, and for slides that do not tell it.
    order : {0, 1}
        Interpolation of maps and slides: 1 linear, 0 nearest (labels).
    um_per_px : float
        Pixel size of a warped slide in µm.
    slice : int, optional
        Slice of `like` that a slide is drawn over; the one that was registered if not given.
    """
    require_file(input)
    kind = kind_of(input)
    options = {
        "--like": like is not None,
        "--mpp": mpp is not None,
        "--fixed-mpp": fixed_mpp is not None,
        "--nearest": order == 0,
    }
    refuse_options(kind, {**options, "--slice": slice is not None})
    refuse_outputs(kind, xfm, input, out, like)
    refuse_other_samples(xfm, input, like)
    stored = _load(xfm, input if kind == "map" else None, like, inverse)
    ends = ends_of(stored, inverse, mpp, fixed_mpp)
    transform = stored.inverse() if inverse else stored
    if kind == "map":
        result = _apply_to_map(transform, xfm, input, out, like, order, inverse)
    elif kind == "GeoJSON file":
        result = apply_to_geojson(transform, xfm, ends, input, out, inverse)
    elif kind == "table":
        result = apply_to_table(transform, ends, input, out)
    else:
        if inverse and (like is None or not is_slide(like)):
            raise InputError(
                "a slide lies in the world of the section", path=input, way_out="leave --inverse out, or give a map"
            )
        sizes = (fixed_mpp, mpp) if inverse else (mpp, fixed_mpp)
        result = apply_to_slide(
            transform,
            xfm,
            input,
            out,
            like,
            um_per_px=um_per_px,
            mpp=sizes[0],
            like_mpp=sizes[1],
            slice=slice,
            order=order,
        )
    return replace(result, warnings=(*doubts_of(stored, xfm), *result.warnings))


def _load(xfm: Path, image: Path | None, like: Path | None, inverse: bool) -> Transform:
    """Read a transform, with the two images that a matrix of FSL needs."""
    images: dict[str, Image] = {}
    if xfm.suffix.lower() == ".mat" and image is not None and like is not None:
        moving, fixed = (like, image) if inverse else (image, like)
        images = {"moving": load_first_volume(moving), "fixed": load_first_volume(fixed)}
    return Transform.load(xfm, **images)


def _apply_to_map(
    transform: Transform, xfm: Path, input: Path, out: Path, like: Path | None, order: int, inverse: bool
) -> StageResult:
    if like is None:
        raise InputError("a map needs a grid to be drawn on", path=input, way_out="pass --like IMAGE")
    result = transform.resample(Image.load(input), load_first_volume(like), order=order)
    known = int(np.isfinite(result.data).sum())
    sidecar = read_sidecar(input)
    words = {key: sidecar[key] for key in ("Units", "Description") if sidecar.get(key)}
    if not parse_map_name(out.name).get("param"):
        words = {"Units": "arbitrary", "Description": f"{input.name} on the grid of {like.name}", **words}
    outputs = write_map(
        out,
        result.data,
        result.affine,
        sources=[input, like, xfm],
        parameters={"Inverse": inverse, "Order": order},
        **words,
    )
    warnings = handedness_warnings([input, like])
    if not known:
        warnings += ("no voxel of the result is known: the image and the grid do not overlap",)
    return StageResult(tuple(outputs), (f"{known} voxels known",), warnings, {"n_known": known})
