"""A table to differences between groups."""

from pathlib import Path

from histomri.analysis import CompareOptions, compare_table
from histomri.core.progress import Progress
from histomri.study.result import StepResult


def run(options: CompareOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write comparisons.csv and comparisons.json."""
    return StepResult(*compare_table(options).write(out))
