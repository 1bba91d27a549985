"""The features of a GeoJSON file, batch after batch, whatever its size; a file cut short is an error."""

import json
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson

from histomri.arrays import FloatArray, IntArray
from histomri.cells.sniff import open_export
from histomri.errors import InputError

_CHUNK = 1 << 20
# One feature of more text than this is no cell and no annotation: the file is damaged, or it is no GeoJSON of QuPath.
_LARGEST = 1 << 26
# Few enough that the parsed features stay small.
_BATCH = 1000
_FEATURES = re.compile(rb'"features"\s*:\s*\[')
_BLANKS = b" \t\r\n"
_AGAIN = "export it again from QuPath with File > Export objects as GeoJSON"


@dataclass(frozen=True)
class Batch:
    """Some features of a file; the arrays are overwritten when the next batch is asked for.

    Attributes
    ----------
    features : list
        Parsed JSON in which every well-formed ``"coordinates"`` is the number of an array.
    points : (P, 2) ndarray
        Coordinates of all arrays.
    ring_ends : (R,) ndarray
        How many points there are up to the end of each ring.
    ring_polygons : (R,) ndarray
        Which polygon of its array each ring belongs to.
    depths : (A,) ndarray
        How many brackets stand around the numbers of each array: 3 in a Polygon, 4 in a MultiPolygon.
    array_ends : (A,) ndarray
        How many rings there are up to the end of each array.
    own : (features, 2) ndarray
        First array of each feature, and the one after its last.
    """

    features: list[Any]
    points: FloatArray
    ring_ends: IntArray
    ring_polygons: IntArray
    depths: IntArray
    array_ends: IntArray
    own: IntArray


class _Window:
    """The part of the text that is not yet parsed, and room for what the scanner finds in it."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self.stream, self.path, self.place, self.stop, self.ended = stream, path, 0, 0, False
        self._make_room(2 * _CHUNK)
        self.grow()
        self.place = 3 if self.left().startswith(b"\xef\xbb\xbf") else 0

    def _make_room(self, size: int) -> None:
        self.text = np.empty(size, dtype=np.uint8)
        self.out = np.empty(2 * size + 64, dtype=np.uint8)
        self.points = np.empty((size // 4, 3))
        self.rings = np.empty((size // 6, 2), dtype=np.int32)
        self.arrays = np.empty((size // 16, 2), dtype=np.int32)
        self.values = np.empty((_BATCH, 2), dtype=np.int64)

    def grow(self) -> None:
        """Read on; parsed text is let go. A feature longer than the room gets twice the room."""
        left = self.stop - self.place
        if left > _LARGEST:
            raise InputError("holds an object too large to be a cell", path=self.path, way_out=_AGAIN)
        rest = self.text[self.place : self.stop].copy()
        if left > self.text.size - _CHUNK:
            self._make_room(2 * self.text.size)
        self.text[:left] = rest
        # As much again as is there, so that a long feature is not scanned from its start for every chunk of it.
        wanted = min(max(_CHUNK, left), self.text.size - left)
        parts, got = [], 0
        while got < wanted and (part := self.stream.read(wanted - got)):
            parts.append(part)
            got += len(part)
        self.ended = got < wanted
        if got:
            self.text[left : left + got] = np.frombuffer(b"".join(parts), dtype=np.uint8)
        self.place, self.stop = 0, left + got

    def left(self) -> bytes:
        """Return the text that is not yet parsed."""
        return self.text[self.place : self.stop].tobytes()


def stream_batches(path: Path, text: IO[bytes] | None = None) -> Iterator[Batch]:
    """Yield the features of a FeatureCollection or list; a single feature or geometry is yielded as it is.

    The text is that of the file, unless another is given.

    Raises
    ------
    InputError
        If the file is no JSON, not UTF-8, or ends before its closing bracket.
    """
    from histomri.cells.geojson_scan import END, FULL, scan

    with open_export(path) if text is None else nullcontext(text) as raw:
        window = _Window(raw, path)
        in_list = _enter(window)
        while True:
            status, place, count = scan(
                window.text, window.place, window.stop, window.out, window.points, window.rings, window.arrays,
                window.values,
            )  # fmt: skip
            if count == 0 and status == FULL:
                raise InputError("is not valid JSON (a brace too many)", path=path, way_out=_AGAIN)
            if count:
                yield _batch(window, count)
            window.place = place
            if status == END or (not in_list and count):
                return
            if status == FULL:
                continue
            if window.ended:
                raise _cut_short(window)
            window.grow()


def _batch(window: _Window, count: int) -> Batch:
    from histomri.cells.geojson_scan import ARRAY_END, DEPTH, POINT_END, POLYGON, RING_END, TEXT_END

    values = window.values[:count]
    n_arrays = int(values[-1, ARRAY_END])
    arrays = window.arrays[:n_arrays]
    n_rings = int(arrays[-1, RING_END]) if n_arrays else 0
    rings = window.rings[:n_rings]
    text = window.out[: values[-1, TEXT_END]]
    try:
        features = orjson.loads(b"[" + text.tobytes() + b"]")
    except orjson.JSONDecodeError:
        features = _parse_one_by_one(window.path, text.tobytes(), values[:, TEXT_END].tolist())
    ends = values[:, ARRAY_END]
    n_points = int(rings[-1, POINT_END]) if n_rings else 0
    return Batch(
        features,
        window.points[:n_points, :2],
        rings[:, POINT_END],
        rings[:, POLYGON],
        arrays[:, DEPTH],
        arrays[:, RING_END],
        np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1),
    )


def _parse_one_by_one(path: Path, text: bytes, ends: list[int]) -> list[Any]:
    """Parse with Python's parser, which takes numbers beyond double precision, and can say what is wrong."""
    features, start = [], 0
    for end in ends:
        try:
            features.append(json.loads(text[start:end].decode("utf-8")))
        except UnicodeDecodeError as error:
            raise InputError("is not a UTF-8 text file", path=path, way_out=_AGAIN) from error
        except json.JSONDecodeError as error:
            excerpt = error.doc[error.pos : error.pos + 20]
            raise InputError(f"is not valid JSON ({error.msg}, at {excerpt!r})", path=path, way_out=_AGAIN) from error
        except (RecursionError, ValueError) as error:
            what = "is nested too deeply" if isinstance(error, RecursionError) else "holds a number too long"
            raise InputError(f"{what} to be read", path=path) from error
        start = end + 1
    return features


def _enter(window: _Window) -> bool:
    """Go to the first element of the list of features; False if there is no list."""
    # Only the start is searched: QuPath writes "type" and "features" first.
    head = window.text[window.place : min(window.stop, window.place + (1 << 16))].tobytes()
    blank = len(head) - len(head.lstrip(_BLANKS))
    if head[blank : blank + 1] == b"[":
        window.place += blank + 1
        return True
    if (match := _FEATURES.search(head)) is None:
        return False
    before = head[: match.start()]
    if b'"geometry"' in before or b'"coordinates"' in before:
        return False
    window.place += match.end()
    return True


def _cut_short(window: _Window) -> InputError:
    rest = window.left().strip(_BLANKS + b",")
    if not rest:
        return InputError("is cut short: its list of objects has no end", path=window.path, way_out=_AGAIN)
    # A text may also seem to have no end because something before its end is wrong.
    decoder = json.JSONDecoder()
    try:
        decoder.raw_decode(rest[:_LARGEST].decode("utf-8", "replace"))
    except RecursionError:
        return InputError("is nested too deeply to be read", path=window.path)
    except json.JSONDecodeError as error:
        if error.pos < len(error.doc) - 1 and "Unterminated" not in error.msg:
            excerpt = error.doc[error.pos : error.pos + 20]
            return InputError(f"is not valid JSON ({error.msg}, at {excerpt!r})", path=window.path, way_out=_AGAIN)
    except ValueError:
        return InputError("holds a number too long to be read", path=window.path)
    return InputError("is cut short: it ends within an object", path=window.path, way_out=_AGAIN)
