"""The features of a GeoJSON file, batch after batch, whatever its size; a file cut short is an error."""

import codecs
import json
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from histomri.cells.sniff import open_export
from histomri.core.errors import InputError

# As lists of lists, coordinates take ten times the memory of their text; more than fits the cache is slower, too.
_CHUNK = 1 << 17
_LARGEST = 1 << 26  # one feature of more text is no cell and no annotation
_FEATURES = re.compile(rb'"features"\s*:\s*\[')
# Where one feature ends and the next begins; not for sure, as the objects of a list within a feature may look so.
_BORDER = re.compile(rb'\}(?=\s*,\s*\{\s*"type"\s*:\s*"Feature")')
# QuPath before 0.5 wrote these bare. Within a text, the quotes put around them make JSON that no parser takes.
_NO_NUMBER = re.compile(rb"(?<=[:\[,\s])-?(?:NaN|Infinity)(?=\s*[,\]}])")
_BETWEEN = re.compile(r"[ \t\r\n,]*")
_BLANKS = b" \t\r\n"
_BORDER_BYTES = 200  # the longest border that is looked for
_CUT_PLACE = 16
_NO_END = "its list of objects has no end"
_AGAIN = "export it again from QuPath with File > Export objects as GeoJSON"


class _Parsed(NamedTuple):
    """The features at the start of a text."""

    features: list[Any]
    stop: int  # where the last one ends
    at_end: bool = False  # whether the list of features ends there


class _Window:
    """The part of the text that is not yet parsed."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self.stream, self.path, self.text, self.ended = stream, path, b"", False
        self.grow()
        self.text = self.text.removeprefix(codecs.BOM_UTF8)

    def grow(self) -> None:
        """Read on: as much again as is there, so that a long feature is not parsed anew for every chunk of it."""
        if len(self.text) > _LARGEST:
            raise InputError("holds an object too large to be a cell", path=self.path, hint=_AGAIN)
        wanted = max(_CHUNK, len(self.text))
        parts, got = [self.text], 0
        while got < wanted and (part := self.stream.read(wanted - got)):
            parts.append(part)
            got += len(part)
        self.ended = got < wanted
        self.text = b"".join(parts)


def stream_batches(path: Path, text: IO[bytes] | None = None) -> Iterator[list[Any]]:
    """Yield the features of a FeatureCollection or list; a single feature or geometry is yielded as it is.

    The text is that of the file, unless another is given.
    """
    with open_export(path) if text is None else nullcontext(text) as raw:
        window = _Window(raw, path)
        in_list = _enter(window)
        while True:
            parsed = _parse_list(window) if in_list else _parse(window, most=1)
            found, stop, at_end = bool(parsed.features), parsed.stop, parsed.at_end
            if found:
                yield parsed.features
            del parsed
            if at_end or (not in_list and found):
                return
            window.text = window.text[stop:]
            if window.ended and not found:
                problem = "it ends within an object" if window.text.strip(_BLANKS + b",") else _NO_END
                raise InputError(f"is cut short: {problem}", path=path, hint=_AGAIN)
            if not window.ended:
                window.grow()


def _parse_list(window: _Window) -> _Parsed:
    """Parse up to the last border between features, all at once; or else one by one."""
    if stop := _last_border(window.text):
        text = b"[" + window.text[:stop].lstrip(_BLANKS + b",") + b"]"
        for spell in (bytes, lambda text: _NO_NUMBER.sub(rb'"\g<0>"', text)):
            try:
                return _Parsed(orjson.loads(spell(text)), stop)
            except orjson.JSONDecodeError:
                continue  # a border within a feature, a number beyond double precision, or a mistake
    return _parse(window)


def _last_border(text: bytes) -> int:
    """Return where the last feature ends that another one follows; 0 if there is none."""
    start = len(text)
    while start > 0:
        stop, start = min(start + _BORDER_BYTES, len(text)), max(start - _CHUNK // 8, 0)
        if borders := [found.end() for found in _BORDER.finditer(text, start, stop)]:
            return borders[-1]
    return 0


def _parse(window: _Window, most: int | None = None) -> _Parsed:
    """Parse with Python's parser, which knows NaN and where a value ends, and can say what is wrong."""
    decoder, features, at = json.JSONDecoder(), list[Any](), 0
    try:
        words = codecs.getincrementaldecoder("utf-8")().decode(window.text, final=window.ended)
    except UnicodeDecodeError as error:
        raise InputError("is not a UTF-8 text file", path=window.path, hint=_AGAIN) from error
    at_end = False
    while len(features) != most:
        start = _BETWEEN.match(words, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        at_end = words[start : start + 1] == "]"
        if at_end or start == len(words):
            break
        try:
            value, stop = decoder.raw_decode(words, start)
        except json.JSONDecodeError as error:
            # Near the end, an object may merely be cut by it.
            if "Unterminated" not in error.msg and error.pos < len(words) - (1 if window.ended else _CUT_PLACE):
                problem = f"is not valid JSON ({error.msg}, at {words[error.pos : error.pos + 20]!r})"
                raise InputError(problem, path=window.path, hint=_AGAIN) from error
            break
        except (RecursionError, ValueError) as error:
            problem = "is nested too deeply" if isinstance(error, RecursionError) else "holds a number too long"
            raise InputError(f"{problem} to be read", path=window.path) from error
        if stop == len(words) and not window.ended and isinstance(value, int | float):
            break  # the rest of the number may follow
        features.append(value)
        at = stop
    return _Parsed(features, len(words[:at].encode()), at_end)


def _enter(window: _Window) -> bool:
    """Go to the first element of the list of features; False if there is no list."""
    head = window.text[: 1 << 16]  # the start only: QuPath writes "type" and "features" first
    blank = len(head) - len(head.lstrip(_BLANKS))
    if head[blank : blank + 1] == b"[":
        window.text = window.text[blank + 1 :]
        return True
    if (match := _FEATURES.search(head)) is None:
        return False
    if any(name in head[: match.start()] for name in (b'"geometry"', b'"coordinates"')):
        return False
    window.text = window.text[match.end() :]
    return True
