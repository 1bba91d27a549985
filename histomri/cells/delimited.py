"""Delimited tables of QuPath, all writers and versions, read by Arrow."""

import codecs
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc

from histomri.cells import sniff
from histomri.cells.layouts.registry import TableLayout, names_of, recognised, table_layout
from histomri.cells.mend import Flaws, Mended, check_thousands, find_flaws
from histomri.cells.parsed_export import AREAS, POSITION, Column, Header, ParsedExport, ScaleFact, Wanted, recognise
from histomri.cells.sniff import refusal
from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError

# Java writes infinity as a sign of its own, and older Java writes NaN as the replacement character.
_NULLS = ["", "NaN", "nan", "NA", "N/A", "null", "None", "-", "\ufffd", "∞", "-∞"]
_SECOND = ", again"  # ends the name of a column that holds an area for the second time
_NAME_THEM = f"columns of other programs are named by --columns map.toml, or --layout ({names_of('tables')})"
_OTHER_NAMES = f"{sniff.EXPORT_AGAIN}; {_NAME_THEM}"
_CORE = (*POSITION, *AREAS, "image", "object_id", "object_type", "classification", "name", "z", "t")


@dataclass(frozen=True)
class _Attempt:
    """One way to read the file; changed when it turns out to be the wrong one."""

    encoding: str
    decimal: str
    columns: tuple[Column, ...]
    warnings: tuple[str, ...] = ()
    cut: str | None = None  # the last line, if it has no end: one row that may be left out
    flaws: Flaws | None = None  # that are mended line by line


def read_delimited(path: Path, head: bytes, wanted: Wanted) -> ParsedExport:
    """Read a table, of which `head` are the first bytes, unpacked; only columns that mean something here are parsed."""
    chosen = _chosen(path, wanted)
    layout = sniff.sniff_table(path, head, lambda names: _header(names, chosen))
    _require_cells(path, layout, chosen)
    check_thousands(path, head, layout)
    columns = [column for name, column in layout.header.columns.items() if name in _CORE or wanted.takes(name)]
    seconds = _second_areas(layout.header)
    table, attempt = _read(path, layout, [*columns, *seconds])
    if table.num_rows == 0:
        raise _no_rows(path) if attempt.cut is None else refusal("its only row is cut short", path)
    n_rows, text, numbers = table.num_rows, dict[str, pa.ChunkedArray](), dict[str, FloatArray]()
    scales = _compared(table, attempt.columns)
    for column in attempt.columns:
        if column.name.endswith(_SECOND):
            continue
        values = table.column(f"c{column.index}")
        table = table.drop_columns([f"c{column.index}"])  # or millions of cells would be held twice
        if column.kind == "number":
            numbers[column.name] = values.to_numpy()
        else:
            text[column.name] = values
    raw_names = {column.name: column.raw for column in attempt.columns if not column.name.endswith(_SECOND)}
    units = {column.name: column.unit for column in attempt.columns if column.name in numbers}
    unread = (column.raw for name, column in layout.header.columns.items() if name not in raw_names)
    ignored = tuple(name for name in (*layout.header.ignored, *unread) if name)
    warnings = (*layout.header.warnings, *attempt.warnings, *_unfinished(path, attempt))
    flaws, of = attempt.flaws or Flaws(), chosen or _recognised(layout)
    notes = (f"its columns were read as those of {of.program} (layout {of.name})",) if of and of is not chosen else ()
    return ParsedExport(
        path, n_rows, text, numbers, units, raw_names, ignored, (*notes, *warnings),
        n_cut=int(attempt.cut is not None) + flaws.n_cut, n_headers=flaws.n_headers, scales=scales,
        cells_are=of.cells_are if of is not None else None,
    )  # fmt: skip


def _second_areas(header: Header) -> list[Column]:
    """Return the columns that hold an area for the second time, in another unit or without one, to compare them."""
    found = []
    for raw in header.ignored:
        for name, column in recognise([raw]).columns.items():
            if name in AREAS and name in header.columns:
                place = header.places.get(raw)
                found += [replace(column, index=place, name=name + _SECOND)] if place is not None else []
    return found


def _compared(table: pa.Table, columns: Sequence[Column]) -> tuple[ScaleFact, ...]:
    """Compare the areas that a table has twice."""
    by_name = {column.name: column for column in columns}
    facts = []
    for name, second in by_name.items():
        if name.endswith(_SECOND) and (first := by_name.get(name.removesuffix(_SECOND))) is not None:
            values = [table.column(f"c{column.index}").to_numpy() for column in (first, second)]
            facts += ScaleFact.of(first, values[0], values[1], second)
    return tuple(facts)


def _chosen(path: Path, wanted: Wanted) -> TableLayout | None:
    if wanted.layout is not None and wanted.columns is not None:
        raise InputError("cannot have both --layout and --columns", path=path, hint="pass one of them")
    layout = table_layout(wanted.layout, wanted.columns)
    if layout is None and wanted.layout is not None:
        problem = f"is a table, and the layout {wanted.layout!r} is one of outlines"
        raise InputError(problem, path=path, hint=f"layouts of tables are {names_of('tables')}")
    return layout


def _header(names: Sequence[str], chosen: TableLayout | None) -> Header:
    """Return the columns by the layout that the user chose, by QuPath's names, or by a layout that fits."""
    if chosen is not None:
        return chosen.header(names) or Header({})
    header = recognise(names)
    if not set(POSITION) <= set(header.columns) and (found := recognised(names)) is not None:
        return found[1]
    return header


def _recognised(layout: sniff.Layout) -> TableLayout | None:
    """Return the layout of another program that a table was found to have."""
    if set(POSITION) <= set(recognise(layout.names).columns):
        return None
    found = recognised(layout.names)
    return found[0] if found is not None else None


def _no_rows(path: Path) -> InputError:
    return refusal("has a header and no rows", path, "run the cell detection, then " + sniff.EXPORT_AGAIN)


def _require_cells(path: Path, layout: sniff.Layout, chosen: TableLayout | None) -> None:
    columns = layout.header.columns
    found = ", ".join(repr(name) for name in layout.names[:6]) + (", ..." if len(layout.names) > 6 else "")
    if chosen is not None and (lacking := chosen.missing(layout.names)):
        problem = f"has no column {', '.join(map(repr, lacking))}, which {chosen.program} names (its columns: {found})"
        raise refusal(problem, path, f"check {'--columns' if chosen.path is not None else '--layout'}")
    missing = [f"'Centroid {axis.upper()} µm'" for axis in POSITION if axis not in columns]
    if missing:
        problem = f"has no column {' or '.join(missing)}, so the cells have no position on the slide"
        raise refusal(f"{problem} (its columns: {found})", path, _OTHER_NAMES)
    if not any(name in columns for name in AREAS):
        problem = f"has no column 'Cell: Area' or 'Nucleus: Area', so the cells have no size (its columns: {found})"
        measure = "detect cells with 'make measurements' ticked, or Analyze > Calculate features > Add shape features"
        raise refusal(problem, path, f"{measure}, then {sniff.EXPORT_AGAIN}; {_NAME_THEM}")
    legacy = "object_type" not in columns and "cell_area" not in columns and "nucleus_area" not in columns
    if legacy and ("annotation_perimeter" in columns or "num_detections" in columns):
        raise refusal("is a table of annotations, not of cells", path)


def _read(path: Path, layout: sniff.Layout, columns: list[Column]) -> tuple[pa.Table, _Attempt]:
    """Read with the layout as sniffed; correct encoding, decimal sign or a useless column, and read again."""
    attempt = _Attempt(layout.encoding, ".", tuple(columns))
    for _ in range(len(columns) + 8):
        try:
            return _read_once(path, layout, attempt), attempt
        except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeError) as error:
            attempt = _amended(path, layout, attempt, str(error), error)
    raise refusal("cannot be read as a table", path)


def _read_once(path: Path, layout: sniff.Layout, attempt: _Attempt) -> pa.Table:
    types = {"text": pa.dictionary(pa.int32(), pa.string()), "id": pa.string(), "number": pa.float32()}
    kinds = {f"c{column.index}": types[column.kind] for column in attempt.columns}
    # Measurements have four decimals at most: single precision holds them and halves the memory.
    kinds |= {f"c{column.index}": pa.float64() for column in attempt.columns if column.name in (*POSITION, *AREAS)}
    names, encoding = [f"c{index}" for index in range(len(layout.names))], attempt.encoding.replace("utf-8", "utf8")
    skip = layout.skip_rows
    if attempt.flaws is not None:
        skip, encoding = 0, "utf8"
    options = (
        pc.ReadOptions(column_names=names, skip_rows=skip, encoding=encoding),
        pc.ParseOptions(delimiter=layout.delimiter, invalid_row_handler=_leave_out(attempt.cut)),
        pc.ConvertOptions(
            include_columns=list(kinds), column_types=kinds, null_values=_NULLS, decimal_point=attempt.decimal
        ),
    )
    if attempt.flaws is not None:
        return pc.read_csv(Mended(path, layout, attempt.encoding, attempt.flaws), *options)
    if sniff.is_plain(path):
        return pc.read_csv(path, *options)
    with sniff.open_export(path) as stream:
        return pc.read_csv(stream, *options)


def _leave_out(cut: str | None) -> Callable[[pc.InvalidRow], str] | None:
    """Return a handler that skips one row of this text with too few values; any other such row stays an error."""
    if cut is None:
        return None
    left = [cut]

    def handle(row: pc.InvalidRow) -> str:
        if row.actual_columns < row.expected_columns and row.text in left:
            left.clear()
            return "skip"
        return "error"

    return handle


def _amended(path: Path, layout: sniff.Layout, attempt: _Attempt, message: str, error: Exception) -> _Attempt:
    """Return the next attempt, or raise the error that the user sees."""
    if isinstance(error, UnicodeError) or "invalid UTF8" in message:
        if attempt.encoding not in sniff.ENCODINGS[:-1]:
            raise refusal("is not a text file in a known encoding", path, "save it as UTF-8") from error
        encoding = sniff.ENCODINGS[sniff.ENCODINGS.index(attempt.encoding) + 1]
        note = f"the file is not {attempt.encoding}; read as {encoding}"
        return replace(attempt, encoding=encoding, warnings=(note,))
    if "Could not skip initial" in message:
        raise _no_rows(path) from error
    if (match := re.search(r"Expected (\d+) columns, got (\d+)", message)) is not None:
        if attempt.cut is None and int(match[2]) < int(match[1]) and (last := _last_line(path, attempt.encoding)):
            return replace(attempt, cut=last)
        if attempt.flaws is None and (flaws := find_flaws(path, layout, attempt.encoding)) is not None:
            return replace(attempt, cut=None, flaws=flaws)
        where = f"row {row[1]}" if (row := re.search(r"Row #(\d+)", message)) else "a row"
        problem = f"{where} has {match[2]} values where the header has {match[1]}: the file is cut short or was edited"
        raise refusal(problem, path) from error
    if (match := re.search(r"In CSV column #(\d+): .*invalid value '(.*)'", message, re.DOTALL)) is not None:
        index = int(match[1])
        repeats = index < len(layout.names) and match[2].strip() == layout.names[index].strip("\ufeff ")
        if attempt.flaws is None and repeats and (flaws := find_flaws(path, layout, attempt.encoding)) is not None:
            return replace(attempt, cut=None, flaws=flaws)
        return _other_number(path, layout.names, attempt, index, match[2], error)
    raise refusal(f"cannot be read as a table ({message})", path) from error


def _other_number(
    path: Path, names: tuple[str, ...], attempt: _Attempt, index: int, value: str, error: Exception
) -> _Attempt:
    if attempt.decimal == "." and re.fullmatch(r"-?\d+,\d+(?:[eE][-+]?\d+)?", value.strip()):
        return replace(attempt, decimal=",")
    column = next((column for column in attempt.columns if column.index == index), None)
    if column is None or column.name in _CORE:
        name = column.raw if column else names[index] if index < len(names) else "?"
        raise refusal(f"column {name!r} holds {value[:40]!r}, which is not a number", path) from error
    rest = tuple(other for other in attempt.columns if other is not column)
    note = f"column {column.raw!r} was not read: it holds {value[:40]!r}, which is not a number"
    return replace(attempt, columns=rest, warnings=(*attempt.warnings, note))


def _last_line(path: Path, encoding: str) -> str:
    """Return the last line of a file if nothing ends it, else nothing."""
    tail = start = b""
    with sniff.open_export(path) as stream:
        while chunk := stream.read(sniff.HEAD_BYTES):
            start = start or chunk[:2]
            tail = (tail + chunk)[-sniff.HEAD_BYTES :]
    if encoding == "utf-16":  # the mark of its byte order is at the start of the file only
        encoding += "-le" if start == codecs.BOM_UTF16_LE else "-be"
    return re.split(r"\r\n|\r|\n", tail.decode(encoding, errors="replace"))[-1]


def _unfinished(path: Path, attempt: _Attempt) -> tuple[str, ...]:
    """Warn of a file whose last line has no end: a copy that stopped in the last number looks like that."""
    if attempt.flaws is not None:
        return attempt.flaws.warnings()
    if attempt.cut is not None:
        return ("the file is cut short in its last row, which was left out",)
    if not sniff.is_plain(path):
        return ()
    with path.open("rb") as stream:
        stream.seek(-min(2, path.stat().st_size), 2)
        ended = stream.read().endswith((b"\n", b"\r", b"\n\0", b"\r\0"))
    return () if ended else ("the last line of the file has no line end, so its last value may be cut",)
