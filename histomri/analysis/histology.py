"""Which numbers of histology a table of pairs holds, as published or of cells in 3D, and scores without a fraction."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from histomri.core.columns import unit_of
from histomri.core.errors import InputError
from histomri.core.files import read_json

# F/vCS³, and the number of cells of one size per volume.
_DENSITY, _COUNT = "CD_mri_mm3", "CDsphere_mri_mm3"


def histology_size(path: Path) -> str | None:
    """Return which numbers of histology a table of pairs holds, as its sidecar says: paper or volume; None if not."""
    sidecar = path.with_suffix(".json")
    content = read_json(sidecar, "sidecar") if path.is_file() and sidecar.is_file() else None
    settings = content.get("Parameters") if isinstance(content, dict) else None
    sizes = settings.get("size") if isinstance(settings, dict) else None
    found = set(sizes.values()) if isinstance(sizes, dict) else set()
    return str(found.pop()) if len(found) == 1 else None


def histology_line(size: str | None) -> list[str]:
    """Return a line for the user that says which numbers of histology were compared, if that is known."""
    words = {"paper": "as published (size paper)", "volume": "of cells in 3D (size volume)"}
    return [f"histology {words[size]}"] if size in words else []


def lacks_fraction(table: pd.DataFrame) -> bool:
    """Tell whether the histology of a table has no fraction of cells at all, as where it was stated for a size."""
    return not table["F_histo"].notna().any()


def by_size_alone(table: pd.DataFrame) -> pd.DataFrame:
    """Return cases whose scores are those of cell size alone: twice the same, so that their order is that of r(vCS)."""
    return table.assign(F_mri=table["vCS_mri_um"], F_histo=table["vCS_histo_um"])


def without_fraction(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the ranking of `by_size_alone` without the scores that need a fraction of cells."""
    names = ("TCS", "TCS_ci", "r_F", "HFC_mean", "HFC_wins", "TCS_own", "HFC_wins_within", "TCS_corrected")
    lost = dict.fromkeys((*names, "TCS_corrected_ci", "TCS_within", "HFC_syst"))
    return [row | lost for row in models]


def numbers_per_volume(pairs: Any, names: Sequence[str]) -> tuple[Any, list[str]]:
    """Put CDsphere in place of CD of MRI where it would be set beside a number of cells per volume, and say so."""
    for pair in pairs:
        other = next((name for name in pair if name != _DENSITY), "")
        if _DENSITY in pair and unit_of(other) == "mm^-3":
            if _COUNT not in names:
                problem = f"{_DENSITY} is F/vCS³ and no number of cells, and {other} is one"
                raise InputError(problem, hint=f"add the column {_COUNT}, which is 6/π times {_DENSITY}")
            text = f"{_DENSITY} is F/vCS³ and no number of cells: {_COUNT}, 6/π times it, is compared with {other}"
            return tuple(tuple(_COUNT if name == _DENSITY else name for name in each) for each in pairs), [text]
    return pairs, []
