"""What a diffusion protocol cannot be: wrong units, missing or overlapping pulses, an echo before they are over.

What is checked is an `Acquisition`, which is built with these functions.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import FloatArray
from histomri.core.errors import ProtocolError

B0_BELOW_SMM2 = 10.0
GAMMA = 2 * math.pi * 42.577478518e6 * 1e-3 * 1e-3 * 1e-6
"""Gyromagnetic ratio of the proton, rad / (ms (mT/m) µm): 2π 42.577478518 MHz/T in these units."""
LONGEST_MS, _MOST_B_SMM2 = 200.0, 1e6
_ROUNDING_MS = 0.05
# With more diffusion weighting than this, tissue has lost a fifth of its signal.
_MOST_B0_SMM2 = 200.0
# The strongest coils, of microimaging, reach 30 T/m.
_STRONGEST_T_M = 50.0


def check_b0_below(b0_below_smm2: float) -> None:
    """Refuse a limit of b = 0, s/mm², that makes no sense."""
    if not 0 < b0_below_smm2 <= _MOST_B0_SMM2:
        problem = f"volumes below b = {b0_below_smm2:g} s/mm² cannot count as b = 0"
        raise ProtocolError(problem, hint=f"give --b0-below a number above 0 and up to {_MOST_B0_SMM2:g}")


def as_vector(name: str, values: ArrayLike, length: int | None) -> FloatArray:
    """Return a number per volume, finite and not negative; one number stands for all."""
    vector = np.array(values, dtype=float, copy=True)
    if vector.ndim == 0:
        vector = np.full(1 if length is None else length, float(vector))
    if vector.ndim != 1 or vector.size == 0:
        raise ProtocolError(f"{name} must be a list with one number per volume")
    if length is not None and vector.size != length:
        raise ProtocolError(f"there are {length} b-values and {vector.size} values of {name}")
    if not np.all(np.isfinite(vector)):
        raise ProtocolError(f"{name} of volume {int(np.flatnonzero(~np.isfinite(vector))[0])} is not a number")
    if np.any(vector < 0):
        raise ProtocolError(f"{name} of volume {int(np.flatnonzero(vector < 0)[0])} is negative")
    return vector


def check_units(acquisition: Any) -> None:
    """Refuse b and times that can only be in other units."""
    b = acquisition.b_smm2
    if b.max() < B0_BELOW_SMM2 and (b.max() > 0 or b.size > 1):
        problem = f"the largest b-value is {b.max():g}, no diffusion weighting at all in s/mm²"
        raise ProtocolError(problem, hint="give b in s/mm² (1 ms/µm² = 1000 s/mm²)")
    if b.max() > _MOST_B_SMM2:
        problem = f"the largest b-value is {b.max():g}, which looks like s/m²"
        raise ProtocolError(problem, hint="give b in s/mm² (divide by 1e6)")
    weighted = ~acquisition.is_b0
    for name, times in (("δ", acquisition.delta_ms), ("Δ", acquisition.Delta_ms), ("TE", acquisition.te_ms)):
        if times is None or not weighted.any():
            continue
        # Duration is the stricter test: separations of stimulated echoes may reach seconds.
        most = LONGEST_MS if name == "δ" else 5000.0
        longest = times[weighted].max()
        if longest > most:
            problem = f"{name} reaches {longest:g}, too long for ms (more than {most:g} ms)"
            raise ProtocolError(problem, hint=f"give {name} in ms (it looks like µs)")
        if 0 < longest < 0.2:
            hint = f"give {name} in ms (it looks like seconds)"
            raise ProtocolError(f"{name} is at most {longest:g}, too short for ms", hint=hint)


def check_timing(acquisition: Any) -> None:
    """Refuse pulses that are missing or overlap, and an echo before they are over."""
    weighted = ~acquisition.is_b0
    delta, separation = acquisition.delta_ms, acquisition.Delta_ms
    for i in np.flatnonzero(weighted & ((delta <= 0) | (separation <= 0))):
        b = acquisition.b_smm2[i]
        problem = f"volume {i} has b = {b:g} s/mm² but δ = {delta[i]:g} and Δ = {separation[i]:g} ms"
        raise ProtocolError(problem, hint="give the gradient timing of every weighted volume")
    for i in np.flatnonzero(weighted & (separation < delta * (1 - 1e-9))):
        problem = f"volume {i} has Δ = {separation[i]:g} ms, shorter than δ = {delta[i]:g} ms, so its lobes overlap"
        raise ProtocolError(problem, hint="check the order of the rows: b, δ, Δ, TE")
    _check_gradients(acquisition)
    if acquisition.te_ms is not None:
        _check_echo_times(acquisition, acquisition.te_ms)


def _check_gradients(acquisition: Any) -> None:
    """Refuse b-values that the pulses cannot reach."""
    if acquisition.waveforms is not None or not acquisition.has_timing:
        return
    unit = implied_b_smm2(1000.0, acquisition.delta_ms, acquisition.Delta_ms)
    with np.errstate(divide="ignore", invalid="ignore"):
        strength = np.where(acquisition.is_b0, 0.0, np.sqrt(acquisition.b_smm2 / unit))
    if strength.max() > _STRONGEST_T_M:
        i = int(np.argmax(strength))
        pulses = f"δ = {acquisition.delta_ms[i]:g} and Δ = {acquisition.Delta_ms[i]:g} ms"
        problem = (
            f"volume {i} has b = {acquisition.b_smm2[i]:g} s/mm² with {pulses}: a gradient of {strength[i]:.3g} T/m"
        )
        raise ProtocolError(problem, hint="check b (s/mm²), δ and Δ (ms)")


def implied_b_smm2(gradient_mt_m: ArrayLike, delta_ms: ArrayLike, Delta_ms: ArrayLike) -> FloatArray:
    """Return the b-value of a pair of rectangular pulses, s/mm²: (γ G δ)² (Δ - δ/3), Stejskal and Tanner 1965."""
    gradient, delta, separation = (np.asarray(each, dtype=float) for each in (gradient_mt_m, delta_ms, Delta_ms))
    return np.asarray(1000.0 * (GAMMA * gradient * delta) ** 2 * (separation - delta / 3))


def _check_echo_times(acquisition: Any, te: FloatArray) -> None:
    """Refuse an echo before the gradients are over, and one at time zero."""
    if np.any(te <= 0):
        hint = "check the order of the rows: b, δ, Δ, TE; leave TE out if all volumes share one"
        raise ProtocolError(f"volume {int(np.flatnonzero(te <= 0)[0])} has a TE of 0 ms", hint=hint)
    shapes = acquisition.waveforms or (None,) * len(acquisition)
    for i in np.flatnonzero(~acquisition.is_b0 & ~np.isnan(acquisition.delta_ms)):
        shape, delta, separation = shapes[i], float(acquisition.delta_ms[i]), float(acquisition.Delta_ms[i])
        length = delta + separation if shape is None else shape.start_ms[-1] + shape.duration_ms[-1]
        if te[i] < length - _ROUNDING_MS:
            until = f"δ + Δ = {length:g}" if shape is None else f"its gradients, which last {length:g}"
            problem = f"volume {i} has TE = {te[i]:g} ms, shorter than {until} ms: the echo comes after both gradients"
            hint = (
                "check which column or row is TE (ms), and that δ and Δ are not swapped; leave TE out of a stimulated"
            )
            raise ProtocolError(problem, hint=f"{hint} echo, which stores its signal between the pulses")
