"""A table to the same table without the effect of the scanner."""

from pathlib import Path

from histomri.analysis import HarmoniseOptions, harmonise_table
from histomri.core.progress import Progress
from histomri.study.result import StepResult


def run(options: HarmoniseOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write harmonised.csv (with its .json), harmonisation.csv and harmonisation.json."""
    return StepResult(*harmonise_table(options).write(out))
