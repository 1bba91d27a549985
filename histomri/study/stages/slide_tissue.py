"""The tissue of the slide that cells were found on, as what their maps are relative to."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from histomri.cells import CellTable
from histomri.core.errors import GeometryError, InputError, UnitError
from histomri.slides import find_tissue, open_slide

# Below the first share it is another slide, or another image of it; below the second, much of the tissue was missed.
_LEAST_INSIDE, _USUALLY_INSIDE = 0.5, 0.9
_SAME_SIZE = 0.01


def tissue_of_slide(table: CellTable, cells: Path, slide: Path) -> tuple[CellTable, BaseGeometry, tuple[str, ...]]:
    """Find the tissue on the slide of a cell table.

    Parameters
    ----------
    table : CellTable
        Cells of this slide.
    cells : Path
        Where the table is from, for messages.
    slide : Path
        The slide; if it states no pixel size, that of the table counts.

    Returns
    -------
    table : CellTable
        The same cells; the field is that of the slide.
    tissue : shapely geometry
        Outline in µm.
    warnings : tuple of str

    Raises
    ------
    InputError
        If no tissue is found, the pixel sizes differ, or the cells do not lie on the tissue.
    """
    known = {} if table.metadata.pixel_size_um is None else {cells.name: table.metadata.pixel_size_um}
    try:
        with open_slide(slide, known_um=known) as opened:
            field = opened.field_um
            tissue = find_tissue(opened).region
    except UnitError as error:
        raise UnitError(
            error.problem,
            path=slide,
            hint="give the slide that the cells were found on, and its pixel size to `histomri cells`, --mpp",
        ) from error
    if tissue.is_empty:
        raise InputError("shows no tissue", path=slide, hint="give its outline to `histomri cells`, --roi")
    of_cells = table.metadata.field_um
    if of_cells is not None and not np.allclose(field, of_cells, rtol=_SAME_SIZE):
        raise GeometryError(
            f"is of {field[0]:.0f} x {field[1]:.0f} µm, and the slide of the cells of {of_cells[0]:.0f} x "
            f"{of_cells[1]:.0f} µm",
            path=slide,
            hint="give the slide that the cells were found on",
        )
    shapely.prepare(tissue)
    inside = shapely.contains_xy(tissue, table.data["x_um"].to_numpy(), table.data["y_um"].to_numpy())
    share = float(inside.mean())
    if share < _LEAST_INSIDE:
        raise GeometryError(
            f"only {share:.0%} of the cells of {cells.name} lie on its tissue",
            path=slide,
            hint="give the slide that the cells were found on; if it is, outline the tissue in QuPath (--roi)",
        )
    doubts: tuple[str, ...] = ()
    if share < _USUALLY_INSIDE:
        doubts = (
            f"{1 - share:.0%} of the cells lie off the tissue that was found on {slide.name}, so F and CD are too high "
            "at its rim; look at the tissue mask",
        )
    return CellTable(table.data, replace(table.metadata, field_um=field), table.outlines), tissue, doubts
