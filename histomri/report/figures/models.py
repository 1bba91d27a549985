"""The figures of the models: their ranking, and their residuals, fitted minus measured signals by b."""

from typing import Any

import pandas as pd

from histomri.report.collect import Run
from histomri.report.figures.charts import COLOURS, heading, new_figure
from histomri.report.text import is_compared, model_name, rows_of

_INK, _MUTED, _RULE = "#1d2a35", "#5b6b78", "#e3e8ec"
_COLOUR, _MARK = {"whole": "#0072b2", "high-b": "#d55e00"}, {"whole": "o", "high-b": "s"}
_MARKERS = "os^Dv<>P"
_SPREAD_SMM2 = 18.0  # between bars at one b, or they would hide each other
_TIMES = {"delta_ms": "δ", "Delta_ms": "Δ", "te_ms": "TE"}


def ranking_plot(ranking: list[dict[str, Any]]) -> Any:
    """Return the ranking as a figure of matplotlib."""
    figure = new_figure(10.6, 1.15 + 0.36 * len(ranking))
    tcs, hfc, bic = figure.subplots(1, 3, sharey=True, width_ratios=(1.5, 1, 1))
    for place, row in enumerate(ranking):
        _draw_row(tcs, hfc, bic, place, row)
    notes = ["" if is_compared(row) else "\n(other samples)" for row in ranking]
    names = [f"{model_name(row['model'])}  ·  {row['strategy']}{note}" for row, note in zip(ranking, notes)]
    tcs.set_yticks(range(len(ranking)), names)
    tcs.set_ylim(len(ranking) - 0.4, -0.6)
    _titles(tcs, "TCS and its 95 % interval  (higher is better)")
    _titles(hfc, "HFC, mean  (lower is better)")
    _titles(bic, "won by BIC  (%, within a strategy)")
    tcs.margins(x=0.06)
    if tcs.get_xlim()[0] < 0:
        tcs.axvline(0, color=_MUTED, linewidth=0.8)
    hfc.set_xlim(left=0)
    bic.set_xlim(0, 105)
    return figure


def _draw_row(tcs: Any, hfc: Any, bic: Any, place: int, row: dict[str, Any]) -> None:
    colour, mark = _COLOUR.get(row["strategy"], _INK), _MARK.get(row["strategy"], "o")
    colour = colour if is_compared(row) else _MUTED
    if row["TCS"] is not None:
        if row["TCS_ci"]:
            tcs.plot(row["TCS_ci"], [place, place], color=colour, linewidth=2.2, alpha=0.55, solid_capstyle="round")
        tcs.plot(row["TCS"], place, mark, color=colour, markersize=7, markeredgecolor="white")
    else:
        tcs.text(0.02, place, "undefined", va="center", color=_MUTED, transform=tcs.get_yaxis_transform())
    if row["HFC_mean"] is not None:
        hfc.barh(place, row["HFC_mean"], height=0.5, color=colour, alpha=0.85)
    if row["BIC_share"] is not None:
        bic.barh(place, 100 * row["BIC_share"], height=0.5, color=colour, alpha=0.85)
    else:
        bic.text(2, place, "no vote", va="center", color=_MUTED)


def _titles(axes: Any, text: str) -> None:
    axes.set_title(text, fontsize=9.5, color=_INK, loc="left")
    axes.grid(axis="x", color=_RULE)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=_INK)
    axes.spines[:].set_visible(False)


def residuals_by_scanner(run: Run) -> dict[str, pd.DataFrame]:
    """Return the residuals of each scanner."""
    tables = run.residuals.groupby("scanner", sort=False) if run.residuals is not None else ()
    return {str(scanner): table for scanner, table in tables}


def residuals_plot(table: pd.DataFrame, title: str) -> Any:
    """Plot rows of residuals.csv of one scanner by b: medians and quartiles over the voxels of all samples.

    A line for each diffusion time and echo time: colour is δ and Δ, the marker TE.
    """
    strategies, models = (list(dict.fromkeys(table[name])) for name in ("strategy", "model"))
    width = max(4.6, 0.7 + 2.3 * len(models))  # room for the title
    figure = new_figure(width, 1.0 + 1.6 * len(strategies))
    panels = figure.subplots(len(strategies), len(models), sharey=True, squeeze=False)
    lines = _lines(table)
    for row, strategy in zip(panels, strategies):
        for axes, model in zip(row, models):
            _draw(axes, rows_of(table, (model, strategy)), lines)
            axes.set_title(f"{model_name(model)}, {strategy}", loc="left")
        row[0].set_ylabel("fit − measured\n(signal at b = 0)")
    for axes in panels[-1]:
        axes.set_xlabel("b (s/mm²)")
    handles = {text: line for axes in panels.flat for line, text in zip(*axes.get_legend_handles_labels())}
    columns = int(width / (0.45 + 0.07 * max(map(len, handles))))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=max(1, columns))
    samples = _range(table["n_samples"])
    text = f"Residuals, {title}: {samples} sample{'' if samples == '1' else 's'}, N = {_range(table['n'])} per point"
    heading(figure, f"{text}\npoints: medians over the voxels of all samples, bars: quartiles")
    return figure


def _lines(table: pd.DataFrame) -> pd.DataFrame:
    """Return the distinct times, with the label, colour and marker of their lines."""
    lines = table[list(_TIMES)].drop_duplicates().sort_values(["Delta_ms", "delta_ms", "te_ms"])
    named = [name for name in _TIMES if name == "Delta_ms" or lines[name].nunique() > 1]
    lines["text"] = [
        ", ".join(f"{_TIMES[name]} {row[name]:.4g}" for name in named if pd.notna(row[name])) + " ms"
        for row in lines.to_dict("records")
    ]
    when = lines.groupby(["Delta_ms", "delta_ms"], sort=False).ngroup()
    echo = lines.groupby("te_ms", sort=True, dropna=False).ngroup()
    lines["colour"] = [COLOURS[place % len(COLOURS)] for place in when]
    lines["marker"] = [_MARKERS[place % len(_MARKERS)] for place in echo]
    return lines


def _draw(axes: Any, part: pd.DataFrame, lines: pd.DataFrame) -> None:
    placed = part.merge(lines.assign(place=range(len(lines))), on=list(_TIMES)).sort_values(["place", "b_smm2"])
    alike = placed.groupby("b_smm2")["place"]
    placed["x"] = placed["b_smm2"] + _SPREAD_SMM2 * (alike.cumcount() - (alike.transform("size") - 1) / 2)
    for _, line in placed.groupby("place"):
        ends = [line["median"] - line["q25"], line["q75"] - line["median"]]
        marker, colour, text = line.iloc[0][["marker", "colour", "text"]]
        look = {"fmt": f"{marker}-", "markersize": 3, "linewidth": 0.8, "elinewidth": 0.8, "color": colour}
        axes.errorbar(line["x"], line["median"], ends, label=text, **look)
    axes.axhline(0, color="#777777", linewidth=0.6)


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
