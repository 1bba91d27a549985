"""One digital liver: the lobe, its section on a slide, its MRI, and the truth of both."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.mri import Acquisition

from .realism import Physics, Realism
from .realistic import RealisticSection, cut_realistic_section
from .section import Placement, Section, cut_section, random_placement
from .signals import Scan, Voxels, add_rician, scan_lobe, spoil
from .tissue import GROUPS, Group, Lobe, Tissue, random_lobe, random_tissue

VOXEL_MM = (0.386, 0.386, 2.216)
SLICES, LOBE_SLICE = 5, 2
SHRINKAGE = 0.129
SMALLEST_AREA_UM2 = 10.0  # QuPath's default: smaller nuclei are not detected
_SCALE = 10000.0  # signal of saline at TE = 0, in the arbitrary units of a scanner


@dataclass(frozen=True, repr=False)
class LiverPhantom(Displayed):
    """A digital liver with known truth."""

    group: Group
    lobe: Lobe  # this and the tissue are the truth everywhere, in lobe coordinates
    tissue: Tissue
    scan: Scan  # the voxels, in lobe coordinates
    placement: Placement  # from lobe coordinates to the slide
    section: Section  # all spheres that the section cuts, before shrinkage and losses, with their 3D diameters
    cells: pd.DataFrame  # as QuPath would find them on the slide: x_um, y_um, area_um2; more if realistic
    lost: int  # profiles in tissue that was lost
    missed: int  # profiles too small to be detected
    acquisition: Acquisition
    dwi: FloatArray  # (I, J, K, M) noisy magnitude images, float32
    mask: BoolArray  # (I, J, K) voxels at least half full of tissue
    sigma: float  # noise per channel, in the units of `dwi`
    affine: FloatArray  # (4, 4) voxel index to world, RAS+ mm
    truth: dict[str, FloatArray]  # (I, J, K) F (of the whole voxel), vCS, CD, D0I, tissueFraction; simple: DEinf, beta
    made: dict[str, Any]  # membranes and artefacts of a realistic scan

    def facts(self) -> dict[str, Any]:
        """Return group, cells and images in short."""
        return {"group": self.group, "cells": f"{len(self.cells):,}", "dwi": self.dwi.shape, "sigma": self.sigma}

    def landmarks(self, number: int = 24) -> tuple[FloatArray, FloatArray]:
        """Return points on the slide and in the MRI that show the same place, each (N, 3), world mm.

        They are spread evenly over the section, without lost tissue; the fixed ones lie in the middle of the slice.
        """
        points = self._spread(number)
        # x and y of the slide run to the left and to the back.
        moving = np.column_stack([-1e-3 * self.placement.slide_um(points), np.zeros(len(points))])
        flat = np.column_stack([points, np.zeros(len(points))])
        return moving, np.asarray(self.scan.index(flat) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def affine_truth(self) -> FloatArray:
        """Return the affine part of slide world to MRI world, (4, 4): least squares over the whole section.

        In-plane points map in plane. The slide's normal maps to that of the MRI slice, millimetre to millimetre, signed
        so that the matrix turns but never mirrors: a flipped section was turned over.
        """
        moving, fixed = self.landmarks(2000)
        design = np.column_stack([moving[:, :2], np.ones(len(moving))])
        solution = np.linalg.lstsq(design, fixed, rcond=None)[0]
        matrix = np.eye(4)
        matrix[:3, :2], matrix[:3, 3] = solution[:2].T, solution[2]
        matrix[:3, 2] = self.affine[:3, 2] / np.linalg.norm(self.affine[:3, 2])
        matrix[:3, 2] *= np.sign(np.linalg.det(matrix))
        return matrix

    def summary(self) -> dict[str, Any]:
        """Return the numbers that describe the section and the scan, for the truth folder."""
        placed = self.placement
        return {
            "Group": self.group, "SectionOffsetMm": self.section.offset_mm, "AngleDeg": placed.angle_deg,
            "Flipped": placed.flipped, "Shrinkage": placed.shrinkage, "SpheresCut": len(self.section),
            "ProfilesInLostTissue": self.lost, "ProfilesBelowDetection": self.missed,
            "SmallestAreaUm2": SMALLEST_AREA_UM2, "Cells": len(self.cells),
            **self.section.truth(), **self.made, "SigmaSignal": self.sigma,
        }  # fmt: skip

    def _spread(self, number: int) -> FloatArray:
        """Return at least `number` points of a regular grid in the lobe, on the slide as well."""
        half = self.lobe.extent_mm[:2]
        for side in range(int(np.sqrt(number)) + 1, 400):
            u, v = np.meshgrid(*(np.linspace(-width, width, side + 2)[1:-1] for width in half))
            points = np.column_stack([u.ravel(), v.ravel()])
            within = self.lobe.inside(points[:, 0], points[:, 1], self.section.offset_mm)
            points = points[within & self.placement.present(points)]
            if len(points) >= number:
                return points
        raise InputError(f"the lobe has no room for {number} landmarks")


def simulate_liver(
    group: Group = "control", *, seed: int | np.random.SeedSequence = 0, area_mm2: float = 75.0, snr: float = 50.0,
    flipped: bool = False, orientation: int = 0, acquisition: Acquisition | None = None, shrinkage: float = SHRINKAGE,
    physics: Physics = "realistic", realism: Realism | None = None,
) -> LiverPhantom:  # fmt: skip
    """Make a digital mouse liver: section and MRI of the same lobe, with known truth.

    The physics follows Grussu et al. 2025, doi 10.1038/s43856-025-01246-2; sizes, packing and diffusivities are chosen
    within the ranges it reports.

    Parameters
    ----------
    group : {"control", "infiltrated", "necrotic"}
        Hepatocytes alone, with foci of small dense cells, or with necrosis.
    seed : int or SeedSequence
        The same seed gives the same liver.
    area_mm2, snr : float
        Area of the lobe in its middle, and signal over noise of tissue at b = 0 and the shortest echo time.
    flipped : bool
        Whether the section lies on the slide the other way up.
    orientation : int
        Which of four scanner orientations the images have: LAS, RAS, oblique, LPS.
    acquisition : Acquisition, optional
        Default: the whole ex vivo mouse protocol, 50 volumes. Realistic tissue has signals of the protocols of the
        presets alone.
    shrinkage : float
        Linear shrinkage of the section.
    physics : {"simple", "realistic"}
        Simple: discs cut by a plane, found as they are; impermeable spheres with one T2, by the formula that is
        fitted. Realistic: packed cells with nuclei, cut by a slab, and nuclei with a rim as QuPath draws them; signals
        of walks through permeable packings with two T2.
    realism : Realism, optional
        Details of the realistic one.

    Raises
    ------
    InputError
        If the group is unknown, or a number is out of range.
    """
    _check(group, area_mm2, snr, shrinkage, physics)
    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    # One generator per part: another protocol or noise level leaves the tissue alone. Not spawn(), which counts.
    shape, matter, cut, slide, noise = (
        np.random.default_rng(np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, part)))
        for part in range(5)
    )
    lobe = random_lobe(shape, area_mm2, 7.0 * min(1.0, np.sqrt(area_mm2 / 75.0) + 0.3))
    tissue = random_tissue(matter, group, lobe.extent_mm, physics)
    offset = float(cut.uniform(-0.4, 0.4))
    real = None if physics == "simple" else realism or Realism()
    section: Section
    if real is None:
        section = cut_section(lobe, tissue, offset, cut)
    else:
        knife: dict[str, Any] = {"thickness_um": real.thickness_um, "detector": real.detector}
        section = cut_realistic_section(lobe, tissue, offset, cut, shrinkage=shrinkage, **knife)
    placement = random_placement(slide, lobe, section.offset_mm, flipped=flipped, shrinkage=shrinkage)
    cells, lost, missed = _detected(section, placement)
    margin = 4
    columns, rows = (int(2 * np.ceil(half / size) + 2 * margin) for half, size in zip(lobe.extent_mm, VOXEL_MM[:2]))
    scan = Scan((columns, rows, SLICES), np.array(VOXEL_MM), LOBE_SLICE)
    acquisition = default_acquisition() if acquisition is None else acquisition
    voxels = scan_lobe(lobe, tissue, scan, acquisition, None if real is None else real.membranes(in_vivo=False))
    dwi, mask, sigma, artefacts = _scanned(voxels, scan, acquisition, snr, noise, real)
    truth = {name: value.reshape(scan.shape) for name, value in voxels.maps.items()}
    return LiverPhantom(
        group, lobe, tissue, scan, placement, section, cells, lost, missed, acquisition, dwi, mask, sigma,
        _world(scan, orientation), truth, artefacts,
    )  # fmt: skip


def default_acquisition() -> Acquisition:
    """Return the ex vivo mouse protocol of the paper: δ 10 ms, Δ 15 and 30 ms, ten b-values, up to three echo times."""
    return Acquisition.preset("mouse-exvivo")


def _check(group: str, area_mm2: float, snr: float, shrinkage: float, physics: str) -> None:
    if physics not in ("simple", "realistic"):
        raise InputError(f"there is no physics {physics!r}", hint="choose simple or realistic")
    if group not in GROUPS:
        raise InputError(f"there is no group {group!r}", hint=f"choose among {', '.join(GROUPS)}")
    if not 2.0 <= area_mm2 <= 1000.0:
        raise InputError(f"a lobe of {area_mm2:g} mm² cannot be simulated", hint="choose 2 to 1000 mm²")
    if not snr > 0:
        raise InputError(f"the signal-to-noise ratio is {snr:g}", hint="give a positive number")
    if not 0.0 <= shrinkage < 0.9:
        raise InputError(f"a shrinkage of {shrinkage:g} is not a fraction between 0 and 0.9")


def _detected(section: Section, placement: Placement) -> tuple[pd.DataFrame, int, int]:
    """Put the profiles on the slide; return the ones QuPath finds and how many are lost and how many missed."""
    if isinstance(section, RealisticSection):
        return _found(section, placement)
    points = np.column_stack([section.u_mm, section.v_mm])
    present = placement.present(points)
    area = 0.25 * np.pi * ((1.0 - placement.shrinkage) * section.profile_um[present]) ** 2
    seen = area >= SMALLEST_AREA_UM2
    slide = placement.slide_um(points[present][seen])
    cells = pd.DataFrame({"x_um": slide[:, 0], "y_um": slide[:, 1], "area_um2": area[seen]})
    return cells, int(np.sum(~present)), int(np.sum(~seen))


def _found(section: RealisticSection, placement: Placement) -> tuple[pd.DataFrame, int, int]:
    """Put the nuclei on the slide with all that was found of them, and their truth; the rest as in `_detected`."""
    nuclei = section.nuclei
    points = nuclei[["u_mm", "v_mm"]].to_numpy()
    present = placement.present(points)
    slide = placement.slide_um(points[present])
    cells = nuclei[present].drop(columns=["u_mm", "v_mm", "profile"]).reset_index(drop=True)
    cells = cells.assign(x_um=slide[:, 0], y_um=slide[:, 1])
    cells.insert(2, "area_um2", cells[section.detector.area_column])
    missed = int(np.sum(section.slab.nucleus_radius_um > 0.0)) - len(nuclei)
    return cells, int(np.sum(~present)), missed


def _scanned(
    voxels: Voxels, scan: Scan, acquisition: Acquisition, snr: float, rng: np.random.Generator, realism: Realism | None
) -> tuple[FloatArray, BoolArray, float, dict[str, Any]]:
    """Return DWI with coil sensitivity and noise, the tissue mask, the noise level, and what went wrong."""
    mask = voxels.maps["tissueFraction"] >= 0.5
    i, j, _ = np.indices(scan.shape).reshape(3, -1)
    tilt = rng.uniform(-0.12, 0.12, 2)
    coil = _SCALE * (1.0 + tilt[0] * (2.0 * i / scan.shape[0] - 1.0) + tilt[1] * (2.0 * j / scan.shape[1] - 1.0))
    signals = coil[:, None] * voxels.signals
    full = voxels.maps["tissueFraction"] == 1.0
    unweighted = signals[np.ix_(full if full.any() else mask, acquisition.b_smm2 <= 0)]
    sigma = float(f"{np.median(unweighted.max(axis=1)) / snr:.4g}")
    volumes, record = signals.reshape(*scan.shape, -1), dict[str, Any]()
    if realism is not None:
        weighted, held = np.flatnonzero(~acquisition.is_b0), np.flatnonzero(mask.reshape(scan.shape).any(axis=(0, 1)))
        volumes, record = spoil(volumes, weighted, scan.voxel_mm, held, realism.artefacts, rng)
        record |= {"PermeabilityUmS": realism.permeability_um_s, "T2Ratio": realism.t2_ratio}
    return add_rician(volumes, sigma, rng).astype(np.float32), mask.reshape(scan.shape), sigma, record


def _world(scan: Scan, orientation: int) -> FloatArray:
    """Return an affine that puts the middle of the volume near the scanner's centre."""
    signs = [(-1, 1, 1), (1, 1, 1), (-1, 1, 1), (-1, -1, 1)][orientation % 4]
    turn = np.eye(3)
    if orientation % 4 == 2:
        a, b = np.radians(12.0), np.radians(-20.0)
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
        turn = about_z @ about_x
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(np.array(signs) * scan.voxel_mm)
    affine[:3, 3] = np.array([1.5, -2.0, 3.0]) - affine[:3, :3] @ (0.5 * (np.array(scan.shape) - 1.0))
    return affine
