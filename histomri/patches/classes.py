"""Maps of each class of cells: its density and area fraction, relative to the same area as those of all cells."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from shapely.geometry.base import BaseGeometry

from histomri.cells import CellTable
from histomri.core.arrays import FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.patches.corrections import choose_correction, corrected_sizes, error_maps, size_maps
from histomri.patches.grid import PatchGrid
from histomri.patches.moments import dispersion, gather
from histomri.patches.tissue import assign, extent_of, tissue_fraction

UNCLASSIFIED = "Unclassified"
_MOST_CLASSES = 50  # QuPath lists some ten; more are names of another column
_QUANTITIES = ("F", "CD")
_SIGNS = ((r"\+(?=[^0-9A-Za-z]|$)", " pos "), (r"-(?=[^0-9A-Za-z]|$)", " neg "))


@dataclass(frozen=True)
class ClassMaps:
    """Maps of one class of cells; arrays have the shape of the grid, background is NaN."""

    name: str  # the class, such as ``Tumor: Positive``
    label: str  # the same in names of files: ``TumorPositive``
    n_cells: int  # that count in the maps
    maps: dict[str, FloatArray]  # F, CD
    errors: dict[str, FloatArray]  # their standard errors


def summarise_classes(
    cells: CellTable, grid: PatchGrid, *, preset: str = "mouse-exvivo", section: str | None = None,
    shrinkage: float | None = None, section_thickness_um: float = 4.0, tissue: BaseGeometry | None = None,
    min_tissue: float = 0.0, assign_by: str = "centroid", **rest: Any,
) -> tuple[ClassMaps, ...]:  # fmt: skip
    """Return area fraction and density of each class of cells; the parameters are as in `summarise_patches`.

    All classes are relative to the area that is analysed for all cells, so their maps add up to those of all cells.
    Cells without a class are of the class ``Unclassified``.

    Raises
    ------
    InputError
        If two classes have one name in files, or there are too many.
    """
    names, codes = _classes(cells)
    labels = class_labels(names)
    correction = choose_correction(preset, section, shrinkage, section_thickness_um)
    extent = extent_of(cells, tissue)
    fraction = tissue_fraction(grid, extent).ravel()
    valid = (fraction > 0) & (fraction >= min_tissue)
    assigned = assign(cells, grid, fraction.reshape(grid.shape), extent, assign_by)
    x, y, area, diameter = (cells.data[name].to_numpy() for name in ("x_um", "y_um", "area_um2", "diameter_um"))
    analysed = fraction * (grid.window_um[0] * grid.window_um[1])
    found = []
    for code, name in enumerate(names):
        own, mine = codes[assigned.cell] == code, codes == code
        cell, patch, part = assigned.cell[own], assigned.patch[own], assigned.part
        moments = gather(patch, diameter[cell], area[cell], fraction.size, None if part is None else part[own])
        sizes = corrected_sizes(moments, correction)
        dispersed = dispersion(x[mine], y[mine], area[mine], grid.window_um, extent)
        maps = size_maps(moments, sizes, analysed, correction.stretch, 1)
        errors = error_maps(moments, sizes, analysed, correction.stretch, 1, dispersed, None)
        shaped = [
            {key: np.where(valid, group[key], np.nan).reshape(grid.shape) for key in _QUANTITIES}
            for group in (maps, errors)
        ]
        used = int(np.unique(cell[valid[patch]]).size)
        found.append(ClassMaps(name, labels[name], used, *shaped))
    return tuple(found)


def class_labels(names: Sequence[str]) -> dict[str, str]:
    """Return what classes are called in names of files: letters and digits only.

    Raises
    ------
    InputError
        If two would be called the same, also where capitals do not count, or one has no letter or digit.

    Examples
    --------
    >>> class_labels(["Tumor: Positive", "CD3+", "CD3-", "Immune cells"])
    {'Tumor: Positive': 'TumorPositive', 'CD3+': 'CD3Pos', 'CD3-': 'CD3Neg', 'Immune cells': 'ImmuneCells'}
    """
    labels: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in names:
        label = _label(name)
        rename = "rename it in QuPath, and export again"
        if not label:
            raise InputError(f"the class {name!r} has no letter or digit that the name of a map may hold", hint=rename)
        if (other := taken.setdefault(label.casefold(), name)) != name:
            raise InputError(f"maps of the classes {other!r} and {name!r} would both be named {label}", hint=rename)
        labels[name] = label
    return labels


def _label(name: str) -> str:
    for pattern, word in _SIGNS:
        name = re.sub(pattern, word, name)
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return "".join(word[0].upper() + word[1:] for word in re.split(r"[^0-9A-Za-z]+", plain) if word)


def _classes(cells: CellTable) -> tuple[list[str], IntArray]:
    """Return the classes of a table, sorted, and the index of each cell's, (N,)."""
    codes, texts = pd.factorize(cells.data["classification"].astype("str"))
    known = [str(text).strip() for text in texts]
    empty = ("", "none", "nan", "unclassified")
    known = [UNCLASSIFIED if text.lower() in empty else text for text in known]
    names = sorted(set(known))
    if len(names) > _MOST_CLASSES:
        problem = f"the cells are of {len(names):,} classes, and {_MOST_CLASSES} can have maps of their own"
        raise InputError(problem, hint="choose some with --classes of `histomri cells`")
    return names, np.array([names.index(text) for text in known], dtype=np.intp)[codes]
