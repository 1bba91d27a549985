"""Diffusion images to maps of ADC and kurtosis."""

from pathlib import Path

from histomri.core.presets import choose_preset
from histomri.core.progress import Progress, share_of
from histomri.fitting import fit_dki, preset_warnings
from histomri.fitting.options import DkiOptions
from histomri.fitting.outputs import describe_dki, require_fitted, write_dki
from histomri.mri import Series
from histomri.study.result import StepResult


def run(options: DkiOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Fit ADC and excess kurtosis and write their maps."""
    preset = choose_preset(options.preset, options.protocol)
    series = Series.open(options.dwi, options.protocol, options.mask, options.exclude_volumes)
    signals = series.read(share_of(progress, 0.0, 0.5))
    with series.name_files():
        result = fit_dki(
            signals, series.acquisition, preset=preset, bmin_smm2=options.bmin, bmax_smm2=options.bmax,
            te_ms=options.te, Delta_ms=options.big_delta, progress=share_of(progress, 0.5, 1.0),
        )  # fmt: skip
    require_fitted(result, series, "DKI")
    outputs = write_dki(result, series, out, options.sub)
    assumed = preset_warnings(preset, series.acquisition) if options.preset is None else ()
    warnings = series.images.warnings + assumed + result.warnings
    return StepResult(tuple(outputs), (describe_dki(result),), warnings, {**result.counts, **result.parameters})
