"""The statistics that a run has left: tables over samples, and predictions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from histomri.core.errors import InputError
from histomri.core.files import read_json

_CASE = ("model", "strategy")
_TEXT = ("sample", "group_a", "group_b", "note", "scanner", *_CASE)
# Columns that are drawn, by table.
TABLES: Mapping[str, tuple[str, ...]] = {
    "correlations": ("x", "y", "kind", "r", "p", "n", "note"),
    "comparisons": ("column", "group_a", "group_b", "p_welch", "q_welch", "hedges_g", "note"),
    "agreement": (
        *("first", "second", "n", "bias", "bias_low", "bias_high", "lower", "lower_low", "lower_high"),
        *("upper", "upper_low", "upper_high", "slope", "slope_low", "slope_high", "p_slope", "relative"),
    ),
    "bias_by_size": ("first", "second", "size_from", "size_to", "n", "bias", "bias_low", "bias_high"),
    "regression": ("response", "term", "beta", "ci_low_hc3", "ci_high_hc3", "p_hc3", "VIF"),
    "regression_models": ("response", "n", "r2"),
}


@dataclass(frozen=True)
class Predicted:
    """A prediction over cases: its record, its cases, and the fitted surface."""

    record: dict[str, Any]
    cases: pd.DataFrame
    surface: pd.DataFrame

    @property
    def settings(self) -> dict[str, Any]:
        """How it was made: x, y, target, basis, folds, group_by, model, strategy."""
        return dict(self.record["Parameters"])


@dataclass(frozen=True)
class Findings:
    """The tables of a run's statistics, by name, and its predictions, by basis; whatever there is."""

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    predictions: dict[str, Predicted] = field(default_factory=dict)

    def of(self, name: str, key: tuple[str, str] | None) -> pd.DataFrame | None:
        """Return the rows of a table of a model and strategy; None if there are none."""
        table = self.tables.get(name)
        if table is None or key is None:
            return None
        for column, wanted in zip(_CASE, key):
            if column in table:
                table = table[table[column] == wanted]
        return table if len(table) else None


def read_prediction(folder: Path) -> Predicted | None:
    """Return a prediction, None if it was not made.

    Raises
    ------
    InputError
        If a file is missing or not what `histomri predict` writes.
    """
    path = folder / "prediction.json"
    if not path.exists():
        return None
    record = read_json(path, "prediction")
    settings = record.get("Parameters") if isinstance(record, dict) else None
    if not isinstance(settings, dict) or not {"x", "y", "target", "basis"} <= settings.keys():
        raise InputError("is not the record of a prediction", path=path, hint="run the study again")
    metrics = (settings["x"], settings["y"])
    cases = read_columns(folder / "predictions.csv", (*metrics, settings["target"], "predicted", "fold"))
    surface = read_columns(folder / "prediction_surface.csv", (*metrics, "predicted", "low", "high", "inside"))
    return Predicted(record, cases, surface)


def read_columns(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    """Return a table of a run that has the columns that are needed.

    Raises
    ------
    InputError
        If it cannot be read, or lacks one.
    """
    try:
        # A group may be called "NA" or "none": only an empty cell is missing.
        table = pd.read_csv(path, dtype=dict.fromkeys(_TEXT, str), keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise InputError("cannot be read as a table", path=path, hint="run the study again") from error
    if lacking := [name for name in needed if name not in table]:
        raise InputError(f"has no column '{lacking[0]}'", path=path, hint="run the study again")
    if "note" in table:
        table["note"] = table["note"].fillna("")
    return table
