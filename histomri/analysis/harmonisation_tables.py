"""`histomri harmonise`: ComBat over a table, and what it would take away."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from histomri.analysis.harmonisation import combat, confounding
from histomri.analysis.measurements import MeasurementTable, opened_cases
from histomri.analysis.options import HarmoniseOptions
from histomri.analysis.results import Findings, heading, labelled, naming_part
from histomri.core.columns import CASE, unit_of
from histomri.core.errors import InputError
from histomri.core.files import read_json


def harmonise_table(table: HarmoniseOptions | pd.DataFrame | str | Path, **choices: Any) -> Findings:
    """Harmonise the metrics of a table between scanners, in every model and strategy.

    Parameters
    ----------
    table : HarmoniseOptions, DataFrame or path-like
        One row per sample x model x strategy, with a column of batches.
    **choices
        Options of `histomri harmonise`, beside a table: ``reference="3T"``.

    Returns
    -------
    Findings
        harmonised.csv, the table with its metrics replaced, and harmonisation.csv, the effects of the batches.
    """
    options, cases = opened_cases(HarmoniseOptions, table, choices)
    batch, labels = options.batch, cases.text(options.batch, complete=True)
    names = list(options.measure) or [name for name in cases.measurements() if "_histo" not in name]
    if not names:
        raise InputError("has no MRI measurements", path=cases.path, hint="name the metrics with --measure")
    taken = sorted({batch, *options.covariate} & set(names))
    if taken:
        raise InputError(f"column '{taken[0]}' is batch or covariate, and cannot be harmonised", path=cases.path)
    values, kept = cases.numbers(names), _covariates(cases, options.covariate)
    result, effects, lines = cases.frame.astype(object), [], []
    warnings = cases.quality_warnings(values) + ([] if options.measure else cases.misspelt())
    how: dict[str, Any] = {
        "reference": options.reference,
        "empirical_bayes": options.eb,
        "mean_only": options.mean_only,
    }
    for key, part in cases.parts():
        rows = part.frame.index
        with naming_part(cases.path, key):
            found = combat(values.loc[rows], labels.loc[rows], covariates=kept.loc[rows], **how)
        result.loc[rows, names] = found.values.astype(object)
        effects.append(labelled(key, found.effects))
        warnings += [heading(key) + text for text in found.warnings]
        sizes = ", ".join(f"{name} ({int((labels.loc[rows] == name).sum())})" for name in sorted(set(labels.loc[rows])))
        holes = values.loc[rows].isna().sum()
        absent = ", ".join(f"{name} {n}" for name, n in holes[holes > 0].items())
        lines.append(
            f"{heading(key)}{len(names)} metrics harmonised over {sizes}"
            + (f"; values missing, and left so: {absent}" if absent else "")
        )
        warnings += _forgotten_group(part, values.loc[rows], options, how)
    settings = {"batch": batch, "covariates": list(options.covariate), "measures": names}
    return Findings.joined(
        "harmonisation.json",
        {"harmonised.csv": (None, [result]), "harmonisation.csv": ("effects", effects)},
        lines,
        list(dict.fromkeys(warnings)),
        options,
        settings | {"model": options.model, "strategy": options.strategy} | how,
        measures=names,
        sidecars={"harmonised.json": _sidecar(cases, names)},
    )


def _sidecar(cases: MeasurementTable, harmonised: Sequence[str]) -> dict[str, Any]:
    """Return units and meaning of the columns of the harmonised table, as its source has them."""
    before = cases.path.with_suffix(".json")
    content = read_json(before, "sidecar") if before.exists() else {}
    content = dict(content) if isinstance(content, dict) and isinstance(content.get("Columns"), dict) else {}
    if {*CASE} <= {*cases.names} and "Counts" in content:
        rows = set(zip(*(cases.text(name) for name in CASE)))
        content["Counts"] = [row for row in content["Counts"] if tuple(row.get(name) for name in CASE) in rows]
    columns = {}
    for name in cases.names:
        unit = unit_of(name)
        entry = dict(content.get("Columns", {}).get(name) or ({"Units": unit} if unit is not None else {}))
        columns[name] = entry | ({"Harmonised": True} if name in harmonised else {})
    return {**content, "Columns": columns}


def _covariates(cases: MeasurementTable, names: Sequence[str]) -> pd.DataFrame:
    """Return covariates as numbers where every filled cell is one, as text otherwise."""
    numeric = set(cases.numeric_names())
    kept = {name: cases.numbers([name])[name] if name in numeric else cases.text(name) for name in names}
    return pd.DataFrame(kept, index=cases.frame.index)


def _forgotten_group(
    part: MeasurementTable, values: pd.DataFrame, options: HarmoniseOptions, how: dict[str, Any]
) -> list[str]:
    """Warn that harmonising takes a difference between groups away, and say what can be done."""
    if "group" in (options.batch, *options.covariate) or "group" not in part:
        return []
    labels, groups = part.text(options.batch), part.text("group")
    known = groups != ""
    reservation = confounding(labels[known], groups[known], "group") if known.any() else None
    if not reservation:
        return []
    text = f"{reservation}; harmonising removes what differs between groups"
    if not known.all():
        return [f"{text}; fill the column 'group' in all rows, and give --covariate group"]
    try:
        combat(values, labels, covariates=_covariates(part, [*options.covariate, "group"]), **how)
    except InputError:
        alone = f"compare groups within one {options.batch}"
        return [f"{text}, and no covariate can keep it; do not harmonise, and {alone}"]
    return [f"{text}; keep it with --covariate group"]
