"""One guard around every part of the report: what fails becomes a notice in its place, and never stops the rest."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from histomri.core.errors import HistomriError, InputError

_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)
_FOLDERS = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[/\\](?:[^\s/\\]+[/\\])+")  # of absolute paths in messages of libraries


@dataclass(frozen=True)
class Failure:
    """A section of the report that could not be made, and why."""

    name: str
    reason: str


def attempt(make: Callable[[], _T], otherwise: _T, problems: list[str], what: str) -> _T:
    """Return what `make` gives; if it fails, note `what` is lacking and why, and return `otherwise`."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001  whatever is wrong with a file, the report is finished
        problems.append(f"{what} ({_reason(error)}).")
        return otherwise


def section(make: Callable[[], _T], problems: list[str], name: str) -> _T | Failure:
    """Return a section of the page, or a Failure that the page shows in its place."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001  as above
        failure = Failure(name, _reason(error))
        problems.append(f"{name}: this section could not be made ({failure.reason}).")
        return failure


def _reason(error: Exception) -> str:
    """Return what went wrong, with the name of the file but not its folder."""
    _LOG.debug("a part of the report failed", exc_info=error)
    text = str(error) if isinstance(error, HistomriError) else f"{type(error).__name__}: {error}"
    if isinstance(error, InputError):
        text = f"{Path(error.path).name}: {error.problem}" if error.path is not None else error.problem
    elif isinstance(error, OSError):
        text = f"{Path(str(error.filename or '')).name}: {error.strerror or type(error).__name__}"
    return _FOLDERS.sub("", text)
