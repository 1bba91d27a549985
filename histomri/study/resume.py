"""What has been done already: finished stages are kept as long as nothing they depend on has changed.

A stage is known by a key, a hash of its options, the content of the files it reads, and the results of the stages
before it. The record of a sample holds the key of every finished stage, the hashes of its results, and what it said.
It is written after a stage has finished, in one piece, so a run that was killed resumes behind the last such stage.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from histomri import __version__
from histomri.core.errors import InputError
from histomri.core.files import TEMPORARY, read_json, write_json
from histomri.study.result import StepResult

RECORD = "stages.json"
# size, time of the last change in ns, SHA-256: a file with the same first two is not read again.
Stamp = tuple[int, int, str]


@dataclass(frozen=True)
class Finished:
    """A finished stage.

    Attributes
    ----------
    key : str
        Hash of everything it depended on.
    outputs : dict of str to (size, ns, SHA-256)
        Its files, by path below the sample's folder.
    messages, warnings, summary, seconds
        What it said and how long it took.
    """

    key: str
    outputs: dict[str, Stamp]
    messages: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class Ledger:
    """The record of what is finished in the folder of one sample."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / RECORD
        content = _read(self._path)
        self._stamps: dict[str, Stamp] = content.get("inputs", {})
        self._asked: set[str] = set()
        self._stages = {name: Finished(**entry) for name, entry in content.get("stages", {}).items()}

    def key(self, stage: str, options: Any, after: Iterable[str]) -> str:
        """Return the hash of what a stage depends on: options, paths among them by name and content, earlier stages."""
        depends = {
            "histomri": __version__,
            "stage": stage,
            "options": self._content_of(options),
            "after": {name: sorted((path, stamp[2]) for path, stamp in self._outputs(name)) for name in after},
        }
        return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()

    def find(self, stage: str, key: str) -> Finished | None:
        """Return a finished stage if it has this key and its results are still what it wrote."""
        found = self._stages.get(stage)
        if found is None or found.key != key:
            return None
        intact = all(self._is_intact(self.folder / path, stamp) for path, stamp in found.outputs.items())
        return found if intact else None

    def start(self, stage: str, places: Iterable[str]) -> None:
        """Forget a stage and clear the places it writes to, for it is about to be run."""
        if self._stages.pop(stage, None) is not None:
            self._save()
        # Maps of a model that is no longer asked for would be paired and scored as if it were.
        for place in places:
            for old in sorted(self.folder.glob(place)):
                shutil.rmtree(old) if old.is_dir() else old.unlink()

    def finish(self, stage: str, key: str, results: list[StepResult], places: Iterable[str], seconds: float) -> None:
        """Record a stage that has finished, with the files that now lie in its places."""
        found = [path for place in places for path in sorted(self.folder.glob(place))]
        files = [each for path in found for each in (sorted(path.rglob("*")) if path.is_dir() else [path])]
        outputs = {path.relative_to(self.folder).as_posix(): _stamp(path) for path in files if path.is_file()}
        self._stages[stage] = Finished(
            key,
            outputs,
            [text for result in results for text in result.messages],
            [text for result in results for text in result.warnings],
            {name: value for result in results for name, value in result.summary.items()},
            seconds,
        )
        self._save()

    def inputs(self) -> list[dict[str, str]]:
        """Return name and SHA-256 of the files that stages read; those that none reads any more are forgotten."""
        asked = {name: self._stamps[name] for name in sorted(self._asked)}
        if asked != self._stamps:
            self._stamps = asked
            self._save()
        return [_identity(name, stamp) for name, stamp in asked.items()]

    def __getitem__(self, stage: str) -> Finished:
        return self._stages[stage]

    def _outputs(self, stage: str) -> Iterable[tuple[str, Stamp]]:
        return self._stages[stage].outputs.items() if stage in self._stages else ()

    def _content_of(self, value: Any) -> Any:
        """Return options as plain data in which every path is a name and a hash."""
        if isinstance(value, Mapping):
            return {str(name): self._content_of(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._content_of(item) for item in value]
        if isinstance(value, Path):
            return [value.name, self._input(value)]
        return value

    def _input(self, path: Path) -> str:
        # Relative, so that no folder of this machine is named in results that are passed on.
        name = Path(os.path.relpath(path, self.folder)).as_posix()
        self._asked.add(name)
        known = self._stamps.get(name)
        if known is None or not _unchanged(path, known):
            self._stamps[name] = known = _stamp(path)
        return known[2]

    def _is_intact(self, path: Path, stamp: Stamp) -> bool:
        return path.is_file() and (_unchanged(path, stamp) or _stamp(path)[2] == stamp[2])

    def _save(self) -> None:
        stages = {name: asdict(entry) for name, entry in self._stages.items()}
        write_json(self._path, {"inputs": self._stamps, "stages": stages})


def identify(path: Path) -> dict[str, str]:
    """Return name and SHA-256 of a file."""
    return _identity(path.name, _stamp(path))


def clear_unfinished(folder: Path, *, deep: bool = True) -> None:
    """Remove the temporary files that a killed run left in a folder, and (deep) in the folders below it."""
    for old in folder.glob(f"{'**/' if deep else ''}{TEMPORARY}*"):
        old.unlink(missing_ok=True)


def _identity(name: str, stamp: Stamp) -> dict[str, str]:
    return {"file": PurePosixPath(name).name, "sha256": stamp[2]}


def _stamp(path: Path) -> Stamp:
    try:
        about = path.stat()
        with path.open("rb") as stream:
            return about.st_size, about.st_mtime_ns, hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", path=path) from error


def _unchanged(path: Path, stamp: Stamp) -> bool:
    try:
        about = os.stat(path)
    except OSError:
        return False
    return (about.st_size, about.st_mtime_ns) == (stamp[0], stamp[1])


def _read(path: Path) -> dict[str, Any]:
    """Return the record; one that is missing or damaged says that nothing is finished."""
    try:
        content = read_json(path, "record of finished stages")
        [Finished(**entry) for entry in content["stages"].values()]
    except (InputError, KeyError, TypeError, AttributeError):
        return {}
    return dict(content)
