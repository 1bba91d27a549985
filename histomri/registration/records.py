"""What a transform knows about itself, and what is kept of that when it is turned round or chained."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Info = Mapping[str, Any]
_INVERSE, _CHAIN = "InverseOf", "ChainOf"


def inverted(info: Info) -> dict[str, Any]:
    """Return the record of the inverse: the images exchanged, and the record that it is the inverse of."""
    if isinstance(info.get(_INVERSE), Mapping):
        return dict(info[_INVERSE])
    return {**_between(info.get("Fixed"), info.get("Moving")), _INVERSE: dict(info)} if info else {}


def chained(first: Info, second: Info) -> dict[str, Any]:
    """Return the record of one transform after another: where the first starts, where the second ends, and both."""
    links = [*_links(first), *_links(second)]
    return {**_between(first.get("Moving"), second.get("Fixed")), _CHAIN: links} if links else {}


def registrations(info: Info) -> Iterator[Info]:
    """Give what is recorded of every registration that a transform, its inverse or its chain was made by."""
    if isinstance(found := info.get("Registration"), Mapping):
        yield found
    for other in [info.get(_INVERSE), *(info.get(_CHAIN) or ())]:
        if isinstance(other, Mapping):
            yield from registrations(other)


def slice_found(info: Info) -> int | None:
    """Return the slice of the fixed image that was registered, of a chain the last one; None if it is not known."""
    links: Sequence[Info] = info.get(_CHAIN) or ()
    if links:
        return slice_found(links[-1])
    found = info.get("Registration")
    return found.get("Slice") if isinstance(found, Mapping) else None


def _between(moving: Any, fixed: Any) -> dict[str, Any]:
    return {name: side for name, side in (("Moving", moving), ("Fixed", fixed)) if side}


def _links(info: Info) -> list[dict[str, Any]]:
    return list(info[_CHAIN]) if _CHAIN in info else [dict(info)] if info else []
