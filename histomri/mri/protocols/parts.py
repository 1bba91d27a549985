"""The separate files that travel with FSL's .bval: .gdur, .gsep and .te, or a JSON sidecar in their place."""

from histomri.core.errors import ProtocolError
from histomri.core.files import require_file
from histomri.mri.acquisition import Acquisition
from histomri.mri.protocols.formats import Format, Source, accepted_forms, number_list, register
from histomri.mri.protocols.sidecar import with_sidecar

_PARTS = (".bval", ".gdur", ".gsep", ".te")


def _recognises(source: Source) -> bool:
    """Return whether it is one of the parts, or their common stem."""
    path = source.path
    return path.suffix in _PARTS or (not path.exists() and path.with_name(path.name + ".bval").exists())


def _read(source: Source) -> Acquisition:
    path = source.path
    stem = path.with_suffix("") if path.suffix in _PARTS else path
    bval, duration, separation, te = (stem.with_name(stem.name + part) for part in _PARTS)
    b = number_list(require_file(bval, "file of b-values"))
    if missing := [each.name for each in (duration, separation) if not each.exists()]:
        if sidecars := source.beside(".json"):
            return with_sidecar(b, sidecars[0])
        raise ProtocolError(
            f"{' and '.join(missing)} must lie beside it, with δ and Δ in ms", path=bval, hint=accepted_forms()
        )
    return Acquisition(b, number_list(duration), number_list(separation), number_list(te) if te.exists() else None)


register(Format(".bval, .gdur, .gsep and .te files", _recognises, _read, parts=(*_PARTS, ".json")))
