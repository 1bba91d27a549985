"""The engines of registration, each declared with what it can hold: contradictions between options follow from that.

An engine is added by a file with a class like `outline_engine.OutlineEngine`, and a declaration of it here.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

SEARCH_OPTIONS = ("landmarks", "tilts", "angle", "turned_over", "flips")
"""Options of the search that not every engine can hold."""


@dataclass(frozen=True)
class Engine:
    """The kinds of transform that an engine finds, which of `SEARCH_OPTIONS` it holds, and its class, module:Class."""

    name: str
    kinds: tuple[str, ...]
    holds: frozenset[str]
    code: str = ""

    def load(self) -> Any:
        """Return an instance of its class, loaded now: an `outline_engine.OutlineEngine` or one like it."""
        module, name = self.code.split(":")
        return getattr(import_module(module), name)()


_ROOM, _KINDS, _ALL = "histomri.registration", ("similarity", "affine", "bspline"), frozenset(SEARCH_OPTIONS)
ENGINES = {
    "robust": Engine("robust", _KINDS, _ALL, f"{_ROOM}.outline_engine:OutlineEngine"),
    "dipy": Engine("dipy", _KINDS, _ALL - {"landmarks"}, f"{_ROOM}.dipy_engine:DipyEngine"),
}
LANDMARKS_ONLY = Engine("landmarks", (*_KINDS, "tps"), frozenset({"landmarks"}))
"""Landmarks that settle everything, in place of an engine; "bspline" is a thin plate where there are enough."""


def resolve(kind: str, engine: str) -> tuple[str, str]:
    """Return kind and engine, of which "syn" is the usual name for both: DIPY's deformation."""
    return ("bspline", "dipy") if kind == "syn" else (kind, engine)
