"""A protocol as one JSON file, with nothing lost: what `Acquisition.save` writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from histomri.core.errors import ProtocolError
from histomri.core.files import provenance, write_json
from histomri.mri.acquisition import Acquisition
from histomri.mri.waveforms import Waveform

_NEEDED = ("b_smm2", "delta_ms", "Delta_ms")
_PIECES = ("start_ms", "duration_ms", "amplitude")


def write_acquisition(acquisition: Acquisition, path: str | Path) -> Path:
    """Write a protocol as JSON; waveforms are listed per volume, null for a pulse pair of δ and Δ."""
    content: dict[str, Any] = {name: getattr(acquisition, name) for name in (*_NEEDED, "te_ms")}
    content["shapes"] = acquisition.waveforms and [
        None if each is None else {key: getattr(each, key) for key in _PIECES} for each in acquisition.waveforms
    ]
    return write_json(path, content | {"GeneratedBy": provenance()["GeneratedBy"]})


def acquisition_from_json(content: Mapping[str, Any], path: str | Path) -> Acquisition:
    """Return the protocol that `write_acquisition` wrote.

    Raises
    ------
    ProtocolError
        If something is missing or malformed.
    """
    if missing := [name for name in _NEEDED if name not in content]:
        raise ProtocolError(f"has no {', '.join(missing)}", path=path, hint="save the protocol again")
    shapes = content.get("shapes")
    try:
        waveforms = shapes and [
            None if each is None else Waveform(*(tuple(map(float, each[key])) for key in _PIECES)) for each in shapes
        ]
        return Acquisition(content["b_smm2"], content["delta_ms"], content["Delta_ms"], content.get("te_ms"), waveforms)
    except ProtocolError as error:
        raise ProtocolError(error.problem, path=path, hint=error.hint) from error
    except (TypeError, ValueError, KeyError) as error:
        raise ProtocolError(f"is no saved protocol ({error})", path=path, hint="save the protocol again") from error
