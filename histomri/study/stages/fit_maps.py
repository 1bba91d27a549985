"""The files of a fit: maps with sidecars, what is left over, and how estimates scatter."""

from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.files import atomic_path
from histomri.core.images import MRI_MAPS, map_name
from histomri.fitting import FitResult, Residuals
from histomri.study.stages.series import Series, counted

PARAMS = ("F", "fI", "vCS", "CD", "D0I", "DEinf", "beta", "cost", "logL", "BIC", "AIC", "exit")
"""Names of the maps of the tissue models."""
_STATS = {
    "se": "Standard error of: {}",
    "bootse": "Standard deviation over bootstrap repeats of: {}",
    "low": "2.5 percentile over bootstrap repeats of: {}",
    "high": "97.5 percentile over bootstrap repeats of: {}",
}


def describe_fit(title: str, result: FitResult) -> str:
    """Return a line on what was fitted."""
    settings = result.parameters
    return (
        f"{title} ({settings['strategy']}, b > {settings['bmin_smm2']:g} s/mm², "
        f"{settings['measurements']} measurements): {counted(result)}"
    )


def write_fit(
    result: FitResult, title: str, series: Series, out: Path, sources: list[Path], sub: str | None, has_fv: bool
) -> list[Path]:
    """Write the maps of a fit, standard errors included."""
    sidecar = {**_sidecar(result), "ModelName": title}
    if not has_fv:
        sidecar["Note"] = "No vascular fraction was given: fI then stands for F."
    return _write(result.maps, result, series, out, sources, sub, sidecar)


def write_bootstrap(
    spread: dict[str, FloatArray], result: FitResult, series: Series, out: Path, sources: list[Path], sub: str | None
) -> list[Path]:
    """Write spread and percentiles of the bootstrap."""
    return _write(spread, result, series, out, sources, sub, _sidecar(result))


def write_residuals(
    left: Residuals, result: FitResult, series: Series, out: Path, sources: list[Path], sub: str | None, *, maps: bool
) -> list[Path]:
    """Write expected minus measured signals as a series, their root mean square as a map, and their statistics.

    Without `maps` the statistics alone: a table, and counts from which those of several samples can be had.
    """
    rms = map_name("residual", "dwimap", sub=sub, model=result.model, stat="rms")
    table = out / rms.replace("_param-residual_stat-rms_dwimap.nii.gz", "_residuals.csv")
    with atomic_path(table) as temporary:
        left.table().to_csv(temporary, index=False, float_format="%.9g")
    counts = table.with_suffix(".parquet")
    with atomic_path(counts) as temporary:
        left.counts().to_parquet(temporary, index=False)
    if not maps:
        return [table, counts]
    used = left.acquisition
    common: dict[str, Any] = {**_sidecar(result), "Units": "1", "parameters": result.parameters, "sources": sources}
    name = map_name("residual", "dwimap", sub=sub, model=result.model, desc="volumes")
    order = {"BValues": used.b_smm2.tolist(), "SmallDelta": used.delta_ms.tolist(), "BigDelta": used.Delta_ms.tolist()}
    if used.te_ms is not None:
        order["EchoTime"] = used.te_ms.tolist()
    written = series.write(
        out / name, left.values, Description="Expected minus measured signal, over that at b = 0; a volume per "
        "measurement fitted, whose b (s/mm²) and times (ms) are listed", **order, **common,
    )  # fmt: skip
    written += series.write(
        out / rms, left.rms, Description="Root mean square of expected minus measured signals, over that at b = 0",
        **common,
    )  # fmt: skip
    return [*written, table, counts]


def _write(
    maps: dict[str, FloatArray], result: FitResult, series: Series, out: Path, sources: list[Path], sub: str | None,
    sidecar: dict[str, Any],
) -> list[Path]:  # fmt: skip
    known = {*PARAMS, *result.parameters["bounds"]}
    written: list[Path] = []
    for key, values in maps.items():
        param, _, stat = key.rpartition("_") if key.rpartition("_")[2] in _STATS else (key, "", "")
        if param not in known:
            continue
        units, description = MRI_MAPS.get(param, ("as in the dictionary", f"Parameter {param} of the dictionary"))
        label = _STATS[stat].format(description) if stat else description
        path = out / map_name(_plain(param), "dwimap", sub=sub, model=result.model, stat=stat or None)
        written += series.write(
            path, np.asarray(values), parameters=result.parameters, sources=sources, Units=units, Description=label,
            **sidecar,
        )  # fmt: skip
    return written


def _sidecar(result: FitResult) -> dict[str, Any]:
    settings = result.parameters
    return {
        "Model": result.model,
        "Strategy": settings["strategy"],
        "BMin": settings["bmin_smm2"],
        "Preset": settings["preset"],
        "Noise": settings["noise"],
        "NoiseLevel": settings["sigma"],
        "VascularStep": settings["t2ivim"],
        "Normalisation": settings["normalisation"],
        "BICDefinition": settings["bic"],
    }


def _plain(param: str) -> str:
    """Return a name without what separates the parts of a file's name."""
    return "".join(letter for letter in param if letter.isascii() and letter.isalnum())
