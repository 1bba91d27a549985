"""All maps of one section: patches of the size of an MRI's voxels, where the tissue is, and a row per region."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from histomri.cells import CellTable
from histomri.core.arrays import FloatArray
from histomri.core.display import Displayed
from histomri.core.errors import GeometryError, InputError, UnitError
from histomri.core.files import atomic_path, refuse_overwrite, sidecar_path
from histomri.core.formulas import without_formulas
from histomri.core.images import PAPER, Image, map_name, open_nifti, parse_map_name, write_map
from histomri.patches.cells_in_3d import VolumeSettings
from histomri.patches.classes import ClassMaps, summarise_classes
from histomri.patches.grid import PatchGrid
from histomri.patches.maps import PatchMaps
from histomri.patches.options import USUAL_SECTION_UM
from histomri.patches.outlines import recognise_outlines
from histomri.patches.regions import Per, overlap_warning, regions_of, separate_regions, summarise_regions
from histomri.patches.summarise import Cells, summarise_patches, whole_grid
from histomri.patches.tissue import BOUNDING_BOX, extent_of, outline_of, tissue_mask
from histomri.patches.volume_maps import add_volume_maps, stale_files, volume_message
from histomri.slides import Slide, find_tissue, open_slide

_VOXEL_MM = (0.005, 50.0)  # of MRI and of MR microscopy; anything else is a header in another unit
# Below the first fraction it is another slide, or another image of it; below the second, much tissue was missed.
_LEAST_INSIDE, _USUALLY_INSIDE = 0.5, 0.9
_SAME_SIZE = 0.01
_QUANTITIES = ("vCS", "aCS", "F", "CD")


@dataclass(frozen=True, repr=False)
class SectionMaps(Displayed):
    """The maps of one section."""

    maps: PatchMaps
    tissue: Image | None  # mask of the tissue, finer than the patches; None if nothing but the field is known
    extent: str  # how the tissue is known
    regions: list[dict[str, Any]]  # a row per region, if one patch pools several or they were asked for
    warnings: tuple[str, ...] = ()
    classes: tuple[ClassMaps, ...] = ()  # maps of each class of cells, if they were asked for
    outlines: tuple[str, ...] = ()  # what is known of the outlines, for the user

    def facts(self) -> dict[str, Any]:
        """Return the facts that `repr` shows."""
        return {**self.maps.facts(), "regions": len(self.regions) or 1}

    def save(
        self, folder: str | Path, sub: str | None = None, *, cells: str | Path, sources: Iterable[str | Path] = ()
    ) -> list[Path]:
        """Write the maps, the mask of the tissue and rois.csv; no input is overwritten.

        `cells` is the table they are made of, and `sources` are the other inputs.
        """
        folder, sources = Path(folder), tuple(sources)
        mask, table = folder / tissue_mask_name(sub), folder / regions_name(sub)
        of_classes = list(self._class_files(folder, sub))
        for path in (*self.maps.paths(folder, sub), mask, table, *(path for path, _, _ in of_classes)):
            refuse_overwrite(path, (cells, *sources))
        _remove_other_classes(folder, sub, {path.name for path, _, _ in of_classes})
        written = self.maps.save(folder, sub, sources=[cells, *sources])
        for path, values, name in of_classes:
            record: dict[str, Any] = {"parameters": self.published.parameters, "Corrected": True, "CellClass": name}
            written += write_map(path, values, self.maps.grid.affine, sources=[cells, *sources], **record)
        for path in stale_files(folder, sub, written):
            path.unlink()
        if self.tissue is not None:
            about = {"Units": "1", "Description": "Tissue of the section"}
            data, affine, settings = self.tissue.data, self.tissue.affine, {"Extent": self.extent}
            written += write_map(mask, data, affine, sources=(cells,), parameters=settings, **about)
        if self.regions:
            with atomic_path(table) as temporary:
                without_formulas(pd.DataFrame(self.regions)).to_csv(temporary, index=False, lineterminator="\n")
            written.append(table)
        elif table.is_file() and table.read_bytes().startswith(b"roi,centre_x_um,"):
            table.unlink()  # that of an earlier run belongs to other maps
        return written

    def _class_files(self, folder: Path, sub: str | None) -> Iterator[tuple[Path, FloatArray, str]]:
        """Yield the path of each map of a class, its values, and the class."""
        desc = None if self.maps.paper is None else PAPER
        for one in self.classes:
            for maps, stat in ((one.maps, None), (one.errors, "se")):
                for name, values in maps.items():
                    file = map_name(name, "histomap", sub=sub, label=one.label, stat=stat, desc=desc)
                    yield folder / file, values, one.name

    @property
    def published(self) -> PatchMaps:
        """The maps of profiles, as published."""
        return self.maps.paper or self.maps

    def summary(self) -> dict[str, Any]:
        """Return the maps in a few numbers, as plain data; medians are those of the maps as published."""
        maps = self.published
        whole = self.maps.parameters.get("Stereology")
        return {
            "shape": list(maps.grid.shape), "patch_um": list(maps.grid.patch_um),
            "patches_with_cells": int(np.count_nonzero(maps.maps["nCells"] > 0)),
            "cells_used": maps.parameters["CellsUsed"],
            "median": {name: _median(maps.maps[name]) for name in _QUANTITIES},
            "median_uncorrected": {name: _median(maps.uncorrected[name]) for name in _QUANTITIES},
            "parameters": dict(maps.parameters), **({} if whole is None else {"in_3d": whole}),
            **({"regions": self.regions} if self.regions else {}),
            **({"cells_of_class": {one.name: one.n_cells for one in self.classes}} if self.classes else {}),
        }  # fmt: skip

    def messages(self) -> tuple[str, ...]:
        """Return lines for the user: grid, cells used, corrections and medians."""
        choice, (rows, columns), (w, h) = self.published.parameters, self.maps.grid.shape, self.maps.grid.window_um
        summary, factor = self.summary(), choice["SizeFactor"]
        used, outside, sparse = (choice[f"Cells{key}"] for key in ("Used", "OutsideGrid", "InSparsePatches"))
        places = {"off the grid or outside the extent": outside, "in patches with too little tissue": sparse}
        lost = ", ".join(f"{count:,} {where}" for where, count in places.items() if count)
        sizes = f"sizes x {factor:.4g}" if factor is not None else f"{choice['SectionThickness_um']:g} µm thick"
        cells = f"{used:,} of {used + outside + sparse:,} cells used{f' ({lost})' if lost else ''}"
        patches = f"{rows} x {columns} patches of {w:.4g} x {h:.4g} µm, {summary['patches_with_cells']:,} with cells"
        lines: tuple[str, ...] = (
            f"{patches}, {cells}; extent: {choice['Extent']}",
            f"corrections: shrinkage {choice['Shrinkage']:.1%}, section {choice['Section']} ({sizes})",
        )
        if self.classes:
            lines += (f"cells by class: {', '.join(f'{one.name} {one.n_cells:,}' for one in self.classes)}",)
        median, plain = summary["median"], summary["median_uncorrected"]
        lines += volume_message(self.maps) if self.maps.paper is not None else self.outlines
        if median["vCS"] is None:
            return lines
        vcs = f"vCS {median['vCS']:.1f} µm (uncorrected {plain['vCS']:.1f})"
        of = "medians over patches" if self.maps.paper is None else "medians over patches of the maps as published"
        return *lines, f"{of}: {vcs}, F {median['F']:.2f}, CD {median['CD']:.0f} /mm²"


def map_section(
    cells: Cells, *, patch_um: float | tuple[float, float] | None = None, like: str | Path | Image | None = None,
    whole: bool = False, step_um: float | tuple[float, float] | None = None, thickness_um: float | None = None,
    tissue: Literal["cells", "field"] | BaseGeometry = "cells", section_thickness_um: float | None = None,
    min_tissue: float = 0.25, sub: str | None = None, per: Per | None = None, by_class: bool = False,
    fat: BaseGeometry | None = None, volume: VolumeSettings | None = None, **options: Any,
) -> SectionMaps:  # fmt: skip
    """Make all maps of one section from the cells of its slide.

    Parameters
    ----------
    cells : CellTable, DataFrame or path
    patch_um, like, whole : float or (w, h); path-like or Image; bool
        One must be given: the size of a patch; an MRI whose voxel size the patches take, in the plane and in
        thickness; or one patch for the whole tissue or region of interest.
    step_um : float or (w, h), optional
        Distance of neighbouring patches, if they are to overlap.
    thickness_um : float, optional
        Thickness of the slice, in place of the MRI's or the section's own.
    tissue : {"cells", "field"} or shapely geometry
        F and CD are relative to it: the region that cells cover (`tissue_outline`), unless there is a region of
        interest; the whole imaged field; or an outline in µm, such as that of `tissue_of_slide`.
    per : {"region", "class", "core"}, optional
        Give a row for each, as `summarise_regions` does; without it, if `whole` pools several regions in one patch.
    by_class : bool
        Give maps of each class of cells too.
    fat : shapely geometry, optional
        Vacuoles in µm, such as `Vacuoles.region`: F and CD are per tissue without them.
    section_thickness_um, min_tissue, sub, **options
        As in `summarise_patches`; `sub` is the label of the sample, for a message.
    volume : VolumeSettings, optional
        Make maps of cells in three dimensions too; see `add_volume_maps`.
    """
    section_thickness_um = USUAL_SECTION_UM if section_thickness_um is None else section_thickness_um
    cells = CellTable.coerce(cells, geometries=options.get("assign_by") == "clip")
    outline, warnings = _outline(cells, tissue)
    thickness = section_thickness_um or 1.0
    if like is not None:
        voxel = voxel_size_um(like)
        patch_um, thickness = voxel[:2], voxel[2]
        if abs(voxel[0] / voxel[1] - 1) > 1e-3:
            name = like if isinstance(like, Image) else Path(like).name
            size = f"{voxel[0]:.4g} x {voxel[1]:.4g} µm in the plane"
            warnings += (f"{name} has voxels of {size}; its first axis was taken for the slide's x",)
    thickness = thickness if thickness_um is None else thickness_um
    if whole:
        grid = whole_grid(cells, thickness_um=thickness, tissue=outline)
        # Its rectangle is no patch of tissue: between two cores far apart there is little of it.
        (wide, high), analysed = grid.patch_um, extent_of(cells, outline).area_um2
        min_tissue = min_tissue if analysed > min_tissue * wide * high else 0.0
    elif patch_um is None:
        raise InputError("the size of the patches is not settled", hint="pass patch_um, like or whole")
    else:
        x, y = cells.data["x_um"].to_numpy(), cells.data["y_um"].to_numpy()
        grid = PatchGrid.covering(
            x, y, field_um=cells.metadata.field_um, patch_um=patch_um, thickness_um=thickness, step_um=step_um
        )
    options["section_thickness_um"] = section_thickness_um
    lean = _without_fat(outline, fat)
    maps = summarise_patches(cells, grid, min_tissue=min_tissue, tissue=lean, **options)
    if fat is not None:
        maps.parameters["Extent"] += " without fat vacuoles"
    outlines = recognise_outlines(cells)
    if volume is not None:
        maps = add_volume_maps(maps, cells, lean, volume)
        warnings += () if maps.paper is None else maps.paper.warnings
    else:
        about = {**outlines.record(), "Size": "paper", "SizeWhy": "nothing was measured in 3D"}
        maps = replace(maps, parameters={**maps.parameters, **about}, meanings=outlines.meanings())
    if volume is None and section_thickness_um != USUAL_SECTION_UM and maps.parameters["Section"] != "wicksell":
        warnings += ("--section-thickness-um changes sizes with --section wicksell only; here it did not",)
    rows, more = _rows(
        cells, lean, whole, per, regions_name(sub), {"thickness_um": grid.thickness_um, "volume": volume, **options}
    )
    warnings += more
    classes = summarise_classes(cells, grid, tissue=lean, min_tissue=min_tissue, **options) if by_class else ()
    mask = tissue_mask(cells, outline)
    return SectionMaps(
        maps, mask, extent_of(cells, outline).source, rows, (*warnings, *maps.warnings), classes, outlines.messages()
    )


def _rows(
    cells: CellTable, outline: BaseGeometry | None, whole: bool, per: Per | None, name: str, options: dict[str, Any]
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the rows of the regions, if they are asked for or one patch pools several; and warnings."""
    several = whole and max(len(separate_regions(cells, outline)), len(regions_of(cells, outline))) > 1
    if per is None and not several:  # as one number for two biopsies is of neither
        return [], ()
    rows = summarise_regions(cells, outline, per=per, **options)
    notes = overlap_warning(rows, cells, outline)
    if whole and len(rows) > 1:
        words = {"class": "classes of regions", "core": "TMA cores"}.get(per or "", "separate regions")
        pooled = f"{len(rows)} {words}, {sum(row['nCells'] > 0 for row in rows)} with cells"
        notes = (f"the maps pool {pooled}, in one patch; {name} has the numbers of each", *notes)
    return (rows if per is not None or len(rows) > 1 else []), notes


def _remove_other_classes(folder: Path, sub: str | None, wanted: set[str]) -> None:
    """Remove the maps of classes that an earlier run has made here: they belong to other maps."""
    for path in folder.glob("*_label-*_histomap.nii.gz"):
        entities = parse_map_name(path.name)
        if entities.get("sub") == sub and "label" in entities and path.name not in wanted:
            path.unlink()
            sidecar_path(path).unlink(missing_ok=True)


def _without_fat(outline: BaseGeometry | None, fat: BaseGeometry | None) -> BaseGeometry | None:
    """Return the tissue without the vacuoles in it."""
    if fat is None:
        return outline
    if outline is None:
        raise InputError("fat can be left out of a known tissue only", hint="give its outline, as tissue")
    return shapely.difference(outline, fat)


def _outline(cells: CellTable, tissue: str | BaseGeometry) -> tuple[BaseGeometry | None, tuple[str, ...]]:
    """Return the outline of the tissue if it is known, and warnings."""
    if isinstance(tissue, BaseGeometry):
        return tissue, ()
    if tissue not in ("cells", "field"):
        raise InputError(f"there is no tissue {tissue!r}", hint="take field or cells")
    outline = outline_of(cells) if tissue == "cells" and cells.metadata.roi_wkt is None else None
    caution = "the analysed area is not known, so F and CD are per bounding box of the cells"
    hint = "to say where the tissue is, pass --slide or --tissue cells, or --roi to `histomri cells`"
    return outline, (f"{caution}; {hint}",) if extent_of(cells, outline).source == BOUNDING_BOX else ()


def tissue_of_slide(
    cells: CellTable, slide: Slide | str | Path, name: str = "the table"
) -> tuple[CellTable, BaseGeometry, tuple[str, ...]]:
    """Find the tissue on the slide of a cell table; `name` is that of the table, for messages.

    If the slide states no pixel size, that of the table counts. Returns the same cells, their field now that of the
    slide; the outline of the tissue in µm; and warnings. Raises InputError if no tissue is found, the pixel sizes
    differ, or the cells do not lie on the tissue.
    """
    if not isinstance(slide, Slide):
        stated = cells.metadata.pixel_size_um if cells.metadata.grid == "slide" else None  # a mask has its own pixels
        known = {} if stated is None else {name: stated}
        with open_slide(slide, known_um=known) as opened:
            return tissue_of_slide(cells, opened, name)
    path, of_cells, other_slide = slide.path, cells.metadata.field_um, "give the slide that the cells were found on"
    try:
        field, tissue = slide.field_um, find_tissue(slide).region
    except UnitError as error:
        hint = f"{other_slide}, and its pixel size to `histomri cells`, --mpp"
        raise UnitError(error.problem, path=path, hint=hint) from error
    if tissue.is_empty:
        raise InputError("shows no tissue", path=path, hint="give its outline to `histomri cells`, --roi")
    if of_cells is not None and not np.allclose(field, of_cells, rtol=_SAME_SIZE):
        sizes = [f"of {wide:.0f} x {high:.0f} µm" for wide, high in (field, of_cells)]
        problem = f"is {sizes[0]}, and the slide of the cells {sizes[1]}"
        raise GeometryError(problem, path=path, hint=other_slide)
    shapely.prepare(tissue)
    inside = shapely.contains_xy(tissue, cells.data["x_um"].to_numpy(), cells.data["y_um"].to_numpy())
    fraction = float(inside.mean())
    if fraction < _LEAST_INSIDE:
        problem = f"only {fraction:.0%} of the cells of {name} lie on its tissue"
        raise GeometryError(problem, path=path, hint=f"{other_slide}; if it is, outline the tissue in QuPath (--roi)")
    off = f"{1 - fraction:.0%} of the cells lie off the tissue that was found on {path.name}"
    warning = f"{off}, so F and CD are too high at its rim; look at the tissue mask"
    cells = CellTable(cells.data, replace(cells.metadata, field_um=field), cells.outlines)
    return cells, tissue, (warning,) if fraction < _USUALLY_INSIDE else ()


def voxel_size_um(image: str | Path | Image) -> tuple[float, float, float]:
    """Return the voxel size of an MRI in µm, (i, j, k); GeometryError if it is no length in millimetres."""
    affine = image.affine if isinstance(image, Image) else np.asarray(open_nifti(image).affine, dtype=float)
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not (np.isfinite(sizes).all() and sizes.min() >= _VOXEL_MM[0] and sizes.max() <= _VOXEL_MM[1]):
        problem = f"its voxels are {' x '.join(f'{size:g}' for size in sizes)} mm, which no MRI has"
        hint = "mend its header, or pass --patch-um"
        raise GeometryError(problem, path=None if isinstance(image, Image) else image, hint=hint)
    return float(1000 * sizes[0]), float(1000 * sizes[1]), float(1000 * sizes[2])


def tissue_mask_name(sub: str | None) -> str:
    """Return the file name of the tissue mask."""
    return (f"sub-{sub}_" if sub else "") + "desc-tissue_mask.nii.gz"


def regions_name(sub: str | None) -> str:
    """Return the file name of the table of regions."""
    return (f"sub-{sub}_" if sub else "") + "rois.csv"


def _median(values: Any) -> float | None:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else None
