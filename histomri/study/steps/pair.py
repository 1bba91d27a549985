"""Folders of histology and MRI maps to a table of pairs."""

from pathlib import Path

from histomri.core.progress import Progress
from histomri.pairing import PairOptions, pair_folders
from histomri.study.result import StepResult


def run(options: PairOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write the pairs of one sample, a row per voxel or per sample."""
    pairs = pair_folders(options, out)
    return StepResult(tuple(pairs.save(out, options)), pairs.lines(), pairs.warnings, pairs.summary())
