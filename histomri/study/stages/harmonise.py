"""The stage `harmonise`: take the effect of the scanner out of a table's metrics."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from histomri.analysis import Sheet, combat, confounding
from histomri.core.columns import unit_of
from histomri.core.errors import InputError
from histomri.core.files import provenance, read_json, refuse_overwrite, write_json
from histomri.study.result import StepResult
from histomri.study.stages.analyses import (
    CASE,
    in_part,
    labelled,
    name_of,
    open_sheet,
    parts_of,
    records,
    sources_of,
    write_tables,
)


def run_harmonise(
    table: Path,
    out: Path,
    *,
    columns: Path | None = None,
    batch: str = "scanner",
    reference: str | None = None,
    covariates: Sequence[str] = (),
    measures: Sequence[str] = (),
    model: str | None = None,
    strategy: str | None = None,
    empirical_bayes: bool = True,
    mean_only: bool = False,
) -> StepResult:
    """Harmonise metrics by ComBat; write harmonised.csv (with its .json), harmonisation.csv and harmonisation.json.

    Parameters
    ----------
    table : Path
        One row per sample x model x strategy, with a column of batches.
    out : Path
        Folder for the results; harmonised.csv is the table with its metrics replaced.
    columns : Path, optional
        TOML file mapping the table's own column names.
    batch, reference : str
        Column of batches, and the batch that stays as it is.
    covariates : sequence of str
        Columns whose effects are kept.
    measures : sequence of str
        Metrics; by default the MRI measurements there are.
    model, strategy : str, optional
        Rows to use; by default each model and strategy on its own.
    empirical_bayes, mean_only : bool
        As in `histomri.analysis.combat`.
    """
    sheet = open_sheet(table, columns, model=model, strategy=strategy)
    labels = sheet.text(batch, complete=True)
    names = list(measures) or [name for name in sheet.measurements() if "_histo" not in name]
    if not names:
        raise InputError("has no MRI measurements", path=table, hint="name the metrics with --measure")
    taken = sorted({batch, *covariates} & set(names))
    if taken:
        raise InputError(f"column '{taken[0]}' is batch or covariate, and cannot be harmonised", path=table)
    values, kept = sheet.numbers(names), _covariates(sheet, covariates)
    result, effects, lines = sheet.raw.astype(object), [], []
    warnings = sheet.doubts(values) + ([] if measures else sheet.misspelt())
    options: dict[str, Any] = {"reference": reference, "empirical_bayes": empirical_bayes, "mean_only": mean_only}
    for key, part in parts_of(sheet, None):
        rows = part.raw.index
        with in_part(table, key):
            found = combat(values.loc[rows], labels.loc[rows], covariates=kept.loc[rows], **options)
        result.loc[rows, names] = found.values.astype(object)
        effects.append(labelled(key, found.effects))
        warnings += [name_of(key) + text for text in found.warnings]
        sizes = ", ".join(f"{name} ({int((labels.loc[rows] == name).sum())})" for name in sorted(set(labels.loc[rows])))
        holes = values.loc[rows].isna().sum()
        absent = ", ".join(f"{name} {n}" for name, n in holes[holes > 0].items())
        lines.append(
            f"{name_of(key)}{len(names)} metrics harmonised over {sizes}"
            + (f"; values missing, and left so: {absent}" if absent else "")
        )
        warnings += _forgotten_group(part, values.loc[rows], batch, covariates, options)
    warnings = list(dict.fromkeys(warnings))
    every = pd.concat(effects, ignore_index=True)
    content = {"effects": records(every)}
    settings = {"batch": batch, "covariates": list(covariates), "measures": names, "model": model, "strategy": strategy}
    refuse_overwrite(out / "harmonised.json", [table.with_suffix(".json")])
    outputs = write_tables(
        out,
        {"harmonised.csv": result, "harmonisation.csv": every},
        "harmonisation.json",
        content,
        sources=sources_of(table, columns),
        settings=settings | options,
        warnings=warnings,
        measures=names,
    )
    sidecar = _write_sidecar(out / "harmonised.json", sheet, names, sources_of(table, columns), settings | options)
    outputs = (*outputs, sidecar)
    return StepResult(outputs, tuple(lines), tuple(warnings), content)


def _write_sidecar(
    path: Path, sheet: Sheet, names: Sequence[str], sources: Sequence[Path], settings: dict[str, Any]
) -> Path:
    """Write units and meaning of the columns of the harmonised table, on top of what the sidecar of its source says."""
    before = sheet.path.with_suffix(".json")
    content = read_json(before, "sidecar") if before.exists() else {}
    content = dict(content) if isinstance(content, dict) and isinstance(content.get("Columns"), dict) else {}
    if {*CASE} <= {*sheet.names} and "Counts" in content:
        rows = set(zip(*(sheet.text(name) for name in CASE)))
        content["Counts"] = [row for row in content["Counts"] if tuple(row.get(name) for name in CASE) in rows]
    columns = {}
    for name in sheet.names:
        unit = unit_of(name)
        entry = dict(content.get("Columns", {}).get(name) or ({"Units": unit} if unit is not None else {}))
        columns[name] = entry | ({"Harmonised": True} if name in names else {})
    return write_json(path, {**content, "Columns": columns, **provenance(sources, settings)})


def _covariates(sheet: Sheet, names: Sequence[str]) -> pd.DataFrame:
    """Return covariates as numbers where every filled cell is one, as text otherwise."""
    numeric = set(sheet.numeric_names())
    kept = {name: sheet.numbers([name])[name] if name in numeric else sheet.text(name) for name in names}
    return pd.DataFrame(kept, index=sheet.raw.index)


def _forgotten_group(
    part: Sheet, values: pd.DataFrame, batch: str, covariates: Sequence[str], options: dict[str, Any]
) -> list[str]:
    """Warn that harmonising takes a difference between groups away, with the way out that is open."""
    if "group" in (batch, *covariates) or "group" not in part:
        return []
    labels, groups = part.text(batch), part.text("group")
    known = groups != ""
    doubt = confounding(labels[known], groups[known], "group") if known.any() else None
    if not doubt:
        return []
    text = f"{doubt}; harmonising removes what differs between groups"
    if not known.all():
        return [f"{text}; fill the column 'group' in all rows, and give --covariate group"]
    try:
        combat(values, labels, covariates=_covariates(part, [*covariates, "group"]), **options)
    except InputError:
        return [f"{text}, and no covariate can keep it; do not harmonise, and compare groups within one {batch}"]
    return [f"{text}; keep it with --covariate group"]
