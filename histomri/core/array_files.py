"""NumPy's files and Parquet through the door: header against size and memory budget first, checksums, no pickle."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from histomri.core.arrays import FloatArray
from histomri.core.budget import require_memory
from histomri.core.door import AGAIN, check_zip, reading, require_file
from histomri.core.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_OBJECTS = "numpy.save('name.npy', array) of an array of numbers"


def read_array(
    path: str | Path, what: str = "NumPy file", *, mapped: bool = False, says: str | None = None
) -> NDArray[Any]:
    """Read a .npy file; with `mapped`, its numbers stay on disk until they are asked for.

    The format has no checksum: a number that was changed in the file is not noticed.

    Raises
    ------
    InputError
        If it is no such file, holds Python objects, is cut short, or is larger than the budget of memory.
    """
    path = require_file(path, what)
    with path.open("rb") as stream, reading(path, what, says=says):
        major, _ = npy.read_magic(stream)
        header = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
        shape, _, dtype = header(stream)
        if dtype.hasobject:
            raise InputError("holds Python objects, and they are not opened", path=path, hint=f"save it by {_OBJECTS}")
        needed, size = _bytes(shape, dtype), path.stat().st_size - stream.tell()
        if needed > size:
            problem = f"is cut short: its header says {needed:,} bytes of numbers, and it has {size:,}"
            raise InputError(problem, path=path, hint="copy it again")
        if not mapped:
            require_memory(needed, path, what)
        return np.asarray(np.load(path, mmap_mode="r" if mapped and needed else None, allow_pickle=False))


def read_arrays(path: str | Path, what: str, says: str | None = None) -> dict[str, NDArray[Any]]:
    """Read the arrays of a .npz file, every one to its end with its checksum.

    Raises
    ------
    InputError
        As `read_array`.
    """
    path = require_file(path, what)
    with reading(path, what, says=says):
        sizes = check_zip(path, what)
    require_memory(sum(sizes.values()), path, what)
    with path.open("rb") as stream, reading(path, what, says=says), np.load(stream, allow_pickle=False) as stored:
        return {name: np.asarray(stored[name]) for name in stored.files}


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    count = int(dtype.itemsize)
    for length in shape:
        if length < 0:
            raise ValueError(f"its shape is {shape}")
        count *= int(length)
    return count


def as_numbers(value: Any) -> FloatArray:
    """Return a value of JSON, a number or lists of them, as an array.

    Raises
    ------
    ValueError
        If it holds anything else; within `reading`, it is reported as the caller says.

    Examples
    --------
    >>> as_numbers([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    try:
        return np.array(value, dtype=float)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{str(value)[:40]} is no list of numbers") from error


def parquet_schema(path: Path, what: str, hint: str = AGAIN, says: str | None = None) -> "pa.Schema":
    """Return the names and types of the columns of a Parquet file, and its metadata.

    Raises
    ------
    InputError
        If it is no Parquet file.
    """
    import pyarrow.parquet as pq

    with reading(path, what, hint, says):
        return pq.read_schema(path)


def read_parquet(
    path: str | Path, what: str, columns: Sequence[str] | None = None, hint: str = AGAIN, says: str | None = None
) -> "pa.Table":
    """Read a Parquet file, or some of its columns; checksums of its pages are compared, where it has them.

    Raises
    ------
    InputError
        If it is no Parquet file, is damaged, or would take more memory than the budget.
    """
    import pyarrow.parquet as pq

    path = require_file(path, what)
    with reading(path, what, hint, says), pq.ParquetFile(path, page_checksum_verification=True) as file:
        about = file.metadata
        groups = [about.row_group(number) for number in range(about.num_row_groups)]
        wanted = len(columns) if columns is not None else about.num_columns
        part = wanted / max(about.num_columns, 1)
        held = max(part * sum(group.total_byte_size for group in groups), 4.0 * wanted * about.num_rows)
        require_memory(int(held), path, what)
        if about.num_rows != sum(group.num_rows for group in groups):
            raise ValueError("its numbers of rows contradict each other")
        table = file.read(columns=None if columns is None else list(columns))
        table.validate(full=True)
        return table
