"""The stage `ki67`: classified cells in, the labelling index out; or a slide in, the stained area fraction out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely

from histomri.cells import CellTable, read_cells, read_regions
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, read_json, require_file, write_json
from histomri.core.images import write_map
from histomri.patches import PatchGrid
from histomri.slides import HotSpot, hot_spot, is_positive, labelling_index, settle_pixel_size
from histomri.slides.calibration import check_pixel_size
from histomri.slides.stained import shares
from histomri.study.result import StepResult
from histomri.study.stages.ki67_counts import RECOMMENDED_CELLS, Counted, Ki67Options, Row, row_of

_SLIDE_ENDINGS = (".svs", ".ndpi", ".tif", ".tiff", ".scn", ".mrxs", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi")
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
_MAP_OF = {"labelling_index": "labellingIndex", "stained_area_fraction": "stainedFraction"}
_FOR_CELLS = {name: f"--{name.replace('_', '-')}" for name in ("classes", "image", "window_um", "min_cells")}
_FOR_SLIDES = {
    "stains": "--stains",
    "background": "--background",
    "trust_mpp": "--trust-mpp",
    "threshold": "--threshold",
    "um_per_px": "--um-per-px",
    "tissue": "--no-tissue",
}
_INDEX = (
    "Positive cells / (positive + negative cells), as QuPath's Positive % (Positive, 1+, 2+, 3+). NOT to be compared "
    "with a stained area fraction."
)


def run_ki67(
    source: Path,
    out: Path,
    *,
    options: Ki67Options | None = None,
    sub: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> StepResult:
    """Measure Ki-67 on classified cells or on a slide; write ki67.json, ki67.csv, ki67.png, and a map on request.

    Parameters
    ----------
    source : Path
        A QuPath export or cells.parquet with classes Positive and Negative, which gives the labelling index; or a
        slide, which gives the stained area fraction. The two are different quantities, and never both are written.
    out : Path
        Folder for the results.
    options : Ki67Options, optional
    sub : str, optional
        Label of the sample, for the name of the map.
    progress : callable, optional
        Called with the fraction done.

    Raises
    ------
    InputError
        If the input cannot be used; nothing is written then.
    """
    source, out, options = Path(source), Path(out), options or Ki67Options()
    if out.is_file():
        raise InputError("is a file, and the results need a folder", path=out)
    if options.map_um is not None and not (np.isfinite(options.map_um) and options.map_um > 0):
        raise InputError(f"patches of {options.map_um} µm are not possible", hint="give a positive --map-um")
    if is_slide(require_file(source, "slide or cell table")):
        from histomri.study.stages.ki67_slide import count_slide

        _refuse(source, "a slide", options, _FOR_CELLS)
        _refuse_other_kind(out, "stained_area_fraction")
        counted = count_slide(source, options, progress)
    else:
        _refuse_picture(source)
        _refuse(source, "a cell table", options, _FOR_SLIDES)
        _refuse_other_kind(out, "labelling_index")
        counted = count_cells(source, options)
    return _write(counted, source, out, options, sub)


def is_slide(path: Path) -> bool:
    """Tell a slide from a cell table, by its first bytes or else its name."""
    with path.open("rb") as stream:
        start = stream.read(4)
    if start == b"PAR1":
        return False
    return start in _TIFF_STARTS or path.name.lower().endswith(_SLIDE_ENDINGS)


def count_cells(path: Path, options: Ki67Options) -> Counted:
    """Return the labelling index of a cell table."""
    from histomri.slides.pictures import draw_cells

    table, region, warnings = _load(path, options)
    positive, negative, counts = is_positive(table.data["classification"])
    if not (positive | negative).any():
        raise InputError(
            f"no cell is classified Positive or Negative; the classes are {', '.join(list(counts)[:10])}",
            path=path,
            hint="run QuPath's positive cell detection (qupath_scripts/detect_cells_ki67.groovy) and export again",
        )
    x, y = table.data["x_um"].to_numpy(), table.data["y_um"].to_numpy()
    whole = labelling_index(positive, negative)
    spot = hot_spot(x, y, positive, negative, window_um=options.window_um, min_cells=options.min_cells)
    warnings = (*warnings, *_doubts(whole.n_counted, whole.n_positive, spot is None, options.min_cells))
    content: dict[str, Any] = {
        "Description": _INDEX,
        "value": whole.value,
        "ci95": whole.ci95,
        "interval": "Wilson, 95 %",
        "n_positive": whole.n_positive,
        "n_negative": whole.n_counted - whole.n_positive,
        "n_not_counted": len(table) - whole.n_counted,
        "cells_by_class": counts,
        "hot_spot": None,
    }
    rows = [row_of("labelling_index", "whole", whole.value, whole.ci95, whole.n_positive, whole.n_counted)]
    lines = [
        f"labelling index {whole.value:.1%} (95 % interval {whole.ci95[0]:.1%} to {whole.ci95[1]:.1%}): "
        f"{whole.n_positive:,} of {whole.n_counted:,} cells are positive; {len(table) - whole.n_counted:,} not counted"
    ]
    if spot is not None:
        content["hot_spot"], row, line = _hot_spot(spot, _covered(x, y, spot))
        rows.append(row)
        lines.append(line)
    picture = draw_cells(
        x, y, positive, negative, title=f"{path.name}: labelling index {whole.value:.1%}", region=region, spot=spot
    )
    settings = {
        "MinCells": options.min_cells,
        "Window_um": spot.window_um if spot else options.window_um,
        "Classes": list(options.classes) if options.classes is not None else None,
    }
    drawn = _index_map(table, positive, negative, options.map_um)
    return Counted("labelling_index", content, rows, picture, tuple(lines), warnings, settings, drawn)


def _hot_spot(spot: HotSpot, covered_mm2: float) -> tuple[dict[str, Any], Row, str]:
    """Return what is told of a hot spot in the JSON file, in the table, and to the person."""
    index = spot.index
    content = {
        "Description": "The window with the highest index; the largest of many, so the interval is too narrow",
        "value": index.value,
        "ci95": index.ci95,
        "n_positive": index.n_positive,
        "n_negative": index.n_counted - index.n_positive,
        "corner_um": spot.corner_um,
        "window_um": spot.window_um,
        "covered_mm2": covered_mm2,
        "n_windows_compared": spot.n_windows,
    }
    row = row_of("labelling_index", "hot spot", index.value, index.ci95, index.n_positive, index.n_counted)
    line = (
        f"hot spot {index.value:.1%} of {index.n_counted:,} cells, a square of {spot.window_um:g} µm at "
        f"x {spot.corner_um[0]:.0f}, y {spot.corner_um[1]:.0f} µm, {covered_mm2:.3g} of its "
        f"{spot.window_um**2 / 1e6:.3g} mm² covered by cells"
    )
    return content, row, line


def _covered(x_um: Any, y_um: Any, spot: HotSpot) -> float:
    """Return the area of the window that cells cover, mm²: it may stick out of the tissue.

    The window is cut into squares so large that cells at random would leave fewer than 1 % of them empty.
    """
    inside = [np.floor((values - low) / spot.window_um) == 0 for values, low in zip((x_um, y_um), spot.corner_um)]
    inside = inside[0] & inside[1]
    n = int(np.clip(np.sqrt(np.count_nonzero(inside) / 5), 1, 20))
    at = [(values[inside] - low) / spot.window_um * n for values, low in zip((x_um, y_um), spot.corner_um)]
    squares = np.unique(at[0].astype(int) * n + at[1].astype(int)).size
    return float(squares / n**2 * spot.window_um**2 / 1e6)


def _load(path: Path, options: Ki67Options) -> tuple[CellTable, Any, tuple[str, ...]]:
    """Return the cells, the region they were limited to, and warnings not told before."""
    with path.open("rb") as stream:
        is_table = stream.read(4) == b"PAR1"
    if not is_table:
        table = read_cells(
            path,
            mpp=options.mpp,
            roi=options.roi,
            classes=options.classes,
            image=options.image,
            measurements=False,
        )
        wkt = table.metadata.roi_wkt
        return table, None if wkt is None else shapely.from_wkt(wkt), table.metadata.warnings
    if options.image is not None:
        raise InputError("is a cell table, which holds one image", path=path, hint="leave out --image")
    table = CellTable.load(path)
    region = None if table.metadata.roi_wkt is None else shapely.from_wkt(table.metadata.roi_wkt)
    keep = np.ones(len(table), dtype=bool)
    if options.roi is not None:
        sources = [("--mpp", check_pixel_size(options.mpp)), (path.name, table.metadata.pixel_size_um)]
        region = read_regions(options.roi, settle_pixel_size(sources, path)[0])
        shapely.prepare(region)
        keep &= shapely.contains_xy(region, table.data["x_um"].to_numpy(), table.data["y_um"].to_numpy())
    if options.classes is not None:
        keep &= _of_classes(table.data["classification"], options.classes)
    if not keep.any():
        raise InputError(f"none of {len(table):,} cells is left", path=path, hint="check --roi and --classes")
    kept = table.data[keep].reset_index(drop=True)
    return CellTable(kept, replace(table.metadata, n_kept=len(kept))), region, ()


def _of_classes(column: Any, classes: Sequence[str]) -> Any:
    """Return which cells hold all the names of one of `classes`: Tumor keeps ``Tumor: Positive``."""
    codes, texts = pd.factorize(column.astype("str"))
    wanted = [_names(text) for text in classes]
    fits = [any(want <= _names(text) if want else not _names(text) for want in wanted) for text in texts]
    return np.array(fits, dtype=bool)[codes]


def _names(text: str) -> set[str]:
    return {name.strip().lower() for name in text.split(":")} - {"", "none", "unclassified", "nan"}


def _doubts(n: int, n_positive: int, no_spot: bool, min_cells: int) -> tuple[str, ...]:
    doubts = []
    if n < RECOMMENDED_CELLS:
        doubts.append(f"only {n} cells were counted; {RECOMMENDED_CELLS} is the least that is recommended")
    elif no_spot:
        doubts.append(f"no hot spot: no window holds {min_cells} cells; take a larger one (--window-um)")
    if n_positive == n:
        doubts.append("every counted cell is positive: were the negative cells exported?")
    return tuple(doubts)


def _index_map(
    table: CellTable, positive: Any, negative: Any, map_um: float | None
) -> tuple[str, Any, Any, str] | None:
    if map_um is None:
        return None
    x, y = table.data["x_um"].to_numpy(), table.data["y_um"].to_numpy()
    grid = PatchGrid.covering(x, y, field_um=table.metadata.field_um, patch_um=map_um)
    row, column, inside = grid.index(x, y)
    flat, size = row * grid.shape[1] + column, grid.shape[0] * grid.shape[1]
    hits = np.bincount(flat[positive & inside], minlength=size).reshape(grid.shape)
    total = np.bincount(flat[(positive | negative) & inside], minlength=size).reshape(grid.shape)
    return "labellingIndex", shares(hits, total), grid.affine, _INDEX


def _refuse(path: Path, what: str, options: Ki67Options, others: dict[str, str]) -> None:
    """Options that would silently do nothing are a mistake of the user."""
    usual = Ki67Options()
    for name, option in others.items():
        if getattr(options, name) != getattr(usual, name):
            raise InputError(f"is {what}, for which there is no {option}", path=path, hint=f"leave out {option}")


def _refuse_other_kind(out: Path, key: str) -> None:
    """One folder holds one of the two quantities: their files have the same names, and they must not be mixed."""
    (other,) = set(_MAP_OF) - {key}
    record = out / "ki67.json"
    content = read_json(record) if record.is_file() else {}
    if (isinstance(content, dict) and other in content) or any(out.glob(f"*param-{_MAP_OF[other]}_histomap.nii.gz")):
        words = [name.replace("_", " ") for name in (other, key)]
        raise InputError(
            f"holds a {words[0]}, and this would be a {words[1]}: they are different quantities",
            path=out,
            hint="pass another folder, --out",
        )


def _refuse_picture(path: Path) -> None:
    if path.suffix.lower() in _PICTURE_ENDINGS:
        raise InputError(
            "is a picture of a kind that is not read as a slide",
            path=path,
            hint="pass the slide as the scanner wrote it (svs, ndpi, ...) or as TIFF or OME-TIFF",
        )


def _write(counted: Counted, source: Path, out: Path, options: Ki67Options, sub: str | None) -> StepResult:
    sources = [source, *([options.roi] if options.roi else [])]
    settings = {"Mpp": options.mpp, "Roi": options.roi.name if options.roi else None, **counted.settings}
    # The map first: it is the one that may fail on what the user gave.
    outputs: list[Path] = []
    if counted.map is not None:
        name, data, affine, description = counted.map
        path = out / ((f"sub-{sub}_" if sub else "") + f"param-{name}_histomap.nii.gz")
        words = {"Units": "1", "Description": description}
        outputs += write_map(path, data, affine, sources=sources, parameters=settings, **words)
    with atomic_path(out / "ki67.png") as temporary:
        temporary.write_bytes(counted.picture)
    with atomic_path(out / "ki67.csv") as temporary:
        pd.DataFrame(counted.rows).to_csv(temporary, index=False, lineterminator="\n")
    content = {counted.key: counted.content, "warnings": list(counted.warnings), **provenance(sources, settings)}
    write_json(out / "ki67.json", content)
    outputs = [out / "ki67.json", out / "ki67.csv", out / "ki67.png", *outputs]
    return StepResult(tuple(outputs), counted.messages, counted.warnings, {counted.key: counted.content})
