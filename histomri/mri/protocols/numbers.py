"""Protocols as numbers: FSL's .bval with its times beside it, in files or a JSON sidecar as BIDS has it; or a table."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import ProtocolError
from histomri.core.files import read_json, require_file
from histomri.mri.acquisition import Acquisition
from histomri.mri.protocols.formats import Format, Source, accepted_forms, number_list, number_table, register

_PARTS = (".bval", ".gdur", ".gsep", ".te")
_TRSE_ROWS, _TIMES_BELOW = (7, 8), 200.0


def _is_part(source: Source) -> bool:
    """Return whether it is one of the parts, or their common stem."""
    path = source.path
    return path.suffix in _PARTS or (not path.exists() and path.with_name(path.name + ".bval").exists())


def _read_parts(source: Source) -> Acquisition:
    path = source.path
    stem = path.with_suffix("") if path.suffix in _PARTS else path
    bval, duration, separation, te = (stem.with_name(stem.name + part) for part in _PARTS)
    b = number_list(require_file(bval, "file of b-values"))
    if missing := [each.name for each in (duration, separation) if not each.exists()]:
        if sidecars := source.beside(".json"):
            return _with_sidecar(b, sidecars[0])
        problem = f"{' and '.join(missing)} must lie beside it, with δ and Δ in ms"
        raise ProtocolError(problem, path=bval, hint=accepted_forms())
    return Acquisition(b, number_list(duration), number_list(separation), number_list(te) if te.exists() else None)


def _read_sidecar(source: Source) -> Acquisition:
    path = source.path
    for bval in source.beside(".bval"):
        return _with_sidecar(number_list(bval), path)
    hint = f"put {path.with_suffix('.bval').name} (s/mm²) beside it"
    raise ProtocolError("has no b-values: there is no .bval of the same name beside it", path=path, hint=hint)


def _with_sidecar(b: FloatArray, path: Path) -> Acquisition:
    """Return the protocol of these b-values with the times of a sidecar."""
    if not isinstance(content := read_json(path, "JSON sidecar"), dict):
        raise ProtocolError("is not a JSON object", path=path)
    times = partial(_milliseconds, content, path, b.size)
    te = times("EchoTime") if "EchoTime" in content else None
    if "SmallDelta1" not in content:
        return Acquisition(b, times("SmallDelta"), times("LargeDelta", "BigDelta"), te)
    names = [f"SmallDelta{i}" for i in (1, 2, 3)] + (["SmallDelta4"] if "SmallDelta4" in content else [])
    start2, start4 = (times(f"LargeDelta{pair}", f"BigDelta{pair}") for pair in ("12", "14"))
    return Acquisition.trse(b, np.stack([times(name) for name in names], axis=1), start2, start4, te)


def _milliseconds(content: dict[str, Any], path: Path, volumes: int, *keys: str) -> FloatArray:
    key = next((key for key in keys if key in content), None)
    if key is None:
        raise ProtocolError(f"has no {' or '.join(keys)} (seconds)", path=path, hint=accepted_forms())
    try:
        seconds = np.asarray(content[key], dtype=float)
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"{key} is neither a number nor a list of numbers", path=path) from error
    if seconds.ndim > 1 or (seconds.ndim == 1 and seconds.size not in (1, volumes)):
        raise ProtocolError(f"{key} has {seconds.size} values for {volumes} b-values", path=path)
    if np.any(seconds > 5.0) or (key.startswith("SmallDelta") and np.any(seconds > 0.2)):
        problem = f"{key} reaches {np.max(seconds):g}, too long for seconds"
        raise ProtocolError(problem, path=path, hint=f"give {key} in seconds")
    return np.broadcast_to(1000.0 * seconds.reshape(-1), (volumes,))


register(Format(".bval, .gdur, .gsep and .te files", _is_part, _read_parts, parts=(*_PARTS, ".json")))
register(
    Format(
        form="a JSON sidecar with SmallDelta, LargeDelta and EchoTime in seconds (twice-refocused: SmallDelta1 to "
        "SmallDelta4, LargeDelta12, LargeDelta14) beside a .bval",
        recognises=lambda source: source.path.suffix == ".json" and source.path.exists(),
        read=_read_sidecar,
        parts=(".bval",),
        general=True,
    )
)


def _read_rows(source: Source) -> Acquisition:
    table = number_table(source.path)
    forms = [form for form in (table, table.T) if form.shape[0] in (3, 4, *_TRSE_ROWS)]
    if not forms:
        found = f"has {table.shape[0]} rows and {table.shape[1]} columns"
        problem = f"{found}; 3 or 4 rows were expected (7 or 8 of a twice-refocused echo)"
        raise ProtocolError(problem, path=source.path, hint=accepted_forms())
    if len(forms) == 2:
        # As few volumes as rows: either way round fits the shape, so the units and the images must decide.
        forms = [form for form in forms if _is_sensible(form, source.volumes)] or forms[:1]
        # Timings read as b-values stay small; no protocol does.
        forms = [form for form in forms if form[0].max() > _TIMES_BELOW] or forms
        if len(forms) == 2:
            problem = f"a table of {table.shape[0]} x {table.shape[1]} can be read by rows or by columns"
            raise ProtocolError(problem, path=source.path, hint="give .bval, .gdur, .gsep and .te files instead")
    return _of_rows(forms[0])


def _of_rows(rows: FloatArray) -> Acquisition:
    if rows.shape[0] not in _TRSE_ROWS:
        return Acquisition(*rows)
    return Acquisition.trse(rows[0], rows[1:5].T, rows[5], rows[6], rows[7] if rows.shape[0] == 8 else None)


def _is_sensible(form: FloatArray, volumes: int | None) -> bool:
    if volumes is not None and form.shape[1] != volumes:
        return False
    try:
        _of_rows(form)
    except ProtocolError:
        return False
    return True


register(
    Format(
        form="a text file with rows b (s/mm²), δ (ms), Δ (ms) and, if there are several echo times, TE (ms); or, "
        "twice-refocused, rows b, δ1, δ2, δ3, δ4, Δ12, Δ14 and TE",
        recognises=lambda source: source.path.exists() and source.path.suffix != ".json",
        read=_read_rows,
        general=True,
    )
)
