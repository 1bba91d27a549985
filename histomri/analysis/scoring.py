"""`histomri score`: from a table of pairs to the ranking of the models, and to what can be said of it."""

from pathlib import Path
from typing import Any

import pandas as pd

from histomri.analysis.cases import cases_of, open_pairs, require_varying_histology, voxels_of
from histomri.analysis.comparison import compare_models, rank_by, unlabelled
from histomri.analysis.criteria import Verdict, compare_criteria
from histomri.analysis.histology import (
    by_size_alone,
    histology_line,
    histology_size,
    lacks_fraction,
    without_fraction,
)
from histomri.analysis.influence import influence_notes, score_influence
from histomri.analysis.measurements import MeasurementTable
from histomri.analysis.options import ScoreOptions
from histomri.analysis.patients import with_patients
from histomri.analysis.ranking import rank_models
from histomri.analysis.ranking_notes import headline, listed, missing_cases, ranking_warnings
from histomri.analysis.results import Findings, naming_part
from histomri.analysis.summary import counted_cases, summarise_voxels
from histomri.analysis.within import scores_within, within_column, within_warnings
from histomri.core.columns import PATIENT
from histomri.core.files import read_json

_NO_FRACTION = (
    "the histology has no fraction of cells that was measured (in 3D, from nuclei, it is stated): there is no TCS and "
    "no HFC, and the models are ranked by r(vCS) alone"
)
SCORE_FILES = (
    "scores.json", "scores.csv", "model_comparisons.csv", "scores_by_scanner.csv", "scores_by_strategy.csv",
    "scores_within.csv", "scores_influence.csv",
)  # fmt: skip


def score_table(table: ScoreOptions | pd.DataFrame | str | Path, **choices: Any) -> Findings:
    """Score and rank the models of a table of pairs, and test them against each other.

    The table (or its path) has one row per sample x model x strategy (see `cases_of`), or per voxel (see `voxels_of`),
    which is averaged per sample first; `choices` are options of `histomri score` beside it, such as ``boot=500``. A
    ScoreOptions stands for both. The Findings are scores.csv and scores_influence.csv; with several models
    model_comparisons.csv; with several scanners scores_by_scanner.csv, with several strategies scores_by_strategy.csv;
    with groups scores_within.csv.
    """
    options, rows = open_pairs(table, choices)
    rows = with_patients(rows, options.patient)
    cases, notes, warnings = _cases(rows, options.within)
    size, alone = histology_size(rows.path), lacks_fraction(cases)
    if alone:
        return _by_size(options, rows, cases, (notes, warnings))
    with naming_part(rows.path, {}):
        within, about = within_column(cases, options.within)
    warnings += about
    draws: dict[str, Any] = {"n_boot": options.boot, "seed": options.seed}
    models = rank_models(cases, **draws, within=within)
    by = {name: rank_by(cases, name, **draws) for name in ("scanner", "strategy")}
    comparisons, influence = compare_models(cases), score_influence(cases)
    verdicts = compare_criteria(cases, seed=options.seed)
    pooled = scores_within(cases, within, patient=PATIENT) if within is not None else None
    frames: dict[str, Any] = {"scores.csv": (None, [pd.DataFrame([_flat(row) for row in models])])}
    if len(comparisons):
        frames["model_comparisons.csv"] = ("comparisons", [comparisons])
    for name, rankings in by.items():
        if rankings:
            flat = [{name: label, **_flat(row)} for label, ranked in rankings.items() for row in ranked]
            frames[f"scores_by_{name}.csv"] = (None, [pd.DataFrame(flat)])
    if pooled is not None:
        frames["scores_within.csv"] = ("within", [pooled])
        warnings += within_warnings(pooled)
    if len(influence):
        frames["scores_influence.csv"] = (None, [influence])
    warnings += [*ranking_warnings(models), *missing_cases(cases), *unlabelled(cases, "scanner")]
    content = {"models": models, "scanners": by["scanner"], "strategies": by["strategy"], "headline": headline(models)}
    content |= {"comparisons": [], "criteria": [verdict.row() for verdict in verdicts]}
    unit = "patients" if any(row["n_patients"] < row["n"] for row in models) else "cases"
    settings = draws | {
        "confidence": 0.95,
        "interval": f"jackknife over {unit} of Fisher's z of TCS/2",
        "within": within,
    }
    settings |= options.named("patient") | {"ranked_by": "TCS"} | ({"size": size} if size is not None else {})
    others: dict[str, Any] = {"more": content, "replaces": SCORE_FILES}
    lines = [*notes, *histology_line(size), *_lines(models, verdicts), *influence_notes(influence)]
    return Findings.joined("scores.json", frames, lines, warnings, options, settings, **others)


def _by_size(
    options: ScoreOptions, rows: MeasurementTable, cases: pd.DataFrame, said: tuple[list[str], list[str]]
) -> Findings:
    """Return the ranking by r(vCS) alone, where the histology has no fraction of cells."""
    notes, warnings = said
    size, cases = histology_size(rows.path), by_size_alone(cases)
    draws: dict[str, Any] = {"n_boot": options.boot, "seed": options.seed}
    ranked, scanners = rank_models(cases, **draws), rank_by(cases, "scanner", **draws)
    warnings = [
        *warnings,
        *ranking_warnings(ranked),
        *missing_cases(cases),
        *unlabelled(cases, "scanner"),
        _NO_FRACTION,
    ]
    models, by = without_fraction(ranked), {name: without_fraction(each) for name, each in scanners.items()}
    comparisons = compare_models(cases)
    comparisons = comparisons[comparisons["quantity"] == "vCS"]
    frames: dict[str, Any] = {"scores.csv": (None, [pd.DataFrame([_flat(row) for row in models])])}
    if len(comparisons):
        frames["model_comparisons.csv"] = ("comparisons", [comparisons])
    if by:
        flat = [{"scanner": label, **_flat(row)} for label, each in by.items() for row in each]
        frames["scores_by_scanner.csv"] = (None, [pd.DataFrame(flat)])
    content = {"models": models, "scanners": by, "strategies": {}, "headline": None, "comparisons": [], "criteria": []}
    settings = draws | {"confidence": 0.95, "interval": "jackknife over cases of Fisher's z of r(vCS)"}
    settings |= options.named("patient") | {"ranked_by": "r_vCS"} | ({"size": size} if size is not None else {})
    others: dict[str, Any] = {"more": content, "replaces": SCORE_FILES}
    lines = [*notes, *histology_line(size), *_lines(models, [])]
    return Findings.joined("scores.json", frames, lines, warnings, options, settings, **others)


def _cases(rows: MeasurementTable, within: str | None) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return one row per sample x model x strategy (with the labels to look within), notes, and warnings."""
    if not rows.is_voxelwise:
        table, notes = cases_of(rows)
        warnings = rows.quality_warnings(table)
    else:
        voxels, notes = voxels_of(rows)
        warnings = rows.quality_warnings(voxels)
        sidecar = rows.path.with_suffix(".json")
        counts = (read_json(sidecar, "sidecar").get("Counts") if sidecar.exists() else None) or []
        table = summarise_voxels(voxels, counted_cases(counts, voxels))
        require_varying_histology(table, rows.path, without_fraction=histology_size(rows.path) == "volume")
        notes = [f"{rows.path.name}: voxels averaged per sample", *notes]
    warnings += _registration_warnings(rows)
    if within is not None and within not in table and within in rows:
        labels = rows.text(within).groupby(rows.text("sample")).first()
        table[within] = table["sample"].astype(str).map(labels)
    return table, notes, warnings


def _registration_warnings(rows: MeasurementTable) -> list[str]:
    """Name the samples whose registration is not judged good, or was made by what is correlated afterwards."""
    known = {name: rows.text(name) for name in ("registration_verdict", "registration_drive") if name in rows}
    kinds = {
        "is to be checked by eye": ("registration_verdict", ["check"]),
        "failed": ("registration_verdict", ["failed"]),
        "was matched by what the maps show, which raises r": ("registration_drive", ["both", "content"]),
    }
    texts = []
    for what, (name, words) in kinds.items():
        if name in known and (found := list(dict.fromkeys(rows.text("sample")[known[name].isin(words)]))):
            samples = f"{len(found)} sample{'s' * (len(found) > 1)}"
            texts.append(f"the registration of {samples} {what}: {listed(found)}")
    return texts


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with each interval in two columns, as a spreadsheet wants it."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key in ("TCS_ci", "TCS_corrected_ci", "TCS_registration_ci"):
            flat |= dict(zip((f"{key}_low", f"{key}_high"), value or (None, None)))
        else:
            flat[key] = value
    return flat


def _lines(models: list[dict[str, Any]], verdicts: list[Verdict]) -> list[str]:
    first = headline(models)
    lines, ranks = [first] if first else [], [row["rank"] for row in models]
    for row in models:
        place = "–" if row["rank"] is None else f"{row['rank']}{'=' if ranks.count(row['rank']) > 1 else '.'}"
        if row["TCS"] is None and row["rank"] is not None:  # by cell size alone
            lines.append(f"{place} {row['model']} ({row['strategy']}): r(vCS) {row['r_vCS']:.3f}, N = {row['n']}")
            continue
        score = "undefined" if row["TCS"] is None else f"{row['TCS']:.3f}"
        if row["TCS_ci"]:
            score += f" [{row['TCS_ci'][0]:.2f}, {row['TCS_ci'][1]:.2f}]"
        fidelity = "undefined" if row["HFC_mean"] is None else f"{row['HFC_mean']:.3f}"
        fidelity += "" if row["HFC_syst"] is None else f" ± {row['HFC_syst']:.3f} (syst)"
        n = f"N = {row['n']}" + (f" of {row['n_patients']} patients" if row["n_patients"] < row["n"] else "")
        lines.append(f"{place} {row['model']} ({row['strategy']}): TCS {score}, HFC {fidelity}, {n}")
    return [*lines, *(verdict.text for verdict in verdicts)]
