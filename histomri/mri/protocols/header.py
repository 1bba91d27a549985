"""A table with a header that names its columns and their units: a line per volume, or per shell beside a .bval."""

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import ProtocolError, UnitError
from histomri.mri.plausibility import B0_BELOW_SMM2
from histomri.mri.protocols.columns import Columns
from histomri.mri.protocols.formats import Format, Source, number_list, numbers_in, register

# Two names differ in capitals only: delta is δ, Delta is Δ. All others are compared in small letters.
_EXACT = {
    "delta": "delta_ms", "Delta": "Delta_ms", "δ": "delta_ms", "Δ": "Delta_ms", "d": "delta_ms", "D": "Delta_ms",
}  # fmt: skip
_NAMES = {
    "b_smm2": ("b", "bval", "bvals", "bvalue", "bvalues", "b-value", "b-values", "b_value"),
    "delta_ms": ("small_delta", "smalldelta", "little_delta", "gdur", "pulse_duration", "gradient_duration"),
    "Delta_ms": (
        "big_delta", "bigdelta", "large_delta", "largedelta", "gsep", "pulse_separation", "gradient_separation",
    ),
    "te_ms": ("te", "echo_time", "echotime"),
    "gradient_mt_m": ("g", "gnorm", "|g|", "gradient", "gradient_strength", "gradient_strengths", "gmax"),
}  # fmt: skip
_IGNORED = ("volume", "volumes", "index", "shell", "x", "y", "z", "gx", "gy", "gz", "directions", "n")
_B_UNITS = {"s/mm2": 1.0, "smm2": 1.0, "s/m2": 1e-6, "sm2": 1e-6, "ms/um2": 1000.0, "msum2": 1000.0}
_TIME_UNITS = {"ms": 1.0, "s": 1000.0, "us": 1e-3}
_UNITS = {
    "b_smm2": _B_UNITS, "delta_ms": _TIME_UNITS, "Delta_ms": _TIME_UNITS, "te_ms": _TIME_UNITS,
    "gradient_mt_m": {"mt/m": 1.0, "mt_m": 1.0, "t/m": 1000.0, "t_m": 1000.0, "g/cm": 10.0, "g_cm": 10.0},
}  # fmt: skip
_FORM = "a table with the columns b_smm2, delta_ms, Delta_ms and, if there are several echo times, te_ms"
_NEAR, _NEAR_SMM2 = 0.05, 15.0


@dataclass(frozen=True)
class _Column:
    """What a name in a header says: the quantity (None: none that matters), and what its numbers are multiplied by."""

    quantity: str | None
    factor: float


def _cells(line: str) -> list[str]:
    """Return the names in a header: apart by semicolons, tabs or commas, or else by blanks."""
    mark = next((mark for mark in ";\t," if mark in line), None)
    return [cell.strip().strip("\"'") for cell in (line.split(mark) if mark else line.split())]


def _column(cell: str) -> _Column | None:
    """Return what a name says; None if it is not known. UnitError if its unit is not."""
    plain = cell.replace("²", "2").replace("^", "").replace("µ", "u").replace("μ", "u")
    bracketed = re.fullmatch(r"(.+?)[\s_]*[(\[]\s*(.+?)\s*[)\]]", plain)
    name, unit = (bracketed[1].strip(), bracketed[2]) if bracketed else (plain, "")
    quantity = _quantity(name)
    if quantity is None and not bracketed:
        for place in (match.start() for match in re.finditer("[_ ]", plain)):
            if found := _quantity(plain[:place]):
                quantity, unit = found, plain[place + 1 :]
                break
    if quantity is None:
        return _Column(None, 1.0) if name.lower() in _IGNORED else None
    units = _UNITS[quantity]
    unit = unit.lower().replace(" ", "")
    if unit in units:
        return _Column(quantity, units[unit])
    if unit or quantity == "gradient_mt_m":
        problem = f"the column {cell!r} has " + (f"an unknown unit {unit!r}" if unit else "no unit")
        raise UnitError(problem, hint=f"name one of {', '.join(dict.fromkeys(units))}, as in {quantity}")
    return _Column(quantity, 1.0)


def _quantity(name: str) -> str | None:
    if name in _EXACT:
        return _EXACT[name]
    return next((quantity for quantity, names in _NAMES.items() if name.lower() in names), None)


def _names_known(source: Source) -> bool:
    """Return whether the first line names b, or a gradient strength with its timing, and no piece of a waveform."""
    if len(source.lines) < 2 or "start" in source.lines[0][1].lower():
        return False
    first = source.lines[0][1]
    try:
        found = [_column(cell) for cell in _cells(first)]
    except UnitError:
        return True
    return any(each is not None and each.quantity is not None for each in found)


def _labelled(source: Source) -> tuple[list[str], FloatArray]:
    """Return names and a column of numbers each, (R, C): names stand in the first line, or at the start of each."""
    first, *rest = source.lines
    names = _cells(first[1])
    if all(re.match(r"[+-]?[\d.]", cell) for cell in names[1:] if cell) and len(names) > 1:
        split = [re.match(r"\s*([^\s,;]+(?:\s*[(\[][^)\]]*[)\]])?)[\s,;]+(.*)", line) for _, line in source.lines]
        if any(each is None for each in split):
            raise ProtocolError("must have a name at the start of each line, or names in the first line alone")
        body = [(number, each[2]) for (number, _), each in zip(source.lines, split) if each]
        return [each[1] for each in split if each], numbers_in(body, source.path).T
    return names, numbers_in(rest, source.path)


def _read(source: Source) -> Columns:
    names, table = _labelled(source)
    if len(names) != table.shape[1]:
        problem = (
            f"has {len(names)} names in its header ({', '.join(names)[:60]}) and {table.shape[1]} numbers to a line"
        )
        raise ProtocolError(problem, hint="write decimals with a point, or semicolons between the columns")
    found: dict[str, FloatArray] = {}
    for name, values in zip(names, table.T):
        column = _column(name)
        if column is None:
            raise ProtocolError(f"has a column {name!r}, which is not known", hint=f"give {_FORM}; leave others out")
        if column.quantity in found:
            hint = "small letters are δ: delta_ms; a capital is Δ: Delta_ms"
            raise ProtocolError(f"has two columns of {column.quantity}, one is {name!r}", hint=hint)
        if column.quantity is not None:
            found[column.quantity] = column.factor * values
    bval = source.beside(".bval") or source.beside(".bvals")
    return _with_bval(found, number_list(bval[0])) if bval else _columns(found)


def _columns(found: dict[str, FloatArray]) -> Columns:
    names = ("b_smm2", "delta_ms", "Delta_ms", "te_ms", "gradient_mt_m")
    b, delta, separation, te, gradient = (found.get(name) for name in names)
    return Columns(b, delta, separation, te, gradient)


def _with_bval(found: dict[str, FloatArray], b: FloatArray) -> Columns:
    """Return a protocol of these b-values: a line is a volume, or stands for all volumes of a shell."""
    lines = next(iter(found.values())).size
    shells = found.get("b_smm2")
    if lines == b.size and (shells is None or np.allclose(shells, b, rtol=_NEAR, atol=_NEAR_SMM2)):
        return _columns({**found, "b_smm2": b})
    if shells is None:
        problem = f"has {lines} lines for the {b.size} b-values of the .bval, and no column of b to tell shells by"
        raise ProtocolError(problem, hint=f"give {_FORM}")
    order = np.argsort(shells)
    for i, j in pairwise(order):
        if abs(shells[i] - shells[j]) < 1e-6 + 0.01 * shells[j]:
            problem = f"has two lines of b = {shells[j]:g} s/mm², and the .bval does not tell which volume is which"
            raise ProtocolError(problem, hint=f"give {_FORM}, a line per volume")
    nearest = np.abs(b[:, None] - shells).argmin(axis=1)
    far = np.abs(b - shells[nearest]) > np.maximum(_NEAR * shells[nearest], _NEAR_SMM2)
    unweighted = far & (b < B0_BELOW_SMM2)
    if np.any(far & ~unweighted):
        i = int(np.flatnonzero(far & ~unweighted)[0])
        raise ProtocolError(f"has no line for volume {i} of the .bval, of b = {b[i]:g} s/mm²", hint=f"give {_FORM}")
    times = {name: values[nearest] for name, values in found.items() if name not in ("b_smm2", "gradient_mt_m")}
    for name in ("delta_ms", "Delta_ms"):
        if name in times:
            times[name] = np.where(unweighted, 0.0, times[name])
    if "te_ms" in times and unweighted.any() and np.ptp(found["te_ms"]) > 0:
        raise ProtocolError("has several TE and no line for b = 0, whose TE is then not known", hint="add one of b = 0")
    return _columns({**times, "b_smm2": b})


register(
    Format(
        form=f"{_FORM} (names with units; a line per volume, or per shell beside a .bval)",
        recognises=_names_known,
        read=_read,
        parts=(".bval", ".bvals"),
        name="table",
    )
)
