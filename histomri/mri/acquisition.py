"""The diffusion protocol, an entry per volume in the units of the scanner console, and its gradients; all checked."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.array_files import as_numbers
from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.display import Displayed
from histomri.core.door import reading
from histomri.core.errors import ProtocolError
from histomri.core.files import provenance, read_json, write_json
from histomri.core.presets import PRESETS
from histomri.mri.plausibility import B0_BELOW_SMM2, LONGEST_MS, as_vector, check_b0_below, check_timing, check_units

if TYPE_CHECKING:
    import pandas as pd

_BALANCE = 1e-6
NEED_TIMING = "give --delta and --Delta (ms), or a protocol file with them"
_SAVED = ("b_smm2", "delta_ms", "Delta_ms")
_PIECES = ("start_ms", "duration_ms", "amplitude")


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


class Encoding(NamedTuple):
    """What the signal of restricted water depends on, besides b."""

    waveform: Waveform
    Delta_ms: float


@dataclass(frozen=True, eq=False, repr=False)
class Acquisition(Displayed):
    """A diffusion protocol of M volumes.

    ProtocolError if lengths differ, a number is missing or negative, Δ < δ, TE < δ + Δ, or the numbers can only be in
    other units (b in s/m², times in seconds or microseconds).

    Attributes
    ----------
    b_smm2 : (M,) ndarray
        b-values, s/mm² (1000 s/mm² = 1 ms/µm²).
    delta_ms, Delta_ms : (M,) ndarray
        Gradient duration δ and separation Δ (start to start), ms; volumes at b = 0 may carry zeros. For other
        waveforms, Δ is the diffusion time that the extra-cellular time dependence is written in. NaN if neither is
        known (`has_timing`), as when only b is given: enough for ADC and kurtosis, not for cell size.
    te_ms : (M,) ndarray or None
        Echo times, ms; None when all volumes share one.
    waveforms : tuple of (Waveform or None) or None
        Gradient shapes of the volumes, None for pulse pairs of δ and Δ.
    b0_below_smm2 : float
        Volumes with a smaller b count as b = 0, s/mm²; 10 by default. Their b is kept.

    Examples
    --------
    >>> from histomri.mri import Acquisition
    >>> Acquisition([0, 1000, 2000], delta_ms=10, Delta_ms=30)
    Acquisition(volumes: 3, b (s/mm²): 0 to 2000, δ (ms): 10, Δ (ms): 30, TE (ms): one, not given)
    """

    b_smm2: FloatArray
    delta_ms: FloatArray
    Delta_ms: FloatArray
    te_ms: FloatArray | None = None
    waveforms: tuple[Waveform | None, ...] | None = None
    b0_below_smm2: float = B0_BELOW_SMM2

    def __init__(
        self, b_smm2: ArrayLike, delta_ms: ArrayLike | None = None, Delta_ms: ArrayLike | None = None,
        te_ms: ArrayLike | None = None, waveforms: Sequence[Waveform | None] | None = None, *,
        b0_below_smm2: float = B0_BELOW_SMM2,
    ) -> None:  # fmt: skip
        b = as_vector("b", b_smm2, None)
        te = None if te_ms is None else as_vector("TE", te_ms, b.size)
        if (delta_ms is None) != (Delta_ms is None):
            raise ProtocolError("δ and Δ belong together, and only one of them is given", hint="give both, or neither")
        times = [("δ", delta_ms), ("Δ", Delta_ms)]
        timing = (np.full(b.size, np.nan) if each is None else as_vector(name, each, b.size) for name, each in times)
        check_b0_below(b0_below_smm2)
        self._set((b, *timing, te), None if waveforms is None else tuple(waveforms), float(b0_below_smm2))
        if self.waveforms is not None and len(self.waveforms) != b.size:
            raise ProtocolError(f"there are {b.size} b-values and {len(self.waveforms)} waveforms")
        check_units(self)
        check_timing(self)

    def _set(
        self, vectors: Iterable[FloatArray | None], waveforms: tuple[Waveform | None, ...] | None, b0_below: float
    ) -> None:
        for name, value in zip((*_SAVED, "te_ms"), vectors):
            if value is not None:
                value.setflags(write=False)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "waveforms", waveforms)
        object.__setattr__(self, "b0_below_smm2", b0_below)

    @classmethod
    def trse(
        cls, b_smm2: ArrayLike, deltas_ms: ArrayLike, Delta12_ms: ArrayLike, Delta14_ms: ArrayLike,
        te_ms: ArrayLike | None = None,
    ) -> "Acquisition":  # fmt: skip
        """Return a twice-refocused spin echo protocol of M volumes.

        The durations of the lobes, ms, are (M, 4), (M, 3), (4,) or (3,), of which the last is recomputed as δ1 + δ2 -
        δ3; the starts of the second and the fourth lobe are (M,) or a number. `delta_ms` becomes δ1 + δ2 and `Delta_ms`
        Δ12 + δ2, the time from the first lobe to the reversal.
        """
        b = np.atleast_1d(np.asarray(b_smm2, dtype=float))
        deltas = np.asarray(deltas_ms, dtype=float)
        if deltas.ndim == 0 or deltas.ndim > 2 or deltas.shape[-1] not in (3, 4):
            raise ProtocolError("a twice-refocused protocol needs δ1, δ2, δ3 (and δ4) for each volume")
        try:
            deltas = np.broadcast_to(deltas, (b.size, deltas.shape[-1]))
            delta12 = np.broadcast_to(np.asarray(Delta12_ms, dtype=float), b.shape)
            delta14 = np.broadcast_to(np.asarray(Delta14_ms, dtype=float), b.shape)
        except ValueError as error:
            raise ProtocolError(f"the timings of the lobes do not fit the {b.size} b-values") from error
        # Units come first: with wrong ones the lobes may seem to overlap.
        longest = float(deltas[b >= B0_BELOW_SMM2].max(initial=0.0)) or 1.0
        if not 0.2 <= longest <= LONGEST_MS:
            hint = f"give ms (it looks like {'seconds' if longest < 0.2 else 'µs'})"
            raise ProtocolError(f"the lobes last at most {longest:g}, implausible for ms", hint=hint)
        shapes = [
            None if bi < B0_BELOW_SMM2 and not np.any(row) else twice_refocused(row.tolist(), d12, d14)
            for bi, row, d12, d14 in zip(b, deltas, delta12.tolist(), delta14.tolist())
        ]
        delta = deltas[:, 0] + deltas[:, 1]
        return cls(b, delta, np.where(delta > 0, delta12 + deltas[:, 1], 0.0), te_ms, shapes)

    @classmethod
    def preset(cls, name: str) -> "Acquisition":
        """Return one of the source paper's protocols: mouse-exvivo, invivo-3t, invivo-1.5t."""
        if name not in PRESETS:
            raise ProtocolError(f"there is no protocol preset {name!r}", hint=f"choose among {', '.join(PRESETS)}")
        blocks = PRESETS[name].protocol
        b = np.concatenate([block.b_smm2 for block in blocks])
        te = np.repeat([block.te_ms for block in blocks], [len(block.b_smm2) for block in blocks])
        if blocks[0].lobes_ms:
            rows = np.array([block.lobes_ms for block in blocks for _ in block.b_smm2])
            return cls.trse(b, rows[:, :4], rows[:, 4], rows[:, 5], te)
        delta, separation = (np.concatenate([getattr(each, key) for each in blocks]) for key in _SAVED[1:])
        return cls(b, delta, separation, te)

    def save(self, path: str | Path) -> Path:
        """Write the protocol as JSON, waveforms included; `load` and `read_acquisition` read it."""
        content: dict[str, Any] = {name: getattr(self, name) for name in (*_SAVED, "te_ms")}
        content["shapes"] = self.waveforms and [
            None if each is None else {key: getattr(each, key) for key in _PIECES} for each in self.waveforms
        ]
        if not self.has_timing:
            content |= {"delta_ms": None, "Delta_ms": None}
        if self.b0_below_smm2 != B0_BELOW_SMM2:
            content["b0_below_smm2"] = self.b0_below_smm2
        return write_json(path, content | {"GeneratedBy": provenance()["GeneratedBy"]})

    @classmethod
    def load(cls, path: str | Path) -> "Acquisition":
        """Read what `save` wrote; ProtocolError if it is no saved protocol."""
        if not isinstance(content := read_json(path, "protocol file"), dict):
            raise ProtocolError("is not a JSON object", path=path)
        return cls.from_json(content, path)

    @classmethod
    def from_json(cls, content: Mapping[str, Any], path: str | Path) -> "Acquisition":
        """Return the protocol that `save` wrote, from its content; the path is for errors."""
        if missing := [name for name in _SAVED if name not in content]:
            raise ProtocolError(f"has no {', '.join(missing)}", path=path, hint="save the protocol again")
        shapes = content.get("shapes")
        with reading(
            path, "protocol", "save the protocol again", "is no saved protocol ({})", ProtocolError, unchecked=True
        ):
            waveforms = shapes and [
                None if each is None else Waveform(*(tuple(as_numbers(each[key]).tolist()) for key in _PIECES))
                for each in shapes
            ]
            vectors = (content["b_smm2"], content["delta_ms"], content["Delta_ms"], content.get("te_ms"))
            return cls(*vectors, waveforms, b0_below_smm2=float(content.get("b0_below_smm2", B0_BELOW_SMM2)))

    def facts(self) -> dict[str, Any]:
        """Return what the protocol spans."""
        spans = {"δ (ms)": _span(self.delta_ms[~self.is_b0]), "Δ (ms)": _span(self.Delta_ms[~self.is_b0])}
        spans = spans if self.has_timing else dict.fromkeys(spans, "not given")
        te = "one, not given" if self.te_ms is None else _span(self.te_ms)
        return {"volumes": len(self), "b (s/mm²)": _span(self.b_smm2), **spans, "TE (ms)": te}

    def to_pandas(self) -> "pd.DataFrame":
        """Return a table with a row per volume: b_smm2, delta_ms, Delta_ms, te_ms."""
        import pandas as pd

        te = np.full(len(self), np.nan) if self.te_ms is None else self.te_ms
        return pd.DataFrame({**{name: getattr(self, name) for name in _SAVED}, "te_ms": te})

    def plot(self) -> Any:
        """Draw b and the timing of each volume; returns the matplotlib Figure."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        above.stem(self.b_smm2, basefmt=" ")
        above.set_ylabel("b, s/mm²")
        below.plot(self.to_pandas()[["delta_ms", "Delta_ms", "te_ms"]], ".", label=["δ", "Δ", "TE"])
        below.set(xlabel="volume", ylabel="ms")
        below.legend()
        return figure

    def __len__(self) -> int:
        return int(self.b_smm2.size)

    @property
    def is_b0(self) -> BoolArray:
        """Volumes that count as b = 0, by default b < 10 s/mm², (M,)."""
        return np.asarray(self.b_smm2 < self.b0_below_smm2)

    @property
    def has_timing(self) -> bool:
        """Whether δ and Δ are known."""
        return not bool(np.isnan(self.delta_ms).any())

    def select(self, mask: ArrayLike) -> "Acquisition":
        """Return the protocol of some volumes, chosen by a boolean mask or by indices."""
        index = np.arange(len(self))[np.asarray(mask)]
        # Not through __init__: the b = 0 volumes alone are a fine selection, and would fail the check of units.
        part, vectors = object.__new__(Acquisition), (self.b_smm2, self.delta_ms, self.Delta_ms, self.te_ms)
        shapes = None if self.waveforms is None else tuple(self.waveforms[i] for i in index)
        part._set((None if each is None else each[index] for each in vectors), shapes, self.b0_below_smm2)
        return part

    def encodings(self) -> tuple[tuple[Encoding, ...], IntArray]:
        """Return the distinct encodings, and which of them each volume has, (M,); -1 for volumes without gradients.

        ProtocolError if δ and Δ are not known.
        """
        if not self.has_timing:
            raise ProtocolError("δ and Δ are not known, and restricted diffusion depends on them", hint=NEED_TIMING)
        known: dict[Encoding, int] = {}
        index = np.full(len(self), -1)
        shapes = self.waveforms or (None,) * len(self)
        for i, (shape, delta, separation) in enumerate(zip(shapes, self.delta_ms, self.Delta_ms)):
            if shape is not None or (delta > 0 and separation > 0):
                encoding = Encoding(shape or pulse_pair(delta, separation), float(separation))
                index[i] = known.setdefault(encoding, len(known))
        return tuple(known), index


def _span(values: FloatArray) -> str:
    if values.size == 0:
        return "none"
    return f"{values.min():g}" if np.ptp(values) == 0 else f"{values.min():g} to {values.max():g}"
