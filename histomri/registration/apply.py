"""A transform, or several in turn, applied to a file: a map, a slide, annotations or a table of points."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.errors import InputError
from histomri.core.files import read_json, require_file
from histomri.core.images import Image
from histomri.core.tables import read_table
from histomri.registration import files
from histomri.registration.carry import Route, carry_geojson, carry_table, write_geojson, write_table
from histomri.registration.carry_slide import Canvas, carry_slide, other_slide_warnings, write_place
from histomri.registration.io.registry import needs_images
from histomri.registration.options import ApplyOptions, is_slide
from histomri.registration.transform import Transform, quality_warnings

OpenSlide = Callable[..., Any]
"""What opens a slide, as `histomri.slides.open_slide` does: this room knows transforms, not the formats of slides."""


@dataclass(frozen=True)
class Applied:
    """The files that were written, a line on them, warnings, and the same in numbers."""

    outputs: tuple[Path, ...]
    message: str
    warnings: tuple[str, ...]
    numbers: dict[str, Any] = field(default_factory=dict)


def apply_transform(options: ApplyOptions, out: Path, open_slide: OpenSlide) -> Applied:
    """Carry the input through the transforms, and write the result to `out`, a file of the same kind.

    Slides are opened by ``open_slide(path, mpp=..)``: `histomri.slides.open_slide`. An InputError is raised if files
    are of different samples, `out` would replace one of them, or the input cannot be carried.
    """
    require_file(options.input)
    files.refuse_outputs(options, out)
    files.refuse_other_samples(options.xfm, *options.then, options.input, options.like)
    chain, warnings = load_chain(options)
    route = Route.of(chain, inverse=options.inverse, mpp=options.mpp, fixed_mpp=options.fixed_mpp)
    try:
        if options.kind == "slide":
            found = _slide(route, options, out, open_slide)
        else:
            found = {"map": _map, "table": _table, "GeoJSON file": _annotations}[options.kind](route, options, out)
    except InputError as error:  # what is wrong with points is wrong with their file
        raise type(error)(error.problem, path=error.path or options.input, hint=error.hint) from error
    return Applied(found.outputs, found.message, (*warnings, *found.warnings), found.numbers)


def _map(route: Route, options: ApplyOptions, out: Path) -> Applied:
    image = Image.load(options.input)
    image = files.read_labels(options.input, image) if options.order == 0 else image
    drawn = route.transform.resample(image, files.load_first_volume(options.grid), order=options.order)
    settings = {"Inverse": options.inverse, "Order": options.order}
    form: dict[str, Any] = {"parameters": settings, "dtype": drawn.data.dtype if options.order == 0 else np.float32}
    outputs = files.write_drawn(out, drawn, options.input, options.grid, options.transforms, **form)
    labels = drawn.data.dtype.kind in "iu"
    known = int(np.count_nonzero(drawn.data) if labels else np.isfinite(drawn.data).sum())
    warnings, what = files.handedness_warnings([options.input, options.grid]), "of a label" if labels else "known"
    if not known:
        warnings += ("no voxel of the result is known: the image and the grid do not overlap",)
    return Applied(tuple(outputs), f"{known} voxels {what}", warnings, {"n_known": known})


def _table(route: Route, options: ApplyOptions, out: Path) -> Applied:
    table = read_table(options.input)
    moved, columns, warnings = carry_table(route, table.frame, options.input)
    message = f"{len(moved)} points, now in {' and '.join(columns[:2])}"
    return Applied((write_table(out, moved),), message, (*table.notes, *warnings), {"n_points": len(moved)})


def _annotations(route: Route, options: ApplyOptions, out: Path) -> Applied:
    found = carry_geojson(route, read_json(options.input, "GeoJSON file"), in_place=True)
    path = write_geojson(out, found, route, [options.input, *options.transforms], {"Inverse": options.inverse})
    where = f"pixels of {route.end.slide}" if route.end.slide else found.units["Units"]
    numbers = {"n_geometries": found.n_geometries, "n_points": found.n_points}
    message = f"{found.n_geometries} geometries with {found.n_points} points, now in {where}"
    return Applied((path,), message, found.warnings, numbers)


def _slide(route: Route, options: ApplyOptions, out: Path, open_slide: OpenSlide) -> Applied:
    like, transform, um = options.grid, route.transform, options.um_per_px
    if options.inverse and (not is_slide(like) or not route.start.is_slide):
        raise InputError("a slide lies in the world of the section", hint="leave --inverse out, or give a map")
    sizes = options.mpp, options.fixed_mpp
    mpp, like_mpp = sizes[::-1] if options.inverse else sizes
    if is_slide(like):
        with open_slide(like, mpp=like_mpp) as below:
            canvas = Canvas.over_slide(below.field_um, um)
    else:
        canvas = Canvas.over_slice(files.load_first_volume(like), um, transform, options.slice, like)
    warnings = (*files.slide_warnings(transform), *files.handedness_warnings([like]))
    with open_slide(options.input, mpp=mpp) as opened:
        warnings += other_slide_warnings(transform, options.input.name, opened.field_um)
        # A section that has shrunk is read finer than it is drawn.
        picture = opened.at(um / float(np.linalg.svd(transform.matrix[:3, :3], compute_uv=False)[0]))
        drawn = carry_slide(transform, picture, canvas, out, order=options.order)
    sidecar = write_place(out, canvas, [options.input, like, *options.transforms], options.order)
    message = f"{canvas.shape[1]} x {canvas.shape[0]} pixels of {um:g} µm, {100 * drawn:.2g} % not white"
    return Applied((out, sidecar), message, (*warnings, *canvas.warnings(drawn, like.name)), {"drawn": drawn})


def load_chain(options: ApplyOptions) -> tuple[Transform, tuple[str, ...]]:
    """Read the transforms that the options name, and chain them, the first one first; also return warnings."""
    paths = options.transforms
    links = [_load(path, options if n == 0 else None) for n, path in enumerate(paths)]
    links[0] = files.with_tissue(links[0], paths[0])
    chain = reduce(lambda done, link: link.compose(done), links)
    warnings = [text for link, path in zip(links, paths, strict=True) for text in quality_warnings(link, path)]
    ends = zip(pairwise(links), pairwise(path.name for path in paths), strict=True)
    warnings += [text for (one, other), names in ends if (text := _break(one, other, *names))]
    return chain, tuple(warnings)


def _load(path: Path, options: ApplyOptions | None) -> Transform:
    """Read a transform; a matrix of FSL or AFNI with the images of the options, or what a map is drawn from and on."""
    chosen = (None, None) if options is None else (options.moving, options.fixed)
    if not needs_images(path):
        if chosen != (None, None):
            problem = "--moving and --fixed are for a matrix of FSL or AFNI alone"
            raise InputError(problem, path=path, hint="leave --moving and --fixed out")
        return Transform.load(path)
    images: tuple[Path | None, Path | None] = (None, None)
    if options is not None and not options.then:  # else the map is drawn on the grid of another image
        like = None if options.like is None or is_slide(options.like) else options.like
        images = (options.input if options.kind == "map" else None, like)
        images = images[::-1] if options.inverse else images
    moving, fixed = (one or other for one, other in zip(chosen, images, strict=True))
    if moving is None or fixed is None:
        problem = "is a matrix that counts mm along the axes of the two images it was made with"
        raise InputError(problem, path=path, hint="give it first, with --moving IMAGE and --fixed IMAGE")
    return Transform.load(path, moving=files.load_first_volume(moving), fixed=files.load_first_volume(fixed))


def _break(one: Transform, other: Transform, first: str, second: str) -> str | None:
    """Say where one transform does not end where the next begins, as far as their records show."""
    ends, begins = one.info.get("Fixed") or {}, other.info.get("Moving") or {}
    slides = ends.get("Slide"), begins.get("Slide")
    on_mri = slides[0] is None and (slides[1] is not None or len(ends.get("Shape", ())) == 3)
    if ends and begins and on_mri:
        order = "check the order of the transforms, the first comes first"
        return f"{first} ends on an MRI, and {second} begins on a section: {order}"
    if None not in slides and slides[0] != slides[1]:
        wrong = "the transforms do not belong together, or their order is wrong"
        where = f"{first} ends on {slides[0]}, and {second} begins on {slides[1]}"
        return f"{where}: unless these are two pictures of one slide, {wrong}"
    return None
