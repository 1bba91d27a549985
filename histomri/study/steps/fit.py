"""Diffusion images and protocol to maps of the tissue models."""

from pathlib import Path

from histomri.core.files import together
from histomri.core.progress import Progress
from histomri.fitting import FitRun
from histomri.fitting.options import FitOptions
from histomri.study.result import StepResult


def run(options: FitOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Fit the models and write their maps; nothing is written if one of them fails."""
    outputs = FitRun.plan(options, out).fit(progress)
    with together():
        written = outputs.write()
    return StepResult(written, outputs.messages, outputs.warnings, outputs.summary)
