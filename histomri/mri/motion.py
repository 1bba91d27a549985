"""Motion between the volumes of a series, estimated by DIPY and undone by one interpolation."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.progress import Progress, share_of
from histomri.mri.acquisition import Acquisition

# Stacks of fewer slices hold too little along their axis to be turned in three dimensions.
_FEWEST_SLICES = 8
_LARGEST_SHARE = 0.25


@dataclass(frozen=True)
class Motion:
    """The motion of a series: per volume, and per slice where slices were aligned one by one (else S = 1).

    Matrices (M, S, 4, 4) lead from the world (RAS+ mm) of the reference to where the tissue is in this volume; rejected
    (M, S) are alignments that did not help or went implausibly far, and were not used.
    """

    matrices: FloatArray
    by_slice: bool
    rejected: Any

    @property
    def shift_mm(self) -> FloatArray:
        """Length of each translation at the centre of the field of view, (M, S)."""
        return np.asarray(np.linalg.norm(self.matrices[..., :3, 3], axis=-1))

    def table(self) -> str:
        """Return the motion as text apart by tabs: a line per volume, or per slice of a volume."""
        lines = ["volume\tslice\tx_mm\ty_mm\tz_mm\trotation_deg\taligned"]
        for volume, s in np.ndindex(self.rejected.shape):
            matrix = self.matrices[volume, s]
            turn = np.rad2deg(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1)))
            numbers = "\t".join(f"{value:.4f}" for value in (*matrix[:3, 3], turn))
            place, used = s if self.by_slice else "n/a", "no" if self.rejected[volume, s] else "yes"
            lines.append(f"{volume}\t{place}\t{numbers}\t{used}")
        return "\n".join(lines) + "\n"


def reference_volume(signals: FloatArray, acquisition: Acquisition) -> FloatArray:
    """Return the mean of the b = 0 volumes of the shortest echo time, (I, J, K); of the lowest b if there is none."""
    b = acquisition.b_smm2
    chosen = acquisition.is_b0 if acquisition.is_b0.any() else b <= b.min() + 1.0
    if acquisition.te_ms is not None:
        chosen = chosen & (acquisition.te_ms <= acquisition.te_ms[chosen].min() + 0.1)
    return np.asarray(signals[..., chosen].mean(axis=3))


def correct_motion(
    signals: FloatArray, affine: FloatArray, acquisition: Acquisition, progress: Progress | None = None
) -> tuple[FloatArray, Motion]:
    """Align every volume rigidly with the mean b = 0 of the shortest echo time.

    Stacks of fewer than eight slices are aligned slice by slice within the plane.

    Parameters
    ----------
    signals, affine, acquisition : (I, J, K, M) and (4, 4) ndarray, Acquisition
        Signals; voxel index to world, mm; protocol.

    Returns
    -------
    (I, J, K, M) float32 ndarray, Motion
        Signals, interpolated once with cubic splines; what comes from outside the field of view repeats its edge.

    Notes
    -----
    Mutual information, as echo time and diffusion weighting change the contrast (DIPY's affine registration). The
    gradient directions need not be turned: the models of this package are isotropic.
    """
    static = reference_volume(signals, acquisition).astype(np.float64)
    shape, volumes = signals.shape[:3], signals.shape[3]
    by_slice = shape[2] < _FEWEST_SLICES
    slices: list[Any] = [*range(shape[2])] if by_slice else [slice(None)]
    align = _Aligner.build(shape, affine, by_slice)
    matrices = np.tile(np.eye(4), (volumes, len(slices), 1, 1))
    rejected = np.zeros((volumes, len(slices)), dtype=bool)
    aligned = np.array(signals, dtype=np.float32)
    for volume in range(volumes):
        for s, where in enumerate(slices):
            moving = np.asarray(signals[:, :, where, volume], dtype=np.float64)
            fixed = static[:, :, where]
            if np.ptp(moving) == 0 or np.ptp(fixed) == 0 or np.array_equal(moving, fixed):
                continue
            matrix, helped = align.estimate(fixed, moving)
            rejected[volume, s] = not helped
            if helped:
                matrices[volume, s] = align.in_world(matrix)
                # Splines may not make signals negative.
                aligned[:, :, where, volume] = np.maximum(align.at(moving, matrix), 0.0)
        share_of(progress)((volume + 1) / volumes)
    return aligned, Motion(matrices, by_slice, rejected)


@dataclass(frozen=True)
class _Aligner:
    """Rigid registration in a frame whose axes are the image's, in mm, with the origin in the centre."""

    spacing: FloatArray
    size: tuple[int, ...]
    rotation: FloatArray

    @classmethod
    def build(cls, shape: tuple[int, ...], affine: FloatArray, by_slice: bool) -> "_Aligner":
        axes = 2 if by_slice else 3
        spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        return cls(spacing[:axes], tuple(shape[:axes]), affine[:3, :3] / spacing)

    @property
    def grid(self) -> FloatArray:
        """Voxel index to this frame."""
        n = len(self.size)
        result = np.diag([*self.spacing, 1.0])
        result[:n, n] = -0.5 * self.spacing * (np.array(self.size) - 1)
        return result

    def estimate(self, fixed: FloatArray, moving: FloatArray) -> tuple[FloatArray, bool]:
        """Return the matrix from the fixed to the moving image, and whether it helps."""
        from dipy.align import transforms
        from dipy.align.imaffine import AffineRegistration, MutualInformationMetric

        n, grid = len(self.size), self.grid
        coarse = 2 if min(self.size) >= 24 else 1
        levels = {"level_iters": [40, 30], "sigmas": [1.5, 0.0], "factors": [coarse, 1]}
        search = AffineRegistration(metric=MutualInformationMetric(nbins=24), verbosity=0, **levels)
        fixed, moving = _stretch(fixed), _stretch(moving)
        places = {"static_grid2world": grid, "moving_grid2world": grid}
        kinds = (getattr(transforms, f"{kind}Transform{n}D") for kind in ("Translation", "Rigid"))
        matrix = np.eye(n + 1)
        for kind in kinds:
            matrix = search.optimize(fixed, moving, kind(), None, starting_affine=matrix, **places).affine
        far = np.abs(matrix[:n, n]) > _LARGEST_SHARE * self.spacing * np.array(self.size)
        turned = np.trace(matrix[:n, :n]) < n - 2 * (1 - np.cos(np.deg2rad(20)))
        if not np.all(np.isfinite(matrix)) or far.any() or turned:
            return np.eye(n + 1), False
        return matrix, _information(fixed, self.at(moving, matrix)) > _information(fixed, moving)

    def at(self, moving: FloatArray, matrix: FloatArray) -> FloatArray:
        """Return the moving image on the grid of the fixed one."""
        from scipy.ndimage import affine_transform

        voxels = np.linalg.inv(self.grid) @ matrix @ self.grid
        return np.asarray(affine_transform(moving, voxels, order=3, mode="nearest"))

    def in_world(self, matrix: FloatArray) -> FloatArray:
        """Return the matrix in mm along the axes of the world, about the centre of the field of view."""
        n, whole = len(self.size), np.eye(4)
        whole[:n, :n], whole[:n, 3] = matrix[:n, :n], matrix[:n, n]
        turn = np.eye(4)
        turn[:3, :3] = self.rotation
        return np.asarray(turn @ whole @ np.linalg.inv(turn))


def _stretch(image: FloatArray) -> FloatArray:
    """Cut the brightest spots and scale to [0, 1], so that the bins of the histogram are spent on tissue."""
    low, high = np.percentile(image, (1, 99.5))
    return np.asarray(np.clip((image - low) / max(high - low, 1e-12), 0.0, 1.0))


def _information(one: FloatArray, other: FloatArray) -> float:
    """Return the mutual information of two images, in nats."""
    joint = np.histogram2d(one.ravel(), other.ravel(), bins=24)[0]
    joint /= joint.sum()
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    known = joint > 0
    return float((joint[known] * np.log(joint[known] / apart[known])).sum())
