"""FSL's .bval with its times beside it: a .gdur, .gsep and .te, or a JSON sidecar as BIDS has it, in seconds."""

from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import ProtocolError
from histomri.core.files import read_json, require_file
from histomri.mri.acquisition import Acquisition
from histomri.mri.protocols.formats import Format, Source, accepted_forms, number_list, register

_PARTS = (".bval", ".gdur", ".gsep", ".te")


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
    content = read_json(path, "JSON sidecar")
    if not isinstance(content, dict):
        raise ProtocolError("is not a JSON object", path=path)

    def times(*keys: str) -> FloatArray:
        return _milliseconds(content, keys, b.size, path)

    te = times("EchoTime") if "EchoTime" in content else None
    if "SmallDelta1" not in content:
        return Acquisition(b, times("SmallDelta"), times("LargeDelta", "BigDelta"), te)
    names = [f"SmallDelta{i}" for i in (1, 2, 3)] + (["SmallDelta4"] if "SmallDelta4" in content else [])
    start2, start4 = (times(f"LargeDelta{pair}", f"BigDelta{pair}") for pair in ("12", "14"))
    return Acquisition.trse(b, np.stack([times(name) for name in names], axis=1), start2, start4, te)


def _milliseconds(content: dict[str, Any], keys: tuple[str, ...], volumes: int, path: Path) -> FloatArray:
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
