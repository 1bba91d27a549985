"""A cell table to maps of patches."""

from pathlib import Path

from histomri.cells import load_cells
from histomri.core.files import require_folder, together
from histomri.core.presets import DEFAULT_PRESET
from histomri.core.progress import Progress
from histomri.patches import fat_of_slide, map_section, tissue_of_slide, volume_settings
from histomri.patches.options import PatchOptions
from histomri.study.result import StepResult


def run(options: PatchOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write the maps of one slide as NIfTI with sidecars."""
    require_folder(out)
    cells, warnings = load_cells(options.cells, geometries=options.assign == "clip")
    tissue, fat, notes = options.tissue or "cells", None, tuple[str, ...]()
    if options.slide is not None:
        cells, tissue, more = tissue_of_slide(cells, options.slide, options.cells.name)
        warnings += more
        if options.exclude_fat:
            fat, notes = fat_of_slide(options.slide, cells.metadata.pixel_size_um)
    found = map_section(
        cells, patch_um=options.patch_um, like=options.like, whole=options.whole, step_um=options.step_um,
        thickness_um=options.thickness_um, tissue=tissue, preset=options.preset or DEFAULT_PRESET,
        section=options.section, section_thickness_um=options.section_thickness_um, shrinkage=options.shrinkage,
        min_cells=options.min_cells, min_tissue=options.min_tissue, assign_by=options.assign, sub=options.sub,
        per=options.per, by_class=options.by_class, fat=fat, volume=volume_settings(options),
    )  # fmt: skip
    sources = [path for path in (options.like, options.slide) if path is not None]
    with together():
        outputs = found.save(out, options.sub, cells=options.cells, sources=sources)
    return StepResult(tuple(outputs), (*found.messages(), *notes), (*warnings, *found.warnings), found.summary())
