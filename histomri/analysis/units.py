"""A column in the wrong unit is found by its size: no tissue has a median cell size of 0.02 µm."""

from pathlib import Path

import pandas as pd

from histomri.errors import UnitError

# Median of the samples of one scanner: beyond any tissue, but short of the next unit that people use.
PLAUSIBLE = {
    "vCS_mri_um": (1.0, 200.0),
    "vCS_histo_um": (1.0, 200.0),
    "F_mri": (0.0, 2.0),
    "F_histo": (0.0, 2.0),
    "CD_mri_mm3": (1e2, 1e8),
    "CD_histo_mm2": (10.0, 1e5),
    "ADC_um2_ms": (0.02, 10.0),
    "D0I_mri_um2_ms": (0.02, 10.0),
}
# One sample, harmonised or not: a fraction may come out a little below 0.
_POSSIBLE = {
    "vCS_mri_um": (0.5, 500.0),
    "vCS_histo_um": (0.5, 500.0),
    "F_mri": (-0.5, 5.0),
    "F_histo": (-0.5, 5.0),
    "ADC_um2_ms": (0.005, 20.0),
    "D0I_mri_um2_ms": (0.005, 20.0),
}
_UNITS = {"um": "µm", "mm3": "cells/mm³", "mm2": "cells/mm²", "ms": "µm²/ms"}


def check_units(
    table: pd.DataFrame,
    scanner: pd.Series | None = None,
    path: str | Path | None = None,
    *,
    of_voxels: bool = False,
) -> None:
    """Check that the values of the contract's columns can be in its units: each scanner's median, and each sample.

    Parameters
    ----------
    table : DataFrame
        Columns of numbers; those not in `PLAUSIBLE` are not looked at. The index counts rows of the file from 0.
    scanner : Series, optional
        Labels of the rows; sites that write different units are told apart.
    path : path-like, optional
        For the message.
    of_voxels : bool
        Single voxels may have any value, and only medians are looked at.

    Raises
    ------
    UnitError
        Naming column, and scanner and median, or line and value.
    """
    labels = pd.Series("", index=table.index) if scanner is None else scanner.fillna("").astype(str)
    for name, (low, high) in PLAUSIBLE.items():
        if name not in table:
            continue
        for label, median in table[name].groupby(labels).median().dropna().items():
            if not low <= median <= high:
                where = f" for scanner '{label}'" if label else ""
                raise UnitError(
                    f"column '{name}' should be {_unit_of(name)}, and its median{where} is {median:.3g}",
                    path=path,
                    way_out="convert it before it is read, and check that it is not another column",
                )
    for name, (low, high) in _POSSIBLE.items():
        if of_voxels or name not in table:
            continue
        wrong = table.loc[(table[name] < low) | (table[name] > high), name]
        if len(wrong):
            raise UnitError(
                f"column '{name}', line {int(wrong.index[0]) + 2}: {wrong.iloc[0]:.3g} cannot be {_unit_of(name)}",
                path=path,
                way_out="convert it before it is read, or leave the cell empty",
            )


def _unit_of(name: str) -> str:
    return _UNITS.get(name.rsplit("_", 1)[-1], "a fraction from 0 to 1")
