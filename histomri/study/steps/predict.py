"""A target such as tumour volume from a polynomial of two metrics."""

from pathlib import Path

from histomri.analysis import PredictOptions, predict_table
from histomri.core.progress import Progress
from histomri.study.result import StepResult


def run(options: PredictOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write predictions.csv, prediction_surface.csv and prediction.json of every basis."""
    return StepResult(*predict_table(options).write(out, folder_each=options.folder_each))
