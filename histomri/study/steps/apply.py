"""A transform applied to a file: a map, a slide, annotations or a table of points."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from histomri.core.errors import InputError
from histomri.core.files import read_json, require_file
from histomri.core.images import Image
from histomri.core.progress import Progress
from histomri.core.tables import read_table
from histomri.registration.carry import Route, carry_geojson, carry_table, write_geojson, write_table
from histomri.registration.carry_slide import Canvas, carry_slide, other_slide_warnings, write_place
from histomri.registration.chains import load_chain
from histomri.registration.files import (
    count_known,
    load_first_volume,
    read_labels,
    refuse_other_samples,
    refuse_outputs,
    write_drawn,
)
from histomri.registration.headers import handedness_warnings, slide_warnings
from histomri.registration.options import ApplyOptions, is_slide
from histomri.slides import open_slide
from histomri.study.result import StepResult


def run(options: ApplyOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Carry the input through the transforms."""
    require_file(options.input)
    refuse_outputs(options, out)
    refuse_other_samples(options.xfm, *options.then, options.input, options.like)
    chain, warnings = load_chain(options)
    route = Route.of(chain, inverse=options.inverse, mpp=options.mpp, fixed_mpp=options.fixed_mpp)
    carry = {"map": _map, "slide": _slide, "table": _table, "GeoJSON file": _annotations}[options.kind]
    try:
        result = carry(route, options, out)
    except InputError as error:  # what is wrong with points is wrong with their file
        raise type(error)(error.problem, path=error.path or options.input, hint=error.hint) from error
    return replace(result, warnings=(*warnings, *result.warnings))


def _map(route: Route, options: ApplyOptions, out: Path) -> StepResult:
    image = Image.load(options.input)
    image = read_labels(options.input, image) if options.order == 0 else image
    drawn = route.transform.resample(image, load_first_volume(options.grid), order=options.order)
    dtype = drawn.data.dtype if options.order == 0 else np.float32
    settings = {"Inverse": options.inverse, "Order": options.order}
    outputs = write_drawn(
        out, drawn, options.input, options.grid, xfms=options.transforms, parameters=settings, dtype=dtype
    )
    warnings, known = handedness_warnings([options.input, options.grid]), count_known(drawn)
    if not known:
        warnings += ("no voxel of the result is known: the image and the grid do not overlap",)
    what = "of a label" if drawn.data.dtype.kind in "iu" else "known"
    return StepResult(tuple(outputs), (f"{known} voxels {what}",), warnings, {"n_known": known})


def _table(route: Route, options: ApplyOptions, out: Path) -> StepResult:
    table = read_table(options.input)
    moved, columns, warnings = carry_table(route, table.frame, options.input)
    message = f"{len(moved)} points, now in {' and '.join(columns[:2])}"
    return StepResult((write_table(out, moved),), (message,), (*table.notes, *warnings), {"n_points": len(moved)})


def _annotations(route: Route, options: ApplyOptions, out: Path) -> StepResult:
    found = carry_geojson(route, read_json(options.input, "GeoJSON file"), in_place=True)
    path = write_geojson(out, found, route, [options.input, *options.transforms], {"Inverse": options.inverse})
    where = f"pixels of {route.end.slide}" if route.end.slide else found.units["Units"]
    message = f"{found.n_geometries} geometries with {found.n_points} points, now in {where}"
    numbers = {"n_geometries": found.n_geometries, "n_points": found.n_points}
    return StepResult((path,), (message,), found.warnings, numbers)


def _slide(route: Route, options: ApplyOptions, out: Path) -> StepResult:
    like, transform, um = options.grid, route.transform, options.um_per_px
    if options.inverse and (not is_slide(like) or not route.start.is_slide):
        raise InputError("a slide lies in the world of the section", hint="leave --inverse out, or give a map")
    sizes = options.mpp, options.fixed_mpp
    mpp, like_mpp = sizes[::-1] if options.inverse else sizes
    if is_slide(like):
        with open_slide(like, mpp=like_mpp) as below:
            canvas = Canvas.over_slide(below.field_um, um)
    else:
        canvas = Canvas.over_slice(load_first_volume(like), um, transform, options.slice, like)
    warnings = (*slide_warnings(transform), *handedness_warnings([like]))
    with open_slide(options.input, mpp=mpp) as opened:
        warnings += other_slide_warnings(transform, options.input.name, opened.field_um)
        picture = opened.at(canvas.resolution_of(transform))
        drawn = carry_slide(transform, picture, canvas, out, order=options.order)
    sidecar = write_place(out, canvas, [options.input, like, *options.transforms], options.order)
    message = f"{canvas.shape[1]} x {canvas.shape[0]} pixels of {um:g} µm, {100 * drawn:.2g} % not white"
    warnings += canvas.warnings(drawn, like.name)
    return StepResult((out, sidecar), (message,), warnings, {"drawn": drawn})
