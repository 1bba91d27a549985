"""A table to correlations of its columns."""

from pathlib import Path

from histomri.analysis import CorrelateOptions, correlate_table
from histomri.core.progress import Progress
from histomri.study.result import StepResult


def run(options: CorrelateOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write correlations, of samples, of groups of rows or of voxels."""
    return StepResult(*correlate_table(options).write(out))
