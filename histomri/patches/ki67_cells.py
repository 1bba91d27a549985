"""Ki-67 of cells that nobody classified: DAB is measured in each outline or mask on the slide."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from histomri.cells import CellTable, load_cells, read_regions
from histomri.cells.labels import label_blocks, mask_size
from histomri.cells.sniff import is_picture, read_head
from histomri.cells.table import is_cell_table
from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError, UnitError
from histomri.patches.ki67 import Ki67, measure_labelling
from histomri.patches.ki67_slide import choose_stains
from histomri.slides import Slide, Stains, find_tissue
from histomri.slides.cell_stain import CellStain, stain_of_labels, stain_of_outlines

_SAME_FIELD = 0.01
_LEAST_ON_TISSUE = 0.5
_USUAL_UM = 0.5  # QuPath's own resolution of cell detection
_COARSEST_UM = 2.0
_SUM = "Positive: mean DAB of the cell at or above the threshold"


def measure_stained_cells(
    cells: str | Path, slide: Slide, *, stains: Stains | str | None = None, background: ArrayLike | None = None,
    threshold: float = 0.2, um_per_px: float | None = None, roi: str | Path | None = None,
    classes: tuple[str, ...] | None = None, image: str | None = None, **options: Any,
) -> Ki67:  # fmt: skip
    """Measure the Ki-67 labelling index of cells by the DAB in each, as QuPath's positive cell detection does.

    Parameters
    ----------
    cells : path
        Mask of numbered cells (TIFF, PNG), GeoJSON with outlines, or a table that holds outlines.
    slide : Slide
        Bright-field, on which the cells were found. A mask without a pixel size covers all of it.
    stains, background
        As in `measure_stained_area`.
    threshold, um_per_px : float
        Mean optical density of DAB from which a cell is positive; resolution of the pixels, 0.5 µm if left out.
    roi, classes, image
        As in `histomri.cells.load_cells`.
    **options
        `window_um`, `min_cells`, `map_um` and `title` of `measure_labelling`.

    Raises
    ------
    InputError
        If the cells have no outlines, or are of another field than the slide.
    """
    um_per_px = _USUAL_UM if um_per_px is None else um_per_px
    if um_per_px > _COARSEST_UM:
        hint = f"pass --um-per-px of {_COARSEST_UM:g} or less; {_USUAL_UM:g} is usual"
        raise InputError(f"pixels of {um_per_px:g} µm are too coarse to measure a nucleus", hint=hint)
    path = Path(cells)
    table, warnings = outlined_cells(path, slide, roi=roi, classes=classes, image=image)
    tissue = find_tissue(slide)
    on_tissue = _fraction_on(tissue.mask, tissue.um_per_px, table)
    if on_tissue < _LEAST_ON_TISSUE:
        problem = f"only {on_tissue:.0%} of the cells of {path.name} lie on its tissue"
        raise InputError(problem, path=slide.path, hint="give the slide that the cells were found on")
    used, background_from, doubtful = choose_stains(slide, tissue, stains, background, um_per_px, None)
    view = slide.at(um_per_px)
    found = _stain(path, table, view, used)
    known = found.n_pixels > 0
    if not known.any():
        raise InputError("none of its cells covers a pixel of the slide", path=path, hint="check --um-per-px and --mpp")
    table, od = _with_stains(table, found, known, used, threshold)
    result = measure_labelling(table, **options)
    measured = {
        "rule": _SUM, "stain": used.names[used.dab], "threshold_od": threshold, "pixel_um": view.um_per_px,
        "outlines": table.metadata.compartment, "n_not_measured": int(np.count_nonzero(~known)),
        "median_od": float(np.median(od)), "stains": {"names": used.names, "vectors": used.vectors,
        "source": used.source}, "background_rgb": used.background_rgb, "background_from": background_from,
    }  # fmt: skip
    colour = ", ".join(f"{value:.0f}" for value in np.asarray(used.background_rgb))
    kind, lost = table.metadata.compartment, int(np.count_nonzero(~known))
    how = f"positive from a mean DAB of {threshold:g} in each {kind}, at {view.um_per_px[0]:.3g} µm per pixel"
    lines = (
        f"{how}; {lost:,} cells without a pixel of their own were left out",
        f"stains: {used.source}; background {colour} ({background_from})",
    )
    return replace(
        result, content={**result.content, "measured_on_the_slide": measured}, cells=table,
        messages=(*result.messages, *lines), warnings=(*warnings, *doubtful, *_doubts(table), *result.warnings),
        settings={**result.settings, "Threshold": threshold, "UmPerPx": um_per_px},
    )  # fmt: skip


def outlined_cells(
    path: Path, slide: Slide, *, roi: str | Path | None = None, classes: tuple[str, ...] | None = None,
    image: str | None = None,
) -> tuple[CellTable, tuple[str, ...]]:  # fmt: skip
    """Read cells and their outlines in µm of a slide; a mask has none, but is checked to be of the slide's field."""
    options: dict[str, Any] = {"classes": classes, "image": image}
    if is_mask(path):
        pixel, notes = _mask_pixel(path, slide)
        table, warnings = load_cells(path, mpp=pixel, **options)
        if roi is not None:  # in pixels of the slide, as QuPath writes it
            table = table.select(region=read_regions(roi, slide.pixel_size_um))
        return table, (*notes, *warnings)
    if is_cell_table(path):
        table, warnings = load_cells(path, roi=roi, geometries=True, **options)
    else:
        table, warnings = load_cells(path, roi=roi, mpp=slide.pixel_size_um, geometries=True, **options)
    if table.outlines is None:
        hint = "make it from GeoJSON with `histomri cells --geometries`, or give the GeoJSON or the mask itself"
        raise InputError("holds no outlines of cells to measure stain in", path=path, hint=hint)
    refuse_other_field(path, table.metadata.field_um, slide)
    return table, warnings


def is_mask(path: Path) -> bool:
    """Whether a file is a picture, and so a mask of numbered cells."""
    return not is_cell_table(path) and path.suffix.lower() != ".qpproj" and is_picture(read_head(path))


def refuse_other_field(path: Path, field_um: tuple[float, float] | None, slide: Slide) -> None:
    """Raise InputError if cells are known to be of a field of another size than the slide's."""
    if field_um is None or np.allclose(field_um, slide.field_um, rtol=_SAME_FIELD):
        return
    sizes = [f"{wide:.0f} x {high:.0f} µm" for wide, high in (slide.field_um, field_um)]
    problem = f"is {sizes[0]}, and the field of {path.name} is {sizes[1]}"
    raise InputError(problem, path=slide.path, hint="give the slide that the cells were found on")


def _mask_pixel(path: Path, slide: Slide) -> tuple[tuple[float, float], tuple[str, ...]]:
    """Return the pixel size of a mask: its own, else that with which it covers the slide."""
    size = mask_size(path)
    covering = slide.field_um[0] / size[0], slide.field_um[1] / size[1]
    try:
        own = load_cells(path)[0].metadata.pixel_size_um
    except UnitError:
        own = None
    if own is not None:
        refuse_other_field(path, (own[0] * size[0], own[1] * size[1]), slide)
        return own, ()
    if abs(covering[0] / covering[1] - 1) > _SAME_FIELD:
        problem = f"is {size[0]} x {size[1]} px, which is not the shape of the slide {slide.path.name}"
        raise InputError(problem, path=path, hint="give a mask of the whole slide, or one that states its pixel size")
    note = f"{path.name} states no pixel size; it was taken to cover the slide, so {covering[0]:.4g} µm per pixel"
    return covering, (note,)


def _stain(path: Path, table: CellTable, view: Any, stains: Stains) -> CellStain:
    if table.outlines is not None:
        return stain_of_outlines(view, stains, table.outlines)
    labels = table.data["object_id"].astype(str).to_numpy().astype(np.int64)
    pixel = table.metadata.pixel_size_um
    assert pixel is not None  # it was settled when the mask was read
    found = stain_of_labels(view, stains, label_blocks(path), pixel, int(labels.max()) + 1)
    return CellStain(found.od_mean[labels], found.n_pixels[labels])


def _with_stains(
    table: CellTable, found: CellStain, known: Any, stains: Stains, threshold: float
) -> tuple[CellTable, FloatArray]:
    """Return the measured cells, classified, with a column per stain, and their DAB."""
    od = found.od_mean[known]
    dab = od[:, stains.dab]
    columns: dict[str, Any] = {
        f"{name.lower().replace(' ', '_')}_od_mean": od[:, number] for number, name in enumerate(stains.names[:2])
    }
    kinds = pd.Categorical(np.where(dab >= threshold, "Positive", "Negative"))
    data = table.data[known].reset_index(drop=True)
    data = data.assign(class_before=data["classification"].astype(str), classification=kinds, **columns)
    outlines = None if table.outlines is None else table.outlines[known]
    lost = int(np.count_nonzero(~known))
    dropped = {**table.metadata.dropped, **({"without a pixel on the slide": lost} if lost else {})}
    return CellTable(data, replace(table.metadata, n_kept=len(data), dropped=dropped), outlines), dab


def _fraction_on(mask: Any, um_per_px: tuple[float, float], table: CellTable) -> float:
    x, y = (table.data[name].to_numpy() for name in ("x_um", "y_um"))
    column, row = (x / um_per_px[0]).astype(np.intp), (y / um_per_px[1]).astype(np.intp)
    inside = (column >= 0) & (row >= 0) & (column < mask.shape[1]) & (row < mask.shape[0])
    return float(np.count_nonzero(mask[row[inside], column[inside]]) / max(len(table), 1))


def _doubts(table: CellTable) -> tuple[str, ...]:
    if table.metadata.compartment != "cell":
        return ()
    effect = "Ki-67 stains the nucleus, so cytoplasm dilutes its mean and the index comes out low"
    return (f"DAB was averaged over whole cells: {effect}; give the outlines of nuclei if you can",)
