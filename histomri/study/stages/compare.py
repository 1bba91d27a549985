"""The stage `compare`: differences between groups."""

from collections.abc import Sequence
from pathlib import Path

from histomri.analysis import compare_groups, confounding
from histomri.analysis.multiple import Adjustment
from histomri.core.columns import unit_of, unit_text
from histomri.core.errors import InputError
from histomri.study.result import StepResult
from histomri.study.stages.analyses import (
    finish,
    in_part,
    labelled,
    missing_text,
    name_of,
    open_sheet,
    parts_of,
    sources_of,
)


def run_compare(
    table: Path,
    out: Path,
    *,
    columns: Path | None = None,
    by: str = "group",
    measures: Sequence[str] = (),
    model: str | None = None,
    strategy: str | None = None,
    adjustment: Adjustment = "bh",
) -> StepResult:
    """Compare groups in every measurement; write comparisons.csv and comparisons.json.

    Parameters
    ----------
    table : Path
        One row per sample x model x strategy, with a column of labels.
    out : Path
        Folder for the results.
    columns : Path, optional
        TOML file mapping the table's own column names.
    by : str
        Column with the labels.
    measures : sequence of str
        Columns to compare; by default the measurements there are.
    model, strategy : str, optional
        Rows to use; by default each model and strategy on its own.
    adjustment : {"bh", "holm", "bonferroni"}
        Of the q-values.
    """
    sheet = open_sheet(table, columns, model=model, strategy=strategy)
    labels = sheet.text(by)
    names = list(measures) or [name for name in sheet.measurements() if name != by]
    if not names:
        raise InputError("has no columns of numbers to compare", path=table, hint="name some with --measure")
    values = sheet.numbers(names).assign(**{by: labels})
    found, lines = [], []
    warnings = sheet.doubts(values[names]) + ([] if measures else sheet.misspelt())
    for key, part in parts_of(sheet, None):
        with in_part(table, key):
            result = compare_groups(values.loc[part.raw.index], names, by, adjustment=adjustment)
        result.insert(1, "unit", [unit_of(name) or "" for name in result["column"]])
        found.append(labelled(key, result))
        of_group = labels.loc[part.raw.index]
        for row in result.to_dict("records"):
            text = f"{name_of(key)}{row['column']}, {row['group_a']} - {row['group_b']}"
            if row["note"]:
                warnings.append(f"{text}: {row['note']}")
            else:
                size = f"Hedges g = {row['hedges_g']:.2f} [{row['hedges_g_low']:.2f}, {row['hedges_g_high']:.2f}]"
                n = f"N = {row['n_a']} and {row['n_b']}"
                absent = int(of_group.isin([row["group_a"], row["group_b"]]).sum()) - row["n_a"] - row["n_b"]
                difference = f"{row['difference']:.4g}{unit_text(row['column'])}"
                lines.append(f"{text}: {difference}, Welch p = {row['p_welch']:.2g}, {size}, {n}{missing_text(absent)}")
    if "scanner" in sheet and by != "scanner" and (labels != "").any():
        doubt = confounding(sheet.text("scanner")[labels != ""], labels[labels != ""], by)
        warnings += [doubt.replace("batch", "scanner")] if doubt else []
    return finish(
        out,
        "comparisons.json",
        {"comparisons.csv": ("comparisons", found)},
        lines=lines,
        sources=sources_of(table, columns),
        settings={"by": by, "measures": names, "model": model, "strategy": strategy, "adjustment": adjustment},
        warnings=warnings,
        measures=names,
    )
