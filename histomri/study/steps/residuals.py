"""Residuals of the fits of a study to their statistics over all samples."""

from pathlib import Path

from histomri.core.errors import InputError
from histomri.core.progress import Progress
from histomri.pairing import ResidualsOptions, pool_residuals, save_residuals
from histomri.study.result import StepResult


def run(options: ResidualsOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write residuals.csv and residuals.json; nothing if no fit has left residuals."""
    try:
        table = pool_residuals(options.folders, options.scanners)
    except InputError as error:
        where = f"{Path(error.path).name}: " if error.path is not None else ""
        return StepResult((), (), (f"residuals over samples: {where}{error.problem}",))
    return StepResult(() if table is None else save_residuals(table, out))
