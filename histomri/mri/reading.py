"""Protocols from files in every form that users have, and from presets; each form has a file in `protocols`."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from histomri.core.errors import InputError, ProtocolError
from histomri.core.presets import PRESETS, names_preset
from histomri.mri import protocols
from histomri.mri.acquisition import Acquisition
from histomri.mri.protocols.formats import FORMATS, Format, Source, accepted_forms

for _module in iter_modules(protocols.__path__):
    import_module(f"{protocols.__name__}.{_module.name}")

_IMAGES = (".nii", ".nii.gz", ".mgz", ".img", ".hdr")


def read_acquisition(spec: str | Path, dwi: str | Path | None = None) -> Acquisition:
    """Read a diffusion protocol in any of the forms users have, with units checked.

    InputError or ProtocolError if a file is missing, empty or no text, or images and protocol were swapped; if it is
    malformed, its units are implausible, or it has another number of volumes than the images.

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

    Examples
    --------
    >>> from histomri.mri import read_acquisition
    >>> len(read_acquisition("mouse-exvivo"))
    50
    """
    if not str(spec).strip():
        raise ProtocolError("no protocol is named: --protocol is empty", hint=accepted_forms())
    source = Source(Path(spec), None if dwi is None else Path(dwi))
    _refuse_images(source)
    if names_preset(spec):
        acquisition = Acquisition.preset(str(spec))
    else:
        try:
            acquisition = _format_of(source).read(source)
        except ProtocolError as error:
            if error.path is not None:
                raise
            raise ProtocolError(error.problem, path=source.path, hint=error.hint) from error
    volumes = source.volumes
    if volumes is not None and volumes != len(acquisition):
        problem = f"has {volumes} volumes, and the protocol {source.path.name} has {len(acquisition)}"
        raise ProtocolError(problem, path=dwi, hint="give the protocol of these images, one entry per volume")
    return acquisition


def as_acquisition(protocol: Acquisition | str | Path) -> Acquisition:
    """Return a protocol that is given as one, as a file, or by the name of a preset."""
    if isinstance(protocol, str | Path):
        return read_acquisition(protocol)
    if not isinstance(protocol, Acquisition):
        hint = "give an Acquisition, a protocol file, or the name of a preset"
        raise InputError(f"the protocol is a {type(protocol).__name__}", hint=hint)
    return protocol


def protocol_files(spec: str | Path, dwi: str | Path | None = None) -> list[Path]:
    """Return every file that `read_acquisition` may open for a protocol, the images aside."""
    source = Source(Path(spec), None if dwi is None else Path(dwi))
    if names_preset(spec):
        return []
    try:
        found = _format_of(source)
    except (InputError, OSError):
        return [source.path]
    parts = [path for part in found.parts for path in source.beside(part)]
    return list(dict.fromkeys([source.path] * source.path.exists() + parts))


def _format_of(source: Source) -> Format:
    known = next((each for each in FORMATS if each.recognises(source)), None)
    if known is None or not (source.path.exists() or source.beside(".bval")):
        hint = f"check the spelling and the folder; the presets are {', '.join(PRESETS)}"
        raise ProtocolError("no such protocol file or preset", path=source.path, hint=hint)
    return known


def _refuse_images(source: Source) -> None:
    """Raise an InputError if the protocol is an image, which it is when the two arguments are swapped."""
    if not source.path.name.lower().endswith(_IMAGES):
        return
    if source.dwi is not None and not source.dwi.name.lower().endswith(_IMAGES):
        problem = f"the images and the protocol are swapped: {source.path.name} is an image, {source.dwi.name} is not"
        raise InputError(problem, hint=f"give {source.path.name} as dwi and {source.dwi.name} as protocol")
    raise ProtocolError("is an image, and a protocol was expected", path=source.path, hint=accepted_forms())
