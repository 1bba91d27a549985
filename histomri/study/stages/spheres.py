"""A protocol in, Monte Carlo signals of permeable spheres out, as a dictionary that can be fitted."""

from collections.abc import Callable, Sequence
from pathlib import Path

from histomri.core.files import refuse_overwrite, require_folder
from histomri.mri import read_acquisition
from histomri.simulation import simulate_sphere_signals
from histomri.study.result import StepResult


def run_spheres(
    protocol: str | Path,
    out: str | Path,
    *,
    diameters_um: Sequence[float],
    fractions: Sequence[float],
    d0i_um2_ms: Sequence[float] = (2.0,),
    d0e_um2_ms: Sequence[float] = (2.0,),
    permeabilities_um_s: Sequence[float] = (0.0,),
    walkers: int = 20_000,
    dt_ms: float = 0.02,
    seed: int = 1,
    progress: Callable[[float], None] | None = None,
) -> StepResult:
    """Simulate every combination of the given parameters and write signals, standard errors and parameters.

    Parameters
    ----------
    protocol : str or path-like
        Any form that `read_acquisition` takes.
    out : path-like
        Folder for signals.npy (K, M), signals_se.npy, params.csv and its sidecar.
    diameters_um, fractions, d0i_um2_ms, d0e_um2_ms, permeabilities_um_s, walkers, dt_ms, seed, progress
        See `simulate_sphere_signals`.

    Returns
    -------
    StepResult

    Raises
    ------
    InputError
        If the protocol cannot be read or a number is out of range; nothing is written then.
    """
    acquisition = read_acquisition(protocol)
    folder = require_folder(out)
    refuse_overwrite(folder / "params.csv", [protocol])
    result = simulate_sphere_signals(
        acquisition, diameters_um=diameters_um, fractions=fractions, d0i_um2_ms=d0i_um2_ms, d0e_um2_ms=d0e_um2_ms,
        permeabilities_um_s=permeabilities_um_s, walkers=walkers, dt_ms=dt_ms, seed=seed, progress=progress,
    )  # fmt: skip
    kinds, measurements = result.signals.shape
    message = (
        f"{kinds} kinds of spheres, {measurements} measurements, {walkers} walkers each; "
        f"standard error of a signal at most {result.standard_error.max():.2g}"
    )
    return StepResult(outputs=tuple(result.save(folder)), messages=(message,), summary={"kinds": kinds})
