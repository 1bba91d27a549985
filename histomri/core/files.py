"""Files on disk: atomic writing, JSON, and the record of how a result came to be."""

import json
import os
import platform
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from histomri.core.door import read_json as read_json
from histomri.core.door import require_file as require_file
from histomri.core.errors import InputError
from histomri.core.provenance import run_mark, software_version

TEMPORARY = ".writing-"  # how the names of files begin that are not complete yet
_TOGETHER: ContextVar[dict[Path, Path] | None] = ContextVar("together", default=None)


def refuse_overwrite(out: str | Path, inputs: Iterable[str | Path | None]) -> None:
    """Raise InputError if the output would replace one of the inputs, or lie in a place that is no folder."""
    out = Path(out)
    for given in inputs:
        if given is not None and Path(given).exists() and out.exists() and os.path.samefile(out, given):
            raise InputError("is an input, and would be overwritten", path=out, hint="choose another --out")


def require_folder(path: str | Path) -> Path:
    """Return `path`, which is or may become a folder for results.

    Raises
    ------
    InputError
        If it, or a folder it would lie in, is a file.
    """
    path = Path(path)
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                raise InputError("is a file, and a folder is needed for the results", path=place)
            break
    return path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path next to `path`; it takes the name `path` only if the block succeeds.

    The temporary name ends like the final one, because many writers choose the format by suffix.

    Raises
    ------
    InputError
        If the file cannot be written: no permission, disk full, a file where a folder is needed.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        require_folder(path.parent).mkdir(parents=True, exist_ok=True)
        require_replaceable(path)
        handle, name = tempfile.mkstemp(prefix=own_prefix(), suffix=f"-{path.name}", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp makes the file private; a result is as readable as any other file the user writes.
        temporary.chmod(0o666 & ~_UMASK)
        if (waiting := _TOGETHER.get()) is not None:
            waiting[path] = temporary
            temporary = None
        else:
            put_in_place(temporary, path)
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror or error})", path=path, hint="check the disk and the permissions"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def together() -> Iterator[None]:
    """Let the files that are written within take their names together, once all are complete, or not at all.

    They cannot be read by their names before that.
    """
    waiting: dict[Path, Path] = {}
    token = _TOGETHER.set(waiting)
    try:
        yield
        for path, temporary in waiting.items():
            put_in_place(temporary, path, folder=False)
        for folder in {path.parent for path in waiting}:
            sync_folder(folder)
    except OSError as error:
        place, reason = error.filename or "the results", error.strerror or error
        raise InputError(f"{place} cannot be written ({reason})", hint="check the disk and the permissions") from error
    finally:
        _TOGETHER.reset(token)
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)


def require_replaceable(path: Path) -> None:
    """Raise InputError if a result would take the place of a link, or of a read-only file."""
    if path.is_symlink():
        raise InputError("is a link, and links are not replaced", path=path, hint="remove it, or name another file")
    if path.exists() and not path.stat().st_mode & 0o222:
        raise InputError("is read-only, and is not replaced", path=path, hint="allow writing, or name another file")


def put_in_place(temporary: Path, path: Path, *, folder: bool = True) -> None:
    """Give a complete file its name, on the disk too: a cut of the power leaves the old file or the new one."""
    require_replaceable(path)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    if folder:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk; Windows does so by itself, and does not open folders."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network drives cannot
            os.fsync(handle)
    finally:
        os.close(handle)


def own_prefix() -> str:
    """Return how the names of this process's temporaries begin: with a mark of the machine, and its number."""
    return f"{TEMPORARY}{_machine()}-{os.getpid()}-"


def clear_killed(folder: Path) -> None:
    """Remove the temporaries that killed processes of this machine left in a folder, and in the folders in it."""
    pattern = f"{TEMPORARY}{_machine()}-*"
    for old in [*folder.glob(pattern), *folder.glob(f"*/{pattern}")]:
        number = old.name.removeprefix(f"{TEMPORARY}{_machine()}-").partition("-")[0]
        if number.isdigit() and old.is_file() and not _is_running(int(number)):
            old.unlink(missing_ok=True)


@cache
def _machine() -> str:
    """Return a mark of this machine without its name: folders may be shared."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _is_running(number: int) -> bool:
    if os.name == "nt":  # there os.kill ends a process; its temporaries are left to `run`
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


def _umask() -> int:
    """Return the process's umask; it can only be read by setting it, so it is read once, before threads start."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_UMASK = _umask()


def write_text(path: str | Path, text: str) -> Path:
    """Write text as UTF-8 with Unix line ends, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def write_json(path: str | Path, content: Any) -> Path:
    """Write JSON, indented, atomically. NaN and infinity become null, as strict JSON has no word for them."""
    return write_text(path, json.dumps(strict(content), indent=2, ensure_ascii=False) + "\n")


def sidecar_path(path: str | Path) -> Path:
    """Return the JSON sidecar's path of a NIfTI file."""
    path = Path(path)
    return path.with_name(re.sub(r"\.nii(\.gz)?$", "", path.name) + ".json")


def provenance(sources: Iterable[str | Path] = (), parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the record that every sidecar carries: sources by name, parameters, and the version that wrote it.

    Only file names are kept: folders often hold names of people or machines.
    """
    return {
        "Sources": [Path(source).name for source in sources],
        "Parameters": dict(parameters or {}),
        "GeneratedBy": [{"Name": "histomri", "Version": software_version(), **run_mark()}],
    }


def strict(value: Any) -> Any:
    """Return plain data as strict JSON can hold it: NaN and infinity are null, arrays are lists."""
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [strict(item) for item in value]
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        return strict(value.tolist())
    if isinstance(value, float) and value - value != 0:
        return None
    if isinstance(value, Path):
        return str(value)
    return value
