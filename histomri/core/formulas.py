"""Text that a spreadsheet would take for a formula: names in CSV that begin with =, +, - or @ are written as text.

Excel and others run such a cell when the table is opened. An apostrophe before it makes it text there, and the readers
of histomri take it away again.
"""

import re

import pandas as pd

_FORMULA = re.compile(r"[=+\-@\t\r]")
_HARMLESS = re.compile(r"-|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WRITTEN = re.compile(r"'[=+\-@\t\r]")


def as_plain_text(text: str) -> str:
    """Return a text with an apostrophe before it if a spreadsheet would take it for a formula.

    Examples
    --------
    >>> [as_plain_text(each) for each in ("=1+1", "-3.5", "-", "a=b", "@SUM(A1)")]
    ["'=1+1", '-3.5', '-', 'a=b', "'@SUM(A1)"]
    """
    return f"'{text}" if _FORMULA.match(text) and not _HARMLESS.fullmatch(text) else text


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose text and names of columns no spreadsheet takes for formulas."""
    changed = {}
    for name in table.columns:
        if pd.api.types.is_numeric_dtype(table[name]):
            continue
        texts = {each: as_plain_text(each) for each in table[name].unique() if isinstance(each, str)}
        if risky := {text: plain for text, plain in texts.items() if text != plain}:
            changed[name] = table[name].astype(object).map(lambda cell, risky=risky: risky.get(cell, cell))
    named = table.assign(**changed) if changed else table
    return named.rename(columns={name: as_plain_text(str(name)) for name in table.columns})


def with_names(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table that was read from CSV with its text as it was before `without_formulas`."""
    changed = {}
    for name in table.columns:
        if not pd.api.types.is_string_dtype(table[name]) or not table[name].str.startswith("'").any():
            continue
        written = {each for each in table[name].unique() if isinstance(each, str) and _WRITTEN.match(each)}
        if written:
            changed[name] = table[name].map(lambda cell, written=written: cell[1:] if cell in written else cell)
    named = table.assign(**changed) if changed else table
    old = [name for name in table.columns if _WRITTEN.match(str(name))]
    return named.rename(columns={name: name[1:] for name in old}) if old else named
