"""Raw diffusion images in, images fit for fitting out, with their noise, mask and the record of what was done."""

from pathlib import Path

from histomri.core.progress import Progress, share_of
from histomri.mri import Series, preprocess
from histomri.mri.options import PreprocessOptions
from histomri.study.result import StepResult


def run(options: PreprocessOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Preprocess a series of diffusion images and write it."""
    series = Series.open(options.dwi, options.protocol, **options.reading)
    images, reference = series.images, options.drift_reference
    signals = images.read(series.inside, share_of(progress, 0.0, 0.1)).reshape(images.shape)
    with series.name_files():
        result = preprocess(
            signals, images.affine, series.acquisition, steps=options.steps,
            reference=None if reference is None else images.read_mask(reference), drift_order=options.drift_order,
            progress=share_of(progress, 0.1, 1.0),
        )  # fmt: skip
    sources = [*series.sources, *([reference] if reference is not None else [])]
    outputs = result.save(out, images.affine, sources=sources, sub=options.sub)
    return StepResult(tuple(outputs), result.messages(), result.warnings, {"steps": list(result.steps)})
