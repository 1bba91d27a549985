"""Calibration of an export: from the user, the JSON file that histomri's QuPath script writes beside it, a project."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histomri.cells.project import ProjectImage, find_image
from histomri.core.calibration import PixelSize, check_pixel_size, read_slide_record, settle_pixel_size
from histomri.core.errors import InputError

_TABLE_NAME = re.compile(r"(?:\.cells)?\.(?:tsv|csv|txt|geojson|json)(?:\.gz|\.zip)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Calibration:
    """Facts about the slide from outside the table."""

    pixel_size_um: PixelSize | None = None  # (x, y)
    size_px: tuple[int, int] | None = None  # (width, height)
    n_cells: int | None = None  # number of cells that the export should hold
    image: str | None = None  # name of the slide
    source: str = ""  # where the pixel size is from
    project: ProjectImage | None = None  # its entry in a QuPath project
    notes: tuple[str, ...] = ()  # warnings for the user

    @property
    def field_um(self) -> tuple[float, float] | None:
        """Width and height of the imaged field in µm."""
        if self.pixel_size_um is None or self.size_px is None:
            return None
        return self.size_px[0] * self.pixel_size_um[0], self.size_px[1] * self.pixel_size_um[1]


def sidecar_of(export: Path) -> Path:
    """Return the path at which the JSON of an export would lie: ``A.cells.tsv.gz`` has ``A.histomri.json``."""
    return export.with_name(_TABLE_NAME.sub("", export.name) + ".histomri.json")


def companions_of(export: Path) -> Iterator[Path]:
    """Yield the files that are read with an export or a project: its JSON file, the folder of a project's data."""
    beside = (sidecar_of(export), *([export.parent / "data"] if export.suffix.lower() == ".qpproj" else []))
    yield from (path for path in beside if path.exists())


def find_calibration(
    export: Path, mpp: float | PixelSize | None, project: Path | None = None, images: Sequence[str] = ()
) -> Calibration:
    """Return the facts that the user, the JSON beside an export, and the QuPath project state, in this order.

    `images` are the names under which the slide may be in the project.
    """
    known = [Calibration(check_pixel_size(mpp), source="--mpp")]
    if (path := sidecar_of(export)).exists():
        record = read_slide_record(path)
        if not record.complete:
            raise InputError("says that the export was not finished", path=path, hint="run the export script again")
        known.append(Calibration(record.pixel_size_um, record.size_px, record.n_cells, record.image, path.name))
    if project is not None:
        image = find_image(project, list(images) or [export.name])
        note = f"in the project the image is {', '.join(image.changes)}: positions are those of the changed image"
        notes = (note,) if image.changes else ()
        known.append(Calibration(image.pixel_size_um, image.size_px, None, image.name, project.name, image, notes))
    return combined(export, known)


def combined(export: Path, known: Sequence[Calibration]) -> Calibration:
    """Return the first known fact of each kind; pixel sizes must agree within 1 %."""
    size, source = settle_pixel_size([(one.source, one.pixel_size_um) for one in known], export)

    def first(name: str) -> Any:
        return next((getattr(one, name) for one in known if getattr(one, name) is not None), None)

    notes = tuple(note for one in known for note in one.notes)
    return Calibration(size, first("size_px"), first("n_cells"), first("image"), source, first("project"), notes)
