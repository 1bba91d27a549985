"""The one door through which files come in: looked at before memory is taken, read to their end, one kind of error.

A reader opens its file with the functions here, or hands it to a library within `reading`. Size and header are compared
with a memory budget first (a quarter of the machine, or ``HISTOMRI_MEMORY``). Archives are read to their end, because
their checksums stand there. Whatever a library raises on damaged content becomes one InputError with the file and what
to do; mistakes in histomri's own code are not hidden.
"""

import io
import json
import math
import os
import re
import stat
import tomllib
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from histomri.core.budget import require_memory
from histomri.core.errors import HistomriError, InputError

_OURS = str(Path(__file__).resolve().parents[1]) + os.sep
_MISTAKES = (NameError, AttributeError, TypeError, AssertionError, NotImplementedError)
_LONGEST_REASON = 200
_CHUNK = 1 << 20
_MOST_PACKED = 1100  # deflate packs 1032 bytes into one at most
_LARGEST_WHOLE = 1 << 63
_LONG_NUMBER = re.compile(r"\d{19}")
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_PNG = b"\x89PNG\r\n\x1a\n"
AGAIN = "copy or export it again"


def require_file(path: str | Path, what: str = "file") -> Path:
    """Return `path` as a Path, or say what is wrong with it.

    Raises
    ------
    InputError
        If it does not exist, is a folder, or is empty.
    """
    path = Path(path)
    try:
        about = path.stat()
    except FileNotFoundError as error:
        raise InputError(f"no such {what}", path=path, hint="check the spelling and the folder") from error
    except (OSError, ValueError) as error:  # no permission, a name too long, a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be read ({reason})", path=path, hint="check the name and the permissions") from error
    if stat.S_ISDIR(about.st_mode):
        raise InputError(f"is a folder, and a {what} was expected", path=path)
    if about.st_size == 0 and stat.S_ISREG(about.st_mode):
        raise InputError(f"the {what} is empty", path=path, hint="export it again")
    return path


@contextmanager
def reading(
    path: str | Path, what: str, hint: str | None = AGAIN, says: str | None = None,
    kind: type[InputError] = InputError, *, unchecked: bool = False,
) -> Iterator[None]:  # fmt: skip
    """Turn whatever a library raises on the content of a file into one InputError, or a `kind` of it, with the file.

    The message is ``is not a readable WHAT (REASON)``, or what it `says`, with ``{}`` in the place of the reason.
    Errors of histomri keep their words and get the path if they have none. A mistake in the code of histomri itself, an
    unknown name or a call with wrong arguments, is let through: it is no fault of the file. Code that walks through an
    `unchecked` document, of JSON for instance, may stumble on a value of another type than it expects: then wrong types
    are the fault of the file, and only unknown names are let through.

    Raises
    ------
    InputError
        If the file is damaged, of another kind, or asks for more memory than there is.
    """
    try:
        yield
    except InputError as error:
        if error.path is not None:
            raise
        raise type(error)(error.problem, path=path, hint=error.hint) from error
    except HistomriError:
        raise
    except MemoryError as error:
        raise InputError(f"the {what} needs more memory than there is", path=path, hint=hint) from error
    except RecursionError as error:
        raise InputError("is nested too deeply to be read", path=path, hint=hint) from error
    except Exception as error:
        if is_own_mistake(error) and not (unchecked and isinstance(error, TypeError | AttributeError)):
            raise
        problem = (says or f"is not a readable {what} ({{}})").replace("{}", _reason(error))
        raise kind(problem, path=path, hint=hint) from error


def is_own_mistake(error: BaseException) -> bool:
    """Whether an exception shows a mistake in histomri, not in a file: by its type, and by who raised it."""
    if isinstance(error, NameError | ImportError) and not isinstance(error, UnboundLocalError):
        return True
    places = traceback.extract_tb(error.__traceback__)
    return isinstance(error, _MISTAKES) and bool(places) and places[-1].filename.startswith(_OURS)


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    lines = str(error).strip().splitlines()
    text = " ".join(lines[0].split()) if lines else type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}.."


# ---------------------------------------------------------------- archives


def packing_of(path: Path) -> str:
    """Return "gzip", "zip" or "", by the first bytes of a file."""
    with path.open("rb") as stream:
        start = stream.read(4)
    return "gzip" if start[:2] == _GZIP else "zip" if start == _ZIP else ""


class Inflated(io.RawIOBase):
    """A gzip file as a stream of the bytes packed in it; reading to its end compares the checksum.

    zlib itself compares checksum and length of each member, and says so where they differ.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._inflate = zlib.decompressobj(wbits=31)
        self._waiting, self._at = b"", 0

    def readable(self) -> bool:
        """Return that it can be read; it cannot go back."""
        return True

    def tell(self) -> int:
        """Return how many bytes were given out."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as one piece of the file reaches; 0 at the end."""
        view = memoryview(buffer).cast("B")
        part = b""
        while not part and len(view):
            if self._inflate.eof:
                self._waiting = self._inflate.unused_data or self._waiting
                self._waiting = self._waiting.lstrip(b"\0") or self._file.read(_CHUNK).lstrip(b"\0")
                if not self._waiting:
                    return 0
                self._inflate = zlib.decompressobj(wbits=31)
            data = self._inflate.unconsumed_tail or self._waiting or self._file.read(_CHUNK)
            self._waiting = b""
            if not data:
                raise EOFError("the archive ends before the data do")
            part = self._inflate.decompress(data, len(view))
        view[: len(part)] = part
        self._at += len(part)
        return len(part)

    def read_exactly(self, buffer: Any) -> None:
        """Fill a buffer; EOFError if the stream ends before."""
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view):
            count = self.readinto(view[done : done + (_CHUNK << 3)])
            if not count:
                raise EOFError("the data end before the header says they do")
            done += count

    def skip(self, count: int) -> None:
        """Read past some bytes."""
        self.read_exactly(bytearray(count))

    def finish(self) -> None:
        """Read what is left, for the checksum."""
        rest = bytearray(_CHUNK)
        while self.readinto(rest):
            pass

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def check_zip(path: Path, what: str, *, most_ratio: float = _MOST_PACKED) -> dict[str, int]:
    """Read every member of a zip archive to its end, for the checksums, and return their sizes by name.

    The two headers that each member has must agree, and no member may be larger than the budget of memory. To be called
    within `reading`, which reports an archive that is damaged or encrypted as the caller says.

    Raises
    ------
    InputError
        If the archive unpacks to more than memory holds, or to more than `most_ratio` times its size.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        whole = sum(member.file_size for member in members)
        require_memory(max((member.file_size for member in members), default=0), path, f"a member of the {what}")
        if whole > most_ratio * path.stat().st_size + (1 << 20):
            raise InputError(f"unpacks to {whole:,} bytes, as no {what} does", path=path, hint="unpack it and look")
        for member in members:
            require_same_headers(archive, member)
            with archive.open(member) as stream:
                while stream.read(_CHUNK):
                    pass
        return {member.filename: member.file_size for member in members}


def require_same_headers(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise BadZipFile where the header before a member and the one in the list at the end contradict each other."""
    stream: IO[bytes] = archive.fp  # type: ignore[assignment]
    stream.seek(member.header_offset)
    local = stream.read(30)
    flags, method = (int.from_bytes(local[at : at + 2], "little") for at in (6, 8))
    crc, packed, size = (int.from_bytes(local[at : at + 4], "little") for at in (14, 18, 22))
    agree = flags == member.flag_bits and method == member.compress_type
    if not flags & 8 and size != 0xFFFFFFFF:  # else crc and sizes follow the data
        agree &= (crc, packed, size) == (member.CRC, member.compress_size, member.file_size)
    if not agree:
        raise zipfile.BadZipFile(f"the two headers of {member.filename} contradict each other")


def check_png(path: Path) -> None:
    """Compare the checksum of every piece of a PNG picture, which its readers do not.

    Raises
    ------
    ValueError
        If one differs, or the picture has no end; within `reading`, it is reported as the caller says.
    """
    with path.open("rb") as stream:
        if stream.read(8) != _PNG:
            raise ValueError("it does not begin like a PNG picture")
        size = path.stat().st_size
        while len(head := stream.read(8)) == 8:
            length = int.from_bytes(head[:4], "big")
            if length > size:
                break
            data, crc = stream.read(length), stream.read(4)
            if len(data) < length or zlib.crc32(data, zlib.crc32(head[4:])) != int.from_bytes(crc, "big"):
                break
            if head[4:] == b"IEND":
                return
        raise ValueError("a checksum in it differs, or it is cut short")


# ---------------------------------------------------------------- text, JSON, TOML


def read_bytes(path: str | Path, what: str) -> bytes:
    """Return the content of a file.

    Raises
    ------
    InputError
        If the file is missing, empty, cannot be read, or is larger than the budget of memory.
    """
    path = require_file(path, what)
    require_memory(2 * path.stat().st_size, path, what)
    with reading(path, what):
        return path.read_bytes()


def read_text(path: str | Path, what: str, hint: str | None = "save it as UTF-8") -> str:
    """Return the content of a text file in UTF-8, with or without its mark.

    Raises
    ------
    InputError
        If it is missing, empty, not UTF-8, or larger than the budget of memory.
    """
    content = read_bytes(path, what)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("is not a UTF-8 text file", path=path, hint=hint) from error


def read_json(path: str | Path, what: str = "JSON file") -> Any:
    """Read a JSON file; see `parse_json`."""
    return parse_json(read_text(path, what, None), path)


def parse_json(text: str, path: str | Path) -> Any:
    """Return the content of JSON text.

    Raises
    ------
    InputError
        If it is not JSON, with line and column; is nested too deeply; or holds a whole number that no computer's
        arithmetic takes (beyond 64 bits).
    """
    parser: dict[str, Callable[[str], Any]] = {"parse_int": _whole} if _LONG_NUMBER.search(text) else {}
    try:
        return json.loads(text, **parser)  # type: ignore[arg-type]
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise InputError(f"is not valid JSON ({where})", path=path) from error
    except RecursionError as error:
        raise InputError("is nested too deeply to be read", path=path) from error
    except ValueError as error:
        raise InputError(f"is not valid JSON ({error})", path=path) from error


def _whole(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) > 2 * _LARGEST_WHOLE:
        raise ValueError(f"a whole number of {len(digits.lstrip('-'))} digits, {digits[:12]}..")
    return int(digits)


def read_toml(path: str | Path, what: str) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    InputError
        If it is missing, empty, not UTF-8, not TOML, or holds a whole number of more than 64 bits.
    """
    text = read_text(path, what)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        slashes = "write paths with /, on every system" if "Unescaped" in str(error) else None
        raise InputError(f"is not valid TOML: {error}", path=path, hint=slashes) from error
    except RecursionError as error:
        raise InputError("is nested too deeply to be read", path=path) from error
    except ValueError as error:  # a whole number of thousands of digits, a day that no calendar has
        raise InputError(f"is not valid TOML: {error}", path=path) from error
    if (key := _too_long(content)) is not None:
        raise InputError(f"is not valid TOML: {key} is a whole number of more than 64 bits", path=path)
    return content


def _too_long(content: Any, name: str = "") -> str | None:
    """Return the name of the first whole number that is none of TOML's."""
    if isinstance(content, dict):
        items = [(f"{name}.{key}".lstrip("."), value) for key, value in content.items()]
    elif isinstance(content, list):
        items = [(name, value) for value in content]
    else:
        return name if isinstance(content, int) and not -_LARGEST_WHOLE <= content < _LARGEST_WHOLE else None
    return next((found for key, value in items if (found := _too_long(value, key)) is not None), None)


def finite(value: Any) -> float | None:
    """Return a value of JSON or TOML as a finite number, None if it is none; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
