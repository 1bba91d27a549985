"""Diffusion images of several echo times to maps of S0, vascular fraction and tissue T2."""

from functools import partial
from pathlib import Path

from histomri.core.files import together
from histomri.core.presets import choose_preset
from histomri.core.progress import Progress, share_of
from histomri.fitting import bounds_warnings, fit_t2ivim
from histomri.fitting.bounds import parse_bounds
from histomri.fitting.options import T2IvimOptions
from histomri.fitting.outputs import require_fitted, write_t2ivim
from histomri.fitting.regions import fit_labels, read_means, roi_table
from histomri.fitting.t2ivim import describe_t2ivim
from histomri.mri import Series, read_sigma
from histomri.study.result import StepResult


def run(options: T2IvimOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Fit the two-pool model to all volumes and write its maps."""
    preset = choose_preset(options.preset, options.protocol, "invivo-3t")
    series = Series.open(
        options.dwi, options.protocol, options.mask, exclude=options.exclude_volumes, **options.reading
    )
    level = read_sigma(options.sigma, series)
    signals = series.read(share_of(progress, 0.0, 0.3))
    means = read_means(options.roi, options.roi_names, series, signals, level.level)
    fit = partial(
        fit_t2ivim, preset=preset, kurtosis=None if options.kurtosis == "free" else options.kurtosis,
        blood_t2=options.blood_t2, bounds=parse_bounds(options.bounds),
    )  # fmt: skip
    with series.name_files():
        result = fit(signals, series.acquisition, sigma=level.level, progress=share_of(progress, 0.3, 1.0))
        regions = fit_labels(means, series, "T2-IVIM", fit)
    require_fitted(result, series, "T2-IVIM")
    sources = [level.source] if level.source is not None else []
    with together():
        outputs = write_t2ivim(result, series, out, sources, options.sub, level.record)
        outputs += regions.save(out / roi_table("t2ivim", options.sub), [*series.sources, *sources]) if regions else []
    assumed = bounds_warnings(preset, series.acquisition) if options.preset is None else ()
    warnings = series.images.warnings + level.warnings + assumed + result.warnings
    summary = {**result.counts, **result.parameters, "sigma": level.record}
    messages = (describe_t2ivim(result), *(regions.messages if regions else ()))
    return StepResult(tuple(outputs), messages, warnings + (regions.warnings if regions else ()), summary)
