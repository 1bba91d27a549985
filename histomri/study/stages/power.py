"""The stage `power`: how many samples a correlation needs, and what the present number can detect."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from histomri.analysis import correlation_power, critical_correlation, detectable_correlation, sample_size
from histomri.core.errors import InputError
from histomri.study.result import StepResult
from histomri.study.stages.analyses import (
    missing_text,
    name_of,
    open_sheet,
    parts_of,
    records,
    sources_of,
    write_tables,
)

_PAIRS = (("vCS_mri_um", "vCS_histo_um"), ("F_mri", "F_histo"))


def run_power(
    out: Path,
    *,
    table: Path | None = None,
    columns: Path | None = None,
    r: Sequence[float] = (),
    n: Sequence[int] = (),
    power: float = 0.8,
    alpha: float = 0.05,
) -> StepResult:
    """Plan correlations; write power_n.csv (what N samples can detect), power_r.csv (how many r needs), power.json.

    Parameters
    ----------
    out : Path
        Folder for the results.
    table, columns : Path, optional
        Table with one row per sample x model x strategy, whose complete pairs of vCS and F are counted.
    r : sequence of float
        Correlations to plan for; by default 0.3, 0.4, 0.5, 0.6 and 0.7.
    n : sequence of int
        Numbers of samples to judge, beside those of the table.
    power, alpha : float
        Wanted power, and level of the two-sided test.
    """
    if table is None and not n and not r:
        raise InputError("there is nothing to plan", hint="give a table, --r or --n")
    wanted = list(r) or [0.3, 0.4, 0.5, 0.6, 0.7]
    counted = _counts(table, columns) if table is not None else []
    in_table = {size for _, _, size, _ in counted}
    sizes = sorted({*n, *in_table})
    too_few = [size for size in sizes if size < 4]
    if too_few:
        raise InputError(
            f"{too_few[0]} samples are too few: no correlation can be relied on to be found",
            path=table if too_few[0] in in_table else None,
            hint="at least 4 are needed",
        )
    present = pd.DataFrame(
        [
            {
                "n": size,
                "critical_r": critical_correlation(size, alpha=alpha),
                "detectable_r": detectable_correlation(size, power=power, alpha=alpha),
                **{f"power_r={value:g}": correlation_power(value, size, alpha=alpha) for value in wanted},
            }
            for size in sizes
        ],
        columns=["n", "critical_r", "detectable_r", *[f"power_r={value:g}" for value in wanted]],
    )
    needed = pd.DataFrame([{"r": value, "n": sample_size(value, power=power, alpha=alpha)} for value in wanted])
    lines = [
        f"{name_of(key)}{one} with {other}: N = {n}{missing_text(absent)}"
        for key, (one, other), n, absent in counted
        if absent
    ]
    lines += [
        f"N = {row['n']}: finds r = {row['detectable_r']:.2f} with power {power:g}"
        f", and |r| > {row['critical_r']:.3f} has p < {alpha:g}"
        for row in present.to_dict("records")
    ]
    lines += [f"r = {row['r']:g}: needs N = {int(row['n'])} for power {power:g}" for row in needed.to_dict("records")]
    content = {"present": records(present), "needed": records(needed)}
    sources = sources_of(table, columns) if table is not None else []
    outputs = write_tables(
        out,
        {"power_n.csv": present, "power_r.csv": needed},
        "power.json",
        content,
        sources=sources,
        settings={"power": power, "alpha": alpha, "r": wanted, "n": sizes},
    )
    return StepResult(outputs, tuple(lines), (), content)


def _counts(table: Path, columns: Path | None) -> list[tuple[dict[str, str], tuple[str, str], int, int]]:
    """Return, for each part of the table and each pair of columns, how many rows are complete and how many are not."""
    sheet = open_sheet(table, columns)
    values = sheet.numbers([name for pair in _PAIRS for name in pair])
    found = []
    for key, part in parts_of(sheet, None):
        for pair in _PAIRS:
            complete = values.loc[part.raw.index, list(pair)].notna().all(axis=1)
            found.append((key, pair, int(complete.sum()), int((~complete).sum())))
    return found
