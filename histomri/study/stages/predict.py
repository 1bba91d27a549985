"""The stage `predict`: a target such as tumour volume from a polynomial of two metrics."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from histomri.analysis import Sheet, cross_validated_prediction, fold_range, log10_volume
from histomri.analysis.prediction import Prediction
from histomri.core.errors import InputError
from histomri.study.result import StepResult
from histomri.study.stages.analyses import (
    in_part,
    missing_text,
    open_sheet,
    parts_of,
    records,
    sources_of,
    write_tables,
)


def run_predict(
    table: Path,
    out: Path,
    *,
    target: str,
    x: str = "D0I_mri_um2_ms",
    y: str = "vCS_mri_um",
    columns: Path | None = None,
    log10: bool = True,
    basis: str = "cubic",
    folds: int = 5,
    group_by: str | None = None,
    model: str | None = None,
    strategy: str | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> StepResult:
    """Cross-validate a prediction; write predictions.csv, prediction_surface.csv and prediction.json.

    Parameters
    ----------
    table : Path
        One row per case of one model and strategy.
    out : Path
        Folder for the results.
    target, x, y : str
        Column to predict, and the two metrics.
    columns : Path, optional
        TOML file mapping the table's own column names.
    log10 : bool
        Predict the logarithm of the target, which must be positive.
    basis, folds, n_boot, seed
        As in `histomri.analysis.cross_validated_prediction`.
    group_by : str, optional
        Column whose cases stay together, such as patient.
    model, strategy : str, optional
        Rows to use; needed if the table has several.
    """
    sheet = open_sheet(table, columns, model=model, strategy=strategy)
    parts = parts_of(sheet, None)
    if len(parts) > 1:
        there = "; ".join(", ".join(key.values()) for key, _ in parts)
        raise InputError(
            f"has several models or strategies ({there})", path=table, hint="choose with --model and --strategy"
        )
    values = sheet.numbers([x, y, target])
    try:
        truth = log10_volume(values[target]) if log10 else values[target].to_numpy()
    except InputError as error:
        raise InputError(f"column '{target}': {error.problem}", path=table, hint="use --no-log10") from error
    groups = _groups(sheet, group_by, np.isfinite(values[[x, y]].assign(target=truth)).all(axis=1))
    with in_part(table, {}):
        found = cross_validated_prediction(
            values[x], values[y], truth, basis=basis, folds=folds, groups=groups, n_boot=n_boot, seed=seed
        )
    name = f"log10({target})" if log10 else target
    cases = pd.DataFrame(
        {x: values[x], y: values[y], name: truth, "predicted": found.predicted, "fold": found.fold + 1}
    )
    cases["fold"] = cases["fold"].where(found.fold >= 0)
    for label in (group_by, "sample"):
        if label is not None and label in sheet and label not in cases:
            cases.insert(0, label, sheet.text(label).to_numpy())
    warnings = (*sheet.doubts(values), *found.warnings)
    content = _summary(found, name)
    settings = {"x": x, "y": y, "target": name, "basis": basis, "folds": folds, "group_by": group_by}
    settings |= {"model": model, "strategy": strategy, "n_boot": n_boot, "seed": seed}
    outputs = write_tables(
        out,
        {"predictions.csv": cases, "prediction_surface.csv": found.surface.rename(columns={"x": x, "y": y})},
        "prediction.json",
        content,
        sources=sources_of(table, columns),
        settings=settings,
        warnings=warnings,
        measures=[x, y, target],
    )
    return StepResult(outputs, (_line(name, found, grouped=groups is not None),), found.warnings, content)


def _line(name: str, found: Prediction, *, grouped: bool) -> str:
    size = f"N = {found.n}" + (f" in {found.n_groups} groups" if grouped else "") + missing_text(found.n_missing)
    if math.isnan(found.r):
        return f"{name}: r is undefined, as the predictions do not vary, {size}"
    band = f" [{found.ci[0]:.2f}, {found.ci[1]:.2f}]" if found.ci else ""
    p = "p undefined" if math.isnan(found.p) else f"p = {found.p:.2g}"
    low, high = fold_range(found.fold_r)
    within = f"folds {low:.3f} to {high:.3f}"
    if math.isnan(low):
        within = "r within folds undefined: none has three cases that vary"
    return f"{name}: r = {found.r:.3f}{band}, {p}, {within}, {size}"


def _groups(sheet: Sheet, group_by: str | None, used: pd.Series) -> pd.Series | None:
    """Return the groups of the cases; a case that is used must have one."""
    if group_by is None:
        return None
    Sheet(sheet.path, sheet.raw[used]).text(group_by, complete=True)
    return sheet.text(group_by)


def _summary(found: Prediction, name: str) -> dict[str, object]:
    return {
        "target": name,
        "r": found.r,
        "p": found.p,
        "r_ci": list(found.ci) if found.ci else None,
        "fold_r": np.where(np.isfinite(found.fold_r), found.fold_r, np.nan),
        "fold_r_range": list(fold_range(found.fold_r)),
        "n": found.n,
        "n_missing": found.n_missing,
        "n_groups": found.n_groups,
        "coefficients": records(found.coefficients),
    }
