"""From QuPath exports to one cell table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from histomri.arrays import BoolArray
from histomri.cells.checks import check_count, check_planes, check_table
from histomri.cells.delimited import read_delimited
from histomri.cells.geojson import read_geojson
from histomri.cells.raw import RawExport
from histomri.cells.regions import read_regions
from histomri.cells.sidecar import Calibration, find_calibration
from histomri.cells.sieve import Limits, Sieve, categories, object_types, sift
from histomri.cells.sniff import read_head
from histomri.cells.table import COLUMNS, CellMetadata, CellTable
from histomri.cells.units import AreaUnit, Measures, to_micrometres
from histomri.errors import InputError


@dataclass(frozen=True)
class _Part:
    """The cells of one file."""

    data: pd.DataFrame
    measures: Measures
    sieve: Sieve
    calibration: Calibration
    raw: RawExport
    warnings: tuple[str, ...]


def read_cells(
    *paths: str | Path,
    mpp: float | tuple[float, float] | None = None,
    area_unit: AreaUnit | None = None,
    roi: str | Path | None = None,
    classes: Sequence[str] | None = None,
    max_size_um: float | None = None,
    image: str | None = None,
    measurements: bool = True,
) -> CellTable:
    """Read QuPath exports of one slide into one table in µm.

    Tables of any QuPath version are read: delimiter, encoding, decimal sign and units are told from the content. So
    is GeoJSON, which is in pixels and needs `mpp`; a table is smaller and faster. A file ``<image>.histomri.json``
    beside an export gives pixel size and slide size.

    Parameters
    ----------
    *paths : path-like
        One or more exports (plain, .gz, .zip).
    mpp : float or (x, y), optional
        Pixel size in µm, needed if the export is in pixels or a region is given.
    area_unit : {"um2", "px2"}, optional
        Unit of area columns whose name states none.
    roi : path-like, optional
        GeoJSON polygons in pixels; cells with their centroid outside are dropped.
    classes : sequence of str, optional
        Classifications to keep; ``Tumor`` keeps `Tumor` and `Tumor: Positive`, ``None`` the unclassified.
    max_size_um : float, optional
        Largest diameter to keep.
    image : str, optional
        Which slide to take from a file that holds several.
    measurements : bool
        Whether to keep recognised measurements beyond identity, position and areas; without them reading is faster.

    Returns
    -------
    CellTable
        At least one cell; ``metadata.dropped`` counts every row that was left out.

    Raises
    ------
    UnitError
        If a unit or the pixel size is not known.
    InputError
        If a file cannot be used, holds several slides, or no cell is left.
    """
    if not paths:
        raise InputError("no QuPath export was given")
    files = [Path(path) for path in paths]
    if max_size_um is not None and not max_size_um > 0:
        raise InputError(f"a largest size of {max_size_um} µm keeps nothing", way_out="pass a positive --max-size-um")
    calibrations = [find_calibration(path, mpp) for path in files]
    limits = Limits(tuple(classes) if classes is not None else None, max_size_um, _region(roi, calibrations))
    parts = [
        _read_part(path, calibration, area_unit, limits, image, measurements)
        for path, calibration in zip(files, calibrations)
    ]
    return _assemble(parts, limits, roi)


def read_export(path: Path, *, measurements: bool = True) -> RawExport:
    """Read one export in whatever format it is; one module per format does the work."""
    head = read_head(path)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start in (b"{", b"["):
        return read_geojson(path, measurements=measurements)
    return read_delimited(path, head, measurements=measurements)


def _region(roi: str | Path | None, calibrations: Sequence[Calibration]) -> Any:
    if roi is None:
        return None
    sizes = {calibration.pixel_size_um for calibration in calibrations}
    if len(sizes) > 1:
        raise InputError("the exports differ in pixel size, so one region cannot be laid on all of them")
    return read_regions(roi, sizes.pop())


def _read_part(
    path: Path,
    calibration: Calibration,
    area_unit: AreaUnit | None,
    limits: Limits,
    image: str | None,
    measurements: bool,
) -> _Part:
    raw = read_export(path, measurements=measurements)
    measures = to_micrometres(raw, calibration, area_unit)
    sieve = Sieve(np.ones(raw.n_rows, dtype=bool))
    _one_image(raw, sieve, image)
    sift(raw, measures, sieve, replace(limits, field_um=calibration.field_um))
    if not sieve.keep.any():
        raise InputError(f"no cell is left of {raw.n_rows:,} rows: {sieve.describe()}", path=path)
    warnings = (
        *(f"{path.name}: {text}" for text in raw.warnings),
        *check_count(raw.n_rows, calibration.n_cells, path.name),
        *check_planes(raw, sieve),
    )
    return _Part(_frame(raw, measures, sieve.keep, calibration), measures, sieve, calibration, raw, warnings)


def _one_image(raw: RawExport, sieve: Sieve, image: str | None) -> None:
    """Take the rows of one slide; slides are never mixed in one map."""
    if "image" not in raw.text:
        if image is not None:
            raise InputError(f"has no column 'Image' to find {image!r} in", path=raw.path, way_out="leave out --image")
        return
    names, codes = categories(raw.text["image"])
    listing = ", ".join(repr(name) for name in names[:20]) + (", ..." if len(names) > 20 else "")
    if image is not None:
        if image not in names:
            raise InputError(f"holds no image {image!r}; it holds {listing}", path=raw.path)
        sieve.drop("of another image", codes != names.index(image))
    elif len(names) > 1:
        raise InputError(
            f"holds cells of {len(names)} images: {listing}",
            path=raw.path,
            way_out="choose one with --image, one table for each slide",
        )


def _frame(raw: RawExport, measures: Measures, keep: BoolArray, calibration: Calibration) -> pd.DataFrame:
    everything = bool(keep.all())
    mask = pa.array(keep) if not everything else None

    def rows(values: Any) -> Any:
        return values if everything else values[keep]

    def text(name: str) -> Any:
        column = raw.text[name]
        if mask is not None:
            column = column.filter(mask)
        if pa.types.is_dictionary(column.type):
            column = column.unify_dictionaries()
        return column.to_pandas()

    n = int(np.count_nonzero(keep))
    area = rows(measures.area_um2)
    types = object_types(raw)
    columns: dict[str, Any] = {
        "image": text("image") if "image" in raw.text else _constant(calibration.image or _stem(raw.path), n),
        "object_id": text("object_id") if "object_id" in raw.text else pd.array([""] * n, dtype="str"),
        "object_type": _constant("cell" if measures.compartment == "cell" else "detection", n)
        if types is None
        else pd.Categorical(_lookup(types[0], rows(types[1]), measures)),
        "classification": text("classification") if "classification" in raw.text else _constant("", n),
        "x_um": rows(measures.x_um),
        "y_um": rows(measures.y_um),
        "area_um2": area,
        "nucleus_area_um2": rows(measures.nucleus_area_um2),
        "diameter_um": np.sqrt(area * (4 / np.pi)),
    }
    if "parent" in raw.text:
        columns["parent"] = text("parent")
    columns.update({name: rows(values) for name, values in measures.others.items()})
    return pd.DataFrame(columns, copy=False)


def _lookup(names: list[str], codes: Any, measures: Measures) -> pd.Categorical:
    """Return one category per row; a legacy row without a type is what the columns say it is."""
    default = "cell" if measures.compartment == "cell" else "detection"
    kinds = [name or default for name in names]
    distinct = sorted(set(kinds))
    recode = np.array([distinct.index(kind) for kind in kinds], dtype=np.int32)
    return pd.Categorical.from_codes(recode[codes], categories=distinct)


def _constant(value: str, n: int) -> pd.Categorical:
    return pd.Categorical.from_codes(np.zeros(n, dtype=np.int8), categories=[value])


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def _assemble(parts: Sequence[_Part], limits: Limits, roi: str | Path | None) -> CellTable:
    first = parts[0]
    for part in parts[1:]:
        if part.measures.compartment != first.measures.compartment:
            raise InputError(
                f"has {part.measures.compartment} outlines and {first.raw.path.name} has {first.measures.compartment} "
                "outlines",
                path=part.raw.path,
                way_out="give files of the same detection",
            )
    images = sorted({str(name) for part in parts for name in part.data["image"].unique()})
    if len(images) > 1:
        raise InputError(
            f"the files are of {len(images)} images: {', '.join(map(repr, images))}",
            way_out="make one table for each slide, or choose one with --image",
        )
    data = first.data if len(parts) == 1 else _stacked(parts)
    dropped: dict[str, int] = {}
    for part in parts:
        for reason, count in part.sieve.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    metadata = CellMetadata(
        image=images[0],
        pixel_size_um=first.calibration.pixel_size_um,
        field_um=first.calibration.field_um,
        compartment=first.measures.compartment,
        n_read=sum(part.raw.n_rows for part in parts),
        n_kept=len(data),
        dropped=dropped,
        sources=tuple(part.raw.path.name for part in parts) + ((Path(roi).name,) if roi else ()),
        area_unit_from=first.measures.area_unit_from,
        roi_wkt=limits.region.wkt if limits.region is not None else None,
        ignored_columns=first.raw.ignored,
        warnings=tuple(text for part in parts for text in part.warnings),
    )
    table = CellTable(data, metadata)
    return CellTable(data, replace(metadata, warnings=(*metadata.warnings, *check_table(table))))


def _stacked(parts: Sequence[_Part]) -> pd.DataFrame:
    data = pd.concat([part.data for part in parts], ignore_index=True)
    for name in COLUMNS[:1] + COLUMNS[2:4]:
        data[name] = data[name].astype("category")
    return data
