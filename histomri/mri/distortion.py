"""Distortion by an uneven field, undone by a map of it; and what FSL's eddy says about images that it corrected."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.door import read_text
from histomri.core.errors import GeometryError, InputError
from histomri.core.files import sidecar_path
from histomri.core.images import read_sidecar
from histomri.mri import DwiFile

PHASE_ENCODINGS = ("i", "i-", "j", "j-", "k", "k-")
_LARGEST_SHARE = 0.25  # of the field of view; more is another unit
_OUTLIERS = ".eddy_outlier_map"


@dataclass(frozen=True)
class FieldMap:
    """A field, (I, J, K) in Hz, and what makes it a distortion: readout time, s, and phase encoding as BIDS names it.

    Water whose field is higher by 1 Hz is displaced by the readout time, in voxels, along the axis.
    """

    field_hz: FloatArray
    readout_s: float
    phase_encoding: str
    source: Path | None = None

    @classmethod
    def read(
        cls, path: str | Path, images: DwiFile, *, readout_s: float | None = None, phase_encoding: str | None = None
    ) -> "FieldMap":
        """Read a field on the grid of the images, such as topup's --fout, and the rest from their JSON sidecar.

        GeometryError if the grid differs, InputError if readout time or phase encoding is not known, or contradicted.
        """
        try:
            field = images.read_map(path)
        except GeometryError as error:
            hint = (
                "give the field that topup --fout writes, in Hz, on the grid of the images; coefficients are no field"
            )
            raise GeometryError(error.problem, path=path, hint=hint) from error
        sidecar = read_sidecar(images.path)
        said = sidecar.get("TotalReadoutTime")
        if said is not None and not (isinstance(said, int | float) and said > 0):
            problem = f"TotalReadoutTime is {said!r}, and a number of seconds was expected"
            raise InputError(problem, path=sidecar_path(images.path), hint="mend the sidecar, or take the entry out")
        readout = _known(readout_s, said, "total readout time", "--readout-ms", images.path)
        axis = _known(
            phase_encoding, sidecar.get("PhaseEncodingDirection"), "phase encoding", "--phase-encoding", images.path
        )
        if axis not in PHASE_ENCODINGS:
            raise InputError(f"there is no phase encoding {axis!r}", hint=f"choose among {', '.join(PHASE_ENCODINGS)}")
        return cls(np.nan_to_num(field, nan=0.0), float(readout), str(axis), Path(path))

    @property
    def shift_voxels(self) -> FloatArray:
        """How far water is displaced along the axis of phase encoding, (I, J, K)."""
        sign = -1.0 if self.phase_encoding.endswith("-") else 1.0
        return np.asarray(sign * self.readout_s * self.field_hz, dtype=float)


def _known(given: Any, said: Any, name: str, flag: str, path: Path) -> Any:
    """Return what is given or what the sidecar says; InputError if neither is there, or both are and differ."""
    if given is None and said is None:
        raise InputError(f"the {name} of the images is not known", path=path, hint=f"give {flag}, or a JSON sidecar")
    if given is None or said is None:
        return said if given is None else given
    same = given == said if isinstance(given, str) else abs(given - float(said)) <= 0.01 * abs(given)
    if not same:
        raise InputError(f"the {name} is {said} in the sidecar, and {given} is given", path=path, hint=f"drop {flag}")
    return given


def undistort(signals: FloatArray, field: FieldMap) -> FloatArray:
    """Undo the distortion of every volume, (I, J, K, M), by cubic splines, and the piling up of signal by its area.

    The field is that of the undistorted tissue. InputError if it displaces tissue by more than a quarter of the image.

    Examples
    --------
    >>> signals = np.zeros((1, 12, 1, 1))
    >>> signals[0, 8] = 1.0
    >>> int(undistort(signals, FieldMap(np.full((1, 12, 1), 40.0), 0.05, "j")).argmax())
    6
    """
    from scipy.ndimage import map_coordinates

    axis, shift = "ijk".index(field.phase_encoding[0]), field.shift_voxels
    largest = float(np.abs(shift).max())
    if largest > _LARGEST_SHARE * signals.shape[axis]:
        problem = f"the field displaces tissue by up to {largest:.3g} voxels of {signals.shape[axis]}"
        hint = "give the field in Hz (rad/s is 6.28 times that) and the total readout time in ms (--readout-ms)"
        raise InputError(problem, path=field.source, hint=hint)
    places = np.indices(signals.shape[:3]).astype(float)
    places[axis] += shift
    area = 1.0 + (np.gradient(shift, axis=axis) if shift.shape[axis] > 1 else 0.0)
    result = np.empty(signals.shape, dtype=np.float32)
    for volume in range(signals.shape[3]):
        moved = map_coordinates(np.asarray(signals[..., volume], dtype=float), places, order=3, mode="nearest")
        result[..., volume] = np.maximum(moved * area, 0.0)
    return result


@dataclass(frozen=True)
class EddyRecord:
    """What eddy did: shift in mm and turn in degrees of each volume, (M,), and outliers by volume and slice, (M, K)."""

    shift_mm: FloatArray
    turn_deg: FloatArray
    outliers: BoolArray | None

    @classmethod
    def read(cls, path: str | Path, volumes: int, slices: int) -> "EddyRecord":
        """Read BASENAME.eddy_parameters, and BASENAME.eddy_outlier_map where that lies beside it.

        InputError if they differ from the images in their number of volumes or slices.
        """
        path = Path(path)
        numbers = _numbers(path, 0)
        if numbers.shape[0] != volumes or numbers.shape[1] < 6:
            problem = (
                f"has {numbers.shape[0]} lines of {numbers.shape[1]} numbers, and the images have {volumes} volumes"
            )
            raise InputError(problem, path=path, hint="give BASENAME.eddy_parameters of the run that made the images")
        beside = path.with_name(path.name.removesuffix(".eddy_parameters") + _OUTLIERS)
        outliers = None
        if beside != path and beside.exists():
            table = _numbers(beside, 1)
            if table.shape != (volumes, slices):
                problem = (
                    f"is of {table.shape[0]} volumes x {table.shape[1]} slices, and the images of {volumes} x {slices}"
                )
                raise InputError(problem, path=beside, hint="give the files of the run that made the images")
            outliers = table > 0
        turn = np.rad2deg(np.linalg.norm(numbers[:, 3:6], axis=1))
        return cls(np.linalg.norm(numbers[:, :3], axis=1), turn, outliers)

    def record(self) -> dict[str, Any]:
        """Return the same as a step of the record."""
        found = [] if self.outliers is None else np.argwhere(self.outliers).tolist()
        words = "no outlier map" if self.outliers is None else f"{len(found)} slices of single volumes are outliers"
        return {
            "Step": "eddy", "Method": "FSL eddy, as it says", "LargestShiftMm": float(self.shift_mm.max()),
            "LargestTurnDeg": float(self.turn_deg.max()), "Found": words,
            "Outliers": [{"volume": volume, "slice": place} for volume, place in found],
        }  # fmt: skip


def _numbers(path: Path, header: int) -> FloatArray:
    """Read a table of numbers after some lines of text."""
    lines = read_text(path, "table of eddy", "give what eddy wrote").splitlines()[header:]
    try:
        table = np.array([[float(word) for word in line.split()] for line in lines if line.strip()], dtype=float)
    except ValueError as error:
        raise InputError(f"is no table of numbers of eddy ({error})", path=path, hint="give what eddy wrote") from error
    if table.ndim != 2 or not np.all(np.isfinite(table)):
        raise InputError("is no table of numbers of eddy", path=path, hint="give what eddy wrote")
    return table
