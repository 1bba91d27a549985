"""The JSON file that histomri's own QuPath script writes beside a table: calibration, size, and proof of completion."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histomri.cells.project import ProjectImage, find_image
from histomri.core.errors import InputError, UnitError
from histomri.core.files import read_json

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
    project : ProjectImage or None
        Its entry in a QuPath project.
    notes : tuple of str
        What the person should know.
    """

    pixel_size_um: tuple[float, float] | None = None
    size_px: tuple[int, int] | None = None
    n_cells: int | None = None
    image: str | None = None
    source: str = ""
    project: ProjectImage | None = None
    notes: tuple[str, ...] = ()

    @property
    def field_um(self) -> tuple[float, float] | None:
        """Width and height of the imaged field in µm."""
        if self.pixel_size_um is None or self.size_px is None:
            return None
        return self.size_px[0] * self.pixel_size_um[0], self.size_px[1] * self.pixel_size_um[1]


def sidecar_of(export: Path) -> Path:
    """Return the path at which the JSON of an export would lie: ``A.cells.tsv.gz`` has ``A.histomri.json``."""
    return export.with_name(_TABLE_NAME.sub("", export.name) + ".histomri.json")


def find_calibration(
    export: Path, mpp: float | tuple[float, float] | None, project: Path | None = None, images: Sequence[str] = ()
) -> Calibration:
    """Return what the user, the JSON beside an export, and the QuPath project say of the slide, in this order.

    Parameters
    ----------
    export : Path
        The export.
    mpp : float or (x, y), optional
        Pixel size that the user gave.
    project : Path, optional
        QuPath project file.
    images : sequence of str
        Names under which the slide may be in the project.

    Raises
    ------
    UnitError
        If the pixel size is not positive, or two of them disagree by more than 1 %.
    InputError
        If a file cannot be read, says that the export was not finished, or does not hold the image.
    """
    known = [Calibration(pixel_size(mpp), source="--mpp")]
    if (path := sidecar_of(export)).exists():
        known.append(_read(path))
    if project is not None:
        image = find_image(project, list(images) or [export.name])
        notes = (
            (f"in the project the image is {', '.join(image.changes)}: positions are those of the changed image",)
            if image.changes
            else ()
        )
        known.append(Calibration(image.pixel_size_um, image.size_px, None, image.name, project.name, image, notes))
    return combined(export, known)


def combined(export: Path, known: Sequence[Calibration]) -> Calibration:
    """Return the first thing that is known of each kind; pixel sizes must agree within 1 %."""
    sized = [one for one in known if one.pixel_size_um is not None]
    sizes = [one.pixel_size_um for one in sized if one.pixel_size_um is not None]
    if sizes and any(abs(a / b - 1) > 0.01 for size in sizes for a, b in zip(size, sizes[0])):
        listing = ", and ".join(
            f"{size[0]:g} x {size[1]:g} µm {'by' if one.source == '--mpp' else 'in'} {one.source}"
            for one, size in zip(sized[::-1], sizes[::-1])
        )
        raise UnitError(
            f"the pixel size is {listing}", path=export, hint="leave out --mpp, or remove what is wrong of them"
        )

    def first(name: str) -> Any:
        return next((getattr(one, name) for one in known if getattr(one, name) is not None), None)

    return Calibration(
        sizes[0] if sizes else None,
        first("size_px"),
        first("n_cells"),
        first("image"),
        sized[0].source if sized else "",
        first("project"),
        tuple(note for one in known for note in one.notes),
    )


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
            hint="pass --mpp X or --mpp X,Y in µm per pixel, such as 0.25",
        )
    return pair[0], pair[1]


def _read(path: Path) -> Calibration:
    content = read_json(path, "sidecar")
    if not isinstance(content, dict) or not str(content.get("schema", "")).startswith("histomri.qupath/"):
        raise InputError("is not a sidecar of the histomri export script", path=path, hint="export again or remove it")
    if content.get("complete") is not True:
        raise InputError("says that the export was not finished", path=path, hint="run the export script again")
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
        raise InputError(f"{first} and {second} must be positive numbers", path=path, hint="export again")
    return float(values[0] or 0), float(values[1] or 0)
