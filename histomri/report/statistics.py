"""The statistics of a run as figures, each with what it says in words."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context

from histomri.report.charts import STYLE, Card, Looks
from histomri.report.collect import Run
from histomri.report.figures_agreement import COLLINEAR, agreement_chart, regression_chart
from histomri.report.figures_groups import association_chart, groups_chart, partners
from histomri.report.figures_prediction import BASES, highest, prediction_chart, quantity, target_name
from histomri.report.findings import Predicted
from histomri.report.labels import Label, label_of
from histomri.report.maps import fit_label
from histomri.report.words import best_rows, decimals, p_text


def statistics_cards(run: Run) -> Iterator[Card]:
    """Draw what the run's statistics hold of the best model: agreement, regression, groups, measurements, predictions.

    What was not computed is left out.
    """
    found = best_rows(run)
    with rc_context(STYLE):
        if found is not None:
            yield from _over_samples(run, *found)
        for basis, predicted in run.findings.predictions.items():
            yield _prediction(basis, predicted, aside=basis != next(iter(run.findings.predictions)))


def _over_samples(run: Run, key: tuple[str, str], rows: pd.DataFrame) -> Iterator[Card]:
    looks, title = Looks.of(rows), fit_label(key)
    tables = {name: run.findings.of(name, key) for name in run.findings.tables}
    agreement, coefficients, models = (tables.get(name) for name in ("agreement", "regression", "regression_models"))
    if agreement is not None:
        yield _agreement(rows, agreement, tables.get("bias_by_size"), looks, title)
    if coefficients is not None and models is not None:
        yield _regression(coefficients, models, title)
    comparisons, correlations = tables.get("comparisons"), tables.get("correlations")
    if comparisons is not None:
        yield _groups(rows, comparisons, looks, title)
    for measure in run.measures if correlations is not None else ():
        card = _association(rows, correlations, measure, looks, title)
        if card is not None:
            yield card


def _agreement(
    rows: pd.DataFrame, agreement: pd.DataFrame, sizes: pd.DataFrame | None, looks: Looks, title: str
) -> Card:
    texts = []
    for row in agreement.to_dict("records"):
        label, second = label_of(row["first"]), label_of(row["second"])
        unit = Label("", "%") if row["relative"] else label
        limits = f"limits of agreement {unit.value(row['lower'])} to {unit.value(row['upper'])}"
        text = (
            f"{label.name} less {second.name}: bias {unit.value(row['bias'])}, 95\u202f% interval "
            f"[{unit.value(row['bias_low'])}, {unit.value(row['bias_high'])}]; {limits}; N = {row['n']}."
        )
        if row["p_slope"] < 0.05:
            text += " The difference changes with size: bias and limits hold on average only."
        texts.append(text)
    return Card(
        "agreement",
        "How large is the difference between MRI and histology?",
        (*texts, "Bands are 95\u202f% intervals. Classes of size are by histology."),
        agreement_chart(rows, agreement, sizes, looks, f"MRI less histology: {title}"),
        ("agreement.csv", "bias_by_size.csv"),
    )


def _regression(coefficients: pd.DataFrame, models: pd.DataFrame, title: str) -> Card:
    flagged = coefficients[~(coefficients["VIF"] < COLLINEAR)]
    text = (
        "All values as z-scores (Eq. 16): a coefficient says by how many standard deviations the MRI metric changes "
        "with one of the histological property, the others held still. Intervals are robust (HC3)."
    )
    names = [f"{label_of(row['term']).name} for {label_of(row['response']).name}" for _, row in flagged.iterrows()]
    warning = (
        f"Open squares: variance inflation (VIF) of {COLLINEAR:g} or more ({', '.join(names)}). The properties go "
        "together so closely that their coefficients cannot be told apart."
    )
    return Card(
        "regression",
        "Which property of the tissue does each MRI metric follow?",
        (text, warning) if len(flagged) else (text,),
        regression_chart(coefficients, models, f"Regression on histology: {title}"),
        ("regression.csv", "regression_models.csv"),
    )


def _groups(rows: pd.DataFrame, comparisons: pd.DataFrame, looks: Looks, title: str) -> Card:
    pairs = comparisons[["group_a", "group_b"]].drop_duplicates()
    tests = int(comparisons["p_welch"].notna().sum())
    kept = int((comparisons["q_welch"] < 0.05).sum())
    which = "The bracket names" if len(pairs) == 1 else "Brackets name, of the pairs with p < 0.05, the three smallest,"
    text = (
        f"Lines are medians, boxes quartiles (from four samples on). {which} p of Welch's t-test and Hedges' g. "
        f"Below 0.05 when adjusted for the number of tests (false discovery rate): {kept} of {tests}."
    )
    return Card(
        "groups", "Do the groups differ?", (text,), groups_chart(rows, comparisons, looks, f"Groups: {title}"),
        ("comparisons.csv",),
    )  # fmt: skip


def _association(rows: pd.DataFrame, correlations: pd.DataFrame, measure: str, looks: Looks, title: str) -> Card | None:
    name = label_of(measure).name
    chart = association_chart(rows, correlations, measure, looks, f"{name}: {title}")
    if chart is None:
        return None
    found = {other: kinds["pearson"] for other, kinds in partners(correlations, measure).items()}
    defined = {other: row for other, row in found.items() if np.isfinite(row["r"]) and label_of(other).name != other}
    text = "Pearson's r, with the line of least squares and its 95\u202f% band, and Spearman's ρ."
    if defined:
        other, row = max(defined.items(), key=lambda item: abs(item[1]["r"]))
        closest = f"Closest: {label_of(other).name}, r = {decimals(row['r'])}, {p_text(row['p'])}, N = {row['n']}."
        text = f"{closest} {text} p are of single tests; correlations.csv adjusts for their number."
    return Card(f"association_{measure}", f"What goes with {name}?", (text,), chart, ("correlations.csv",))


def _prediction(basis: str, found: Predicted, *, aside: bool) -> Card:
    record, settings = found.record, found.settings
    metrics = " and ".join(label_of(settings[name]).name for name in ("x", "y"))
    low, high = record["fold_r_range"]
    folds = f"{settings.get('folds')}-fold cross-validation"
    if settings.get("group_by"):
        folds += f", cases of one {settings['group_by']} in one fold ({record['n_groups']} of them)"
    interval = f", 95\u202f% interval [{decimals(record['r_ci'][0])}, {decimals(record['r_ci'][1])}]"
    texts = [
        f"{quantity(found)} from {metrics} by a polynomial ({BASES[basis]}), {folds}: r = {decimals(record['r'])}"
        f"{interval if record.get('r_ci') else ''}, {p_text(record['p'])}, N = {record['n']}; single folds "
        f"{decimals(low)} to {decimals(high)}.",
        "Left, predictions of cases that were not used for them; the line is equality. The surfaces are fitted to all "
        f"cases and end where these end. {highest(found)}".rstrip(),
        *_of_model(settings),
        *(f"{text[0].upper()}{text[1:]}." for text in record.get("warnings") or ()),
    ]
    name = f"prediction_{basis}"
    return Card(
        name,
        f"Can {target_name(found)} be predicted{f' by {BASES[basis]}' if aside else ''}?",
        tuple(texts),
        prediction_chart(found, f"Prediction of {quantity(found)} from {metrics}, {basis} polynomial"),
        tuple(f"{name}/{file}" for file in ("prediction.json", "predictions.csv", "prediction_surface.csv")),
        aside,
    )


def _of_model(settings: dict[str, Any]) -> list[str]:
    if not settings.get("model") or not settings.get("strategy"):
        return []
    return [f"Metrics of {fit_label((settings['model'], settings['strategy']))}."]
