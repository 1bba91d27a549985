"""What is refused before anything is measured, with the way out."""

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError

from .routes import Kind, Profiles

_NEAR, _PILED = 0.03, 0.02  # so large a share of rims is within 3 % of the widest; of cell masks less than 1 %
_LEAST = 200


def check_arrays(profiles: Profiles, kind: Kind) -> None:
    """Refuse profiles that lack what a kind of outline needs."""
    needed = {
        "N": ("nucleus_um2",),
        "R": ("nucleus_um2", "cell_um2"),
        "M": ("nucleus_um2", "cell_um2"),
        "E": ("cell_um2",),
    }
    for name in needed[kind]:
        if getattr(profiles, name) is None:
            what = "nuclei" if name == "nucleus_um2" else "cells"
            raise InputError(
                f"outlines of kind {kind} need the areas of the {what}",
                hint="export them, or say another kind: N nuclei, R nucleus and rim, M cell with nucleus, E every cell",
            )
    lengths = {len(part) for part in vars(profiles).values() if part is not None}
    if len(lengths) > 1:
        raise InputError(f"areas and positions have different lengths: {sorted(lengths)}")


def check_numbers(
    thickness_um: float | None, shrinkage: float, field_um2: float, cell_fraction: float | None, scatter: float
) -> float:
    """Refuse facts that are missing or not possible; return the thickness."""
    if thickness_um is None:
        raise InputError(
            "the thickness of the section is needed: 4 µm taken for 0 makes densities 46 % too high",
            hint="give --thickness-um as set at the microtome, or 0 for an optical plane",
        )
    if not (np.isfinite(thickness_um) and thickness_um >= 0.0):
        raise InputError(f"a section cannot be {thickness_um:g} µm thick", hint="give the thickness as cut, in µm")
    if not 0.0 <= shrinkage < 0.9:
        raise InputError(f"a shrinkage of {shrinkage:g} is not possible", hint="give a fraction from 0 to below 0.9")
    if not (np.isfinite(field_um2) and field_um2 > 0.0):
        raise InputError(f"a field of {field_um2:g} µm² is not possible", hint="give the area that was looked at")
    if cell_fraction is not None and not 0.0 < cell_fraction <= 1.0:
        raise InputError(f"cells cannot fill {cell_fraction:g} of the tissue", hint="give a fraction from 0 to 1")
    if not 0.0 <= scatter < 1.0:
        raise InputError(f"a scatter of {scatter:g} is not possible", hint="give a fraction, 0 to 0.2")
    return float(thickness_um)


def is_rim(nucleus_um2: FloatArray, cell_um2: FloatArray) -> bool:
    """Say whether cells are nuclei grown by a fixed width: many of the widest rims are then of one width.

    Rims that all stop at neighbours, in the densest tissue, are not recognised.
    """
    gap = np.sqrt(np.asarray(cell_um2) / np.pi) - np.sqrt(np.asarray(nucleus_um2) / np.pi)
    gap = gap[np.isfinite(gap)]
    if gap.size < _LEAST:
        return False
    widest = float(np.quantile(gap, 0.99))
    near = np.mean(np.abs(gap - widest) < _NEAR * widest)
    return bool(near > _PILED + 3.0 * np.sqrt(_PILED / gap.size))  # beyond what chance makes of few cells


def refuse_rim(profiles: Profiles) -> None:
    """Refuse rims that are said to be cells."""
    nucleus, cell = profiles.nucleus_um2, profiles.cell_um2
    if nucleus is not None and cell is not None and is_rim(nucleus, cell):
        raise InputError(
            "these outlines are nuclei with a rim of fixed width, not cells (kind M)",
            hint="say kind R, or detect the cells with a model of their outlines",
        )
