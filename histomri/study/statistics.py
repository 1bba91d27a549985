"""The statistics of a study over its samples, as the commands of the same names give them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from histomri.analysis import Sheet, read_sheet
from histomri.analysis.sheets import MEASUREMENTS
from histomri.core.errors import InputError
from histomri.study.result import StepResult
from histomri.study.stages.agree import run_agree
from histomri.study.stages.compare import run_compare
from histomri.study.stages.correlate import run_correlate
from histomri.study.stages.regress import run_regress

FEWEST = 3
FILES = (
    "correlations.csv", "correlation_matrix.csv", "correlations.json", "regression.csv", "regression_models.csv",
    "regression.json", "agreement.csv", "bias_by_size.csv", "agreement.json", "comparisons.csv", "comparisons.json",
)  # fmt: skip


def run_statistics(pairs: Path, out: Path, measures: Sequence[str] = ()) -> list[str]:
    """Correlate, regress, and compare the samples of a study; write what `FILES` names, as far as it can be had.

    Parameters
    ----------
    pairs : Path
        One row per sample, model and strategy.
    out : Path
        Folder for the tables.
    measures : sequence of str
        Columns to correlate and compare beside those of histomri, such as Ki-67.

    Returns
    -------
    list of str
        What could not be computed, and why.
    """
    sheet = read_sheet(pairs)
    samples = sheet.text("sample").nunique()
    if samples < FEWEST:
        return [f"statistics over samples: {samples} are too few"]
    names = [name for name in (*MEASUREMENTS, *measures) if _varies(sheet, name)]
    stages: dict[str, Callable[[], StepResult]] = {
        "correlate": lambda: run_correlate(pairs, out, x=names),
        "regress": lambda: run_regress(pairs, out),
        "agree": lambda: run_agree(pairs, out),
    }
    groups = sheet.text("group")
    if groups[groups != ""].nunique() > 1:
        stages["compare"] = lambda: run_compare(pairs, out, measures=names)
    problems = []
    for name, run in stages.items():
        try:
            run()
        except InputError as error:  # told without its file: that is the run's own, and folders are nobody's concern
            problems.append(f"{name}: {error.problem}")
    return problems


def _varies(sheet: Sheet, name: str) -> bool:
    return name in sheet and pd.to_numeric(sheet.raw[name], errors="coerce").nunique() > 1
