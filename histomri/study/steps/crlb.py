"""A protocol to what it can determine: table and figure of the Cramér-Rao bound."""

from pathlib import Path

from histomri.core.presets import STRATEGIES, choose_preset
from histomri.core.progress import Progress
from histomri.fitting import bound_of_protocol, choose_threshold, preset_warnings
from histomri.fitting.options import CrlbOptions
from histomri.mri import read_acquisition
from histomri.study.result import StepResult


def run(options: CrlbOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write the smallest standard deviations that a protocol allows."""
    acquisition, preset = (
        read_acquisition(options.protocol, **options.reading),
        choose_preset(options.preset, options.protocol),
    )
    both = options.strategy is None and options.bmin is None
    bound = bound_of_protocol(
        acquisition, snr=options.snr, models=options.models, preset=preset, t2t_ms=options.t2t,
        thresholds=[
            choose_threshold(preset, each, options.bmin) for each in (STRATEGIES if both else (options.strategy,))
        ],
    )  # fmt: skip
    assumed = preset_warnings(preset, acquisition) if options.preset is None else ()
    outputs = bound.save(out, [Path(options.protocol)])
    return StepResult(tuple(outputs), bound.messages, assumed + bound.warnings, bound.summary)
