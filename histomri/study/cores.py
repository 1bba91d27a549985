"""One sample for each core of a tissue microarray, from one entry of the study file."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from histomri.cells import Region, core_names, read_region_objects
from histomri.cells.sidecar import annotations_of
from histomri.core.errors import HistomriError
from histomri.core.tables import suggestion

ALL = "all"


def expand_cores(entries: list[dict[str, Any]], folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the samples of a study file with one for each core where a sample says ``cores``, and what is wrong.

    ``cores = "all"`` takes every core of its regions (roi) that is not missing, a list those that it names. The name of
    the core, without signs, is added to the id. In texts, ``{core}`` and ``{unique_id}`` stand for those of the core.
    """
    samples, errors = list[dict[str, Any]](), list[str]()
    for number, entry in enumerate(entries, 1):
        if "cores" not in entry:
            samples.append(entry)
            continue
        try:
            samples += _samples(entry, folder)
        except (HistomriError, ValueError) as error:
            errors.append(f"sample {entry.get('id') or number}: cores: {error}")
    return samples, errors


def _samples(entry: Mapping[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    if "core" in entry:
        raise ValueError("there is a key core too; leave one of them out")
    path = _regions_file(entry, folder)
    regions = read_region_objects(path, (1.0, 1.0))  # names only: the unit does not matter
    names = core_names(regions, path)
    cores = {region.core: region for region in regions if region.kind == "core" and not region.missing}
    for name in _wanted(entry["cores"], names, regions):
        words = {"core": name, "unique_id": cores[name].unique_id}
        rest = {key: _filled(value, words) for key, value in entry.items() if key not in ("cores", "id")}
        label = re.sub(r"[^0-9A-Za-z]", "", name)
        if not label:
            raise ValueError(f"the core {name!r} has no letter or digit that an id may hold; name it anew in QuPath")
        yield {"id": f"{entry.get('id', '')}{label}", "core": name, **rest}


def _regions_file(entry: Mapping[str, Any], folder: Path) -> Path:
    """Return the file that lists the cores: that of the regions, or the annotations beside the cells."""
    if isinstance(roi := entry.get("roi"), str):
        return folder / roi
    cells = entry.get("cells")
    first = cells[0] if isinstance(cells, list) and cells else cells
    if isinstance(first, str) and (beside := annotations_of(folder / first)).is_file():
        return beside
    raise ValueError("the cores are those of the regions; give their file with roi")


def _wanted(given: Any, names: tuple[str, ...], regions: tuple[Region, ...]) -> tuple[str, ...]:
    if given == ALL:
        return names
    if not (isinstance(given, list) and given and all(isinstance(name, str) for name in given)):
        raise ValueError(f'must be "{ALL}" or a list of names, such as ["A-1", "A-2"]')
    missing = {region.core for region in regions if region.kind == "core" and region.missing}
    for name in given:
        if name not in names:
            marked = " (it is marked as missing)" if name in missing else suggestion(name, names)
            raise ValueError(f"there is no core {name!r}{marked}; the cores are {', '.join(names[:20])}")
    return tuple(dict.fromkeys(given))


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    """Return a value with the words of a core in the place of their names in brackets, at any depth."""
    if isinstance(value, dict):
        return {key: _filled(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, words) for item in value]
    if not isinstance(value, str):
        return value
    for name, word in words.items():
        if f"{{{name}}}" in value and not word:
            raise ValueError(f"the core {words['core']!r} has no {name}, which {value!r} needs")
        value = value.replace(f"{{{name}}}", word)
    return value
