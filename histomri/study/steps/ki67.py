"""Ki-67: classified cells, or cells on a slide, to the labelling index; or a slide to the stained area fraction."""

from dataclasses import replace
from pathlib import Path

from shapely.geometry.base import BaseGeometry

from histomri.cells import RegionChoice, choose_regions, load_cells, read_region_objects
from histomri.core.errors import InputError
from histomri.core.files import require_file, require_folder
from histomri.core.progress import Progress
from histomri.patches import Ki67, Ki67Options, measure_labelling, measure_stained_area, measure_stained_cells
from histomri.patches.ki67 import refuse_other_quantity
from histomri.patches.options import ESTIMATE
from histomri.slides import Classes, Slide, Stains, is_slide, open_slide
from histomri.study.result import StepResult


def run(options: Ki67Options, out: Path, progress: Progress | None = None) -> StepResult:
    """Write ki67.json, ki67.csv, ki67.png, and a map on request; a folder holds one of the two quantities."""
    require_folder(out)
    require_file(options.source, "slide or cell table")
    of_source = _slide if options.slide is None and is_slide(options.source) else _cells
    measure = of_source if options.slide is None else _cells_on_slide
    found = measure(options, out, progress)
    sources = [path for path in (options.source, options.slide, options.roi) if path is not None]
    settings = {"Mpp": options.mpp, "Roi": options.roi.name if options.roi else None}
    outputs = found.save(out, options.sub, sources=sources, settings=settings)
    return StepResult(tuple(outputs), found.messages, found.warnings, {found.quantity: found.content})


def _slide(options: Ki67Options, out: Path, progress: Progress | None) -> Ki67:
    options.refuse_useless("a slide")
    refuse_other_quantity(out, "stained_area_fraction")
    stains = options.stains
    with open_slide(options.source, mpp=options.mpp, trust_mpp=options.trust_mpp) as slide:
        region, notes = _region(options, slide)
        found = measure_stained_area(
            slide, region=region, tissue=options.tissue,
            stains=stains if stains in (None, ESTIMATE) else Stains.read(stains), background=options.background,
            threshold=options.threshold, um_per_px=options.um_per_px or 1.0, map_um=options.map_um, progress=progress,
        )  # fmt: skip
    return replace(found, warnings=(*notes, *found.warnings))


def _region(options: Ki67Options, slide: Slide) -> tuple[BaseGeometry | None, tuple[str, ...]]:
    """Return the region of a slide to count in, None for all of it; and which regions were left out."""
    choice = RegionChoice.of(options.roi_classes, options.exclude_classes, options.core)
    if options.roi is None:
        if choice:
            raise InputError("has no regions to choose from", path=options.source, hint="give their file with --roi")
        return None, ()
    chosen = choose_regions(read_region_objects(options.roi, slide.pixel_size_um), choice, options.roi)
    return chosen.union, chosen.notes


def _cells_on_slide(options: Ki67Options, out: Path, progress: Progress | None) -> Ki67:
    options.refuse_useless("cells to measure")
    refuse_other_quantity(out, "labelling_index")
    stains, slide_path = options.stains, options.slide
    assert slide_path is not None
    with open_slide(slide_path, mpp=options.mpp, trust_mpp=options.trust_mpp) as slide:
        return measure_stained_cells(
            options.source, slide, stains=stains if stains in (None, ESTIMATE) else Stains.read(stains),
            background=options.background, threshold=options.threshold, um_per_px=options.um_per_px, roi=options.roi,
            classes=options.classes, image=options.image, window_um=options.window_um, min_cells=options.min_cells,
            map_um=options.map_um, title=options.source.name,
        )  # fmt: skip


def _cells(options: Ki67Options, out: Path, progress: Progress | None) -> Ki67:
    options.refuse_useless("a cell table")
    refuse_other_quantity(out, "labelling_index")
    cells, warnings = load_cells(
        options.source, roi=options.roi, mpp=options.mpp, classes=options.classes, image=options.image,
        roi_classes=options.roi_classes, exclude_classes=options.exclude_classes, core=options.core,
    )  # fmt: skip
    try:
        found = measure_labelling(
            cells, window_um=options.window_um, min_cells=options.min_cells, map_um=options.map_um,
            title=options.source.name,
            names=Classes(options.positive, options.negative, options.unclassified_negative),
        )  # fmt: skip
    except InputError as error:
        raise InputError(error.problem, path=options.source, hint=error.hint) from error
    classes = {"Classes": None if options.classes is None else list(options.classes)}
    return replace(found, warnings=(*warnings, *found.warnings), settings={**found.settings, **classes})
