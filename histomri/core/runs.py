"""One run of a command: the mark that all its files carry, so that maps of two runs are not taken for one set.

The mark is made of what the run depends on, its options and the files it reads, and not of the time: to run the same
again gives the same mark, and the same bytes.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from histomri.core.door import read_json
from histomri.core.errors import InputError
from histomri.core.options import Options, plain
from histomri.core.presets import DEFAULT_PRESET
from histomri.core.provenance import software_version

_ENDS = 1 << 20


def run_key(command: str, options: Options) -> str:
    """Return a hash of what a run depends on: its options, and size, beginning and end of the files they name."""
    named = [name for name in type(options).model_fields if options.role(name) != "output"]
    values = {name: plain(getattr(options, name), lambda path: path.name) for name in named}
    if "preset" in values:  # a study names the one that a command takes by itself
        values["preset"] = values["preset"] or DEFAULT_PRESET
    files = [file for path in sorted(set(options.reads())) for file in _files_in(path)]
    content = [command, software_version(), values, [[file.name, *_ends(file)] for file in files]]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _files_in(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _ends(path: Path) -> tuple[int, str]:
    """Return the size of a file and a hash of its two ends, where headers and checksums are; -1 if it is not there."""
    if not path.is_file():
        return -1, ""
    size = path.stat().st_size
    with path.open("rb") as file:
        found = hashlib.sha256(file.read(_ENDS))
        file.seek(max(size - _ENDS, 0))
        found.update(file.read())
    return size, found.hexdigest()


def require_one_run(maps: Iterable[Path], sidecar: Any) -> None:
    """Raise InputError if maps of one folder and one command were made by two runs of it.

    `sidecar` returns the path of the sidecar of a map. Maps without a mark, of earlier versions or of other programs,
    are not compared.
    """
    first: dict[tuple[Path, str], tuple[str, Path]] = {}
    for path in maps:
        beside = sidecar(path)
        made = read_json(beside, "sidecar").get("GeneratedBy") if beside.exists() else None
        for entry in made if isinstance(made, list) else []:
            mark = entry.get("RunId") if isinstance(entry, dict) else None
            if mark is None:
                continue
            command = str(entry.get("Command"))
            known, other = first.setdefault((path.parent, command), (str(mark), path))
            if known != mark:
                problem = f"holds maps of two runs of {command}: {other.name} of run {known}, {path.name} of run {mark}"
                hint = f"run {command} again for all of them, or give each run a folder of its own"
                raise InputError(problem, path=path.parent, hint=hint)
