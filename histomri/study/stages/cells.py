"""The stage `cells`: QuPath exports in, one cell table out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from histomri.cells import CellTable, read_cells
from histomri.core.errors import InputError
from histomri.core.files import refuse_overwrite
from histomri.study.stages.result import StageResult


def run_cells(
    exports: Sequence[Path],
    out: Path,
    *,
    mpp: float | tuple[float, float] | None = None,
    area_unit: Literal["um2", "px2"] | None = None,
    roi: Path | None = None,
    classes: Sequence[str] | None = None,
    min_size_um: float | None = None,
    max_size_um: float | None = None,
    min_probability: float | None = None,
    image: str | None = None,
    project: Path | None = None,
    detections: Literal["nuclei", "cells"] = "nuclei",
    measurements: bool = True,
    geometries: bool = False,
) -> StageResult:
    """Read QuPath exports of one slide and write them as one table, Parquet, in µm.

    The options are those of `histomri.cells.read_cells`.

    Raises
    ------
    InputError
        If a file cannot be used; nothing is written then.
    """
    out = Path(out)
    if out.is_dir():
        raise InputError("is a folder, and the cell table is a file", path=out, hint=f"pass -o {out / 'cells.parquet'}")
    if out.suffix.lower() != ".parquet":
        raise InputError(
            "is no name for a Parquet file, which the cell table is",
            path=out,
            hint=f"pass -o {_as_parquet(out)}",
        )
    refuse_overwrite(out, (*exports, roi, project))
    table = read_cells(
        *exports,
        mpp=mpp,
        area_unit=area_unit,
        roi=roi,
        classes=classes,
        min_size_um=min_size_um,
        max_size_um=max_size_um,
        min_probability=min_probability,
        image=image,
        project=project,
        detections=detections,
        measurements=measurements,
        geometries=geometries,
    )
    outputs = table.save(out)
    return StageResult(tuple(outputs), _messages(table), table.metadata.warnings, _summary(table))


def _as_parquet(out: Path) -> Path:
    """Return the nearest name that a cell table may have."""
    return out.with_suffix(".parquet") if out.name.strip(".") else out / "cells.parquet"


def _messages(table: CellTable) -> tuple[str, ...]:
    metadata, data = table.metadata, table.data
    low, middle, high = np.quantile(data["diameter_um"].to_numpy(), [0.05, 0.5, 0.95])
    lines = [
        f"{', '.join(metadata.sources)}: {metadata.n_read:,} rows read, {metadata.n_kept:,} kept",
        *(f"  dropped: {count:,} {reason}" for reason, count in metadata.dropped.items()),
        f"sizes are of {'cells' if metadata.compartment == 'cell' else 'NUCLEI'}; "
        f"diameter {middle:.1f} µm (median; 5-95 %: {low:.1f}-{high:.1f})",
        f"area in {metadata.area_unit_from}",
    ]
    if table.outlines is not None:
        lines.append("the outlines of the cells are in the table, for `histomri patches --assign clip`")
    if metadata.ignored_columns:
        names = metadata.ignored_columns
        lines.append(
            f"columns not read: {', '.join(names[:8])}" + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        )
    return tuple(lines)


def _summary(table: CellTable) -> dict[str, Any]:
    metadata, data = table.metadata, table.data
    return {
        "image": metadata.image,
        "n_read": metadata.n_read,
        "n_kept": metadata.n_kept,
        "dropped": dict(metadata.dropped),
        "compartment": metadata.compartment,
        "area_unit_from": metadata.area_unit_from,
        "pixel_size_um": metadata.pixel_size_um,
        "field_um": metadata.field_um,
        "median_diameter_um": float(np.median(data["diameter_um"].to_numpy())),
        "sources": list(metadata.sources),
    }
