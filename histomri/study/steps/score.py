"""A table of pairs to the ranking of the models."""

from pathlib import Path

from histomri.analysis import ScoreOptions, score_table
from histomri.core.progress import Progress
from histomri.study.result import StepResult


def run(options: ScoreOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write scores.json and scores.csv; with several models model_comparisons.csv, with several scanners theirs."""
    return StepResult(*score_table(options).write(out))
