"""What a section of known thickness shows of balls of known size: one kernel holds slab, plane and lost caps.

A slab of thickness t that lets light through shows each ball at its largest within the slab. Of balls of diameter d,
those whose middle lies within ``H(x; d) = t + sqrt(d^2 - x^2)`` show a profile larger than x, so that a section sees
``N_V H(x; d)`` of them per area (Wicksell 1925 for t = 0; Holmes 1927 for t > 0; Cruz-Orive 1983 for lost caps).

All lengths are in one unit, µm, in the frame of the slide.
"""

from dataclasses import dataclass

import numpy as np

from histomri.core.arrays import FloatArray, IntArray
from histomri.core.errors import InputError

_HEADROOM = 1.25  # sizes up to so much above the largest profile are thought possible
_MOST_BINS = 1500


def sampling_height(x_um: FloatArray | float, d_um: FloatArray | float, thickness_um: float) -> FloatArray:
    """Return H(x; d), the range of heights (µm) over which a ball of diameter d shows a profile larger than x.

    Examples
    --------
    >>> float(sampling_height(3.0, 5.0, 4.0))
    8.0
    """
    x, d = np.asarray(x_um, dtype=float), np.asarray(d_um, dtype=float)
    height = thickness_um + np.sqrt(np.maximum(d**2 - x**2, 0.0))
    return np.where(d >= x, height, 0.0)


def diameter_of(area_um2: FloatArray) -> FloatArray:
    """Return the diameters (µm) of discs with these areas (µm²)."""
    return np.asarray(np.sqrt(4.0 / np.pi * np.asarray(area_um2, dtype=float)))


@dataclass(frozen=True)
class Kernel:
    """Profiles of J classes of diameter, in as many classes of profile with the same edges."""

    edges_um: FloatArray  # (J + 1,), the first is the smallest profile that is seen
    seen_um: FloatArray  # (J, J): height over which balls of class j (column) show a profile of class b (row)
    height_um: FloatArray  # (J,): height over which balls of class j are seen at all
    thickness_um: float

    @property
    def middle_um(self) -> FloatArray:
        """Middles of the classes, (J,)."""
        return 0.5 * (self.edges_um[1:] + self.edges_um[:-1])

    def bin_of(self, profile_um: FloatArray) -> IntArray:
        """Return the class of each profile (N,); those beyond the last edge count to the last class."""
        width = self.edges_um[1] - self.edges_um[0]
        place = np.floor((np.asarray(profile_um) - self.edges_um[0]) / width)
        return np.asarray(np.clip(place, 0, self.height_um.size - 1).astype(np.intp))


def make_kernel(smallest_um: float, largest_um: float, thickness_um: float, bin_um: float) -> Kernel:
    """Return the kernel for profiles from `smallest_um` to `largest_um`, in classes of width `bin_um`.

    Means over a class of diameter are exact: ``sqrt(d^2 - x^2)`` has a steep start, where a sum over few points errs.
    """
    count = int(np.ceil((largest_um * _HEADROOM - smallest_um) / bin_um - 1e-9)) + 2
    if count > _MOST_BINS:
        raise InputError(
            f"the largest profile has a diameter of {largest_um:.0f} µm, too large for classes of {bin_um:g} µm",
            hint="check the unit of the areas, and drop objects that are no nuclei",
        )
    edges = smallest_um + bin_um * np.arange(count + 1)
    mean = _mean_height(edges[:-1, None], edges[None, :-1], edges[None, 1:], thickness_um)
    seen = mean - np.vstack([mean[1:], np.zeros(count)])
    return Kernel(edges, np.maximum(seen, 0.0), mean[0], thickness_um)


def _mean_height(x: FloatArray, low: FloatArray, high: FloatArray, thickness_um: float) -> FloatArray:
    """Return the mean of H(x; d) over d from `low` to `high`, which hold no x inside."""
    area = _antiderivative(x, high) - _antiderivative(x, low)
    return np.where(low >= x, thickness_um + area / (high - low), 0.0)


def _antiderivative(x: FloatArray, d: FloatArray) -> FloatArray:
    """Return the integral of ``sqrt(d^2 - x^2)`` from x to d."""
    root = np.sqrt(np.maximum(d**2 - x**2, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithm = np.where(x > 0.0, x**2 * np.log(np.maximum(d + root, x) / x), 0.0)
    return np.asarray(0.5 * (d * root - np.nan_to_num(logarithm)))
