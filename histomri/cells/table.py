"""The cells of one slide: a table in micrometres, and the record of how it was made."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
import shapely.errors
from numpy.typing import ArrayLike, NDArray
from pydantic import TypeAdapter
from shapely.geometry.base import BaseGeometry

from histomri.core.array_files import parquet_schema, read_parquet
from histomri.core.columns import unit_text
from histomri.core.display import Displayed
from histomri.core.door import reading, require_file
from histomri.core.errors import InputError
from histomri.core.files import atomic_path
from histomri.core.provenance import software_version
from histomri.core.spatial import to_spatialdata

Compartment = Literal["cell", "nucleus"]
TEXT_COLUMNS = ("image", "object_id", "object_type", "classification")
NUMBER_COLUMNS = ("x_um", "y_um", "area_um2", "nucleus_area_um2", "diameter_um")
COLUMNS = (*TEXT_COLUMNS, *NUMBER_COLUMNS)
_OUTLINE = "outline_wkb"
_SCHEMA_KEY = b"histomri.cells"
_NO_PARQUET = "is not a Parquet file, or it is cut short"
_SCHEMA = "histomri.cells/1"


@dataclass(frozen=True)
class CellMetadata:
    """How a cell table came to be."""

    image: str = ""  # name of the slide the cells lie on
    pixel_size_um: tuple[float, float] | None = None  # (x, y), if it is known; x and y are never averaged
    field_um: tuple[float, float] | None = None  # (width, height) of the imaged field, if it is known
    compartment: Compartment = "cell"  # of which `area_um2` is the area
    n_read: int = 0  # rows in the files
    n_kept: int = 0  # rows in the table
    dropped: dict[str, int] = field(default_factory=dict)  # reason to rows; n_read == n_kept + sum(dropped.values())
    sources: tuple[str, ...] = ()  # names of the files (without their folders)
    area_unit_from: str = "given in um2"  # how the unit of the area was decided
    roi_wkt: str | None = None  # the region the cells were limited to, as well-known text in µm
    ignored_columns: tuple[str, ...] = ()  # columns of the files that were not read
    warnings: tuple[str, ...] = ()  # reasons to trust the table less
    regions: tuple[dict[str, Any], ...] = ()  # of which `roi_wkt` is the union; see `histomri.cells.regions.Region`
    kinds: dict[str, int] = field(default_factory=dict)  # objects of each kind in the files: cell, nucleus, tile, ...
    grid: Literal["slide", "mask"] = "slide"  # whose pixels `pixel_size_um` is of


@dataclass(frozen=True, repr=False)
class CellTable(Displayed):
    """Cells of one slide.

    Attributes
    ----------
    data : (N rows) DataFrame
        Columns ``image, object_id, object_type, classification, x_um, y_um, area_um2, nucleus_area_um2, diameter_um``
        and then any other measurements. Positions are those of the cell's centroid, µm from the top left corner of
        the full-resolution image, y down. ``diameter_um`` is that of the disc with the same area, sqrt(4 A / pi).
    metadata : CellMetadata
    outlines : (N rows,) object ndarray of shapely geometries (µm), or None

    Examples
    --------
    >>> CellTable.from_columns(x_um=[10, 20], y_um=[5, 5], area_um2=[80, 90])
    CellTable(cells: 2, slide: unknown, sizes of: cells, median diameter: 10.4 µm)
    """

    data: pd.DataFrame
    metadata: CellMetadata = field(default_factory=CellMetadata)
    outlines: NDArray[np.object_] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.outlines is not None and self.outlines.shape != (len(self.data),):
            raise InputError(f"{len(self.data):,} cells cannot have {self.outlines.size:,} outlines")
        if missing := [name for name in COLUMNS if name not in self.data.columns]:
            raise InputError(f"a cell table needs the columns {', '.join(missing)}")
        for name in ("x_um", "y_um", "area_um2"):
            if not np.isfinite(self.data[name].to_numpy()).all():
                raise InputError(f"a cell table holds finite numbers only, and column {name} does not")
        if not (self.data["area_um2"].to_numpy() > 0).all():
            raise InputError("a cell table holds positive areas only")

    def __len__(self) -> int:
        return len(self.data)

    def facts(self) -> dict[str, Any]:
        """Return the facts that `repr` shows."""
        kind = "cells" if self.metadata.compartment == "cell" else "nuclei"
        facts = {"cells": f"{len(self):,}", "slide": self.metadata.image or "unknown", "sizes of": kind}
        if len(self):
            facts["median diameter"] = f"{np.median(self.data['diameter_um'].to_numpy()):.1f} µm"
        return facts

    @classmethod
    def from_columns(
        cls, x_um: ArrayLike, y_um: ArrayLike, area_um2: ArrayLike, nucleus_area_um2: ArrayLike | None = None, *,
        metadata: CellMetadata | None = None,
    ) -> "CellTable":  # fmt: skip
        """Make a table from arrays of shape (N,); the columns that are not given are empty."""
        area = np.asarray(area_um2, dtype=float)
        nucleus = np.full(area.shape, np.nan) if nucleus_area_um2 is None else nucleus_area_um2
        columns: dict[str, Any] = {name: pd.Categorical([""] * area.size) for name in TEXT_COLUMNS}
        columns["object_id"] = [""] * area.size
        numbers = (x_um, y_um, area, nucleus, np.sqrt(4 * area / np.pi))
        columns |= {name: np.asarray(values, dtype=float) for name, values in zip(NUMBER_COLUMNS, numbers)}
        metadata = metadata or CellMetadata()
        metadata = replace(metadata, n_read=metadata.n_read or area.size, n_kept=area.size)
        return cls(pd.DataFrame(columns), metadata)

    @classmethod
    def coerce(cls, cells: "CellTable | pd.DataFrame | str | Path", *, geometries: bool = False) -> "CellTable":
        """Return a cell table made of a table, the path of one, or a DataFrame.

        A DataFrame needs the columns ``x_um``, ``y_um`` and ``area_um2``; the others are filled in.
        """
        if isinstance(cells, cls):
            return cells
        if isinstance(cells, str | Path):
            return cls.load(cells, geometries=geometries)
        needed = ("x_um", "y_um", "area_um2")
        if not isinstance(cells, pd.DataFrame) or not set(needed) <= set(cells.columns):
            has = "of " + ", ".join(map(str, cells)) if isinstance(cells, pd.DataFrame) else type(cells).__name__
            frame = f"a DataFrame with the columns {', '.join(needed)} (centroids and areas in µm)"
            raise InputError(f"cells must be a CellTable, the path of one, or {frame}, and this is {has}")
        made = cls.from_columns(*(cells[name] for name in needed))
        given = cells.reset_index(drop=True)
        rest = {str(name): given[name] for name in given.columns if name not in needed}
        return cls(made.data.assign(**rest), made.metadata)

    def select(self, region: BaseGeometry | None = None, classes: Sequence[str] | None = None) -> "CellTable":
        """Return the cells whose centroid is in a region (µm) and that are of one of some classes, as a table."""
        keep, metadata = np.ones(len(self), dtype=bool), self.metadata
        if region is not None:
            shapely.prepare(region)
            keep &= shapely.contains_xy(region, self.data["x_um"].to_numpy(), self.data["y_um"].to_numpy())
            metadata = replace(metadata, roi_wkt=(region if self.region is None else region & self.region).wkt)
        if classes is not None:
            codes, texts = pd.factorize(self.data["classification"].astype("str"))
            keep &= np.array([is_of_class(text, classes) for text in texts], dtype=bool)[codes]
        if not keep.any():
            raise InputError(f"none of {len(self):,} cells is left")
        outlines = None if self.outlines is None else self.outlines[keep]
        if not keep.all():
            dropped = {**metadata.dropped, "not selected": int(np.count_nonzero(~keep))}
            metadata = replace(metadata, n_kept=int(np.count_nonzero(keep)), dropped=dropped)
        return CellTable(self.data[keep].reset_index(drop=True), metadata, outlines)

    @property
    def region(self) -> BaseGeometry | None:
        """The region that the cells were limited to, µm; None if they were not."""
        try:
            return shapely.from_wkt(self.metadata.roi_wkt)
        except shapely.errors.GEOSException as error:
            problem = f"the region of interest of the cell table cannot be read ({error})"
            raise InputError(problem, hint="run `histomri cells` again") from error

    def to_pandas(self) -> pd.DataFrame:
        """Return the table as a DataFrame of its own."""
        return self.data.copy()

    def to_spatialdata(self, name: str = "cells") -> Any:
        """Return the cells as shapes of a `spatialdata.SpatialData`, in µm: outlines if there are any, else circles.

        Needs the optional packages: ``pip install 'histomri[notebook]'``.
        """
        centres = shapely.points(self.data["x_um"], self.data["y_um"])
        circles = centres, self.data.assign(radius=self.data["diameter_um"] / 2)
        return to_spatialdata({name: circles if self.outlines is None else (self.outlines, self.data)})

    def plot(self, column: str = "diameter_um", axes: Any = None, **options: Any) -> Any:
        """Draw the cells as dots, coloured by a column; `options` go to matplotlib's scatter. Returns the Axes."""
        from matplotlib import pyplot

        axes = axes if axes is not None else pyplot.subplots()[1]
        options = {"s": float(np.clip(4e4 / max(len(self), 1), 0.5, 14)), "linewidths": 0, **options}
        dots = axes.scatter(self.data["x_um"], self.data["y_um"], c=self.data[column], **options)
        axes.figure.colorbar(dots, ax=axes, label=f"{column}{unit_text(column)}")
        axes.set(aspect="equal", xlabel="x (µm)", ylabel="y (µm)", title=self.metadata.image)
        if not axes.yaxis_inverted():
            axes.invert_yaxis()
        return axes

    def save(self, path: str | Path) -> list[Path]:
        """Write the table as Parquet, atomically; the metadata goes into the schema."""
        table = pa.Table.from_pandas(self.data, preserve_index=False)
        record = {"schema": _SCHEMA, "version": software_version(), **asdict(self.metadata)}
        if self.outlines is not None:
            table = table.append_column(_OUTLINE, pa.array(shapely.to_wkb(self.outlines), pa.large_binary()))
        table = table.replace_schema_metadata({**table.schema.metadata, _SCHEMA_KEY: json.dumps(record).encode()})
        with atomic_path(path) as temporary:
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        return [Path(path)]

    def messages(self) -> tuple[str, ...]:
        """Return lines about reading it: number and size of the cells, and the rows that were left out."""
        metadata = self.metadata
        low, middle, high = np.quantile(self.data["diameter_um"].to_numpy(), [0.05, 0.5, 0.95])
        lines = [
            f"{', '.join(metadata.sources)}: {metadata.n_read:,} rows read, {metadata.n_kept:,} kept",
            *(f"  dropped: {count:,} {reason}" for reason, count in metadata.dropped.items()),
            *([f"  objects: {kinds_text(metadata.kinds)}"] if len(metadata.kinds) > 1 else []),
            f"sizes are of {'cells' if metadata.compartment == 'cell' else 'NUCLEI'}; "
            f"diameter {middle:.1f} µm (median; 5-95 %: {low:.1f}-{high:.1f})",
            f"area in {metadata.area_unit_from}",
        ]
        if regions := metadata.regions:
            labels = [one.get("name") or one.get("classification") or one.get("core") for one in regions]
            named = ", ".join(list(dict.fromkeys(filter(None, labels)))[:8])
            count = "1 region" if len(regions) == 1 else f"{len(regions):,} regions"
            area = shapely.area(self.region) / 1e6
            lines.append(f"F and CD are relative to {area:.4g} mm² in {count}{f': {named}' if named else ''}")
        if self.outlines is not None:
            lines.append("the outlines of the cells are in the table, for `histomri patches --assign clip`")
        if names := metadata.ignored_columns:
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            lines.append(f"columns not read: {', '.join(names[:8])}{more}")
        return tuple(lines)

    def summary(self) -> dict[str, Any]:
        """Return the facts that the report shows, as plain data."""
        names = (
            "image",
            "n_read",
            "n_kept",
            "dropped",
            "kinds",
            "compartment",
            "area_unit_from",
            "pixel_size_um",
            "field_um",
        )
        content: dict[str, Any] = {name: getattr(self.metadata, name) for name in names}
        content["median_diameter_um"] = float(np.median(self.data["diameter_um"].to_numpy()))
        return {**content, "sources": list(self.metadata.sources)}

    @classmethod
    def load(cls, path: str | Path, *, geometries: bool = False) -> "CellTable":
        """Read a table that `save` wrote, with its outlines if it has any and `geometries` asks for them."""
        path, how = require_file(path, "cell table"), ("make it with `histomri cells`", _NO_PARQUET)
        names = parquet_schema(path, "cell table", *how).names
        wanted = [name for name in names if geometries or name != _OUTLINE]
        table = read_parquet(path, "cell table", wanted, *how)
        metadata, outlines = _metadata((table.schema.metadata or {}).get(_SCHEMA_KEY), path), None
        with reading(path, "cell table", "make it again with `histomri cells`"):
            if _OUTLINE in table.column_names:
                outlines = shapely.from_wkb(table.column(_OUTLINE).to_numpy())
                table = table.drop_columns([_OUTLINE])
            return cls(table.to_pandas(), metadata, outlines)


def kinds_text(kinds: Mapping[str, int]) -> str:
    """Return how many objects of each kind there are, as text."""
    return ", ".join(f"{count:,} {name}" for name, count in kinds.items())


def _metadata(text: bytes | None, path: Path) -> CellMetadata:
    """Read the metadata of the schema; JSON knows no tuples, so they are made again."""
    if text is None:
        hint = "make it with `histomri cells`"
        raise InputError("is a Parquet file, but no cell table of histomri", path=path, hint=hint)
    damaged = InputError("its record of how it was made cannot be read", path=path, hint="run `histomri cells` again")
    try:
        record = json.loads(text)
        kind, _ = record.pop("schema"), record.pop("version")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged from error
    if kind != _SCHEMA:
        raise InputError(f"was written in the format {str(kind)[:40]}, and this version reads {_SCHEMA}", path=path)
    try:
        if unknown := set(record) - {one.name for one in fields(CellMetadata)}:
            raise ValueError(f"unknown fields {unknown}")
        metadata: CellMetadata = TypeAdapter(CellMetadata).validate_python(record)
        sizes = (*(metadata.pixel_size_um or ()), *(metadata.field_um or ()))
        counts = (metadata.n_read, metadata.n_kept, *metadata.dropped.values(), *metadata.kinds.values())
        shapes = [metadata.roi_wkt, *(region.get("geometry") for region in metadata.regions)]
        is_possible = all(0 < size < math.inf for size in sizes) and all(0 <= count < 1 << 60 for count in counts)
        if (
            not is_possible
            or not np.isfinite(shapely.bounds(shapely.from_wkt([each for each in shapes if each]))).all()
        ):
            raise ValueError("sizes or counts that are not possible")
    except (ValueError, TypeError, shapely.errors.GEOSException) as error:
        raise damaged from error
    return metadata


def is_of_class(text: str, classes: Sequence[str]) -> bool:
    """Whether a classification holds all the names of one of `classes`: Tumor keeps ``Tumor: Positive``."""
    names = _class_names(text)
    return any(wanted <= names if wanted else not names for wanted in map(_class_names, classes))


def _class_names(text: str) -> set[str]:
    """Split a classification into its names, lower case: ``Tumor: Positive`` is tumor, positive."""
    return {name.strip().lower() for name in text.split(":")} - {"", "none", "unclassified", "nan"}


def is_cell_table(path: Path) -> bool:
    """Whether a file is in the format of a cell table (Parquet), by its first bytes."""
    with path.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def refuse_table_name(out: Path) -> None:
    """Raise InputError if a cell table cannot be written under a name, which must end in .parquet."""
    if out.is_dir():
        raise InputError("is a folder, and the cell table is a file", path=out, hint=f"pass -o {out / 'cells.parquet'}")
    if out.suffix.lower() != ".parquet":
        better = out.with_suffix(".parquet") if out.name.strip(".") else out / "cells.parquet"
        raise InputError("is no name for a Parquet file, which the cell table is", path=out, hint=f"pass -o {better}")
