"""How well a fit describes the signals, by volume and slice: a table, and the verdict, as files beside the maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray, IntArray
from histomri.core.files import atomic_path, provenance, write_json
from histomri.core.formulas import without_formulas
from histomri.fitting import FitResult, Residuals
from histomri.fitting.tissue_mean import MeanVerdict

_COLUMNS = {
    "slice": {"Units": "1", "Description": "Slice, from 0"},
    "volume": {"Units": "1", "Description": "Volume of the series, from 0"},
    "b_smm2": {"Units": "s/mm^2", "Description": "b-value"},
    "delta_ms": {"Units": "ms", "Description": "Gradient duration"},
    "Delta_ms": {"Units": "ms", "Description": "Gradient separation"},
    "te_ms": {"Units": "ms", "Description": "Echo time; empty if not known"},
    "n": {"Units": "1", "Description": "Voxels fitted"},
    "median_z": {"Units": "noise level", "Description": "Median of measured minus expected signal, over the noise"},
    "ratio": {"Units": "1", "Description": "Median of measured over expected signal, of spoilt volumes"},
    "spoilt": {"Description": "Whether the volume is spoilt in this slice"},
}


def misfit_table(left: Residuals, slices: IntArray, volumes: IntArray, found: dict[str, Any]) -> pd.DataFrame:
    """Return a row for each slice and volume that was fitted, from residuals with noise levels, (V, N).

    `found` is the record of misfit of the fit; spoilt volumes are compared with what the others lead to expect.
    """
    z = -left.values / (np.nan if left.sigma is None else left.sigma)
    good, used = np.isfinite(z).all(axis=1), left.acquisition
    echo = np.full(len(used), np.nan) if used.te_ms is None else used.te_ms
    protocol = {"b_smm2": used.b_smm2, "delta_ms": used.delta_ms, "Delta_ms": used.Delta_ms, "te_ms": echo}
    rows = []
    for name in np.unique(slices[good]):
        here = z[good & (slices == name)]
        about = {"slice": int(name), "volume": volumes, **protocol, "n": len(here), "median_z": np.median(here, axis=0)}
        rows.append(pd.DataFrame(about))
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=list(_COLUMNS)[:-2])
    ratios = {(each["slice"], each["volume"]): each["ratio"] for each in found["SpoiltVolumes"]}
    places = list(zip(table["slice"], table["volume"]))
    table["ratio"] = [ratios.get(place, np.nan) for place in places]
    table["spoilt"] = [place in ratios for place in places]
    return table


def write_misfit(
    path: Path, left: Residuals, result: FitResult, slices: IntArray, volumes: IntArray, mean: MeanVerdict | None
) -> list[Path]:
    """Write the table and its verdict, ``..._misfit.csv`` and ``.json``; nothing if the noise level is not known."""
    found = result.parameters.get("misfit")
    if found is None:
        return []
    with atomic_path(path) as temporary:
        table = without_formulas(misfit_table(left, slices, volumes, found))
        table.to_csv(temporary, index=False, float_format="%.6g")
    settings = {"Model": result.model, "Strategy": result.parameters["strategy"], **result.counts, **found}
    verdict = None if mean is None else mean.record()
    return [
        path,
        write_json(path.with_suffix(".json"), {**settings, "Mean": verdict, "Columns": _COLUMNS, **provenance()}),
    ]


def blood_signal(maps: dict[str, FloatArray], b_smm2: FloatArray, te_ms: FloatArray) -> FloatArray:
    """Return the signal of blood, (V, M), of a T2-IVIM fit."""
    s0, fv, dv, t2v = (maps[name][:, None] for name in ("S0", "fV", "DV", "T2V"))
    return np.asarray(s0 * fv * np.exp(-b_smm2 / 1000.0 * dv - te_ms / t2v))
