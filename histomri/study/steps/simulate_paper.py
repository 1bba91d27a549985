"""A digital study built like the paper's."""

from pathlib import Path

from histomri.core.progress import Progress
from histomri.simulation import write_paper_study
from histomri.simulation.options import PaperOptions
from histomri.study.result import StepResult


def run(options: PaperOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write the study and its truth."""
    study = write_paper_study(out, **options.study(), progress=progress)
    text = f"simulated {options.mice} livers and {options.biopsies} biopsies; the truth lies in {out / 'truth'}"
    return StepResult((study,), (text,))
