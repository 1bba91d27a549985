"""Diffusion MRI of the lobe: every voxel is the sum of many small pieces of tissue, each with its own cells.

Cells have a distribution of sizes, voxels blur neighbouring tissue and the saline around it, and the noise is Rician.
Simple tissue shares the sphere's diffusion coefficient with the fit. Realistic tissue shares nothing with it: its
signals come from walks through permeable packings (`library`), with a T2 on each side of the membranes, and fat that
gives no signal.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from histomri.core.arrays import FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.fitting import sphere_adc
from histomri.mri import Acquisition

from .library import PackedTissue, walked_signals
from .realism import Artefacts, Membranes
from .tissue import WATER_UM2_MS, Fields, Lobe, Tissue

T2_TISSUE_MS, T2_SALINE_MS = 28.0, 500.0
_NODES = 9
_TABLE = np.geomspace(2e-5, 2.0, 6000)  # D0 / L², 1/ms: cells of 1 to 300 µm


@dataclass(frozen=True)
class Scan:
    """Where the voxels lie in lobe coordinates."""

    shape: tuple[int, int, int]
    voxel_mm: FloatArray
    lobe_slice: int  # in whose middle w = 0
    subdivisions: tuple[int, int, int] = (4, 4, 4)  # pieces that a voxel is divided into along each axis

    def lobe_mm(self, index: FloatArray) -> FloatArray:
        """Take (N, 3) voxel indices to lobe coordinates, mm."""
        return np.asarray((index - self._origin) * self.voxel_mm)

    def index(self, points: FloatArray) -> FloatArray:
        """Take (N, 3) lobe coordinates, mm, to voxel indices, with fractions."""
        return np.asarray(points / self.voxel_mm + self._origin)

    @property
    def _origin(self) -> FloatArray:
        return np.array([0.5 * (self.shape[0] - 1), 0.5 * (self.shape[1] - 1), self.lobe_slice])

    def pieces(self) -> FloatArray:
        """Return lobe coordinates of the middles of all pieces, (voxels, pieces, 3) mm."""
        voxels = np.indices(self.shape).reshape(3, -1).T
        within = (np.indices(self.subdivisions).reshape(3, -1).T + 0.5) / self.subdivisions - 0.5
        return self.lobe_mm((voxels[:, None] + within[None]).astype(float))


@dataclass(frozen=True)
class Voxels:
    """Noise-free signals and truth of all voxels, in the order of the scan."""

    signals: FloatArray  # (V, M) relative to saline and tissue at TE = 0 and b = 0
    maps: dict[str, FloatArray]  # (V,) F, vCS (µm), CD (1/mm³), D0I, DEinf, beta, tissueFraction; NaN without tissue


def realistic_signal(fields: Fields, fat: FloatArray, membranes: Membranes, acquisition: Acquisition) -> FloatArray:
    """Return the signals of tissue at N points of which a share is fat, (N, M), relaxed to the echo times."""
    number = fields.fraction.size
    tissue = PackedTissue(
        fields.fraction / (1.0 - fat), fields.cv, fields.vcs_um, fields.d0i_um2_ms,
        np.full(number, membranes.d0e_um2_ms), np.full(number, membranes.permeability_um_s), membranes.t2i_ms,
        membranes.t2e_ms,
    )  # fmt: skip
    return np.asarray((1.0 - fat)[:, None] * walked_signals(tissue, acquisition))


def scan_lobe(
    lobe: Lobe, tissue: Tissue, scan: Scan, acquisition: Acquisition, membranes: Membranes | None = None
) -> Voxels:
    """Return the signals and the truth of every voxel of a scan; with membranes, those of realistic tissue."""
    points = scan.pieces()
    number, parts = points.shape[:2]
    inside = lobe.inside(points[..., 0], points[..., 1], points[..., 2])
    voxel = np.nonzero(inside)[0]
    fields = tissue.at(points[inside])
    filled = inside.sum(axis=1) / parts
    if membranes is None:
        signals = _simple_voxels(fields, voxel, number, parts, acquisition)
    else:
        fat, _ = tissue.inclusions(points[inside])
        signals = _voxel_mean(realistic_signal(fields, fat, membranes, acquisition), voxel, number, parts)
    saline = np.exp(-1e-3 * acquisition.b_smm2 * WATER_UM2_MS) * _decay(acquisition, T2_SALINE_MS)
    signals += (1.0 - filled)[:, None] * saline
    truth = _truth(fields, voxel, number, parts, filled)
    if membranes is not None:  # what is between the cells follows no formula of these
        truth = {name: value for name, value in truth.items() if name not in ("DEinf", "beta")}
    return Voxels(signals, truth)


def _simple_voxels(fields: Fields, voxel: IntArray, number: int, parts: int, acquisition: Acquisition) -> FloatArray:
    # Volumes that differ in echo time alone share the signal of the tissue but for its decay.
    timing = np.stack([acquisition.encodings()[1], acquisition.b_smm2])
    _, first, column = np.unique(timing, axis=1, return_index=True, return_inverse=True)
    signals = _voxel_mean(tissue_signal(fields, acquisition.select(first)), voxel, number, parts)[:, column.reshape(-1)]
    return np.asarray(signals * _decay(acquisition, T2_TISSUE_MS))


def tissue_signal(fields: Fields, acquisition: Acquisition) -> FloatArray:
    """Return the normalised signal of tissue at N points, (N, M), by Gauss-Hermite quadrature over the cell sizes.

    Water inside cells counts by volume, so a lognormal number distribution of diameters with log-mean m and
    log-variance s² weighs in as a lognormal with log-mean m + 3 s².
    """
    b = 1e-3 * acquisition.b_smm2
    spread = np.sqrt(np.log1p(fields.cv**2))
    middle = np.log(fields.mean_um) + 2.5 * spread**2
    tables, column = np.unique(_adc_tables(acquisition), axis=1, return_inverse=True)
    column = column.reshape(-1)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    intra = np.zeros((fields.mean_um.size, b.size))
    for node, weight in zip(nodes, weights / weights.sum()):
        rate = np.log(fields.d0i_um2_ms) - 2.0 * (middle + spread * node)
        adc = np.column_stack([np.interp(rate, np.log(_TABLE), table) for table in tables.T])
        intra += weight * np.exp(-b * (fields.d0i_um2_ms[:, None] * adc)[:, column])
    duration = np.where(acquisition.Delta_ms > 0, acquisition.Delta_ms, np.inf)
    extra = np.exp(-b * (fields.deinf_um2_ms[:, None] + fields.beta_um2[:, None] / duration))
    return np.asarray(fields.fraction[:, None] * intra + (1.0 - fields.fraction[:, None]) * extra)


def _adc_tables(acquisition: Acquisition) -> FloatArray:
    """Tabulate ADC / D0, which for one gradient waveform depends on D0 / L² alone, (len(_TABLE), M)."""
    table = np.array(sphere_adc(1.0 / np.sqrt(_TABLE), np.ones_like(_TABLE), acquisition))
    table[:, acquisition.b_smm2 <= 0] = 0.0
    return table


def _decay(acquisition: Acquisition, t2_ms: float) -> FloatArray:
    return np.ones(len(acquisition)) if acquisition.te_ms is None else np.asarray(np.exp(-acquisition.te_ms / t2_ms))


def _voxel_mean(values: FloatArray, voxel: IntArray, number: int, parts: int) -> FloatArray:
    """Sum (N, M) values of pieces over their voxels and divide by the pieces of a whole voxel, (V, M)."""
    return np.column_stack([np.bincount(voxel, weights=column, minlength=number) for column in values.T]) / parts


def _truth(fields: Fields, voxel: IntArray, number: int, parts: int, filled: FloatArray) -> dict[str, FloatArray]:
    density, fraction, free = fields.density_um3, fields.fraction, 1.0 - fields.fraction
    each = {
        "F": fraction, "CD": 1e9 * density, "cubes": density * fields.moment(3), "sevenths": density * fields.moment(7),
        "D0I": fraction * fields.d0i_um2_ms, "free": free, "DEinf": free * fields.deinf_um2_ms,
        "beta": free * fields.beta_um2,
    }  # fmt: skip
    mean = dict(zip(each, _voxel_mean(np.column_stack(list(each.values())), voxel, number, parts).T))
    some = filled > 0
    safe = {key: np.where(some, mean[key], 1.0) for key in ("F", "cubes", "free")}
    maps = {
        "F": mean["F"], "vCS": (mean["sevenths"] / safe["cubes"]) ** 0.25, "CD": mean["CD"],
        "D0I": mean["D0I"] / safe["F"], "DEinf": mean["DEinf"] / safe["free"], "beta": mean["beta"] / safe["free"],
    }  # fmt: skip
    return {**{key: np.where(some, value, np.nan) for key, value in maps.items()}, "tissueFraction": filled}


def add_rician(signals: FloatArray, sigma: float, rng: np.random.Generator) -> FloatArray:
    """Return the magnitude of the signals with complex Gaussian noise of standard deviation `sigma` per channel."""
    real = signals + sigma * rng.standard_normal(signals.shape)
    return np.asarray(np.hypot(real, sigma * rng.standard_normal(signals.shape)))


def spoil(
    volumes: FloatArray, weighted: IntArray, voxel_mm: FloatArray, slices: IntArray, artefacts: Artefacts,
    rng: np.random.Generator,
) -> tuple[FloatArray, dict[str, Any]]:  # fmt: skip
    """Return (I, J, K, M) images with artefacts, and which they are: volume, slice and factor, or shifts in mm."""
    spoilt, record = volumes.copy(), dict[str, Any]()
    if artefacts.motion_mm > 0:
        shifts = rng.normal(0.0, artefacts.motion_mm, (volumes.shape[-1], 2))
        for m, (i, j) in enumerate(shifts):
            moved = (i / voxel_mm[0], j / voxel_mm[1], 0.0)
            spoilt[..., m] = ndimage.shift(volumes[..., m], moved, order=1, mode="nearest")
        record["MotionMm"] = shifts.tolist()
    if artefacts.dropouts > weighted.size:
        problem = f"{artefacts.dropouts} volumes cannot drop out of {weighted.size} with diffusion weighting"
        raise InputError(problem, hint="ask for fewer")
    for m in rng.choice(weighted, artefacts.dropouts, replace=False).tolist():
        k, factor = int(rng.choice(slices)), float(rng.uniform(0.3, 0.7))
        spoilt[:, :, k, m] *= factor
        record.setdefault("Dropouts", []).append([m, k, factor])
    return spoilt, record
