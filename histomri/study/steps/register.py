"""A section and its MRI, or two sections, to the transform between them."""

from pathlib import Path
from typing import Any

from histomri.cells import read_regions
from histomri.core.files import refuse_overwrite, require_folder
from histomri.core.progress import Progress
from histomri.registration.alignment import (
    ResultNames,
    align,
    describe,
    numbers,
    read_landmark_files,
    result_warnings,
    save_alternatives,
)
from histomri.registration.carry_slide import SlidePictures
from histomri.registration.figures import gallery_path, write_figures, write_gallery
from histomri.registration.files import handedness_warnings, refuse_other_samples, section_warnings, write_drawn
from histomri.registration.options import RegisterOptions
from histomri.registration.sides import SlideReader, read_sides
from histomri.report.overlay import write_registration_page
from histomri.slides import Raster, open_slide, tissue_mask
from histomri.study.result import StepResult

_SLIDES = SlideReader(open_slide, tissue_mask, lambda path, pixel_size_um: Raster(read_regions(path, pixel_size_um)))


def run(options: RegisterOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write the transform, the map on the grid of the MRI unless the verdict is "failed", and pictures."""
    require_folder(out)
    names = ResultNames.of(options, out)
    given = [path for name in options.names("input") if isinstance(path := getattr(options, name), Path)]
    if options.sub is None:
        refuse_other_samples(*given, otherwise="pass --sub NAME")
    for path in names.written:
        refuse_overwrite(path, given)
    section, target, notes = read_sides(options, _SLIDES)
    marks = read_landmark_files(options, section, target)
    found, pairs = align(section, target, options, marks.pairs, progress, names=marks.names)
    resampled = None if found.verdict == "failed" else found.resample(section.image, target.image)
    outputs = found.save(names.file(".json")) + save_alternatives(found, names)
    headers = (*handedness_warnings([section.path, target.path]), *section_warnings(section.path, section.image.affine))
    warnings = (*notes, *marks.notes, *headers, *result_warnings(found, resampled, section, target))
    if resampled is not None and names.drawn is not None:
        judged: dict[str, Any] = {"Transform": names.file(".json").name, "RegistrationVerdict": found.verdict}
        outputs += write_drawn(names.drawn, resampled, section.path, target.path, **judged)
    elif names.drawn is not None and names.drawn.exists():
        warnings += (f"{names.drawn.name} is left from an earlier run and does not belong to this result",)
    if options.figures or found.is_open:  # what has to be compared by eye is drawn in a study as well
        images, folder = (section.image, target.image), out / "figures"
        shown: dict[str, Any] = {"moving_mask": section.mask, "fixed_mask": target.mask, "stem": names.transform.name}
        shown["names"] = section.name("section"), target.name("MRI")
        shown["pictures"] = SlidePictures.of(found, section.overview, target.overview)
        if options.figures:
            outputs += write_figures(found, *images, folder, landmarks=pairs, **shown)
        else:
            outputs.append(write_gallery(found, *images, folder, **shown))
        if options.figures and resampled is not None:
            page = names.file(".html")
            gallery = gallery_path(folder, names.transform.name) if found.is_open else None
            outputs.append(write_registration_page(page, found, section, target, resampled, warnings, gallery))
    return StepResult(tuple(outputs), describe(found, target), warnings, numbers(found))
