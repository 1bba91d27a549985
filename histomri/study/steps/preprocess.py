"""Raw diffusion images in, images fit for fitting out, with their noise, mask and the record of what was done."""

from pathlib import Path

from histomri.core.progress import Progress, share_of
from histomri.mri import EddyRecord, FieldMap, Series, preprocess
from histomri.mri.options import PreprocessOptions
from histomri.study.result import StepResult


def run(options: PreprocessOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Preprocess a series of diffusion images and write it."""
    # Excluded volumes keep their places, so that the protocol still fits; they take part in no step.
    series = Series.open(options.dwi, options.protocol, **options.reading).check_volumes(options.exclude_volumes)
    images, reference = series.images, options.drift_reference
    readout = None if options.readout_ms is None else options.readout_ms / 1000
    field = None
    if options.field_map is not None:
        axis = options.phase_encoding
        field = FieldMap.read(options.field_map, images, readout_s=readout, phase_encoding=axis)
    eddy = None if options.eddy is None else EddyRecord.read(options.eddy, images.shape[3], images.shape[2])
    signals = images.read(series.inside, share_of(progress, 0.0, 0.1)).reshape(images.shape)
    with series.name_files():
        result = preprocess(
            signals, images.affine, series.acquisition, steps=options.steps,
            reference=None if reference is None else images.read_mask(reference), drift_order=options.drift_order,
            patch=options.patch, motion=options.motion_kind, field=field, eddy=eddy, exclude=options.exclude_volumes,
            progress=share_of(progress, 0.1, 1.0),
        )  # fmt: skip
    more = [path for path in (reference, options.field_map, options.eddy) if path is not None]
    outputs = result.save(out, images.affine, sources=[*series.sources, *more], sub=options.sub)
    return StepResult(tuple(outputs), result.messages(), result.warnings, {"steps": list(result.steps)})
