"""What the figures share: style, colours, points that say their values, and SVG for the report."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Okabe & Ito, without the yellow that vanishes on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
STYLE = {
    "font.size": 8, "axes.titlesize": 8.5, "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "svg.fonttype": "path", "svg.hashsalt": "histomri", "pdf.fonttype": 42,
    "figure.dpi": 100, "savefig.dpi": 300,
}  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "h", "*")
BLUE, ORANGE, GREY = COLOURS[0], COLOURS[1], "#888888"
SMALL = 6.5  # points, of what is written beside the data
_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_POINT = f"{{{_SVG}}}use"
_CAPS = {"o": "round", "s": "square"}  # of lines so short that their ends are the marker
_DOTS = 100  # in one path: within it they do not darken each other, so that many paths show where points crowd


@dataclass
class Chart:
    """A figure of matplotlib, and the tips of its points: the text that the report shows for each."""

    figure: Any
    tips: dict[str, list[str]] = field(default_factory=dict)  # by the id of a group of points, in their order
    clouds: dict[str, dict[str, str]] = field(default_factory=dict)  # what the SVG says of a group of many points

    def points(self, axes: Any, x: Any, y: Any, tips: Sequence[str], **style: Any) -> None:
        """Draw points with a tip each, coloured by the values `c` if the style has them."""
        name = f"points{len(self.tips)}"
        if "c" in style:
            axes.scatter(x, y, gid=name, **style)
        else:
            axes.plot(x, y, gid=name, linestyle="", **{"markeredgecolor": "white", "markeredgewidth": 0.4, **style})
        self.tips[name] = list(tips)

    def cloud(
        self, axes: Any, x: Any, y: Any, template: str, values: Sequence[str], *, marker: str, colour: str, size: float
    ) -> None:
        """Draw up to thousands of points, which the report carries as a few paths.

        A tip is the template with {} filled by the values of the point, which have spaces between them; the marker is
        "o" or "s", `size` points wide.
        """
        name = f"cloud{len(self.clouds)}"
        look = {"marker": marker, "color": colour, "markersize": size, "alpha": 0.45, "markeredgewidth": 0}
        axes.plot(x, y, gid=name, linestyle="", **look)
        pen = f"stroke:{colour};stroke-width:{size:g};stroke-opacity:0.45;stroke-linecap:{_CAPS[marker]}"
        self.clouds[name] = {"data-tip": template, "data-values": ";".join(values), "style": pen}


@dataclass(frozen=True)
class Card:
    """A figure of the report with its heading and its findings as text; its file is called `name`."""

    name: str
    heading: str
    text: tuple[str, ...]
    chart: Chart
    aside: bool = False  # whether it repeats another figure in another way


@dataclass(frozen=True)
class Looks:
    """The colour of each group and the marker of each scanner, the same in all figures of a run."""

    colours: dict[str, str]
    markers: dict[str, str]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Looks":
        """Give the groups and the scanners of a table their looks, in alphabetical order; those without come last."""

        def looks(name: str, choice: Sequence[str]) -> dict[str, str]:
            found = sorted(labels_of(rows, name).unique(), key=lambda label: (not label, label))
            return dict(zip(found, cycle(choice)))

        return cls(looks("group", COLOURS), looks("scanner", MARKERS))

    def draw(self, chart: Chart, axes: Any, rows: pd.DataFrame, x: Any, y: Any, tips: Sequence[str]) -> None:
        """Draw a point for each row at the given places; rows without a place are left out."""
        across, along = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        known = np.isfinite(across) & np.isfinite(along)
        groups, scanners = labels_of(rows, "group").to_numpy(), labels_of(rows, "scanner").to_numpy()
        for group, colour in self.colours.items():
            for scanner, marker in self.markers.items():
                mine = np.flatnonzero(known & (groups == group) & (scanners == scanner)).tolist()
                if mine:
                    own = [f"{sample_name(rows, place)}\n{tips[place]}" for place in mine]
                    look = {"marker": marker, "color": colour, "markersize": 4.5, "zorder": 3}
                    chart.points(axes, across[mine], along[mine], own, **look)

    def legend(self, figure: Any, rows: pd.DataFrame) -> None:
        """Explain colours and markers of the rows below the panels, if there are several."""
        groups, scanners = (set(labels_of(rows, name)) for name in ("group", "scanner"))
        keys = [(name, "o", colour) for name, colour in self.colours.items() if name in groups and len(groups) > 1]
        if len(scanners) > 1:
            keys += [(name, mark, GREY) for name, mark in self.markers.items() if name in scanners]
        legend_below(figure, [(name or "not given", mark, colour) for name, mark, colour in keys])


def legend_below(figure: Any, keys: Sequence[tuple[str, str, str]]) -> None:
    """Explain markers below the panels of a figure: label, marker and colour of each."""
    handles = [
        Line2D([], [], marker=mark, color=colour, linestyle="", markersize=5, label=label)
        for label, mark, colour in keys
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(9, len(handles)), handletextpad=0.2)


def labels_of(rows: pd.DataFrame, name: str) -> pd.Series:
    """Return a column of labels, empty where there is none."""
    if name not in rows:
        return pd.Series("", index=rows.index)
    return rows[name].astype(object).where(rows[name].notna(), "").astype(str)


def sample_name(rows: pd.DataFrame, place: int) -> str:
    """Return the name of a row's sample with its group and scanner."""
    known = [text for name in ("group", "scanner") if (text := labels_of(rows, name).iloc[place])]
    name = str(rows["sample"].iloc[place]) if "sample" in rows else f"case {place + 1}"
    return name + (f" ({', '.join(known)})" if known else "")


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure, inches wide and high."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(count: int, columns: int | None, height: float, *, sharey: bool = False) -> tuple[Any, list[Any]]:
    """Return a figure as wide as a page and so many panels, row by row."""
    columns = columns or min((4, 3), key=lambda number: -count % number)  # the one that leaves fewer places empty
    rows = -(-count // columns)
    figure = new_figure(7.2, 0.6 + height * rows)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count]


def heading(figure: Any, text: str) -> None:
    """Write above a figure what it is about."""
    figure.suptitle(text, fontsize=9, x=0.01, ha="left")


def embedded(card: Card, name: str) -> dict[str, Any]:
    """Return a card for a page; `name` begins the ids in it."""
    with rc_context(STYLE):
        svg = Markup(inline_svg(card.chart, name, f"{card.heading} {' '.join(card.text)}"))
    return {"name": name, "heading": card.heading, "text": card.text, "svg": svg, "aside": card.aside}


def inline_svg(chart: Chart, name: str, alt: str) -> str:
    """Return a chart as an SVG element to be put into a page.

    Points carry their tip as ``data-tip``; clouds become paths, whose group carries ``data-values``. Every id in the
    element begins with `name`, and `alt` describes the chart.
    """
    file = io.BytesIO()
    chart.figure.savefig(file, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue().decode("utf-8"))
    for unwanted in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):  # a style would hold for the whole page
        for parent in list(root.iter()):
            for child in parent.findall(unwanted):
                parent.remove(child)
    for element in list(root.iter()):
        if element.get("id") in chart.clouds:
            _condense(element, chart.clouds[element.get("id", "")])
        for point, text in zip(element.iter(_POINT), chart.tips.get(element.get("id", ""), ())):
            point.set("data-tip", text)
        _rename(element, name)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    label = f"{alt} Arrow keys step through the points."
    root.attrib.update({"class": "chart", "role": "group", "tabindex": "0", "aria-label": label})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _LINK)
    return ElementTree.tostring(root, encoding="unicode")


def _condense(group: ElementTree.Element, cloud: dict[str, str]) -> None:
    """Draw a cloud as a few paths instead of an element for each point, of which a browser would tire."""
    dots = [f"M{float(point.get('x', 0)):.1f} {float(point.get('y', 0)):.1f}h.01" for point in group.iter(_POINT)]
    name = group.get("id", "")
    group.clear()
    group.attrib.update({"id": name, **cloud})
    for start in range(0, len(dots), _DOTS):
        ElementTree.SubElement(group, f"{{{_SVG}}}path", d="".join(dots[start : start + _DOTS]))


def _rename(element: ElementTree.Element, name: str) -> None:
    """Make the ids of an element its chart's own."""
    if "id" in element.attrib:
        element.set("id", f"{name}-{element.get('id')}")
    link = f"{{{_LINK}}}href"
    if element.get(link, "").startswith("#"):
        element.set(link, f"#{name}-{element.get(link, '')[1:]}")
    for key, value in element.attrib.items():
        if "url(#" in value:
            element.set(key, value.replace("url(#", f"url(#{name}-"))
