"""Ki-67 on a slide: the share of the tissue that is stained with DAB."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from histomri.cells import read_regions
from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.files import require_file
from histomri.patches import PatchGrid
from histomri.slides import Raster, Slide, StainedArea, Stains, Tissue, estimate_background, find_tissue, open_slide
from histomri.slides.calibration import record_of
from histomri.slides.pictures import draw_stain
from histomri.slides.stain_estimate import estimate_stains, tissue_pixels, usual_angles
from histomri.slides.stained import shares, stained_area, stained_pixels
from histomri.study.stages.ki67_counts import Counted, Ki67Options, row_of

_CELL_UM, _BLOCK_UM, _DETAIL_UM = 25.0, 250.0, 300.0
_OVERVIEW_PX = 900
_COARSEST_UM = 4.0
ESTIMATE = "estimate"
# Scanners and antibodies shift the colours by some 10 degrees.
_UNUSUAL_DEGREES = 20.0
_FRACTION = (
    "Pixels stained with DAB / pixels of the tissue that was looked at. NOT to be compared with a labelling index, "
    "which counts cells."
)


def count_slide(path: Path, options: Ki67Options, progress: Callable[[float], None] | None) -> Counted:
    """Return the stained area fraction of a slide."""
    if options.um_per_px > _COARSEST_UM:
        raise InputError(
            f"pixels of {options.um_per_px:g} µm are larger than half a nucleus, so stained nuclei fade into their "
            "surroundings",
            hint=f"pass --um-per-px of {_COARSEST_UM:g} or less; 1 is usual",
        )
    with open_slide(path, mpp=options.mpp, trust_mpp=options.trust_mpp) as slide:
        field = slide.field_um
        region = None if options.roi is None else _region(options.roi, slide)
        found = find_tissue(slide)
        tissue = found if options.tissue else None
        stains, how, warnings = _stains(slide, found, options, region)
        per_map = max(round(options.map_um / _CELL_UM), 1) if options.map_um else 1
        area = stained_area(
            slide,
            stains,
            threshold=options.threshold,
            um_per_px=options.um_per_px,
            tissue=tissue,
            region=region,
            cell_um=options.map_um / per_map if options.map_um else _CELL_UM,
            progress=progress,
        )
        picture, doubt = _picture(slide, stains, area, tissue, region, f"{path.name}: {_headline(area)}")
    blocks = max(round(_BLOCK_UM / area.cell_um[0]), 1)
    error = area.standard_error(blocks)
    ci95 = (max(area.fraction - 1.96 * error, 0.0), min(area.fraction + 1.96 * error, 1.0))
    n_stained, n_counted = int(area.stained.sum()), int(area.counted.sum())
    content = {
        "Description": _FRACTION,
        "value": area.fraction,
        "standard_error": error,
        "ci95": ci95,
        "interval": f"of the ratio, from blocks of {blocks * area.cell_um[0]:.0f} µm: how far the region varies",
        "n_stained_pixels": n_stained,
        "n_counted_pixels": n_counted,
        "counted_area_mm2": area.area_mm2,
        "region_area_mm2": (region.area if region is not None else field[0] * field[1]) / 1e6,
        "counted": _where(options),
        "pixel_um": area.um_per_px,
        "threshold_od": area.threshold,
        "stains": {"names": stains.names, "vectors": stains.vectors, "source": stains.source},
        "background_rgb": stains.background_rgb,
        "background_from": how,
    }
    key = "stained_area_fraction"
    row = row_of(key, "whole", area.fraction, ci95, n_stained, n_counted, area_mm2=area.area_mm2)
    settings = {"Threshold": options.threshold, "UmPerPx": options.um_per_px, "Tissue": options.tissue}
    drawn = _map(area, per_map) if options.map_um else None
    lines = _lines(area, error, slide, stains, how, options)
    return Counted(key, content, [row], picture, lines, (*warnings, *doubt), settings, drawn)


def _lines(
    area: StainedArea, error: float, slide: Slide, stains: Stains, background_from: str, options: Ki67Options
) -> tuple[str, ...]:
    background = ", ".join(f"{value:.0f}" for value in stains.background_rgb)  # type: ignore[union-attr]
    return (
        f"{_headline(area)} of {area.area_mm2:.3g} mm² ({_where(options)})"
        + (f"; standard error {error:.2%}" if np.isfinite(error) else ""),
        f"DAB from an optical density of {area.threshold:g} at {area.um_per_px[0]:.3g} µm per pixel; stains: "
        f"{stains.source}; background {background} ({background_from})",
        f"pixel size {slide.pixel_size_um[0]:.4g} x {slide.pixel_size_um[1]:.4g} µm by {slide.pixel_size_from}",  # type: ignore[index]
    )


def _region(roi: Path, slide: Slide) -> BaseGeometry:
    region = read_regions(roi, slide.pixel_size_um)
    wide, high = slide.field_um
    if not region.intersects(shapely.box(0, 0, wide, high)):
        low_x, low_y, high_x, high_y = region.bounds
        raise InputError(
            f"lies beside the slide: it spans x {low_x:.0f} to {high_x:.0f} and y {low_y:.0f} to {high_y:.0f} µm, and "
            f"the slide is {wide:.0f} x {high:.0f} µm",
            path=roi,
            hint="the region must be of this slide and in pixels of its full resolution, as QuPath writes it",
        )
    return region


def _stains(
    slide: Slide, tissue: Tissue, options: Ki67Options, region: BaseGeometry | None
) -> tuple[Stains, str, tuple[str, ...]]:
    """Return stains with a background, how that was found, and what there is to doubt."""
    if options.stains == ESTIMATE:
        return _estimated(slide, tissue, options, region)
    stains = _vectors(slide, options)
    _ = stains.dab
    if options.background is not None:
        return replace(stains, background_rgb=np.array(options.background)), "given", ()
    if stains.background_rgb is not None:
        return stains, "given with the stains", ()
    background, how, doubts = _background(slide, tissue)
    return replace(stains, background_rgb=background), how, doubts


def _background(slide: Slide, tissue: Tissue) -> tuple[FloatArray, str, tuple[str, ...]]:
    background, how = estimate_background(slide.thumbnail(tissue.um_per_px[0]), tissue.mask)
    doubts: tuple[str, ...] = ()
    if "no glass" in how:
        doubts = (
            "the slide shows no glass, so its background was guessed; pass the colour of glass, --background R,G,B",
        )
    return background, how, doubts


def _estimated(
    slide: Slide, tissue: Tissue, options: Ki67Options, region: BaseGeometry | None
) -> tuple[Stains, str, tuple[str, ...]]:
    """Return the stains as the pixels of the tissue show them."""
    background, how, doubts = np.array(options.background), "given", tuple[str, ...]()
    if options.background is None:
        background, how, doubts = _background(slide, tissue)
    try:
        stains = estimate_stains(tissue_pixels(slide, tissue, options.um_per_px, region), background)
    except InputError as error:
        raise InputError(error.problem, path=slide.path, hint=error.hint) from error
    angles = usual_angles(stains)
    if max(angles) > _UNUSUAL_DEGREES:
        doubts = (
            *doubts,
            f"the estimated hematoxylin is {angles[0]:.0f} and the DAB {angles[1]:.0f} degrees from the usual colours: "
            "is much of the tissue stained with both, and is it a DAB slide? Look at ki67.png",
        )
    return stains, how, doubts


def _vectors(slide: Slide, options: Ki67Options) -> Stains:
    if options.stains is not None:
        text, source = options.stains, "--stains"
        if not text.lstrip().startswith("{"):
            path = require_file(text, "file of stain vectors")
            text, source = path.read_text(encoding="utf-8-sig", errors="replace"), path.name
        return Stains.from_qupath(text, source)
    record = record_of(slide.path)
    if record is not None and record.image_type not in (None, "BRIGHTFIELD_H_DAB"):
        raise InputError(
            f"is of type {record.image_type} by {record.path.name}, so there is no DAB to measure",
            path=slide.path,
            hint="set the type in QuPath and export again, or pass --stains",
        )
    if record is not None and record.stains is not None:
        return Stains.from_qupath(record.stains, record.path.name)
    return Stains.h_dab()


def _picture(
    slide: Slide, stains: Stains, area: StainedArea, tissue: Tissue | None, region: BaseGeometry | None, title: str
) -> tuple[bytes, tuple[str, ...]]:
    """Return the PNG, and a warning if what counts as stained does not look like DAB."""
    field, (across, down) = slide.field_um, area.cell_um
    view = slide.at(float(area.um_per_px[0]))
    row, column = np.unravel_index(int(np.argmax(area.stained)), area.stained.shape)
    # A window around the most stained cell of the grid, inside the slide.
    size = [min(max(round(_DETAIL_UM / pixel), 1), n) for pixel, n in zip(view.um_per_px, view.size_px)]
    centre = ((column + 0.5) * across / view.um_per_px[0], (row + 0.5) * down / view.um_per_px[1])
    corner = [int(np.clip(round(c - n / 2), 0, total - n)) for c, n, total in zip(centre, size, view.size_px)]
    detail = view.read(corner[0], corner[1], size[0], size[1])
    x, y = ((start + np.arange(n) + 0.5) * pixel for start, n, pixel in zip(corner, size, view.um_per_px))
    counted = np.ones(detail.shape[:2], dtype=bool)
    if tissue is not None:
        counted &= tissue.inside(x, y)
    if region is not None:
        counted &= Raster(region).inside(x, y)
    stained = stained_pixels(detail, stains, area.threshold)
    low = (corner[0] * view.um_per_px[0], corner[1] * view.um_per_px[1])
    outlines = tuple(shape for shape in (tissue.region if tissue is not None else None, region) if shape is not None)
    picture = draw_stain(
        slide.thumbnail(max(field) / _OVERVIEW_PX),
        shares(area.stained, area.counted),
        detail,
        stained,
        counted,
        title=title,
        field_um=field,
        share_um=(area.stained.shape[1] * across, area.stained.shape[0] * down),
        detail_um=(low[0], low[1], low[0] + size[0] * view.um_per_px[0], low[1] + size[1] * view.um_per_px[1]),
        outlines=outlines,
    )
    return picture, _doubt(detail[stained & counted], stains)


def _doubt(rgb: Any, stains: Stains) -> tuple[str, ...]:
    if not len(rgb):
        return ()
    amounts = np.delete(stains.amounts(rgb).mean(axis=0), stains.dab)
    names = [name for number, name in enumerate(stains.names) if number != stains.dab]
    most = int(np.argmax(amounts))
    if stains.amount(rgb, stains.dab).mean() >= amounts[most]:
        return ()
    return (
        f"what counts as stained has more {names[most]} than DAB: is it a DAB slide, and are the "
        "stain vectors its own? Look at ki67.png",
    )


def _map(area: StainedArea, factor: int) -> tuple[str, Any, Any, str]:
    stained, counted = area.blocks(factor)
    patch = (factor * area.cell_um[0], factor * area.cell_um[1])
    grid = PatchGrid((0.0, 0.0), patch, (counted.shape[0], counted.shape[1]), 4.0)
    return "stainedFraction", shares(stained, counted), grid.affine, _FRACTION


def _headline(area: StainedArea) -> str:
    return f"stained area fraction {area.fraction:.2%}"


def _where(options: Ki67Options) -> str:
    if options.roi is not None:
        return "tissue in the region of interest" if options.tissue else "all of the region of interest"
    return "tissue" if options.tissue else "all of the slide"
