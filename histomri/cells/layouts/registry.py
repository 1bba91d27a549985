"""How the files of other programs are laid out, and which of them a file may have.

A layout is a declaration in a file of this folder, which registers itself; the option ``--layout``, its help, the
messages and the docs take it from there.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal

from histomri.cells.layouts import LAYOUT_NAMES
from histomri.cells.parsed_export import AREAS, POSITION, Column, Header, Kind, recognise
from histomri.core.door import read_toml
from histomri.core.errors import InputError
from histomri.core.tables import suggestion

Feature = dict[str, Any]
_TEXTS: dict[str, Kind] = {name: "text" for name in ("image", "object_type", "classification", "name", "parent")}
_KINDS: dict[str, Kind] = {**_TEXTS, "object_id": "id"}
_UNITS = {"um": "um", "µm": "um", "px": "px", "um2": "um2", "µm^2": "um2", "px2": "px2", "px^2": "px2"}
_NUMBERS = (*POSITION, *AREAS, "detection_probability", "solidity", "nucleus_solidity", "cell_solidity")
MAP_KEYS = (*_NUMBERS, *_KINDS)


@dataclass(frozen=True)
class TableLayout:
    """The names of the columns that one program writes.

    Attributes
    ----------
    name, program : str
        Name for ``--layout``, and the programs that write it.
    columns : mapping
        Canonical name to the name in the file and the unit, which is None where the file may have either.
    cells_are : {"nuclei", "cells"} or None
        What the objects are, if the program says so.
    exact : bool
        Whether names must be spelled as they are here; else capitals, dots and blanks do not matter.
    """

    name: str
    program: str
    columns: Mapping[str, tuple[str, str | None]]
    cells_are: Literal["nuclei", "cells"] | None = None
    exact: bool = False
    path: Path | None = None  # of a layout that the user wrote

    def header(self, names: Sequence[str]) -> Header | None:
        """Return the columns of a table of this layout, None if it lacks one."""
        places = {self._key(name): index for index, name in reversed(list(enumerate(names)))}
        wanted = {name: places.get(self._key(raw)) for name, (raw, _) in self.columns.items()}
        if any(place is None for place in wanted.values()):
            return None
        taken = {place for place in wanted.values() if place is not None}
        rest = recognise(["" if index in taken else name for index, name in enumerate(names)])
        columns = {name: column for name, column in rest.columns.items() if column.name not in POSITION}
        for name, place in wanted.items():
            if place is not None:
                unit = self.columns[name][1]
                columns[name] = Column(place, names[place], name, _KINDS.get(name, "number"), unit)
        used = {column.index for column in columns.values()}
        ignored = tuple(name for index, name in enumerate(names) if index not in used)
        return Header(columns, ignored, rest.warnings)

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return the columns of the layout that a table lacks, as they are spelled in it."""
        there = set(map(self._key, names))
        return [raw for raw, _ in self.columns.values() if self._key(raw) not in there]

    def _key(self, name: str) -> str:
        return name.strip().strip("\ufeff\"'") if self.exact else re.sub(r"[^a-z0-9]", "", name.lower())


@dataclass(frozen=True)
class ShapeLayout:
    """How one program writes outlines as JSON.

    Attributes
    ----------
    name, program : str
    expand : callable
        From an object of the file to features as QuPath would write them.
    seems : callable
        Whether an object looks like this layout; for the message that names it.
    cells_are : {"nuclei", "cells"} or None
    """

    name: str
    program: str
    expand: Callable[[Feature], Iterator[Feature]]
    seems: Callable[[Feature], bool] = field(default=lambda feature: False)
    cells_are: Literal["nuclei", "cells"] | None = None


_TABLES: dict[str, TableLayout] = {}
_SHAPES: dict[str, ShapeLayout] = {}


def register(layout: TableLayout | ShapeLayout) -> None:
    """Make a layout known under its name."""
    if isinstance(layout, TableLayout):
        _TABLES[layout.name] = layout
    else:
        _SHAPES[layout.name] = layout


def table_layout(name: str | None, columns: Path | None) -> TableLayout | None:
    """Return the layout that the user chose for a table, if any."""
    if columns is not None:
        return _read_map(columns)
    return _TABLES.get(name or "")


def shape_layout(name: str | None) -> ShapeLayout | None:
    """Return the layout of outlines of this name, if there is one."""
    return _SHAPES.get(name or "")


def recognised(names: Sequence[str]) -> tuple[TableLayout, Header] | None:
    """Return the first layout all of whose columns a table has."""
    found = ((layout, layout.header(names)) for layout in _TABLES.values())
    return next(((layout, header) for layout, header in found if header is not None), None)


def similar_shapes(features: Sequence[Any]) -> list[ShapeLayout]:
    """Return the layouts that some objects of a file look like."""
    known = [feature for feature in features if isinstance(feature, dict)]
    return [layout for layout in _SHAPES.values() if any(layout.seems(feature) for feature in known)]


def names_of(kind: Literal["tables", "outlines"]) -> str:
    """Return the names of the layouts of a kind, for messages."""
    return ", ".join(_TABLES if kind == "tables" else _SHAPES)


def _read_map(path: Path) -> TableLayout:
    """Read the names of the columns that the user gives: ``x = "X_pos"`` or ``x = {column = "X_pos", unit = "px"}``."""
    hint = 'write lines such as x = "X_pos", area = {column = "Size", unit = "px2"}; its keys are ' + ", ".join(
        MAP_KEYS
    )
    try:
        content = read_toml(path, "file of column names")
    except InputError as error:
        problem = error.problem.replace("is not valid TOML: ", "is no TOML file: ")
        raise InputError(problem, path=path, hint=hint) from error
    columns: dict[str, tuple[str, str | None]] = {}
    for key, value in content.items():
        if key not in MAP_KEYS:
            raise InputError(f"{key!r} names no column{suggestion(key, MAP_KEYS)}", path=path, hint=hint)
        entry = {"column": value} if isinstance(value, str) else value
        if not isinstance(entry, dict) or not isinstance(entry.get("column"), str) or set(entry) - {"column", "unit"}:
            raise InputError(
                f"{key} must be the name of a column, or {{column = ..., unit = ...}}", path=path, hint=hint
            )
        unit = entry.get("unit")
        if unit is not None and _UNITS.get(str(unit)) is None:
            raise InputError(f"the unit of {key} is {unit!r}, and must be um, px, um2 or px2", path=path, hint=hint)
        columns[key] = entry["column"], None if unit is None else _UNITS[unit]
    if not columns:
        raise InputError("names no column", path=path, hint=hint)
    return TableLayout("columns", "the file of column names", columns, exact=True, path=path)


for _module in sorted(found.name for found in iter_modules([str(Path(__file__).parent)])):
    if _module != "registry":
        import_module(f"histomri.cells.layouts.{_module}")

if (*_TABLES, *_SHAPES) != LAYOUT_NAMES:
    raise RuntimeError(f"histomri.cells.layouts lists {LAYOUT_NAMES}, and registered are {(*_TABLES, *_SHAPES)}")
