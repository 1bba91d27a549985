"""A transform applied to a file: a map, a slide, annotations or a table of points."""

from pathlib import Path

from histomri.core.progress import Progress
from histomri.registration.apply import apply_transform
from histomri.registration.options import ApplyOptions
from histomri.slides import open_slide
from histomri.study.result import StepResult


def run(options: ApplyOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Carry the input through the transforms."""
    found = apply_transform(options, out, open_slide)
    return StepResult(found.outputs, (found.message,), found.warnings, found.numbers)
