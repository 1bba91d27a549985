"""Stage: a transform applied to a map, to annotations or to points."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from histomri.core.errors import InputError
from histomri.core.files import require_file
from histomri.core.images import Image, open_nifti, parse_map_name, read_sidecar, write_map
from histomri.core.orientation import handedness_warnings
from histomri.registration import Transform, is_fsl, landing_plane, section_plane
from histomri.study.result import StepResult
from histomri.study.stages.apply_guards import kind_of, refuse_options, refuse_other_samples, refuse_outputs
from histomri.study.stages.apply_points import apply_to_geojson, apply_to_table, ends_of
from histomri.study.stages.apply_slide import apply_to_slide
from histomri.study.stages.apply_transforms import load_chain
from histomri.study.stages.register_inputs import Mpp, is_slide, load_first_volume


def run_apply(
    xfm: Path,
    input: Path,
    out: Path,
    *,
    like: Path | None = None,
    inverse: bool = False,
    then: Sequence[Path] = (),
    moving: Path | None = None,
    fixed: Path | None = None,
    mpp: Mpp = None,
    fixed_mpp: Mpp = None,
    order: int = 1,
    um_per_px: float = 10.0,
    slice: int | None = None,
) -> StepResult:
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
        Go from the fixed world to the moving world, of a chain from its end to its start. Of an MRI, a GeoJSON file is
        then expected in mm. Points without z start on the plane on which the section lies.
    then : sequence of Path
        Transforms that come after `xfm`.
    moving, fixed : Path, optional
        The two images that `xfm` was made with, if it is a matrix of FSL; for a map without `then`, `input` and `like`
        if not given.
    mpp, fixed_mpp : float or (float, float), optional
        Pixel sizes in µm of the slide of the section and of the slide it was laid on, for GeoJSON if they differ from
        those that were registered, and for slides that do not tell it.
    order : {0, 1, 3}
        Interpolation: 1 linear, 0 nearest (labels, whose type is kept), 3 cubic (maps alone).
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
        "--cubic": order == 3,
    }
    refuse_options(kind, {**options, "--slice": slice is not None})
    xfms = [xfm, *then]
    refuse_outputs(kind, xfms, input, out, [like, moving, fixed])
    refuse_other_samples(*xfms, input, like)
    stored, doubts = load_chain(xfms, _images_of_fsl(xfms, kind, input, like, inverse, (moving, fixed)))
    ends = ends_of(stored, inverse, mpp, fixed_mpp)
    plane = landing_plane(stored) if inverse else section_plane(stored)
    transform = stored.inverse() if inverse else stored
    if kind == "map":
        result = _apply_to_map(transform, xfms, input, out, like, order, inverse)
    elif kind == "GeoJSON file":
        result = apply_to_geojson(transform, xfms, ends, plane, input, out, inverse)
    elif kind == "table":
        result = apply_to_table(transform, ends, plane, input, out)
    else:
        on_mri = bool(stored.info.get("Fixed")) and not ends[0].is_slide
        if inverse and (like is None or not is_slide(like) or on_mri):
            raise InputError(
                "a slide lies in the world of the section", path=input, hint="leave --inverse out, or give a map"
            )
        sizes = (fixed_mpp, mpp) if inverse else (mpp, fixed_mpp)
        result = apply_to_slide(
            transform,
            xfms,
            input,
            out,
            like,
            um_per_px=um_per_px,
            mpp=sizes[0],
            like_mpp=sizes[1],
            slice=slice,
            order=order,
        )
    return replace(result, warnings=(*doubts, *result.warnings))


def _images_of_fsl(
    xfms: Sequence[Path],
    kind: str,
    input: Path,
    like: Path | None,
    inverse: bool,
    given: tuple[Path | None, Path | None],
) -> tuple[Path | None, Path | None]:
    """Return the moving and the fixed image of a matrix of FSL: those given, else what a map is drawn from and on."""
    if given != (None, None) and not is_fsl(xfms[0]):
        raise InputError(
            "--moving and --fixed are for a matrix of FSL alone", path=xfms[0], hint="leave --moving and --fixed out"
        )
    images = (input if kind == "map" else None, None if like is None or is_slide(like) else like)
    if len(xfms) > 1:  # the map is then drawn on the grid of another image
        images = (None, None)
    moving, fixed = images[::-1] if inverse else images
    return given[0] or moving, given[1] or fixed


def _apply_to_map(
    transform: Transform,
    xfms: Sequence[Path],
    input: Path,
    out: Path,
    like: Path | None,
    order: int,
    inverse: bool,
) -> StepResult:
    if like is None:
        raise InputError("a map needs a grid to be drawn on", path=input, hint="pass --like IMAGE")
    image = Image.load(input)
    if order == 0:  # nothing new arises, so the values stay what they are, in their own type
        data = np.asarray(open_nifti(input).dataobj)
        image = Image(data.astype(data.dtype.newbyteorder("=")).reshape(image.data.shape), image.affine)
    result = transform.resample(image, load_first_volume(like), order=order)
    labels = result.data.dtype.kind in "iu"
    known = int(np.count_nonzero(result.data) if labels else np.isfinite(result.data).sum())
    sidecar = read_sidecar(input)
    words = {key: sidecar[key] for key in ("Units", "Description") if sidecar.get(key)}
    if not parse_map_name(out.name).get("param"):
        words = {"Units": "arbitrary", "Description": f"{input.name} on the grid of {like.name}", **words}
    outputs = write_map(
        out,
        result.data,
        result.affine,
        sources=[input, like, *xfms],
        parameters={"Inverse": inverse, "Order": order},
        dtype=result.data.dtype if order == 0 else np.float32,
        **words,
    )
    warnings = handedness_warnings([input, like])
    if not known:
        warnings += ("no voxel of the result is known: the image and the grid do not overlap",)
    message = f"{known} voxels of a label" if labels else f"{known} voxels known"
    return StepResult(tuple(outputs), (message,), warnings, {"n_known": known})
