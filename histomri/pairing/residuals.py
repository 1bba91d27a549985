"""What the fits of a study do not explain, over the voxels of all its samples."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, require_file, write_json
from histomri.core.formulas import without_formulas
from histomri.fitting.misfit import quantiles_of_counts
from histomri.pairing.maps import model_of

RESIDUAL_FILES = ("residuals.csv", "residuals.json")
FIT = ("scanner", "model", "strategy")
MEASUREMENT = ("b_smm2", "delta_ms", "Delta_ms", "te_ms")
_QUARTILES = {"q25": 0.25, "median": 0.5, "q75": 0.75}
_SIGNAL = "signal at b = 0"
_COLUMNS = {
    "scanner": {"Description": "MRI scanner or protocol"},
    "model": {"Description": "Signal model"},
    "strategy": {"Description": "Measurements fitted: whole, high-b or custom"},
    "b_smm2": {"Units": "s/mm^2", "Description": "b-value"},
    "delta_ms": {"Units": "ms", "Description": "Gradient duration"},
    "Delta_ms": {"Units": "ms", "Description": "Gradient separation"},
    "te_ms": {"Units": "ms", "Description": "Echo time; empty if not known"},
    "n_samples": {"Units": "1", "Description": "Samples"},
    "n": {"Units": "1", "Description": "Values: voxels of all samples, times repeats of the measurement"},
    "mean": {"Units": _SIGNAL, "Description": "Mean of fitted minus measured signal over all values"},
    "sd": {"Units": _SIGNAL, "Description": "Their standard deviation (n - 1)"},
    "rms": {"Units": _SIGNAL, "Description": "Root of their mean square"},
    "q25": {"Units": _SIGNAL, "Description": "Their lower quartile, to within 1 % of its size"},
    "median": {"Units": _SIGNAL, "Description": "Their median, to within 1 % of its size"},
    "q75": {"Units": _SIGNAL, "Description": "Their upper quartile, to within 1 % of its size"},
}


def save_residuals(table: pd.DataFrame, out: Path) -> tuple[Path, Path]:
    """Write residuals.csv, and its units in residuals.json."""
    with atomic_path(out / "residuals.csv") as temporary:
        without_formulas(table).to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
    return out / "residuals.csv", write_json(out / "residuals.json", {"Columns": _COLUMNS, **provenance()})


def pool_residuals(folders: Mapping[str, Path], scanners: Mapping[str, str | None]) -> pd.DataFrame | None:
    """Return statistics of fitted minus measured signals over the voxels of all samples; None if no fit left residuals.

    `folders` names the folder of each sample's fitted maps, with a subfolder per strategy, and `scanners` its scanner.
    Voxels count alike, whichever sample they are of. Memory holds counts and never the voxels themselves. There is one
    row per scanner, model, strategy and measurement (b, delta, Delta, TE): n_samples, n, mean, sd, rms, q25, median,
    q75. It is an InputError if a table is none of residuals, or lacks its counts.
    """
    paths = [(name, path) for name, folder in folders.items() for path in sorted(folder.glob("*/*_residuals.csv"))]
    if not (parts := [_read(path, str(scanners.get(sample) or "all")) for sample, path in paths]):
        return None
    key = [*FIT, *MEASUREMENT]
    rows = pd.concat([table for table, _ in parts], ignore_index=True)
    starts = np.cumsum([0, *[len(table) for table, _ in parts[:-1]]])
    rows["group"] = rows.groupby(key, dropna=False, sort=True).ngroup()
    # A row of each table is a measurement; its counts go to the group of that row.
    groups = rows["group"].to_numpy()
    counts = [
        part.assign(group=groups[start + part["measurement"].to_numpy()]) for start, (_, part) in zip(starts, parts)
    ]
    found = _moments(rows, key)
    quantiles = quantiles_of_counts(pd.concat(counts), tuple(_QUARTILES.values()))
    return found.join(quantiles.set_axis(list(_QUARTILES), axis=1)).reset_index(drop=True)[list(_COLUMNS)]


def _read(path: Path, scanner: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table of a fit, and its counts."""
    known = re.search(r"model-([0-9A-Za-z]+)_", path.name)
    table = pd.read_csv(require_file(path, "table of residuals"))
    if known is None or not {*MEASUREMENT, "n", "mean", "rms"} <= set(table.columns):
        raise InputError("is no table of residuals", path=path)
    again = "run the fits again with --force"
    counts = pd.read_parquet(require_file(path.with_suffix(".parquet"), f"table of counts ({again})"))
    counted = counts.groupby("measurement")["n"].sum().reindex(range(len(table)), fill_value=0)
    if counted.tolist() != table["n"].tolist():
        raise InputError("does not go with its counts", path=path, hint=again)
    return table.assign(scanner=scanner, model=model_of(known[1]), strategy=path.parent.name), counts


def _moments(rows: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """Return number, mean and spread over all values, from those of the samples; the index is the group."""
    rows = rows[rows["n"] > 0]
    sums = rows.assign(total=rows["n"] * rows["mean"], squares=rows["n"] * rows["rms"] ** 2)
    how: dict[str, Any] = {name: (name, "first") for name in key}
    how |= {"n_samples": ("n", "size")} | {name: (name, "sum") for name in ("n", "total", "squares")}
    found = sums.groupby("group", sort=True).agg(**how)
    n, mean = found["n"], found["total"] / found["n"]
    variance = (found["squares"] - n * mean**2).clip(lower=0) / (n - 1).where(n > 1)
    return found.assign(mean=mean, sd=np.sqrt(variance), rms=np.sqrt(found["squares"] / n))
