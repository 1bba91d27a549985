"""What a protocol can determine before anyone is scanned: the Cramér-Rao bound of the tissue models."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import InputError
from histomri.fitting.choices import choose_measurements, choose_threshold
from histomri.fitting.models import PARAMETERS, Model, get_model
from histomri.fitting.signals import predict
from histomri.mri import Acquisition, as_acquisition

TYPICAL: dict[str, float] = {"fI": 0.6, "D0I": 1.5, "vCS": 18.0, "DEinf": 2.0, "beta": 3.0}
"""Tissue for which the bound is given by default."""
_STEP = 1e-3
_SINGULAR = 1e-9


@dataclass(frozen=True)
class CramerRao:
    """Smallest standard deviations that any unbiased estimate can have.

    Attributes
    ----------
    model : str
        Name of the model.
    values, sd : dict of str to (V,) ndarray
        Parameters assumed, and their standard deviations; infinite where the measurements leave a parameter open.
        ``sd`` also has CD, cells/mm³, for F = fI.
    bounds : dict of str to (float, float)
        Bounds of the preset.
    measurements : int
        How many measurements are fitted.
    strategy, bmin_smm2 : str, float
        Those with b above this.
    """

    model: str
    values: dict[str, FloatArray]
    sd: dict[str, FloatArray]
    bounds: dict[str, tuple[float, float]]
    measurements: int
    strategy: str
    bmin_smm2: float

    def informative(self, name: str) -> BoolArray:
        """Return where the data say more about a parameter than its bounds do, (V,) of bool.

        Someone who knows the bounds alone, and takes every value between them for equally likely, has a standard
        deviation of their distance / √12.
        """
        lower, upper = self.bounds[name]
        return np.asarray(self.sd[name] < (upper - lower) / np.sqrt(12))


def crlb(
    model: str | Model, acquisition: Acquisition | str | Path, snr: float,
    parameters: Mapping[str, ArrayLike] | None = None, *, preset: str = "mouse-exvivo", strategy: str | None = None,
    bmin_smm2: float | None = None, t2t_ms: float | None = None,
) -> CramerRao:  # fmt: skip
    """Cramér-Rao bound of a model's parameters on a protocol.

    Parameters
    ----------
    model : str or Model
        Such as "diff-in".
    acquisition : Acquisition, str or path-like
        The protocol of M volumes, its file, or the name of a preset; it need not have been scanned.
    snr : float
        Signal at b = 0, at the shortest echo time, over the noise level of one measurement.
    parameters : mapping of str to (V,) array-like, optional
        Tissue; by default `TYPICAL` (with DEinf moved into the bounds of the model).
    preset, strategy, bmin_smm2
        Bounds and choice of measurements, as in `fit`.
    t2t_ms : float, optional
        Tissue T2: later echoes are then noisier by exp(ΔTE/T2); without it all echo times are as good.

    Returns
    -------
    CramerRao
        One standard deviation per parameter and tissue.

    Raises
    ------
    InputError, ProtocolError
        If the numbers make no sense, or no measurement is above the threshold.

    Notes
    -----
    Gaussian noise and no bounds are assumed: the inverse of the Fisher information Jᵀ J / σ². Where it has no inverse,
    the parameters that take part in the combination not seen have an infinite bound. See Kay, Fundamentals of
    Statistical Signal Processing, 1993, chapter 3.
    """
    declared, acquisition = get_model(model), as_acquisition(acquisition)
    if not (np.isfinite(snr) and snr > 0):
        raise InputError(f"the signal-to-noise ratio must be above 0, not {snr:g}")
    strategy, threshold = choose_threshold(preset, strategy, bmin_smm2)
    used = acquisition.select(choose_measurements(acquisition, threshold))
    bounds = declared.bounds(preset)
    values = _tissue(declared, bounds, parameters)
    jacobian = _jacobian(declared, values, bounds, used)
    information = snr**2 * np.einsum("vmi,m,vmj->vij", jacobian, _relaxation(used, acquisition, t2t_ms) ** 2, jacobian)
    covariance, open_ = invert_information(information)
    width = np.array([upper - lower for lower, upper in bounds.values()])
    variance = np.where(open_, np.inf, np.diagonal(covariance, axis1=1, axis2=2)) * width**2
    sd = {name: np.sqrt(variance[:, i]) for i, name in enumerate(declared.parameters)}
    if {"fI", "vCS"} <= set(declared.parameters):
        i, j = declared.parameters.index("fI"), declared.parameters.index("vCS")
        f, size = values["fI"], values["vCS"]
        mixed = covariance[:, i, j] * width[i] * width[j]
        with np.errstate(invalid="ignore"):
            spread = variance[:, i] + (3 * f / size) ** 2 * variance[:, j] - 6 * f / size * mixed
        sd["CD"] = 1e9 / size**3 * np.sqrt(np.where(open_[:, i] | open_[:, j], np.inf, np.maximum(spread, 0.0)))
    return CramerRao(declared.name, values, sd, bounds, len(used), strategy, threshold)


def _tissue(
    model: Model, bounds: Mapping[str, tuple[float, float]], parameters: Mapping[str, ArrayLike] | None
) -> dict[str, FloatArray]:
    unknown = sorted(set(parameters or {}) - set(PARAMETERS))
    if unknown:
        raise InputError(f"{model.display_name} has no {', '.join(unknown)}", hint=f"give {', '.join(PARAMETERS)}")
    given = {name: TYPICAL[name] for name in PARAMETERS} | dict(model.fixed) | dict(parameters or {})
    for name, (lower, upper) in bounds.items():
        if name not in (parameters or {}):
            given[name] = float(np.clip(np.asarray(given[name], dtype=float), lower, upper))
    spread = np.broadcast_arrays(*(np.atleast_1d(np.asarray(given[name], dtype=float)) for name in PARAMETERS))
    tissue = dict(zip(PARAMETERS, spread))
    if not all(np.all(np.isfinite(each) & (each >= 0)) for each in spread) or np.any(tissue["vCS"] == 0):
        raise InputError("the parameters of the tissue must be numbers of at least 0, and the size above 0")
    return {name: np.array(tissue[name]) for name in PARAMETERS if name in model.parameters or name in model.fixed}


def _jacobian(
    model: Model, values: Mapping[str, FloatArray], bounds: Mapping[str, tuple[float, float]], used: Acquisition
) -> FloatArray:
    """Return derivatives with respect to parameters in units of the distance of their bounds, (V, M, P)."""
    columns = []
    for name, (lower, upper) in bounds.items():
        step = _STEP * (upper - lower)
        # The formula holds a little beyond the bounds, so differences can be central everywhere.
        sides = (predict(model, {**values, name: values[name] + sign * step}, used) for sign in (1, -1))
        plus, minus = sides
        columns.append((plus - minus) / (2 * _STEP))
    return np.stack(columns, axis=-1)


def _relaxation(used: Acquisition, whole: Acquisition, t2t_ms: float | None) -> FloatArray:
    if t2t_ms is None or used.te_ms is None or whole.te_ms is None:
        return np.ones(len(used))
    if not t2t_ms > 0:
        raise InputError(f"T2 must be above 0 ms, not {t2t_ms:g}")
    return np.asarray(np.exp(-(used.te_ms - whole.te_ms.min()) / t2t_ms))


def invert_information(information: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Return the pseudo-inverse (V, P, P), and which parameters take part in what is not seen, (V, P)."""
    value, vector = np.linalg.eigh(information)
    lost = value <= _SINGULAR * np.maximum(value[:, -1:], 1e-300)
    inverse = np.where(lost, 0.0, 1 / np.where(lost, 1.0, value))
    open_ = np.any(lost[:, None, :] & (np.abs(vector) > 1e-3), axis=-1)
    return np.asarray(np.einsum("vik,vk,vjk->vij", vector, inverse, vector)), np.asarray(open_)
