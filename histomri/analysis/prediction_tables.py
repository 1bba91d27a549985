"""`histomri predict`: a target such as tumour volume from a polynomial of two metrics, for the cases of a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis.measurements import MeasurementTable, opened_cases
from histomri.analysis.options import Basis, PredictOptions
from histomri.analysis.prediction import Prediction, cross_validated_prediction, fold_range, log10_volume
from histomri.analysis.results import Findings, Written, missing_text, naming_part
from histomri.core.columns import PATIENT
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.files import read_json

FILES = ("prediction.json", "predictions.csv", "prediction_surface.csv")


@dataclass(frozen=True, repr=False)
class Predictions(Displayed):
    """The predictions with each basis, and why there is none with the others."""

    found: dict[Basis, Findings]
    problems: dict[Basis, str]

    def facts(self) -> dict[str, str]:
        """Return what was found with each basis."""
        found = {str(basis): findings.lines[0] for basis, findings in self.found.items()}
        return found | {str(basis): problem for basis, problem in self.problems.items()}

    def write(self, out: Path, *, folder_each: bool = False) -> Written:
        """Write the first basis to a folder, others (with `folder_each` the first too) to prediction_BASIS below it."""
        alone = None if folder_each else next(iter((*self.found, *self.problems)))
        folders = [out if basis == alone else out / f"prediction_{basis}" for basis in self.found]
        parts = [found.write(folder) for found, folder in zip(self.found.values(), folders)]
        outputs = tuple(path for part in parts for path in part.outputs)
        several = len(self.found) + len(self.problems) > 1
        named = [(f"{basis}: " if several else "", part.messages) for basis, part in zip(self.found, parts)]
        lines = tuple(name + line for name, messages in named for line in messages)
        warnings = dict.fromkeys(text for part in parts for text in (*part.warnings, *self.problems.values()))
        content: dict[str, Any] = {basis: dict(found.content) for basis, found in self.found.items()}
        return Written(outputs, lines, tuple(warnings), content)


def predict_table(table: PredictOptions | pd.DataFrame | str | Path, **choices: Any) -> Predictions:
    """Cross-validate a prediction from the cases of a table, with every basis.

    The table (or its path) has one row per case of one model and strategy; `choices` are options of `histomri predict`
    beside it, such as ``target="volume_mm3"``. A PredictOptions stands for both. It is an InputError if no basis can
    predict the target.
    """
    if isinstance(table, PredictOptions) and table.table is None:
        raise InputError("there is no table to predict from", hint="name one")
    if isinstance(table, PredictOptions) and table.ranking is not None and None in (table.model, table.strategy):
        if not table.ranking.exists():
            raise InputError("the models were not ranked", hint="name a model and a strategy")
        ranking = read_json(table.ranking, "ranking")["models"]
        model, strategy = first_ranked(ranking, table.model, table.strategy)
        table = table.model_copy(update={"model": model, "strategy": strategy})
    options, cases = opened_cases(PredictOptions, table, choices)
    parts = cases.parts()
    if len(parts) > 1:
        problem = f"has several models or strategies ({'; '.join(', '.join(key.values()) for key, _ in parts)})"
        raise InputError(problem, path=cases.path, hint="choose with --model and --strategy")
    found: dict[Basis, Findings] = {}
    errors: dict[Basis, InputError] = {}
    for basis in dict.fromkeys(options.bases):
        try:
            found[basis] = _predicted(cases, options, basis)
        except InputError as error:
            errors[basis] = error
    if not found:
        raise next(iter(errors.values()))
    problems = {basis: f"predict {options.target} ({basis}): {error.problem}" for basis, error in errors.items()}
    return Predictions(found, problems)


def first_ranked(ranking: Sequence[dict[str, Any]], model: str | None, strategy: str | None) -> tuple[str, str]:
    """Return model and strategy that rank first in a ranking (from `rank_models`) among those wanted; None is any."""
    for row in ranking:
        if model in (None, row["model"]) and strategy in (None, row["strategy"]):
            return str(row["model"]), str(row["strategy"])
    raise InputError(f"no sample was fitted with {' and '.join(word for word in (model, strategy) if word)}")


def _predicted(cases: MeasurementTable, options: PredictOptions, basis: Basis) -> Findings:
    x, y, target = options.x, options.y, options.target
    values = cases.numbers([x, y, target])
    try:
        truth = log10_volume(values[target]) if options.log10 else values[target].to_numpy()
    except InputError as error:
        raise InputError(f"column '{target}': {error.problem}", path=cases.path, hint="use --no-log10") from error
    group_by = options.group_by or (PATIENT if PATIENT in cases else None)
    groups = None
    if group_by is not None:  # a case that is used must have one
        cases.rows(np.isfinite(values[[x, y]].assign(target=truth)).all(axis=1)).text(group_by, complete=True)
        groups = cases.text(group_by)
    with naming_part(cases.path, {}):
        how: dict[str, Any] = options.named("folds", "seed") | {"n_boot": options.boot, "groups": groups}
        found = cross_validated_prediction(values[x], values[y], truth, basis=basis, **how)
    name = f"log10({target})" if options.log10 else target
    rows = pd.DataFrame({x: values[x], y: values[y], name: truth, "predicted": found.predicted, "fold": found.fold + 1})
    rows["fold"] = rows["fold"].where(found.fold >= 0)
    for label in (group_by, "sample"):
        if label is not None and label in cases and label not in rows:
            rows.insert(0, label, cases.text(label).to_numpy())
    settings = {"x": x, "y": y, "target": name, "basis": basis, "folds": options.folds, "group_by": group_by}
    settings |= options.named("model", "strategy", "patient") | {"n_boot": options.boot, "seed": options.seed}
    surface = found.surface.rename(columns={"x": x, "y": y})
    frames = {"predictions.csv": (None, [rows]), "prediction_surface.csv": (None, [surface])}
    lines, warnings = [_line(name, found, groups is not None)], [*cases.quality_warnings(values), *found.warnings]
    others: dict[str, Any] = {"measures": [x, y, target], "more": _summary(found, name)}
    return Findings.joined("prediction.json", frames, lines, warnings, options, settings, **others)


def _line(name: str, found: Prediction, grouped: bool) -> str:
    size = f"N = {found.n}" + (f" in {found.n_groups} groups" if grouped else "") + missing_text(found.n_missing)
    if math.isnan(found.r):
        return f"{name}: r is undefined, as the predictions do not vary, {size}"
    band = f" [{found.ci[0]:.2f}, {found.ci[1]:.2f}]" if found.ci else ""
    p = "p undefined" if math.isnan(found.p) else f"p = {found.p:.2g}"
    low, high = fold_range(found.fold_r)
    undefined = "r within folds undefined: none has three cases that vary"
    within = undefined if math.isnan(low) else f"folds {low:.3f} to {high:.3f}"
    return f"{name}: r = {found.r:.3f}{band}, {p}, {within}, {size}"


def _summary(found: Prediction, name: str) -> dict[str, Any]:
    folds = np.where(np.isfinite(found.fold_r), found.fold_r, np.nan)
    summary = {"target": name, "r": found.r, "p": found.p, "r_ci": list(found.ci) if found.ci else None}
    summary |= {"fold_r": folds, "fold_r_range": list(fold_range(found.fold_r)), "n": found.n}
    summary |= {"n_missing": found.n_missing, "n_groups": found.n_groups}
    return summary | {"coefficients": found.coefficients.to_dict("records")}
