"""What has been done already: a finished step is kept as long as nothing that it depends on has changed.

A step is known by a key: a hash of its options object, of the content of every file that the object names, and of the
code that the step imports. The record of a folder holds the key of every finished step, the hashes of its results, and
its messages. It is written after a step has finished, in one piece, so a run that was killed resumes behind that step.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from histomri.core.errors import InputError
from histomri.core.files import TEMPORARY, put_in_place, read_json, strict, sync_folder, write_text
from histomri.core.options import Options, plain
from histomri.core.provenance import code_stamp
from histomri.study.result import StepResult

RECORD = "stages.json"
SCHEMA = 2
_CLOCK_STEP_NS = 2_000_000_000  # the coarsest clock of a file system: a change within it may leave the time as it is


class FileStamp(NamedTuple):
    """The state of a file when it was read; the same state later means the same content, as far as the system reports.

    Attributes
    ----------
    size, mtime_ns, ctime_ns, inode : int
        As the system gives them; inode and ctime are 0 where it has none.
    read_ns : int
        When it was read. A file changed shortly before is read again: a second change may have left the same time.
    sha256 : str
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    read_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileStamp":
        """Read a file."""
        try:
            about, now = path.stat(), time.time_ns()
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"cannot be read ({error.strerror or error})", path=path) from error
        return cls(about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino, now, digest)

    def has_state_of(self, path: Path) -> bool:
        """Tell whether size, times and place of a file are those of the reading."""
        try:
            about = path.stat()
        except OSError:
            return False
        state = (about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)
        return state == (self.size, self.mtime_ns, self.ctime_ns, self.inode)

    def holds(self, path: Path) -> bool:
        """Tell whether a file is as it was, without reading it; one changed shortly before the reading may not be."""
        recent = max(self.mtime_ns, self.ctime_ns) > self.read_ns - _CLOCK_STEP_NS
        return not recent and self.has_state_of(path)


@dataclass(frozen=True)
class Finished:
    """A finished step.

    Attributes
    ----------
    key : str
        Hash of everything it depended on.
    outputs : dict of str to FileStamp
        Its files, by path below the folder.
    messages, warnings, summary, seconds
        What it reported and how long it took.
    """

    key: str
    outputs: dict[str, FileStamp]
    messages: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class Ledger:
    """The record of what is finished in a folder.

    Parameters
    ----------
    folder : Path
    verify : bool
        Whether to read every file again, also where the system says that it is as it was.

    Attributes
    ----------
    outdated : bool
        Whether there are results of another version of histomri, whose record this one does not read.
    """

    def __init__(self, folder: Path, *, verify: bool = False) -> None:
        self.folder, self._path = folder, folder / RECORD
        content = _read(self._path)
        # 0.1.0 kept no record of the steps over all samples.
        self.outdated = content is None and any((folder / name).exists() for name in (RECORD, "study.json"))
        content = content or {}
        self._verify, self._fresh = verify, set[str]()
        self._stamps = {name: FileStamp(*stamp) for name, stamp in content.get("files", {}).items()}
        self._steps = {
            name: Finished(**{**entry, "outputs": {path: FileStamp(*one) for path, one in entry["outputs"].items()}})
            for name, entry in content.get("steps", {}).items()
        }
        self._inputs: dict[str, Path] = {}

    def key(self, step: str, module: str, options: Options) -> str:
        """Return the hash of what a step depends on: its options, the files they name, and its code."""
        named = [name for name in type(options).model_fields if options.role(name) != "output"]
        depends = {
            "step": step,
            "code": code_stamp(module),
            "options": {name: plain(getattr(options, name), lambda path: path.name) for name in named},
            # By name and not by folder, so that results can be moved.
            "files": sorted(json.dumps([path.name, self._content(path)]) for path in set(options.reads())),
        }
        return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()

    def require_unchanged(self, options: Options) -> None:
        """Raise InputError if a file that a step has read is no longer what it was when the step began."""
        for path in set(options.reads()):
            for file in _files_in(path):
                stamp = self._stamps.get(self._name(file))
                if stamp is None or (not stamp.has_state_of(file) and FileStamp.of(file).sha256 != stamp.sha256):
                    raise InputError("was changed while it was read", path=file, hint="run the study again")

    def find(self, step: str, key: str) -> Finished | None:
        """Return a finished step if it has this key and its results are still what it wrote."""
        found = self._steps.get(step)
        if found is None or found.key != key:
            return None
        intact = all(self._is_intact(self.folder / path, stamp) for path, stamp in found.outputs.items())
        return found if intact else None

    def forget(self, step: str) -> None:
        """Remove a step from the record, and its results."""
        found = self._steps.pop(step, None)
        if found is None:
            return
        self._save()
        for path in found.outputs:
            (self.folder / path).unlink(missing_ok=True)
        for place in sorted({(self.folder / path).parent for path in found.outputs}, reverse=True):
            _remove_if_empty(place, self.folder)

    def finish(self, step: str, key: str, result: StepResult, written: Path, seconds: float) -> None:
        """Move the results of a step from where it wrote them into the folder, and record it."""
        files = [path.relative_to(written).as_posix() for path in sorted(written.rglob("*")) if path.is_file()]
        # Recorded before they are moved: whatever a kill leaves of them is removed by the next run.
        unknown = FileStamp(0, 0, 0, 0, 0, "")
        self._steps[step] = Finished("", dict.fromkeys(files, unknown))
        self._save()
        for name in files:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            put_in_place(written / name, self.folder / name, folder=False)
        for place in {(self.folder / name).parent for name in files}:
            sync_folder(place)
        shutil.rmtree(written)
        self._steps[step] = Finished(
            key,
            {name: FileStamp.of(self.folder / name) for name in files},
            list(result.messages),
            list(result.warnings),
            dict(result.summary),
            seconds,
        )
        self._save()

    def inputs(self) -> list[dict[str, str]]:
        """Return name and SHA-256 of the files from elsewhere that steps read in this run; others are forgotten."""
        asked = {name: self._stamps[name] for name in sorted(self._inputs)}
        if asked.keys() != self._stamps.keys():
            self._stamps = asked
            self._save()
        outside = {name: path for name, path in self._inputs.items() if not path.is_relative_to(self.folder)}
        found = sorted((path.name, self._stamps[name].sha256) for name, path in outside.items())
        return [{"file": name, "sha256": stamp} for name, stamp in found]  # in an order that no folder decides

    def __contains__(self, step: str) -> bool:
        return step in self._steps

    def __getitem__(self, step: str) -> Finished:
        return self._steps[step]

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of the steps in the record."""
        return tuple(self._steps)

    def _content(self, path: Path) -> Any:
        """Return the hash of a file, or names and hashes of the files in a folder; None if there is neither."""
        if path.is_dir():
            return [[file.relative_to(path).as_posix(), self._hash(file)] for file in _files_in(path)]
        return self._hash(path) if path.exists() else None

    def _hash(self, path: Path) -> str:
        name = self._name(path)
        self._inputs[name] = path
        known = self._stamps.get(name)
        if known is None or not known.holds(path) or (self._verify and name not in self._fresh):
            self._stamps[name] = known = FileStamp.of(path)
            self._fresh.add(name)
        return known.sha256

    def _name(self, path: Path) -> str:
        """Return the name of a file in the record: relative, so that results can be moved, where the system can.

        Folders above the results are somebody's own: a hash stands for them.
        """
        try:
            name = Path(os.path.relpath(path, self.folder)).as_posix()
        except ValueError:  # on another drive of Windows
            name = Path(path).as_posix()
        if Path(path).is_relative_to(self.folder):
            return name
        return f"{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:16]}/{Path(path).name}"

    def _is_intact(self, path: Path, stamp: FileStamp) -> bool:
        if not path.is_file():
            return False
        return (not self._verify and stamp.holds(path)) or FileStamp.of(path).sha256 == stamp.sha256

    def _save(self) -> None:
        # In one line: the record is written often, and holds hundreds of files.
        content = {
            "schema": SCHEMA,
            "files": self._stamps,
            "steps": {name: vars(one) for name, one in self._steps.items()},
        }
        write_text(self._path, json.dumps(strict(content), ensure_ascii=False))


def clear_unfinished(folder: Path, *, deep: bool = True) -> None:
    """Remove the temporary files that a killed run left in a folder, and (deep) in the folders below it."""
    for old in sorted(folder.glob(f"{'**/' if deep else ''}{TEMPORARY}*"), reverse=True):
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)


def identify(path: Path) -> dict[str, str]:
    """Return name and SHA-256 of a file."""
    return {"file": path.name, "sha256": FileStamp.of(path).sha256}


def _files_in(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path] if path.exists() else []
    return sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith(TEMPORARY))


def _remove_if_empty(place: Path, root: Path) -> None:
    while place != root and place.is_dir() and not any(place.iterdir()):
        place.rmdir()
        place = place.parent


def _read(path: Path) -> dict[str, Any] | None:
    """Return the record; None if it is missing, damaged, or of another version."""
    try:
        content = read_json(path, "record of finished steps")
        if content["schema"] != SCHEMA:
            return None
        for entry in content["steps"].values():
            Finished(**{**entry, "outputs": {name: FileStamp(*one) for name, one in entry["outputs"].items()}})
        for stamp in content["files"].values():
            FileStamp(*stamp)
    except (InputError, KeyError, TypeError, AttributeError):
        return None
    return dict(content)
