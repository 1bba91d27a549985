"""Protocol files that spell out gradient waveforms, piece by piece: JSON, or a table with a header."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import ProtocolError, UnitError
from histomri.mri.acquisition import Acquisition, Waveform
from histomri.mri.plausibility import B0_BELOW_SMM2, GAMMA
from histomri.mri.protocols.formats import Format, Source, register, text_lines

_COLUMNS = ("volume", "b_smm2", "start_ms", "duration_ms", "amplitude")
_OPTIONAL = ("te_ms", "diffusion_time_ms", "amplitude_mt_m")
_TIME = "diffusion_time_ms"
_AGREE = 0.05
_FORM = (
    'JSON {"waveforms": {NAME: {"start_ms": [..], "duration_ms": [..], "amplitude": [..]}, ..}, '
    '"waveform": [NAME or null per volume], "b_smm2": [..], "te_ms": [..]}, '
    f"or a table with the columns {', '.join(_COLUMNS)} (optional: {', '.join(_OPTIONAL)}), a line per piece"
)


@dataclass(frozen=True)
class _Shape:
    """A waveform of a file, with the b-value that its amplitudes in mT/m imply, if they are."""

    waveform: Waveform
    diffusion_ms: float
    implied_b: float | None


def _from_json(source: Source) -> Acquisition:
    content, path = source.json, source.path
    _refuse_unknown(set(content), {"waveforms", "waveform", "b_smm2", "te_ms", "comment"}, path)
    described, chosen = content["waveforms"], content.get("waveform")
    if not isinstance(described, dict) or not isinstance(chosen, list) or not chosen:
        problem = '"waveforms" must name shapes and "waveform" list one of them (or null) per volume'
        raise ProtocolError(problem, path=path, hint=_FORM)
    shapes: dict[str, _Shape] = {}
    for name, pieces in described.items():
        if not isinstance(pieces, dict):
            raise ProtocolError(f"waveform {name!r} is not an object", path=path, hint=_FORM)
        _refuse_unknown(set(pieces), {"start_ms", "duration_ms", "amplitude", "amplitude_mt_m", _TIME}, path)
        columns = [_numbers(pieces, key, path, f"waveform {name!r}") for key in _keys(pieces)]
        time = None if pieces.get(_TIME) is None else _number(pieces[_TIME], path)
        shapes[name] = _shape(columns, "amplitude_mt_m" in pieces, time, f"{name!r}", path)
    for each in chosen:
        if each is not None and each not in list(shapes):
            raise ProtocolError(f'"waveform" names {each!r}, which "waveforms" does not describe', path=path)
    b, te = (_numbers(content, key, path, "the file") if key in content else None for key in ("b_smm2", "te_ms"))
    return _acquisition([None if each is None else shapes[each] for each in chosen], b, te, path)


def _has_header(source: Source) -> bool:
    """Return whether the first line of a text file names the columns of a table of pieces."""
    if not source.path.is_file():
        return False
    with source.path.open(encoding="utf-8-sig", errors="replace") as lines:
        first = next((line for line in lines if line.split("#", 1)[0].strip()), "")
    return "start" in first.lower() and "duration" in first.lower()


def _from_table(source: Source) -> Acquisition:
    """Read a table with a header, one line per piece; volumes count from 0 or 1.

    A volume without gradients has one line, of duration 0. Values that belong to the volume (b, TE, diffusion
    time) are repeated on each of its lines.
    """
    path = source.path
    rows = _rows(path)
    numbers = sorted({row["volume"] for row in rows})
    if numbers not in ([*range(len(numbers))], [*range(1, len(numbers) + 1)]):
        raise ProtocolError("the volumes are not numbered one after the other from 0 or 1", path=path)
    shapes, first = list[_Shape | None](), list[dict[str, float]]()
    for number in numbers:
        mine = [row for row in rows if row["volume"] == number]
        for name in ("b_smm2", "te_ms", _TIME):
            if len({row.get(name) for row in mine}) > 1:
                raise ProtocolError(f"{name} differs between the lines of volume {number:g}", path=path)
        pieces = [row for row in mine if row["duration_ms"] != 0]
        columns = [np.array([row[key] for row in pieces]) for key in _keys(mine[0])]
        strong, time = "amplitude_mt_m" in mine[0], mine[0].get(_TIME)
        shapes.append(_shape(columns, strong, time, f"of volume {number:g}", path) if pieces else None)
        first.append(mine[0])
    b, te = (np.array([row[name] for row in first]) if name in first[0] else None for name in ("b_smm2", "te_ms"))
    return _acquisition(shapes, b, te, path)


def _rows(path: Path) -> list[dict[str, float]]:
    lines = [line for _, line in text_lines(path)]
    delimiter = next((mark for mark in ",;\t" if mark in lines[0]), None)
    table = list(csv.reader(lines, delimiter=delimiter)) if delimiter else [line.split() for line in lines]
    header = [name.strip().lower() for name in table[0]]
    _refuse_unknown(set(header), {*_COLUMNS, *_OPTIONAL}, path)
    needed = {"volume", "start_ms", "duration_ms"} | ({"amplitude"} if "amplitude_mt_m" not in header else set())
    if missing := sorted(needed - set(header)):
        raise ProtocolError(f"has no column {', '.join(missing)}", path=path, hint=_FORM)
    rows = []
    for place, cells in enumerate(table[1:], start=2):
        if len(cells) != len(header):
            raise ProtocolError(f"line {place} has {len(cells)} entries where the header has {len(header)}", path=path)
        rows.append({name: _number(cell, path, f"line {place}: ") for name, cell in zip(header, cells)})
    if not rows:
        raise ProtocolError("holds a header and no lines", path=path, hint=_FORM)
    return rows


def _keys(described: Mapping[str, Any]) -> tuple[str, str, str]:
    return "start_ms", "duration_ms", "amplitude_mt_m" if "amplitude_mt_m" in described else "amplitude"


def _refuse_unknown(found: set[str], known: set[str], path: Path) -> None:
    for name in sorted(found - known):
        stem = name.rsplit("_", 1)[0]
        right = [each for each in known if each.rsplit("_", 1)[0] == stem or each.split("_")[0] == name]
        if right:
            raise UnitError(f"{name} has no unit or another one", path=path, hint=f"give {' or '.join(right)}")
        raise ProtocolError(f"does not know {name!r}", path=path, hint=_FORM)


def _number(value: Any, path: Path, where: str = "") -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"{where}{value!r} is not a number", path=path) from error
    if not math.isfinite(number):
        raise ProtocolError(f"{where}{value!r} is not a finite number", path=path)
    return number


def _numbers(content: Mapping[str, Any], key: str, path: Path, what: str) -> FloatArray:
    values = content.get(key)
    if not isinstance(values, list) or not values:
        raise ProtocolError(f"{what} needs a list of numbers named {key}", path=path, hint=_FORM)
    return np.array([_number(value, path, f"{key}: ") for value in values])


def _shape(columns: list[FloatArray], strong: bool, diffusion_ms: float | None, name: str, path: Path) -> _Shape:
    if len({column.size for column in columns}) > 1:
        raise ProtocolError(f"the lists of waveform {name} have different lengths", path=path)
    # A sampled waveform has thousands of pieces; those that say nothing new would only cost time.
    pieces: list[list[float]] = []
    for s, d, a in zip(*(column.tolist() for column in columns)):
        if pieces and a == pieces[-1][2] and abs(pieces[-1][0] + pieces[-1][1] - s) < 1e-9:
            pieces[-1][1] = s + d - pieces[-1][0]
        elif a != 0:
            pieces.append([s, d, a])
    if not pieces:
        raise ProtocolError(f"waveform {name} has no gradient at all", path=path, hint="name it null, with b = 0")
    origin = pieces[0][0]
    length = pieces[-1][0] + pieces[-1][1] - origin
    if not 1.0 < length < 5000.0:
        hint = f"give start and duration in ms (it looks like {'seconds' if length <= 1.0 else 'µs'})"
        raise UnitError(f"waveform {name} is {length:g} long, implausible for ms", path=path, hint=hint)
    try:
        waveform = Waveform(*zip(*((s - origin, d, a) for s, d, a in pieces)))
    except ProtocolError as error:
        raise ProtocolError(f"waveform {name}: {error.problem}", path=path, hint=error.hint) from error
    implied = 1000.0 * GAMMA**2 * waveform.weighting if strong else None
    return _Shape(waveform, _reversal(waveform)[1] if diffusion_ms is None else diffusion_ms, implied)


def _reversal(waveform: Waveform) -> tuple[float, float]:
    """Return how long the gradient is on before it first reverses, and when it does, ms: δ and Δ of a pulse pair."""
    first = waveform.amplitude[0]
    index = next((i for i, amplitude in enumerate(waveform.amplitude) if amplitude * first < 0), None)
    if index is None:
        raise ProtocolError("a waveform never reverses", hint="give all pieces of it, with their signs")
    return sum(waveform.duration_ms[:index]), waveform.start_ms[index]


def _acquisition(shapes: list[_Shape | None], b: FloatArray | None, te: FloatArray | None, path: Path) -> Acquisition:
    if b is None:
        implied = [0.0 if shape is None else shape.implied_b for shape in shapes]
        if None in implied:
            raise ProtocolError("has no b-values", path=path, hint="give b_smm2, or amplitudes in mT/m")
        b = np.array(implied, dtype=float)
    for name, values in (("b_smm2", b), ("te_ms", te)):
        if values is not None and values.size != len(shapes):
            raise ProtocolError(f"{name} has {values.size} values for {len(shapes)} volumes", path=path)
    for i, (shape, value) in enumerate(zip(shapes, b.tolist())):
        if shape is None and value >= B0_BELOW_SMM2:
            raise ProtocolError(f"volume {i} has b = {value:g} s/mm² and no waveform", path=path)
        if shape is not None and shape.implied_b is not None and value >= B0_BELOW_SMM2:
            ratio = value / shape.implied_b
            if abs(ratio - 1) > _AGREE:
                problem = f"volume {i} has b = {value:g} s/mm², and its gradients in mT/m give {shape.implied_b:.4g}"
                raise UnitError(problem, path=path, hint="check the units of b, amplitude and time")
    timing = [(0.0, 0.0) if s is None else (_reversal(s.waveform)[0], s.diffusion_ms) for s in shapes]
    delta, separation = np.array(timing).T
    return Acquisition(b, delta, separation, te, [None if shape is None else shape.waveform for shape in shapes])


register(
    Format(
        name="waveforms",
        form="a file of waveforms, as JSON or as a table with a line per piece",
        recognises=lambda source: "waveforms" in source.json or _has_header(source),
        read=lambda source: _from_json(source) if "waveforms" in source.json else _from_table(source),
    )
)
