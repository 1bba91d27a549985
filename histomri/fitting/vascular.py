"""The vascular step before a fit: S0, vascular fraction and tissue T2, by which signals are divided."""

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.presets import get_preset
from histomri.core.progress import Progress
from histomri.fitting.results import FitResult
from histomri.fitting.t2ivim import fit_t2ivim
from histomri.mri import Acquisition


def vascular_step(
    wanted: bool | None,
    kurtosis: float | None,
    preset: str,
    acquisition: Acquisition,
    given: bool,
    signals: FloatArray,
    sigma: float | FloatArray | None,
    progress: Progress | None = None,
) -> FitResult | None:
    """Fit S0, fV and T2T where they are wanted and not given.

    By default they are wanted with an in-vivo preset and several echo times; ex vivo no blood flows, and the signal
    at b = 0 of each echo time serves.

    Returns
    -------
    FitResult or None
        None where signals are to be divided by the signal at b = 0, or by the maps given.

    Raises
    ------
    InputError
        If they are both wanted and given.
    """
    if wanted and given:
        raise InputError(
            "S0, fV or T2 are given, and --t2ivim would fit them anew", hint="leave --t2ivim or the maps out"
        )
    several = acquisition.te_ms is not None and np.unique(np.round(acquisition.te_ms, 1)).size > 1
    if wanted is None:
        wanted = several and not given and get_preset(preset).in_vivo
    if not wanted:
        return None
    return fit_t2ivim(signals, acquisition, preset=preset, kurtosis=kurtosis, sigma=sigma, progress=progress)


def normalising_maps(result: FitResult) -> dict[str, FloatArray]:
    """Return s0, fv and t2t, by which `fit` divides, and fv_se; where the step failed, S0 is -1: the fit fails too."""
    codes = result.maps["exit"]
    return {
        "s0": np.where(codes > 0, result.maps["S0"], np.where(codes < 0, -1.0, 0.0)),
        "fv": np.where(codes > 0, result.maps["fV"], 0.0),
        "t2t": np.where(codes > 0, result.maps["T2T"], 1.0),
        "fv_se": result.maps["fV_se"],
    }


def describe_t2ivim(result: FitResult) -> str:
    """Return a line on what was fitted."""
    counts, settings = result.counts, result.parameters
    held = settings["kurtosis"]
    how = "K fitted" if held == "fitted" else f"K held at {held:g}"
    return (
        f"T2-IVIM ({how}, {settings['measurements']} volumes): {counts['fitted'] + counts['at_bound']} voxels "
        f"fitted, fV or T2 of {counts['at_bound']} at a bound, {counts['background']} background, "
        f"{counts['failed']} failed"
    )
