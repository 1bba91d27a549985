"""A table to the agreement of MRI and histology, or of any two columns."""

from pathlib import Path

from histomri.analysis import AgreeOptions, agree_table
from histomri.core.progress import Progress
from histomri.study.result import StepResult


def run(options: AgreeOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write agreement.csv, bias_by_size.csv and agreement.json."""
    return StepResult(*agree_table(options).write(out))
