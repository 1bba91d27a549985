"""From QuPath exports to one cell table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import shapely

from histomri.cells import filters
from histomri.cells.checks import check_count, check_planes, check_table, repeated_ids
from histomri.cells.contradictions import check_scales
from histomri.cells.delimited import read_delimited
from histomri.cells.filters import Measures, RowFilter
from histomri.cells.geojson import read_geojson
from histomri.cells.geoparquet import is_geoparquet, read_geoparquet
from histomri.cells.java import read_project_cells, read_project_regions
from histomri.cells.kinds import drop_ignored, drop_other_kinds, find_kinds
from histomri.cells.labels import check_mask, classify_labels, read_labels
from histomri.cells.options import CellOptions
from histomri.cells.outlines import Geometries
from histomri.cells.overlaps import settle_doubles
from histomri.cells.parsed_export import ParsedExport, Wanted
from histomri.cells.region_cells import CellEvidence, regions_of_cells
from histomri.cells.region_choice import ChosenRegions, RegionChoice
from histomri.cells.regions import Region, read_region_objects
from histomri.cells.sidecar import Calibration, annotations_of, combined, find_calibration
from histomri.cells.sniff import is_picture, read_head
from histomri.cells.spacing import find_lumps, lumps_text
from histomri.cells.table import CellMetadata, CellTable
from histomri.core.arrays import BoolArray
from histomri.core.calibration import PixelSize
from histomri.core.door import reading
from histomri.core.errors import InputError


def make_frame(export: ParsedExport, measures: Measures, keep: BoolArray, image: str | None) -> pd.DataFrame:
    """Return the rows to keep as the table of cells; `image` is the slide's name where the export has none."""
    everything, n = bool(keep.all()), int(np.count_nonzero(keep))

    def rows(values: Any) -> Any:
        return values if everything else values[keep]

    def text(name: str, default: str = "") -> Any:
        if name not in export.text:
            return pd.Categorical.from_codes(np.zeros(n, dtype=np.int8), categories=[default])
        column = export.text[name] if everything else export.text[name].filter(pa.array(keep))
        return (column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column).to_pandas()

    area, kind = rows(measures.area_um2), "cell" if measures.compartment == "cell" else "detection"
    names, codes = filters.object_types(export) or ([""], np.zeros(export.n_rows, dtype=np.int8))
    columns: dict[str, Any] = {
        "image": text("image", image or export.path.name.split(".")[0]),
        "object_id": text("object_id") if "object_id" in export.text else pd.array([""] * n, dtype="str"),
        "object_type": _types(names, rows(codes), kind), "classification": text("classification"),
        "x_um": rows(measures.x_um), "y_um": rows(measures.y_um), "area_um2": area,
        "nucleus_area_um2": rows(measures.nucleus_area_um2), "diameter_um": np.sqrt(area * (4 / np.pi)),
    }  # fmt: skip
    if "parent" in export.text:
        columns["parent"] = text("parent")
    columns.update({name: rows(values) for name, values in measures.others.items()})
    if "parent_id" in export.text:
        columns["parent_id"] = text("parent_id")
    return pd.DataFrame(columns, copy=False)


def _types(names: list[str], codes: Any, default: str) -> pd.Categorical:
    """Return one category per row; a legacy row without a type has the one that the columns imply."""
    kinds = [name or default for name in names]
    distinct = sorted(set(kinds))
    recode = np.array([distinct.index(kind) for kind in kinds], dtype=np.int32)
    return pd.Categorical.from_codes(recode[codes], categories=distinct)


@dataclass(frozen=True)
class _Part:
    """The cells of one file."""

    data: pd.DataFrame
    measures: Measures
    rows: RowFilter
    calibration: Calibration
    export: ParsedExport
    warnings: tuple[str, ...]
    regions: ChosenRegions | None
    outlines: Geometries | None
    kinds: dict[str, int]  # number of objects of each kind in the file


@dataclass(frozen=True)
class _Opened:
    """One file as it was read, before rows are dropped; its numbers are in µm."""

    path: Path
    export: ParsedExport
    measures: Measures
    rows: RowFilter
    calibration: Calibration
    notes: tuple[str, ...]
    region_pixel_um: PixelSize | None
    kinds: dict[str, int]  # number of objects of each kind in the file


def read_cells(*paths: str | Path, **options: Any) -> CellTable:
    """Read QuPath exports (plain, .gz, .zip) of one slide into one table in µm.

    Tables of any QuPath version are read: delimiter, encoding, decimal sign and units are recognised from the content.
    So is GeoJSON, which is in pixels and needs `mpp`; masks of numbered cells (TIFF, PNG; StarDist, Cellpose); and,
    where QuPath and paquo are installed, a QuPath project itself. A file ``<image>.histomri.json`` beside an export
    gives pixel size and slide size. The table has at least one cell; ``metadata.dropped`` counts every row left out. Of
    rows with one object ID (but for plain numbers, which every table may count anew) the first is kept. The options are
    the fields of `histomri.cells.CellOptions`, such as ``mpp=0.2268`` or ``roi="tissue.geojson"``.

    Raises
    ------
    UnitError
        If a unit or the pixel size is not known.
    InputError
        If an option is wrong, a file cannot be used, is given twice, holds several slides, or no cell is left.
    """
    if not paths:
        raise InputError("no QuPath export was given")
    given = CellOptions.read(**{**options, "exports": paths})
    for path, count in Counter(Path(path).resolve() for path in paths).items():
        if count > 1:
            raise InputError("is given twice, and its cells would count twice", path=path, hint="name it once")
    return from_exports([(Path(path), read_export(Path(path), given)) for path in paths], given)


def from_exports(exports: Sequence[tuple[Path, ParsedExport]], given: CellOptions) -> CellTable:
    """Return the table of the cells of files of one slide that were read."""
    opened = [_open(path, export, given) for path, export in exports]
    regions, notes = _regions(opened, given)
    parts = [_part(one, given, regions) for one in opened]
    return _assemble([replace(parts[0], warnings=(*notes, *parts[0].warnings)), *parts[1:]], given)


def read_export(path: Path, given: CellOptions) -> ParsedExport:
    """Read one export in whatever format it is; one module per format does the work."""
    image = given.image
    wanted = Wanted(
        given.measurements, given.geometries, filters.measurements_read(dict(given)), given.areas == "outlines",
        given.layout, given.columns, given.split_labels, given.nuclei_mask,
    )  # fmt: skip
    if path.suffix.lower() == ".qpproj":
        return read_project_cells(path, image, wanted)
    if (path / "project.qpproj").exists():
        raise InputError("is the folder of a QuPath project", path=path, hint=f"name {path / 'project.qpproj'}")
    with reading(path, "export of cells"):
        return _read_export(path, wanted)


def _read_export(path: Path, wanted: Wanted) -> ParsedExport:
    if is_geoparquet(path):
        return read_geoparquet(path, wanted)
    head = read_head(path)
    if is_picture(head):
        return read_labels(path, wanted)
    if wanted.nuclei_mask is not None or wanted.split_labels:
        option = "--split-labels" if wanted.split_labels else "--nuclei-mask"
        raise InputError(f"is no mask, so {option} does not apply", path=path, hint=f"leave out {option}")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return read_geojson(path, wanted)
    return read_delimited(path, head, wanted)


def _open(path: Path, export: ParsedExport, given: CellOptions) -> _Opened:
    filters.state_position_unit(export, given.position_unit)
    if given.geometries and export.outlines is None:
        raise InputError("holds no outlines of cells", path=path, hint="export the cells as GeoJSON")
    rows = RowFilter(np.ones(export.n_rows, dtype=bool), _lines_left_out(export))
    names = _one_image(export, rows, given.image)
    calibration = _calibration(path, export, given, names)
    notes, pixel_um = calibration.notes, None
    if given.regions_file is not None:
        pixel_um, notes = _region_pixel(path, export, given, calibration)
    said = given.detections or export.cells_are
    kinds = find_kinds(export, rows.keep, said)
    counts = kinds.counts(rows.keep)
    notes = (*notes, *kinds.notes, *check_scales(export, calibration, given.areas))
    measures = filters.to_micrometres(export, calibration, given.area_unit, kinds.compartment)
    export.numbers.clear()  # converted by now, and millions of cells are not held twice
    notes = (*notes, *_mask_facts(path, export, measures, calibration, given))
    drop_other_kinds(export, kinds, rows, said)
    drop_ignored(export, rows, given.classes)
    return _Opened(path, export, measures, rows, calibration, notes, pixel_um, counts)


def _regions(opened: Sequence[_Opened], given: CellOptions) -> tuple[ChosenRegions | None, tuple[str, ...]]:
    """Return the regions in which the cells of all files were looked for, None if no file names any; and warnings."""
    if (path := given.regions_file) is None:
        return None, ()
    if len({one.calibration.pixel_size_um for one in opened}) > 1:
        raise InputError("the exports differ in pixel size, so one region cannot be laid on all of them")
    if given.roi is None and not path.exists():
        problem = "has no file of annotations beside it, in which classes and cores could be found"
        raise InputError(problem, path=opened[0].path, hint=f"pass --roi, or put {path.name} beside it")
    own = path.name in {annotations_of(one.path).name for one in opened}
    regions = _read_region_file(path, given.image, opened[0].region_pixel_um)
    evidence = CellEvidence.of([_evidence(one) for one in opened], own=own)
    choice = RegionChoice.of(given.roi_classes, given.exclude_classes, given.core)
    return regions_of_cells(regions, choice, evidence, path)


def _read_region_file(path: Path, image: str | None, pixel_size_um: PixelSize | None) -> tuple[Region, ...]:
    is_project = path.suffix.lower() == ".qpproj"
    return read_project_regions(path, image, pixel_size_um) if is_project else read_region_objects(path, pixel_size_um)


def _evidence(one: _Opened) -> Any:
    """Return x and y (µm) of the cells of a file, and the annotations that they name as parents, if they do."""
    x, y, parents = one.measures.x_um, one.measures.y_um, None
    keep = one.rows.keep & np.isfinite(x) & np.isfinite(y)
    if "parent_id" in one.export.text:
        names, codes = filters.categories(one.export.text["parent_id"])
        parents = names, codes[keep]
    return x[keep], y[keep], parents


def _part(one: _Opened, given: CellOptions, regions: ChosenRegions | None) -> _Part:
    path, export, measures, rows, calibration = one.path, one.export, one.measures, one.rows, one.calibration
    region = None if regions is None else regions.union
    filters.apply_filters(export, measures, rows, {**dict(given), "roi": region}, calibration.field_um)
    if not rows.keep.any():
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rows.dropped.items())
        raise InputError(f"no cell is left of {export.n_rows:,} rows: {reasons}", path=path)
    notes = one.notes
    if regions is not None:
        every = shapely.union_all([each.geometry for each in regions.every])
        notes = (*notes, *filters.region_in_other_unit(measures, rows, every, calibration.pixel_size_um))
    warnings = (
        *(f"{path.name}: {text}" for text in (*export.warnings, *notes, *_unused_pixel_size(export, measures, given))),
        *check_count(export, calibration, measures.compartment),
        *check_planes(export, rows),
    )
    outlines = None
    if export.outlines is not None:
        scale = np.asarray(calibration.pixel_size_um)  # known, or the positions would not have been converted
        outlines = shapely.transform(export.outlines[rows.keep], lambda points: points * scale)
    data = make_frame(export, measures, rows.keep, calibration.image)
    return _Part(data, measures, rows, calibration, export, warnings, regions, outlines, one.kinds)


def _lines_left_out(export: ParsedExport) -> dict[str, int]:
    """Return the lines of a table that are no rows, by reason."""
    reasons = {"last row cut short": export.n_cut, "line that repeats the header": export.n_headers}
    return {reason: count for reason, count in reasons.items() if count}


def _mask_facts(
    path: Path, export: ParsedExport, measures: Measures, calibration: Calibration, given: CellOptions
) -> tuple[str, ...]:
    """Check what only a mask has: its field, its classes, and sizes that no cell has; return warnings."""
    if export.size_px is None:
        if given.label_classes is not None:
            problem = "is no mask, so --label-classes does not apply"
            raise InputError(problem, path=path, hint="leave out --label-classes")
        return ()
    slide = find_calibration(path, None, given.project, () if given.image is None else [given.image])
    notes = check_mask(export, measures.area_um2, calibration.field_um, slide.field_um)
    return (*notes, *(() if given.label_classes is None else classify_labels(export, given.label_classes)))


def _unused_pixel_size(export: ParsedExport, measures: Measures, given: CellOptions) -> tuple[str, ...]:
    """Warn of a pixel size that converted nothing: the user may take the table to be in pixels."""
    in_pixels = {"px", "px2"} & set(export.units.values()) or measures.area_unit_from.startswith("px2")
    unused = given.mpp is not None and given.regions_file is None and not in_pixels
    return ("the pixel size (--mpp) was not used: positions and areas are in µm already",) if unused else ()


def _calibration(path: Path, export: ParsedExport, given: CellOptions, names: Sequence[str]) -> Calibration:
    if export.size_px is not None:
        # A mask has pixels of its own, often larger than the slide's, so facts about those do not apply.
        own = Calibration(export.pixel_size_um, export.size_px, source="the picture itself")
        return combined(path, [Calibration(given.mpp, source="--mpp"), own])
    project = path if path.suffix.lower() == ".qpproj" else given.project
    return find_calibration(path, given.mpp, project, names if given.image is None else [given.image])


def _region_pixel(
    path: Path, export: ParsedExport, given: CellOptions, calibration: Calibration
) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Return the size of the pixels that a region is in, those of the slide, and warnings."""
    if export.size_px is None:
        return calibration.pixel_size_um, calibration.notes
    slide = find_calibration(path, None, given.project, () if given.image is None else [given.image])
    if slide.pixel_size_um is not None:
        return slide.pixel_size_um, slide.notes
    note = "the region was taken to be in pixels of the mask; if the mask is smaller than the slide, pass --project"
    return calibration.pixel_size_um, (note,)


def _one_image(export: ParsedExport, rows: RowFilter, image: str | None) -> list[str]:
    """Take the rows of one slide, as slides are never mixed in one map; return its name, if the export has it."""
    if "image" not in export.text:
        if image is not None and export.path.suffix.lower() != ".qpproj":
            raise InputError(f"has no column 'Image' to find {image!r} in", path=export.path, hint="leave out --image")
        return []
    names, codes = filters.categories(export.text["image"])
    listing = ", ".join(repr(name) for name in names[:20]) + (", ..." if len(names) > 20 else "")
    if image is not None:
        if image not in names:
            raise InputError(f"holds no image {image!r}; it holds {listing}", path=export.path)
        rows.drop("of another image", codes != names.index(image))
    elif len(names) > 1:
        problem = f"holds cells of {len(names)} images: {listing}"
        raise InputError(problem, path=export.path, hint="choose one with --image, one table for each slide")
    return names


def _assemble(parts: Sequence[_Part], given: CellOptions) -> CellTable:
    first = parts[0]
    compartment = first.measures.compartment
    for part in parts:
        if (other := part.measures.compartment) != compartment:
            problem = f"has {other} outlines and {first.export.path.name} has {compartment} outlines"
            raise InputError(problem, path=part.export.path, hint="give files of the same detection")
    images = sorted({str(name) for part in parts for name in part.data["image"].unique()})
    if len(images) > 1:
        problem = f"the files are of {len(images)} images: {', '.join(map(repr, images))}"
        raise InputError(problem, hint="make one table for each slide, or choose one with --image")
    data = first.data
    if len(parts) > 1:
        data = pd.concat([part.data for part in parts], ignore_index=True)
        data = data.astype(dict.fromkeys(("image", "object_type", "classification"), "category"))
    polygons = [part.outlines for part in parts if part.outlines is not None]
    outlines = np.concatenate(polygons) if polygons else None
    dropped = dict(sum((Counter(part.rows.dropped) for part in parts), Counter()))
    files = np.repeat(np.arange(len(parts), dtype=np.int8), [len(part.data) for part in parts])
    notes: tuple[str, ...] = ()
    if (repeats := repeated_ids(data["object_id"])) is not None:
        data, files = data[~repeats].reset_index(drop=True), files[~repeats]
        outlines = None if outlines is None else outlines[~repeats]
        dropped["repeated object id"] = count = int(np.count_nonzero(repeats))
        notes = (f"{count:,} cells have the object ID of another cell, of which they are a copy, and were dropped",)
    doubles = settle_doubles(data, files, given.doubles, [part.export.path for part in parts])
    notes = (*notes, *doubles.notes)
    if doubles.drop is not None:
        data = data[~doubles.drop].reset_index(drop=True)
        outlines = None if outlines is None else outlines[~doubles.drop]
        dropped["inside another cell"] = int(np.count_nonzero(doubles.drop))
    if (lumps := find_lumps(data)) is not None and lumps.any():
        data["lump"] = lumps
        notes += lumps_text(lumps)
    regions, regions_file = first.regions, given.regions_file
    metadata = CellMetadata(
        image=images[0], pixel_size_um=first.calibration.pixel_size_um, field_um=first.calibration.field_um,
        compartment=compartment,
        n_read=sum(part.export.n_rows + part.export.n_cut + part.export.n_headers for part in parts), n_kept=len(data),
        dropped=dropped,
        sources=tuple(part.export.path.name for part in parts) + ((regions_file.name,) if regions_file else ()),
        area_unit_from=first.measures.area_unit_from, roi_wkt=None if regions is None else regions.union.wkt,
        regions=() if regions is None else tuple(region.record() for region in regions.used),
        ignored_columns=first.export.ignored, kinds=dict(sum((Counter(part.kinds) for part in parts), Counter())),
        grid="slide" if first.export.size_px is None else "mask",
        warnings=(*(text for part in parts for text in part.warnings), *notes),
    )  # fmt: skip
    table = CellTable(data, metadata)
    return CellTable(data, replace(metadata, warnings=(*metadata.warnings, *check_table(table))), outlines)
