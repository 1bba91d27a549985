"""Ki-67 of a slide: the fraction of the tissue that is stained with DAB."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from shapely.geometry.base import BaseGeometry

from histomri.core.arrays import FloatArray
from histomri.core.calibration import read_slide_record, slide_record_path
from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.core.progress import Progress
from histomri.patches.grid import PatchGrid
from histomri.patches.ki67 import Ki67, row_of
from histomri.patches.options import ESTIMATE
from histomri.slides import Raster, Slide, StainedArea, Stains, Tissue, estimate_background, find_tissue, stained_area
from histomri.slides.pictures import draw_stain
from histomri.slides.stains import analysed_pixels, estimate_stains, ratio, tissue_pixels, usual_angles

_CELL_UM, _BLOCK_UM, _DETAIL_UM = 25.0, 250.0, 300.0
_OVERVIEW_PX = 900
_COARSEST_UM = 4.0
_UNLIKE_GLASS_OD = 0.02
_UNUSUAL_DEGREES = 20.0  # scanners and antibodies shift the colours by some 10 degrees
_WARNING = "NOT to be compared with a labelling index, which counts cells."
_FRACTION = f"Pixels stained with DAB / pixels of the analysed area. {_WARNING}"


def measure_stained_area(
    slide: Slide, *, region: BaseGeometry | None = None, tissue: bool = True, stains: Stains | str | None = None,
    background: ArrayLike | None = None, threshold: float = 0.2, um_per_px: float = 1.0, map_um: float | None = None,
    progress: Progress | None = None,
) -> Ki67:  # fmt: skip
    """Measure the area fraction of a slide that is stained with DAB.

    Parameters
    ----------
    slide : Slide
        Bright-field, opened by `open_slide`.
    region, tissue : shapely geometry, optional; bool
        Polygons to count in, µm; whether to count tissue only, or all of the region.
    stains : Stains, "estimate" or None
        Stain vectors; estimated from the slide; or those of QuPath's JSON beside the slide, else the usual H-DAB.
    background : (3,) array_like, optional
        Colour of the glass, R, G, B; that of the stains, else estimated.
    threshold, um_per_px : float
        DAB optical density from which a pixel is stained; resolution at which pixels are judged.
    map_um, progress : float, optional; callable, optional
        Patch size of a map; called with the fraction done.

    Raises
    ------
    InputError
        If the slide is no DAB slide, the region lies beside it, or a number is not possible.
    """
    if um_per_px > _COARSEST_UM:
        problem = f"pixels of {um_per_px:g} µm are larger than half a nucleus"
        hint = f"pass --um-per-px of {_COARSEST_UM:g} or less; 1 is usual"
        raise InputError(f"{problem}, so stained nuclei fade into their surroundings", hint=hint)
    wide, high = slide.field_um
    if region is not None and not region.intersects(shapely.box(0, 0, wide, high)):
        low_x, low_y, high_x, high_y = region.bounds
        spans = f"it spans x {low_x:.0f} to {high_x:.0f} and y {low_y:.0f} to {high_y:.0f} µm"
        problem = f"the region lies beside the slide: {spans}, and the slide is {wide:.0f} x {high:.0f} µm"
        hint = "the region must be of this slide and in pixels of its full resolution, as QuPath writes it"
        raise InputError(problem, path=slide.path, hint=hint)
    found = find_tissue(slide)
    counted_tissue = found if tissue else None
    used, background_from, doubtful = choose_stains(slide, found, stains, background, um_per_px, region)
    per_map = max(round(map_um / _CELL_UM), 1) if map_um else 1
    area = stained_area(
        slide, used, threshold=threshold, um_per_px=um_per_px, tissue=counted_tissue, region=region,
        cell_um=map_um / per_map if map_um else _CELL_UM, progress=progress,
    )  # fmt: skip
    headline = f"stained area fraction {area.fraction:.2%}"
    figure, warnings = _picture(slide, used, area, counted_tissue, region, f"{slide.path.name}: {headline}")
    blocks = max(round(_BLOCK_UM / area.cell_um[0]), 1)
    error = area.standard_error(blocks)
    ci95 = (max(area.fraction - 1.96 * error, 0.0), min(area.fraction + 1.96 * error, 1.0))
    n_stained, n_counted = int(area.stained.sum()), int(area.counted.sum())
    whole = "the slide" if region is None else "the region of interest"
    where = f"all of {whole}" if not tissue else "tissue" if region is None else f"tissue in {whole}"
    content = {
        "Description": _FRACTION, "value": area.fraction, "standard_error": error, "ci95": ci95,
        "interval": f"of the ratio, from blocks of {blocks * area.cell_um[0]:.0f} µm: how far the region varies",
        "n_stained_pixels": n_stained, "n_counted_pixels": n_counted, "counted_area_mm2": area.area_mm2,
        "region_area_mm2": (region.area if region is not None else wide * high) / 1e6, "counted": where,
        "pixel_um": area.um_per_px, "threshold_od": area.threshold,
        "stains": {"names": used.names, "vectors": used.vectors, "source": used.source},
        "background_rgb": used.background_rgb, "background_from": background_from,
    }  # fmt: skip
    row = row_of("stained_area_fraction", "whole", area.fraction, ci95, n_stained, n_counted)
    row["area_mm2"] = area.area_mm2
    x, y = slide.pixel_size_um or (0.0, 0.0)  # it is known, or there would be no field
    colour = ", ".join(f"{value:.0f}" for value in np.asarray(used.background_rgb))
    known_error = f"; standard error {error:.2%}" if np.isfinite(error) else ""
    density = f"DAB from an optical density of {area.threshold:g} at {area.um_per_px[0]:.3g} µm per pixel"
    lines = (
        f"{headline} of {area.area_mm2:.3g} mm² ({where}){known_error}",
        f"{density}; stains: {used.source}; background {colour} ({background_from})",
        f"pixel size {x:.4g} x {y:.4g} µm by {slide.pixel_size_from}",
    )
    settings = {"Threshold": threshold, "UmPerPx": um_per_px, "Tissue": tissue}
    image, warnings = _map(area, per_map) if map_um else None, (*doubtful, *warnings)
    return Ki67("stained_area_fraction", area.fraction, ci95, content, [row], figure, image, lines, warnings, settings)


def choose_stains(
    slide: Slide, tissue: Tissue, stains: Stains | str | None, background: ArrayLike | None, um_per_px: float,
    region: BaseGeometry | None,
) -> tuple[Stains, str, tuple[str, ...]]:  # fmt: skip
    """Return stains with a background, how that was found, and warnings."""
    glass, source, warnings = np.asarray(background), "typed, --background", tuple[str, ...]()
    if not isinstance(stains, str):
        stains = stains or stains_of(slide.path)
        _ = stains.dab  # there must be one
        if background is None and stains.background_rgb is not None:
            return stains, f"stated with the stains, {stains.source}", _far_from_glass(slide, tissue, stains)
        if background is None:
            glass, source, warnings = _background(slide, tissue)
        return replace(stains, background_rgb=glass), source, warnings
    if stains != ESTIMATE:
        raise InputError(f"there are no stains {stains!r}", hint=f"pass Stains, or {ESTIMATE!r}")
    if background is None:
        glass, source, warnings = _background(slide, tissue)
    try:
        estimated = estimate_stains(tissue_pixels(slide, tissue, um_per_px, region), glass)
    except InputError as error:
        raise InputError(error.problem, path=slide.path, hint=error.hint) from error
    angles = usual_angles(estimated)
    if max(angles) > _UNUSUAL_DEGREES:
        question = "is much of the tissue stained with both, and is it a DAB slide? Look at ki67.png"
        found = f"the estimated hematoxylin is {angles[0]:.0f} and the DAB {angles[1]:.0f} degrees"
        warnings += (f"{found} from the usual colours: {question}",)
    return estimated, source, warnings


def _far_from_glass(slide: Slide, tissue: Tissue, stains: Stains) -> tuple[str, ...]:
    """Warn of a stated background that is not the colour of the slide's own glass; it is used all the same."""
    glass, how = estimate_background(slide.thumbnail(tissue.um_per_px[0]), tissue.mask)
    stated = np.asarray(stains.background_rgb)
    if "no glass" in how or np.abs(np.log10(glass / stated)).max() < _UNLIKE_GLASS_OD:
        return ()
    colours = [", ".join(f"{value:.0f}" for value in colour) for colour in (stated, glass)]
    effect = "densities shift by the difference; to use the glass, leave Background out of the stains"
    return (
        f"the background {colours[0]} stated with the stains is not the glass of the slide, {colours[1]}: {effect}",
    )


def stains_of(slide: Path) -> Stains:
    """Return the stains that QuPath's JSON beside a slide gives, else the usual hematoxylin and DAB."""
    path = slide_record_path(slide)
    record = None if path is None else read_slide_record(path)
    if record is not None and record.image_type not in (None, "BRIGHTFIELD_H_DAB"):
        problem = f"is of type {record.image_type} by {record.path.name}, so there is no DAB to measure"
        raise InputError(problem, path=slide, hint="set the type in QuPath and export again, or pass --stains")
    if record is not None and record.stains is not None:
        return Stains.from_qupath(record.stains, record.path.name)
    return Stains.h_dab()


def _background(slide: Slide, tissue: Tissue) -> tuple[FloatArray, str, tuple[str, ...]]:
    background, source = estimate_background(slide.thumbnail(tissue.um_per_px[0]), tissue.mask)
    warning = "the slide shows no glass, so its background was guessed; pass the colour of glass, --background R,G,B"
    return background, source, (warning,) if "no glass" in source else ()


def _picture(
    slide: Slide, stains: Stains, area: StainedArea, tissue: Tissue | None, region: BaseGeometry | None, title: str
) -> tuple[Figure, tuple[str, ...]]:
    """Return the picture, and a warning if the stained pixels do not look like DAB."""
    field, (across, down) = slide.field_um, area.cell_um
    view = slide.at(float(area.um_per_px[0]))
    row, column = np.unravel_index(int(np.argmax(area.stained)), area.stained.shape)
    # A window around the most stained cell of the grid, inside the slide.
    size = [min(max(round(_DETAIL_UM / pixel), 1), n) for pixel, n in zip(view.um_per_px, view.size_px)]
    centre = ((column + 0.5) * across / view.um_per_px[0], (row + 0.5) * down / view.um_per_px[1])
    corner = [int(np.clip(round(c - n / 2), 0, total - n)) for c, n, total in zip(centre, size, view.size_px)]
    detail, centres = view.read(*corner, *size), view.centres_um(*corner, *size)
    counted = analysed_pixels(*centres, tissue, None if region is None else Raster(region))
    stained = stains.amount(detail, stains.dab) >= area.threshold
    (left, top), (wide, high) = ([n * um for n, um in zip(pair, view.um_per_px)] for pair in (corner, size))
    outlines = tuple(shape for shape in (tissue.region if tissue is not None else None, region) if shape is not None)
    figure = draw_stain(
        slide.thumbnail(max(field) / _OVERVIEW_PX), ratio(area.stained, area.counted), detail, stained, counted,
        title=title, field_um=field, grid_um=(area.stained.shape[1] * across, area.stained.shape[0] * down),
        detail_um=(left, top, left + wide, top + high), outlines=outlines,
    )  # fmt: skip
    return figure, _looks_unlike_dab(detail[stained & counted], stains)


def _looks_unlike_dab(rgb: Any, stains: Stains) -> tuple[str, ...]:
    if not len(rgb):
        return ()
    amounts = stains.amounts(rgb).mean(axis=0)
    most = int(np.argmax(amounts))
    if amounts[stains.dab] >= amounts[most]:
        return ()
    question = "is it a DAB slide, and are the stain vectors its own? Look at ki67.png"
    return (f"the pixels that count as stained have more {stains.names[most]} than DAB: {question}",)


def _map(area: StainedArea, factor: int) -> Image:
    stained, counted = area.blocks(factor)
    (width, height), (rows, columns) = area.cell_um, counted.shape
    grid = PatchGrid((0.0, 0.0), (factor * width, factor * height), (rows, columns), 4.0)
    return Image(ratio(stained, counted), grid.affine)
