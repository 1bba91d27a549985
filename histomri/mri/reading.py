"""Protocols from files in every form that users have, and from presets; each form has a file in `protocols`."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import numpy as np

from histomri.core.door import reading
from histomri.core.errors import InputError, ProtocolError, UnitError
from histomri.core.presets import PRESETS, names_preset
from histomri.mri import protocols
from histomri.mri.acquisition import NEED_TIMING, Acquisition
from histomri.mri.protocols.columns import Columns, Facts, completed
from histomri.mri.protocols.formats import FORMATS, Format, Source, accepted_forms

for _module in iter_modules(protocols.__path__):
    import_module(f"{protocols.__name__}.{_module.name}")

_IMAGES = (".nii", ".nii.gz", ".mgz", ".img", ".hdr")


def read_acquisition(
    spec: str | Path, dwi: str | Path | None = None, *, format: str | None = None, delta_ms: float | None = None,
    Delta_ms: float | None = None, te_ms: float | None = None, b0_below_smm2: float | None = None, timing: bool = True,
) -> Acquisition:  # fmt: skip
    """Read a diffusion protocol in any of the forms users have, with units checked.

    InputError or ProtocolError if a file is missing, empty or no text, or images and protocol were swapped; if it is
    malformed, its units are implausible, it fits two formats, it contradicts what is given beside it, or it has another
    number of volumes than the images.

    Parameters
    ----------
    spec : str or path-like
        A preset name, or a file; docs/fitting.md lists the formats: rows or columns of b, δ, Δ and TE, tables with a
        header, .bval with its times beside it or in JSON, Camino, MRtrix, Bruker's method file, gradient tables in SI
        units, waveforms, and what `Acquisition.save` wrote. The format is recognised by its content.
    dwi : path-like, optional
        The images, to check the number of volumes, and to find a .bval named after them.
    format : str, optional
        Name of the format, where a file fits two; an unknown one is refused with the list of all.
    delta_ms, Delta_ms, te_ms : float, optional
        δ, Δ and TE of all volumes, ms, where the file does not say them.
    b0_below_smm2 : float, optional
        Count smaller b as b = 0, s/mm²: by default 10, or what the file of a scanner says.
    timing : bool
        Whether δ and Δ are needed; ADC, kurtosis and IVIM depend on b alone.

    Examples
    --------
    >>> from histomri.mri import read_acquisition
    >>> len(read_acquisition("mouse-exvivo"))
    50
    """
    if not str(spec).strip():
        raise ProtocolError("no protocol is named: --protocol is empty", hint=accepted_forms())
    source = Source(Path(spec), None if dwi is None else Path(dwi))
    facts = Facts(delta_ms, Delta_ms, te_ms, b0_below_smm2)
    _refuse_images(source)
    if names_preset(spec):
        acquisition = completed(Acquisition.preset(str(spec)), facts)
    else:
        acquisition = _read(source, format, facts, timing)
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
        found = _formats_of(source, None)
    except (InputError, OSError):
        return [source.path]
    parts = [path for each in found for part in each.parts for path in source.beside(part)]
    return list(dict.fromkeys([source.path] * source.path.exists() + parts))


def _read(source: Source, name: str | None, facts: Facts, timing: bool) -> Acquisition:
    """Read a file by the formats that recognise it; ProtocolError if two can read it, and differently."""
    formats, found, errors = _formats_of(source, name), dict[str, Acquisition](), list[InputError]()
    for each in formats:
        try:
            found[each.name or each.form] = _read_as(each, source, facts, timing)
        except (ProtocolError, UnitError) as error:
            errors.append(error)
    if not found:
        raise min(errors, key=lambda error: "this way round" in error.problem)
    (first, acquisition), *others = found.items()
    for second, other in others:
        if _differ(acquisition, other):
            problem = f"can be read as {first} or as {second}, which are different protocols"
            raise ProtocolError(problem, path=source.path, hint=f"give --format {first} or --format {second}")
    return acquisition


def _read_as(form: Format, source: Source, facts: Facts, timing: bool) -> Acquisition:
    """Read a file in one format, which errors name, with the file."""
    try:
        with reading(source.path, "protocol", accepted_forms(), kind=ProtocolError):
            content = form.read(source)
        if isinstance(content, Columns):
            return content.acquisition(facts, timing)
        acquisition = completed(content, facts)
        if timing and not acquisition.has_timing:
            raise ProtocolError(Columns.missing, hint=NEED_TIMING)
        return acquisition
    except (ProtocolError, UnitError) as error:
        problem = f"{error.problem} (read as {form.name})" if form.name else error.problem
        raise type(error)(problem, path=error.path or source.path, hint=error.hint) from error


def _differ(one: Acquisition, other: Acquisition) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("b_smm2", "delta_ms", "Delta_ms", "te_ms")]
    return len(one) != len(other) or not all(
        (a is None and b is None) or (a is not None and b is not None and np.allclose(a, b, equal_nan=True))
        for a, b in pairs
    )


def _formats_of(source: Source, name: str | None) -> list[Format]:
    """Return the formats that recognise a file, those that take almost any only where no other does."""
    if not (source.path.exists() or source.beside(".bval") or source.beside(".bvals")):
        hint = f"check the spelling and the folder; the presets are {', '.join(PRESETS)}"
        raise ProtocolError("no such protocol file or preset", path=source.path, hint=hint)
    if name is not None:
        if chosen := [each for each in FORMATS if each.name == name]:
            return chosen
        known = ", ".join(sorted(each.name for each in FORMATS if each.name))
        raise ProtocolError(f"there is no format {name!r} of protocols", hint=f"give --format one of {known}")
    known_by = [each for each in FORMATS if each.recognises(source)]
    found = [each for each in known_by if not each.general] or known_by
    if not found:
        raise ProtocolError("is no protocol file in a known format", path=source.path, hint=accepted_forms())
    return found


def _refuse_images(source: Source) -> None:
    """Raise an InputError if the protocol is an image, which it is when the two arguments are swapped."""
    if not source.path.name.lower().endswith(_IMAGES):
        return
    if source.dwi is not None and not source.dwi.name.lower().endswith(_IMAGES):
        problem = f"the images and the protocol are swapped: {source.path.name} is an image, {source.dwi.name} is not"
        raise InputError(problem, hint=f"give {source.path.name} as dwi and {source.dwi.name} as protocol")
    raise ProtocolError("is an image, and a protocol was expected", path=source.path, hint=accepted_forms())
