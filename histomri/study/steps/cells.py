"""QuPath exports to one cell table, or to one for each image of an export."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from histomri.cells import CellTable, read_cells, read_images, refuse_table_name
from histomri.cells.options import CellOptions
from histomri.cells.sniff import read_head
from histomri.core.errors import InputError
from histomri.core.files import refuse_overwrite, require_folder, write_json
from histomri.core.progress import Progress
from histomri.report.contact_sheet import contact_sheet, mask_of, sheet_path
from histomri.study.result import StepResult


def run(options: CellOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write the cells of one slide as a Parquet table, and on request a contact sheet; or those of each image."""
    if options.per_image:
        return _run_per_image(options, out)
    refuse_table_name(out)
    beside = (options.project, options.columns, options.nuclei_mask, options.label_classes, options.check)
    refuse_overwrite(out, (*options.exports, options.regions_file, *beside))
    given, drawn = dict(options), options.check is not None and all(map(is_geojson, options.exports))
    table = read_cells(*options.exports, **{**given, "geometries": options.geometries or drawn})
    outputs, messages, warnings = list[Path](), table.messages(), table.metadata.warnings
    if options.check is not None:  # first, so that cells of another slide leave no table
        sheet = contact_sheet(table, options.check, mask=mask_of(options.exports))
        outputs, messages = [sheet.save(sheet_path(out))], (*messages, *sheet.messages)
        warnings = (*warnings, *sheet.warnings)
    if not options.geometries:
        table = CellTable(table.data, table.metadata)
    return StepResult((*table.save(out), *outputs), messages, warnings, table.summary())


def _run_per_image(options: CellOptions, out: Path) -> StepResult:
    require_folder(out)
    tables = read_images(options.exports[0], **dict(options))
    paths = {image: out / f"{name}.parquet" for image, name in _file_names(tables).items()}
    for path in paths.values():
        refuse_overwrite(path, (*options.exports, options.project))
    written: list[Path] = []
    for image, table in tables.items():
        written += table.save(paths[image])
        written.append(write_json(paths[image].with_suffix(".json"), table.summary()))
    messages = [f"{image}: {line}" for image, table in tables.items() for line in table.messages()[:3]]
    warnings = [f"{image}: {text}" for image, table in tables.items() for text in table.metadata.warnings]
    return StepResult(tuple(written), tuple(messages), tuple(warnings), {"images": list(tables)})


def _file_names(images: Iterable[str]) -> dict[str, str]:
    """Return the names of the files of images: without the ending of a slide, where that tells them apart."""
    images = list(images)
    short = {image: _plain(re.sub(r"\.[A-Za-z0-9]{2,5}$", "", image)) for image in images}
    names = short if _differ(short.values()) else {image: _plain(image) for image in images}
    if not _differ(names.values()):
        twice = next(name for name, count in Counter(name.casefold() for name in names.values()).items() if count > 1)
        alike = ", ".join(repr(image) for image, name in names.items() if name.casefold() == twice)
        raise InputError(f"the tables of the images {alike} would have one name", hint="choose one with --image")
    return names


def _differ(names: Iterable[str]) -> bool:
    return max(Counter(name.casefold() for name in names).values()) == 1


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "image"


def is_geojson(path: Path) -> bool:
    """Whether an export is GeoJSON, which holds outlines."""
    if path.suffix.lower() in (".qpproj", ".parquet") or path.is_dir():
        return False
    return read_head(path).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
