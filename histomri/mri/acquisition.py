"""The diffusion protocol: one entry per volume, in the units of the scanner console, checked at the door."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import ProtocolError
from histomri.core.files import read_json
from histomri.mri.waveforms import Waveform, pulse_pair, twice_refocused

B0_BELOW_SMM2 = 10.0
_LONGEST_MS = 200.0
_MOST_B_SMM2 = 1e6


class Encoding(NamedTuple):
    """What the signal of restricted water depends on, besides b."""

    waveform: Waveform
    Delta_ms: float


@dataclass(frozen=True, eq=False)
class Acquisition:
    """A diffusion protocol of M volumes.

    Attributes
    ----------
    b_smm2 : (M,) ndarray
        b-values, s/mm² (1000 s/mm² = 1 ms/µm²).
    delta_ms, Delta_ms : (M,) ndarray
        Gradient duration δ and separation Δ (start to start), ms; rows below 10 s/mm² may carry zeros. For other
        waveforms, Δ is the diffusion time that the extra-cellular time dependence is written in.
    te_ms : (M,) ndarray or None
        Echo times, ms; None when all volumes share one.
    waveforms : tuple of (Waveform or None) or None
        Gradient shapes of the volumes, None for pulse pairs of δ and Δ.

    Raises
    ------
    ProtocolError
        If lengths differ, a number is missing or negative, Δ < δ, or the numbers can only be in other units
        (b in s/m², times in seconds or microseconds).
    """

    b_smm2: FloatArray
    delta_ms: FloatArray
    Delta_ms: FloatArray
    te_ms: FloatArray | None = None
    waveforms: tuple[Waveform | None, ...] | None = None

    def __init__(
        self,
        b_smm2: ArrayLike,
        delta_ms: ArrayLike,
        Delta_ms: ArrayLike,
        te_ms: ArrayLike | None = None,
        waveforms: Sequence[Waveform | None] | None = None,
    ) -> None:
        b = _vector("b", b_smm2, None)
        fields = {
            "b_smm2": b,
            "delta_ms": _vector("δ", delta_ms, b.size),
            "Delta_ms": _vector("Δ", Delta_ms, b.size),
            "te_ms": None if te_ms is None else _vector("TE", te_ms, b.size),
            "waveforms": None if waveforms is None else tuple(waveforms),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if self.waveforms is not None and len(self.waveforms) != b.size:
            raise ProtocolError(f"there are {b.size} b-values and {len(self.waveforms)} waveforms")
        _check_units(self)
        _check_timing(self)

    @classmethod
    def trse(
        cls,
        b_smm2: ArrayLike,
        deltas_ms: ArrayLike,
        Delta12_ms: ArrayLike,
        Delta14_ms: ArrayLike,
        te_ms: ArrayLike | None = None,
    ) -> "Acquisition":
        """Return a twice-refocused spin echo protocol.

        Parameters
        ----------
        b_smm2 : (M,) array-like
            b-values, s/mm².
        deltas_ms : (M, 4), (M, 3), (4,) or (3,) array-like
            Durations of the lobes, ms; the last is recomputed as δ1 + δ2 - δ3.
        Delta12_ms, Delta14_ms : (M,) array-like or float
            Starts of the second and the fourth lobe, ms.
        te_ms : (M,) array-like, optional
            Echo times, ms.

        Notes
        -----
        `delta_ms` becomes δ1 + δ2 and `Delta_ms` Δ12 + δ2, the time from the first lobe to the reversal.
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
        shapes = [
            None if bi < B0_BELOW_SMM2 and not np.any(row) else twice_refocused(row.tolist(), d12, d14)
            for bi, row, d12, d14 in zip(b, deltas, delta12.tolist(), delta14.tolist())
        ]
        delta = deltas[:, 0] + deltas[:, 1]
        return cls(b, delta, np.where(delta > 0, delta12 + deltas[:, 1], 0.0), te_ms, shapes)

    @classmethod
    def preset(cls, name: str) -> "Acquisition":
        """Return one of the source paper's protocols: mouse-exvivo, invivo-3t, invivo-1.5t."""
        from histomri.mri.presets import preset_acquisition

        return preset_acquisition(name)

    def save(self, path: str | Path) -> Path:
        """Write the protocol as JSON, waveforms included; `load` and `read_acquisition` read it."""
        from histomri.mri.acquisition_files import write_acquisition

        return write_acquisition(self, path)

    @classmethod
    def load(cls, path: str | Path) -> "Acquisition":
        """Read what `save` wrote.

        Raises
        ------
        InputError, ProtocolError
            If the file is missing, or no saved protocol.
        """
        from histomri.mri.acquisition_files import acquisition_from_json

        content = read_json(path, "protocol file")
        if not isinstance(content, dict):
            raise ProtocolError("is not a JSON object", path=path)
        return acquisition_from_json(content, path)

    def __len__(self) -> int:
        return int(self.b_smm2.size)

    @property
    def is_b0(self) -> BoolArray:
        """Volumes without diffusion weighting, b < 10 s/mm², (M,)."""
        return np.asarray(self.b_smm2 < B0_BELOW_SMM2)

    def select(self, mask: ArrayLike) -> "Acquisition":
        """Return the protocol of some volumes, chosen by a boolean mask or by indices."""
        index = np.arange(len(self))[np.asarray(mask)]
        # Not through __init__: the b = 0 volumes alone are a fine selection, and would fail the check of units.
        part = object.__new__(Acquisition)
        for name in ("b_smm2", "delta_ms", "Delta_ms", "te_ms"):
            values = getattr(self, name)
            if values is not None:
                values = values[index]
                values.setflags(write=False)
            object.__setattr__(part, name, values)
        shapes = self.waveforms
        object.__setattr__(part, "waveforms", None if shapes is None else tuple(shapes[i] for i in index))
        return part

    def encodings(self) -> tuple[tuple[Encoding, ...], IntArray]:
        """Return the distinct encodings, and which of them each volume has.

        Returns
        -------
        encodings : tuple of Encoding
            Distinct gradient shapes with their diffusion times.
        index : (M,) ndarray of int
            Position in `encodings`; -1 for volumes without gradients.
        """
        known: dict[Encoding, int] = {}
        index = np.full(len(self), -1)
        for i in range(len(self)):
            waveform = self._waveform(i)
            if waveform is not None:
                index[i] = known.setdefault(Encoding(waveform, float(self.Delta_ms[i])), len(known))
        return tuple(known), index

    def _waveform(self, i: int) -> Waveform | None:
        if self.waveforms is not None and self.waveforms[i] is not None:
            return self.waveforms[i]
        if self.delta_ms[i] <= 0 or self.Delta_ms[i] <= 0:
            return None
        return pulse_pair(self.delta_ms[i], self.Delta_ms[i])


def _vector(name: str, values: ArrayLike, length: int | None) -> FloatArray:
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
    vector.setflags(write=False)
    return vector


def _check_units(acquisition: Acquisition) -> None:
    b = acquisition.b_smm2
    if b.max() < B0_BELOW_SMM2 and (b.max() > 0 or b.size > 1):
        raise ProtocolError(
            f"the largest b-value is {b.max():g}, no diffusion weighting at all in s/mm²",
            hint="give b in s/mm² (1 ms/µm² = 1000 s/mm²)",
        )
    if b.max() > _MOST_B_SMM2:
        raise ProtocolError(
            f"the largest b-value is {b.max():g}, which looks like s/m²", hint="give b in s/mm² (divide by 1e6)"
        )
    weighted = ~acquisition.is_b0
    for name, times in (("δ", acquisition.delta_ms), ("Δ", acquisition.Delta_ms), ("TE", acquisition.te_ms)):
        if times is None or not weighted.any():
            continue
        # Duration is the stricter test: separations of stimulated echoes may reach seconds.
        most = _LONGEST_MS if name == "δ" else 5000.0
        used = times[weighted]
        if used.max() > most:
            raise ProtocolError(
                f"{name} reaches {used.max():g}, too long for ms (more than {most:g} ms)",
                hint=f"give {name} in ms (it looks like µs)",
            )
        if 0 < used.max() < 0.2:
            raise ProtocolError(
                f"{name} is at most {used.max():g}, too short for ms",
                hint=f"give {name} in ms (it looks like seconds)",
            )


def _check_timing(acquisition: Acquisition) -> None:
    weighted = ~acquisition.is_b0
    delta, separation = acquisition.delta_ms, acquisition.Delta_ms
    missing = weighted & ((delta <= 0) | (separation <= 0))
    if missing.any():
        i = int(np.flatnonzero(missing)[0])
        raise ProtocolError(
            f"volume {i} has b = {acquisition.b_smm2[i]:g} s/mm² but δ = {delta[i]:g} and Δ = {separation[i]:g} ms",
            hint="give the gradient timing of every weighted volume",
        )
    swapped = weighted & (separation < delta * (1 - 1e-9))
    if swapped.any():
        i = int(np.flatnonzero(swapped)[0])
        raise ProtocolError(
            f"volume {i} has Δ = {separation[i]:g} ms, shorter than δ = {delta[i]:g} ms, so its lobes overlap",
            hint="check the order of the rows: b, δ, Δ, TE",
        )
