"""Drift of the signal during a scan, measured in a reference region and divided out."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import InputError, ProtocolError
from histomri.mri.acquisition import Acquisition

# Variance inflation above which time cannot be separated from echo time and diffusion.
_MOST_INFLATION = 100.0
_MOST_UNCERTAIN = 0.05


@dataclass(frozen=True)
class Drift:
    """The drift of a series: the (M,) factors to divide by, 1 first, and the relative error over the scan."""

    factor: FloatArray
    standard_error: float
    details: dict[str, Any]


def estimate_drift(signals: FloatArray, reference: BoolArray, acquisition: Acquisition, *, order: int = 1) -> Drift:
    """Estimate how the gain of the scanner changed over the scan, from a region that itself does not change.

    Volumes are taken to be in the order in which they were acquired. Those of equal weighting (b = 0 at one echo
    time, or equal b, δ, Δ and TE) share a level of their own, so that neither T2 nor diffusion is mistaken for
    drift; where too few are repeated, the levels follow -TE/T2 - b D + c b² instead.

    Parameters
    ----------
    signals, reference : (I, J, K, M) ndarray, and (I, J, K) ndarray of bool
        Signals, and the region: saline, a phantom, or muscle.
    acquisition : Acquisition
        Protocol of the M volumes.
    order : {1, 2}
        Drift of the logarithm over the volumes: linear, or with a square.

    Raises
    ------
    InputError, ProtocolError
        If the region is empty or without signal, or the order is another; if time cannot be separated from echo time
        and diffusion with this order of volumes.

    Notes
    -----
    After Vos et al. 2017, doi 10.1002/mrm.26124, who use b = 0 volumes of one echo time.
    """
    if order not in (1, 2):
        raise InputError(f"a drift of order {order} is not offered", hint="choose 1 or 2")
    if not reference.any():
        raise InputError("the reference region of the drift is empty")
    level = signals[reference].mean(axis=0, dtype=np.float64)
    if not np.all(np.isfinite(level)) or not np.any(level > 0):
        raise InputError("the reference region of the drift has no signal, or one that is not finite")
    # Volumes that have decayed into the noise say nothing about the gain.
    used = level > 0.1 * level.max()
    time = np.arange(level.size) / max(level.size - 1, 1)
    columns = np.stack([time ** (power + 1) for power in range(order)], axis=1)
    kinds = {"volumes of equal weighting": _groups(acquisition), "decay with TE and b": _decay(acquisition)}
    for name, levels in kinds.items():
        if fitted := _regress(np.log(np.where(used, level, 1.0)), levels, columns, level * used):
            slope, spread = fitted
            log_factor = columns @ slope
            details = {
                "Order": order, "LevelsFrom": name, "DriftPercent": 100 * float(np.expm1(log_factor[-1])),
                "StandardErrorPercent": 100 * spread, "VolumesUsed": int(used.sum()),
                "ReferenceVoxels": int(reference.sum()),
            }  # fmt: skip
            return Drift(np.exp(log_factor), spread, details)
    raise ProtocolError(
        "the drift cannot be separated from T2 and diffusion: time, echo time and b change together here",
        hint="leave --drift-reference out, or acquire some b = 0 volumes again at the end",
    )


def correct_drift(signals: FloatArray, drift: Drift) -> FloatArray:
    """Divide the drift out of the signals, (I, J, K, M)."""
    return np.asarray(signals / drift.factor.astype(signals.dtype))


def _groups(acquisition: Acquisition) -> FloatArray:
    """Return a column per kind of volume, (M, kinds)."""
    index = np.where(acquisition.is_b0, -1, acquisition.encodings()[1])
    te = np.zeros(len(acquisition)) if acquisition.te_ms is None else np.round(acquisition.te_ms, 3)
    b = np.where(acquisition.is_b0, 0.0, np.round(acquisition.b_smm2, 1))
    kind = np.unique(np.stack([index, b, te], axis=1), axis=0, return_inverse=True)[1].ravel()
    return np.asarray(kind[:, None] == np.arange(kind.max() + 1), dtype=float)


def _decay(acquisition: Acquisition) -> FloatArray:
    b = acquisition.b_smm2 / 1000.0
    columns = [np.ones(b.size), b, b**2]
    if acquisition.te_ms is not None and np.ptp(acquisition.te_ms) > 0:
        columns.append(acquisition.te_ms / 100.0)
    return np.stack(columns, axis=1)


def _regress(
    log_level: FloatArray, levels: FloatArray, columns: FloatArray, weight: FloatArray
) -> tuple[FloatArray, float] | None:
    """Return the drift's coefficients and the standard error of their sum; None if they are not determined.

    Weighted by the signal, as noise in its logarithm goes with the inverse.
    """
    used = weight > 0
    scale = weight[used, None] / weight.max()
    y, levels, columns = log_level[used] * scale[:, 0], levels[used] * scale, columns[used] * scale
    vectors, values, _ = np.linalg.svd(levels, full_matrices=False)
    vectors = vectors[:, values > 1e-9 * values[0]]
    alone = columns - vectors @ (vectors.T @ columns)
    left = y.size - vectors.shape[1] - columns.shape[1]
    smallest, whole = (np.linalg.svd(part, compute_uv=False)[-1] ** 2 for part in (alone, columns))
    if left < 1 or not smallest > whole / _MOST_INFLATION:
        return None
    rest = y - vectors @ (vectors.T @ y)
    slope = np.linalg.lstsq(alone, rest, rcond=None)[0]
    residual = rest - alone @ slope
    covariance = residual @ residual / left * np.linalg.inv(alone.T @ alone)
    spread = float(np.sqrt(covariance.sum()))
    return (slope, spread) if spread < _MOST_UNCERTAIN else None
