"""The ranking of models as a figure."""

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from histomri.report.text import is_compared, model_name

_INK, _MUTED, _RULE = "#1d2a35", "#5b6b78", "#e3e8ec"
_COLOUR = {"whole": "#0072b2", "high-b": "#d55e00"}
_MARK = {"whole": "o", "high-b": "s"}


def ranking_plot(ranking: list[dict[str, Any]]) -> Any:
    """Return the ranking as a figure of matplotlib."""
    figure = Figure(figsize=(10.6, 1.15 + 0.36 * len(ranking)), layout="constrained")
    FigureCanvasAgg(figure)
    tcs, hfc, bic = figure.subplots(1, 3, sharey=True, width_ratios=(1.5, 1, 1))
    for place, row in enumerate(ranking):
        _draw_row(tcs, hfc, bic, place, row)
    names = [
        f"{model_name(row['model'])}  ·  {row['strategy']}" + ("" if is_compared(row) else "\n(other samples)")
        for row in ranking
    ]
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
