"""What every format of protocol files shares: how it registers itself, what it is given, and tables of numbers.

A format is a file of this folder that calls `register`; nothing else has to change.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.door import read_json, read_text, require_file
from histomri.core.errors import InputError, ProtocolError
from histomri.core.presets import PRESETS
from histomri.mri.acquisition import Acquisition
from histomri.mri.images import open_dwi
from histomri.mri.protocols.columns import Columns

_WHAT = "protocol file"
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Source:
    """What the user named as the protocol, and the images it belongs to, if they are known."""

    path: Path
    dwi: Path | None = None

    @cached_property
    def json(self) -> dict[str, Any]:
        """Content of a JSON object; empty if it is none."""
        content = read_json(self.path, "JSON sidecar") if self.path.suffix == ".json" and self.path.exists() else {}
        return content if isinstance(content, dict) else {}

    @cached_property
    def lines(self) -> list[tuple[int, str]]:
        """Lines of the text file with their numbers, without comments and empty ones; none if it is no text."""
        try:
            return text_lines(self.path) if self.path.is_file() and self.path.suffix != ".json" else []
        except InputError:
            return []

    @cached_property
    def table(self) -> FloatArray:
        """The numbers of a text file that holds nothing else, (R, C); of shape (0, 0) if it is no such file."""
        try:
            return number_table(self.path) if self.lines else np.empty((0, 0))
        except ProtocolError:
            return np.empty((0, 0))

    @property
    def volumes(self) -> int | None:
        """How many volumes the images have."""
        return None if self.dwi is None else open_dwi(self.dwi).shape[3]

    def beside(self, suffix: str) -> list[Path]:
        """List the files that are named like the protocol, or else like the images, and end in `suffix`."""
        stems = [self.path.with_suffix("") if self.path.exists() else self.path]
        if self.dwi is not None:
            stems.append(self.dwi.with_name(re.sub(r"\.nii(\.gz)?$", "", self.dwi.name)))
        return [path for path in (each.with_name(each.name + suffix) for each in stems) if path.exists()]


@dataclass(frozen=True)
class Format:
    """A format of protocol files."""

    form: str  # what a user has to give, for messages
    recognises: Callable[[Source], bool]
    read: Callable[[Source], Acquisition | Columns]  # raises ProtocolError with the fault
    parts: tuple[str, ...] = ()  # endings of the files beside the protocol that it may read too
    general: bool = False  # asked only after all that are not
    name: str = ""  # what --format takes


FORMATS: list[Format] = []


def register(entry: Format) -> None:
    """Add a format; those that take almost any file stay last."""
    FORMATS.append(entry)
    FORMATS.sort(key=lambda each: each.general)


def accepted_forms() -> str:
    """Return what a user can give, for the end of a message."""
    forms = "; or ".join(each.form for each in sorted(FORMATS, key=lambda each: not each.general))
    return f"give {forms}; or one of {', '.join(PRESETS)}"


def number_list(path: Path) -> FloatArray:
    """Read a file that holds one row, or one column, of numbers."""
    table = number_table(path)
    if 1 not in table.shape:
        problem = f"has {table.shape[0]} rows of {table.shape[1]} numbers, and one list was expected"
        raise ProtocolError(problem, path=path)
    return table.ravel()


def text_lines(path: Path) -> list[tuple[int, str]]:
    """Read the lines of a text file with their numbers, without comments (after #) and empty ones."""
    require_file(path, _WHAT)
    try:
        text = read_text(path, _WHAT)
    except InputError as error:
        if not isinstance(error.__cause__, UnicodeDecodeError):
            raise
        raise InputError("is not a text file, so it cannot be a protocol", path=path, hint=accepted_forms()) from error
    lines = [line.split("#", 1)[0].strip() for line in text.splitlines()]
    return [(number, line) for number, line in enumerate(lines, start=1) if line]


def number_table(path: Path) -> FloatArray:
    """Read a table of numbers apart by blanks, tabs, commas or semicolons; see `numbers_in` for decimal commas."""
    return numbers_in(text_lines(path), path)


def numbers_in(lines: list[tuple[int, str]], path: Path) -> FloatArray:
    """Return the numbers of numbered lines of text, (R, C).

    Commas are decimal where semicolons, tabs or blanks stand between the numbers and a comma only within them
    ("0,5;10,2" or "0,5 10,2"), and separators otherwise. ProtocolError if decimals have commas and points, if commas
    could be either, or if lines differ in length.
    """
    rows: list[list[float]] = []
    split = _splitter([line for _, line in lines], path)
    for number, line in lines:
        words = split(line.strip(" \t,;"))
        if words == [""]:
            continue
        try:
            rows.append([float(word) for word in words])
        except ValueError as error:
            problem = f"line {number} holds something that is not a number: {line[:60]!r}"
            raise ProtocolError(problem, path=path, hint=accepted_forms()) from error
        if len(rows[-1]) != len(rows[0]):
            problem = f"line {number} has {len(rows[-1])} numbers where the first has {len(rows[0])}"
            raise ProtocolError(problem, path=path)
    if not rows:
        raise ProtocolError("holds no numbers", path=path, hint=accepted_forms())
    return np.array(rows)


def _splitter(lines: list[str], path: Path) -> Callable[[str], list[str]]:
    """Return how a line of numbers is split into words."""
    text = "\n".join(lines)
    words = [word for word in re.split(r"[;\s]+", text) if word]
    with_comma = [word for word in words if "," in word.strip(",")]
    others = set(words) - set(with_comma)
    decimal = with_comma and all(map(_DECIMAL_COMMA.fullmatch, with_comma)) and not any("," in word for word in others)
    # A pure list of commas, one number to a side, has no other mark between its numbers.
    apart = any(re.search(r"[;\s]", line.strip()) for line in lines)
    if decimal and apart:
        if points := [word for word in words if re.fullmatch(_NUMBER, word) and "." in word]:
            problem = f"has decimal commas, as in {with_comma[0]}, and points, as in {points[0]}"
            raise ProtocolError(problem, path=path, hint="write all decimals with a point, or all with a comma")
        # 0,500 can only be a decimal; 1,500 alone may be one thousand and a half.
        if all(_THOUSANDS.fullmatch(word) for word in with_comma):
            hint = "write decimals with a point, and no separators of thousands"
            raise ProtocolError(f"{with_comma[0]} may be a decimal or thousands", path=path, hint=hint)
        return lambda line: re.split(r"[\s;]+", line.replace(",", "."))
    if ";" in text and "," in text:
        hint = "put semicolons or blanks between the numbers, and decimal commas or points in them"
        raise ProtocolError("has commas and semicolons between its numbers", path=path, hint=hint)
    return lambda line: re.split(r"[\s,;]+", line)
