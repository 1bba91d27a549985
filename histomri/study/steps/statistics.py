"""The statistics of a study over its samples."""

from pathlib import Path

from histomri.analysis import StatisticsOptions, study_statistics
from histomri.core.progress import Progress
from histomri.study.result import StepResult


def run(options: StatisticsOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write the tables of correlate, regress, agree and compare, as far as they can be had."""
    return StepResult(*study_statistics(options).write(out))
