"""Steatosis of one slide: fat vacuoles by size class, their fraction of the tissue, a map and a picture to check."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from shapely.geometry.base import BaseGeometry

from histomri.core.calibration import PixelSize
from histomri.core.display import Displayed
from histomri.core.files import atomic_path, provenance, write_json
from histomri.core.formulas import without_formulas
from histomri.core.images import Image, write_map
from histomri.core.progress import Progress
from histomri.patches.grid import PatchGrid
from histomri.slides import Raster, Slide, Tissue, find_tissue, open_slide
from histomri.slides.options import EDGES_UM, EMPTY_OD, ROUNDNESS
from histomri.slides.pictures import draw_fat
from histomri.slides.stains import analysed_pixels, ratio
from histomri.slides.vacuoles import Vacuoles, find_vacuoles

_DOTS_PER_INCH = 130
_OVERVIEW_PX, _CELL_UM, _DETAIL_UM = 900, 100.0, 400.0
_MEANING = "Area of round holes of these sizes / area of tissue; holes count as tissue"


@dataclass(frozen=True, repr=False)
class Fat(Displayed):
    """Fat vacuoles of one slide."""

    vacuoles: Vacuoles
    rows: list[dict[str, Any]]  # a row per size class, and one for all
    content: dict[str, Any]  # all numbers, for the JSON file
    figure: Figure
    map: Image | None = None  # fraction of the tissue that is fat, patch by patch
    messages: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return the facts that `repr` shows."""
        return {"fat fraction": f"{self.vacuoles.fraction:.2%}", "vacuoles": f"{self.vacuoles.x_um.size:,}"}

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per size class, and one for all."""
        return pd.DataFrame(self.rows)

    def plot(self) -> Figure:
        """Return the picture of what was counted."""
        return self.figure

    def save(
        self, folder: str | Path, sub: str | None = None, *, sources: Iterable[str | Path] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> list[Path]:  # fmt: skip
        """Write fat.json, fat.csv (size classes), fat_vacuoles.parquet, fat.png, and the map if there is one."""
        folder, sources, settings = Path(folder), tuple(sources), dict(settings or {})
        written: list[Path] = []
        if self.map is not None:
            path = folder / ((f"sub-{sub}_" if sub else "") + "param-fatFraction_histomap.nii.gz")
            about = {"Units": "1", "Description": _MEANING}
            written = write_map(path, self.map.data, self.map.affine, sources=sources, parameters=settings, **about)
        record, table, each, picture = (
            folder / name for name in ("fat.json", "fat.csv", "fat_vacuoles.parquet", "fat.png")
        )
        with atomic_path(picture) as temporary:
            self.figure.savefig(temporary, format="png", dpi=_DOTS_PER_INCH)
        with atomic_path(table) as temporary:
            without_formulas(self.to_pandas()).to_csv(temporary, index=False, lineterminator="\n")
        with atomic_path(each) as temporary:
            vacuole_table(self.vacuoles).to_parquet(temporary, index=False)
        content = {"fat": self.content, "warnings": list(self.warnings), **provenance(sources, settings)}
        return [write_json(record, content), table, each, picture, *written]


def vacuole_table(vacuoles: Vacuoles) -> pd.DataFrame:
    """Return a row per vacuole: centroid, area, diameter, roundness, number of the size class."""
    return pd.DataFrame(
        {
            "x_um": vacuoles.x_um, "y_um": vacuoles.y_um, "area_um2": vacuoles.area_um2,
            "diameter_um": vacuoles.diameter_um, "roundness": vacuoles.roundness, "size_class": vacuoles.size_class,
        }
    )  # fmt: skip


def measure_fat(
    slide: Slide, *, region: BaseGeometry | None = None, edges_um: tuple[float, ...] = EDGES_UM,
    empty_od: float = EMPTY_OD, roundness: float = ROUNDNESS, map_um: float | None = None,
    progress: Progress | None = None,
) -> Fat:  # fmt: skip
    """Count the fat vacuoles in the tissue of a slide by size class.

    Parameters
    ----------
    slide : Slide
        Bright-field, such as H&E.
    region, edges_um, empty_od, roundness
        As in `histomri.slides.vacuoles.find_vacuoles`.
    map_um, progress : float, optional; callable, optional
        Patch size of a map; called with the fraction done.
    """
    tissue = find_tissue(slide)
    found = find_vacuoles(
        slide, tissue, region=region, edges_um=edges_um, empty_od=empty_od, roundness=roundness, progress=progress
    )
    rows = _rows(found)
    not_fat = {
        "n_not_round": found.n_not_round, "area_not_round_mm2": found.not_round_um2 / 1e6,
        "area_too_large_mm2": found.too_large_um2 / 1e6,
    }  # fmt: skip
    content = {
        "Description": _MEANING, "fat_fraction": found.fraction, "n_vacuoles": int(found.x_um.size),
        "tissue_area_mm2": found.tissue_um2 / 1e6, "classes": rows, "not_fat": not_fat, "edges_um": found.edges_um,
        "empty_od": empty_od, "least_roundness": roundness, "pixel_um": found.um_per_px,
        "background_rgb": found.background_rgb, "background_from": found.background_from,
    }  # fmt: skip
    shares = ", ".join(f"{row['size_class']} µm: {row['n']:,}" for row in rows[:-1])
    colour = ", ".join(f"{value:.0f}" for value in found.background_rgb)
    mm2, odd, large = (each / 1e6 for each in (found.tissue_um2, found.not_round_um2, found.too_large_um2))
    lines = (
        f"fat {found.fraction:.2%} of {mm2:.3g} mm² of tissue: {found.x_um.size:,} vacuoles ({shares})",
        f"not fat: {found.n_not_round:,} holes of these sizes that are not round ({odd:.3g} mm²), {large:.3g} mm² of "
        "larger ones (vessels, ducts, tears)",
        f"empty below an optical density of {empty_od:g}; background {colour} ({found.background_from})",
    )
    warnings: tuple[str, ...] = ()
    if "no glass" in found.background_from:
        warnings = ("the slide shows no glass, so its background was guessed from its brightest pixels",)
    figure = _picture(slide, tissue, found, region, f"{slide.path.name}: fat {found.fraction:.2%} of the tissue")
    image = None if map_um is None else fat_map(found, tissue, region, slide.field_um, map_um)
    return Fat(found, rows, content, figure, image, lines, warnings)


def fat_of_slide(
    path: str | Path, known_um: PixelSize | None = None
) -> tuple[BaseGeometry, tuple[str, ...]]:  # fmt: skip
    """Return the fat vacuoles of a slide as polygons (µm), to be left out of the tissue, and a line about them.

    If the slide states no pixel size, `known_um` counts.
    """
    with open_slide(path, known_um={} if known_um is None else {"the cells": known_um}) as slide:
        found = find_vacuoles(slide, find_tissue(slide))
    sizes = f"{found.edges_um[0]:g} to {found.edges_um[-1]:g} µm"
    line = f"left out of the tissue: {found.x_um.size:,} fat vacuoles of {sizes}, {found.fraction:.2%} of it"
    return found.region(), (line,)


def fat_map(
    found: Vacuoles, tissue: Tissue, region: BaseGeometry | None, field_um: tuple[float, float], patch_um: float
) -> Image:
    """Return the area of vacuoles per area of tissue in patches; a vacuole counts where its centroid lies."""
    grid = PatchGrid.covering(np.array([0.0]), np.array([0.0]), field_um=field_um, patch_um=patch_um)
    size = grid.shape[0] * grid.shape[1]
    row, column, inside = grid.index(found.x_um, found.y_um)
    fat = np.bincount((row * grid.shape[1] + column)[inside], found.area_um2[inside], size)
    across, down = tissue.um_per_px
    x, y = (np.arange(tissue.mask.shape[1]) + 0.5) * across, (np.arange(tissue.mask.shape[0]) + 0.5) * down
    counted = analysed_pixels(x, y, tissue, None if region is None else Raster(region))
    rows, columns = np.nonzero(counted)
    row, column, inside = grid.index(x[columns], y[rows])
    area = np.bincount((row * grid.shape[1] + column)[inside], minlength=size) * (across * down)
    return Image(np.minimum(ratio(fat, area), 1.0).reshape(grid.shape), grid.affine)  # type: ignore[arg-type]


def _rows(found: Vacuoles) -> list[dict[str, Any]]:
    edges, n_classes = found.edges_um, len(found.edges_um) - 1
    count = np.bincount(found.size_class, minlength=n_classes)
    area = np.bincount(found.size_class, found.area_um2, n_classes)
    names = [f"{low:g}-{high:g}" for low, high in pairwise(edges)]
    tissue = float(found.tissue_um2)
    classes = [
        _row(name, low, high, n, um2, tissue)
        for name, low, high, n, um2 in zip(names, edges, edges[1:], count.tolist(), area.tolist())
    ]
    return [*classes, _row("all", edges[0], edges[-1], int(count.sum()), float(area.sum()), tissue)]


def _row(name: str, low: float, high: float, n: int, area: float, tissue: float) -> dict[str, Any]:
    return {
        "size_class": name, "diameter_low_um": low, "diameter_high_um": high, "n": n, "area_um2": area,
        "fat_fraction": area / tissue, "n_per_mm2": n / (tissue / 1e6),
    }  # fmt: skip


def _picture(slide: Slide, tissue: Tissue, found: Vacuoles, region: BaseGeometry | None, title: str) -> Figure:
    """Draw where fat is, and the part with the most of it hole by hole."""
    field_um = slide.field_um
    fraction = fat_map(found, tissue, region, field_um, _CELL_UM).data
    at = np.unravel_index(int(np.argmax(np.nan_to_num(fraction, nan=-1.0))), fraction.shape)
    view = slide.at(found.um_per_px[0])
    size = [min(max(round(_DETAIL_UM / pixel), 1), n) for pixel, n in zip(view.um_per_px, view.size_px)]
    middle = ((at[1] + 0.5) * _CELL_UM / view.um_per_px[0], (at[0] + 0.5) * _CELL_UM / view.um_per_px[1])
    corner = [int(np.clip(round(c - n / 2), 0, total - n)) for c, n, total in zip(middle, size, view.size_px)]
    (left, top), (wide, high) = ([n * um for n, um in zip(pair, view.um_per_px)] for pair in (corner, size))
    return draw_fat(
        slide.thumbnail(max(field_um) / _OVERVIEW_PX), fraction, view.read(*corner, *size), found, title=title,
        field_um=field_um, grid_um=(fraction.shape[1] * _CELL_UM, fraction.shape[0] * _CELL_UM),
        detail_um=(left, top, left + wide, top + high),
        outlines=tuple(shape for shape in (tissue.region, region) if shape is not None),
    )  # fmt: skip
