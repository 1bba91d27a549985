"""FSL's .bval with what is known beside it: .gdur, .gsep and .te, a JSON sidecar in seconds, or nothing."""

from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.array_files import as_numbers
from histomri.core.arrays import FloatArray
from histomri.core.door import reading
from histomri.core.errors import ProtocolError
from histomri.core.files import read_json, require_file
from histomri.mri.acquisition import Acquisition
from histomri.mri.protocols.columns import Columns
from histomri.mri.protocols.formats import Format, Source, accepted_forms, number_list, register

_B = (".bval", ".bvals")
_FEWEST = 8
_TIMES = (".gdur", ".gsep", ".te")
# Seconds, as BIDS wants all times; the names are those of BIDS and dcm2niix, of processing tools, and of data sets.
_SECONDS = {
    "δ": ("SmallDelta", "GradientPulseDuration", "gradient_pulse_duration", "small_delta", "DiffusionGradientDuration"),
    "Δ": (
        "LargeDelta", "BigDelta", "GradientPulseSeparation", "gradient_pulse_separation", "big_delta", "large_delta",
        "DiffusionGradientSeparation",
    ),
    "TE": ("EchoTime", "echo_time"),
}  # fmt: skip
# Milliseconds: those of Bruker's converters.
_MILLISECONDS = {"δ": ("PVM_DwGradDur",), "Δ": ("PVM_DwGradSep",), "TE": ("PVM_EchoTime",)}


def _is_part(source: Source) -> bool:
    """Return whether it is one of the parts, or their common stem, or a list of b-values."""
    path = source.path
    if path.suffix in (*_B, *_TIMES) or path.name in ("bval", "bvals"):
        return True
    # Fewer numbers may be one volume of a table.
    if 1 in source.table.shape and source.table.size > _FEWEST:
        return True
    return not path.exists() and any(path.with_name(path.name + part).exists() for part in _B)


def _read_parts(source: Source) -> Acquisition | Columns:
    path = source.path
    stem = path.with_suffix("") if path.suffix in (*_B, *_TIMES) else path
    named = [] if path.suffix in _TIMES else [path]
    bval = next((each for each in (*named, *(stem.with_name(stem.name + part) for part in _B)) if each.exists()), None)
    b = number_list(require_file(bval or stem.with_name(stem.name + ".bval"), "file of b-values"))
    files = [stem.with_name(stem.name + part) for part in _TIMES]
    delta, separation, te = (_per_volume(each, b.size) if each.exists() else None for each in files)
    sidecars = source.beside(".json")
    if sidecars and delta is None and separation is None:
        found = _with_sidecar(b, sidecars[0])
        return found if te is None or isinstance(found, Acquisition) else _with_te(found, te, sidecars[0])
    absent = [each.name for each, values in zip(files, (delta, separation)) if values is None]
    missing = f"{' and '.join(absent)} must lie beside it, with δ and Δ in ms"
    return Columns(b, delta, separation, te, missing=missing)


def _with_te(found: Columns, te: FloatArray, sidecar: Path) -> Columns:
    if found.te_ms is not None and not np.allclose(np.asarray(found.te_ms), te, atol=0.05):
        problem = f"says TE = {np.asarray(found.te_ms).flat[0]:g} ms, and the file .te says {te[0]:g} ms"
        raise ProtocolError(problem, path=sidecar, hint="correct one of them, or move it away")
    return Columns(found.b_smm2, found.delta_ms, found.Delta_ms, te, missing=found.missing)


def _per_volume(path: Path, volumes: int) -> FloatArray:
    """Read a time of each volume, or one for all."""
    values = number_list(path)
    if values.size not in (1, volumes):
        raise ProtocolError(f"has {values.size} values for {volumes} b-values", path=path)
    return np.broadcast_to(values, (volumes,))


def _read_sidecar(source: Source) -> Acquisition | Columns:
    path = source.path
    for bval in (each for part in _B for each in source.beside(part)):
        return _with_sidecar(number_list(bval), path)
    hint = f"put {path.with_suffix('.bval').name} (s/mm²) beside it"
    raise ProtocolError("has no b-values: there is no .bval of the same name beside it", path=path, hint=hint)


def _with_sidecar(b: FloatArray, path: Path) -> Acquisition | Columns:
    """Return the protocol of these b-values with the times of a sidecar."""
    content = read_json(path, "JSON sidecar")
    if not isinstance(content, dict):
        raise ProtocolError("is not a JSON object", path=path)
    times = {name: _time(content, name, b.size, path) for name in _SECONDS}
    if "SmallDelta1" not in content:
        delta, separation = times["δ"], times["Δ"]
        absent = ", ".join(
            " or ".join(_SECONDS[name][:2] if name == "Δ" else _SECONDS[name][:1])
            for name, values in (("δ", delta), ("Δ", separation)) if values is None
        )  # fmt: skip
        missing = f"the sidecar {path.name} has no {absent} (seconds)"
        if delta is None or separation is None:
            # Half a timing would be completed by the user; a message has to name the half that is missing.
            return Columns(b, delta, separation, times["TE"], missing=missing)
        return Columns(b, delta, separation, times["TE"])

    def lobe(*keys: str) -> FloatArray:
        return _milliseconds(content, keys, b.size, path)

    names = [f"SmallDelta{i}" for i in (1, 2, 3)] + (["SmallDelta4"] if "SmallDelta4" in content else [])
    start2, start4 = (lobe(f"LargeDelta{pair}", f"BigDelta{pair}") for pair in ("12", "14"))
    return Acquisition.trse(b, np.stack([lobe(name) for name in names], axis=1), start2, start4, times["TE"])


def _time(content: dict[str, Any], name: str, volumes: int, path: Path) -> FloatArray | None:
    """Return δ, Δ or TE of each volume, ms, by any of its names; ProtocolError if two names disagree."""
    found: dict[str, FloatArray] = {}
    for key in (key for key in _SECONDS[name] if content.get(key) is not None):
        found[key] = _milliseconds(content, (key,), volumes, path)
    for key in (key for key in _MILLISECONDS[name] if content.get(key) is not None):
        found[key] = _values(content, key, volumes, path)
    (first, values), *others = found.items() or [("", None)]
    for key, other in others:
        if values is not None and other is not None and not np.allclose(values, other, atol=0.05):
            problem = f"{first} says {name} = {values.flat[0]:g} ms, and {key} {other.flat[0]:g} ms"
            raise ProtocolError(problem, path=path, hint="correct one of them")
    return values


def _milliseconds(content: dict[str, Any], keys: tuple[str, ...], volumes: int, path: Path) -> FloatArray:
    key = next((key for key in keys if key in content), None)
    if key is None:
        raise ProtocolError(f"has no {' or '.join(keys)} (seconds)", path=path, hint=accepted_forms())
    seconds = _values(content, key, volumes, path)
    is_duration = key.startswith("SmallDelta") or key in _SECONDS["δ"]
    if np.any(seconds > 5.0) or (is_duration and np.any(seconds > 0.2)):
        problem = f"{key} reaches {np.max(seconds):g}, too long for seconds"
        raise ProtocolError(problem, path=path, hint=f"give {key} in seconds")
    return np.asarray(1000.0 * seconds)


def _values(content: dict[str, Any], key: str, volumes: int, path: Path) -> FloatArray:
    """Return the numbers of a key, (M,): a list, or one number for all volumes."""
    with reading(path, "protocol", None, f"{key} is neither a number nor a list of numbers", ProtocolError):
        values = as_numbers(content[key])
    if values.ndim > 1 or (values.ndim == 1 and values.size not in (1, volumes)):
        raise ProtocolError(f"{key} has {values.size} values for {volumes} b-values", path=path)
    return np.broadcast_to(values.reshape(-1), (volumes,))


register(
    Format(
        form=".bval with .gdur, .gsep and .te, a JSON sidecar, or --delta, --Delta and --te",
        recognises=_is_part,
        read=_read_parts,
        parts=(*_B, *_TIMES, ".json"),
        name="bval",
    )
)
register(
    Format(
        form="a JSON sidecar with SmallDelta, LargeDelta and EchoTime in seconds (twice-refocused: SmallDelta1 to "
        "SmallDelta4, LargeDelta12, LargeDelta14) beside a .bval",
        recognises=lambda source: source.path.suffix == ".json" and source.path.exists(),
        read=_read_sidecar,
        parts=_B,
        general=True,
        name="sidecar",
    )
)
