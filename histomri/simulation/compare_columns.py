"""Every map and column of a simulated study that has a truth, compared with it: by quantity, group and level."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.files import read_json
from histomri.core.images import Image, map_name
from histomri.pairing import read_section
from histomri.registration import Transform

from .compare import FIT, FULL, folders, pearson, read_table
from .write import write_csv


class Column(NamedTuple):
    """A column of the pairs, the truth of its quantity, and the map of its standard error."""

    quantity: str
    name: str
    side: str
    param: str


# The true CD is cells per volume, so F/vCS³ is not set beside it.
# CDvol counts per volume of tissue on the slide: that of nuclei where the section is realistic.
COLUMNS = (
    Column("vCS", "vCS_mri_um", "mri", "vCS"), Column("vCS", "vCS_histo_um", "histo", "vCS"),
    Column("F", "F_mri", "mri", "F"), Column("F", "F_histo", "histo", "F"),
    Column("CD", "CDsphere_mri_mm3", "mri", "CDsphere"), Column("CD", "cellNV_mri_mm3", "mri", "cellNV"),
    Column("CD", "CDvol_histo_mm3", "histo", "CDvol"), Column("CD", "nucleiNV_histo_mm3", "histo", "nucleiNV"),
    Column("CD", "cellNV_histo_mm3", "histo", "cellNV"),
    Column("D0I", "D0I_mri_um2_ms", "mri", "D0I"), Column("DEinf", "DEinf_mri_um2_ms", "mri", "DEinf"),
    Column("tissueFraction", "tissueFraction_histo", "histo", "tissueFraction"),
)  # fmt: skip
# Measurements of the samples, and how the table of cases writes the units of what it knows.
_MEASURES = (Column("Ki67_fraction", "Ki67_fraction", "", ""), Column("volume_mm3", "volume_mm3", "", ""))
_UNITS = ("", "_um", "_mm3", "_um2_ms")
_Z95 = 1.959964
_FEWEST = 3


def compare_columns(out: str | Path, inputs: str | Path | None = None) -> pd.DataFrame:
    """Compare all columns that have a truth with it, and write truth_columns.csv.

    Parameters
    ----------
    out, inputs : path-like
        Folders of the results and of the simulated study, as for `compare_with_truth`.

    Returns
    -------
    DataFrame
        A row per group ("all" too), level (voxel, sample, study), quantity, column, model and strategy: number, true
        mean, bias (mean of estimate less truth), median absolute error, Pearson's r, and of the 95 % intervals
        (estimate ± 1.96 standard errors) the share that holds the truth. Voxels are those that hold tissue alone, but
        for the tissue fraction. Transforms have rows of their own: angle and scale. Fewer than three numbers make no
        row.

    Raises
    ------
    InputError
        If there is nothing to compare.
    """
    out, truth = folders(out, inputs)
    names = sorted(path.name.removesuffix("_truth.json") for path in truth.glob("sub-*_truth.json"))
    ready = [name for name in names if (out / name / "pairs_voxel.csv").is_file()]
    parts = [part for name in ready if len(part := _of_sample(out / name, truth, name))]
    if not parts:
        raise InputError("no sample has voxel pairs to compare with the truth", path=out, hint="see report.html")
    long = pd.concat(parts, ignore_index=True)
    transforms = pd.DataFrame([_transform(out / name, truth, name) for name in ready])
    means = pd.concat([_means(long), *_cases(out, truth)], ignore_index=True)
    rows = [*_rows(long, "voxel"), *_rows(means, "sample"), *_transform_rows(transforms)]
    table = pd.DataFrame(rows)
    write_csv(out / "truth_columns.csv", table)
    return table


def _of_sample(folder: Path, truth: Path, name: str) -> pd.DataFrame:
    """Return a row per voxel, fit and column: true, value, error."""
    label = name.removeprefix("sub-")
    pairs = read_table(folder / "pairs_voxel.csv", "table of voxels")
    index = tuple(pairs[axis].to_numpy(dtype=int) for axis in "ijk")
    filled = _sampled(truth / map_name("tissueFraction", "dwimap", sub=label, desc="truth"), index)
    errors = _Errors(folder, label, pairs, index)
    parts = []
    for column in COLUMNS:
        path = truth / map_name(column.quantity, "dwimap", sub=label, desc="truth")
        if column.name not in pairs or not path.is_file():
            continue
        table = pairs[["group", *FIT]].assign(
            sample=label, quantity=column.quantity, column=column.name, true=_sampled(path, index),
            value=pairs[column.name].to_numpy(float), error=errors.of(column),
        )  # fmt: skip
        if column.side == "histo":  # the same beside every fit
            first = (pairs["model"] == pairs["model"].iloc[0]) & (pairs["strategy"] == pairs["strategy"].iloc[0])
            table = table[first.to_numpy()].assign(model="", strategy="")
            keep = filled[first.to_numpy()] >= FULL
        else:
            keep = filled >= FULL
        parts.append(table if column.quantity == "tissueFraction" else table[keep])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _sampled(path: Path, index: tuple[FloatArray, ...]) -> FloatArray:
    return np.asarray(Image.load(path).data[index], dtype=float)


class _Errors:
    """Standard errors of the maps of a sample, at the voxels of its pairs; NaN where there are none."""

    def __init__(self, folder: Path, label: str, pairs: pd.DataFrame, index: tuple[FloatArray, ...]) -> None:
        self.folder, self.label, self.pairs, self.index = folder, label, pairs, index
        home = folder / "histo"
        self.section = read_section(home, errors=True).maps if home.is_dir() else {}
        xfm = folder / "xfm" / f"sub-{label}_from-histo_to-dwi_mode-image_xfm.json"
        self.transform = Transform.load(xfm) if xfm.is_file() else None

    def of(self, column: Column) -> FloatArray:
        """Return the standard errors of a column, (rows,)."""
        found = np.full(len(self.pairs), np.nan)
        if column.side == "histo":
            section = self.section.get(f"{column.param}_se")
            if section is not None and self.transform is not None:
                place = self.transform.inverse().points(self.pairs[["x_mm", "y_mm", "z_mm"]].to_numpy(float))
                there = np.column_stack([place, np.ones(len(place))]) @ np.linalg.inv(section.affine).T
                i, j = np.rint(there[:, :2]).astype(int).T
                within = (i >= 0) & (j >= 0) & (i < section.data.shape[0]) & (j < section.data.shape[1])
                found[within] = np.squeeze(section.data)[i[within], j[within]]
            return found
        for (model, strategy), rows in self.pairs.groupby(FIT, sort=False).indices.items():
            name = map_name(column.param, "dwimap", sub=self.label, model=model.replace("-", ""), stat="se")
            path = self.folder / "mri" / strategy / name
            if path.is_file():
                found[rows] = _sampled(path, tuple(axis[rows] for axis in self.index))
        return found


def _means(long: pd.DataFrame) -> pd.DataFrame:
    """Return the means of the samples; what their intervals would have to hold is not known."""
    keys = ["sample", "group", "quantity", "column", *FIT]
    return long.groupby(keys, sort=False, dropna=False)[["true", "value"]].mean().reset_index().assign(error=np.nan)


def _cases(out: Path, truth: Path) -> Iterator[pd.DataFrame]:
    """Yield the samples that are known as a whole only, such as biopsies, in the same form."""
    if not (truth / "cases.csv").is_file():
        return
    true, pairs = read_table(truth / "cases.csv", "truth"), read_table(out / "pairs.csv", "table of samples")
    joined = pairs[pairs["pairing"] != "voxels"].merge(true, on="sample", suffixes=("", "_true"))
    for column in (*COLUMNS, *_MEASURES):
        of_truth = next((name for name in (f"{column.quantity}{unit}" for unit in _UNITS) if name in true), None)
        if of_truth is None or column.name not in joined:
            continue
        own = f"{of_truth}_true" if f"{of_truth}_true" in joined else of_truth
        table = joined[["sample", "group", *FIT]].assign(
            quantity=column.quantity, column=column.name, true=joined[own].astype(float),
            value=joined[column.name].astype(float), error=np.nan,
        )  # fmt: skip
        yield table if column.side == "mri" else table.drop_duplicates("sample").assign(model="", strategy="")


def _rows(long: pd.DataFrame, level: str) -> Iterator[dict[str, object]]:
    groups = [("all", long), *long.groupby("group", sort=True)]
    for group, part in groups:
        for keys, some in part.groupby(["quantity", "column", *FIT], sort=False, dropna=False):
            about = dict(zip(("quantity", "column", "model", "strategy"), keys))
            if np.isfinite(some[["true", "value"]].to_numpy(float)).all(axis=1).sum() >= _FEWEST:
                yield {"group": group, "level": level, **about, **_scores(some)}


def _scores(some: pd.DataFrame) -> dict[str, float]:
    true, value, error = (some[name].to_numpy(float) for name in ("true", "value", "error"))
    good = np.isfinite(true) & np.isfinite(value)
    away, spread = (value - true)[good], error[good]
    known = np.isfinite(spread) & (spread > 0)
    held = float(np.mean(np.abs(away[known]) <= _Z95 * spread[known])) if known.sum() >= _FEWEST else np.nan
    return {
        "n": int(good.sum()), "true_mean": float(true[good].mean()), "bias": float(away.mean()),
        "median_error": float(np.median(np.abs(away))), "r": pearson(value, true), "intervals": int(known.sum()),
        "interval_holds_truth": held,
    }  # fmt: skip


def _transform(folder: Path, truth: Path, name: str) -> dict[str, object]:
    """Return how far the transform of a sample is from the true one: angle (degrees) and scale of the affine parts."""
    path = folder / "xfm" / f"{name}_from-histo_to-dwi_mode-image_xfm.json"
    group = read_json(truth / f"{name}_truth.json", "truth")["Group"]
    if not path.is_file():
        return {"group": group}
    mine, true = (Transform.load(each).matrix[:3, :3] for each in (path, truth / path.name))
    u, size, v = np.linalg.svd(mine @ np.linalg.inv(true))
    turn = float(np.degrees(np.arccos(np.clip(0.5 * (np.trace(u @ v) - 1.0), -1.0, 1.0))))
    # The normal keeps its length, so the scale is that of the plane.
    return {"group": group, "angle_error_deg": turn, "scale_error": float(np.sqrt(np.prod(size)) - 1.0)}


def _transform_rows(transforms: pd.DataFrame) -> Iterator[dict[str, object]]:
    for group, part in [("all", transforms), *transforms.groupby("group", sort=True)]:
        for column in ("angle_error_deg", "scale_error"):
            values = part[column].dropna().to_numpy(float) if column in part else np.empty(0)
            about = {"group": group, "level": "sample", "quantity": "transform", "column": column, "n": values.size}
            if values.size:
                yield {**about, "true_mean": 0.0, "bias": values.mean(), "median_error": np.median(np.abs(values))}
