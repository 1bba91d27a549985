"""The stage `regress`: linear models of standardised values."""

from collections.abc import Sequence
from pathlib import Path

from histomri.analysis import regress
from histomri.analysis.regression import MODELS
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


def run_regress(
    table: Path,
    out: Path,
    *,
    columns: Path | None = None,
    response: str | None = None,
    predictors: Sequence[str] = (),
    by: str | None = None,
    model: str | None = None,
    strategy: str | None = None,
) -> StepResult:
    """Regress MRI metrics on histology, z-scored; write regression.csv, regression_models.csv and regression.json.

    Parameters
    ----------
    table : Path
        One row per sample x model x strategy.
    out : Path
        Folder for the results.
    columns : Path, optional
        TOML file mapping the table's own column names.
    response, predictors : str, sequence of str
        One model of the person's choice; by default the three of `histomri.analysis.regression.MODELS`.
    by : str, optional
        Column by which the samples are split, such as scanner.
    model, strategy : str, optional
        Rows to use; by default each model and strategy on its own.
    """
    if (response is None) != (not predictors):
        raise InputError("a model needs a response and predictors", hint="give --response and --predictor")
    sheet = open_sheet(table, columns, model=model, strategy=strategy)
    if response is not None:
        chosen = {response: tuple(predictors)}
    else:
        chosen = {name: terms for name, terms in MODELS.items() if all(column in sheet for column in (name, *terms))}
        if not chosen:
            sheet.require("vCS_mri_um")
            raise InputError(
                "lacks columns of every model of Eq. 16", path=table, hint="give --response and --predictor"
            )
    values = sheet.numbers([name for key, terms in chosen.items() for name in (key, *terms)])
    coefficients, models, warnings, lines = [], [], sheet.doubts(values), []
    for key, part in parts_of(sheet, by):
        with in_part(table, key):
            found = regress(values.loc[part.raw.index], chosen)
        coefficients.append(labelled(key, found.coefficients))
        models.append(labelled(key, found.models))
        warnings += [name_of(key) + text for text in found.warnings]
        absent = dict(zip(found.models["response"], found.models["n_missing"]))
        for row in found.coefficients.to_dict("records"):
            text = (
                f"beta = {row['beta']:.3f} [{row['ci_low_hc3']:.2f}, {row['ci_high_hc3']:.2f}], p = {row['p_hc3']:.2g}"
            )
            text += f" (HC3), VIF {row['VIF']:.1f}, N = {row['n']}{missing_text(absent[row['response']])}"
            lines.append(f"{name_of(key)}{row['response']} on {row['term']}: {text}")
    return finish(
        out,
        "regression.json",
        {"regression.csv": ("coefficients", coefficients), "regression_models.csv": ("models", models)},
        lines=lines,
        sources=sources_of(table, columns),
        settings={
            "models": chosen,
            "by": by,
            "model": model,
            "strategy": strategy,
            "standard_errors": "OLS and HC3",
        },
        warnings=warnings,
        measures=list(values),
    )
