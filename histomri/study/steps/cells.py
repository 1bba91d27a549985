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
    beside = (options.project, options.columns, options.nuclei_mask, options.label_classes)
    inputs = (*options.exports, options.roi, *beside)
    refuse_overwrite(out, inputs)
    table = read_cells(*options.exports, **dict(options))
    return StepResult(tuple(table.save(out)), table.messages(), table.metadata.warnings, table.summary())
