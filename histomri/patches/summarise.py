"""From cells to maps: moments of cell size per patch, corrected for shrinkage and sectioning."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from shapely.geometry.base import BaseGeometry

from histomri.cells import CellTable
from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.patches.corrections import choose_correction, corrected_sizes, error_maps, plain_sizes, size_maps
from histomri.patches.grid import PatchGrid
from histomri.patches.maps import PatchMaps
from histomri.patches.moments import dispersion, gather, size_errors
from histomri.patches.tissue import assign, extent_of, tissue_fraction

Cells: TypeAlias = CellTable | pd.DataFrame | str | Path
"""The cells of one slide, as functions take them."""

_CELL_NOTES = {
    "cell": "QuPath's cell is the nucleus expanded by a fixed distance (5 um by default), not a membrane",
    "nucleus": "the detections are nuclei",
}


def summarise_patches(
    cells: Cells, grid: PatchGrid, *, preset: str = "mouse-exvivo", section: str | None = None,
    shrinkage: float | None = None, section_thickness_um: float = 4.0, min_cells: int = 1,
    tissue: BaseGeometry | None = None, min_tissue: float = 0.0, assign_by: str = "centroid", seed: int = 0,
) -> PatchMaps:  # fmt: skip
    """Summarise the cells of each patch.

    A cell belongs to the patch its centroid lies in, or is shared among the patches that its outline reaches. F and CD
    are relative to the analysed part of the patch (`tissueFraction`: inside the imaged field and the tissue, as far as
    they are known). In an analysed patch without a cell, nCells, F, CD and CDvol are 0 and the sizes are NaN; outside,
    all maps are NaN. F above 1 is reported and not clipped: QuPath does not cut cells at the edges of patches.

    Parameters
    ----------
    cells, grid : CellTable, DataFrame or path; PatchGrid
        Cells of one slide: a cell table, the path of one, or a DataFrame with ``x_um``, ``y_um`` and ``area_um2``.
    preset : {"mouse-exvivo", "human-biopsy", "none"}
        Shrinkage 12.9 %, 15.3 %, 0; section correction sphere-mean, sphere-mean, none.
    section : {"sphere-mean", "wicksell", "none"}, optional
        In place of the preset's: one factor 4/pi on every size, as published; or unfolding by moments, which holds
        for spheres of any size distribution; or none.
    shrinkage : float, optional
        In place of the preset's: fraction of its length that the tissue lost. Sizes are divided by (1 - p),
        densities multiplied by (1 - p)^2 per area and (1 - p)^3 per volume, F is left as it is.
    section_thickness_um : float
        Thickness of the section as cut, for ``wicksell``.
    min_cells : int
        Patches with fewer cells get no sizes (vCS, aCS, sdCS, skewCS, and CDvol, which needs one).
    tissue, min_tissue : shapely geometry, optional; float
        Outline of the tissue in µm of the slide; patches of which a smaller fraction was analysed are NaN in all maps
        but tissueFraction.
    assign_by : {"centroid", "clip"}
        Count a cell where its centroid lies; or cut its outline at the edges of patches and of the analysed area, and
        count it in each patch with the fraction of its area. The latter needs `cells.outlines`.
    seed : int
        Of the draws behind the standard errors of vCS.

    Raises
    ------
    InputError
        If the table is empty, no cell lies on the grid, or a parameter is impossible.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = pd.DataFrame({"x_um": [20, 60, 140], "y_um": [30, 80, 50], "area_um2": [80, 90, 100]})
    >>> grid = PatchGrid.covering(field_um=(200, 100), patch_um=100)
    >>> summarise_patches(cells, grid, preset="none").maps["nCells"]
    array([[2., 1.]])

    Notes
    -----
    vCS = (<l^7>/<l^3>)^(1/4) with l = sqrt(4 A / pi); F = sum(A) / area; CD = n / area
    (Grussu et al. 2025, doi 10.1038/s43856-025-01246-2). CDvol = CD / <D>, with ``wicksell`` CD / (<D> + t).
    Value +- 1.96 standard errors holds the truth, the mean of patches like this one, in about 95 % of patches
    with 50 cells and more: see `histomri.patches.moments`. On small slides (fewer than 500 cells, or 40 tiles of some
    64 cells) the error of vCS is by the delta method, too small for skewed sizes, and those of F and CD take cells as
    scattered at random, too large for packed cells.
    """
    cells = CellTable.coerce(cells, geometries=assign_by == "clip")
    if min_cells < 1:
        raise InputError(f"at least {min_cells} cells is no limit", hint="give --min-cells 1 or more")
    if not 0 <= min_tissue <= 1:
        raise InputError(f"a tissue fraction of {min_tissue:g} is not possible", hint="give a number from 0 to 1")
    correction = choose_correction(preset, section, shrinkage, section_thickness_um)
    extent = extent_of(cells, tissue)
    fraction = tissue_fraction(grid, extent).ravel()
    valid = (fraction > 0) & (fraction >= min_tissue)
    assigned = assign(cells, grid, fraction.reshape(grid.shape), extent, assign_by)
    if not valid.any():
        raise InputError("no patch holds enough tissue", hint="lower the least tissue, or take smaller patches")
    patch = assigned.patch
    diameter, area = (cells.data[name].to_numpy()[assigned.cell] for name in ("diameter_um", "area_um2"))
    moments = gather(patch, diameter, area, fraction.size, assigned.part)
    analysed_area = fraction * (grid.window_um[0] * grid.window_um[1])
    sizes = corrected_sizes(moments, correction)
    x, y, areas = (cells.data[name].to_numpy() for name in ("x_um", "y_um", "area_um2"))
    dispersed = dispersion(x, y, areas, grid.window_um, extent)
    relative = size_errors(patch, diameter, moments, correction.estimate, seed)
    maps = size_maps(moments, sizes, analysed_area, correction.stretch, min_cells)
    uncorrected = size_maps(moments, plain_sizes(moments), analysed_area, 1.0, min_cells)
    errors = error_maps(moments, sizes, analysed_area, correction.stretch, min_cells, dispersed, relative)
    maps["nCells"] = moments.count
    for values in (*maps.values(), *uncorrected.values(), *errors.values()):
        values[~valid] = np.nan
    maps["tissueFraction"] = fraction
    groups = [{name: map_.reshape(grid.shape) for name, map_ in group.items()} for group in (maps, uncorrected, errors)]
    on_grid, used = (int(np.count_nonzero(np.bincount(cell))) for cell in (assigned.cell, assigned.cell[valid[patch]]))
    outside, sparse = len(cells) - on_grid, on_grid - used
    parameters = {
        **correction.record(), "MinCells": min_cells, "MinTissueFraction": min_tissue, "Patch_um": list(grid.patch_um),
        "Window_um": list(grid.window_um), "Origin_um": list(grid.origin_um), "Assignment": assign_by,
        "DispersionOfCount": dispersed.count, "DispersionOfArea": dispersed.area, "DispersionTiles": dispersed.tiles,
        "SizeErrors": "delta method" if relative is None else "draws from the cells of the slide",
        "Extent": extent.source, "Image": cells.metadata.image, "Compartment": cells.metadata.compartment,
        "CellsUsed": used, "CellsOutsideGrid": outside, "CellsInSparsePatches": sparse,
        "Cell": _CELL_NOTES[cells.metadata.compartment],
    }  # fmt: skip
    thin = f"in patches of which less than {min_tissue:g} is tissue (--min-tissue)"
    places = {"off the grid of patches or outside the extent": outside, thin: sparse}
    warnings = _warnings(cells, maps, correction.section, places)
    return PatchMaps(groups[0], groups[1], grid, parameters, warnings, groups[2])


def unfold_sizes(
    cells: CellTable, maps: PatchMaps, tissue: BaseGeometry | None, thickness_um: float
) -> tuple[FloatArray, FloatArray]:
    """Return vCS of each patch by ``wicksell``, and its standard error, µm, on the grid of maps of the same cells."""
    of, grid = maps.parameters, maps.grid
    correction = choose_correction(of["Preset"], "wicksell", of["Shrinkage"], thickness_um)
    fraction = maps.maps["tissueFraction"]
    assigned = assign(cells, grid, fraction, extent_of(cells, tissue), of["Assignment"])
    diameter, area = (cells.data[name].to_numpy()[assigned.cell] for name in ("diameter_um", "area_um2"))
    moments = gather(assigned.patch, diameter, area, fraction.size, assigned.part)
    sizes = corrected_sizes(moments, correction)
    relative = size_errors(assigned.patch, diameter, moments, correction.estimate, seed=0)
    error = sizes.vcs_error if relative is None else relative * sizes.vcs
    unknown = np.isnan(maps.maps["nCells"].ravel()) | (moments.count < of["MinCells"])
    vcs, error = (np.where(unknown, np.nan, values).reshape(grid.shape) for values in (sizes.vcs, error))
    return vcs, error


def whole_grid(cells: CellTable, *, thickness_um: float = 4.0, tissue: BaseGeometry | None = None) -> PatchGrid:
    """Return a grid of one patch around the tissue, region of interest or field: one number per slide."""
    low_x, low_y, high_x, high_y = extent_of(cells, tissue).bounds_um
    return PatchGrid((low_x, low_y), (high_x - low_x, high_y - low_y), (1, 1), thickness_um)


def _warnings(cells: CellTable, maps: dict[str, FloatArray], section: str, not_used: dict[str, int]) -> tuple[str, ...]:
    # The rim of the tissue always loses a few cells, and the record has their number.
    many = {where: count for where, count in not_used.items() if count > 0.02 * len(cells)}
    texts = [f"{count:,} of {len(cells):,} cells lie {where}, and were not used" for where, count in many.items()]
    if cells.metadata.compartment == "nucleus":
        texts.append("sizes and fractions are of nuclei, not of cells")
    if crowded := int(np.count_nonzero(maps["F"] > 1)):
        causes = "cells reach over the edge of their patch, overlap, or were counted twice; F was not clipped"
        texts.append(f"F is above 1 in {crowded:,} patches (up to {np.nanmax(maps['F']):.2f}): {causes}")
    lost = int(np.count_nonzero(np.isnan(maps["vCS"]) & (maps["nCells"] > 0)))
    if lost and section == "wicksell":
        texts.append(f"{lost:,} patches have cells but no corrected size: too few cells, or profiles of no sphere")
    return tuple(texts)
