"""Outlines in GeoParquet, such as the shapes of spatialdata: polygons, or circles with a radius."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shapely

from histomri.cells.parsed_export import ParsedExport, Wanted
from histomri.core.array_files import parquet_schema, read_parquet
from histomri.core.door import parse_json, reading
from histomri.core.errors import InputError

_CLASSES = ("classification", "class", "cell_type", "celltype", "type")
_IDS = ("object_id", "cell_id", "id", "instance_id", "CellID", "label", "__index_level_0__")
_WHAT = "GeoParquet file"
_HINT = "give the file of cell shapes, such as SDATA.zarr/shapes/NAME/shapes.parquet"


def is_geoparquet(path: Path) -> bool:
    """Whether a file is Parquet with geometries; damaged files are left to others."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        if stream.read(4) != b"PAR1":
            return False
    try:
        return b"geo" in (parquet_schema(path, "Parquet file").metadata or {})
    except InputError:
        return False


def read_geoparquet(path: Path, wanted: Wanted) -> ParsedExport:
    """Read the objects of a GeoParquet file; positions and areas are those of the outlines, in the unit of the file.

    The file states no unit that histomri could trust: coordinates are taken as pixels, so that ``--mpp`` is needed;
    ``--mpp 1`` says that they are µm.
    """
    with reading(path, _WHAT, _HINT):
        schema = parquet_schema(path, _WHAT)
        about = parse_json(schema.metadata[b"geo"].decode(), path)
        name = about.get("primary_column") if isinstance(about, dict) else None
        if name not in schema.names:
            raise InputError("is GeoParquet, and names no column of outlines that it has", path=path, hint=_HINT)
        columns = [one for one in schema.names if one in (name, "radius", *_CLASSES, *_IDS)]
        table = read_parquet(path, _WHAT, columns)
        shapes = shapely.from_wkb(table.column(name).to_numpy(zero_copy_only=False))
    kinds = set(np.unique(shapely.get_type_id(shapes)).tolist()) - {-1}
    area = shapely.area(shapes)
    if kinds == {0} and "radius" in table.column_names:
        area = np.pi * np.square(table.column("radius").to_numpy(zero_copy_only=False).astype(float))
        shapes = shapely.buffer(shapes, np.sqrt(area / np.pi)) if wanted.geometries else shapes
    elif not kinds & {3, 6}:
        raise InputError("is GeoParquet without polygons, and without circles", path=path, hint=_HINT)
    centres = shapely.centroid(shapes)
    numbers = {"x": shapely.get_x(centres), "y": shapely.get_y(centres), "area": np.where(area > 0, area, np.nan)}
    units: dict[str, str | None] = {"x": "px", "y": "px", "area": "px2"}
    n = len(shapes)
    text = {"object_type": pa.chunked_array([pa.array(["detection"] * n, pa.string()).dictionary_encode()])}
    text |= _texts(table)
    return ParsedExport(
        path, n, text, numbers, units, dict.fromkeys(numbers, "geometry"),
        tuple(one for one in schema.names if one not in columns),
        outlines=shapes if wanted.geometries else None, by_type=True,
    )  # fmt: skip


def _texts(table: pa.Table) -> dict[str, Any]:
    """Return class and identifier of each object, where the file has them."""
    found: dict[str, Any] = {}
    for name, spellings in (("classification", _CLASSES), ("object_id", _IDS)):
        column = next((one for one in spellings if one in table.column_names), None)
        if column is not None:
            texts = ["" if value is None else str(value) for value in table.column(column).to_pylist()]
            values = pa.array(texts, pa.string())
            found[name] = pa.chunked_array([values.dictionary_encode() if name == "classification" else values])
    return found
