"""Whether the files of a study fit together, told from their headers: seconds, before hours of work begin."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from histomri.core.errors import HistomriError, StudyError
from histomri.study.options import PredictionOptions, Sample, protocol_source

# Images that must lie on the grid of the diffusion images.
_ON_GRID = ("mask", "sigma", "s0", "fv", "t2t")


def require_matching_inputs(samples: Sequence[Sample], prediction: PredictionOptions | None = None) -> None:
    """Check headers: images against each other, protocols against images, slices against both; and a table's columns.

    Raises
    ------
    StudyError
        One message that lists every mistake of every sample.
    """
    mistakes = [f"sample {sample.id}: {text}" for sample in samples for text in input_mistakes(sample)]
    if prediction is not None and prediction.table is not None:
        mistakes += prediction_mistakes(prediction, prediction.table)
    if mistakes:
        raise StudyError(
            f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''} in the files of the study:\n  "
            + "\n  ".join(mistakes)
        )


def prediction_mistakes(options: PredictionOptions, table: Path) -> Iterator[str]:
    """Yield what the table of a prediction lacks."""
    from histomri.core.tables import read_table

    sheet, told = _attempt(partial(read_table, table))
    if sheet is None:
        yield f"prediction: {told}"
        return
    for name in (options.target, options.x, options.y, *([options.group_by] if options.group_by else [])):
        _, told = _attempt(partial(sheet.require, name))
        if told:
            yield f"prediction: {told}"


def input_mistakes(sample: Sample) -> Iterator[str]:
    """Yield what is wrong with the MRI files of a sample, as far as their headers tell."""
    from histomri.mri import open_dwi, read_acquisition

    images, told = _attempt(partial(open_dwi, sample.dwi))
    if images is None:
        yield f"dwi: {told}"
        return
    _, told = _attempt(partial(read_acquisition, protocol_source(sample.protocol), sample.dwi))
    if told:
        yield f"protocol: {told}"
    for key in _ON_GRID:
        path = getattr(sample, key)
        if isinstance(path, Path):
            _, told = _attempt(partial(images.open_map, path))
            if told:
                yield f"{key}: {told}"
    if sample.mri_slice is not None and sample.mri_slice >= images.shape[2]:
        yield (
            f"mri_slice: {sample.dwi.name} has no slice {sample.mri_slice}: its slices run from 0 to "
            f"{images.shape[2] - 1}"
        )


def _attempt(work: Callable[[], Any]) -> tuple[Any, str]:
    try:
        return work(), ""
    except HistomriError as error:
        return None, str(error)
