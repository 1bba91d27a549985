"""A JSON sidecar as BIDS has it, times in seconds, beside a .bval."""

from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import ProtocolError
from histomri.core.files import read_json
from histomri.mri.acquisition import Acquisition
from histomri.mri.protocols.formats import Format, Source, accepted_forms, number_list, register


def _read(source: Source) -> Acquisition:
    path = source.path
    for bval in source.beside(".bval"):
        return with_sidecar(number_list(bval), path)
    raise ProtocolError(
        "has no b-values: there is no .bval of the same name beside it",
        path=path,
        hint=f"put {path.with_suffix('.bval').name} (s/mm²) beside it",
    )


def with_sidecar(b: FloatArray, path: Path) -> Acquisition:
    """Return the protocol of these b-values with the times of a sidecar."""
    content = read_json(path, "JSON sidecar")
    if not isinstance(content, dict):
        raise ProtocolError("is not a JSON object", path=path)
    te = _milliseconds(content, ("EchoTime",), b.size, path) if "EchoTime" in content else None
    if "SmallDelta1" not in content:
        delta = _milliseconds(content, ("SmallDelta",), b.size, path)
        return Acquisition(b, delta, _milliseconds(content, ("LargeDelta", "BigDelta"), b.size, path), te)
    names = [f"SmallDelta{i}" for i in (1, 2, 3)] + (["SmallDelta4"] if "SmallDelta4" in content else [])
    lobes = np.stack([_milliseconds(content, (name,), b.size, path) for name in names], axis=1)
    start2, start4 = (
        _milliseconds(content, (f"LargeDelta{pair}", f"BigDelta{pair}"), b.size, path) for pair in ("12", "14")
    )
    return Acquisition.trse(b, lobes, start2, start4, te)


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
        raise ProtocolError(
            f"{key} reaches {np.max(seconds):g}, too long for seconds", path=path, hint=f"give {key} in seconds"
        )
    return np.broadcast_to(1000.0 * seconds.reshape(-1), (volumes,))


register(
    Format(
        form="a JSON sidecar with SmallDelta, LargeDelta and EchoTime in seconds (twice-refocused: SmallDelta1 to "
        "SmallDelta4, LargeDelta12, LargeDelta14) beside a .bval",
        recognises=lambda source: source.path.suffix == ".json" and source.path.exists(),
        read=_read,
        parts=(".bval",),
        general=True,
    )
)
