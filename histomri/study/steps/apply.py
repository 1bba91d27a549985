"""A transform applied to a file: a map, a slide, annotations or a table of points."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, read_json, require_file, write_json, write_text
from histomri.core.images import Image
from histomri.core.progress import Progress
from histomri.core.tables import read_table
from histomri.registration.carry import Route, carried_columns, carry_geojson, carry_table
from histomri.registration.carry_slide import (
    Canvas,
    carry_slide,
    drawn_warnings,
    other_slide_warnings,
    slice_to_draw_on,
)
from histomri.registration.chains import load_chain
from histomri.registration.files import load_first_volume
from histomri.registration.guards import refuse_other_samples, refuse_outputs, slide_sidecar
from histomri.registration.headers import handedness_warnings, slide_warnings
from histomri.registration.maps import count_known, read_labels, write_drawn
from histomri.registration.options import ApplyOptions, is_slide
from histomri.registration.transform import Transform
from histomri.slides import open_slide
from histomri.study.result import StepResult


def run(options: ApplyOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Carry the input through the transforms."""
    require_file(options.input)
    refuse_outputs(options, out)
    refuse_other_samples(options.xfm, *options.then, options.input, options.like)
    chain, warnings = load_chain(options)
    if options.kind == "map":
        result = _map(chain, options, out)
    elif options.kind == "slide":
        result = _slide(chain, options, out)
    else:
        route = Route.of(chain, inverse=options.inverse, mpp=options.mpp, fixed_mpp=options.fixed_mpp)
        try:
            result = (_table if options.kind == "table" else _annotations)(route, options, out)
        except InputError as error:
            raise type(error)(error.problem, path=error.path or options.input, hint=error.hint) from error
    return replace(result, warnings=(*warnings, *result.warnings))


def _map(chain: Transform, options: ApplyOptions, out: Path) -> StepResult:
    like, image = _like(options), Image.load(options.input)
    image = read_labels(options.input, image) if options.order == 0 else image
    transform = chain.inverse() if options.inverse else chain
    drawn = transform.resample(image, load_first_volume(like), order=options.order)
    known = count_known(drawn)
    outputs = write_drawn(
        out,
        drawn,
        options.input,
        like,
        xfms=(options.xfm, *options.then),
        parameters={"Inverse": options.inverse, "Order": options.order},
        dtype=drawn.data.dtype if options.order == 0 else np.float32,
    )
    warnings = handedness_warnings([options.input, like])
    if not known:
        warnings += ("no voxel of the result is known: the image and the grid do not overlap",)
    what = "of a label" if drawn.data.dtype.kind in "iu" else "known"
    return StepResult(tuple(outputs), (f"{known} voxels {what}",), warnings, {"n_known": known})


def _like(options: ApplyOptions) -> Path:
    if options.like is None:  # the options see to that
        raise InputError("needs a grid to be drawn on", path=options.input, hint="pass --like IMAGE")
    return options.like


def _table(route: Route, options: ApplyOptions, out: Path) -> StepResult:
    table = read_table(options.input)
    moved, warnings = carry_table(route, table.frame, options.input)
    with atomic_path(out) as temporary:
        moved.to_csv(
            temporary, sep="\t" if out.name.lower().endswith(".tsv") else ",", index=False, lineterminator="\n"
        )
    message = f"{len(moved)} points, now in {' and '.join(carried_columns(route, table.frame)[:2])}"
    return StepResult((out,), (message,), (*table.notes, *warnings), {"n_points": len(moved)})


def _annotations(route: Route, options: ApplyOptions, out: Path) -> StepResult:
    found = carry_geojson(route, read_json(options.input, "GeoJSON file"), in_place=True)
    sizes = {each.option: each.mpp for each in (route.start, route.end) if each.is_slide}
    settings = {"Inverse": options.inverse, "PixelSizes_um": sizes}
    note = provenance([options.input, options.xfm, *options.then], settings)
    found.content["histomri"] = {**found.units, **note}
    write_text(out, json.dumps(found.content, ensure_ascii=False) + "\n")
    where = f"pixels of {route.end.slide}" if route.end.slide else found.units["Units"]
    message = f"{found.n_geometries} geometries with {found.n_points} points, now in {where}"
    numbers = {"n_geometries": found.n_geometries, "n_points": found.n_points}
    return StepResult((out,), (message,), found.warnings, numbers)


def _slide(chain: Transform, options: ApplyOptions, out: Path) -> StepResult:
    like, um = _like(options), options.um_per_px
    to_mri = bool(chain.info.get("Fixed")) and not (chain.info["Fixed"].get("Slide") or options.fixed_mpp)
    if options.inverse and (to_mri or not is_slide(like)):
        hint = "leave --inverse out, or give a map"
        raise InputError("a slide lies in the world of the section", path=options.input, hint=hint)
    transform = chain.inverse() if options.inverse else chain
    mpp, like_mpp = (options.fixed_mpp, options.mpp) if options.inverse else (options.mpp, options.fixed_mpp)
    if is_slide(like):
        with open_slide(like, mpp=like_mpp) as below:
            canvas = Canvas.over_slide(below.field_um, um)
    else:
        try:
            flat = slice_to_draw_on(load_first_volume(like), transform, options.slice)
        except InputError as error:
            raise type(error)(error.problem, path=error.path or like, hint=error.hint) from error
        canvas = Canvas.over_slice(flat, um)
    warnings = (*slide_warnings(transform), *handedness_warnings([like]))
    with open_slide(options.input, mpp=mpp) as opened:
        warnings += other_slide_warnings(transform, options.input.name, opened.field_um)
        picture = opened.at(canvas.resolution_of(transform))
        drawn = carry_slide(transform, picture, canvas, out, order=options.order)
    note = {"Units": "mm", "CoordinateSystem": "fixed world, RAS+", "AffineRowColumnToWorld": canvas.affine}
    sources = [options.input, like, options.xfm, *options.then]
    sidecar = write_json(slide_sidecar(out), {**note, **provenance(sources, {"UmPerPx": um, "Order": options.order})})
    message = f"{canvas.shape[1]} x {canvas.shape[0]} pixels of {um:g} µm, {100 * drawn:.2g} % not white"
    return StepResult((out, sidecar), (message,), (*warnings, *drawn_warnings(drawn, like.name)), {"drawn": drawn})
