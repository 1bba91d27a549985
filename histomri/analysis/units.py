"""A column in the wrong unit is found by its size: no tissue has cells of 0.02 µm, and no site 1000 times another's."""

from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd

from histomri.core.columns import MEASUREMENTS, REGISTRATION, STAT, SYST
from histomri.core.errors import InputError, UnitError
from histomri.core.tables import line_at, line_of

_SIZE, _FRACTION = ("µm", (1.0, 200.0), (0.5, 500.0)), ("a fraction from 0 to 1", (0.0, 2.0), (-0.5, 5.0))
_DIFFUSIVITY = ("µm²/ms", (0.02, 10.0), (0.005, 20.0))
# Unit; median of the samples of one scanner: beyond any tissue, but short of the next unit that people use; one sample,
# harmonised or not: a fraction or a density may come out a little below 0.
PLAUSIBLE = {
    **dict.fromkeys(("vCS_mri_um", "vCS_histo_um"), _SIZE),
    **dict.fromkeys(("F_mri", "F_histo"), _FRACTION),
    **dict.fromkeys(
        ("CD_mri_mm3", "CDsphere_mri_mm3", "cellNV_mri_mm3", "nucleiNV_histo_mm3", "cellNV_histo_mm3"),
        ("cells/mm³", (5e2, 3e7), (-1e6, 1e9)),
    ),
    "CD_histo_mm2": ("cells/mm²", (10.0, 1e5), (-1e4, 1e6)),
    **dict.fromkeys(("ADC_um2_ms", "D0I_mri_um2_ms"), _DIFFUSIVITY),
}
# Medians of two sites: this many decades apart they are reported, and within so much of a power of 1000 it is the unit.
_DECADES, _OF_A_UNIT, _WITHIN = 0.9, (3.0, 6.0, 9.0), 0.35
_FEWEST, _ERRORS = 3, 3.0  # values of a site, and standard errors between medians that differ
# Fraction of values at or below 0 from which a quantity is signed, or a count with zeros, and has no scale.
_NEGATIVE = 0.1
# The sixth power of a value, which a cubic surface sums, stays a number; no measurement comes near either.
_LARGEST, _SMALLEST = 1e50, 1e-50


def check_units(
    table: pd.DataFrame, scanner: pd.Series | None = None, path: str | Path | None = None, *, of_voxels: bool = False
) -> None:
    """Check that the values of the contract's columns can be in its units: each scanner's median, and each sample."""
    labels = pd.Series("", index=table.index) if scanner is None else scanner.fillna("").astype(str)
    for name, (unit, (low, high), _) in PLAUSIBLE.items():
        if name not in table:
            continue
        for label, median in table[name].groupby(labels).median().dropna().items():
            if not low <= median <= high:
                where = f" for scanner '{label}'" if label else ""
                problem = f"column '{name}' should be {unit}, and its median{where} is {median:.3g}"
                hint = "convert it before it is read, and check that it is not another column"
                raise UnitError(problem, path=path, hint=hint)
    for name, (unit, _, (lowest, highest)) in PLAUSIBLE.items():
        if of_voxels or name not in table:
            continue
        wrong = table.loc[(table[name] < lowest) | (table[name] > highest), name]
        if len(wrong):
            problem = f"column '{name}', line {line_at(wrong.index[0])}: {wrong.iloc[0]:.3g} cannot be {unit}"
            raise UnitError(problem, path=path, hint="convert it before it is read, or leave the cell empty")


def check_sites(table: pd.DataFrame, labels: Mapping[str, pd.Series], path: str | Path | None = None) -> list[str]:
    """Compare the columns of a table between scanners, and between groups; say what differs, and by how much.

    Two labels differ if the middle halves of their values do not overlap, and their medians are a factor of 8 or more
    and three standard errors apart. A factor of about 1000, 10^6 or 10^9 is that of a unit: an error, unless tissue may
    truly differ so much, which columns of other names may between groups, and between scanners that have no group in
    common.
    """
    texts: list[str] = []
    reported: set[str] = set()
    groups = labels.get("group")
    for kind, names in labels.items():
        for column in table:
            # Errors may truly differ so much, and have the unit of what they belong to.
            if column.startswith(REGISTRATION) or column.endswith((STAT, SYST)):
                continue
            found = None if column in reported else _furthest(table[column], names)
            if found is None:
                continue
            reported.add(column)
            (low, low_median), (high, high_median), decades = found
            text = f"the median of '{column}' is {low_median:.3g} for {kind} '{low}' and {high_median:.3g} for '{high}'"
            unit_like = min(abs(decades - power) for power in _OF_A_UNIT) <= _WITHIN
            alike = kind == "scanner" and (groups is None or _have_common_group(groups, names, low, high))
            if unit_like and (column in MEASUREMENTS or alike):
                hint = "convert it before it is read"
                if column not in MEASUREMENTS:
                    hint += "; if they truly differ, name the groups in the column 'group'"
                raise UnitError(f"{text}, as if in another unit", path=path, hint=hint)
            texts.append(f"{text}, a factor of {10**decades:.3g}: are the units the same?")
    return texts


def _furthest(values: pd.Series, labels: pd.Series) -> tuple[tuple[str, float], tuple[str, float], float] | None:
    """Return the two labels whose medians are furthest apart, the medians, and the decades between them."""
    known = values.notna() & (labels != "")
    positive = known & (values > 0)
    if not positive.any() or positive.sum() < (1.0 - _NEGATIVE) * known.sum():
        return None
    quartiles = np.log10(values[positive]).groupby(labels[positive]).quantile([0.25, 0.5, 0.75]).unstack()
    n = labels[positive].value_counts().reindex(quartiles.index)
    # The standard error of a median of normal values, whose scatter is taken from the quartiles.
    quartiles["se"] = 1.253 * (quartiles[0.75] - quartiles[0.25]) / 1.349 / np.sqrt(n)
    apart = [
        (float(above[0.5] - below[0.5]), str(low), float(below[0.5]), str(high), float(above[0.5]))
        for (low, below), (high, above) in permutations(quartiles[n >= _FEWEST].iterrows(), 2)
        if below[0.75] < above[0.25] and above[0.5] - below[0.5] > _ERRORS * np.hypot(above["se"], below["se"])
    ]
    if not apart or max(apart)[0] < _DECADES:
        return None
    decades, low, low_median, high, high_median = max(apart)
    return (low, 10**low_median), (high, 10**high_median), decades


def _have_common_group(groups: pd.Series, scanners: pd.Series, one: str, other: str) -> bool:
    """Tell whether two scanners have a group in common, or no groups are known for one."""
    mine, theirs = (set(groups[scanners == name]) - {""} for name in (one, other))
    return not mine or not theirs or bool(mine & theirs)


def require_magnitude(table: pd.DataFrame, path: Path | None = None) -> None:
    """Raise an InputError for a column whose values are too large or too small to be computed with."""
    for name, column in table.items():
        size = column.abs()
        if (size > _LARGEST).any():
            first = column[size > _LARGEST].iloc[0]
            problem = f"column '{name}', line {line_of(size > _LARGEST)}: {first:g} is too large to be a measurement"
            raise InputError(problem, path=path, hint="leave the cell empty if the value is missing")
        if 0 < size.max() < _SMALLEST:
            problem = f"column '{name}' has no value above {size.max():g}, too small to be computed with"
            raise InputError(problem, path=path, hint="give it in another unit")
