"""A table to linear models of standardised values."""

from pathlib import Path

from histomri.analysis import RegressOptions, regress_table
from histomri.core.progress import Progress
from histomri.study.result import StepResult


def run(options: RegressOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write regression.csv, regression_models.csv and regression.json."""
    return StepResult(*regress_table(options).write(out))
