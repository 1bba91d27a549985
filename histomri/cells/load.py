"""Cells from any file: a table that `histomri cells` wrote, or an export; and an export of several images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from histomri.cells import filters
from histomri.cells.options import CellOptions
from histomri.cells.parsed_export import ParsedExport
from histomri.cells.reader import from_exports, read_cells, read_export
from histomri.cells.region_cells import CellEvidence, regions_of_cells
from histomri.cells.region_choice import ChosenRegions, RegionChoice
from histomri.cells.regions import Region, read_region_objects
from histomri.cells.table import CellTable, is_cell_table
from histomri.core.arrays import BoolArray
from histomri.core.calibration import PixelSize, check_pixel_size, settle_pixel_size
from histomri.core.errors import InputError
from histomri.core.files import require_file


def load_cells(
    path: str | Path, *, roi: str | Path | None = None, mpp: float | PixelSize | None = None,
    classes: Sequence[str] | None = None, image: str | None = None, geometries: bool = False,
    roi_classes: Sequence[str] | None = None, exclude_classes: Sequence[str] | None = None, core: str | None = None,
) -> tuple[CellTable, tuple[str, ...]]:  # fmt: skip
    """Load a table that `histomri cells` wrote, or read a QuPath export; both limited to regions and to classes.

    Returns the table and the warnings of reading it; those of a table on disk were shown when it was made.
    """
    path = require_file(path, "cell table")
    choice = RegionChoice.of(roi_classes, exclude_classes, core)
    if not is_cell_table(path):
        options = {"roi": roi, "mpp": mpp, "classes": classes, "image": image, "geometries": geometries}
        options |= {"roi_classes": roi_classes, "exclude_classes": exclude_classes, "core": core}
        table = read_cells(path, measurements=False, **options)
        return table, table.metadata.warnings
    if image is not None:
        raise InputError("is a cell table, which holds one image", path=path, hint="leave out --image")
    table = CellTable.load(path, geometries=geometries)
    chosen, warnings = _regions_of_table(table, path, roi, mpp, choice)
    try:
        if chosen is None:
            return table.select(classes=classes), ()
        table = table.select(region=chosen.union, classes=classes)
    except InputError as error:
        raise InputError(error.problem, path=path, hint="check --roi and --classes") from error
    metadata = replace(table.metadata, regions=tuple(region.record() for region in chosen.used))
    return CellTable(table.data, metadata, table.outlines), warnings


def _regions_of_table(
    table: CellTable, path: Path, roi: str | Path | None, mpp: float | PixelSize | None, choice: RegionChoice
) -> tuple[ChosenRegions | None, tuple[str, ...]]:
    """Return the regions that a table on disk is to be limited to: of a file, or those that it holds; and warnings."""
    x, y = table.data["x_um"].to_numpy(), table.data["y_um"].to_numpy()
    if roi is not None:
        # A region is in pixels of the slide, and those of a mask may be others.
        stated = table.metadata.pixel_size_um if table.metadata.grid == "slide" else None
        sources = [("--mpp", check_pixel_size(mpp)), (path.name, stated)]
        regions = read_region_objects(roi, settle_pixel_size(sources, path)[0])
        parents = None
        if "parent_id" in table.data:
            codes, texts = pd.factorize(table.data["parent_id"].fillna("").astype("str"))
            parents = [str(text) for text in texts], np.asarray(codes, dtype=np.intp)
        return regions_of_cells(regions, choice, CellEvidence.of([(x, y, parents)]), Path(roi))
    if not choice:
        return None, ()
    if not table.metadata.regions:
        hint = "give the file with --roi, or run `histomri cells` again with --roi"
        raise InputError("holds no regions to choose from", path=path, hint=hint)
    kept = [Region.from_record(record) for record in table.metadata.regions]
    return regions_of_cells(kept, choice, CellEvidence(x, y), path)


def read_images(path: str | Path, **options: Any) -> dict[str, CellTable]:
    """Read an export that holds several images into one table for each, by the name of the image.

    The file is read once. The options are those of `read_cells`; `image` and regions are of one image, and no such.

    Raises
    ------
    InputError
        If the file has no column of images, or `read_cells` would raise it for one of them.
    """
    path = Path(path)
    given = CellOptions.read(**{**options, "exports": (path,), "per_image": True})
    export = read_export(path, given)
    if "image" not in export.text:
        raise InputError("has no column 'Image' to tell images apart", path=path, hint="leave out --per-image")
    names, codes = filters.categories(export.text["image"])
    if nameless := int(np.count_nonzero(np.isin(codes, [k for k, name in enumerate(names) if not name.strip()]))):
        raise InputError(f"{nameless:,} of its {export.n_rows:,} rows name no image", path=path)
    tables = {}
    for code, name in enumerate(names):
        try:
            tables[name] = from_exports([(path, _rows_of(export, codes == code))], given)
        except InputError as error:
            raise type(error)(f"image {name!r}: {error.problem}", path=error.path or path, hint=error.hint) from error
    return tables


def _rows_of(export: ParsedExport, rows: BoolArray) -> ParsedExport:
    """Return some rows of an export as an export of their own."""
    return replace(
        export, n_rows=int(np.count_nonzero(rows)), n_cut=0,
        text={name: _texts_of(column, rows) for name, column in export.text.items()},
        numbers={name: values[rows] for name, values in export.numbers.items()},
        outlines=None if export.outlines is None else export.outlines[rows],
    )  # fmt: skip


def _texts_of(column: pa.ChunkedArray, rows: BoolArray) -> pa.ChunkedArray:
    """Return some rows of a column of texts; its distinct texts are then those of the rows only."""
    kept = column.filter(pa.array(rows))
    if not pa.types.is_dictionary(kept.type):
        return kept
    return kept.cast(kept.type.value_type).dictionary_encode()
