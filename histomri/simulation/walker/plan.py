"""When a walk is recorded: the pulse edges of all protocols, in all the windows where they fit into it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from histomri.core.arrays import FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.mri import Acquisition, Waveform

# A protocol that takes less time than the walk is placed several times into it, this part of its length apart.
_APART = 0.5
_SAME_MS = 1e-6


class Shot(NamedTuple):
    """What is played after an excitation: gradients (None for none), and the time of the echo (None if unused)."""

    waveform: Waveform | None
    te_ms: float | None

    @property
    def length_ms(self) -> float:
        """From excitation (or the first gradient) to echo (or the end of the last one)."""
        if self.te_ms is not None:
            return self.te_ms
        return 0.0 if self.waveform is None else _length(self.waveform)

    @property
    def lead_ms(self) -> float:
        """Time before the first gradient: the gradients of a spin echo lie in the middle of its echo time."""
        return 0.0 if self.te_ms is None or self.waveform is None else 0.5 * (self.te_ms - _length(self.waveform))


def _length(waveform: Waveform) -> float:
    return waveform.start_ms[-1] + waveform.duration_ms[-1]


@dataclass(frozen=True)
class Plan:
    """Edges of a walk, and which of them each measurement needs.

    Attributes
    ----------
    spans : (S,) ndarray
        Durations between the edges, ms.
    placements : (P, 2) ndarray of int
        Edges at which a shot in a window begins and ends; those of one shot follow each other.
    pieces : (Q, 2) ndarray of int
        Edges at which pieces of gradient begin and end.
    amplitude : (Q,) ndarray
        Of the pieces.
    first_piece, first_placement, first_measurement : (P + 1,), (H + 1,), (H + 1,) ndarray of int
        Where the pieces of a placement, and placements and measurements of each of the H shots begin.
    strength : (K,) ndarray
        Of the K measurements: the root of b over the weighting of the waveform.
    volumes : tuple of (M,) ndarray of int
        By protocol, the measurement of each volume.
    """

    spans: FloatArray
    placements: IntArray
    pieces: IntArray
    amplitude: FloatArray
    first_piece: IntArray
    first_placement: IntArray
    first_measurement: IntArray
    strength: FloatArray
    volumes: tuple[IntArray, ...]

    @property
    def arrays(self) -> tuple[FloatArray | IntArray, ...]:
        """What the compiled code gets."""
        return (
            self.placements, self.pieces, self.amplitude, self.first_piece, self.first_placement,
            self.first_measurement, self.strength,
        )  # fmt: skip


def make_plan(acquisitions: Sequence[Acquisition], *, echoes: bool) -> Plan:
    """Return the plan of a walk that serves all volumes of some protocols.

    Parameters
    ----------
    acquisitions : sequence of Acquisition
        Any gradient waveforms.
    echoes : bool
        Whether the echo times count (the water relaxes); the gradients then lie in the middle of them.

    Raises
    ------
    InputError
        If there are no gradients, or an echo time is missing or shorter than the gradients.
    """
    known: dict[Shot, dict[float, int]] = {}
    windows: dict[Shot, float] = {}
    rows: list[list[tuple[Shot, float]]] = []
    for acquisition in acquisitions:
        shots = _shots(acquisition, echoes)
        rows.append([(shot, float(b) if shot.waveform else 0.0) for shot, b in zip(shots, acquisition.b_smm2)])
        for shot, b in rows[-1]:
            known.setdefault(shot, {}).setdefault(b, 0)
            windows[shot] = max(windows.get(shot, 0.0), max(one.length_ms for one in shots))
    horizon = max(windows.values())
    strength: list[float] = []
    for shot, values in known.items():
        for b in values:
            values[b] = len(strength)
            strength.append(np.sqrt(1e-3 * b / shot.waveform.weighting) if shot.waveform else 0.0)
    return _placed(known, windows, horizon, strength, [np.array([known[s][b] for s, b in row]) for row in rows])


def _shots(acquisition: Acquisition, echoes: bool) -> list[Shot]:
    encodings, index = acquisition.encodings()
    if not encodings:
        raise InputError("the protocol has no gradients to walk through", hint="give δ and Δ, or waveforms")
    if np.any((index < 0) & ~acquisition.is_b0):
        raise InputError("a volume with b > 0 has no δ and Δ", hint="give the timing of every volume")
    if echoes and acquisition.te_ms is None:
        raise InputError("T2 needs echo times, and the protocol has none", hint="add TE to the protocol")
    shots = []
    for volume, e in enumerate(index):
        te = float(acquisition.te_ms[volume]) if echoes and acquisition.te_ms is not None else None
        shot = Shot(encodings[e].waveform if e >= 0 and acquisition.b_smm2[volume] > 0 else None, te)
        if shot.lead_ms < 0 or (te is not None and te <= 0):
            length = _length(shot.waveform) if shot.waveform else 0.0
            problem = f"volume {volume}: the echo time of {te:g} ms is shorter than the gradients, {length:g} ms"
            raise InputError(problem, hint="check the units of TE, δ and Δ")
        shots.append(shot)
    return shots


def _placed(
    known: dict[Shot, dict[float, int]], windows: dict[Shot, float], horizon: float, strength: list[float],
    volumes: list[IntArray],
) -> Plan:  # fmt: skip
    times: list[tuple[float, float]] = []  # of placements, and then of pieces
    pieces: list[tuple[float, float]] = []
    amplitude: list[float] = []
    first_piece, first_placement, first_measurement = [0], [0], [0]
    for shot, values in known.items():
        for begin in _begins(windows[shot], horizon):
            times.append((begin, begin + shot.length_ms))
            if shot.waveform is not None:
                at, waveform = begin + shot.lead_ms, shot.waveform
                for start, duration, strong in zip(waveform.start_ms, waveform.duration_ms, waveform.amplitude):
                    pieces.append((at + start, at + start + duration))
                    amplitude.append(strong)
            first_piece.append(len(pieces))
        first_placement.append(len(times))
        first_measurement.append(first_measurement[-1] + len(values))
    edges = np.unique(np.round(np.array([0.0, *np.ravel(times), *np.ravel(pieces)]) / _SAME_MS)) * _SAME_MS
    return Plan(
        np.diff(edges), _nearest(edges, times), _nearest(edges, pieces), np.array(amplitude), np.array(first_piece),
        np.array(first_placement), np.array(first_measurement), np.array(strength), tuple(volumes),
    )  # fmt: skip


def _begins(length: float, horizon: float) -> FloatArray:
    """Return where the windows of a protocol begin: its longest shot fits into each."""
    if length <= 0.0:
        return np.zeros(1)
    return np.linspace(0.0, horizon - length, 1 + int((horizon - length) / (_APART * length) + 1e-9))


def _nearest(edges: FloatArray, times: list[tuple[float, float]]) -> IntArray:
    wanted = np.array(times, dtype=float).reshape(-1, 2)
    return np.asarray(np.searchsorted(edges, wanted - 0.5 * _SAME_MS), dtype=np.int64)
