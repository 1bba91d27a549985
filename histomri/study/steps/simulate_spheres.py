"""A protocol to Monte Carlo signals of permeable spheres, as a dictionary that can be fitted."""

from pathlib import Path

from histomri.core.files import refuse_overwrite, require_folder
from histomri.core.progress import Progress
from histomri.mri import read_acquisition
from histomri.simulation import simulate_sphere_signals
from histomri.simulation.options import SpheresOptions
from histomri.study.result import StepResult


def run(options: SpheresOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Simulate every combination and write signals, standard errors and parameters."""
    acquisition = read_acquisition(options.protocol, **options.reading)
    folder = require_folder(out)
    refuse_overwrite(folder / "params.csv", [options.protocol])
    result = simulate_sphere_signals(
        acquisition, diameters_um=options.diameter_um, fractions=options.fraction, d0i_um2_ms=options.d0i,
        d0e_um2_ms=options.d0e, permeabilities_um_s=options.permeability_um_s, cvs=options.cv,
        arrangement=options.arrangement, distribution=options.distribution, t2i_ms=options.t2i_ms,
        t2e_ms=options.t2e_ms, walkers=options.walkers, standard_error=options.standard_error, dt_ms=options.dt_ms,
        fine=options.fine, seed=options.seed, jobs=options.jobs, progress=progress,
    )  # fmt: skip
    kinds, measurements = result.signals.shape
    message = (
        f"{kinds} kinds of spheres, {measurements} measurements, {options.walkers} walkers each; "
        f"standard error of a signal at most {result.standard_error.max():.2g}"
    )
    return StepResult(outputs=tuple(result.save(folder)), messages=(message,), summary={"kinds": kinds})
