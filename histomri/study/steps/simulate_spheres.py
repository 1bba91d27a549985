"""Signals of permeable spheres, as a dictionary that can be fitted."""

from pathlib import Path

from histomri.core.files import refuse_overwrite, require_folder
from histomri.core.progress import Progress
from histomri.mri import read_acquisition
from histomri.simulation import simulate_sphere_signals
from histomri.simulation.options import SpheresOptions
from histomri.study.result import StepResult


def run(options: SpheresOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write signals.npy (K, M), signals_se.npy, params.csv and its sidecar."""
    acquisition = read_acquisition(options.protocol)
    folder = require_folder(out)
    refuse_overwrite(folder / "params.csv", [options.protocol])
    found = simulate_sphere_signals(
        acquisition,
        diameters_um=options.diameter_um,
        fractions=options.fraction,
        d0i_um2_ms=options.d0i,
        d0e_um2_ms=options.d0e,
        permeabilities_um_s=options.permeability_um_s,
        walkers=options.walkers,
        dt_ms=options.dt_ms,
        seed=options.seed,
        progress=progress,
    )
    kinds, measurements = found.signals.shape
    text = f"{kinds} kinds of spheres, {measurements} measurements, {options.walkers} walkers each"
    error = f"standard error of a signal at most {found.standard_error.max():.2g}"
    return StepResult(tuple(found.save(folder)), (f"{text}; {error}",), summary={"kinds": kinds})
