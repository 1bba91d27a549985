"""The features of a GeoJSON file one after the other, whatever its size; a file cut short is an error."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from histomri.cells.sniff import open_export
from histomri.errors import InputError

_CHUNK = 1 << 22
# One feature of more text than this is no cell and no annotation: the file is damaged, or it is no GeoJSON of QuPath.
_LARGEST = 1 << 28
_FEATURES = re.compile(r'"features"\s*:\s*\[')
_AGAIN = "export it again from QuPath with File > Export objects as GeoJSON"


class _Window:
    """The part of the text that is not yet parsed."""

    def __init__(self, stream: io.TextIOWrapper, path: Path) -> None:
        self.stream, self.path, self.text, self.place, self.ended = stream, path, "", 0, False

    def grow(self) -> None:
        """Read on; parsed text is let go."""
        more = self.stream.read(_CHUNK)
        self.ended = not more
        self.text, self.place = self.text[self.place :] + more, 0
        if len(self.text) > _LARGEST + _CHUNK:
            raise InputError("holds an object too large to be a cell", path=self.path, way_out=_AGAIN)

    def peek(self) -> str:
        """Return the next character that is no blank and no comma, empty at the end."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in " ,\t\r\n":
                self.place += 1
            if self.place < len(self.text) or self.ended:
                return self.text[self.place : self.place + 1]
            self.grow()

    def decode(self, decoder: json.JSONDecoder) -> Any:
        """Return the next JSON value."""
        while True:
            try:
                value, self.place = decoder.raw_decode(self.text, self.place)
                return value
            except json.JSONDecodeError as error:
                # An error well before the end of what was read is no lack of text.
                if self.ended or error.pos < len(self.text) - _CHUNK:
                    raise _damaged(self, error) from error
                self.grow()
            except RecursionError as error:
                raise InputError("is nested too deeply to be read", path=self.path) from error


def stream_features(path: Path) -> Iterator[Any]:
    """Yield the features of a FeatureCollection or list; a single feature or geometry is yielded as it is.

    Raises
    ------
    InputError
        If the file is no JSON, not UTF-8, or ends before its closing bracket.
    """
    decoder = json.JSONDecoder()
    with open_export(path) as raw:
        window = _Window(io.TextIOWrapper(raw, encoding="utf-8-sig"), path)
        try:
            if not _enter(window):
                yield window.decode(decoder)
                return
            while (next_ := window.peek()) != "]":
                if not next_:
                    raise InputError("is cut short: its list of objects has no end", path=path, way_out=_AGAIN)
                yield window.decode(decoder)
        except UnicodeDecodeError as error:
            raise InputError("is not a UTF-8 text file", path=path, way_out=_AGAIN) from error


def _enter(window: _Window) -> bool:
    """Go to the first element of the list of features; False if there is no list."""
    first = window.peek()
    if first == "[":
        window.place += 1
        return True
    window.grow()
    # Only the start is searched: QuPath writes "type" and "features" first.
    if (match := _FEATURES.search(window.text[: 1 << 16])) is None:
        return False
    before = window.text[: match.start()]
    if '"geometry"' in before or '"coordinates"' in before:
        return False
    window.place = match.end()
    return True


def _damaged(window: _Window, error: json.JSONDecodeError) -> InputError:
    if (window.ended and error.pos >= len(window.text.rstrip()) - 1) or "Unterminated" in error.msg:
        return InputError("is cut short: it ends within an object", path=window.path, way_out=_AGAIN)
    excerpt = window.text[error.pos : error.pos + 20]
    return InputError(f"is not valid JSON ({error.msg}, at {excerpt!r})", path=window.path, way_out=_AGAIN)
