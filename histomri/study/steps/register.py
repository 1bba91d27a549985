"""A section and its MRI, or two sections, to the transform between them."""

from pathlib import Path

from histomri.core.files import refuse_overwrite, require_folder
from histomri.core.progress import Progress
from histomri.registration.alignment import align, landmark_pairs
from histomri.registration.figures import write_figures
from histomri.registration.files import refuse_other_samples, write_drawn
from histomri.registration.headers import handedness_warnings, section_warnings
from histomri.registration.options import RegisterOptions
from histomri.registration.sections import SlidePictures
from histomri.registration.summary import ResultNames, describe, numbers, result_warnings
from histomri.report.overlay import write_registration_page
from histomri.study.result import StepResult
from histomri.study.steps.sides import read_sides


def run(options: RegisterOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write the transform, the map on the grid of the MRI unless the verdict is "failed", and pictures."""
    require_folder(out)
    names = ResultNames.of(options, out)
    files = [getattr(options, name) for name in options.names("input")]
    given = [path for path in files if isinstance(path, Path)]
    if options.sub is None:
        refuse_other_samples(*given, otherwise="pass --sub NAME")
    for path in names.written:
        refuse_overwrite(path, given)
    section, target, notes = read_sides(options)
    pairs, left_out = landmark_pairs(options, section, target)
    found, pairs = align(section, target, options, pairs, progress)
    resampled = None if found.verdict == "failed" else found.resample(section.image, target.image)
    outputs = found.save(names.json)
    headers = (*handedness_warnings([section.path, target.path]), *section_warnings(section.path, section.image.affine))
    warnings = (*notes, *left_out, *headers, *result_warnings(found, resampled, section, target))
    if resampled is not None and names.drawn is not None:
        judged = {"Transform": names.json.name, "RegistrationVerdict": found.verdict}
        outputs += write_drawn(names.drawn, resampled, section.path, target.path, sidecar=judged)
    elif names.drawn is not None and names.drawn.exists():
        warnings += (f"{names.drawn.name} is left from an earlier run and does not belong to this result",)
    if options.figures:
        views = section.overview, target.overview
        outputs += write_figures(
            found,
            section.image,
            target.image,
            out / "figures",
            stem=names.transform.name,
            moving_mask=section.mask,
            fixed_mask=target.mask,
            landmarks=pairs,
            names=(section.name("section"), target.name("MRI")),
            pictures=None if views[0] is None or views[1] is None else SlidePictures.of(found, views[0], views[1]),
        )
        if resampled is not None:
            outputs.append(write_registration_page(names.page, found, section, target, resampled, warnings))
    return StepResult(tuple(outputs), describe(found, target), warnings, numbers(found))
