"""Gradient tables, a line per volume: Camino's scheme files, and the same numbers without their first line.

Camino (http://camino.cs.ucl.ac.uk): "VERSION: STEJSKALTANNER" (or 1) heads lines of x, y, z, |G|
(T/m), Δ (s), δ (s), TE (s); "VERSION: BVECTOR" (or 2) lines of x, y, z, b. dmipy writes the first kind, qMRLab and
AMICO read it also without its head. MRtrix's tables (-grad, .b) are x, y, z, b (s/mm²).
"""

import re
from collections.abc import Callable

import numpy as np

from histomri.core.array_files import as_numbers
from histomri.core.arrays import FloatArray
from histomri.core.door import reading
from histomri.core.errors import ProtocolError
from histomri.mri.protocols.columns import Columns
from histomri.mri.protocols.formats import Format, Source, number_table, numbers_in, register

_STEJSKAL_TANNER, _BVECTOR = ("STEJSKALTANNER", "1"), ("BVECTOR", "2")
_COLUMNS = "x, y, z, |G| (T/m), Δ (s), δ (s), TE (s)"
# A scan in s/m² has a larger b than this, and none in s/mm² has.
_LEAST_SM2 = 1e6
_LONGEST_S, _STRONGEST_T_M = 5.0, 50.0
_UNIT = 0.05


def _version(source: Source) -> str:
    """Return what the first line of a scheme file says, in capitals; empty if it says nothing."""
    found = re.fullmatch(r"VERSION\s*:\s*(\S+)", source.lines[0][1].strip(), re.IGNORECASE) if source.lines else None
    return found[1].upper() if found else ""


def _read_scheme(source: Source) -> Columns:
    version, lines = _version(source), source.lines[1:]
    if version not in (*_STEJSKAL_TANNER, *_BVECTOR):
        hint = "give a table of b, δ, Δ and TE, or a file of waveforms"
        raise ProtocolError(f"is a scheme file of version {version}; STEJSKALTANNER and BVECTOR are read", hint=hint)
    table = numbers_in(lines, source.path)
    width = 7 if version in _STEJSKAL_TANNER else 4
    if table.shape[1] != width:
        expected = _COLUMNS if width == 7 else "x, y, z, b"
        raise ProtocolError(f"has {table.shape[1]} numbers to a line of version {version}, which has {expected}")
    return _with_strengths(table) if width == 7 else _with_b(table, either_unit=True)


def _with_strengths(table: FloatArray) -> Columns:
    """Return the protocol of lines of x, y, z, |G| (T/m), Δ, δ and TE (s)."""
    strength, separation, delta, te = table[:, 3:].T
    for name, values, most, unit in (
        ("|G|", strength, _STRONGEST_T_M, "T/m"), ("Δ", separation, _LONGEST_S, "seconds"),
        ("δ", delta, _LONGEST_S, "seconds"), ("TE", te, _LONGEST_S, "seconds"),
    ):  # fmt: skip
        if np.any(values > most):
            problem = f"{name} reaches {values.max():g}, too much for {unit}"
            raise ProtocolError(problem, hint=f"the columns of such a table are {_COLUMNS}")
    if np.any((delta > separation) & (strength > 0)):
        problem = f"δ = {delta[np.argmax(delta - separation)]:g} s is longer than Δ"
        raise ProtocolError(problem, hint=f"the columns of such a table are {_COLUMNS}")
    times = (None if not te.any() else 1000.0 * te,)
    return Columns(None, 1000.0 * delta, 1000.0 * separation, *times, gradient_mt_m=1000.0 * strength)


def _with_b(table: FloatArray, either_unit: bool = False) -> Columns:
    """Return the b-values of lines of x, y, z and b, s/mm²; Camino's are in s/m², AMICO's not.

    No b of a scan can be in both units, so the largest decides. MRtrix multiplies b by the square of the length of a
    vector that is not of length 1.
    """
    b, length = table[:, 3], np.linalg.norm(table[:, :3], axis=1)
    if either_unit and b.max() > _LEAST_SM2:
        b = b / 1e6
    elif not either_unit and np.any((length > 1e-3) & (np.abs(length - 1) > 0.01)):
        b = b * np.where(length > 1e-3, length, 1.0) ** 2
    return Columns(b)


def _has_vectors(width: int) -> Callable[[Source], bool]:
    """Return whether the lines of a table begin with directions: vectors of length 1 or (at b = 0) 0."""

    def recognises(source: Source) -> bool:
        table = source.table
        if table.ndim != 2 or table.shape[1] != width or table.shape[0] < 2:
            return False
        length = np.linalg.norm(table[:, :3], axis=1)
        return bool(length.max() > 0.3 and np.all(length < 1 + _UNIT) and np.all(table[:, 3] >= 0))

    return recognises


def _in_json(source: Source) -> Columns:
    with reading(source.path, "protocol", says="dw_scheme is no table of numbers ({})", kind=ProtocolError):
        table = as_numbers(source.json["dw_scheme"])
    if table.ndim != 2 or table.shape[1] < 4:
        raise ProtocolError("dw_scheme must have lines of x, y, z, b")
    return _with_b(table)


register(
    Format(
        form="a scheme file of Camino (VERSION: STEJSKALTANNER or BVECTOR)",
        recognises=lambda source: bool(_version(source)),
        read=_read_scheme,
        name="camino",
    )
)
register(
    Format(
        form=f"a gradient table of qMRLab, AMICO or dmipy ({_COLUMNS})",
        recognises=_has_vectors(7),
        read=lambda source: _with_strengths(number_table(source.path)),
        name="gradients",
    )
)
register(
    Format(
        form="a gradient table of MRtrix (-grad, .b: x, y, z, b)",
        recognises=lambda source: "dw_scheme" in source.json or _has_vectors(4)(source),
        read=lambda source: _in_json(source) if source.json else _with_b(number_table(source.path)),
        name="mrtrix",
    )
)
