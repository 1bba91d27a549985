"""The stage `patches`: a cell table in, maps out."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from shapely.geometry.base import BaseGeometry

from histomri.cells import CellTable, read_cells
from histomri.core.errors import GeometryError, InputError
from histomri.core.files import atomic_path, refuse_overwrite, require_file
from histomri.core.images import open_nifti, write_map
from histomri.patches import (
    PatchGrid,
    PatchMaps,
    extent_of,
    outline_of,
    separate_regions,
    summarise_patches,
    summarise_regions,
    tissue_mask,
    whole_grid,
)
from histomri.patches.tissue import BOUNDING_BOX
from histomri.study.result import StepResult
from histomri.study.stages.slide_tissue import tissue_of_slide

# Voxels of MRI and of MR microscopy; anything else is a header in another unit.
_VOXEL_MM = (0.005, 50.0)
_USUAL_SECTION_UM = 4.0


def run_patches(
    cells: Path,
    out: Path,
    *,
    patch_um: tuple[float, float] | None = None,
    like: Path | None = None,
    thickness_um: float | None = None,
    preset: str = "mouse-exvivo",
    section: str | None = None,
    section_thickness_um: float = _USUAL_SECTION_UM,
    shrinkage: float | None = None,
    min_cells: int = 1,
    min_tissue: float = 0.0,
    tissue: str = "field",
    slide: Path | None = None,
    whole: bool = False,
    assign_by: str = "centroid",
    step_um: tuple[float, float] | None = None,
    sub: str | None = None,
) -> StepResult:
    """Make the maps of one slide and write them as NIfTI with sidecars.

    Parameters
    ----------
    cells : Path
        A table of `histomri cells`, or a QuPath export that needs no options.
    out : Path
        Folder of the maps.
    patch_um : (w, h), optional
        Size of a patch; one of `patch_um`, `like` and `whole` must be given.
    like : Path, optional
        MRI whose voxel size the patches take, in the plane and in thickness.
    thickness_um : float, optional
        Thickness of the slice, in place of the MRI's or the section's own.
    preset, section, section_thickness_um, shrinkage, min_cells, min_tissue, assign_by
        As in `histomri.patches.summarise_patches`.
    tissue : {"field", "cells"}
        What F and CD are relative to where no region of interest was given: the whole imaged field, or the region
        that cells cover (`histomri.patches.tissue_outline`).
    slide : Path, optional
        Slide the cells were found on: F and CD are relative to the tissue on it, inside the region of interest if one
        was given.
    whole : bool
        One patch for the whole tissue or region of interest; if that is several polygons, rois.csv has a row for each.
    step_um : (w, h), optional
        Distance of neighbouring patches, if they are to overlap.
    sub : str, optional
        Label of the sample, for the names of the files: letters and digits.

    Raises
    ------
    InputError
        If an input cannot be used; nothing is written then.
    """
    if sum((patch_um is not None, like is not None, whole)) != 1:
        raise InputError("the size of the patches is not settled", hint="pass one of --patch-um, --like and --whole")
    if sub is not None and re.fullmatch("[0-9A-Za-z]+", sub) is None:
        raise InputError(f"{sub!r} cannot be the label of a sample", hint="a label may hold only letters and digits")
    if Path(out).is_file():
        raise InputError("is a file, and the maps need a folder", path=out)
    if tissue not in ("field", "cells"):
        raise InputError(f"there is no tissue {tissue!r}", hint="take field or cells")
    if whole and step_um is not None:
        raise InputError("one patch for the whole slide cannot overlap others", hint="leave out --step-um")
    table, warnings = load_cells(Path(cells), geometries=assign_by == "clip")
    table, outline, doubts = _where(table, Path(cells), tissue, slide)
    grid, notes = _grid(table, patch_um, like, thickness_um, section_thickness_um, outline, step_um)
    choice: dict[str, Any] = {
        "preset": preset,
        "section": section,
        "shrinkage": shrinkage,
        "section_thickness_um": section_thickness_um,
        "min_cells": min_cells,
        "assign_by": assign_by,
    }
    maps = summarise_patches(table, grid, min_tissue=min_tissue, tissue=outline, **choice)
    rows, pooled = _regions(table, outline, grid.thickness_um, choice, sub) if whole else ([], ())
    for path in (*maps.paths(out, sub), Path(out) / tissue_mask_name(sub), Path(out) / _regions_name(sub)):
        refuse_overwrite(path, (cells, like))
    outputs = maps.save(out, sub, sources=[path for path in (cells, like, slide) if path is not None])
    outputs += _save_mask(table, outline, Path(out), sub, cells)
    outputs += _save_regions(rows, Path(out) / _regions_name(sub))
    summary = {**_summary(maps), **({"regions": rows} if rows else {})}
    if section_thickness_um != _USUAL_SECTION_UM and maps.parameters["Section"] != "wicksell":
        notes = (*notes, "--section-thickness-um changes sizes with --section wicksell only; here it did not")
    told = (*warnings, *doubts, *notes, *pooled, *maps.warnings)
    return StepResult(tuple(outputs), _messages(maps, summary), told, summary)


def _where(
    table: CellTable, cells: Path, tissue: str, slide: Path | None
) -> tuple[CellTable, BaseGeometry | None, tuple[str, ...]]:
    """Return the table, now with what the slide tells, the outline of the tissue if it is known, and warnings."""
    if slide is not None:
        if tissue == "cells":
            raise InputError("the tissue is that of --slide or of the cells", hint="leave out --tissue or --slide")
        return tissue_of_slide(table, cells, Path(slide))
    outline = outline_of(table) if tissue == "cells" and table.metadata.roi_wkt is None else None
    if extent_of(table, outline).source != BOUNDING_BOX:
        return table, outline, ()
    doubt = (
        "what was looked at is not known, so F and CD are per bounding box of the cells; to tell where the tissue is, "
    )
    return table, outline, (doubt + "pass --slide or --tissue cells, or --roi to `histomri cells`",)


def load_cells(path: Path, *, geometries: bool = False) -> tuple[CellTable, tuple[str, ...]]:
    """Load a cell table, or read a QuPath export directly; return it and warnings not told before."""
    path = require_file(path, "cell table")
    with path.open("rb") as stream:
        is_table = stream.read(4) == b"PAR1"
    if is_table:
        return CellTable.load(path, geometries=geometries), ()
    table = read_cells(path, measurements=False, geometries=geometries)
    return table, table.metadata.warnings


def voxel_size_um(path: Path) -> tuple[float, float, float]:
    """Return the voxel size of an MRI in µm, (i, j, k).

    Raises
    ------
    InputError
        If it is no image or its voxel size is no length in millimetres.
    """
    image = open_nifti(path)
    sizes = np.sqrt((np.asarray(image.affine, dtype=float)[:3, :3] ** 2).sum(axis=0))
    if not (np.isfinite(sizes).all() and sizes.min() >= _VOXEL_MM[0] and sizes.max() <= _VOXEL_MM[1]):
        shown = " x ".join(f"{size:g}" for size in sizes)
        raise GeometryError(
            f"its voxels are {shown} mm, which no MRI has", path=path, hint="mend its header, or pass --patch-um"
        )
    return float(1000 * sizes[0]), float(1000 * sizes[1]), float(1000 * sizes[2])


def _grid(
    table: CellTable,
    patch_um: tuple[float, float] | None,
    like: Path | None,
    thickness_um: float | None,
    section_thickness_um: float,
    outline: BaseGeometry | None,
    step_um: tuple[float, float] | None,
) -> tuple[PatchGrid, tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    thickness = section_thickness_um or 1.0
    if like is not None:
        wide, high, thickness = voxel_size_um(like)
        patch_um = (wide, high)
        if abs(wide / high - 1) > 1e-3:
            notes = (
                f"{like.name} has voxels of {wide:.4g} x {high:.4g} µm in the plane; its first axis was taken for the "
                "slide's x",
            )
    thickness = thickness if thickness_um is None else thickness_um
    if patch_um is None:
        return whole_grid(table, thickness_um=thickness, tissue=outline), notes
    x, y = table.data["x_um"].to_numpy(), table.data["y_um"].to_numpy()
    grid = PatchGrid.covering(
        x, y, field_um=table.metadata.field_um, patch_um=patch_um, thickness_um=thickness, step_um=step_um
    )
    return grid, notes


def _regions(
    table: CellTable, outline: BaseGeometry | None, thickness_um: float, choice: dict[str, Any], sub: str | None
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return a row per region if there are several, as one number for two biopsies is of neither, and a warning."""
    if len(separate_regions(table, outline)) < 2:
        return [], ()
    rows = summarise_regions(table, outline, thickness_um=thickness_um, **choice)
    filled = sum(row["nCells"] > 0 for row in rows)
    return rows, (
        f"the maps pool {len(rows)} separate regions, {filled} with cells, in one patch; {_regions_name(sub)} has the "
        "numbers of each",
    )


def _regions_name(sub: str | None) -> str:
    return (f"sub-{sub}_" if sub else "") + "rois.csv"


def _save_regions(rows: list[dict[str, Any]], path: Path) -> list[Path]:
    """Write the table of regions; that of an earlier run, which would belong to other maps, goes."""
    if not rows:
        if path.is_file() and path.read_bytes().startswith(b"roi,centre_x_um,"):
            path.unlink()
        return []
    with atomic_path(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, lineterminator="\n")
    return [path]


def _save_mask(table: CellTable, outline: BaseGeometry | None, out: Path, sub: str | None, cells: Path) -> list[Path]:
    """Write where the tissue is, finer than the patches, if that is known: its outline drives the registration."""
    mask = tissue_mask(table, outline)
    if mask is None:
        return []
    name = tissue_mask_name(sub)
    settings = {"Extent": extent_of(table, outline).source}
    words = {"Units": "1", "Description": "Tissue of the section"}
    return write_map(out / name, mask.data, mask.affine, sources=(cells,), parameters=settings, **words)


def tissue_mask_name(sub: str | None) -> str:
    """Return the file name of the tissue mask."""
    return (f"sub-{sub}_" if sub else "") + "desc-tissue_mask.nii.gz"


def _median(values: Any) -> float | None:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else None


def _summary(maps: PatchMaps) -> dict[str, Any]:
    names = ("vCS", "aCS", "F", "CD")
    return {
        "shape": list(maps.grid.shape),
        "patch_um": list(maps.grid.patch_um),
        "patches_with_cells": int(np.count_nonzero(maps.maps["nCells"] > 0)),
        "cells_used": maps.parameters["CellsUsed"],
        "median": {name: _median(maps.maps[name]) for name in names},
        "median_uncorrected": {name: _median(maps.uncorrected[name]) for name in names},
        "parameters": dict(maps.parameters),
    }


def _cells_used(choice: dict[str, Any]) -> str:
    outside, sparse = choice["CellsOutsideGrid"], choice["CellsInSparsePatches"]
    places = ((outside, "off the grid or outside the extent"), (sparse, "in patches with too little tissue"))
    left = ", ".join(f"{count:,} {where}" for count, where in places if count)
    total = choice["CellsUsed"] + outside + sparse
    return f"{choice['CellsUsed']:,} of {total:,} cells used" + (f" ({left})" if left else "")


def _messages(maps: PatchMaps, summary: dict[str, Any]) -> tuple[str, ...]:
    choice, (rows, columns), (w, h) = maps.parameters, maps.grid.shape, maps.grid.window_um
    factor = choice["SizeFactor"]
    lines = [
        f"{rows} x {columns} patches of {w:.4g} x {h:.4g} µm, {summary['patches_with_cells']:,} with cells, "
        f"{_cells_used(choice)}; extent: {choice['Extent']}",
        f"corrections: shrinkage {choice['Shrinkage']:.1%}, section {choice['Section']}"
        + (f" (sizes x {factor:.4g})" if factor is not None else f" ({choice['SectionThickness_um']:g} µm thick)"),
    ]
    median, plain = summary["median"], summary["median_uncorrected"]
    if median["vCS"] is not None:
        lines.append(
            f"medians over patches: vCS {median['vCS']:.1f} µm (uncorrected {plain['vCS']:.1f}), F {median['F']:.2f}, "
            f"CD {median['CD']:.0f} /mm²"
        )
    return tuple(lines)
