"""The prediction that a study file asks for, as `histomri predict` makes it."""

from pathlib import Path

from histomri.analysis import read_sheet
from histomri.analysis.prediction import BASES
from histomri.core.errors import InputError
from histomri.core.files import read_json
from histomri.study.config import Study
from histomri.study.options import PredictionOptions
from histomri.study.stages.predict import run_predict

PATIENT = "patient"
PREDICTION_FILES = tuple(
    f"prediction_{basis}/{name}"
    for basis in BASES
    for name in ("prediction.json", "predictions.csv", "prediction_surface.csv")
)


def run_prediction(study: Study, out: Path) -> list[str]:
    """Predict what the study names, with every basis it names; write `PREDICTION_FILES` below OUT/statistics.

    Parameters
    ----------
    study : Study
        Without a table of its own the prediction is made from OUT/pairs.csv, of the model and strategy that rank first
        in OUT/scores.json unless it names others.
    out : Path
        Results folder.

    Returns
    -------
    list of str
        What could not be computed, and why.
    """
    options = study.prediction
    if options is None or (options.table is None and not (out / "pairs.csv").exists()):
        return []
    problems = []
    for basis in options.bases:
        try:
            _predict(options, basis, out)
        except InputError as error:  # told without its file, as folders are nobody's concern
            problems.append(f"predict {options.target} ({basis}): {error.problem}")
    return problems


def _predict(options: PredictionOptions, basis: str, out: Path) -> None:
    table = options.table or out / "pairs.csv"
    model: str | None = options.model
    strategy: str | None = options.strategy
    if options.table is None and (model is None or strategy is None):
        model, strategy = _first(out, model, strategy)
    group_by = options.group_by
    if group_by is None and PATIENT in read_sheet(table):
        group_by = PATIENT
    run_predict(
        table,
        out / "statistics" / f"prediction_{basis}",
        target=options.target,
        x=options.x,
        y=options.y,
        log10=options.log10,
        basis=basis,
        folds=options.folds,
        group_by=group_by,
        model=model,
        strategy=strategy,
        seed=options.seed,
    )


def _first(out: Path, model: str | None, strategy: str | None) -> tuple[str, str]:
    """Return model and strategy that rank first among those wanted."""
    path = out / "scores.json"
    if not path.exists():
        raise InputError("the models were not ranked", hint="name a model and a strategy under [prediction]")
    for row in read_json(path, "ranking")["models"]:
        if model in (None, row["model"]) and strategy in (None, row["strategy"]):
            return str(row["model"]), str(row["strategy"])
    raise InputError(f"no sample was fitted with {' and '.join(word for word in (model, strategy) if word)}")
