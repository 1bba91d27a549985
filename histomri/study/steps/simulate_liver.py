"""A study of digital mouse livers."""

from pathlib import Path

from histomri.core.progress import Progress
from histomri.simulation import write_study
from histomri.simulation.options import LiverOptions
from histomri.study.result import StepResult


def run(options: LiverOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write the study and its truth."""
    study = write_study(out, **options.study(), progress=progress)
    return StepResult((study,), (f"simulated {options.samples} livers; the truth lies in {out / 'truth'}",))
