"""Ki-67 of one section: the labelling index of cells, or the stained area fraction of a slide; never both in one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure

from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, read_json, write_json
from histomri.core.images import Image, write_map

Quantity = Literal["labelling_index", "stained_area_fraction"]
Row = dict[str, Any]
_MAP_OF: dict[Quantity, str] = {"labelling_index": "labellingIndex", "stained_area_fraction": "stainedFraction"}
_DOTS_PER_INCH = 130


@dataclass(frozen=True, repr=False)
class Ki67(Displayed):
    """Ki-67 of one section.

    Attributes
    ----------
    quantity : {"labelling_index", "stained_area_fraction"}
        They are different quantities, and must not be compared with each other.
    value : float
    ci95 : (low, high)
    content : dict
        All numbers, for the JSON file.
    rows : list of dict
        For the table.
    figure : matplotlib Figure
        The cells or pixels that were counted.
    map : Image or None
        The quantity patch by patch.
    messages, warnings : tuple of str
    settings : dict
    """

    quantity: Quantity
    value: float
    ci95: tuple[float, float]
    content: dict[str, Any]
    rows: list[Row]
    figure: Figure
    map: Image | None = None
    messages: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

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
        self,
        folder: str | Path,
        sub: str | None = None,
        *,
        sources: Iterable[str | Path] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> list[Path]:
        """Write ki67.json, ki67.csv, ki67.png, and the map if there is one."""
        folder, sources, settings = Path(folder), tuple(sources), {**(settings or {}), **self.settings}
        refuse_other_quantity(folder, self.quantity)
        # The map first: it is the one that may fail on the input.
        maps: list[Path] = []
        if self.map is not None:
            path = folder / ((f"sub-{sub}_" if sub else "") + f"param-{_MAP_OF[self.quantity]}_histomap.nii.gz")
            about = {"Units": "1", "Description": self.content["Description"]}
            maps = write_map(path, self.map.data, self.map.affine, sources=sources, parameters=settings, **about)
        record, table, picture = (folder / f"ki67.{ending}" for ending in ("json", "csv", "png"))
        with atomic_path(picture) as temporary:
            self.figure.savefig(temporary, format="png", dpi=_DOTS_PER_INCH)
        with atomic_path(table) as temporary:
            self.to_pandas().to_csv(temporary, index=False, lineterminator="\n")
        content = {self.quantity: self.content, "warnings": list(self.warnings), **provenance(sources, settings)}
        return [write_json(record, content), table, picture, *maps]


def refuse_other_quantity(folder: Path, quantity: Quantity) -> None:
    """Raise InputError if a folder holds the other quantity: their files have the same names, and must not be mixed."""
    (other,) = set(_MAP_OF) - {quantity}
    record = folder / "ki67.json"
    content = read_json(record) if record.is_file() else {}
    if (isinstance(content, dict) and other in content) or any(folder.glob(f"*param-{_MAP_OF[other]}_histomap.nii.gz")):
        names = [name.replace("_", " ") for name in (other, quantity)]
        raise InputError(
            f"holds a {names[0]}, and this would be a {names[1]}: they are different quantities",
            path=folder,
            hint="pass another folder, --out",
        )


def row_of(quantity: Quantity, region: str, value: float, ci95: Any, n_positive: int, n_counted: int) -> Row:
    """Return a row of the table, whose columns are the same for cells and for slides."""
    numbers = {"value": value, "ci95_low": ci95[0], "ci95_high": ci95[1], "n_positive": n_positive}
    unit = "cells" if quantity == "labelling_index" else "pixels"
    return {"quantity": quantity, "region": region, **numbers, "n_counted": n_counted, "unit_counted": unit}
