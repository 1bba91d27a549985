"""The stage `agree`: agreement of MRI and histology, or of any two columns."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from histomri.analysis import bias_by_size, bland_altman, concordance, intraclass_correlation
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

PAIRS = (("vCS_mri_um", "vCS_histo_um"), ("F_mri", "F_histo"))


def run_agree(
    table: Path,
    out: Path,
    *,
    columns: Path | None = None,
    first: str | None = None,
    second: str | None = None,
    relative: bool = False,
    bins: int = 3,
    by: str | None = None,
    model: str | None = None,
    strategy: str | None = None,
) -> StepResult:
    """Compare two methods; write agreement.csv, bias_by_size.csv and agreement.json.

    Parameters
    ----------
    table : Path
        One row per sample x model x strategy.
    out : Path
        Folder for the results.
    columns : Path, optional
        TOML file mapping the table's own column names.
    first, second : str, optional
        Columns of the same unit, the second the reference; by default vCS and F of MRI and histology.
    relative : bool
        Differences in percent.
    bins : int
        Classes of size.
    by : str, optional
        Column by which the samples are split, such as scanner.
    model, strategy : str, optional
        Rows to use; by default each model and strategy on its own.
    """
    if (first is None) != (second is None):
        raise InputError("agreement needs two columns", hint="give --first and --second")
    sheet = open_sheet(table, columns, model=model, strategy=strategy)
    pairs: Sequence[tuple[str, str]] = [(first, second)] if first is not None and second is not None else PAIRS
    values = sheet.numbers([name for pair in pairs for name in pair])
    found, sizes, warnings, lines = [], [], sheet.doubts(values), []
    for key, part in parts_of(sheet, by):
        for one, other in pairs:
            a, b = values.loc[part.raw.index, one], values.loc[part.raw.index, other]
            with in_part(table, {**key, "columns": f"{one} and {other}"}):
                row = _agreement(a, b, relative)
            written = "%" if relative else unit_of(one) or ""
            found.append({**key, "first": one, "second": other, "unit": written, **row})
            size = bias_by_size(a, b, bins=min(bins, row["n"]), relative=relative)
            size.insert(0, "unit", written)
            size.insert(0, "second", other)
            size.insert(0, "first", one)
            sizes.append(labelled(key, size))
            unit = " %" if relative else unit_text(one)
            limits = f"limits {row['lower']:.3g} to {row['upper']:.3g}{unit}, ICC(A,1) {row['icc_a1']:.2f}"
            text = f"bias {row['bias']:.3g}{unit} [{row['bias_low']:.3g}, {row['bias_high']:.3g}]"
            n = f"N = {row['n']}{missing_text(row['n_missing'])}"
            lines.append(f"{name_of(key)}{one} - {other}: {text}, {limits}, {n}")
            if row["p_slope"] < 0.05:
                warnings.append(
                    f"{name_of(key)}{one} - {other}: the bias changes with size; limits hold on average only"
                )
    return finish(
        out,
        "agreement.json",
        {"agreement.csv": ("agreement", [pd.DataFrame(found)]), "bias_by_size.csv": ("bias_by_size", sizes)},
        lines=lines,
        sources=sources_of(table, columns),
        settings={"relative": relative, "bins": bins, "by": by, "model": model, "strategy": strategy},
        warnings=warnings,
        measures=list(values),
    )


def _agreement(first: pd.Series, second: pd.Series, relative: bool) -> dict[str, Any]:
    row = asdict(bland_altman(first, second, relative=relative))
    for entry in intraclass_correlation(pd.concat([first, second], axis=1).to_numpy()).to_dict("records"):
        name = {"ICC(1)": "icc_1", "ICC(A,1)": "icc_a1", "ICC(C,1)": "icc_c1"}[entry["type"]]
        row |= {name: entry["icc"], f"{name}_low": entry["ci_low"], f"{name}_high": entry["ci_high"]}
    ccc, limits = concordance(first, second)
    low, high = limits or (math.nan, math.nan)
    return row | {"ccc": ccc, "ccc_low": low, "ccc_high": high}
