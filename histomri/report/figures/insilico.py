"""The figures of an in-silico study: scores by permeability, and estimates against the truth."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from histomri.report.figures.charts import COLOURS, MARKERS, SMALL, Card, Chart, heading, legend_below, new_figure
from histomri.report.text import decimals, model_name, percent

_FIT = ["strategy", "model"]
_SHADES = ("#0072b2", "#56b4e9", "#e69f00", "#d55e00", "#cc79a7", "#000000")  # of permeabilities, low to high
_WIDE = 0.62  # of the space between two permeabilities, what the models of one take
_WRITTEN = 0.09  # fractions from which a bar says its number
_TRUTH = {"vCS": ("vCS_um", "vCS_mri_um", "vCS (µm)"), "F": ("F", "F_mri", "F")}


def tcs_card(scores: pd.DataFrame, snr: float) -> Card:
    """Draw TCS by permeability, with intervals: a panel for each protocol and strategy."""
    texts = (
        "TCS is r(vCS) + r(F) between fits and truth over the tissues, 2 at best. Bars are 95\u202f% intervals; those "
        "of two models can overlap although their paired difference is clear: the claims use the difference.",
    )
    chart = _scores_chart(scores, "TCS", f"TCS by permeability, SNR {snr:g}")
    return Card(_name("tcs", snr), f"How well do sizes and fractions follow the truth? (SNR {snr:g})", texts, chart)


def hfc_card(scores: pd.DataFrame, snr: float) -> Card:
    """Draw the mean HFC by permeability, with intervals."""
    texts = (
        "HFC is |vCS − truth|/truth + |F − truth|/truth, lower is better; means over the tissues, 95\u202f% intervals.",
    )
    chart = _scores_chart(scores, "HFC", f"Mean HFC by permeability, SNR {snr:g}")
    return Card(_name("hfc", snr), f"How far are sizes and fractions from the truth? (SNR {snr:g})", texts, chart)


def wins_card(scores: pd.DataFrame, snr: float) -> Card:
    """Draw in how many of the tissues each model has the lowest HFC, and the lowest BIC."""
    protocols, strategies, models, kappas = _axes_of(scores)
    rows = [(criterion, strategy) for criterion in ("HFC", "BIC") for strategy in strategies]
    figure = new_figure(7.2, 0.8 + 1.35 * len(rows))
    panels = figure.subplots(len(rows), len(protocols), squeeze=False, sharex=True, sharey=True)
    for line, (criterion, strategy) in zip(panels, rows):
        for axes, protocol in zip(line, protocols):
            part = scores[(scores["protocol"] == protocol) & (scores["strategy"] == strategy)]
            _stack(axes, part, f"{criterion}_wins", models, kappas)
            axes.set_title(f"{protocol}, {strategy}", loc="left")
        line[0].set_ylabel(f"lowest {criterion}\n(% of tissues)")
    for axes in panels[-1]:
        _kappa_ticks(axes, kappas)
    panels[0, 0].set_ylim(0, 104)
    _legend(figure, models, square=True)
    heading(figure, f"Models with the lowest HFC and BIC, SNR {snr:g}")
    texts = (
        "HFC is known only where the truth is; BIC only needs the signals. Among the models of one strategy. "
        "tableS2.csv and tableS3.csv have the numbers, with intervals.",
    )
    return Card(_name("wins", snr), f"Which model do HFC and BIC prefer? (SNR {snr:g})", texts, Chart(figure))


def estimates_card(estimates: pd.DataFrame, protocol: str, snr: float, *, aside: bool = False) -> Card:
    """Draw estimates against the truth of one protocol and SNR: medians and quartiles, by permeability."""
    table = estimates[(estimates["protocol"] == protocol) & (estimates["snr"] == snr)]
    _, strategies, models, kappas = _axes_of(table)
    rows = [(name, strategy) for name in _TRUTH for strategy in strategies]
    figure = new_figure(7.2, 0.8 + 1.45 * len(rows))
    panels = figure.subplots(len(rows), len(models), squeeze=False, sharey="row")
    chart = Chart(figure)
    for line, (name, strategy) in zip(panels, rows):
        _estimates_row(chart, line, table[table["strategy"] == strategy], name, models, kappas)
        line[0].set_ylabel(f"{_TRUTH[name][2]}, fitted\n{strategy}")
    colours = [(f"κ {kappa:g} µm/s", "o", _shade(place)) for place, kappa in enumerate(kappas)]
    legend_below(figure, colours if len(kappas) > 1 else [])
    heading(figure, f"Estimates against truth, {protocol}, SNR {snr:g}")
    texts = ("Points are medians over the tissues of the same truth, bars quartiles; the dashed line is equality.",)
    title = f"What do the models estimate? ({protocol}, SNR {snr:g})"
    return Card(_name(f"estimates-{_plain(protocol)}", snr), title, texts, chart, aside)


def _scores_chart(scores: pd.DataFrame, score: str, title: str) -> Chart:
    protocols, strategies, models, kappas = _axes_of(scores)
    figure = new_figure(7.2, 0.8 + 1.9 * len(strategies))
    panels = figure.subplots(len(strategies), len(protocols), squeeze=False, sharex=True, sharey=True)
    chart = Chart(figure)
    for line, strategy in zip(panels, strategies):
        for axes, protocol in zip(line, protocols):
            part = scores[(scores["protocol"] == protocol) & (scores["strategy"] == strategy)]
            _dodged(chart, axes, part, score, models, kappas)
            axes.set_title(f"{protocol}, {strategy}", loc="left")
        line[0].set_ylabel(score if score == "TCS" else f"{score}, mean")
    for axes in panels[-1]:
        _kappa_ticks(axes, kappas)
    _legend(figure, models)
    heading(figure, title)
    return chart


def _dodged(
    chart: Chart, axes: Any, part: pd.DataFrame, score: str, models: Sequence[str], kappas: Sequence[float]
) -> None:
    for place, model in enumerate(models):
        mine = part[part["model"] == model]
        x = [kappas.index(kappa) + _beside(place, len(models)) for kappa in mine["kappa_um_s"]]
        value, low, high = (mine[name].to_numpy(float) for name in (score, f"{score}_low", f"{score}_high"))
        axes.vlines(x, low, high, color=COLOURS[place % len(COLOURS)], linewidth=1.5, alpha=0.55)
        tips = [
            f"{model_name(model)}\nκ {kappa:g} µm/s\n{score} {decimals(a)} [{decimals(b)}, {decimals(c)}]"
            for kappa, a, b, c in zip(mine["kappa_um_s"], value, low, high)
        ]
        look = {"marker": _marker(place), "color": COLOURS[place % len(COLOURS)], "markersize": 4.5, "zorder": 3}
        chart.points(axes, x, value, tips, **look)
    axes.grid(axis="y", color="#e8ecef", linewidth=0.6)
    axes.set_axisbelow(True)


def _stack(axes: Any, part: pd.DataFrame, column: str, models: Sequence[str], kappas: Sequence[float]) -> None:
    bottom = np.zeros(len(kappas))
    for place, model in enumerate(models):
        mine = part[part["model"] == model].set_index("kappa_um_s")[column]
        share = np.array([float(mine.get(kappa, 0.0)) for kappa in kappas])
        axes.bar(range(len(kappas)), 100 * share, 0.7, 100 * bottom, color=COLOURS[place % len(COLOURS)], linewidth=0)
        for x, (from_, height) in enumerate(zip(bottom, share)):
            if height >= _WRITTEN:
                look = {"ha": "center", "va": "center", "fontsize": SMALL, "color": "white"}
                text = percent(height).removesuffix("\u202f%")
                axes.text(x, 100 * (from_ + height / 2), text, **look).set_in_layout(False)
        bottom += share


def _estimates_row(
    chart: Chart, line: Sequence[Any], table: pd.DataFrame, name: str, models: Sequence[str], kappas: Sequence[float]
) -> None:
    truth, estimate, label = _TRUTH[name]
    levels = sorted(table[truth].unique())
    ends = np.array([levels[0], levels[-1]], dtype=float)
    # Of the narrowest gap, so that the permeabilities of neighbouring truths keep apart.
    gap = float(np.diff(levels).min()) if len(levels) > 1 else 0.1 * ends[0]
    for axes, model in zip(line, models):
        axes.plot(ends, ends, linestyle="--", color="#999999", linewidth=0.8, zorder=0)
        for place, kappa in enumerate(kappas):
            part = table[(table["model"] == model) & (table["kappa_um_s"] == kappa)].groupby(truth)[estimate]
            low, middle, high = (part.quantile(q) for q in (0.25, 0.5, 0.75))
            x = middle.index.to_numpy(float) + gap * _beside(place, len(kappas))
            axes.vlines(x, low, high, color=_shade(place), linewidth=1.4, alpha=0.6)
            tips = [
                f"{model_name(model)}, κ {kappa:g} µm/s\n{label}: truth {a:.3g}, median {b:.3g}\n"
                f"quartiles {c:.3g}, {d:.3g}"
                for a, b, c, d in zip(middle.index, middle, low, high)
            ]
            chart.points(axes, x, middle.to_numpy(), tips, marker="o", color=_shade(place), markersize=3.5, zorder=3)
        axes.set_title(model_name(model), loc="left")
        ticks = [f"{level:.2f}".removeprefix("0") if name == "F" else f"{level:g}" for level in levels]
        axes.set_xticks(levels, ticks, fontsize=SMALL)
        axes.set_xlim(ends[0] - 0.7 * gap, ends[1] + 0.7 * gap)
        axes.set_xlabel(f"{label}, true")


def _axes_of(table: pd.DataFrame) -> tuple[list[str], list[str], list[str], list[float]]:
    protocols, strategies, models = (list(dict.fromkeys(table[name])) for name in ("protocol", *_FIT))
    return protocols, strategies, models, sorted(table["kappa_um_s"].unique().tolist())


def _kappa_ticks(axes: Any, kappas: Sequence[float]) -> None:
    axes.set_xticks(range(len(kappas)), [f"{kappa:g}" for kappa in kappas])
    axes.set_xlim(-0.5, len(kappas) - 0.5)
    axes.set_xlabel("permeability κ (µm/s)")


def _beside(place: int, count: int) -> float:
    return _WIDE * ((place + 0.5) / count - 0.5)


def _legend(figure: Any, models: Sequence[str], *, square: bool = False) -> None:
    keys: Iterator[tuple[str, str, str]] = (
        (model_name(model), "s" if square else _marker(place), COLOURS[place % len(COLOURS)])
        for place, model in enumerate(models)
    )
    legend_below(figure, list(keys))


def _marker(place: int) -> str:
    return MARKERS[place % len(MARKERS)]


def _shade(place: int) -> str:
    return _SHADES[place % len(_SHADES)]


def _name(what: str, snr: float) -> str:
    return f"{what}-snr{_plain(f'{snr:g}')}"


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
