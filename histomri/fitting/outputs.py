"""The files of fits: maps with sidecars, residuals with their statistics, and the spread of a bootstrap."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.files import atomic_path
from histomri.core.formulas import without_formulas
from histomri.core.images import MRI_MAPS, map_name
from histomri.fitting import T2IVIM_UNITS, FitResult, Residuals
from histomri.mri import Series

PARAMS = (
    "F",
    "fI",
    "vCS",
    "CD",
    "D0I",
    "DEinf",
    "beta",
    "cost",
    "logL",
    "BIC",
    "AIC",
    "chi2",
    "pMisfit",
    "dropped",
    "exit",
    "CDsphere",
    "cellNV",
    "S0",
    "T2I",
    "T2E",
    "kappa",
)
"""Names of the maps of the tissue models."""
_STATS = {
    "se": "Standard error of: {}",
    "bootse": "Standard deviation over bootstrap repeats of: {}",
    "low": "2.5 percentile over bootstrap repeats of: {}",
    "high": "97.5 percentile over bootstrap repeats of: {}",
}
# Measured at 3 T for tissue whose T2V of 200 ms the data hardly determine; the table is in docs/fitting.md.
_ERRORS_HOLD = "; a parameter at its bound is held there as if known, by which the error may be too small"
_CAVEATS = {
    "fV": _ERRORS_HOLD + " (T2V at a bound; ±1.96 errors held 93 % of true values at SNR 30, 79 % at SNR 100)",
    "DT": _ERRORS_HOLD + " (K at 0; ±1.96 errors held 79 % of true values at SNR 30, 89 % at SNR 100)",
    "KT": "; too small where K comes out too large (±1.96 errors held 84 % of true values at SNR 30, 92 % at SNR 100)",
}


def require_fitted(result: FitResult, series: Series, title: str) -> None:
    """Raise InputError if not one voxel was fitted."""
    counts = result.counts
    if counts["fitted"] + counts["at_bound"]:
        return
    why = "signal not finite, no signal to normalise by, or no noise level above 0"
    codes = f"{counts['background']} background, {counts['failed']} failed: {why}"
    problem = f"{title} could not be fitted in a single voxel{series.where} ({codes})"
    raise InputError(problem, path=series.images.path, hint="check the images, the mask, and the maps given with them")


def counted(result: FitResult) -> str:
    """Return how many voxels were fitted and how many not."""
    n = result.counts
    done = f"{n['fitted'] + n['at_bound']} voxels fitted, {n['at_bound']} of them at a bound"
    found = result.parameters.get("misfit") or {}
    if found.get("VoxelsFittedAgain"):
        how = f"{found['MeasurementsLeftOut']} measurements left out"
        done += f", {found['VoxelsFittedAgain']} fitted again ({found['Robust']}), {how}"
    return f"{done}, {n['background']} background, {n['failed']} failed"


def write_fit(
    maps: dict[str, FloatArray], result: FitResult, series: Series, out: Path, sources: list[Path], sub: str | None,
    **sidecar: Any,
) -> list[Path]:  # fmt: skip
    """Write maps of a fit, or of its bootstrap: those of its parameters, and what is derived from them.

    Parameters that the protocol cannot determine, and that are fitted for the sake of the others, have no map.
    """
    known = {*PARAMS, *result.parameters["bounds"]} - set(result.parameters.get("nuisance", ()))
    written: list[Path] = []
    for key, values in maps.items():
        param, _, stat = key.rpartition("_") if key.rpartition("_")[2] in _STATS else (key, "", "")
        if param not in known:
            continue
        units, description = _described(param, result)
        label = _STATS[stat].format(description) if stat else description
        # Hyphens and underscores keep the parts of a file's name apart.
        plain = "".join(letter for letter in param if letter.isascii() and letter.isalnum())
        path = out / map_name(plain, "dwimap", sub=sub, model=result.model, stat=stat or None)
        written += series.write(
            path, np.asarray(values), parameters=result.parameters, sources=sources, Units=units, Description=label,
            **_sidecar(result), **sidecar,
        )  # fmt: skip
    return written


def _described(param: str, result: FitResult) -> tuple[str, str]:
    """Return unit and meaning of a parameter."""
    own = () if result.model_declared is None else result.model_declared.own
    for each in own:
        if each.name == param:
            return each.unit, each.description
    known = {**MRI_MAPS, "S0": ("signal", "Signal at b = 0 and TE = 0")}
    return known.get(param, ("as in the dictionary", f"Parameter {param} of the dictionary"))


def write_residuals(
    left: Residuals, result: FitResult, series: Series, out: Path, sources: list[Path], sub: str | None, *, maps: bool
) -> list[Path]:
    """Write expected minus measured signals as a series, their root mean square as a map, and their statistics.

    Without `maps` the statistics alone: a table, and counts from which those of several samples can be had.
    """
    rms = map_name("residual", "dwimap", sub=sub, model=result.model, stat="rms")
    table = out / rms.replace("_param-residual_stat-rms_dwimap.nii.gz", "_residuals.csv")
    counts = table.with_suffix(".parquet")
    with atomic_path(table) as as_text, atomic_path(counts) as as_columns:
        without_formulas(left.table()).to_csv(as_text, index=False, float_format="%.9g")
        left.counts().to_parquet(as_columns, index=False)
    if not maps:
        return [table, counts]
    used = left.acquisition
    common: dict[str, Any] = {**_sidecar(result), "Units": "1", "parameters": result.parameters, "sources": sources}
    order = {"BValues": used.b_smm2.tolist(), "SmallDelta": used.delta_ms.tolist(), "BigDelta": used.Delta_ms.tolist()}
    if used.te_ms is not None:
        order["EchoTime"] = used.te_ms.tolist()
    each = "Expected minus measured signal, over that at b = 0; a volume per measurement fitted, whose b (s/mm²) and "
    whole = "Root mean square of expected minus measured signals, over that at b = 0"
    volumes = out / map_name("residual", "dwimap", sub=sub, model=result.model, desc="volumes")
    written = series.write(volumes, left.values, Description=f"{each}times (ms) are listed", **order, **common)
    written += series.write(out / rms, left.rms, Description=whole, **common)
    return [*written, table, counts]


def write_t2ivim(
    result: FitResult, series: Series, out: Path, sources: Iterable[Path], sub: str | None, sigma: dict[str, Any]
) -> list[Path]:
    """Write the maps of the two-pool model, marked ``desc-t2ivim``, as DKI has an S0 of its own."""
    written: list[Path] = []
    labels = {**T2IVIM_UNITS, "cost": ("1", "Half the sum of squared residuals at the optimum")}
    labels["exit"] = ("1", "Exit code: 1 fitted, 2 fV or T2T is at its bound, 0 background, -1 failed")
    for name, values in result.maps.items():
        param, _, stat = name.partition("_")
        if param not in labels:
            continue
        units, description = labels[param]
        path = out / map_name(param, "dwimap", sub=sub, stat=stat or None, desc="t2ivim")
        written += series.write(
            path, values, parameters=result.parameters, sources=sources, Units=units,
            Description=f"Standard error of: {description}{_CAVEATS.get(param, '')}" if stat else description,
            Model="t2ivim", Preset=result.parameters["preset"], NoiseLevel=sigma,
        )  # fmt: skip
    return written


def write_dki(
    result: FitResult, series: Series, out: Path, sources: Iterable[Path], sub: str | None, sigma: dict[str, Any]
) -> list[Path]:
    """Write the maps of ADC and kurtosis with their standard errors."""
    settings, written = result.parameters, list[Path]()
    common = {"Model": "dki", "BMin": settings["bmin_smm2"], "Noise": settings["noise"], "NoiseLevel": sigma}
    # The codes are marked, as they would else be taken for those of a tissue model.
    for name, desc in (("ADC", None), ("K", None), ("S0", None), ("exit", "dki")):
        path = out / map_name(name, "dwimap", sub=sub, desc=desc)
        written += series.write(path, result.maps[name], parameters=settings, sources=sources, **common)
    for name in ("ADC", "K", "S0"):
        units, description = MRI_MAPS.get(name, ("signal", "Signal without diffusion weighting"))
        path = out / map_name(name, "dwimap", sub=sub, stat="se")
        label = {"Units": units, "Description": _STATS["se"].format(description)}
        error = result.maps[f"{name}_se"]
        written += series.write(path, error, parameters=settings, sources=sources, **label, **common)
    return written


def describe_dki(result: FitResult) -> str:
    """Return a line on what was fitted."""
    times = {"TE": result.parameters["te_ms"], "Δ": result.parameters["Delta_ms"]}
    used = "".join(f", {name} {time:g} ms" for name, time in times.items() if time)
    inside = np.isfinite(result.maps["K_se"])
    middle = [float(np.median(result.maps[name][inside])) for name in ("K", "K_se")] if inside.any() else []
    told = "; median K {:.2f}, its standard error {:.2f}".format(*middle) if middle else ""
    return f"DKI ({result.parameters['measurements']} measurements{used}): {counted(result)}{told}"


def _sidecar(result: FitResult) -> dict[str, Any]:
    settings = result.parameters
    return {
        "Model": result.model, "Strategy": settings["strategy"], "BMin": settings["bmin_smm2"],
        "Preset": settings["preset"], "Noise": settings["noise"], "NoiseLevel": settings["sigma"],
        "VascularStep": settings["t2ivim"], "Normalisation": settings["normalisation"],
        "BICDefinition": settings["bic"],
    }  # fmt: skip
