"""Results of a simulated study against its truth."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.files import require_file
from histomri.core.images import Image, map_name
from histomri.registration import Transform, read_landmarks

from .write import write_csv

# Quantity -> columns of the paired table that estimate it, from MRI and from histology.
_ESTIMATES = {"vCS": ("vCS_mri_um", "vCS_histo_um"), "F": ("F_mri", "F_histo")}
FULL = 0.99  # voxels that hold tissue alone: elsewhere F is a matter of definition
FIT = ["model", "strategy"]


@dataclass(frozen=True, repr=False)
class TruthComparison(Displayed):
    """How near the results came to the truth: a table, the CSV file it was written to, and its main numbers as text.

    The table has a row per sample, model and strategy: landmark error (µm), true means, and for each estimate its
    Pearson correlation with the truth over the voxels, its mean, and its median error.
    """

    table: pd.DataFrame
    path: Path
    messages: tuple[str, ...]

    def facts(self) -> dict[str, str]:
        """Return the messages, one below the other."""
        return {"rows": str(len(self.table)), "results": "; ".join(self.messages)}


def compare_with_truth(out: str | Path, inputs: str | Path | None = None) -> TruthComparison:
    """Compare the results of a simulated study, voxel by voxel, with its truth, and write truth.csv.

    Only voxels that hold nothing but tissue count. Samples without results are left out, and named. `out` is the
    folder of the results, where truth.csv goes, and `inputs` that of the study, which `write_study` wrote: `out`/inputs
    if not given.

    Raises
    ------
    InputError
        If there is no truth, or nothing to compare with it.
    """
    out, truth = folders(out, inputs)
    names = sorted(path.name.removesuffix("_truth.json") for path in truth.glob("sub-*_truth.json"))
    if not names:
        raise InputError("holds no truth", path=truth, hint="only simulated studies can be compared with it")
    ready = [name for name in names if (out / name / "pairs_voxel.csv").is_file()]
    if not ready:
        raise InputError("no sample has voxel pairs to compare with the truth", path=out, hint="see report.html")
    voxels = pd.concat([_with_truth(out / name, truth, name) for name in ready], ignore_index=True)
    keys = ["sample", *FIT]
    rows = [{**dict(zip(keys, key)), **_agreement(part)} for key, part in voxels.groupby(keys, sort=False)]
    errors = {name.removeprefix("sub-"): _landmark_error(out / name, truth, name) for name in ready}
    table = pd.DataFrame(rows)
    table.insert(3, "landmark_error_um", table["sample"].map(errors))
    lines = list(_summary(table, voxels))
    if left_out := [name.removeprefix("sub-") for name in names if name not in ready]:
        lines.append(f"not compared, without results: {', '.join(left_out)}")
    return TruthComparison(table, write_csv(out / "truth.csv", table), tuple(lines))


def compare_cases(out: str | Path, inputs: str | Path | None = None) -> TruthComparison:
    """Compare the means of every case of a study by `write_paper_study` with its truth, and write truth_cases.csv.

    `out`, where the table goes, and `inputs` are as in `compare_with_truth`.

    Raises
    ------
    InputError
        If there is no truth, or there are no results.
    """
    out, truth = folders(out, inputs)
    true = read_table(truth / "cases.csv", "truth").rename(columns={"vCS_um": "true_vCS", "F": "true_F"})
    pairs = read_table(out / "pairs.csv", "table of samples")
    joined = pairs.merge(true[["sample", "true_vCS", "true_F"]], on="sample", validate="many_to_one")
    joined["cohort"] = np.where(joined["scanner"].eq("9.4T"), "mice", "biopsies")
    rows = []
    for (model, strategy), part in joined.groupby(FIT, sort=False):
        for cohort, some in (("all", part), *part.groupby("cohort")):
            row: dict[str, object] = {"model": model, "strategy": strategy, "cohort": cohort, "n": len(some)}
            for expected, value, column in _estimates(some):
                row |= {f"r_{column}": pearson(value, expected), f"bias_{column}": _mean(value - expected)}
            rows.append(row)
    table = pd.DataFrame(rows)
    every = table[table["cohort"] == "all"].to_dict("records")
    text = "{} against the truth: vCS r = {:.2f}, F r = {:.2f}"
    lines = [text.format("histology", every[0]["r_vCS_histo_um"], every[0]["r_F_histo"])]
    lines += [text.format(f"{one['model']} ({one['strategy']})", one["r_vCS_mri_um"], one["r_F_mri"]) for one in every]
    return TruthComparison(table, write_csv(out / "truth_cases.csv", table), tuple(lines))


def folders(out: str | Path, inputs: str | Path | None) -> tuple[Path, Path]:
    """Return the folders of the results and of the truth."""
    return Path(out), (Path(inputs) if inputs is not None else Path(out) / "inputs") / "truth"


def _with_truth(folder: Path, truth: Path, name: str) -> pd.DataFrame:
    """Read the voxel pairs of a sample and put the truth of the same voxels beside them."""
    pairs = read_table(folder / "pairs_voxel.csv", "table of voxels")
    pairs["sample"] = name.removeprefix("sub-")
    index = tuple(pairs[axis].to_numpy(dtype=int) for axis in "ijk")
    for param in ("vCS", "F", "tissueFraction"):
        image = Image.load(truth / map_name(param, "dwimap", sub=name.removeprefix("sub-"), desc="truth"))
        pairs[f"true_{param}"] = image.data[index]
    return pairs[pairs["true_tissueFraction"] >= FULL]


def _estimates(rows: pd.DataFrame) -> Iterator[tuple[FloatArray, FloatArray, str]]:
    """Yield truth, estimate and the estimate's column, for every column that estimates a quantity."""
    for param, columns in _ESTIMATES.items():
        for column in columns:
            yield rows[f"true_{param}"].to_numpy(), rows[column].to_numpy(dtype=float), column


def _agreement(part: pd.DataFrame) -> dict[str, float]:
    row: dict[str, float] = {"n_voxels": len(part)}
    for true, value, column in _estimates(part):
        row.setdefault(f"{column.split('_')[0]}_true", float(np.mean(true)))
        row[column] = _mean(value)
        row[f"r_{column}"] = pearson(value, true)
        row[f"error_{column}"] = float(np.nanmedian(np.abs(value - true))) if np.isfinite(value).any() else np.nan
    return row


def _landmark_error(folder: Path, truth: Path, name: str) -> float:
    """Return the median distance between where landmarks were mapped to and where they belong, µm."""
    path = folder / "xfm" / f"{name}_from-histo_to-dwi_mode-image_xfm.json"
    if not path.is_file():
        return float("nan")
    moving, fixed = read_landmarks(truth / f"{name}_landmarks.csv").swapaxes(0, 1)
    return float(1000.0 * np.median(np.linalg.norm(Transform.load(path).points(moving) - fixed, axis=1)))


def pearson(x: FloatArray, y: FloatArray) -> float:
    """Return Pearson's r of the finite pairs; NaN for fewer than three, or when one does not vary."""
    good = np.isfinite(x) & np.isfinite(y)
    if good.sum() < 3 or np.ptp(x[good]) == 0 or np.ptp(y[good]) == 0:
        return float("nan")
    return float(np.corrcoef(x[good], y[good])[0, 1])


def _mean(values: FloatArray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _summary(table: pd.DataFrame, voxels: pd.DataFrame) -> Iterator[str]:
    error = table.groupby("sample")["landmark_error_um"].first()
    yield f"registration: median landmark error {error.median():.0f} µm, worst sample {error.max():.0f} µm"
    fits = [(f"{model} ({strategy})", part) for (model, strategy), part in voxels.groupby(FIT, sort=False)]
    for title, rows, side in (("histology", fits[0][1], 1), *((title, part, 0) for title, part in fits)):
        means = rows.groupby("sample").mean(numeric_only=True)
        texts = []
        for param, columns in _ESTIMATES.items():
            if not rows[columns[side]].notna().any():  # a fraction that was stated and not measured
                continue
            pairs = [(some[columns[side]].to_numpy(float), some[f"true_{param}"].to_numpy()) for some in (rows, means)]
            over = [pearson(*pair) for pair in pairs]
            texts.append(f"{param} r = {over[0]:.2f} over voxels, {over[1]:.2f} over samples")
        yield f"{title} against the truth: {'; '.join(texts)}"


def read_table(path: Path, what: str) -> pd.DataFrame:
    """Read a table whose samples may be called anything, NA too."""
    return pd.read_csv(require_file(path, what), dtype={"sample": str}, keep_default_na=False, na_values=[""])
