"""Histology of a simulated study, as published and of cells in three dimensions, against its truth."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.errors import InputError
from histomri.core.files import read_json
from histomri.patches import PatchMaps

from .compare import TruthComparison, folders, read_table
from .write import write_csv

_Z95 = 1.959964
# Quantity -> its map as published; results in 3D, the first that is there; and the truth of a slide and of a biopsy.
_QUANTITIES = {
    "vCS_um": ("vCS", ("vCS", "vCSvol"), "vCSUm", "vCS_um"),
    "density_mm3": ("CDvol", ("cellNV", "nucleiNV"), "NucleiPerMm3", "CD_mm3"),
    "F": ("F", ("F",), "F", "F"),
}
_WORDS = {"vCS_um": "vCS", "density_mm3": "cells per volume", "F": "F"}


def compare_histology(out: str | Path, inputs: str | Path | None = None) -> TruthComparison | None:
    """Compare cell size, density and fraction of each section with its truth, and write truth_histology.csv.

    Returns None where no section was measured in three dimensions.

    Parameters
    ----------
    out, inputs : path-like
        Folders of the results and of the simulated study, as for `compare_with_truth`.

    Returns
    -------
    TruthComparison
        A row per sample and quantity: truth; value as published, mean over patches; value in 3D of the whole section
        with its errors of sampling and by what was stated; both errors in percent of the truth; and whether the truth
        lies within 1.96 times both errors in 3D.

    Raises
    ------
    InputError
        If there is no truth.
    """
    out, truth = folders(out, inputs)
    rows = [row for sample, known in _truths(truth) for row in _of_sample(out, sample, known)]
    if not rows:
        return None
    table = pd.DataFrame(rows)
    return TruthComparison(table, write_csv(out / "truth_histology.csv", table), tuple(_lines(table)))


def _truths(folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each sample with the truth of its quantities."""
    found = sorted(folder.glob("sub-*_truth.json"))
    cases = read_table(folder / "cases.csv", "truth") if (folder / "cases.csv").is_file() else None
    if not found and cases is None:
        raise InputError("holds no truth", path=folder, hint="only simulated studies can be compared with it")
    slides = {path.name.removesuffix("_truth.json").removeprefix("sub-"): read_json(path, "truth") for path in found}
    for sample, content in slides.items():
        yield sample, {name: float(content[key]) for name, (_, _, key, _) in _QUANTITIES.items() if key in content}
    for row in () if cases is None else cases.to_dict("records"):
        if row["sample"] not in slides:
            yield str(row["sample"]), {name: float(row[key]) for name, (_, _, _, key) in _QUANTITIES.items()}


def _of_sample(out: Path, sample: str, truth: dict[str, float]) -> Iterator[dict[str, Any]]:
    folder = out / f"sub-{sample}" / "histo"
    if not folder.is_dir():
        return
    maps = PatchMaps.load(folder, sample)
    whole = maps.parameters.get("Stereology")
    if maps.paper is None or whole is None:
        return
    for name, true in truth.items():
        published, names, *_ = _QUANTITIES[name]
        first: dict[str, Any] = next((whole["Results"][key] for key in names if key in whole["Results"]), {})
        value, stat, syst = (_number(first.get(key)) for key in ("Value", "StatSE", "Syst"))
        as_published = float(np.nanmean(maps.paper.maps[published]))
        within = abs(value - true) <= _Z95 * float(np.hypot(np.nan_to_num(stat), np.nan_to_num(syst)))
        yield {
            "sample": sample, "quantity": name, "true": true, "as_published": as_published, "in_3d": value,
            "in_3d_stat": stat, "in_3d_syst": syst, "error_as_published_percent": 100 * (as_published / true - 1),
            "error_in_3d_percent": 100 * (value / true - 1), "within": within if np.isfinite(value) else None,
        }  # fmt: skip


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _lines(table: pd.DataFrame) -> Iterator[str]:
    texts = []
    for name, part in table.groupby("quantity", sort=False):
        published, in_3d = (part[f"error_{way}_percent"].mean() for way in ("as_published", "in_3d"))
        known = part["within"].dropna()
        text = f"{_WORDS[str(name)]} {published:+.0f} % as published"
        if len(known):
            text += f", {in_3d:+.0f} % in 3D (within its errors in {int(known.sum())} of {len(known)} sections)"
        else:
            text += ", not measured in 3D"
        texts.append(text)
    yield f"histology of whole sections against the truth, on average: {'; '.join(texts)}"
