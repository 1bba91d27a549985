"""The statistics of a run as figures."""

from collections.abc import Callable, Iterator
from functools import partial

import pandas as pd
from matplotlib import rc_context

from histomri.report.collect import Key, Run
from histomri.report.figures.agreement import agreement_card
from histomri.report.figures.charts import STYLE, Card, Looks
from histomri.report.figures.correlations import association_card
from histomri.report.figures.groups import groups_card
from histomri.report.figures.prediction import prediction_card
from histomri.report.figures.regression import regression_card
from histomri.report.guard import Failure, section
from histomri.report.text import best_rows, fit_label, label_of


def statistics_cards(run: Run) -> Iterator[Card | Failure]:
    """Draw the statistics of the best model: agreement, regression, groups, measurements, predictions.

    What was not computed is left out.
    """
    found = best_rows(run)
    with rc_context(STYLE):
        for name, make in (*(_over_samples(run, *found) if found is not None else ()), *_predictions(run)):
            card = section(make, run.missing, name)
            if card is not None:
                yield card


def _over_samples(run: Run, key: Key, rows: pd.DataFrame) -> Iterator[tuple[str, Callable[[], Card | None]]]:
    looks, title = Looks.of(rows), fit_label(key)
    tables = {name: run.findings.of(name, key) for name in run.findings.tables}
    agreement, coefficients, models = (tables.get(name) for name in ("agreement", "regression", "regression_models"))
    comparisons, correlations = tables.get("comparisons"), tables.get("correlations")
    if agreement is not None:
        yield "Agreement", partial(agreement_card, rows, agreement, tables.get("bias_by_size"), looks, title)
    if coefficients is not None and models is not None:
        yield "Regression", partial(regression_card, coefficients, models, title)
    if comparisons is not None:
        yield "Groups", partial(groups_card, rows, comparisons, looks, title)
    for measure in run.measures if correlations is not None else ():
        yield label_of(measure).name, partial(association_card, rows, correlations, measure, looks, title)


def _predictions(run: Run) -> Iterator[tuple[str, Callable[[], Card | None]]]:
    first = next(iter(run.findings.predictions), None)
    for basis, found in run.findings.predictions.items():
        yield f"Prediction ({basis})", partial(prediction_card, basis, found, aside=basis != first)
