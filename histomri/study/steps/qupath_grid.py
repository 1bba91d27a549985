"""Maps as tiles to open in QuPath."""

from pathlib import Path

from histomri.core.errors import InputError
from histomri.core.progress import Progress
from histomri.registration import Transform
from histomri.slides import load_measurements, section_tiles
from histomri.slides.options import QupathGridOptions
from histomri.slides.qupath_tiles import slide_calibration
from histomri.study.result import StepResult

_ADVICE = "put it into the folder histomri_results of the QuPath project, or pass it to show_histomri_results.groovy"


def run(options: QupathGridOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write maps of one grid as GeoJSON tiles, a measurement per map."""
    if not out.name.lower().endswith((".geojson", ".geojson.gz", ".json", ".json.gz")):
        raise InputError("the tiles are GeoJSON", path=out, hint="let --out end in .geojson or .geojson.gz")
    if out.is_dir():
        raise InputError("is a folder, and the tiles are a file", path=out)
    maps = load_measurements(options.maps, moved=options.xfm is not None)
    size, size_px, source = slide_calibration(options.slide, options.mpp)
    to_section = None if options.xfm is None else Transform.load(options.xfm).inverse().points
    tiles = section_tiles(maps, size, size_px=size_px, to_section=to_section)
    tiles.save(out, sources=[*options.maps, *([options.xfm] if options.xfm else [])])
    lines = (*tiles.messages(), f"pixel size {size[0]:.4g} x {size[1]:.4g} µm by {source}", _ADVICE)
    summary = {"n_tiles": len(tiles), "n_empty": tiles.n_empty, "n_beside": tiles.n_beside}
    return StepResult((out,), lines, tiles.warnings, {**summary, "measurements": list(tiles.names)})
