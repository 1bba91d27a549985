"""Protocol files: text tables, BIDS-style JSON, and the separate files that travel with FSL's .bval."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError, ProtocolError
from histomri.core.files import read_json, require_file
from histomri.core.presets import PRESETS, names_preset
from histomri.mri.acquisition import B0_BELOW_SMM2, Acquisition
from histomri.mri.acquisition_files import acquisition_from_json
from histomri.mri.images import open_dwi
from histomri.mri.presets import preset_acquisition
from histomri.mri.waveform_files import has_waveform_header, waveforms_from_json, waveforms_from_table

_PARTS = (".bval", ".gdur", ".gsep", ".te")
_FORMS = (
    "give a text file with rows b (s/mm²), δ (ms), Δ (ms) and, if there are several echo times, TE (ms); "
    "or, twice-refocused, rows b, δ1, δ2, δ3, δ4, Δ12, Δ14 and TE; "
    "or .bval, .gdur, .gsep and .te files; or a JSON sidecar with SmallDelta, LargeDelta and EchoTime in seconds "
    "(twice-refocused: SmallDelta1 to SmallDelta4, LargeDelta12, LargeDelta14) beside a .bval; "
    f"or a file of waveforms; or one of {', '.join(PRESETS)}"
)
_TRSE_ROWS = (7, 8)
_TIMES_BELOW = 200.0


def read_acquisition(spec: str | Path, dwi: str | Path | None = None) -> Acquisition:
    """Read a diffusion protocol in any of the forms users have.

    Parameters
    ----------
    spec : str or path-like
        A preset name; a text table with 3 or 4 rows (b, δ, Δ, TE), or 7 or 8 of a twice-refocused echo (b, δ1, δ2,
        δ3, δ4, Δ12, Δ14, TE), and one column per volume, or the same transposed where that cannot be mistaken; what
        `Acquisition.save` wrote; a JSON sidecar with ``SmallDelta``, ``LargeDelta`` or ``BigDelta`` (twice-refocused:
        ``SmallDelta1`` to ``SmallDelta4``, ``LargeDelta12``, ``LargeDelta14``) and ``EchoTime`` in seconds, with a
        .bval beside it or beside the DWI; one of .bval, .gdur, .gsep, .te with the others beside it; the common stem
        of those; or waveforms piece by piece, as JSON with ``waveforms`` or as a table with a header.
    dwi : path-like, optional
        The images, to check the number of volumes, and to find a .bval named after them.

    Returns
    -------
    Acquisition
        With units checked.

    Raises
    ------
    InputError
        If a file is missing, empty or no text.
    ProtocolError
        If it is malformed, its units are implausible, or it has another number of volumes than the images.
    """
    if not str(spec).strip():
        raise ProtocolError("no protocol is named: --protocol is empty", hint=_FORMS)
    if names_preset(spec):
        acquisition = preset_acquisition(str(spec))
        return _match(acquisition, dwi, spec)
    path = Path(spec)
    try:
        acquisition = _read(path, Path(dwi) if dwi is not None else None)
    except ProtocolError as error:
        if error.path is not None:
            raise
        raise ProtocolError(error.problem, path=path, hint=error.hint) from error
    return _match(acquisition, dwi, spec)


def _read(path: Path, dwi: Path | None) -> Acquisition:
    if path.suffix in _PARTS:
        return _from_parts(path.with_suffix(""), dwi)
    if not path.exists() and path.with_name(path.name + ".bval").exists():
        return _from_parts(path, dwi)
    if not path.exists():
        hint = f"check the spelling and the folder; the presets are {', '.join(PRESETS)}"
        raise ProtocolError("no such protocol file or preset", path=path, hint=hint)
    if path.suffix == ".json":
        return _from_json(path, dwi)
    require_file(path, "protocol file")
    if has_waveform_header(path):
        return waveforms_from_table(path)
    return _from_table(path, _volumes(dwi))


def _match(acquisition: Acquisition, dwi: str | Path | None, spec: str | Path) -> Acquisition:
    volumes = _volumes(Path(dwi) if dwi is not None else None)
    if volumes is not None and volumes != len(acquisition):
        raise ProtocolError(
            f"has {volumes} volumes, and the protocol {Path(spec).name} has {len(acquisition)}",
            path=dwi,
            hint="give the protocol of these images, one entry per volume",
        )
    return acquisition


def _volumes(dwi: Path | None) -> int | None:
    return None if dwi is None else open_dwi(dwi).shape[3]


def _from_parts(stem: Path, dwi: Path | None) -> Acquisition:
    files = {part: stem.with_name(stem.name + part) for part in _PARTS}
    b = _list(require_file(files[".bval"], "file of b-values"))
    if not (files[".gdur"].exists() and files[".gsep"].exists()):
        for sidecar in _candidates(stem, dwi, ".json"):
            return _with_sidecar(b, sidecar)
        missing = [files[part].name for part in (".gdur", ".gsep") if not files[part].exists()]
        raise ProtocolError(
            f"{' and '.join(missing)} must lie beside it, with δ and Δ in ms", path=files[".bval"], hint=_FORMS
        )
    te = _list(require_file(files[".te"])) if files[".te"].exists() else None
    return Acquisition(b, _list(require_file(files[".gdur"])), _list(require_file(files[".gsep"])), te)


def _candidates(stem: Path, dwi: Path | None, suffix: str) -> list[Path]:
    stems = [stem] if dwi is None else [stem, dwi.with_name(re.sub(r"\.nii(\.gz)?$", "", dwi.name))]
    return [path for path in (each.with_name(each.name + suffix) for each in stems) if path.exists()]


def _from_json(path: Path, dwi: Path | None) -> Acquisition:
    content = read_json(path, "JSON sidecar")
    if isinstance(content, dict) and "waveforms" in content:
        return waveforms_from_json(content, path)
    if isinstance(content, dict) and "delta_ms" in content:
        return acquisition_from_json(content, path)
    for bval in _candidates(path.with_suffix(""), dwi, ".bval"):
        return _with_sidecar(_list(bval), path)
    raise ProtocolError(
        "has no b-values: there is no .bval of the same name beside it",
        path=path,
        hint=f"put {path.with_suffix('.bval').name} (s/mm²) beside it",
    )


def _with_sidecar(b: FloatArray, path: Path) -> Acquisition:
    content = read_json(path, "JSON sidecar")
    if not isinstance(content, dict):
        raise ProtocolError("is not a JSON object", path=path)
    if "SmallDelta1" in content:
        return _trse_sidecar(b, content, path)
    delta = _seconds(content, ("SmallDelta",), b.size, path)
    separation = _seconds(content, ("LargeDelta", "BigDelta"), b.size, path)
    te = _seconds(content, ("EchoTime",), b.size, path) if "EchoTime" in content else None
    return Acquisition(b, delta, separation, te)


def _trse_sidecar(b: FloatArray, content: dict[str, Any], path: Path) -> Acquisition:
    names = [f"SmallDelta{i}" for i in (1, 2, 3)] + (["SmallDelta4"] if "SmallDelta4" in content else [])
    lobes = np.stack([_seconds(content, (name,), b.size, path) for name in names], axis=1)
    start2, start4 = (
        _seconds(content, (f"LargeDelta{pair}", f"BigDelta{pair}"), b.size, path) for pair in ("12", "14")
    )
    te = _seconds(content, ("EchoTime",), b.size, path) if "EchoTime" in content else None
    return _trse(b, lobes, start2, start4, te)


def _trse(
    b: FloatArray, lobes: FloatArray, start2: FloatArray, start4: FloatArray, te: FloatArray | None
) -> Acquisition:
    """Make a twice-refocused protocol, its units checked first: with wrong ones the lobes may seem to overlap."""
    weighted = b >= B0_BELOW_SMM2
    if weighted.any():
        longest = float(lobes[weighted].max())
        if not 0.2 <= longest <= 200.0:
            unit = "seconds" if longest < 0.2 else "µs"
            raise ProtocolError(
                f"the lobes last at most {longest:g}, implausible for ms", hint=f"give ms (it looks like {unit})"
            )
    return Acquisition.trse(b, lobes, start2, start4, te)


def _seconds(content: dict[str, Any], keys: tuple[str, ...], volumes: int, path: Path) -> FloatArray:
    key = next((key for key in keys if key in content), None)
    if key is None:
        raise ProtocolError(f"has no {' or '.join(keys)} (seconds)", path=path, hint=_FORMS)
    try:
        seconds = np.asarray(content[key], dtype=float)
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"{key} is neither a number nor a list of numbers", path=path) from error
    if seconds.ndim > 1 or (seconds.ndim == 1 and seconds.size not in (1, volumes)):
        raise ProtocolError(f"{key} has {seconds.size} values for {volumes} b-values", path=path)
    if np.any(seconds > 5.0) or (key.startswith("SmallDelta") and np.any(seconds > 0.2)):
        raise ProtocolError(
            f"{key} reaches {np.max(seconds):g}, too long for seconds", path=path, hint=f"give {key} in seconds"
        )
    return np.broadcast_to(1000.0 * seconds.reshape(-1), (volumes,))


def _list(path: Path) -> FloatArray:
    table = _numbers(path)
    if 1 not in table.shape:
        raise ProtocolError(
            f"has {table.shape[0]} rows of {table.shape[1]} numbers, and one list was expected", path=path
        )
    return table.ravel()


def _from_table(path: Path, volumes: int | None) -> Acquisition:
    table = _numbers(path)
    forms = [form for form in (table, table.T) if form.shape[0] in (3, 4, *_TRSE_ROWS)]
    if not forms:
        raise ProtocolError(
            f"has {table.shape[0]} rows and {table.shape[1]} columns; 3 or 4 rows were expected "
            "(7 or 8 of a twice-refocused echo)",
            path=path,
            hint=_FORMS,
        )
    if len(forms) == 2:
        # As few volumes as rows: either way round fits the shape, so the units and the images must decide.
        forms = [form for form in forms if _sensible(form, volumes)] or forms[:1]
        # Timings read as b-values stay small; no protocol does.
        forms = [form for form in forms if form[0].max() > _TIMES_BELOW] or forms
        if len(forms) == 2:
            raise ProtocolError(
                f"a table of {table.shape[0]} x {table.shape[1]} can be read by rows or by columns",
                path=path,
                hint="give .bval, .gdur, .gsep and .te files instead",
            )
    return _of_rows(forms[0])


def _of_rows(rows: FloatArray) -> Acquisition:
    if rows.shape[0] not in _TRSE_ROWS:
        return Acquisition(*rows)
    return _trse(rows[0], rows[1:5].T, rows[5], rows[6], rows[7] if rows.shape[0] == 8 else None)


def _sensible(form: FloatArray, volumes: int | None) -> bool:
    if volumes is not None and form.shape[1] != volumes:
        return False
    try:
        _of_rows(form)
    except ProtocolError:
        return False
    return True


def _numbers(path: Path) -> FloatArray:
    """Read a table of numbers apart by blanks, tabs, commas or semicolons; # starts a comment."""
    require_file(path, "protocol file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("is not a text file, so it cannot be a protocol", path=path, hint=_FORMS) from error
    rows: list[list[float]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = re.split(r"[\s,;]+", line.split("#", 1)[0].strip(" \t,;"))
        if words == [""]:
            continue
        try:
            rows.append([float(word) for word in words])
        except ValueError as error:
            raise ProtocolError(
                f"line {number} holds something that is not a number: {line.strip()[:60]!r}", path=path, hint=_FORMS
            ) from error
        if len(rows[-1]) != len(rows[0]):
            raise ProtocolError(
                f"line {number} has {len(rows[-1])} numbers where the first has {len(rows[0])}", path=path
            )
    if not rows:
        raise ProtocolError("holds no numbers", path=path, hint=_FORMS)
    return np.array(rows)
