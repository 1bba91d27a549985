"""Whether the files of a study fit together, by their headers: seconds, before hours of work begin."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from histomri.core.errors import HistomriError, StudyError
from histomri.study.sample import Sample
from histomri.study.study_file import Study

# Images that must lie on the grid of the diffusion images.
_ON_GRID = ("mask", "sigma", "s0", "fv", "t2t", "field_map")


def require_matching_inputs(study: Study, samples: Sequence[Sample]) -> None:
    """Check headers: images against each other, protocols against images, slices against both; and a table's columns.

    Raises
    ------
    StudyError
        One message that lists every mistake of every sample.
    """
    found = [f"sample {sample.id}: {text}" for sample in samples for text in input_errors(sample)]
    options = study.options.get("prediction", {})
    if options.get("table") is not None:
        found += prediction_errors(options)
    if found:
        raise StudyError(
            f"{len(found)} mistake{'s' if len(found) > 1 else ''} in the files of the study:\n  " + "\n  ".join(found)
        )


def prediction_errors(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the table of a prediction lacks."""
    from histomri.analysis import PredictOptions
    from histomri.core.tables import read_table

    chosen = PredictOptions.model_validate(options)
    sheet, problem = _attempt(partial(read_table, options["table"]))
    if sheet is None:
        yield f"prediction: {problem}"
        return
    for name in (chosen.target, chosen.x, chosen.y, *([chosen.group_by] if chosen.group_by else [])):
        _, problem = _attempt(partial(sheet.require, name))
        if problem:
            yield f"prediction: {problem}"


def input_errors(sample: Sample) -> Iterator[str]:
    """Yield what is wrong with the MRI files of a sample, as far as their headers show."""
    from histomri.mri import open_dwi, read_acquisition

    images, problem = _attempt(partial(open_dwi, sample.dwi))
    if images is None:
        yield f"dwi: {problem}"
        return
    _, problem = _attempt(partial(read_acquisition, sample.protocol, sample.dwi, **sample.reading))
    if problem:
        yield f"protocol: {problem}"
    for key in _ON_GRID:
        path = getattr(sample, key)
        if isinstance(path, Path):
            _, problem = _attempt(partial(images.open_map, path))
            if problem:
                yield f"{key}: {problem}"
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
