"""From QuPath exports to one cell table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from histomri.cells.checks import check_count, check_planes, check_table, repeated_ids
from histomri.cells.delimited import read_delimited
from histomri.cells.frame import make_frame
from histomri.cells.geojson import read_geojson
from histomri.cells.options import CellOptions
from histomri.cells.outlines import Geometries
from histomri.cells.raw import RawExport
from histomri.cells.regions import read_regions
from histomri.cells.sidecar import Calibration, combined, find_calibration
from histomri.cells.sieve import Limits, Sieve, categories, region_in_other_unit, sift
from histomri.cells.sniff import is_picture, read_head
from histomri.cells.table import COLUMNS, CellMetadata, CellTable
from histomri.cells.units import Measures, to_micrometres
from histomri.core.errors import InputError


@dataclass(frozen=True)
class _Part:
    """The cells of one file."""

    data: pd.DataFrame
    measures: Measures
    sieve: Sieve
    calibration: Calibration
    raw: RawExport
    warnings: tuple[str, ...]
    region: BaseGeometry | None
    outlines: Geometries | None


def read_cells(*paths: str | Path, **options: Any) -> CellTable:
    """Read QuPath exports of one slide into one table in µm.

    Tables of any QuPath version are read: delimiter, encoding, decimal sign and units are recognised from the content.
    So is GeoJSON, which is in pixels and needs `mpp`; masks of numbered cells (TIFF, PNG; StarDist, Cellpose); and,
    where QuPath and paquo are installed, a QuPath project itself. A file ``<image>.histomri.json`` beside an export
    gives pixel size and slide size.

    Parameters
    ----------
    *paths : path-like
        One or more exports (plain, .gz, .zip).
    **options
        The fields of `histomri.cells.CellOptions`, such as ``mpp=0.2268`` or ``roi="tissue.geojson"``.

    Returns
    -------
    CellTable
        At least one cell; ``metadata.dropped`` counts every row that was left out. Of rows with one object ID (but for
        plain numbers, which every table may count anew) the first is kept.

    Raises
    ------
    UnitError
        If a unit or the pixel size is not known.
    InputError
        If an option is wrong, a file cannot be used, is given twice, holds several slides, or no cell is left.
    """
    given = CellOptions.read(**{**options, "exports": paths})
    _require_distinct(paths)
    parts = [_read_part(Path(path), given) for path in paths]
    return _assemble(parts, given)


def _require_distinct(paths: Sequence[str | Path]) -> None:
    seen: set[Path] = set()
    for path in paths:
        if (real := Path(path).resolve()) in seen:
            raise InputError("is given twice, and its cells would count twice", path=path, hint="name it once")
        seen.add(real)


def read_export(
    path: Path,
    *,
    measurements: bool = True,
    geometries: bool = False,
    also: Sequence[str] = (),
    image: str | None = None,
) -> RawExport:
    """Read one export in whatever format it is; one module per format does the work."""
    if path.suffix.lower() == ".qpproj":
        from histomri.cells.java import read_project_cells

        return read_project_cells(path, image, measurements=measurements, geometries=geometries, also=also)
    if (path / "project.qpproj").exists():
        raise InputError("is the folder of a QuPath project", path=path, hint=f"name {path / 'project.qpproj'}")
    head = read_head(path)
    if is_picture(head):
        from histomri.cells.labels import read_labels

        return read_labels(path)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return read_geojson(path, measurements=measurements, geometries=geometries, also=also)
    return read_delimited(path, head, measurements=measurements, also=also)


def _read_part(path: Path, given: CellOptions) -> _Part:
    also = ("detection_probability",) if given.min_probability is not None else ()
    raw = read_export(path, measurements=given.measurements, geometries=given.geometries, also=also, image=given.image)
    if given.geometries and raw.outlines is None:
        raise InputError("holds no outlines of cells", path=path, hint="export the cells as GeoJSON")
    sieve = Sieve(np.ones(raw.n_rows, dtype=bool), {"last row cut short": raw.n_cut} if raw.n_cut else {})
    names = _one_image(raw, sieve, given.image)
    calibration = _calibration(path, raw, given, names)
    limits = Limits(given.classes, given.min_size_um, given.max_size_um, given.min_probability)
    limits = replace(limits, field_um=calibration.field_um)
    notes = calibration.notes
    if given.roi is not None:
        pixel_um, notes = _region_pixel(path, raw, given, calibration)
        limits = replace(limits, region=read_regions(given.roi, pixel_um))
    measures = to_micrometres(raw, calibration, given.area_unit, given.detections)
    raw.numbers.clear()  # converted by now, and with millions of cells what is held twice counts
    sift(raw, measures, sieve, limits)
    if not sieve.keep.any():
        raise InputError(f"no cell is left of {raw.n_rows:,} rows: {sieve.describe()}", path=path)
    if limits.region is not None:
        notes = (*notes, *region_in_other_unit(measures, sieve, limits.region, calibration.pixel_size_um))
    warnings = (
        *(f"{path.name}: {text}" for text in (*raw.warnings, *notes, *_pixel_size_in_vain(raw, measures, given))),
        *check_count(raw, calibration, measures.compartment),
        *check_planes(raw, sieve),
    )
    outlines = None if raw.outlines is None else _outlines(raw.outlines[sieve.keep], calibration)
    data = make_frame(raw, measures, sieve.keep, calibration.image)
    return _Part(data, measures, sieve, calibration, raw, warnings, limits.region, outlines)


def _pixel_size_in_vain(raw: RawExport, measures: Measures, given: CellOptions) -> tuple[str, ...]:
    """Tell a pixel size that nothing was converted with: the person may take the table to be in pixels."""
    in_pixels = "px" in raw.units.values() or "px2" in raw.units.values() or measures.area_unit_from.startswith("px2")
    if given.mpp is None or given.roi is not None or in_pixels:
        return ()
    return ("the pixel size (--mpp) was not used: positions and areas are in µm already",)


def _calibration(path: Path, raw: RawExport, given: CellOptions, names: Sequence[str]) -> Calibration:
    if raw.size_px is not None:
        # A mask has pixels of its own, often larger than the slide's, so what is known of those does not apply.
        own = Calibration(raw.pixel_size_um, raw.size_px, source="the picture itself")
        return combined(path, [Calibration(given.mpp, source="--mpp"), own])
    project = path if path.suffix.lower() == ".qpproj" else given.project
    if given.image is not None:
        names = [given.image]
    return find_calibration(path, given.mpp, project, names)


def _region_pixel(
    path: Path, raw: RawExport, given: CellOptions, calibration: Calibration
) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Return the size of the pixels that a region is in, those of the slide, and what the person should know."""
    if raw.size_px is None:
        return calibration.pixel_size_um, calibration.notes
    slide = find_calibration(path, None, given.project, [given.image] if given.image is not None else ())
    if slide.pixel_size_um is not None:
        return slide.pixel_size_um, slide.notes
    note = "the region was taken to be in pixels of the mask; if the mask is smaller than the slide, pass --project"
    return calibration.pixel_size_um, (note,)


def _outlines(outlines: Geometries, calibration: Calibration) -> Geometries:
    scale = np.asarray(calibration.pixel_size_um)  # known, or the positions would not have been converted
    return np.asarray(shapely.transform(outlines, lambda points: points * scale), dtype=object)


def _one_image(raw: RawExport, sieve: Sieve, image: str | None) -> list[str]:
    """Take the rows of one slide, as slides are never mixed in one map; return its name, if the export has it."""
    if "image" not in raw.text:
        if image is not None and raw.path.suffix.lower() != ".qpproj":
            raise InputError(f"has no column 'Image' to find {image!r} in", path=raw.path, hint="leave out --image")
        return []
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
            hint="choose one with --image, one table for each slide",
        )
    return names


def _assemble(parts: Sequence[_Part], given: CellOptions) -> CellTable:
    first = parts[0]
    for part in parts[1:]:
        if part.measures.compartment != first.measures.compartment:
            raise InputError(
                f"has {part.measures.compartment} outlines and {first.raw.path.name} has {first.measures.compartment} "
                "outlines",
                path=part.raw.path,
                hint="give files of the same detection",
            )
    images = sorted({str(name) for part in parts for name in part.data["image"].unique()})
    if len(images) > 1:
        raise InputError(
            f"the files are of {len(images)} images: {', '.join(map(repr, images))}",
            hint="make one table for each slide, or choose one with --image",
        )
    if given.roi is not None and len({part.calibration.pixel_size_um for part in parts}) > 1:
        raise InputError("the exports differ in pixel size, so one region cannot be laid on all of them")
    data = first.data if len(parts) == 1 else _stacked(parts)
    outlines = None
    if given.geometries:
        outlines = np.concatenate([part.outlines for part in parts if part.outlines is not None])
    dropped: dict[str, int] = {}
    for part in parts:
        for reason, count in part.sieve.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    notes: tuple[str, ...] = ()
    if (repeats := repeated_ids(data["object_id"])) is not None:
        data = data[~repeats].reset_index(drop=True)
        outlines = None if outlines is None else outlines[~repeats]
        dropped["repeated object id"] = count = int(np.count_nonzero(repeats))
        notes = (f"{count:,} cells have the object ID of another cell, of which they are a copy, and were dropped",)
    metadata = CellMetadata(
        image=images[0],
        pixel_size_um=first.calibration.pixel_size_um,
        field_um=first.calibration.field_um,
        compartment=first.measures.compartment,
        n_read=sum(part.raw.n_rows + part.raw.n_cut for part in parts),
        n_kept=len(data),
        dropped=dropped,
        sources=tuple(part.raw.path.name for part in parts) + ((given.roi.name,) if given.roi is not None else ()),
        area_unit_from=first.measures.area_unit_from,
        roi_wkt=first.region.wkt if first.region is not None else None,
        ignored_columns=first.raw.ignored,
        warnings=(*(text for part in parts for text in part.warnings), *notes),
    )
    table = CellTable(data, metadata)
    return CellTable(data, replace(metadata, warnings=(*metadata.warnings, *check_table(table))), outlines)


def _stacked(parts: Sequence[_Part]) -> pd.DataFrame:
    data = pd.concat([part.data for part in parts], ignore_index=True)
    for name in COLUMNS[:1] + COLUMNS[2:4]:
        data[name] = data[name].astype("category")
    return data
