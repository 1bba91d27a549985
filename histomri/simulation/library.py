"""Signals of packed, permeable tissue at once: polynomials through thousands of walks.

A study has hundreds of thousands of pieces of tissue, and a walk takes seconds. `make_library` walked through random
packings of spheres all over the range of tissues below, and fitted a polynomial to -ln S of every volume of the
protocols of the presets. What it gives is known to `about()["rms"]` of the signal at b = 0: the difference from walks
that were not used for the fit.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.core.presets import PRESET_NAMES
from histomri.mri import Acquisition

# Range of each property of a tissue; sizes enter by their logarithm.
RANGES = {
    "fraction": (0.15, 0.61), "cv": (0.1, 0.3), "vcs_um": (10.0, 36.0), "d0i_um2_ms": (0.9, 2.2),
    "d0e_um2_ms": (1.6, 2.8), "permeability_um_s": (0.0, 50.0), "rate_difference": (0.0, 0.024),
}  # fmt: skip
DEGREE = 3
_FILE = "walked.npz"
_PART = 20_000  # tissues at a time, so that the memory is bounded
_SLACK = 0.02  # of a range: how far beyond its end a property may lie, and counts as the end


@dataclass(frozen=True)
class PackedTissue:
    """Properties of N tissues, (N,) each: spheres of unequal size packed at random, and the water in and around them.

    Attributes
    ----------
    fraction, cv, vcs_um : (N,) ndarray
        Volume fraction of the spheres, coefficient of variation and volume-weighted size of their lognormal diameters.
    d0i_um2_ms, d0e_um2_ms, permeability_um_s : (N,) ndarray
        Of the water.
    t2i_ms, t2e_ms : float
        Relaxation inside, and outside, where it is not faster.
    """

    fraction: FloatArray
    cv: FloatArray
    vcs_um: FloatArray
    d0i_um2_ms: FloatArray
    d0e_um2_ms: FloatArray
    permeability_um_s: FloatArray
    t2i_ms: float
    t2e_ms: float

    def coordinates(self) -> FloatArray:
        """Return where the tissues lie in the range of the library, (N, 7) from -1 to 1.

        Raises
        ------
        InputError
            If one lies beyond it.
        """
        values = {name: np.asarray(getattr(self, name), dtype=float) for name in list(RANGES)[:-1]}
        difference = 1.0 / self.t2i_ms - 1.0 / self.t2e_ms
        values["rate_difference"] = np.full(self.fraction.shape, difference)
        return scaled(np.column_stack(list(values.values())))


def scaled(values: FloatArray) -> FloatArray:
    """Return (N, 7) properties, in the order of `RANGES`, as coordinates from -1 to 1."""
    found = np.empty(values.shape)
    for column, (name, (low, high)) in enumerate(RANGES.items()):
        value = values[:, column]
        slack = _SLACK * (high - low)
        if value.size and not (low - slack <= value.min() and value.max() <= high + slack):
            problem = f"{name} of {value.min():.3g} to {value.max():.3g} is beyond what was walked, {low:g} to {high:g}"
            raise InputError(problem, hint="choose another tissue, or walk it (simulate spheres)")
        if name == "vcs_um":
            value, low, high = np.log(value), np.log(low), np.log(high)
        found[:, column] = np.clip(2.0 * (value - low) / (high - low) - 1.0, -1.0, 1.0)
    return found


@cache
def _powers() -> IntArray:
    """Return which coordinates each term multiplies, (terms, DEGREE), padded with a column that holds ones."""
    number = len(RANGES)
    return np.array(list(combinations_with_replacement([*range(number), number], DEGREE)))


def terms(coordinates: FloatArray) -> FloatArray:
    """Return all products of up to `DEGREE` of the coordinates, (N, terms)."""
    wide = np.column_stack([coordinates, np.ones(len(coordinates))])
    product = wide[:, _powers()[:, 0]]
    for place in range(1, DEGREE):
        product = product * wide[:, _powers()[:, place]]
    return np.asarray(product)


@cache
def _content() -> dict[str, Any]:
    with (files("histomri.simulation") / "data" / _FILE).open("rb") as file, np.load(file, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def about() -> dict[str, Any]:
    """Return how the library was made, and how well it agrees with other walks, by protocol."""
    content: dict[str, Any] = json.loads(str(_content()["about"]))
    return content


def walked_signals(tissue: PackedTissue, acquisition: Acquisition) -> FloatArray:
    """Return the signals of N tissues by the protocol of a preset, (N, M); 1 at b = 0 without relaxation.

    Raises
    ------
    InputError
        If the protocol is not that of a preset, or a tissue is beyond what was walked.
    """
    protocol = next((name for name in PRESET_NAMES if _is_same(acquisition, Acquisition.preset(name))), None)
    if protocol is None:
        problem = "realistic tissue was walked by the protocols of the presets alone"
        raise InputError(problem, hint="use one of them, or the simple physics, or simulate spheres")
    coefficients, te = (_content()[f"{protocol}_{name}"] for name in ("coefficients", "te_ms"))
    coordinates = tissue.coordinates()
    parts = [
        np.exp(-terms(coordinates[start : start + _PART]) @ coefficients)
        for start in range(0, max(len(coordinates), 1), _PART)
    ]
    return np.asarray(np.concatenate(parts) * np.exp(-te / tissue.t2e_ms))


def _is_same(one: Acquisition, other: Acquisition) -> bool:
    """Tell whether two protocols have the same volumes."""
    if one.te_ms is None or other.te_ms is None or len(one) != len(other) or one.waveforms != other.waveforms:
        return False
    names = ("b_smm2", "delta_ms", "Delta_ms", "te_ms")
    return all(np.allclose(getattr(one, name), getattr(other, name)) for name in names)
