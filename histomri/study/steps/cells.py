"""QuPath exports to one cell table."""

from pathlib import Path

from histomri.cells import CellTable, read_cells, refuse_table_name
from histomri.cells.options import CellOptions
from histomri.cells.sniff import read_head
from histomri.core.files import refuse_overwrite
from histomri.core.progress import Progress
from histomri.report.contact_sheet import contact_sheet, mask_of, sheet_path
from histomri.study.result import StepResult


def run(options: CellOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write the cells of one slide as a Parquet table, and on request a contact sheet of them."""
    refuse_table_name(out)
    refuse_overwrite(out, (*options.exports, options.roi, options.project, options.check))
    given, drawn = dict(options), options.check is not None and all(map(is_geojson, options.exports))
    table = read_cells(*options.exports, **{**given, "geometries": options.geometries or drawn})
    outputs, messages, warnings = list[Path](), table.messages(), table.metadata.warnings
    if options.check is not None:  # first, so that cells of another slide leave no table
        sheet = contact_sheet(table, options.check, mask=mask_of(options.exports))
        outputs, messages = [sheet.save(sheet_path(out))], (*messages, *sheet.messages)
        warnings = (*warnings, *sheet.warnings)
    if not options.geometries:
        table = CellTable(table.data, table.metadata)
    return StepResult((*table.save(out), *outputs), messages, warnings, table.summary())


def is_geojson(path: Path) -> bool:
    """Whether an export is GeoJSON, which holds outlines."""
    if path.suffix.lower() in (".qpproj", ".parquet") or path.is_dir():
        return False
    return read_head(path).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
