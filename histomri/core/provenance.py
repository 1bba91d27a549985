"""Which code made a result: the version with its commit, and a stamp of the modules that a step imports."""

import hashlib
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = "histomri"
_DIGITS = 12
_CURRENT: ContextVar[tuple[str, Callable[[], str]] | None] = ContextVar("run", default=None)
_ROOT = Path(__file__).resolve().parents[1]
# Imports are found in the text: parsing the modules of a fit takes a second, and ruff keeps their form.
_FROM = re.compile(r"^[ \t]*from (\.?)([\w.]*) import (\([^)]*\)|[^\n]*)", re.M)
_NAME = re.compile(r"(?<!as )\b(\w+)(?: as \w+)?")
_BY_NAME = re.compile(rf"^[ \t]*import ({PACKAGE}[\w.]*)|[\"']({PACKAGE}\.[\w.]+)[:\"']", re.M)
_FOR_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)+", re.M)


@cache
def software_version() -> str:
    """Return the version: a release has its number, any other checkout its commit, and whether files were changed.

    An installed package has it in its metadata, where the build wrote it.
    """
    try:
        installed = version(PACKAGE)
    except PackageNotFoundError:
        installed = "0+unknown"
    if not (_ROOT.parent / ".git").exists():
        return installed
    commit = _git("rev-parse", "--short=9", "HEAD")
    if not commit:
        return installed
    changed = bool(_git("status", "--porcelain", "--untracked-files=no", "--", _ROOT.name, "cli"))
    release = _git("describe", "--tags", "--exact-match", "--match", "v*").removeprefix("v")
    if release and not changed:
        return release
    base = installed.split("+")[0].split(".post")[0].split(".dev")[0]
    return f"{base}+{_git('rev-list', '--count', 'HEAD')}.g{commit}{'.changed' if changed else ''}"


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT.parent), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # no git on this machine: the metadata has to do
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@contextmanager
def one_run(command: str, key: Callable[[], str]) -> Iterator[None]:
    """Let the sidecars that are written within carry the name of a command and a mark of this run of it.

    `key` gives what is the same for the same options and the same content of files, as `run_key` does; it is called
    once, when the first sidecar is written.
    """
    token = _CURRENT.set((command, cache(key)))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def run_mark() -> dict[str, str]:
    """Return command and mark of the run within which this is called, empty outside of one."""
    if (current := _CURRENT.get()) is None:
        return {}
    command, key = current
    return {"Command": command, "RunId": key()[:_DIGITS]}


@cache
def code_stamp(module: str) -> str:
    """Return a hash of the source of a module and of every module of histomri that it imports, near or far.

    Editing a page of the report does not change the stamp of a fit, because a fit does not import the report.
    """
    digest = hashlib.sha256()
    for name in sorted(_closure(module)):
        for path in _files(name):
            digest.update(f"{name}\0{path.name}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _closure(module: str) -> set[str]:
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imports(name)
    return found


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Return the modules of histomri that the source of a module names in its imports."""
    names: dict[str, None] = {}
    for path in _files(module):
        source = _FOR_TYPES.sub("", path.read_text(encoding="utf-8"))
        names |= {one or other: None for one, other in _BY_NAME.findall(source)}
        for dots, place, parts in _FROM.findall(source):
            place = ".".join(part for part in (_package(module) if dots else "", place) if part)
            if place.split(".")[0] == PACKAGE:
                # A module of a package stands for itself; any other name for all that the package offers.
                parts = [f"{place}.{part}" for part in _NAME.findall(parts)]
                names |= {part if _files(part) else place: None for part in parts}
        names |= {name: None for name in _registered(path, names)}
    return tuple(name for name in names if name.split(".")[0] == PACKAGE and _files(name))


def _registered(path: Path, imported: Iterable[str]) -> Iterator[str]:
    """Yield the modules of folders whose modules register themselves, which no import names."""
    if b"iter_modules" in path.read_bytes():
        packages = [file.parent for name in imported for file in _files(name) if file.stem == "__init__"]
        for folder in (path.parent, *packages):
            for file in folder.glob("*.py"):
                yield ".".join(file.relative_to(_ROOT.parent).with_suffix("").parts)


def _package(module: str) -> str:
    """Return what a relative import in a module starts from."""
    return module if any(path.stem == "__init__" for path in _files(module)) else module.rpartition(".")[0]


@cache
def _files(module: str) -> tuple[Path, ...]:
    """Return the source of a module; the stub beside a package that loads its parts late names those parts."""
    if module.split(".")[0] != PACKAGE:
        return ()
    place = _ROOT.joinpath(*module.split(".")[1:])
    beside = [place.with_suffix(".py"), place / "__init__.py", place / "__init__.pyi"]
    return tuple(path for path in beside if path.is_file())
