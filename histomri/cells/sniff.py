"""The kind of a file: container, encoding, delimiter, header; from its first bytes, never from its name."""

import codecs
import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from histomri.cells.parsed_export import Header, recognise
from histomri.core.door import Inflated, packing_of, reading, require_file, require_same_headers
from histomri.core.errors import InputError

HEAD_BYTES = 1 << 20
ENCODINGS = ("utf-8", "cp1252", "mac_roman")
_EXPORT = "export again from QuPath with Measure > Export measurements"
EXPORT_AGAIN = f"{_EXPORT}, export type 'Cells' (or 'Detections'), as .tsv with all columns"
_UTF16_JSON = (b"\xff\xfe[\0", b"\xff\xfe{\0", b"\xfe\xff\0[", b"\xfe\xff\0{")
_LARGEST_RATIO = 200  # text shrinks five- to fiftyfold; a bomb is zeros, which shrink a thousandfold
_LEAST_LIMIT = 1 << 26
_ARCHIVE = "copy or export it again", "the archive is cut short or damaged ({})"
_MAGIC = (
    (b"PAR1", "a Parquet file"), (b"\xff\xd8\xff", "a JPEG picture"), (b"%PDF", "a PDF document"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook"), (b"\xac\xed\x00\x05", "a QuPath data file (.qpdata)"),
    (b"\x89HDF", "an HDF5 file"), (b"PK\x05\x06", "an empty zip archive"), (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"), (b"7z\xbc\xaf", "a 7-Zip archive"),
)  # fmt: skip


def refusal(problem: str, path: str | Path, hint: str = EXPORT_AGAIN) -> InputError:
    """Return the error for a file that cannot be read as cells."""
    return InputError(problem, path=path, hint=hint)


@dataclass(frozen=True)
class Layout:
    """How to read a delimited table."""

    encoding: str
    delimiter: str
    skip_rows: int
    names: tuple[str, ...]
    header: Header


class _Bounded(io.RawIOBase):
    """A stream of unpacked bytes that refuses to become far larger than its archive, and names it if it is damaged."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        super().__init__()
        self._stream, self._path, self._count = stream, path, 0
        self._most = max(_LEAST_LIMIT, _LARGEST_RATIO * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes; all of them, up to the limit, if it is negative."""
        with reading(self._path, "archive", *_ARCHIVE):
            found = self._stream.read(size if size is not None and size >= 0 else self._most + 1 - self._count)
        self._count += len(found)
        if self._count > self._most:
            problem = f"unpacks to more than {_LARGEST_RATIO} times its size, as no table or GeoJSON does"
            raise refusal(problem, self._path, "unpack it and look, or " + EXPORT_AGAIN)
        return found

    def readinto(self, buffer: Any) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def finish(self) -> None:
        """Read what is left: the checksum stands at the end."""
        while self.read(HEAD_BYTES):
            pass


@contextmanager
def open_export(path: str | Path, *, to_end: bool = True) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes; gzip and zip are unpacked as they are read.

    What the reader leaves of an archive is read after it, because the checksum stands at the end, unless `to_end` is
    false.
    """
    path = require_file(path, "QuPath export")
    packing = packing_of(path)
    with ExitStack() as stack:
        if not packing:
            yield stack.enter_context(path.open("rb"))
            return
        with reading(path, "archive", *_ARCHIVE):
            packed: Any = io.BufferedReader(Inflated(path)) if packing == "gzip" else _member(path, stack)
            bounded = _Bounded(stack.enter_context(packed), path)
        yield cast(IO[bytes], bounded)
        if to_end:
            bounded.finish()


def _member(path: Path, stack: ExitStack) -> IO[bytes]:
    archive = stack.enter_context(zipfile.ZipFile(path))
    name = _only_member(archive, path)
    require_same_headers(archive, archive.getinfo(name))
    return archive.open(name)


def is_plain(path: Path) -> bool:
    """Whether the file is no archive, so that it can be handed to a reader by name."""
    return not packing_of(path)


def read_head(path: str | Path) -> bytes:
    """Return the first mebibyte of an export, unpacked."""
    with open_export(path, to_end=False) as stream:
        head = stream.read(HEAD_BYTES)
    if not head:
        raise refusal("the file inside the archive is empty", path, "export it again")
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            made = "a table made by `histomri cells` goes into `histomri patches`"
            raise refusal(f"is {kind}, not a table of cells", path, made if magic == b"PAR1" else EXPORT_AGAIN)
    if head[:4] in _UTF16_JSON:
        raise refusal("is GeoJSON, but not a UTF-8 text file", path, "save it as UTF-8")
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] == b"n+2\0":
        raise refusal("is a NIfTI image, not a table of cells", path)
    return head


def is_picture(head: bytes) -> bool:
    """Whether a file that starts like this may be a mask of numbered cells."""
    return head.startswith((b"\x89PNG", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\x93NUMPY"))


def sniff_table(path: str | Path, head: bytes, header_of: Callable[[Sequence[str]], Header] = recognise) -> Layout:
    """Find out encoding, delimiter and columns of a delimited table from its first bytes."""
    encoding, text = _decode(path, head)
    lines = re.split(r"\r\n|\r|\n", text)
    skip = next((place for place, line in enumerate(lines) if line.strip()), len(lines))
    if skip == len(lines):
        raise refusal("holds nothing but blank lines", path)
    declared = re.fullmatch(r'"?sep=(.)"?', lines[skip].strip("\ufeff \t") or "", re.IGNORECASE)
    skip += 1 if declared and len(lines) > skip + 1 else 0  # Excel's own first line
    line = lines[skip].lstrip("\ufeff")
    split = ((delimiter, _fields(line, delimiter)) for delimiter in "\t,;")
    layouts = [Layout(encoding, delimiter, skip + 1, tuple(names), header_of(names)) for delimiter, names in split]
    layout = max(layouts, key=lambda one: (len(one.header.columns), len(one.names)))
    if len(layout.names) < 2 and not layout.header.columns:
        raise refusal(f"is not a table: its first line is {line[:60]!r}, without tabs, commas or semicolons", path)
    return layout


def _only_member(archive: zipfile.ZipFile, path: Path) -> str:
    names = [info.filename for info in archive.infolist() if not info.is_dir() and "__MACOSX" not in info.filename]
    if len(names) != 1:
        kind = "an Excel workbook or another archive of" if "[Content_Types].xml" in names else "a zip of"
        problem = f"is {kind} {len(names)} files, and one table was expected"
        raise refusal(problem, path, "unpack it, or " + EXPORT_AGAIN)
    if names[0].startswith(("/", "\\")) or ".." in re.split(r"[/\\]", names[0]) or names[0][1:2] == ":":
        raise refusal(f"holds a file named {names[0]!r}, a name that points out of its folder", path)
    return names[0]


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(line), delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)


def _decode(path: str | Path, head: bytes) -> tuple[str, str]:
    whole = len(head) < HEAD_BYTES
    is_utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if not is_utf16 and (b"\0" in head or any(byte < 9 or 13 < byte < 32 for byte in head[:4096])):
        raise refusal("is not a text file", path)
    for encoding in ("utf-16",) if is_utf16 else ENCODINGS:
        try:
            return encoding, codecs.getincrementaldecoder(encoding)().decode(head, final=whole)
        except UnicodeDecodeError:
            continue
    raise refusal("is not a text file in a known encoding", path, "save it as UTF-8")
