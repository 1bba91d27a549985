"""A contact sheet: random cells with their outlines on the slide, for a person to approve before all else."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from histomri.cells import CellTable
from histomri.cells.labels import label_blocks
from histomri.core.arrays import FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.core.files import atomic_path
from histomri.patches.ki67_cells import is_mask, refuse_other_field
from histomri.report.pictures import data_uri
from histomri.slides import Slide, open_slide
from histomri.slides.slide import RGB, View

N_CELLS = 48
_COLUMNS = 8
_TILE_PX, _GAP_PX, _HEAD_PX, _FOOT_PX = 150, 4, 30, 44
_LEAST_UM, _MOST_UM = 20.0, 150.0
_DIAMETERS = 3.0  # so much of the surroundings is shown
_LEAST_INSIDE = 0.5
_LEAST_T = 3.0  # below it, chance alone explains the contrast
_CHOSEN, _OTHER, _BAR = (255, 221, 0), (0, 170, 255), (0, 0, 0)
_ROUND_UM = (1, 2, 5, 10, 20, 50)


@dataclass(frozen=True)
class ContactSheet:
    """The picture, and what it shows."""

    picture: RGB  # (h, w, 3)
    rows: IntArray  # (n,): rows of the cell table, from the smallest cell to the largest
    outlines: str  # what is drawn: "outlines", "masks" or "circles"
    messages: tuple[str, ...]
    warnings: tuple[str, ...]

    def save(self, path: str | Path) -> Path:
        """Write the picture as PNG."""
        path = Path(path)
        with atomic_path(path) as temporary:
            Picture.fromarray(self.picture).save(temporary, format="PNG", optimize=True)
        return path


def contact_sheet(
    cells: CellTable, slide: Slide | str | Path, *, mask: str | Path | None = None, n_cells: int = N_CELLS,
    seed: int = 0,
) -> ContactSheet:  # fmt: skip
    """Draw random cells on the slide that they were found on.

    Parameters
    ----------
    cells : CellTable
        With outlines, or without: then circles of the measured area stand for them.
    slide : Slide or path
        If it states no pixel size, that of the cells counts.
    mask : path, optional
        Mask of numbered cells from which `cells` was read, whose edges are drawn.
    n_cells, seed : int
        Number of cells, drawn without replacement; the same seed gives the same cells.

    Raises
    ------
    InputError
        If the slide is of another field than the cells.
    """
    if not isinstance(slide, Slide):
        # A mask has pixels of its own, so its pixel size says nothing about the slide's.
        pixel = cells.metadata.pixel_size_um if mask is None else None
        with open_slide(slide, known_um={} if pixel is None else {"the cells": pixel}) as opened:
            return contact_sheet(cells, opened, mask=mask, n_cells=n_cells, seed=seed)
    rows = _choose(cells, slide, n_cells, seed)
    diameter = cells.data["diameter_um"].to_numpy()
    edge_um = float(np.clip(_DIAMETERS * np.quantile(diameter[rows], 0.9), _LEAST_UM, _MOST_UM))
    view = slide.at(edge_um / _TILE_PX)
    centres = cells.data[["x_um", "y_um"]].to_numpy()[rows]
    pictures = [_tile(view, centre, edge_um) for centre in centres]
    doubts = _doubts(cells, slide, pictures, diameter[rows] * (_TILE_PX / edge_um))
    tiles = [Picture.fromarray(picture) for picture in pictures]
    if mask is not None:
        labels = _windows(Path(mask), centres, edge_um, cells.metadata.pixel_size_um or (1.0, 1.0))
        tiles = [_with_edges(tile, label, _own(cells, row)) for tile, label, row in zip(tiles, labels, rows)]
        drawn = "masks"
    else:
        drawn = "circles" if cells.outlines is None else "outlines"
        for tile, row, centre in zip(tiles, rows, centres):
            _draw_cells(tile, cells, int(row), centre, edge_um)
    note = {
        "masks": "edges of the mask", "outlines": "outlines as detected",
        "circles": "CIRCLES of the measured area, as the table holds no outlines",
    }[drawn]  # fmt: skip
    kind = "cells" if cells.metadata.compartment == "cell" else "nuclei"
    title = f"{slide.path.name}: {rows.size} of {len(cells):,} {kind}, at random (seed {seed}), by size; {note}"
    warnings = () if drawn != "circles" else ("the contact sheet shows circles of the measured area, not outlines",)
    picture = _compose(tiles, title, centres, edge_um)
    return ContactSheet(picture, rows, drawn, (f"contact sheet: {title}",), (*doubts, *warnings))


def _doubts(cells: CellTable, slide: Slide, pictures: list[RGB], diameter_px: FloatArray) -> tuple[str, ...]:
    """Warn if names or grey values say that the cells were found on another slide."""
    doubts, name = [], stem_of(cells.metadata.image)
    ours = stem_of(slide.path.name)
    if name and not (name.startswith(ours) or ours.startswith(name)):
        doubts.append(f"the cells are of the image {cells.metadata.image}, and the slide is {slide.path.name}")
    y, x = np.mgrid[:_TILE_PX, :_TILE_PX] + 0.5 - _TILE_PX / 2
    dark = -np.log10(np.maximum(np.stack(pictures), 1).astype(np.float32) / 255).mean(axis=3)
    # The middle of the cell, where its nucleus is, against all that is around.
    middle = np.hypot(x, y) <= np.maximum(diameter_px, 4)[:, None, None] / 4
    weight = middle.sum(axis=(1, 2))
    contrast = (dark * middle).sum(axis=(1, 2)) / weight - dark.mean(axis=(1, 2))
    if contrast.size > 5 and abs(contrast.mean()) < _LEAST_T * contrast.std(ddof=1) / np.sqrt(contrast.size):
        text = "the cells are neither darker nor brighter than what is around them: is it another slide, or a shift?"
        doubts.append(f"{text} Look at the contact sheet")
    return tuple(doubts)


def stem_of(name: str) -> str:
    """Return the name of an image without its endings, to compare names that programs write differently."""
    return name.lower().split(".")[0].strip()


def embedded_sheet(path: Path, name: str = "contact sheet") -> str | None:
    """Return a contact sheet as a data URI for the report, as JPEG, a tenth of the size; None if there is none.

    `name` says what other picture it is, for the error if the file is damaged.
    """
    if not path.is_file():
        return None
    file = io.BytesIO()
    try:
        with Picture.open(path) as picture:
            picture.convert("RGB").save(file, format="JPEG", quality=85)
    except OSError as error:
        raise InputError(f"the {name} cannot be read", path=path, hint="run the study again") from error
    return data_uri("image/jpeg", file.getvalue())


def sheet_path(table: Path) -> Path:
    """Return where the contact sheet of a cell table lies: beside it."""
    return table.with_name(f"{table.stem}_check.png")


def mask_of(exports: tuple[Path, ...]) -> Path | None:
    """Return the mask of numbered cells among the exports of one slide, if there is just that."""
    return exports[0] if len(exports) == 1 and is_mask(exports[0]) else None


def _choose(cells: CellTable, slide: Slide, n_cells: int, seed: int) -> IntArray:
    """Return the rows to show, by size, or refuse a slide of another field."""
    refuse_other_field(Path(cells.metadata.image or "the cells"), cells.metadata.field_um, slide)
    x, y = cells.data["x_um"].to_numpy(), cells.data["y_um"].to_numpy()
    wide, high = slide.field_um
    inside = np.flatnonzero((x >= 0) & (y >= 0) & (x < wide) & (y < high))
    if inside.size < max(_LEAST_INSIDE * len(cells), 1):
        problem = (
            f"is {wide:.0f} x {high:.0f} µm, and only {inside.size / max(len(cells), 1):.0%} of the cells lie on it"
        )
        raise InputError(problem, path=slide.path, hint="give the slide that the cells were found on, and check --mpp")
    chosen = np.random.default_rng(seed).choice(inside, min(n_cells, inside.size), replace=False)
    return np.asarray(chosen[np.argsort(cells.data["diameter_um"].to_numpy()[chosen], kind="stable")])


def _tile(view: View, centre_um: FloatArray, edge_um: float) -> RGB:
    """Return the surroundings of a point as a square picture; what lies beside the slide is white."""
    um, size = np.asarray(view.um_per_px), np.asarray(view.size_px)
    n = np.maximum(np.round(edge_um / um).astype(int), 1)
    low = np.round(centre_um / um - n / 2).astype(int)
    out = np.full((n[1], n[0], 3), 255, np.uint8)
    start, stop = np.clip(low, 0, size), np.clip(low + n, 0, size)
    if (stop > start).all():
        part = view.read(int(start[0]), int(start[1]), int(stop[0] - start[0]), int(stop[1] - start[1]))
        at = start - low
        out[at[1] : at[1] + part.shape[0], at[0] : at[0] + part.shape[1]] = part
    return np.asarray(Picture.fromarray(out).resize((_TILE_PX, _TILE_PX), Picture.Resampling.BICUBIC))


def _draw_cells(tile: Picture.Image, cells: CellTable, row: int, centre: FloatArray, edge_um: float) -> None:
    """Draw the outlines of the cells of a tile, the chosen one last and in another colour."""
    x, y, size = (cells.data[name].to_numpy() for name in ("x_um", "y_um", "diameter_um"))
    reach = edge_um / 2 + size / 2
    near = np.flatnonzero((abs(x - centre[0]) < reach) & (abs(y - centre[1]) < reach))
    pen = ImageDraw.Draw(tile)
    for each in [*near[near != row], row]:
        if cells.outlines is None:
            shape = shapely.Point(x[each], y[each]).buffer(size[each] / 2, quad_segs=12)
        else:
            shape = cells.outlines[each]
        for ring in shapely.get_rings(shapely.get_parts(shape)):
            points = (shapely.get_coordinates(ring) - centre + edge_um / 2) * (_TILE_PX / edge_um)
            pen.line(list(map(tuple, points)), fill=_CHOSEN if each == row else _OTHER, width=2 if each == row else 1)


def _own(cells: CellTable, row: int) -> int:
    return int(cells.data["object_id"].iloc[int(row)])


def _windows(
    mask: Path, centres: FloatArray, edge_um: float, pixel_um: tuple[float, float]
) -> NDArray[np.int64]:  # (n, tile, tile)
    """Return the numbers of the mask at the pixels of each tile, read in one pass over the mask."""
    offset = ((np.arange(_TILE_PX) + 0.5) / _TILE_PX - 0.5) * edge_um
    columns = np.floor((centres[:, :1] + offset) / pixel_um[0]).astype(np.int64)
    rows = np.floor((centres[:, 1:] + offset) / pixel_um[1]).astype(np.int64)
    out = np.zeros((len(centres), _TILE_PX, _TILE_PX), np.int64)
    for labels, left, top in label_blocks(mask):
        high, wide = labels.shape
        for window, column, row in zip(out, columns - left, rows - top):
            across, down = (column >= 0) & (column < wide), (row >= 0) & (row < high)
            if across.any() and down.any():
                window[np.ix_(down, across)] = labels[np.ix_(row[down], column[across])]
    return out


def _with_edges(tile: Picture.Image, labels: NDArray[np.int64], own: int) -> Picture.Image:
    """Paint the edges of the cells of a tile."""
    picture = np.array(tile)
    padded = np.pad(labels, 1, mode="edge")
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    edge = (labels > 0) & np.logical_or.reduce([labels != other for other in around])
    picture[edge] = _OTHER
    picture[edge & (labels == own)] = _CHOSEN
    return Picture.fromarray(picture)


def _compose(tiles: list[Picture.Image], title: str, centres: FloatArray, edge_um: float) -> RGB:
    """Lay the tiles out with a title, their places, and a scale bar."""
    columns, rows = min(_COLUMNS, len(tiles)), -(-len(tiles) // _COLUMNS)
    wide = max(columns * (_TILE_PX + _GAP_PX) + _GAP_PX, 700)
    high = _HEAD_PX + rows * (_TILE_PX + _GAP_PX) + _FOOT_PX
    sheet = Picture.new("RGB", (wide, high), "white")
    pen, small, large = ImageDraw.Draw(sheet), _font(11), _font(14)
    pen.text((_GAP_PX + 2, 6), title, fill="black", font=_fitting(pen, title, wide - 2 * _GAP_PX))
    for number, (tile, (x, y)) in enumerate(zip(tiles, centres)):
        corner = _GAP_PX + number % columns * (_TILE_PX + _GAP_PX), _HEAD_PX + number // columns * (_TILE_PX + _GAP_PX)
        sheet.paste(tile, corner)
        at = corner[0] + 3, corner[1] + _TILE_PX - 16
        pen.text(at, f"{x:.0f}, {y:.0f}", fill="black", font=small, stroke_width=2, stroke_fill="white")
    bar_um = max(length for length in _ROUND_UM if length <= edge_um / 2)
    length, top = bar_um * _TILE_PX / edge_um, high - _FOOT_PX + 14
    pen.rectangle([_GAP_PX, top, _GAP_PX + length, top + 6], fill=_BAR)
    legend = f"{bar_um} µm    yellow: the cell; blue: its neighbours; numbers: x, y of its centroid, µm"
    pen.text((_GAP_PX + length + 10, top - 6), legend, fill="black", font=large)
    return np.asarray(sheet)


def _font(size: int) -> Any:
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _fitting(pen: ImageDraw.ImageDraw, text: str, width: int) -> Any:
    """Return the largest font in which a title fits."""
    fonts = [_font(size) for size in (15, 13, 11, 9)]
    return next((font for font in fonts if pen.textlength(text, font=font) <= width), fonts[-1])
