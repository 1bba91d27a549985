"""The stage `score`: a table of pairs in, the ranking of the models out."""

from pathlib import Path
from typing import Any

import pandas as pd

from histomri.analysis import (
    Sheet,
    cases_of,
    compare_models,
    missing_cases,
    open_pairs,
    rank_by,
    rank_models,
    ranking_warnings,
    require_varying_histology,
    unlabelled,
    voxels_of,
)
from histomri.analysis.bootstrap import check_resamples
from histomri.pairing import PairedTable
from histomri.study.result import StepResult
from histomri.study.stages.analyses import records, remove_stale, sources_of, write_tables

SCORE_FILES = ("scores.json", "scores.csv", "model_comparisons.csv", "scores_by_scanner.csv")


def run_score(pairs: Path, out: Path, *, columns: Path | None = None, n_boot: int = 2000, seed: int = 0) -> StepResult:
    """Score and rank the models of a table of pairs, and test them against each other.

    Writes scores.json and scores.csv; with several models model_comparisons.csv; with several scanners
    scores_by_scanner.csv.

    Parameters
    ----------
    pairs : Path
        One row per sample x model x strategy (see `histomri.analysis.cases_of`), or per voxel (see
        `histomri.analysis.voxels_of`), which is averaged per sample first.
    out : Path
        Folder for the results.
    columns : Path, optional
        TOML file mapping the table's own column names.
    n_boot, seed : int
        Bootstrap over cases.
    """
    check_resamples(n_boot)
    table, notes, doubts = _cases(open_pairs(pairs, columns))
    ranking = rank_models(table, n_boot=n_boot, seed=seed)
    warnings = [*doubts, *ranking_warnings(ranking), *missing_cases(table), *unlabelled(table, "scanner")]
    settings = {
        "n_boot": n_boot,
        "seed": seed,
        "confidence": 0.95,
        "interval": "jackknife over cases of Fisher's z of TCS/2",
    }
    comparisons = compare_models(table)
    scanners = rank_by(table, "scanner", n_boot=n_boot, seed=seed)
    tables = {"scores.csv": pd.DataFrame([_flat(row) for row in ranking])}
    if len(comparisons):
        tables["model_comparisons.csv"] = comparisons
    if scanners:
        tables["scores_by_scanner.csv"] = pd.DataFrame(
            [{"scanner": name, **_flat(row)} for name, rows in scanners.items() for row in rows]
        )
    content = {"models": ranking, "scanners": scanners, "comparisons": records(comparisons)}
    sources = sources_of(pairs, columns)
    outputs = write_tables(out, tables, "scores.json", content, sources=sources, settings=settings, warnings=warnings)
    messages = [*notes, *_lines(ranking), *remove_stale(out, SCORE_FILES, outputs, sources)]
    return StepResult(outputs, tuple(messages), tuple(warnings), {"models": ranking})


def _cases(sheet: Sheet) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return one row per sample x model x strategy, what to tell, and what to warn of."""
    if not sheet.is_voxelwise:
        table, notes = cases_of(sheet)
        return table, notes, sheet.doubts(table)
    voxels, notes = voxels_of(sheet)
    doubts = sheet.doubts(voxels)
    table = PairedTable.load(sheet.path, voxels).per_sample()
    require_varying_histology(table, sheet.path)
    return table, [f"{sheet.path.name}: voxels averaged per sample", *notes], doubts


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with the interval in two columns, as a spreadsheet wants it."""
    low, high = row["TCS_ci"] or (None, None)
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key == "TCS_ci":
            flat |= {"TCS_ci_low": low, "TCS_ci_high": high}
        else:
            flat[key] = value
    return flat


def _lines(ranking: list[dict[str, Any]]) -> list[str]:
    lines = []
    ranks = [row["rank"] for row in ranking]
    for row in ranking:
        place = "–" if row["rank"] is None else f"{row['rank']}{'=' if ranks.count(row['rank']) > 1 else '.'}"
        score = "undefined" if row["TCS"] is None else f"{row['TCS']:.3f}"
        if row["TCS_ci"]:
            score += f" [{row['TCS_ci'][0]:.2f}, {row['TCS_ci'][1]:.2f}]"
        fidelity = "undefined" if row["HFC_mean"] is None else f"{row['HFC_mean']:.3f}"
        lines.append(f"{place} {row['model']} ({row['strategy']}): TCS {score}, HFC {fidelity}, N = {row['n']}")
    return lines
