"""Ki-67 of one section: the labelling index of cells, or the stained area fraction of a slide; never both in one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from histomri.cells import CellTable
from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, read_json, write_json
from histomri.core.formulas import without_formulas
from histomri.core.images import Image, write_map
from histomri.patches.grid import PatchGrid
from histomri.patches.options import RECOMMENDED_CELLS
from histomri.patches.summarise import Cells
from histomri.slides.labelling import (
    QUPATH_CLASSES,
    UNCLASSIFIED,
    Classes,
    HotSpot,
    hot_spot,
    is_positive,
    labelling_index,
)
from histomri.slides.pictures import draw_cells
from histomri.slides.stains import ratio

Quantity = Literal["labelling_index", "stained_area_fraction"]
Row = dict[str, Any]
_MAP_OF: dict[Quantity, str] = {"labelling_index": "labellingIndex", "stained_area_fraction": "stainedFraction"}
_DOTS_PER_INCH = 130
_PER_CENT = "as QuPath's Positive % (Positive, 1+, 2+, 3+). NOT to be compared with a stained area fraction."
_INDEX = f"Positive cells / (positive + negative cells), {_PER_CENT}"


@dataclass(frozen=True, repr=False)
class Ki67(Displayed):
    """Ki-67 of one section: one of two different quantities, which must not be compared with each other."""

    quantity: Quantity
    value: float
    ci95: tuple[float, float]  # (low, high)
    content: dict[str, Any]  # all numbers, for the JSON file
    rows: list[Row]  # for the table
    figure: Figure  # the cells or pixels that were counted
    map: Image | None = None  # the quantity patch by patch
    messages: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    cells: CellTable | None = None  # with the stain of each, where that was measured on a slide

    def facts(self) -> dict[str, Any]:
        """Return the facts that `repr` shows."""
        low, high = self.ci95
        return {self.quantity.replace("_", " "): f"{self.value:.2%}", "95 % interval": f"{low:.2%} to {high:.2%}"}

    def to_pandas(self) -> pd.DataFrame:
        """Return a row for the whole and for the hot spot; the columns are the same for cells and for slides."""
        return pd.DataFrame(self.rows)

    def plot(self) -> Figure:
        """Return the picture of the cells or pixels that were counted."""
        return self.figure

    def save(
        self, folder: str | Path, sub: str | None = None, *, sources: Iterable[str | Path] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> list[Path]:  # fmt: skip
        """Write ki67.json, ki67.csv, ki67.png, and the map and the table of measured cells if there are any."""
        folder, sources, settings = Path(folder), tuple(sources), {**(settings or {}), **self.settings}
        refuse_other_quantity(folder, self.quantity)
        maps: list[Path] = []
        if self.map is not None:  # first, as it may fail on the input
            path = folder / ((f"sub-{sub}_" if sub else "") + f"param-{_MAP_OF[self.quantity]}_histomap.nii.gz")
            about = {"Units": "1", "Description": self.content["Description"]}
            maps = write_map(path, self.map.data, self.map.affine, sources=sources, parameters=settings, **about)
        if self.cells is not None:
            maps += self.cells.save(folder / "ki67_cells.parquet")
        record, table, picture = (folder / f"ki67.{ending}" for ending in ("json", "csv", "png"))
        with atomic_path(picture) as temporary:
            self.figure.savefig(temporary, format="png", dpi=_DOTS_PER_INCH)
        with atomic_path(table) as temporary:
            without_formulas(self.to_pandas()).to_csv(temporary, index=False, lineterminator="\n")
        content = {self.quantity: self.content, "warnings": list(self.warnings), **provenance(sources, settings)}
        return [write_json(record, content), table, picture, *maps]


def refuse_other_quantity(folder: Path, quantity: Quantity) -> None:
    """Raise InputError if a folder holds the other quantity: their files have the same names, and must not be mixed."""
    (other,) = set(_MAP_OF) - {quantity}
    record = folder / "ki67.json"
    content = read_json(record) if record.is_file() else {}
    if (isinstance(content, dict) and other in content) or any(folder.glob(f"*param-{_MAP_OF[other]}_histomap.nii.gz")):
        names = [name.replace("_", " ") for name in (other, quantity)]
        problem = f"holds a {names[0]}, and this would be a {names[1]}: they are different quantities"
        raise InputError(problem, path=folder, hint="pass another folder, --out")


def row_of(quantity: Quantity, region: str, value: float, ci95: Any, n_positive: int, n_counted: int) -> Row:
    """Return a row of the table, whose columns are the same for cells and for slides."""
    numbers = {"value": value, "ci95_low": ci95[0], "ci95_high": ci95[1], "n_positive": n_positive}
    unit = "cells" if quantity == "labelling_index" else "pixels"
    return {"quantity": quantity, "region": region, **numbers, "n_counted": n_counted, "unit_counted": unit}


def measure_labelling(
    cells: Cells, *, window_um: float | None = None, min_cells: int = RECOMMENDED_CELLS, map_um: float | None = None,
    title: str | None = None, names: Classes = QUPATH_CLASSES,
) -> Ki67:  # fmt: skip
    """Measure the Ki-67 labelling index of classified cells; InputError if none is classified positive or negative.

    It is an error too if no cell is negative and some are not counted: an index of 100 % would be made of the positive
    cells alone.

    Parameters
    ----------
    cells : CellTable, DataFrame or path
        With QuPath's classifications, such as ``Positive``, ``Tumor: Negative``, ``2+``.
    window_um, min_cells, map_um, title
        Of the hot spot, as in `histomri.slides.hot_spot`; patch size of a map (µm, no map if left out); title of the
        picture, the name of the slide if left out.
    names : Classes
        Which classes are positive and negative; those of QuPath if left out.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = pd.DataFrame({"x_um": [1, 2, 3], "y_um": [1, 2, 3], "area_um2": [80, 80, 80]})
    >>> measure_labelling(cells.assign(classification=["Positive", "Negative", "Negative"]))
    Ki67(labelling index: 33.33%, 95 % interval: 6.15% to 79.23%)
    """
    table = CellTable.coerce(cells)
    positive, negative, counts = is_positive(table.data["classification"], names)
    _refuse_one_kind(positive, negative, counts)
    x, y = table.data["x_um"].to_numpy(), table.data["y_um"].to_numpy()
    whole = labelling_index(positive, negative)
    n, n_positive, rest = whole.n_counted, whole.n_positive, len(table) - whole.n_counted
    spot = hot_spot(x, y, positive, negative, window_um=window_um, min_cells=min_cells)
    content: dict[str, Any] = {
        "Description": _INDEX, "value": whole.value, "ci95": whole.ci95, "interval": "Wilson, 95 %",
        "n_positive": n_positive, "n_negative": n - n_positive, "n_not_counted": rest, "cells_by_class": counts,
        "positive_classes": _classes_of(table, positive), "negative_classes": _classes_of(table, negative),
        "hot_spot": None,
    }  # fmt: skip
    rows = [row_of("labelling_index", "whole", whole.value, whole.ci95, n_positive, n)]
    interval = f"{whole.value:.1%} (95 % interval {whole.ci95[0]:.1%} to {whole.ci95[1]:.1%})"
    lines = [f"labelling index {interval}: {n_positive:,} of {n:,} cells are positive; {rest:,} not counted"]
    if spot is not None:
        content["hot_spot"], row, line = _hot_spot(spot, _covered_mm2(x, y, spot))
        rows, lines = [*rows, row], [*lines, line]
    warnings = []
    if n < RECOMMENDED_CELLS:
        warnings.append(f"only {n} cells were counted; {RECOMMENDED_CELLS} is the least that is recommended")
    elif spot is None:
        warnings.append(f"no hot spot: no window holds {min_cells} cells; take a larger one (--window-um)")
    if n_positive == n:
        warnings.append("every counted cell is positive: were the negative cells exported?")
    title = f"{title or table.metadata.image or 'cells'}: labelling index {whole.value:.1%}"
    return Ki67(
        "labelling_index", whole.value, whole.ci95, content, rows,
        draw_cells(x, y, positive, negative, title=title, region=table.region, spot=spot),
        None if map_um is None else _index_map(table, positive, negative, map_um), tuple(lines), tuple(warnings),
        {"MinCells": min_cells, "Window_um": spot.window_um if spot else window_um},
    )  # fmt: skip


def _refuse_one_kind(positive: BoolArray, negative: BoolArray, counts: dict[str, int]) -> None:
    """Raise InputError if nothing is counted, or if the cells that would be negative are left out."""
    listing = ", ".join(list(counts)[:10])
    if not (positive | negative).any():
        problem = f"no cell is classified Positive or Negative; the classes are {listing}"
        hint = "run QuPath's positive cell detection (qupath_scripts/detect_cells_ki67.groovy) and export again"
        raise InputError(problem, hint=f"{hint}, or name the classes, --positive and --negative")
    rest = int(np.count_nonzero(~positive))
    if rest and not negative.any():
        problem = f"no cell is negative and {rest:,} cells are not counted, so the index would be 100 %"
        hint = f"--negative NAME says which class is negative (there are {listing})"
        if UNCLASSIFIED in counts:
            hint += "; --unclassified-negative counts the cells without a class"
        raise InputError(problem, hint=hint)


def _classes_of(table: CellTable, which: BoolArray) -> list[str]:
    found = table.data["classification"][which].astype("str").unique()
    return sorted(str(name) or UNCLASSIFIED for name in found)


def _hot_spot(spot: HotSpot, covered_mm2: float) -> tuple[dict[str, Any], Row, str]:
    """Return a hot spot for the JSON file, for the table, and as a line for the user."""
    index = spot.index
    content = {
        "Description": "The window with the highest index; the largest of many, so the interval is too narrow",
        "value": index.value, "ci95": index.ci95, "n_positive": index.n_positive,
        "n_negative": index.n_counted - index.n_positive, "corner_um": spot.corner_um, "window_um": spot.window_um,
        "covered_mm2": covered_mm2, "n_windows_compared": spot.n_windows,
    }  # fmt: skip
    row = row_of("labelling_index", "hot spot", index.value, index.ci95, index.n_positive, index.n_counted)
    square = f"a square of {spot.window_um:g} µm at x {spot.corner_um[0]:.0f}, y {spot.corner_um[1]:.0f} µm"
    covered = f"{covered_mm2:.3g} of its {spot.window_um**2 / 1e6:.3g} mm² covered by cells"
    return content, row, f"hot spot {index.value:.1%} of {index.n_counted:,} cells, {square}, {covered}"


def _covered_mm2(x_um: FloatArray, y_um: FloatArray, spot: HotSpot) -> float:
    """Return the area of the window that cells cover: it may stick out of the tissue.

    The window is cut into squares so large that cells at random would leave fewer than 1 % of them empty.
    """
    at = np.stack([(values - low) / spot.window_um for values, low in zip((x_um, y_um), spot.corner_um)])
    at = at[:, (np.floor(at) == 0).all(axis=0)]
    n = int(np.clip(np.sqrt(at.shape[1] / 5), 1, 20))
    squares = np.unique((at * n).astype(int), axis=1).shape[1]
    return float(squares / n**2 * spot.window_um**2 / 1e6)


def _index_map(table: CellTable, positive: BoolArray, negative: BoolArray, map_um: float) -> Image:
    x, y = table.data["x_um"].to_numpy(), table.data["y_um"].to_numpy()
    grid = PatchGrid.covering(x, y, field_um=table.metadata.field_um, patch_um=map_um)
    row, column, inside = grid.index(x, y)
    flat, size = row * grid.shape[1] + column, grid.shape[0] * grid.shape[1]
    hits, total = (np.bincount(flat[which & inside], minlength=size) for which in (positive, positive | negative))
    return Image(ratio(hits, total).reshape(grid.shape), grid.affine)
