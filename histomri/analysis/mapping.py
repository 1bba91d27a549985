"""Column maps: how the columns of somebody else's table are called, and which of them belong to which model."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from histomri.core.door import read_toml
from histomri.core.errors import InputError
from histomri.core.tables import BLOCK, suggestion

_SECTIONS = ("columns", "constants", "models")
_OF_A_MODEL = ("model", "strategy", "columns")


@dataclass(frozen=True)
class ColumnMap:
    """What the file of ``--columns`` says."""

    path: Path  # for messages
    shared: Mapping[str, str]  # names of histomri -> names of the table, in rows of all models
    # Of each model: columns that the table lacks -> their value, and names of histomri -> names of the table.
    models: Sequence[tuple[Mapping[str, str], Mapping[str, str]]]

    def require_known(self, known: Collection[str]) -> None:
        """Raise an InputError if a column comes out that nobody knows."""
        for name in (name for constants, columns in self.models for name in (*columns, *constants)):
            if name not in known:
                raise InputError(f"unknown column '{name}'{suggestion(name, known)}", path=self.path)

    def apply(self, raw: pd.DataFrame, table: Path) -> pd.DataFrame:
        """Rename, add, and turn the columns of several models into rows, one model after the other."""
        own = {theirs for _, columns in self.models for theirs in columns.values()} - set(self.shared.values())
        parts = []
        for k, (constants, columns) in enumerate(self.models):
            for theirs in columns.values():
                if theirs not in raw:
                    problem = f"column '{theirs}' is not in {table.name}{suggestion(theirs, raw.columns)}"
                    raise InputError(problem, path=self.path)
            dropped = [name for name in raw if name in {*own, *columns} - set(columns.values())]
            part = raw.drop(columns=dropped).rename(columns={theirs: name for name, theirs in columns.items()})
            parts.append(part.assign(**constants).set_axis(part.index + k * BLOCK))
        return pd.concat(parts)


def read_column_map(path: str | Path) -> ColumnMap:
    """Read the TOML file of ``--columns``.

    Names stand at the top or in a section ``[columns]``, values for all rows in ``[constants]``; each ``[[models]]``
    has the model, the strategy and the columns of one model.
    """
    path = Path(path)
    try:
        content = read_toml(path, "column map")
    except InputError as error:
        hint = "name each column once; columns of several models go into [[models]]"
        said = error.problem.removeprefix(prefix := "is not valid TOML: ")
        problem = error.problem if said == error.problem else f"{prefix[:-2]} ({said})"
        raise InputError(problem, path=path, hint=hint if "overwrite" in said else error.hint) from error
    top = {name: value for name, value in content.items() if name not in _SECTIONS}
    section = _table(content.get("columns", {}), "columns", path)
    if both := sorted(set(top) & set(section)):
        raise InputError(f"'{both[0]}' stands at the top and in [columns]", path=path, hint="keep one of them")
    columns = _names({**top, **section}, path)
    constants = _values(_table(content.get("constants", {}), "constants", path), path)
    models = _models(content.get("models", []), columns, path) or (({}, {}),)
    return ColumnMap(path, columns, [({**constants, **labels}, {**columns, **own}) for labels, own in models])


def _table(value: Any, name: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"'{name}' must be a section, [{name}]", path=path)
    return value


def _names(columns: dict[str, Any], path: Path, shared: Mapping[str, str] | None = None) -> dict[str, str]:
    """Check that every name is text, and that no column of the table has two of them."""
    for name, theirs in columns.items():
        if not isinstance(theirs, str):
            several = "; columns of several models go into [[models]]" if isinstance(theirs, list) else ""
            raise InputError(f"'{name}' must be the name of a column, in quotes{several}", path=path)
    named: dict[str, str] = {}
    for name, theirs in {**(shared or {}), **columns}.items():
        if theirs in named:
            problem = f"column '{theirs}' is given two names, '{named[theirs]}' and '{name}'"
            raise InputError(problem, path=path, hint="give each column of the table one name")
        named[theirs] = name
    return columns


def _values(constants: dict[str, Any], path: Path) -> dict[str, str]:
    for name, value in constants.items():
        if not isinstance(value, str | int | float):
            problem = f"'{name}' in [constants] must be one text or number"
            raise InputError(problem, path=path, hint="columns of several models go into [[models]]")
    return {name: str(value) for name, value in constants.items()}


def _models(entries: Any, shared: Mapping[str, str], path: Path) -> tuple[tuple[dict[str, str], dict[str, str]], ...]:
    if not isinstance(entries, list):
        raise InputError("'models' must be a list of sections, [[models]]", path=path)
    models: list[tuple[dict[str, str], dict[str, str]]] = []
    for number, entry in enumerate(entries, start=1):
        where = f"[[models]] number {number}"
        if unknown := [name for name in _table(entry, "[models]", path) if name not in _OF_A_MODEL]:
            problem = f"{where}: unknown key '{unknown[0]}'"
            raise InputError(problem, path=path, hint=f"it takes {', '.join(_OF_A_MODEL)}")
        labels = _values({name: entry[name] for name in ("model", "strategy") if name in entry}, path)
        if not labels:
            raise InputError(f"{where} has neither model nor strategy", path=path)
        if labels in [labels for labels, _ in models]:
            raise InputError(f"{where}: {', '.join(labels.values())} comes twice", path=path)
        columns = _names(_table(entry.get("columns", {}), "columns", path), path, shared)
        missing = sorted({*models[0][0], *models[0][1]} ^ {*labels, *columns}) if models else []
        if missing:
            problem = f"{where}: '{missing[0]}' is named for some models and not for others"
            hint = "name the same columns for each model, or the column of all of them at the top"
            raise InputError(problem, path=path, hint=hint)
        models.append((labels, columns))
    return tuple(models)
