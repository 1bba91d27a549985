"""Diffusion images to maps of ADC and kurtosis."""

from functools import partial
from pathlib import Path

from histomri.core.files import together
from histomri.core.presets import choose_preset
from histomri.core.progress import Progress, share_of
from histomri.fitting import fit_dki, preset_warnings
from histomri.fitting.bounds import parse_bounds
from histomri.fitting.options import DkiOptions
from histomri.fitting.outputs import describe_dki, require_fitted, write_dki
from histomri.fitting.regions import fit_labels, read_means, roi_table
from histomri.mri import Series, read_sigma
from histomri.study.result import StepResult


def run(options: DkiOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Fit ADC and excess kurtosis and write their maps."""
    preset = choose_preset(options.preset, options.protocol)
    series = Series.open(
        options.dwi, options.protocol, options.mask, exclude=options.exclude_volumes, **options.reading
    )
    level = read_sigma(options.sigma, series)
    signals = series.read(share_of(progress, 0.0, 0.5))
    means = read_means(options.roi, options.roi_names, series, signals, level.level)
    fit = partial(
        fit_dki, preset=preset, bmin_smm2=options.bmin, bmax_smm2=options.bmax, te_ms=options.te,
        Delta_ms=options.big_delta, noise=options.noise, bounds=parse_bounds(options.bounds),
    )  # fmt: skip
    with series.name_files():
        result = fit(signals, series.acquisition, sigma=level.level, progress=share_of(progress, 0.5, 1.0))
        regions = fit_labels(means, series, "DKI", fit)
    require_fitted(result, series, "DKI")
    sources = [level.source] if level.source is not None else []
    with together():
        outputs = write_dki(result, series, out, sources, options.sub, level.record)
        outputs += regions.save(out / roi_table("dki", options.sub), [*series.sources, *sources]) if regions else []
    assumed = preset_warnings(preset, series.acquisition) if options.preset is None else ()
    warnings = series.images.warnings + level.warnings + assumed + result.warnings
    summary = {**result.counts, **result.parameters, "sigma": level.record}
    messages = (describe_dki(result), *(regions.messages if regions else ()))
    return StepResult(tuple(outputs), messages, warnings + (regions.warnings if regions else ()), summary)
