"""The statistics of a run as figures: agreement, regression, and groups here; others in files of their own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context

from histomri.core.arrays import FloatArray
from histomri.report.collect import Key, Run
from histomri.report.figures import charts
from histomri.report.figures.charts import Card, Chart, Looks, heading, labels_of, new_figure, panels
from histomri.report.figures.correlations import association_card
from histomri.report.figures.prediction import prediction_card
from histomri.report.guard import Failure, section
from histomri.report.text import Label, best_rows, decimals, fit_label, interval_text, label_of, ordered, p_text

_GREY = "#666666"
COLLINEAR = 10.0  # variance inflation from which coefficients cannot be separated
_P, _VIF = 1.02, 1.18  # where the columns of numbers stand, in widths of the axes
_BRACKETS, _COLUMNS, _FEWEST_BOXED = 3, 3, 4
_NEAR = 0.05  # of the range: points closer than this lie beside each other
_SIGNIFICANT = 0.05


def statistics_cards(run: Run) -> Iterator[Card | Failure]:
    """Draw what was computed for the best model: agreement, regression, groups, measurements, predictions."""
    found = best_rows(run)
    with rc_context(charts.STYLE):
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
    for place, (basis, found) in enumerate(run.findings.predictions.items()):
        yield f"Prediction ({basis})", partial(prediction_card, basis, found, aside=place > 0)


def agreement_card(
    rows: pd.DataFrame, agreement: pd.DataFrame, sizes: pd.DataFrame | None, looks: Looks, title: str
) -> Card:
    """Draw the agreement of the samples of one model and strategy, from the tables of `histomri agree`."""
    texts = []
    for row in agreement.to_dict("records"):
        label, second = label_of(row["first"]), label_of(row["second"])
        unit = Label("", "%") if row["relative"] else label
        limits = f"limits of agreement {unit.value(row['lower'])} to {unit.value(row['upper'])}"
        bias = f"bias {unit.value(row['bias'])}"
        interval = f"95\u202f% interval [{unit.value(row['bias_low'])}, {unit.value(row['bias_high'])}]"
        changes = " The difference changes with size: bias and limits hold on average only."
        text = f"{label.name} less {second.name}: {bias}, {interval}; {limits}; N = {row['n']}."
        if np.isfinite(shared := row.get("bias_syst", np.nan)):
            text += f" Bias and limits may be off by {unit.value(shared)} either way by what was said of the sections."
        texts.append(text + (changes if row["p_slope"] < 0.05 else ""))
    texts.append("Bands are 95\u202f% intervals. Classes of size are by histology.")
    chart = _agreement_chart(rows, agreement, sizes, looks, f"MRI less histology: {title}")
    return Card("agreement", "How large is the difference between MRI and histology?", tuple(texts), chart)


def _agreement_chart(
    rows: pd.DataFrame, agreement: pd.DataFrame, sizes: pd.DataFrame | None, looks: Looks, title: str
) -> Chart:
    pairs = [row for row in agreement.to_dict("records") if {row["first"], row["second"]} <= set(rows)]
    figure = new_figure(7.2, 0.6 + 2.3 * len(pairs))
    grid = figure.subplots(len(pairs), 2, width_ratios=(1.45, 1), squeeze=False, sharey="row")
    chart = Chart(figure)
    for (left, right), row in zip(grid, pairs):
        first, second = rows[row["first"]], rows[row["second"]]
        label = label_of(row["first"], [*first, *second])
        _draw_differences(chart, left, rows, row, label, looks)
        mine = sizes[(sizes["first"] == row["first"]) & (sizes["second"] == row["second"])] if sizes is not None else []
        if len(mine):
            _draw_sizes(right, mine, row, label)
        else:
            right.set_visible(False)
    looks.legend(figure, rows)
    heading(figure, title)
    return chart


def _draw_differences(
    chart: Chart, axes: Any, rows: pd.DataFrame, row: Mapping[str, Any], label: Label, looks: Looks
) -> None:
    first, second = (rows[row[side]].to_numpy(dtype=float) / label.divisor for side in ("first", "second"))
    mean, difference = (first + second) / 2, first - second
    if row["relative"]:
        difference = 100 * difference / mean
    scale = 1.0 if row["relative"] else label.divisor
    for name, colour, style, text, side in (
        ("bias", charts.BLUE, "-", "bias", "center"),
        ("upper", _GREY, "--", "+1.96 SD", "bottom"),
        ("lower", _GREY, "--", "\u22121.96 SD", "top"),
    ):
        value, low, high = (row[key] / scale for key in (name, f"{name}_low", f"{name}_high"))
        axes.axhspan(low, high, color=colour, alpha=0.12, linewidth=0)
        axes.axhline(value, color=colour, linestyle=style, linewidth=1.0)
        look = {"va": side, "fontsize": charts.SMALL, "color": colour}
        axes.text(1.01, value, f"{text}  {_short(value)}", transform=axes.get_yaxis_transform(), **look)
    axes.axhline(0, color="#bbbbbb", linewidth=0.6, zorder=0)
    names = [label_of(row[side]) for side in ("first", "second")]
    tips = [
        f"{names[0].name} {names[0].value(a)}\n{names[1].name} {names[1].value(b)}\ndifference {label.value(a - b)}"
        for a, b in zip(rows[row["first"]], rows[row["second"]])
    ]
    looks.draw(chart, axes, rows, mean, difference, tips)
    unit = "%" if row["relative"] else label.scaled_unit
    axes.set_xlabel(f"mean of both{f' ({label.scaled_unit})' if label.scaled_unit else ''}")
    axes.set_ylabel(f"{names[0].name} \u2212 {names[1].name}{f' ({unit})' if unit else ''}")
    slope = f"slope {_short(row['slope'])} [{_short(row['slope_low'])}, {_short(row['slope_high'])}], "
    text = f"{slope}{p_text(row['p_slope'])}, " if np.isfinite(row["slope"]) else ""
    axes.set_title(f"{text}N = {row['n']}", loc="left")


def _draw_sizes(axes: Any, sizes: pd.DataFrame, row: Mapping[str, Any], label: Label) -> None:
    """Draw the bias of each class of size, as wide as the class."""
    scale = 1.0 if row["relative"] else label.divisor
    low, high = (sizes[key].to_numpy(float) / label.divisor for key in ("size_from", "size_to"))
    bias, below, above = (sizes[key].to_numpy(float) / scale for key in ("bias", "bias_low", "bias_high"))
    middle = (low + high) / 2
    axes.axhline(0, color="#bbbbbb", linewidth=0.6, zorder=0)
    axes.hlines(bias, low, high, color=charts.BLUE, linewidth=2.2, alpha=0.55)
    axes.vlines(middle, below, above, color=charts.BLUE, linewidth=1.0)
    axes.plot(middle, bias, "o", color=charts.BLUE, markersize=4)
    look = {"textcoords": "offset points", "ha": "center", "fontsize": charts.SMALL, "color": _GREY}
    for x, y, n in zip(middle, np.where(np.isfinite(above), above, bias), sizes["n"]):
        axes.annotate(f"n = {n}", (x, y), xytext=(0, 3), **look)
    axes.margins(y=0.1)
    axes.set_xlabel(label_of(row["second"], sizes["size_to"]).axis)
    axes.set_title("bias by size", loc="left")
    axes.tick_params(labelleft=False)


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "\u2212") if abs(value) < 100 else f"{value:.0f}".replace("-", "\u2212")


def regression_card(coefficients: pd.DataFrame, models: pd.DataFrame, title: str) -> Card:
    """Draw the regressions of a model and strategy, from the tables of `histomri regress`; collinear ones are open."""
    robust = "allow for several samples of a patient (CR3)" if _over_patients(coefficients) else "are robust (HC3)"
    text = (
        "All values as z-scores (Eq. 16): a coefficient says by how many standard deviations the MRI metric changes "
        f"with one of the histological property, the others held still. Intervals {robust}."
    )
    flagged = coefficients[~(coefficients["VIF"] < COLLINEAR)]
    names = [f"{label_of(row['term']).name} for {label_of(row['response']).name}" for _, row in flagged.iterrows()]
    warning = (
        f"Open squares: variance inflation (VIF) of {COLLINEAR:g} or more ({', '.join(names)}). The properties go "
        "together so closely that their coefficients cannot be separated."
    )
    chart = _regression_chart(coefficients, models, f"Regression on histology: {title}")
    slopes = [_slope_text(row) for row in coefficients.to_dict("records") if np.isfinite(row.get("slope_syst", np.nan))]
    shared = "Slopes in units, with the error of sampling (stat) and that which all sections share (syst): "
    texts = (text, *([warning] if len(flagged) else []), *([f"{shared}{'; '.join(slopes)}."] if slopes else []))
    return Card("regression", "Which property of the tissue does each MRI metric follow?", texts, chart)


def _slope_text(row: Mapping[str, Any]) -> str:
    errors = f"± {_short(row['slope_se'])} stat ± {_short(row['slope_syst'])} syst"
    return f"{label_of(row['response']).name} on {label_of(row['term']).name} {_short(row['slope'])} {errors}"


def _regression_chart(coefficients: pd.DataFrame, models: pd.DataFrame, title: str) -> Chart:
    fits = [row for row in models.to_dict("records") if (coefficients["response"] == row["response"]).any()]
    figure = new_figure(7.2, 0.9 + 0.23 * (len(coefficients) + len(fits)))
    axes, chart = figure.subplots(), Chart(figure)
    names: list[tuple[float, str]] = []
    y = 0.0
    for fit in fits:
        response = label_of(fit["response"]).name
        text = f"{response}:  R² = {decimals(fit['r2'])}, N = {fit['n']}"
        axes.text(0.01, y, text, transform=axes.get_yaxis_transform(), va="center", fontweight="bold")
        for row in coefficients[coefficients["response"] == fit["response"]].to_dict("records"):
            y += 1.0
            names.append((y, label_of(row["term"]).name))
            _draw_coefficient(chart, axes, y, response, row)
        y += 1.4
    axes.axvline(0, color="#999999", linewidth=0.7, zorder=0)
    axes.set_yticks([place for place, _ in names], [name for _, name in names])
    axes.set_ylim(y - 0.6, -0.8)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.08)
    kind = "CR3" if _over_patients(coefficients) else "HC3"
    axes.set_xlabel(f"standardised coefficient, with its 95 % interval ({kind})")
    for place, head in ((_P, f"p ({kind})"), (_VIF, "VIF")):
        axes.text(place, -0.9, head, transform=axes.get_yaxis_transform(), va="bottom", fontsize=7, color="#666666")
    figure.get_layout_engine().set(w_pad=0.12)
    heading(figure, title)
    return chart


def _over_patients(coefficients: pd.DataFrame) -> bool:
    """Tell whether a patient has several rows, so that the standard errors are those over patients."""
    return "p_cr3" in coefficients and bool(coefficients["p_cr3"].notna().any())


def _draw_coefficient(chart: Chart, axes: Any, y: float, response: str, row: Mapping[str, Any]) -> None:
    flagged = not row["VIF"] < COLLINEAR
    colour = charts.ORANGE if flagged else charts.BLUE
    kind = "cr3" if pd.notna(row.get("p_cr3")) else "hc3"  # over patients, where one has several rows
    ends = [row[f"ci_low_{kind}"], row[f"ci_high_{kind}"]]
    interval = interval_text(ends)
    tip = (
        f"{response} on {label_of(row['term']).name}\nbeta {decimals(row['beta'])} {interval}\n"
        f"{p_text(row[f'p_{kind}'])}, VIF {decimals(row['VIF'], 1)}"
    )
    axes.plot(ends, [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
    look = {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.1} if flagged else {}
    chart.points(axes, [row["beta"]], [y], [tip], marker="s", color=colour, markersize=5, zorder=3, **look)
    p = p_text(row[f"p_{kind}"]).removeprefix("p ").removeprefix("= ")
    note, warn = ("  collinear", "#a84a00") if flagged else ("", "black")
    for place, text, ink in ((_P, p, "black"), (_VIF, f"{decimals(row['VIF'], 1)}{note}", warn)):
        axes.text(place, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7, color=ink)


def groups_card(rows: pd.DataFrame, comparisons: pd.DataFrame, looks: Looks, title: str) -> Card:
    """Draw the samples of one model and strategy by group, with the tests of `histomri compare`."""
    pairs = comparisons[["group_a", "group_b"]].drop_duplicates()
    tests, kept = int(comparisons["p_welch"].notna().sum()), int((comparisons["q_welch"] < _SIGNIFICANT).sum())
    which = "The bracket names" if len(pairs) == 1 else "Brackets name, of the pairs with p < 0.05, the three smallest,"
    text = (
        f"Lines are medians, boxes quartiles (from four samples on). {which} p of Welch's t-test and Hedges' g. "
        f"Below 0.05 when adjusted for the number of tests (false discovery rate): {kept} of {tests}."
    )
    return Card("groups", "Do the groups differ?", (text,), _groups_chart(rows, comparisons, looks, f"Groups: {title}"))


def _groups_chart(rows: pd.DataFrame, comparisons: pd.DataFrame, looks: Looks, title: str) -> Chart:
    names = [name for name in ordered(comparisons["column"]) if name in rows]
    figure, axes = panels(len(names), _COLUMNS, height=2.1)
    chart = Chart(figure)
    groups = sorted(set(comparisons["group_a"]) | set(comparisons["group_b"]))
    for place, (panel, name) in enumerate(zip(axes, names)):
        _draw_groups(chart, panel, rows, name, groups, looks)
        _draw_brackets(panel, comparisons[comparisons["column"] == name], groups)
        bottom = place + _COLUMNS >= len(names)
        panel.set_xticks(range(len(groups)), groups if bottom else [""] * len(groups))
        panel.tick_params(axis="x", length=0)
        for text in panel.get_xticklabels():
            text.set(rotation=40, ha="right", rotation_mode="anchor")
            text.set_in_layout(panel.get_subplotspec().is_last_row())  # above an empty place there is room for it
    looks.legend(figure, rows.assign(group=None))  # the groups stand below the panels
    heading(figure, title)
    return chart


def _draw_groups(chart: Chart, axes: Any, rows: pd.DataFrame, name: str, groups: Sequence[str], looks: Looks) -> None:
    label = label_of(name, rows[name])
    values = rows[name].to_numpy(dtype=float) / label.divisor
    labels = labels_of(rows, "group").to_numpy()
    places = np.full(len(rows), np.nan)
    spread = np.ptp(values[np.isfinite(values)]) if np.isfinite(values).any() else 0.0
    for place, group in enumerate(groups):
        mine = np.flatnonzero((labels == group) & np.isfinite(values))
        places[mine] = place + _beside(values[mine], _NEAR * spread)
        if mine.size >= _FEWEST_BOXED:
            low, middle, high = np.percentile(values[mine], [25, 50, 75])
            axes.bar(place, high - low, 0.66, low, color=looks.colours[group], alpha=0.16, zorder=1)
            axes.plot([place - 0.33, place + 0.33], [middle] * 2, color=looks.colours[group], linewidth=1.4, zorder=2)
    looks.draw(chart, axes, rows, places, values, [f"{label.name} {label.value(value)}" for value in rows[name]])
    axes.set(ylabel=label.axis, xlim=(-0.6, len(groups) - 0.4))


def _beside(values: FloatArray, near: float) -> FloatArray:
    """Return shifts to either side, so that values that are nearly alike do not hide each other."""
    shifts, alike = np.zeros(len(values)), 0
    for before, this in pairwise(np.argsort(values, kind="stable")):
        alike = alike + 1 if values[this] - values[before] < near else 0
        shifts[this] = 0.13 * ((alike + 1) // 2) * (1 if alike % 2 else -1)
    return np.clip(shifts, -0.4, 0.4)


def _draw_brackets(axes: Any, pairs: pd.DataFrame, groups: Sequence[str]) -> None:
    """Name p and effect of the only pair of groups, or of the few with the smallest p below 0.05."""
    tested = pairs[pairs["p_welch"].notna()].sort_values("p_welch", kind="stable")
    shown = tested if len(pairs) == 1 else tested[tested["p_welch"] < _SIGNIFICANT].head(_BRACKETS)
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
    axes.spines["left"].set_bounds(low, high)
    step, span = 0.16 * (high - low), len(groups)
    for nth, row in enumerate(shown.to_dict("records")):
        ends = sorted(groups.index(row[side]) for side in ("group_a", "group_b"))
        y = high + (0.3 + nth) * step
        axes.plot([ends[0], *ends, ends[1]], [y - 0.2 * step, y, y, y - 0.2 * step], color="#555555", linewidth=0.7)
        text = f"{p_text(row['p_welch'])}, g = {decimals(row['hedges_g'], 1)}"
        middle = np.clip(0.5 * sum(ends), 0.33 * span - 0.5, 0.67 * span - 0.5)  # so that the text stays on the panel
        axes.text(middle, y + 0.08 * step, text, ha="center", va="bottom", fontsize=charts.SMALL, color="#333333")
    axes.set_ylim(low, high + (0.3 + max(len(shown), 1)) * step)
    if not len(shown):
        text = "no pair with p < 0.05" if len(tested) else "too few for a test"
        axes.text(0.5 * (span - 1), high, text, ha="center", va="bottom", fontsize=charts.SMALL, color="#555555")
