"""Gradient waveforms made of pieces of constant amplitude: the shape that a diffusion measurement depends on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from histomri.core.errors import ProtocolError

_BALANCE = 1e-6


@dataclass(frozen=True)
class Waveform:
    """The effective gradient (sign changed by every refocusing pulse), as pieces of constant relative amplitude.

    Each piece has a start, a duration and an amplitude, in order and without overlap; only ratios of amplitudes matter,
    as b is given apart. ProtocolError if pieces overlap, have no length, or leave a net dephasing behind (the echo
    would vanish).
    """

    start_ms: tuple[float, ...]
    duration_ms: tuple[float, ...]
    amplitude: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = (*self.start_ms, *self.duration_ms, *self.amplitude)
        if not self.start_ms or not len(self.start_ms) == len(self.duration_ms) == len(self.amplitude):
            raise ProtocolError("a waveform needs as many starts as durations and amplitudes, and at least one")
        if not all(math.isfinite(number) for number in numbers):
            raise ProtocolError("a waveform holds a number that is not finite")
        if min(self.duration_ms) <= 0 or min(self.gaps_ms, default=0.0) < 0:
            hint = "give start and duration in ms, in order"
            raise ProtocolError("the pieces of a waveform overlap or have no length", hint=hint)
        area = [a * d for a, d in zip(self.amplitude, self.duration_ms)]
        if abs(sum(area)) > _BALANCE * sum(map(abs, area)) or not any(area):
            hint = "give the effective gradient, with its sign changed after every refocusing pulse"
            raise ProtocolError("the gradient of a waveform does not add up to zero, so there is no echo", hint=hint)

    @property
    def gaps_ms(self) -> tuple[float, ...]:
        """Pauses between neighbouring pieces, ms; rounding leaves no negative zero."""
        ends = [start + duration for start, duration in zip(self.start_ms, self.duration_ms)]
        gaps = [start - end for end, (_, start) in zip(ends, pairwise(self.start_ms))]
        return tuple(0.0 if abs(gap) < 1e-9 else gap for gap in gaps)

    @property
    def weighting(self) -> float:
        """The b-value of unit γG, ms³ (so b = weighting (γG)²): the integral of the squared dephasing."""
        total, dephasing = 0.0, 0.0
        for amplitude, duration, gap in zip(self.amplitude, self.duration_ms, (*self.gaps_ms, 0.0)):
            total += duration * (dephasing**2 + dephasing * amplitude * duration + (amplitude * duration) ** 2 / 3)
            dephasing += amplitude * duration
            total += gap * dephasing**2
        return total

    @property
    def is_pulse_pair(self) -> bool:
        """Whether it is the Stejskal-Tanner pair: two equal and opposite pieces."""
        amplitude, duration = self.amplitude, self.duration_ms
        return len(amplitude) == 2 and amplitude[0] == -amplitude[1] and duration[0] == duration[1]


def pulse_pair(delta_ms: float, Delta_ms: float) -> Waveform:
    """Return the pulsed-gradient spin echo's waveform: duration δ, separation Δ (start to start)."""
    return Waveform((0.0, float(Delta_ms)), (float(delta_ms), float(delta_ms)), (1.0, -1.0))


def twice_refocused(deltas_ms: Sequence[float], Delta12_ms: float, Delta14_ms: float) -> Waveform:
    """Return the effective gradient of a twice-refocused spin echo.

    Given are δ1, δ2, δ3 and, optionally, δ4, and the starts of the second and of the fourth lobe, from that of the
    first. The echo demands δ4 = δ1 + δ2 - δ3, and that is used; a given δ4 may differ by rounding only. ProtocolError
    if the lobes overlap, or δ4 is off by more than 0.25 ms.
    """
    first, second, third = (float(delta) for delta in deltas_ms[:3])
    # Printed protocols round δ4 on its own, and an unbalanced gradient would have no echo.
    fourth = first + second - third
    if len(deltas_ms) > 3 and abs(deltas_ms[3] - fourth) > 0.25:
        problem = f"δ4 = {deltas_ms[3]:g} ms does not close the echo: δ1 + δ2 - δ3 = {fourth:g} ms"
        raise ProtocolError(problem, hint="check the four durations")
    starts = (0.0, float(Delta12_ms), float(Delta12_ms) + second, float(Delta14_ms))
    return Waveform(starts, (first, second, third, fourth), (1.0, 1.0, -1.0, -1.0))
