"""A slide to its fat vacuoles by size class."""

from pathlib import Path

from histomri.cells import read_regions
from histomri.core.files import require_folder
from histomri.core.progress import Progress
from histomri.patches import FatOptions, measure_fat
from histomri.slides import open_slide
from histomri.study.result import StepResult


def run(options: FatOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write fat.json, fat.csv, fat_vacuoles.parquet, fat.png, and a map on request."""
    require_folder(out)
    with open_slide(options.slide, mpp=options.mpp) as slide:
        found = measure_fat(
            slide, region=None if options.roi is None else read_regions(options.roi, slide.pixel_size_um),
            edges_um=options.edges_um, empty_od=options.empty_od, roundness=options.roundness, map_um=options.map_um,
            progress=progress,
        )  # fmt: skip
    sources = [path for path in (options.slide, options.roi) if path is not None]
    settings = {"Edges_um": list(options.edges_um), "EmptyOD": options.empty_od, "Roundness": options.roundness}
    outputs = found.save(out, options.sub, sources=sources, settings=settings)
    return StepResult(tuple(outputs), found.messages, found.warnings, {"fat": found.content})
