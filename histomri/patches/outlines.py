"""What the outlines of a table are: nuclei, nuclei with a rim, or cells; as the table shows it, or as it was said.

Everything that is measured means something else for each kind, so the kind is recorded with all maps, also where it
is not known.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from histomri.cells import CellTable
from histomri.core.arrays import BoolArray
from histomri.core.errors import InputError
from histomri.patches.options import OutlineKind
from histomri.patches.stereology import Kind, is_rim

WORDS: dict[Kind, str] = {
    "N": "nuclei only", "R": "nucleus and rim", "M": "cell where its nucleus is seen", "E": "every cell",
}  # fmt: skip
_ALL, _MOST = 0.98, 0.9  # of the cells of a mask that have a nucleus: all of them; fewer are cells cut beside theirs
_PAPER = "compared with MRI (--size paper): vCS, F and CD as published"


@dataclass(frozen=True)
class Outlines:
    """The kind of the outlines of a table, None if it is not known, and how it is known."""

    kind: Kind | None
    source: str

    def record(self) -> dict[str, Any]:
        """Return what sidecars say of the outlines."""
        known = "not known" if self.kind is None else WORDS[self.kind]
        return {"OutlineKind": self.kind, "OutlineKindFrom": self.source, "Outlines": known}

    def meanings(self) -> dict[str, str]:
        """Return what vCS and F are of, where they are not of cells."""
        if self.kind not in ("N", "R"):
            return {}
        what = "nuclei with their rim" if self.kind == "R" else "nuclei"
        return {
            "vCS": f"Volume-weighted size of {what}, not of cells",
            "F": f"Share of the area that {what} cover, not the intra-cellular fraction",
        }

    def messages(self) -> tuple[str, ...]:
        """Return lines for the user who made maps without numbers in 3D."""
        of = {"R": ": vCS and F are of nuclei with their rim, not of cells", "N": ": vCS and F are of nuclei"}
        known = "not known" if self.kind is None else WORDS[self.kind]
        kind = self.kind or "(N, R, M or E)"
        in_3d = f"cells in 3D need --outline-kind {kind} and --section-thickness-um, the thickness as cut"
        return f"outlines: {known} ({self.source}){of.get(self.kind or '', '')}", f"{_PAPER}; {in_3d}"


def recognise_outlines(cells: CellTable) -> Outlines:
    """Return the kind of the outlines of a table, as far as it shows it clearly.

    Detections that are nuclei are of kind N; nuclei of which many have a rim of one width of kind R. A mask of cells
    that came with one of nuclei is of kind M if each cell has a nucleus, and E if many have none.

    Examples
    --------
    >>> table = CellTable.from_columns(x_um=[10, 20], y_um=[5, 5], area_um2=[80, 90])
    >>> recognise_outlines(table).kind is None  # outlines of anything
    True
    """
    if cells.metadata.compartment == "nucleus":
        return Outlines("N", "the detections are nuclei")
    known = known_nuclei(cells)
    if not known.any():
        return Outlines(None, "the table has no nuclei")
    data = cells.data[known]
    if is_rim(data["nucleus_area_um2"].to_numpy(dtype=float), data["area_um2"].to_numpy(dtype=float)):
        return Outlines("R", "many rims have one width")
    share = float(known.mean())
    if cells.metadata.grid == "mask" and share >= _ALL:
        return Outlines("M", "a mask of cells, and one of their nuclei")
    if cells.metadata.grid == "mask" and share < _MOST:
        return Outlines("E", f"a mask of cells, of which {share:.0%} have a nucleus in the mask of nuclei")
    return Outlines(None, "outlines of nucleus and cell, and no rim of one width")


def settle_outlines(cells: CellTable, said: OutlineKind) -> tuple[Kind, Outlines]:
    """Return the kind that was said, or with "auto" the one that the table shows.

    Raises
    ------
    InputError
        If the table shows another kind, or with "auto" none.
    """
    found = recognise_outlines(cells)
    if said == "auto":
        if found.kind is None:
            raise InputError(
                "the table does not show what its outlines are",
                hint="pass --outline-kind: R for QuPath's cell detection (nucleus and rim), M for cells outlined by a "
                "model where their nucleus is seen, E for every cell with a nucleus or without",
            )
        return found.kind, found
    if found.kind == "N" and said != "N":
        raise InputError(
            f"the detections are nuclei, so their outlines are not of kind {said}",
            hint="pass --outline-kind N; if they are cells, make the table with `histomri cells --detections cells`",
        )
    if found.kind == "R" and said in ("M", "E"):
        raise InputError(
            f"the outlines are nuclei with a rim of fixed width, not cells (kind {said})",
            hint="pass --outline-kind R, or detect the cells with a model of their outlines",
        )
    same = found.kind == said
    return said, Outlines(said, f"said, and {found.source}" if same else "said")


def known_nuclei(cells: CellTable) -> BoolArray:
    """Return which cells have the area of their nucleus, (N,)."""
    return np.asarray(np.isfinite(cells.data["nucleus_area_um2"].to_numpy(dtype=float)))
