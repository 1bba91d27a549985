"""`histomri score`: the ranking of the models of a table of pairs, and tests between them."""

from pathlib import Path
from typing import Any

import pandas as pd

from histomri.analysis.cases import cases_of, open_pairs, require_varying_histology, voxels_of
from histomri.analysis.comparison import compare_models, rank_by, unlabelled
from histomri.analysis.measurements import MeasurementTable
from histomri.analysis.options import ScoreOptions
from histomri.analysis.ranking import missing_cases, rank_models, ranking_warnings
from histomri.analysis.results import Findings
from histomri.analysis.summary import counted_cases, summarise_voxels
from histomri.core.files import read_json

FILES = ("scores.json", "scores.csv", "model_comparisons.csv", "scores_by_scanner.csv")


def score_table(table: ScoreOptions | pd.DataFrame | str | Path, **choices: Any) -> Findings:
    """Score and rank the models of a table of pairs, and test them against each other.

    Parameters
    ----------
    table : ScoreOptions, DataFrame or path-like
        One row per sample x model x strategy (see `cases_of`), or per voxel (see `voxels_of`), which is averaged per
        sample first.
    **choices
        Options of `histomri score`, beside a table: ``boot=500``.

    Returns
    -------
    Findings
        scores.csv; with several models model_comparisons.csv; with several scanners scores_by_scanner.csv.
    """
    options, rows = open_pairs(table, choices)
    cases, notes, warnings = _cases(rows)
    draws = {"n_boot": options.boot, "seed": options.seed}
    ranking, scanners = rank_models(cases, **draws), rank_by(cases, "scanner", **draws)
    comparisons = compare_models(cases)
    frames = {"scores.csv": (None, [pd.DataFrame([_flat(row) for row in ranking])])}
    if len(comparisons):
        frames["model_comparisons.csv"] = (None, [comparisons])
    if scanners:
        flat = [{"scanner": name, **_flat(row)} for name, ranked in scanners.items() for row in ranked]
        frames["scores_by_scanner.csv"] = (None, [pd.DataFrame(flat)])
    warnings += [*ranking_warnings(ranking), *missing_cases(cases), *unlabelled(cases, "scanner")]
    return Findings.joined(
        "scores.json",
        frames,
        [*notes, *_lines(ranking)],
        warnings,
        options,
        draws | {"confidence": 0.95, "interval": "jackknife over cases of Fisher's z of TCS/2"},
        more={"models": ranking, "scanners": scanners, "comparisons": comparisons.to_dict("records")},
        replaces=FILES,
    )


def _cases(rows: MeasurementTable) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return one row per sample x model x strategy, notes, and warnings."""
    if not rows.is_voxelwise:
        table, notes = cases_of(rows)
        return table, notes, rows.quality_warnings(table)
    voxels, notes = voxels_of(rows)
    warnings = rows.quality_warnings(voxels)
    sidecar = rows.path.with_suffix(".json")
    counts = (read_json(sidecar, "sidecar").get("Counts") if sidecar.exists() else None) or []
    table = summarise_voxels(voxels, counted_cases(counts, voxels))
    require_varying_histology(table, rows.path)
    return table, [f"{rows.path.name}: voxels averaged per sample", *notes], warnings


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with the interval in two columns, as a spreadsheet wants it."""
    low, high = row["TCS_ci"] or (None, None)
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat |= {"TCS_ci_low": low, "TCS_ci_high": high} if key == "TCS_ci" else {key: value}
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
