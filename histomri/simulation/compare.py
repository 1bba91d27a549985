"""Results of a simulated study against its truth."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, require_file
from histomri.core.images import Image, map_name
from histomri.registration import Transform, read_landmarks

# Quantity -> columns of the paired table that estimate it, from MRI and from histology.
_ESTIMATES = {"vCS": ("vCS_mri_um", "vCS_histo_um"), "F": ("F_mri", "F_histo")}
_FULL = 0.99  # voxels that hold tissue alone: elsewhere F is a matter of definition


@dataclass(frozen=True)
class TruthComparison:
    """How near the results came to the truth.

    Attributes
    ----------
    table : DataFrame
        One row per sample, model and strategy: landmark error (µm), true means, and for each estimate its Pearson
        correlation with the truth over the voxels, its mean, and its median error.
    path : Path
        The CSV file it was written to.
    messages : tuple of str
        What it comes to, in words.
    """

    table: pd.DataFrame
    path: Path
    messages: tuple[str, ...]


def compare_with_truth(out: str | Path, inputs: str | Path | None = None) -> TruthComparison:
    """Compare the results of a simulated study, voxel by voxel, with its truth, and write truth.csv.

    Only voxels that hold nothing but tissue count. Samples without results are left out, and said so.

    Parameters
    ----------
    out : path-like
        Folder of the results; truth.csv goes there.
    inputs : path-like, optional
        Folder of the study, the one `write_study` wrote; `out`/inputs if not given.

    Raises
    ------
    InputError
        If there is no truth, or nothing to compare with it.
    """
    out = Path(out)
    truth = (Path(inputs) if inputs is not None else out / "inputs") / "truth"
    names = sorted(path.name.removesuffix("_truth.json") for path in truth.glob("sub-*_truth.json"))
    if not names:
        raise InputError("holds no truth", path=truth, hint="only simulated studies can be compared with it")
    ready = [name for name in names if (out / name / "pairs_voxel.csv").is_file()]
    if not ready:
        raise InputError("no sample has voxel pairs to compare with the truth", path=out, hint="see report.html")
    voxels = pd.concat([_with_truth(out / name, truth, name) for name in ready], ignore_index=True)
    keys = ["sample", "model", "strategy"]
    rows = [{**dict(zip(keys, key)), **_agreement(part)} for key, part in voxels.groupby(keys, sort=False)]
    errors = {name.removeprefix("sub-"): _landmark_error(out / name, truth, name) for name in ready}
    table = pd.DataFrame(rows)
    table.insert(3, "landmark_error_um", table["sample"].map(errors))
    path = out / "truth.csv"
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    left_out = [name.removeprefix("sub-") for name in names if name not in ready]
    return TruthComparison(table, path, _in_words(table, voxels, left_out))


def compare_cases(out: str | Path, inputs: str | Path | None = None) -> TruthComparison:
    """Compare the means of every case of a study by `write_paper_study` with its truth, and write truth_cases.csv.

    Parameters
    ----------
    out : path-like
        Folder of the results; truth_cases.csv goes there.
    inputs : path-like, optional
        Folder of the study; `out`/inputs if not given.

    Raises
    ------
    InputError
        If there is no truth, or there are no results.
    """
    out = Path(out)
    truth = require_file((Path(inputs) if inputs is not None else out / "inputs") / "truth" / "cases.csv", "truth")
    pairs = _read(require_file(out / "pairs.csv", "table of samples"))
    known = _read(truth).rename(columns={"vCS_um": "vCS_true_um", "F": "F_true"})
    joined = pairs.merge(known[["sample", "vCS_true_um", "F_true"]], on="sample", validate="many_to_one")
    joined["cohort"] = np.where(joined["scanner"].eq("9.4T"), "mice", "biopsies")
    rows, lines = [], []
    for (model, strategy), part in joined.groupby(["model", "strategy"], sort=False):
        for cohort, some in (("all", part), *part.groupby("cohort")):
            row: dict[str, object] = {"model": model, "strategy": strategy, "cohort": cohort, "n": len(some)}
            for param, columns in _ESTIMATES.items():
                true = some["vCS_true_um" if param == "vCS" else "F_true"].to_numpy()
                for column in columns:
                    value = some[column].to_numpy(dtype=float)
                    row |= {f"r_{column}": pearson(value, true), f"bias_{column}": _mean(value - true)}
            rows.append(row)
    table = pd.DataFrame(rows)
    path = out / "truth_cases.csv"
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    every = table[table["cohort"] == "all"]
    first = every.iloc[0]
    lines.append(f"histology against the truth: vCS r = {first['r_vCS_histo_um']:.2f}, F r = {first['r_F_histo']:.2f}")
    lines += [
        f"{row['model']} ({row['strategy']}) against the truth: vCS r = {row['r_vCS_mri_um']:.2f}, "
        f"F r = {row['r_F_mri']:.2f}"
        for row in every.to_dict("records")
    ]
    return TruthComparison(table, path, tuple(lines))


def _with_truth(folder: Path, truth: Path, name: str) -> pd.DataFrame:
    """Read the voxel pairs of a sample and put the truth of the same voxels beside them."""
    pairs = _read(folder / "pairs_voxel.csv")
    pairs["sample"] = name.removeprefix("sub-")
    index = tuple(pairs[axis].to_numpy(dtype=int) for axis in "ijk")
    for param in ("vCS", "F", "tissueFraction"):
        image = Image.load(truth / map_name(param, "dwimap", sub=name.removeprefix("sub-"), desc="truth"))
        pairs[f"true_{param}"] = image.data[index]
    return pairs[pairs["true_tissueFraction"] >= _FULL]


def _agreement(part: pd.DataFrame) -> dict[str, float]:
    row: dict[str, float] = {"n_voxels": len(part)}
    for param, columns in _ESTIMATES.items():
        true = part[f"true_{param}"].to_numpy()
        row[f"{param}_true"] = float(np.mean(true))
        for column in columns:
            value = part[column].to_numpy(dtype=float)
            row[column] = _mean(value)
            row[f"r_{column}"] = pearson(value, true)
            row[f"error_{column}"] = float(np.nanmedian(np.abs(value - true))) if np.isfinite(value).any() else np.nan
    return row


def _landmark_error(folder: Path, truth: Path, name: str) -> float:
    """Return the median distance between where landmarks were mapped to and where they belong, µm."""
    path = folder / "xfm" / f"{name}_from-histo_to-dwi_mode-image_xfm.json"
    if not path.is_file():
        return float("nan")
    pairs = read_landmarks(truth / f"{name}_landmarks.csv")
    distance = np.linalg.norm(Transform.load(path).points(pairs[:, 0]) - pairs[:, 1], axis=1)
    return float(1000.0 * np.median(distance))


def pearson(x: FloatArray, y: FloatArray) -> float:
    """Return Pearson's r of the finite pairs; NaN for fewer than three, or when one does not vary."""
    good = np.isfinite(x) & np.isfinite(y)
    if good.sum() < 3 or np.ptp(x[good]) == 0 or np.ptp(y[good]) == 0:
        return float("nan")
    return float(np.corrcoef(x[good], y[good])[0, 1])


def _mean(values: FloatArray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _in_words(table: pd.DataFrame, voxels: pd.DataFrame, left_out: list[str]) -> tuple[str, ...]:
    error = table.groupby("sample")["landmark_error_um"].first()
    lines = [f"registration: median landmark error {error.median():.0f} µm, worst sample {error.max():.0f} µm"]
    first = voxels.groupby(["model", "strategy"], sort=False).ngroup() == 0
    for title, which, side in (("histology", first, 1), *_fits(voxels)):
        some = voxels[which]
        means = some.groupby("sample").mean(numeric_only=True)
        said = []
        for param, columns in _ESTIMATES.items():
            true, column = f"true_{param}", columns[side]
            voxelwise = pearson(some[column].to_numpy(dtype=float), some[true].to_numpy())
            between = pearson(means[column].to_numpy(), means[true].to_numpy())
            said.append(f"{param} r = {voxelwise:.2f} over voxels, {between:.2f} over samples")
        lines.append(f"{title} against the truth: {'; '.join(said)}")
    if left_out:
        lines.append(f"not compared, without results: {', '.join(left_out)}")
    return tuple(lines)


def _fits(voxels: pd.DataFrame) -> list[tuple[str, "pd.Series[bool]", int]]:
    keys = voxels[["model", "strategy"]].drop_duplicates().itertuples(index=False)
    return [
        (f"{model} ({strategy})", (voxels["model"] == model) & (voxels["strategy"] == strategy), 0)
        for model, strategy in keys
    ]


def _read(path: Path) -> pd.DataFrame:
    """Read a table whose samples may be called anything, NA too."""
    return pd.read_csv(path, dtype={"sample": str}, keep_default_na=False, na_values=[""])
