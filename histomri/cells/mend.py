"""Tables with flaws that can be mended: header lines in the middle, and rows that lack their last, empty fields.

The whole file is looked at first; if anything else is wrong with a row, nothing is mended and the error stays.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histomri.cells import sniff
from histomri.cells.parsed_export import AREAS, POSITION
from histomri.cells.sniff import refusal

_NEEDED = (*POSITION, *AREAS, "image", "object_id", "object_type", "classification")
_SMALL = re.compile(r"-?\d{1,3}")
_GROUPED = {sign: re.compile(rf"-?\d{{1,3}}(?:\{sign}\d{{3}})+") for sign in ".,"}
_LOOKED_AT, _NEAR_A_THOUSAND = 5000, 100


@dataclass(frozen=True)
class Flaws:
    """What is wrong with the lines of a table, and can be mended."""

    n_headers: int = 0  # lines that repeat the header
    n_short: int = 0  # rows that lack empty fields at their end
    n_cut: int = 0  # 1 if the last line has no end and too few fields

    def warnings(self) -> tuple[str, ...]:
        """Return warnings about the flaws."""
        texts = []
        if self.n_headers:
            texts.append(f"{self.n_headers:,} lines repeat the header (files put together?) and were left out")
        if self.n_short:
            texts.append(
                f"{self.n_short:,} rows lack the last field, which is empty in all other rows; they were padded"
            )
        if self.n_cut:
            texts.append("the file is cut short in its last row, which was left out")
        return tuple(texts)


def find_flaws(path: Path, layout: sniff.Layout, encoding: str) -> Flaws | None:
    """Look through a table; return its flaws, None if there are none or others than can be mended."""
    width, header = len(layout.names), _stripped(layout.names)
    n_headers = n_short = most_missing = 0
    least_empty, last_missing, ended = width, 0, True
    for line in _lines(path, layout, encoding):
        text = line.rstrip("\r\n")
        ended = text != line
        if not text.strip(" \t") and layout.delimiter not in text:
            continue
        fields = _fields(text, layout.delimiter)
        last_missing = width - len(fields)
        if last_missing < 0:
            return None
        if _stripped(fields) == header:
            n_headers += 1
        elif last_missing:
            n_short += 1
            most_missing = max(most_missing, last_missing if ended else 0)
        else:
            least_empty = min(least_empty, _trailing_empty(fields))
    n_cut = int(not ended and last_missing > 0 and last_missing > max(most_missing, 0))
    n_short -= n_cut
    if most_missing > least_empty or (n_short and _needed(layout, width - most_missing) and least_empty == width):
        return None
    return Flaws(n_headers, n_short, n_cut) if n_headers or n_short else None


def _needed(layout: sniff.Layout, start: int) -> bool:
    """Whether a column from `start` on is one that cells need; if all rows lack it, another field may be missing."""
    return any(column.index >= start and name in _NEEDED for name, column in layout.header.columns.items())


class Mended(io.RawIOBase):
    """The lines of a table without its flaws, as UTF-8; no header."""

    def __init__(self, path: Path, layout: sniff.Layout, encoding: str, flaws: Flaws) -> None:
        super().__init__()
        self._lines, self._left = _mended_lines(path, layout, encoding, flaws), b""

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; return how many bytes were there."""
        parts, size = [self._left], len(self._left)
        while size < len(buffer) and (line := next(self._lines, b"")):
            parts.append(line)
            size += len(line)
        content = b"".join(parts)
        self._left = content[len(buffer) :]
        found = content[: len(buffer)]
        buffer[: len(found)] = found
        return len(found)


def _mended_lines(path: Path, layout: sniff.Layout, encoding: str, flaws: Flaws) -> Iterator[bytes]:
    width, header, delimiter = len(layout.names), _stripped(layout.names), layout.delimiter
    for line in _lines(path, layout, encoding):
        text = line.rstrip("\r\n")
        if not text.strip(" \t") and delimiter not in text:
            continue
        fields = _fields(text, delimiter)
        missing = width - len(fields)
        if _stripped(fields) == header or (flaws.n_cut and text == line and missing):
            continue
        yield f"{text}{delimiter * missing}\n".encode()


def _lines(path: Path, layout: sniff.Layout, encoding: str) -> Iterator[str]:
    """Yield the lines after the header with their ends."""
    with sniff.open_export(path) as raw:
        text = io.TextIOWrapper(io.BufferedReader(_Readable(raw)), encoding=encoding, newline="")
        for place, line in enumerate(text):
            if place >= layout.skip_rows:
                yield line


class _Readable(io.RawIOBase):
    """A stream that text can be read from; those of archives lack some methods."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._stream.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


def _fields(text: str, delimiter: str) -> list[str]:
    if '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return text.split(delimiter)


def _stripped(fields: Sequence[str]) -> list[str]:
    return [field.strip().strip("\ufeff\"'") for field in fields]


def _trailing_empty(fields: Sequence[str]) -> int:
    return next((nth for nth, field in enumerate(reversed(fields)) if field.strip()), len(fields))


def check_thousands(path: Path, head: bytes, layout: sniff.Layout) -> None:
    """Raise InputError if positions or areas have separators between thousands, which would be read as decimals.

    A column then holds whole numbers below a thousand, some of them near it, and numbers in groups of three digits.
    """
    text = head.decode(layout.encoding, errors="ignore")
    lines = re.split(r"\r\n|\r|\n", text)[layout.skip_rows : layout.skip_rows + _LOOKED_AT]
    columns = [column for name, column in layout.header.columns.items() if name in (*POSITION, *AREAS)]
    if not any(sign in text for sign in ".,") or not columns:
        return
    rows = [_fields(line, layout.delimiter) for line in lines[:-1]]
    for column in columns:
        values = [row[column.index].strip() for row in rows if len(row) > column.index and row[column.index].strip()]
        small = [value for value in values if _SMALL.fullmatch(value)]
        if not small or max(abs(int(value)) for value in small) < _NEAR_A_THOUSAND:
            continue
        for sign, grouped in _GROUPED.items():
            groups = [value for value in values if grouped.fullmatch(value)]
            if groups and len(groups) + len(small) == len(values):
                name = "points" if sign == "." else "commas"
                problem = f"column {column.raw!r} holds {groups[0]!r} beside {small[0]!r}: {name} between thousands"
                hint = "save it again without separators between thousands (in Excel: cell format General)"
                raise refusal(f"{problem}, which would be read as decimals", path, hint)
