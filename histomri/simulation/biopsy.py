"""One digital biopsy: a tumour in an in-vivo scan, and a needle core of it on a slide, with known truth.

Nothing is registered here, as in patients: the mean over the tumour stands beside the mean over the core.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.mri import Acquisition

from .realism import Physics, Realism
from .realistic import cut_columns
from .section import separate
from .signals import add_rician, realistic_signal, tissue_signal
from .tissue import FULLEST, Fields, Waves

SHRINKAGE = 0.153
SMALLEST_AREA_UM2 = 10.0
VOXEL_MM = (1.9, 1.9, 6.0)
SHAPE = (11, 13, 4)
CORE_MM = (1.0, 9.0)
_WATER_UM2_MS, _BLOOD_UM2_MS = 3.0, 25.0  # water at 37 °C; pseudo-diffusion of blood
_T2_TISSUE_MS, _T2_BLOOD_MS = 60.0, 180.0
_SCALE = 1000.0


@dataclass(frozen=True)
class Tumour:
    """Average properties of a tumour."""

    mean_um: float  # of the cell diameters
    cv: float  # coefficient of variation of the cell diameters
    fraction: float  # intra-cellular part of the tissue between the vessels
    vascular: float  # part of the vessels
    d0i_um2_ms: float  # intrinsic intra-cellular diffusivity
    nucleus_ratio: float = 0.55  # diameter of a nucleus over that of its cell, for realistic cores


@dataclass(frozen=True, repr=False)
class Biopsy(Displayed):
    """A digital biopsy with known truth."""

    cells: pd.DataFrame  # as QuPath would find them on the slide: x_um, y_um, area_um2; more if realistic
    dwi: FloatArray  # (I, J, K, M) noisy magnitude images, float32
    mask: BoolArray  # (I, J, K) the tumour
    sigma: float  # noise per channel
    affine: FloatArray  # (4, 4) voxel index to world, RAS+ mm
    truth: dict[str, float]  # vCS_um, F, CD_mm3, D0I_um2_ms, fV: means over the tumour; thickness_um if realistic

    def facts(self) -> dict[str, Any]:
        """Return cells, images and truth in short."""
        truth = {f"true {name}": f"{value:.4g}" for name, value in self.truth.items()}
        return {"cells": f"{len(self.cells):,}", "dwi": self.dwi.shape, "tumour voxels": int(self.mask.sum()), **truth}


def simulate_biopsy(
    tumour: Tumour, acquisition: Acquisition, *, snr: float = 40.0, seed: int | list[int] = 0,
    physics: Physics = "realistic", realism: Realism | None = None,
) -> Biopsy:  # fmt: skip
    """Make the scan of a tumour, by an acquisition with echo times, and a core of it.

    `snr` is the signal over noise of the tumour at b = 0 and the shortest echo time. The same seed gives the same
    biopsy. `physics` and `realism` are those of `simulate_liver`.

    Raises
    ------
    InputError
        If the tumour of a realistic biopsy is fuller than balls can be.
    """
    if physics == "realistic" and tumour.fraction > FULLEST:
        problem = f"cells that are balls cannot fill {tumour.fraction:g} of a tumour"
        raise InputError(problem, hint=f"choose a fraction of {FULLEST:g} at most, or the simple physics")
    shape, cut, noise = (np.random.default_rng([*np.atleast_1d(seed), part]) for part in range(3))
    waves = tuple(Waves.random(shape) for _ in range(3))
    points = np.indices(SHAPE).reshape(3, -1).T * VOXEL_MM - 0.5 * (np.array(SHAPE) - 1) * VOXEL_MM
    radius = np.array([8.5, 10.0, 11.0]) * shape.uniform(0.9, 1.1, 3)
    inside = ((points / radius) ** 2).sum(axis=1) < 1.0
    fullest = 0.9 if physics == "simple" else FULLEST
    fields = _fields(tumour, waves, points, fullest)
    real = None if physics == "simple" else realism or Realism()
    signals = _SCALE * _signal(fields, tumour.vascular, acquisition, real)
    sigma = float(f"{signals[np.ix_(inside, acquisition.is_b0)].max(axis=1).mean() / snr:.4g}")
    dwi = add_rician(signals, sigma, noise).astype(np.float32).reshape(*SHAPE, -1)
    affine = np.diag([-VOXEL_MM[0], VOXEL_MM[1], VOXEL_MM[2], 1.0])
    affine[:3, 3] = [60.0, -20.0, 15.0]
    truth = _truth(fields, tumour, inside)
    if real is None:
        cells = _core(tumour, waves, cut)
    else:
        cells = _realistic_core(tumour, waves, cut, real)
        truth["thickness_um"] = real.thickness_um
    return Biopsy(cells, dwi, inside.reshape(SHAPE), sigma, affine, truth)


def _fields(tumour: Tumour, waves: tuple[Waves, ...], points: FloatArray, fullest: float = 0.9) -> Fields:
    size, packing, diffusion = (np.tanh(wave(points)) for wave in waves)
    mean = tumour.mean_um * (1.0 + 0.05 * size)
    fraction = np.clip(tumour.fraction + 0.04 * packing, 0.05, fullest)
    d0i = tumour.d0i_um2_ms * (1.0 + 0.05 * diffusion)
    deinf = _WATER_UM2_MS / (1.0 + 0.5 * fraction)  # Maxwell's obstruction by spheres
    return Fields(fraction, mean, np.full_like(mean, tumour.cv), d0i, deinf, 0.05 * mean)


def _signal(fields: Fields, vascular: float, acquisition: Acquisition, realism: Realism | None) -> FloatArray:
    te = np.zeros(len(acquisition)) if acquisition.te_ms is None else acquisition.te_ms
    blood = np.exp(-1e-3 * acquisition.b_smm2 * _BLOOD_UM2_MS - te / _T2_BLOOD_MS)
    if realism is None:
        tissue = tissue_signal(fields, acquisition) * np.exp(-te / _T2_TISSUE_MS)
    else:
        fat = np.zeros(fields.fraction.size)
        tissue = realistic_signal(fields, fat, realism.membranes(in_vivo=True), acquisition)
    return np.asarray(vascular * blood + (1.0 - vascular) * tissue)


def _core(tumour: Tumour, waves: tuple[Waves, ...], rng: np.random.Generator) -> pd.DataFrame:
    """Cut the cells of a needle core; see `histomri.simulation.section` for how a plane meets spheres."""
    wide, long = CORE_MM
    along = np.arange(-0.5 * long, 0.5 * long, 0.05) + 0.025
    fields = _fields(tumour, waves, np.column_stack([np.zeros_like(along), along, np.zeros_like(along)]))
    # Vessels take their part of the core, and there are no cells in them.
    per_mm2 = 1e6 * fields.density_um3 * fields.mean_um * (1.0 - tumour.vascular)
    band = np.repeat(np.arange(along.size), rng.poisson(per_mm2 * wide * 0.05))
    spread = np.sqrt(np.log1p(fields.cv[band] ** 2))
    sphere = np.exp(np.log(fields.mean_um[band]) + 0.5 * spread**2 + spread * rng.standard_normal(band.size))
    height = sphere * (rng.random(band.size) - 0.5)
    profile = np.sqrt(sphere**2 - 4.0 * height**2)
    across, down = wide * rng.random(band.size), along[band] + 0.05 * (rng.random(band.size) - 0.5)
    x, y = separate(across, down, 1e-3 * profile)
    area = 0.25 * np.pi * ((1.0 - SHRINKAGE) * profile) ** 2
    seen = area >= SMALLEST_AREA_UM2
    place = 1000.0 * (1.0 - SHRINKAGE) * np.column_stack([x, y - y.min()]) + 500.0
    return pd.DataFrame({"x_um": place[seen, 0], "y_um": place[seen, 1], "area_um2": area[seen]})


def _realistic_core(
    tumour: Tumour, waves: tuple[Waves, ...], rng: np.random.Generator, realism: Realism
) -> pd.DataFrame:
    """Cut the packed cells of a needle core, and find their nuclei; see `histomri.simulation.realistic`."""
    half, pitch = 0.5 * np.array(CORE_MM), 0.03
    x, y = (np.arange(-width + 0.5 * pitch, width + 0.5 * pitch, pitch) for width in half)
    xx, yy = np.tile(x, (y.size, 1)), np.tile(y[:, None], (1, x.size))
    xx[1::2] = xx[1::2, ::-1]  # there and back
    place = np.column_stack([xx.ravel(), yy.ravel()])
    fields = _fields(tumour, waves, np.column_stack([place, np.zeros(len(place))]), FULLEST)
    # Vessels take their part of the core, and there are no cells in them.
    fields = replace(fields, fraction=(1.0 - tumour.vascular) * fields.fraction)

    def inside(u: FloatArray, v: FloatArray) -> BoolArray:
        return np.asarray((np.abs(u) < half[0]) & (np.abs(v) < half[1]))

    section = cut_columns(
        place, 1000.0 * pitch, fields, np.zeros(len(place)), np.full(len(place), tumour.nucleus_ratio), inside, rng,
        thickness_um=realism.thickness_um, shrinkage=SHRINKAGE, detector=realism.detector,
    )  # fmt: skip
    cells = section.nuclei.drop(columns=["u_mm", "v_mm", "profile"])
    shift = 1000.0 * (1.0 - SHRINKAGE) * half + 500.0
    cells = cells.assign(x_um=cells["x_um"] + shift[0], y_um=cells["y_um"] + shift[1])
    cells.insert(2, "area_um2", cells[realism.detector.area_column])
    return cells


def _truth(fields: Fields, tumour: Tumour, inside: BoolArray) -> dict[str, float]:
    some = replace(fields, **{name: value[inside] for name, value in vars(fields).items()})
    cells = 1.0 - tumour.vascular
    return {
        "vCS_um": float(some.vcs_um.mean()), "F": float(cells * some.fraction.mean()),
        "CD_mm3": float(1e9 * cells * some.density_um3.mean()), "D0I_um2_ms": float(some.d0i_um2_ms.mean()),
        "fV": tumour.vascular,
    }  # fmt: skip
