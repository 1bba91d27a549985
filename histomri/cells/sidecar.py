"""Facts about a slide from outside the table: the user, the JSON file of histomri's QuPath script, a QuPath project."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histomri.core.calibration import PixelSize, check_pixel_size, read_slide_record, settle_pixel_size
from histomri.core.errors import InputError, UnitError
from histomri.core.files import read_json

_MICRO = ("\u00b5m", "\u03bcm", "um")
_TABLE_NAME = re.compile(r"(?:\.cells)?\.(?:tsv|csv|txt|geojson|json)(?:\.gz|\.zip)?$", re.IGNORECASE)


@dataclass(frozen=True)
class ProjectImage:
    """One image of a project."""

    name: str  # its name in the project
    entry: str  # its number
    pixel_size_um: PixelSize | None = None  # (x, y); None if QuPath has no calibration for it
    size_px: tuple[int, int] | None = None  # (width, height): full-resolution size, as QuPath shows the image
    changes: tuple[str, ...] = ()  # that QuPath makes as it reads, such as ``rotated``; positions are those after them
    n_cells: int | None = None  # how many of them the project holds, by its summary
    n_detections: int | None = None


def read_project(path: str | Path) -> tuple[ProjectImage, ...]:
    """Read the images of a ``project.qpproj`` and of the summaries in the folder ``data`` beside it."""
    path = Path(path)
    content = read_json(path, "QuPath project")
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError("is no QuPath project: it has no list of images", path=path, hint="pass project.qpproj")
    return tuple(_image(path, entry) for entry in entries)


def find_image(path: Path, names: list[str]) -> ProjectImage:
    """Return the one image of a project that has one of these names, with or without extension."""
    images = read_project(path)
    stems = {_stem(name) for name in names}
    alike = [image for image in images if _stem(image.name) in stems]
    found = [image for image in images if image.name in names] or (alike if names or len(images) != 1 else images)
    if len(found) == 1:
        return found[0]
    listing = ", ".join(repr(image.name) for image in images[:20]) + (", ..." if len(images) > 20 else "")
    found_text = "several images" if found else "no image"
    problem = f"holds {found_text} named {' or '.join(map(repr, names)) or '(nothing)'}; it holds {listing or 'none'}"
    raise InputError(problem, path=path, hint="say which one with --image")


def _stem(name: str) -> str:
    return name.split(" - ")[0].rsplit(".", 1)[0].lower()


def _image(path: Path, entry: dict[str, Any]) -> ProjectImage:
    number = str(entry.get("entryID", ""))
    folder = path.parent / "data" / number if number.isdigit() else None  # nothing but a number may name a folder
    builders = list(_builders(entry.get("serverBuilder")))
    stored = _optional(folder, "server.json")
    if not any("metadata" in builder for builder in builders) and isinstance(stored, dict):
        wrapped = stored.get("builder")
        builders = list(_builders(wrapped if isinstance(wrapped, dict) else stored)) or builders
        if isinstance(stored.get("metadata"), dict):
            builders.insert(0, stored)
    # The outermost metadata are those of the image as QuPath shows it.
    metadata: Any = next((one["metadata"] for one in builders if isinstance(one.get("metadata"), dict)), {})
    kinds = [str(builder.get("builderType")) for builder in builders if builder.get("builderType")]
    changes = tuple(kind for kind in kinds if kind not in ("uri", "channels", "pyramidize"))
    summary = _dict(_optional(folder, "summary.json"))
    counts = _dict(_dict(summary.get("hierarchy")).get("objectTypeCounts"))
    held = [counts.get(kind, 0 if counts else None) for kind in ("Cells", "Detections")]
    n_cells, n_detections = (count if isinstance(count, int) else None for count in held)
    name = str(entry.get("imageName") or metadata.get("name") or "")
    pixel_size = _pixel_size(path, name, _dict(metadata.get("pixelCalibration")))
    size = _size(metadata) or _size(_dict(summary.get("server")))
    return ProjectImage(name, number, pixel_size, size, changes, n_cells, n_detections)


def _builders(builder: Any) -> Iterator[dict[str, Any]]:
    """Yield a builder and those it wraps, the outermost first."""
    while isinstance(builder, dict):
        yield builder
        builder = builder.get("builder")


def _optional(folder: Path | None, name: str) -> Any:
    """Read a JSON file of an entry; projects are often copied without their data."""
    path = None if folder is None else folder / name
    return read_json(path, "file of a QuPath project") if path is not None and path.is_file() else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _pixel_size(path: Path, name: str, calibration: dict[str, Any]) -> tuple[float, float] | None:
    sides = [_dict(calibration.get(side)) for side in ("pixelWidth", "pixelHeight")]
    if not all(side.get("unit") in _MICRO for side in sides):
        return None
    values: list[Any] = [side.get("value") for side in sides]
    try:
        return check_pixel_size(values)
    except UnitError as error:
        problem = f"the pixel size of {name!r} is {values[0]} x {values[1]} µm, which is not possible"
        hint = "mend it in QuPath (Image tab), or pass --mpp and leave the project out"
        raise InputError(problem, path=path, hint=hint) from error


def _size(metadata: dict[str, Any]) -> Any:
    size = metadata.get("width"), metadata.get("height")
    return size if all(isinstance(value, int) and value > 0 for value in size) else None


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


def annotations_of(export: Path) -> Path:
    """Return the path of the annotations of an export: ``A.cells.tsv`` has ``A.annotations.geojson``."""
    return export.with_name(_TABLE_NAME.sub("", export.name) + ".annotations.geojson")


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
