"""The figure of the residuals: fitted minus measured signals by b."""

from typing import Any

import pandas as pd

from histomri.report.collect import Run
from histomri.report.figures.charts import COLOURS, heading, new_figure
from histomri.report.text import model_name

_MARKERS = "os^Dv<>P"
_SPREAD_SMM2 = 18.0  # between bars at one b, or they would hide each other
_TIMES = {"delta_ms": "δ", "Delta_ms": "Δ", "te_ms": "TE"}


def residuals_by_scanner(run: Run) -> dict[str, pd.DataFrame]:
    """Return the residuals of each scanner."""
    if run.residuals is None:
        return {}
    return {str(scanner): table for scanner, table in run.residuals.groupby("scanner", sort=False)}


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
            part = table[(table["model"] == model) & (table["strategy"] == strategy)]
            _draw(axes, part, lines)
            axes.set_title(f"{model_name(model)}, {strategy}", loc="left")
        row[0].set_ylabel("fit − measured\n(signal at b = 0)")
    for axes in panels[-1]:
        axes.set_xlabel("b (s/mm²)")
    handles = {text: line for axes in panels.flat for line, text in zip(*axes.get_legend_handles_labels())}
    columns = int(width / (0.45 + 0.07 * max(map(len, handles))))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=max(1, columns))
    samples = _range(table["n_samples"])
    text = f"Residuals, {title}: {samples} sample{'' if samples == '1' else 's'}, N = {_range(table['n'])} per point"
    bars = "points: medians over the voxels of all samples, bars: quartiles"
    heading(figure, f"{text}\n{bars}")
    return figure


def _lines(table: pd.DataFrame) -> pd.DataFrame:
    """Return the distinct times, with the label, colour and marker of their lines."""
    lines = table[list(_TIMES)].drop_duplicates().sort_values(["Delta_ms", "delta_ms", "te_ms"])
    named = [name for name in _TIMES if name == "Delta_ms" or lines[name].nunique() > 1]
    texts = [
        ", ".join(f"{_TIMES[name]} {row[name]:.4g}" for name in named if pd.notna(row[name])) + " ms"
        for row in lines.to_dict("records")
    ]
    when = lines.groupby(["Delta_ms", "delta_ms"], sort=False).ngroup()
    echo = lines.groupby("te_ms", sort=True, dropna=False).ngroup()
    return lines.assign(
        text=texts,
        colour=[COLOURS[place % len(COLOURS)] for place in when],
        marker=[_MARKERS[place % len(_MARKERS)] for place in echo],
    )


def _draw(axes: Any, part: pd.DataFrame, lines: pd.DataFrame) -> None:
    placed = part.merge(lines.assign(place=range(len(lines))), on=list(_TIMES)).sort_values(["place", "b_smm2"])
    nth = placed.groupby("b_smm2").cumcount()
    beside = nth - (placed.groupby("b_smm2")["place"].transform("size") - 1) / 2
    placed["x"] = placed["b_smm2"] + _SPREAD_SMM2 * beside
    for _, line in placed.groupby("place"):
        ends = [line["median"] - line["q25"], line["q75"] - line["median"]]
        look = line.iloc[0]
        axes.errorbar(
            line["x"], line["median"], ends, fmt=f"{look['marker']}-", markersize=3, linewidth=0.8, elinewidth=0.8,
            color=look["colour"], label=look["text"],
        )  # fmt: skip
    axes.axhline(0, color="#777777", linewidth=0.6)


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
