"""Diffusion images of several echo times in, maps of S0, vascular fraction and tissue T2 out."""

from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.images import map_name
from histomri.core.progress import Progress, share_of
from histomri.fitting import T2IVIM_PARAMETERS, T2IVIM_UNITS, FitResult, bounds_warnings, choose_preset, fit_t2ivim
from histomri.mri import Acquisition
from histomri.study.result import StepResult
from histomri.study.stages.series import Series
from histomri.study.stages.sigma import read_sigma


def run_t2ivim(
    dwi: str | Path,
    protocol: str | Path,
    out: str | Path,
    *,
    preset: str | None = None,
    mask: str | Path | None = None,
    sigma: float | str | Path | None = None,
    kurtosis: float | str | None = None,
    sub: str | None = None,
    progress: Progress | None = None,
) -> StepResult:
    """Fit the two-pool model to all volumes and write its maps.

    Parameters
    ----------
    dwi, protocol, out, mask, sigma, kurtosis, sub, progress
        As in `run_fit`; the protocol has echo times.
    preset : str, optional
        Bounds; see `fit_t2ivim`. Without it, those of a protocol named after a preset, or else invivo-3t.

    Returns
    -------
    StepResult
        Maps and sidecars written, counts, warnings.

    Raises
    ------
    InputError
        If an input cannot be used, or no voxel was fitted; nothing is written then.
    """
    held, chosen = read_kurtosis(kurtosis), choose_preset(preset, protocol, "invivo-3t")
    series = Series.open(dwi, protocol, mask)
    noise = read_sigma(sigma, series)
    signals = series.read(share_of(progress, 0.0, 0.3))
    with series.blame_protocol():
        result = fit_t2ivim(
            signals, series.acquisition, preset=chosen, kurtosis=held, sigma=noise.level,
            progress=share_of(progress, 0.3, 1.0),
        )  # fmt: skip
    series.require_fitted(result, "T2-IVIM")
    sources = [noise.source] if noise.source is not None else []
    outputs = write_t2ivim(result, series, Path(out), sources, sub, noise.record)
    assumed = bounds_warnings(chosen, series.acquisition) if preset is None else ()
    return StepResult(
        tuple(outputs),
        (describe_t2ivim(result),),
        series.images.warnings + noise.warnings + assumed + result.warnings,
        {**result.counts, **result.parameters, "sigma": noise.record},
    )


def read_kurtosis(kurtosis: float | str | None) -> float | None:
    """Return the value to hold the kurtosis at, None to fit it ("free").

    Raises
    ------
    InputError
        If it is neither.
    """
    if kurtosis is None or kurtosis == "free":
        return None
    try:
        return float(kurtosis)
    except ValueError as error:
        raise InputError(f"the kurtosis is {kurtosis!r}", hint="give free, or a number such as 0") from error


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
        wanted = several and not given and preset.startswith("invivo")
    if not wanted:
        return None
    return fit_t2ivim(signals, acquisition, preset=preset, kurtosis=kurtosis, sigma=sigma, progress=progress)


def normalising_maps(result: FitResult) -> dict[str, FloatArray]:
    """Return s0, fv and t2t, by which `fit` divides, and fv_se; where the step failed, S0 is -1: the fit fails too."""
    codes = result.maps["exit"]
    s0 = np.where(codes > 0, result.maps["S0"], np.where(codes < 0, -1.0, 0.0))
    return {
        "s0": s0,
        "fv": np.where(codes > 0, result.maps["fV"], 0.0),
        "t2t": np.where(codes > 0, result.maps["T2T"], 1.0),
        "fv_se": result.maps["fV_se"],
    }


# Measured at 3 T for tissue whose T2V of 200 ms the data hardly tell; the table is in docs/fitting.md.
_ERRORS_HOLD = "; a parameter at its bound is held there as if known, by which the error may be too small"
_CAVEATS = {
    "fV": _ERRORS_HOLD + " (T2V at a bound; ±1.96 errors held 93 % of true values at SNR 30, 79 % at SNR 100)",
    "DT": _ERRORS_HOLD + " (K at 0; ±1.96 errors held 79 % of true values at SNR 30, 89 % at SNR 100)",
    "KT": "; too small where K comes out too large (±1.96 errors held 84 % of true values at SNR 30, 92 % at SNR 100)",
}


def write_t2ivim(
    result: FitResult, series: Series, out: Path, sources: list[Path], sub: str | None, sigma: dict[str, Any]
) -> list[Path]:
    """Write the maps of the two-pool model, marked ``desc-t2ivim``, as DKI has an S0 of its own."""
    written: list[Path] = []
    labels = {**T2IVIM_UNITS, "cost": ("1", "Half the sum of squared residuals at the optimum")}
    labels["exit"] = ("1", "Exit code: 1 fitted, 2 fV or T2T is at its bound, 0 background, -1 failed")
    for name, values in result.maps.items():
        param, _, stat = name.partition("_")
        if param not in (*T2IVIM_PARAMETERS, "cost", "exit"):
            continue
        units, description = labels[param]
        path = out / map_name(param, "dwimap", sub=sub, stat=stat or None, desc="t2ivim")
        written += series.write(
            path, values, parameters=result.parameters, sources=sources, Units=units,
            Description=f"Standard error of: {description}{_CAVEATS.get(param, '')}" if stat else description,
            Model="t2ivim", Preset=result.parameters["preset"], NoiseLevel=sigma,
        )  # fmt: skip
    return written


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
