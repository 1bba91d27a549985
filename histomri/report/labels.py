"""Names and units of the columns on axes and in text."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from histomri.core.columns import TITLES, shown_unit, title_of

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_MANY = 1e4  # from here on thousands are put into the unit


@dataclass(frozen=True)
class Label:
    """Name and unit of a column, and the divisor of its values that makes the ticks short."""

    name: str
    unit: str
    divisor: float = 1.0

    @property
    def axis(self) -> str:
        """Name and unit, as on an axis."""
        return f"{self.name} ({self.scaled_unit})" if self.scaled_unit else self.name

    @property
    def scaled_unit(self) -> str:
        """The unit of the divided values."""
        power = f"10{str(round(math.log10(self.divisor))).translate(_SUPERSCRIPTS)}" if self.divisor > 1 else ""
        return " ".join(part for part in (power, self.unit) if part)

    def value(self, value: float, digits: int = 3) -> str:
        """Return a value as it is in the table, with its unit."""
        rounded = float(f"{value:.{digits}g}")
        text = f"{rounded:g}" if abs(rounded) < _MANY else f"{rounded:,.0f}".replace(",", "\u202f")
        return f"{text} {self.unit}".replace("-", "\u2212").rstrip()


def label_of(column: str, values: Any = ()) -> Label:
    """Return the label of a column; the unit of your own columns is read from the end of the name."""
    known = np.asarray(values, dtype=float)
    largest = float(np.nanmax(np.abs(known))) if np.isfinite(known).any() else 0.0
    divisor = 10.0 ** (3 * math.floor(math.log10(largest) / 3)) if largest >= _MANY else 1.0
    return Label(title_of(column), shown_unit(column), divisor)


def ordered(columns: Iterable[str]) -> list[str]:
    """Return columns in the order in which they are shown: those of histomri, then your own.

    Where scans were made at different temperatures, ADC over that of free water stands for ADC, which then says more of
    the temperature than of the tissue.
    """
    known = dict.fromkeys(columns)
    if "ADC_per_water" in known:
        known.pop("ADC_um2_ms", None)
    return [name for name in TITLES if name in known] + [name for name in known if name not in TITLES]
