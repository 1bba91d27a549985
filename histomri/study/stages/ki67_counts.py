"""What both ways of measuring Ki-67 share: the options, and what was counted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]
RECOMMENDED_CELLS = 500


@dataclass(frozen=True)
class Ki67Options:
    """What the user chose; None and False mean the default.

    Attributes
    ----------
    roi : Path or None
        GeoJSON polygons in pixels.
    mpp : float or (x, y) or None
        Pixel size in µm.
    trust_mpp : bool
        Take `mpp` even if the slide says otherwise.
    window_um, min_cells : float or None, int
        Of the hot spot.
    classes, image : as in `histomri.cells.read_cells`
    stains : str or None
        QuPath's stain vectors, the name of a file that holds them, or "estimate".
    background : (r, g, b) or None
        Colour of the glass.
    threshold : float
        Amount of DAB from which a pixel is stained.
    um_per_px : float
        Resolution at which pixels are judged.
    tissue : bool
        Whether only tissue is counted.
    map_um : float or None
        Patch size of a map of the quantity.
    """

    roi: Path | None = None
    mpp: float | tuple[float, float] | None = None
    trust_mpp: bool = False
    window_um: float | None = None
    min_cells: int = RECOMMENDED_CELLS
    classes: Sequence[str] | None = None
    image: str | None = None
    stains: str | None = None
    background: tuple[float, float, float] | None = None
    threshold: float = 0.2
    um_per_px: float = 1.0
    tissue: bool = True
    map_um: float | None = None


@dataclass(frozen=True)
class Counted:
    """What was counted, before anything is written.

    Attributes
    ----------
    key : {"labelling_index", "stained_area_fraction"}
    content : dict
        For the JSON file.
    rows : list of dict
        For the table.
    picture : bytes
        PNG file.
    messages, warnings : tuple of str
    settings : dict
    map : (name, data, affine, description) or None
    """

    key: str
    content: dict[str, Any]
    rows: list[Row]
    picture: bytes
    messages: tuple[str, ...]
    warnings: tuple[str, ...]
    settings: dict[str, Any]
    map: tuple[str, Any, Any, str] | None = field(default=None)


def row_of(
    quantity: str, region: str, value: float, ci95: tuple[float, float], n_positive: int, n_counted: int, **more: Any
) -> Row:
    """Return a row of the table, whose columns are the same for cells and for slides."""
    return {
        "quantity": quantity,
        "region": region,
        "value": value,
        "ci95_low": ci95[0],
        "ci95_high": ci95[1],
        "n_positive": n_positive,
        "n_counted": n_counted,
        "unit_counted": "cells" if quantity == "labelling_index" else "pixels",
        **more,
    }
