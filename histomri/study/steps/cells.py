"""QuPath exports to one cell table, or to one for each image of an export."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from histomri.cells import read_cells, read_images, refuse_table_name
from histomri.cells.options import CellOptions
from histomri.core.errors import InputError
from histomri.core.files import refuse_overwrite, require_folder, write_json
from histomri.core.progress import Progress
from histomri.study.result import StepResult


def run(options: CellOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write the cells of one slide as a Parquet table, or those of each image of a file into a folder."""
    if options.per_image:
        return _run_per_image(options, out)
    refuse_table_name(out)
    refuse_overwrite(out, (*options.exports, options.regions_file, options.project))
    table = read_cells(*options.exports, **dict(options))
    return StepResult(tuple(table.save(out)), table.messages(), table.metadata.warnings, table.summary())


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
