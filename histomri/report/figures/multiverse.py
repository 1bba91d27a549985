"""The specification curve: TCS in every way to analyse a study, and the choices behind each."""

from typing import Any

import pandas as pd

from histomri.report.figures.charts import BLUE, GREY, ORANGE, heading, legend_below, new_figure
from histomri.report.text import fit_label

_ROW_INCHES = 0.17


def specification_curve(table: pd.DataFrame, choices: dict[str, list[Any]]) -> Any:
    """Draw TCS of every specification in order, that of the reported one marked, and below which choices it has.

    Parameters
    ----------
    table : DataFrame
        Rows of multiverse.csv.
    choices : dict
        Values of each choice, by the names of their columns; those with one value are not drawn.

    Returns
    -------
    Figure or None
        Of the model that is reported as the first (or has the highest TCS); None if it has no TCS.
    """
    known = table[table["TCS"].notna()]
    if known.empty:
        return None
    leading = known[known["reported"]] if known["reported"].any() else known
    key = leading.loc[leading["TCS"].idxmax(), ["model", "strategy"]]
    mine = known[(known["model"] == key["model"]) & (known["strategy"] == key["strategy"])]
    mine = mine.sort_values("TCS", kind="stable").reset_index(drop=True)
    places = dict(zip(mine["specification"], mine.index))
    rows = [(name, value) for name, values in choices.items() if len(values) > 1 for value in values]
    figure = new_figure(8.0, 3.2 + _ROW_INCHES * len(rows))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, max(0.2, _ROW_INCHES * len(rows))))
    others = known[~known.index.isin(mine.index) & known["specification"].isin(places)]
    above.plot(others["specification"].map(places), others["TCS"], ".", color=GREY, markersize=2, alpha=0.5)
    first = mine["rank"].eq(1)
    for part, colour in ((first, BLUE), (~first, ORANGE)):
        above.plot(mine.index[part], mine.loc[part, "TCS"], "o", color=colour, markersize=3)
    for place in mine.index[mine["reported"]]:
        above.axvline(place, color="black", linewidth=0.8)
        below.axvline(place, color="black", linewidth=0.8)
        above.plot([place], [mine.loc[place, "TCS"]], "D", color="black", markersize=5)
    above.set_ylabel("TCS")
    above.grid(axis="y", color="#eeeeee")
    for place, (name, value) in enumerate(rows):
        chosen = mine[name].astype(str).eq(str(value))
        below.plot(mine.index[chosen], [place] * int(chosen.sum()), "|", color=BLUE, markersize=4)
    below.set_yticks(range(len(rows)), [f"{name}: {value}" for name, value in rows], fontsize=6.5)
    below.set_ylim(len(rows) - 0.4, -0.6)
    below.tick_params(axis="y", length=0)
    below.set_xlabel(f"specification, in the order of TCS (N = {len(mine)})")
    label = fit_label((str(key["model"]), str(key["strategy"])))
    keys = [(f"{label}, ranks first", "o", BLUE), ("the same, another is higher", "o", ORANGE)]
    legend_below(figure, [*keys, ("as reported", "D", "black"), ("other models", ".", GREY)])
    heading(figure, f"TCS of {label} in {len(mine)} specifications")
    return figure
