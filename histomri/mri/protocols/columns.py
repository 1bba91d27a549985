"""What a file says of each volume, in one place: completed by what the user says, checked, and made a protocol."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import FloatArray
from histomri.core.errors import ProtocolError, UnitError
from histomri.mri.acquisition import NEED_TIMING, Acquisition
from histomri.mri.plausibility import B0_BELOW_SMM2, as_vector, implied_b_smm2

# Rectangular pulses are an idealisation: ramps and imaging gradients change b by some percent, and by some s/mm².
_AGREE, _AGREE_SMM2, _SAME_MS = 0.05, 20.0, 0.05


@dataclass(frozen=True)
class Facts:
    """What the user says about all volumes, apart from the file: s/mm² and ms."""

    delta_ms: float | None = None
    Delta_ms: float | None = None
    te_ms: float | None = None
    b0_below_smm2: float | None = None


@dataclass(frozen=True)
class Columns:
    """What a file says of its M volumes: a number each, or one for all; None where it says nothing.

    `gradient_mt_m` is the strength of a pair of pulses; `missing` says what could be added where δ or Δ is not there.
    """

    b_smm2: ArrayLike | None = None
    delta_ms: ArrayLike | None = None
    Delta_ms: ArrayLike | None = None
    te_ms: ArrayLike | None = None
    gradient_mt_m: ArrayLike | None = None
    b0_below_smm2: float | None = None
    missing: str = "has no gradient duration δ and separation Δ"

    def acquisition(self, facts: Facts, timing: bool) -> Acquisition:
        """Return the protocol; ProtocolError if the user contradicts the file, or δ and Δ are needed and not there."""
        known = replace(
            self,
            delta_ms=_agreed("δ", self.delta_ms, facts.delta_ms, "--delta"),
            Delta_ms=_agreed("Δ", self.Delta_ms, facts.Delta_ms, "--Delta"),
            te_ms=_agreed("TE", self.te_ms, facts.te_ms, "--te"),
        )
        b = known._b_values()
        b0_below = next((each for each in (facts.b0_below_smm2, self.b0_below_smm2) if each is not None), B0_BELOW_SMM2)
        te = None if known.te_ms is None else np.broadcast_to(np.asarray(known.te_ms, dtype=float), b.shape)
        if known.delta_ms is None or known.Delta_ms is None:
            if timing or facts.delta_ms is not None or facts.Delta_ms is not None:
                raise ProtocolError(known._absent(), hint=NEED_TIMING)
            return Acquisition(b, te_ms=te, b0_below_smm2=b0_below)
        return Acquisition(b, known.delta_ms, known.Delta_ms, te, b0_below_smm2=b0_below)

    def _absent(self) -> str:
        if self.missing != Columns.missing or (self.delta_ms is None and self.Delta_ms is None):
            return self.missing
        return "has no gradient duration δ" if self.delta_ms is None else "has no gradient separation Δ"

    def _b_values(self) -> FloatArray:
        """Return b, (M,), s/mm², which the gradients give where nothing else does; UnitError if both disagree."""
        if self.gradient_mt_m is None:
            if self.b_smm2 is None:
                raise ProtocolError("has no b-values", hint="add b (s/mm²), or the gradient strength (mT/m)")
            return as_vector("b", self.b_smm2, None)
        if self.delta_ms is None or self.Delta_ms is None:
            if self.b_smm2 is None:
                raise ProtocolError("has gradient strengths, and b needs δ and Δ too", hint=NEED_TIMING)
            return as_vector("b", self.b_smm2, None)
        implied = np.atleast_1d(implied_b_smm2(self.gradient_mt_m, self.delta_ms, self.Delta_ms))
        if self.b_smm2 is None:
            return implied
        b = as_vector("b", self.b_smm2, None)
        far = np.abs(b - implied) > _AGREE * np.maximum(b, implied) + _AGREE_SMM2
        if far.any():
            i = int(np.flatnonzero(far)[0])
            given = float(np.broadcast_to(np.asarray(self.gradient_mt_m, dtype=float), b.shape)[i])
            found = f"b = {b[i]:g} s/mm², and its gradient of {given:.4g} mT/m gives b = {implied[i]:.4g}"
            hint = "check the units of b (s/mm²), of the gradient and of δ and Δ (ms)"
            raise UnitError(f"volume {i} has {found}", hint=hint)
        return b


def matches_gradients(b: FloatArray, gradient_mt_m: FloatArray, delta_ms: FloatArray, Delta_ms: FloatArray) -> bool:
    """Tell whether numbers are the gradients, mT/m, that b needs."""
    implied = implied_b_smm2(gradient_mt_m, delta_ms, Delta_ms)
    return bool(np.all(np.abs(b - implied) <= _AGREE * np.maximum(b, implied) + _AGREE_SMM2) and b.max() > 0)


def completed(acquisition: Acquisition, facts: Facts) -> Acquisition:
    """Return a protocol with what the user says of it; ProtocolError if the two contradict each other."""
    if facts == Facts():
        return acquisition
    known = (acquisition.delta_ms, acquisition.Delta_ms) if acquisition.has_timing else (None, None)
    # Volumes at b = 0 may carry zeros.
    weighted = ~acquisition.is_b0
    delta = _agreed("δ", known[0], facts.delta_ms, "--delta", weighted)
    separation = _agreed("Δ", known[1], facts.Delta_ms, "--Delta", weighted)
    te = _agreed("TE", acquisition.te_ms, facts.te_ms, "--te")
    b0_below = acquisition.b0_below_smm2 if facts.b0_below_smm2 is None else facts.b0_below_smm2
    return Acquisition(acquisition.b_smm2, delta, separation, te, acquisition.waveforms, b0_below_smm2=b0_below)


def _agreed(
    name: str, of_file: ArrayLike | None, said: float | None, option: str, where: ArrayLike | None = None
) -> ArrayLike | None:
    """Return what a file, or else the user, says; ProtocolError if they differ."""
    if of_file is None or said is None:
        return said if of_file is None else of_file
    values = np.asarray(of_file, dtype=float)
    compared = values[values > 0] if where is None else values[np.asarray(where)]
    if np.any(np.abs(compared - said) > _SAME_MS):
        other = compared[np.abs(compared - said) > _SAME_MS][0]
        problem = f"says {name} = {other:g} ms, and {option} {said:g}"
        raise ProtocolError(problem, hint=f"leave {option} out, or correct the file")
    return of_file
