"""QuPath exports to one cell table."""

from pathlib import Path

from histomri.cells import read_cells, refuse_table_name
from histomri.cells.options import CellOptions
from histomri.core.files import refuse_overwrite
from histomri.core.progress import Progress
from histomri.study.result import StepResult


def run(options: CellOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write the cells of one slide as a Parquet table."""
    refuse_table_name(out)
    refuse_overwrite(out, (*options.exports, options.roi, options.project))
    table = read_cells(*options.exports, **dict(options))
    return StepResult(tuple(table.save(out)), table.messages(), table.metadata.warnings, table.summary())
