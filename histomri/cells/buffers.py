"""Columns that grow while a file is streamed, in memory that lies apart from the heap.

Many arrays that grow by turns leave the heap full of holes, which no other array fits into; a mapping of its own is
given back whole, and its pages cost nothing until they are written.
"""

import mmap
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from histomri.core.arrays import FloatArray

_FIRST_BYTES = 1 << 16
_TEXTS_AT_ONCE = 1 << 14


class ColumnBuffer:
    """Numbers, one after the other."""

    def __init__(self, kind: DTypeLike = np.float64) -> None:
        self.kind, self.size = np.dtype(kind), 0
        self._pages = mmap.mmap(-1, _FIRST_BYTES, access=mmap.ACCESS_COPY)

    def append(self, values: NDArray[Any]) -> None:
        """Add numbers at the end."""
        start = self.size
        self._lengthen(start + values.size)
        self._view(start)[:] = values

    def put(self, rows: NDArray[np.intp], values: FloatArray) -> None:
        """Set the numbers of some rows; rows that were never set, before them or between them, are NaN."""
        self.pad(int(rows.max()) + 1)
        with np.errstate(over="ignore"):  # beyond single precision is beyond all sense, and becomes infinite
            self._view(0)[rows] = values

    def pad(self, size: int) -> None:
        """Fill with NaN up to this size."""
        start = self.size
        if size > start:
            self._lengthen(size)
            self._view(start)[:] = np.nan

    def finished(self) -> NDArray[Any]:
        """Return the column, (size,); nothing is copied."""
        return self._view(0)

    def _view(self, start: int) -> NDArray[Any]:
        return np.frombuffer(self._pages, self.kind, self.size - start, start * self.kind.itemsize)

    def _lengthen(self, size: int) -> None:
        needed = size * self.kind.itemsize
        if needed > len(self._pages):
            larger = mmap.mmap(-1, max(2 * len(self._pages), needed), access=mmap.ACCESS_COPY)
            np.frombuffer(larger, self.kind, self.size)[:] = self._view(0)
            self._pages = larger  # the old ones go with the last view of them
        self.size = size


class TextsBuffer:
    """Texts that mostly differ, such as identifiers."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._chunks: list[pa.Array] = []

    def extend(self, texts: list[str]) -> None:
        """Add texts at the end."""
        self._waiting += texts
        if len(self._waiting) >= _TEXTS_AT_ONCE:
            self._pack()

    def finished(self) -> pa.ChunkedArray:
        """Return the texts."""
        self._pack()
        return pa.chunked_array(self._chunks, pa.large_string())

    def _pack(self) -> None:
        # Arrow's own builder asks for up to twice the memory, and does not give all of it back.
        spelled = [text.encode("utf-8", "replace") for text in self._waiting]
        ends = np.cumsum([0, *map(len, spelled)], dtype=np.int64)
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(spelled))]
        self._chunks.append(pa.Array.from_buffers(pa.large_string(), len(spelled), buffers))
        self._waiting = []


class WordsBuffer:
    """Texts of which there are few different ones, such as classes."""

    def __init__(self) -> None:
        self._codes, self._known = ColumnBuffer(np.int32), dict[str, int]()

    def extend(self, texts: list[str]) -> None:
        """Add texts at the end."""
        known = self._known
        self._codes.append(np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int32))

    def finished(self) -> pa.ChunkedArray:
        """Return the texts, each distinct one stored once."""
        # Halves of surrogate pairs, which JSON can spell and UTF-8 cannot, are replaced.
        spelled = pa.array([text.encode("utf-8", "replace").decode() for text in self._known], pa.large_string())
        # Two texts may become one when they are spelled in UTF-8.
        distinct = spelled.dictionary_encode()
        codes = self._codes.finished()
        if len(distinct.dictionary) < len(spelled):
            codes = distinct.indices.to_numpy()[codes]
        return pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array(codes), distinct.dictionary)])
