"""The JSON file that histomri's own QuPath script writes beside a table: calibration, size, and proof of completion."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histomri.errors import InputError, UnitError
from histomri.files import read_json

_TABLE_NAME = re.compile(r"(?:\.cells)?\.(?:tsv|csv|txt|geojson|json)(?:\.gz|\.zip)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Calibration:
    """What is known of the slide from outside the table.

    Attributes
    ----------
    pixel_size_um : (x, y) or None
    size_px : (width, height) or None
    n_cells : int or None
        Number of cells that the export should hold.
    image : str or None
        Name of the slide.
    source : str
        Where the pixel size is from.
    """

    pixel_size_um: tuple[float, float] | None = None
    size_px: tuple[int, int] | None = None
    n_cells: int | None = None
    image: str | None = None
    source: str = ""

    @property
    def field_um(self) -> tuple[float, float] | None:
        """Width and height of the imaged field in µm."""
        if self.pixel_size_um is None or self.size_px is None:
            return None
        return self.size_px[0] * self.pixel_size_um[0], self.size_px[1] * self.pixel_size_um[1]


def sidecar_of(export: Path) -> Path:
    """Return the path at which the JSON of an export would lie: ``A.cells.tsv.gz`` has ``A.histomri.json``."""
    return export.with_name(_TABLE_NAME.sub("", export.name) + ".histomri.json")


def find_calibration(export: Path, mpp: float | tuple[float, float] | None) -> Calibration:
    """Return what the user and the JSON beside an export say of the slide.

    Raises
    ------
    UnitError
        If the pixel size is not positive, or the two disagree by more than 1 %.
    InputError
        If the JSON cannot be read, or says that the export was not finished.
    """
    given = pixel_size(mpp)
    path = sidecar_of(export)
    if not path.exists():
        return Calibration(given, source="--mpp" if given else "")
    found = _read(path)
    if given is None or found.pixel_size_um is None:
        return Calibration(given or found.pixel_size_um, found.size_px, found.n_cells, found.image, found.source)
    if any(abs(a / b - 1) > 0.01 for a, b in zip(given, found.pixel_size_um)):
        raise UnitError(
            f"the pixel size is {found.pixel_size_um[0]:g} x {found.pixel_size_um[1]:g} µm in {path.name}, and "
            f"{given[0]:g} x {given[1]:g} µm by --mpp",
            path=export,
            way_out="leave out --mpp, or remove the JSON file if it is wrong",
        )
    return Calibration(given, found.size_px, found.n_cells, found.image, "--mpp")


def pixel_size(mpp: float | tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the pixel size as (x, y) µm, checked.

    Raises
    ------
    UnitError
        If it is not one or two positive numbers.
    """
    if mpp is None:
        return None
    pair = tuple(float(value) for value in mpp) if isinstance(mpp, tuple | list) else (float(mpp), float(mpp))
    if len(pair) != 2 or not all(math.isfinite(value) and 0 < value < 1000 for value in pair):
        raise UnitError(
            f"a pixel size of {mpp} µm is not possible",
            way_out="pass --mpp X or --mpp X,Y in µm per pixel, such as 0.25",
        )
    return pair[0], pair[1]


def _read(path: Path) -> Calibration:
    content = read_json(path, "sidecar")
    if not isinstance(content, dict) or not str(content.get("schema", "")).startswith("histomri.qupath/"):
        raise InputError(
            "is not a sidecar of the histomri export script", path=path, way_out="export again or remove it"
        )
    if content.get("complete") is not True:
        raise InputError("says that the export was not finished", path=path, way_out="run the export script again")
    size = _pair(content, "pixel_width_um", "pixel_height_um", path)
    extent = _pair(content, "width_px", "height_px", path)
    count = content.get("n_cells")
    return Calibration(
        size,
        (int(extent[0]), int(extent[1])) if extent else None,
        count if isinstance(count, int) else None,
        str(content["image_name"]) if content.get("image_name") else None,
        path.name,
    )


def _pair(content: dict[str, Any], first: str, second: str, path: Path) -> tuple[float, float] | None:
    values = [content.get(first), content.get(second)]
    if values == [None, None]:
        return None
    if not all(isinstance(value, int | float) and math.isfinite(value) and value > 0 for value in values):
        raise InputError(f"{first} and {second} must be positive numbers", path=path, way_out="export again")
    return float(values[0] or 0), float(values[1] or 0)
