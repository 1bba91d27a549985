"""What the ranking hangs on: TCS of the models without each sample, or patient."""

from typing import Any

import numpy as np
import pandas as pd

from histomri.report.figures.charts import BLUE, GREY, ORANGE, Card, Chart, heading, legend_below, new_figure
from histomri.report.text import decimals, fit_label

MOST = 20  # units that are drawn: the most influential ones
_TABLED = 10


def influence_card(influence: pd.DataFrame) -> Card | None:
    """Draw TCS of every compared model without each sample (or patient), the most influential of them first.

    `influence` are the columns `INFLUENCE_COLUMNS` of scores_influence.csv; None if no model has a TCS.
    """
    first = first_of(influence)
    if first is None:
        return None
    order = first.sort_values("change", key=abs, ascending=False, kind="stable")
    shown = order.head(MOST)["left_out"].tolist()
    unit = str(first["unit"].iloc[0])
    chart = Chart(new_figure(7.2, 1.0 + 0.2 * len(shown)))
    axes = chart.figure.subplots()
    places = {name: place for place, name in enumerate(shown)}
    for key, part in influence.groupby(["model", "strategy"], sort=False):
        mine = part[part["left_out"].isin(shown) & part["TCS_without"].notna()]
        leads = (part["model"].iloc[0], part["strategy"].iloc[0]) == _key(first)
        falls = leads & mine["rank_without"].ne(1).to_numpy()
        for kept, colour in ((~falls, BLUE if leads else GREY), (falls, ORANGE)):
            rows = mine[kept]
            look = {"marker": "o", "color": colour, "markersize": 5 if leads else 3.5, "zorder": 3 if leads else 2}
            if len(rows):
                chart.points(axes, rows["TCS_without"], rows["left_out"].map(places), _tips(rows, key, unit), **look)
    axes.axvline(float(first["TCS"].iloc[0]), color=BLUE, linewidth=0.8, zorder=1)
    axes.set_yticks(range(len(shown)), [f"without {name}" for name in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(f"TCS of the other {unit}s")
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)
    label = fit_label(_key(first))
    keys = [(label, "o", BLUE), ("the same where another is higher", "o", ORANGE), ("other models", "o", GREY)]
    models = influence.drop_duplicates(["model", "strategy"]).shape[0]
    legend_below(chart.figure, keys if models > 1 else keys[:1])
    among = f"{len(first)} {unit}s" + (f", the {len(shown)} most influential" if len(first) > len(shown) else "")
    heading(chart.figure, f"Without one of {among}; the line is TCS of all")
    return Card("influence", f"What the ranking hangs on: one {unit} left out", _texts(first, models), chart)


def influence_rows(influence: pd.DataFrame) -> list[dict[str, str]]:
    """Return the most influential samples (or patients) for the table: TCS and rank of the first model without each."""
    first = first_of(influence)
    if first is None:
        return []
    leading = influence[influence["rank_without"] == 1].groupby("left_out", sort=False)
    leaders = {name: "; ".join(fit_label(_key(part.iloc[[k]])) for k in range(len(part))) for name, part in leading}
    rows = []
    for row in first.sort_values("change", key=abs, ascending=False, kind="stable").head(_TABLED).to_dict("records"):
        rank = "–" if pd.isna(row["rank_without"]) else f"{row['rank_without']:.0f}"
        numbers = {"without": decimals(row["TCS_without"]), "change": decimals(row["change"]), "rank": rank}
        about = {"left_out": str(row["left_out"]), "n_rows": str(row["n_rows"])}
        rows.append({**about, **numbers, "first": leaders.get(row["left_out"], "–")})
    return rows


def first_of(influence: pd.DataFrame) -> pd.DataFrame | None:
    """Return the rows of the model that has the highest TCS of all; None if it has none without any of them."""
    known = influence[influence["rank"].eq(1) & influence["TCS"].notna()]
    if known.empty:
        return None
    model, strategy = known.iloc[0][["model", "strategy"]]
    first = known[(known["model"] == model) & (known["strategy"] == strategy)]
    return first if first["TCS_without"].notna().any() else None


def _key(rows: pd.DataFrame) -> tuple[str, str]:
    return str(rows["model"].iloc[0]), str(rows["strategy"].iloc[0])


def _tips(rows: pd.DataFrame, key: Any, unit: str) -> list[str]:
    return [
        f"without {unit} {row['left_out']}\n{fit_label(key)}\nTCS {decimals(row['TCS_without'])} "
        f"({decimals(row['TCS'])} of all), rank {'–' if pd.isna(row['rank_without']) else int(row['rank_without'])}"
        for row in rows.to_dict("records")
    ]


def _texts(first: pd.DataFrame, models: int) -> tuple[str, ...]:
    low, high = np.nanmin(first["TCS_without"]), np.nanmax(first["TCS_without"])
    unit = first["unit"].iloc[0]
    text = f"Without one {unit}, TCS of {fit_label(_key(first))} lies between {decimals(low)} and {decimals(high)}"
    text += f" ({decimals(first['TCS'].iloc[0])} of all)."
    falls = int(first["rank_without"].ne(1).sum())
    if models > 1:
        text += f" It is the highest whichever {unit} is left out." if not falls else (
            f" Another model is higher without one of {falls} of the {len(first)} {unit}s."
        )  # fmt: skip
    return (text,)
