"""The kind of every object: cell, nucleus, subcellular spot, tile; told apart row by row, and counted.

The default takes cells or, where there are none, nuclei. Whatever else a file holds is dropped and counted by kind.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from histomri.cells.filters import RowFilter, categories, object_types
from histomri.cells.parsed_export import ParsedExport
from histomri.cells.table import Compartment
from histomri.core.arrays import BoolArray, IntArray
from histomri.core.errors import InputError

Detections = Literal["nuclei", "cells"] | None
CELL, NUCLEUS, SPOT = "cell", "nucleus", "subcellular spot"
_BESIDE_CELLS = "a detection without a cell outline, beside cells"
_IGNORED = "of an ignored class (its name ends in *)"
_EXPORT = "export again from QuPath with Measure > Export measurements, export type 'Cells'"


@dataclass(frozen=True)
class Kinds:
    """The kinds of the objects of one file.

    Attributes
    ----------
    names : tuple of str
    codes : (n_rows,) ndarray of int8
        Which of the names each object has.
    compartment : {"cell", "nucleus"}
        Of which the sizes are.
    notes : tuple of str
        Warnings about the choice.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int8]
    compartment: Compartment
    notes: tuple[str, ...] = ()

    def are(self, name: str) -> BoolArray:
        """Return which objects are of a kind, (n_rows,)."""
        return (
            np.asarray(self.codes == self.names.index(name)) if name in self.names else np.zeros_like(self.codes, bool)
        )

    def counts(self, rows: BoolArray) -> dict[str, int]:
        """Return how many of some rows are of each kind."""
        found = np.bincount(self.codes[rows], minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, found) if count}


def find_kinds(export: ParsedExport, keep: BoolArray, detections: Detections = None) -> Kinds:
    """Tell the objects of a file apart, among the rows in `keep` (n_rows,).

    A cell is an object that is called one or has a measured cell area; an object with another outline only is a
    nucleus, unless its class says that it is a subcellular spot or cluster. `detections` is what the user says about
    objects with one outline.
    """
    types, codes = object_types(export) or ([""], np.zeros(export.n_rows, dtype=np.int8))
    names = [CELL, NUCLEUS, SPOT]
    names += [kind for kind in dict.fromkeys(types) if kind not in ("", "cell", "detection", *names)]
    recode = np.array([names.index({"": CELL, "detection": NUCLEUS}.get(kind, kind)) for kind in types], dtype=np.int8)
    kinds = recode[codes] if len(types) else np.zeros(export.n_rows, dtype=np.int8)
    if not export.by_type:
        known = np.array(
            [("", "cell", "detection").index(kind) if kind in ("cell", "detection") else 0 for kind in types]
        )
        _by_areas(export, kinds, known[codes] if len(types) else kinds)
    kinds[_spots(export) & (kinds <= names.index(SPOT))] = names.index(SPOT)
    there = np.bincount(kinds[keep], minlength=len(names)) > 0
    compartment, notes = _compartment(export, bool(there[0]), bool(there[1]), detections)
    return Kinds(tuple(names), kinds, compartment, notes)


def _by_areas(export: ParsedExport, kinds: NDArray[np.int8], called: IntArray) -> None:
    """Tell cells from nuclei by the areas that a table has for each; an object without any area stays a cell.

    `called` (n_rows,) is 1 for an object that is called a cell, 2 for a detection, and 0 if nothing is known.
    """
    numbers, plain, nothing = export.numbers, kinds <= 1, np.zeros(export.n_rows, dtype=bool)
    of_cell, of_nucleus, of_object = (
        np.isfinite(numbers[name]) if name in numbers else nothing for name in ("cell_area", "nucleus_area", "area")
    )
    if not (of_cell & plain).any():
        kinds[plain] = 1 if (of_nucleus | of_object).any() else 0
        return
    # A nucleus without a cell area may be of a cell whose area is missing, unless it is called a detection.
    nucleus = ~of_cell & plain & ((of_object & (called != 1)) | (of_nucleus & (called == 2)))
    kinds[plain] = 0
    kinds[nucleus] = 1


def _spots(export: ParsedExport) -> BoolArray:
    """Return which objects are subcellular spots or clusters, as their class or name says."""
    spots = np.zeros(export.n_rows, dtype=bool)
    for column in ("classification", "name"):
        if column in export.text:
            texts, codes = categories(export.text[column])
            named = np.array([text.strip().lower().startswith("subcellular") for text in texts], dtype=bool)
            if named.any():
                spots |= named[codes]
    return spots


def _compartment(
    export: ParsedExport, cells: bool, nuclei: bool, detections: Detections
) -> tuple[Compartment, tuple[str, ...]]:
    if detections == "cells":
        return "cell", ()
    if not cells:
        return ("nucleus" if nuclei else "cell"), ()
    if detections != "nuclei":
        return "cell", _perhaps_nuclei(export)
    inner = export.numbers.get("nucleus_area")
    if inner is not None and np.isfinite(inner).any():
        return "cell", ("--detections nuclei changes nothing for cells that have a nucleus of their own",)
    return "nucleus", ()


def _perhaps_nuclei(export: ParsedExport) -> tuple[str, ...]:
    """Warn of objects that another program called cells and that have one outline only."""
    if not export.by_type or "nucleus_area" in export.numbers or any("Cell: " in name for name in export.ignored):
        return ()
    if any(name.startswith(("cell_", "nucleus_")) and name != "cell_area" for name in export.numbers):
        return ()
    text = "its cells have one outline and no measurements; if they are nuclei (HoverNet, HoverFast, CellViT, StarDist)"
    return (f"{text}, pass --detections nuclei",)


def drop_other_kinds(export: ParsedExport, kinds: Kinds, rows: RowFilter, detections: Detections) -> None:
    """Drop the objects that are not of the kind that is taken, each under its kind."""
    wanted = kinds.are(CELL)
    if kinds.compartment == "nucleus" or detections == "cells":
        wanted = wanted | kinds.are(NUCLEUS)
    if export.n_rows and rows.keep.any() and not (wanted & rows.keep).any():
        found = kinds.counts(rows.keep)
        raise InputError(
            f"holds no cells: its {sum(found.values()):,} objects are of type {', '.join(sorted(found))}",
            path=export.path, hint=_EXPORT,
        )  # fmt: skip
    rows.drop(SPOT, kinds.are(SPOT))
    if kinds.compartment == "cell" and detections != "cells":
        rows.drop(_BESIDE_CELLS, kinds.are(NUCLEUS))
    rows.drop("not a cell or detection", ~wanted)


def drop_ignored(export: ParsedExport, rows: RowFilter, classes: tuple[str, ...] | None) -> None:
    """Drop the objects of classes that QuPath ignores, such as ``Ignore*``, unless they are asked for by name."""
    if "classification" not in export.text or any(name.strip().endswith("*") for name in classes or ()):
        return
    texts, codes = categories(export.text["classification"])
    ignored = np.array([any(part.strip().endswith("*") for part in text.split(":")) for text in texts], dtype=bool)
    if ignored.any():
        rows.drop(_IGNORED, ignored[codes])
