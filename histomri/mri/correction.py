"""Motion and drift between the volumes of a series: estimated, and undone."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import InputError, ProtocolError
from histomri.core.progress import Progress, share_of
from histomri.mri.acquisition import Acquisition

# Stacks of fewer slices hold too little along their axis to be turned in three dimensions.
_FEWEST_SLICES, _LARGEST_SHARE = 8, 0.25
_LARGEST_TURN, _LARGEST_STRETCH = 20.0, 0.25  # degrees; of a length
MOTIONS = ("rigid", "affine")
# Variance inflation above which time cannot be separated from echo time and diffusion.
_MOST_INFLATION, _MOST_UNCERTAIN = 100.0, 0.05


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

    def among(self, used: BoolArray) -> "Motion":
        """Return the motion of all volumes of a series, of which those used, (N,), were aligned."""
        matrices = np.tile(np.eye(4), (used.size, self.matrices.shape[1], 1, 1))
        rejected = np.ones((used.size, self.matrices.shape[1]), dtype=bool)
        matrices[used], rejected[used] = self.matrices, self.rejected
        return Motion(matrices, self.by_slice, rejected)

    def table(self) -> str:
        """Return the motion as text apart by tabs: a line per volume, or per slice of a volume."""
        lines = ["volume\tslice\tx_mm\ty_mm\tz_mm\trotation_deg\taligned\tstretch_percent"]
        for volume, s in np.ndindex(self.rejected.shape):
            matrix = self.matrices[volume, s]
            numbers = "\t".join(f"{value:.4f}" for value in (*matrix[:3, 3], turn_deg(matrix[:3, :3])))
            place, used = s if self.by_slice else "n/a", "no" if self.rejected[volume, s] else "yes"
            lines.append(f"{volume}\t{place}\t{numbers}\t{used}\t{100 * stretch(matrix[:3, :3]):.3f}")
        return "\n".join(lines) + "\n"


def turn_deg(matrix: FloatArray) -> float:
    """Return the angle of the rotation that is nearest to a matrix, (n, n) of 2 or 3 axes, degrees."""
    left, _, right = np.linalg.svd(matrix)
    cosine = (np.trace(left @ right) - (len(matrix) - 2)) / 2
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))


def stretch(matrix: FloatArray) -> float:
    """Return by how much a matrix, (n, n), changes a length at most, as a share of it."""
    return float(np.abs(np.linalg.svd(matrix, compute_uv=False) - 1).max())


def reference_volume(signals: FloatArray, acquisition: Acquisition) -> FloatArray:
    """Return the mean of the b = 0 volumes of the shortest echo time, (I, J, K); of the lowest b if there is none."""
    b = acquisition.b_smm2
    chosen = acquisition.is_b0 if acquisition.is_b0.any() else b <= b.min() + 1.0
    if acquisition.te_ms is not None:
        chosen = chosen & (acquisition.te_ms <= acquisition.te_ms[chosen].min() + 0.1)
    return np.asarray(signals[..., chosen].mean(axis=3))


def correct_motion(
    signals: FloatArray, affine: FloatArray, acquisition: Acquisition, progress: Progress | None = None,
    kind: str = "rigid",
) -> tuple[FloatArray, Motion]:  # fmt: skip
    """Align every volume with the mean b = 0 of the shortest echo time.

    Stacks of fewer than eight slices are aligned slice by slice within the plane. By mutual information, as echo time
    and diffusion weighting change the contrast (DIPY's affine registration). Signals, returned as float32, are
    interpolated once with cubic splines; what comes from outside the field of view repeats its edge. The gradient
    directions need not be turned: the models of this package are isotropic. InputError for an unknown kind.

    Parameters
    ----------
    signals, affine, acquisition : (I, J, K, M) and (4, 4) ndarray, Acquisition
        Signals; voxel index to world, mm; protocol.
    kind : {"rigid", "affine"}
        Shifts and turns; or stretches and shears too, as eddy currents make them.
    """
    if kind not in MOTIONS:
        raise InputError(f"there is no motion {kind!r}", hint=f"choose among {', '.join(MOTIONS)}")
    static = reference_volume(signals, acquisition).astype(np.float64)
    shape, volumes = signals.shape[:3], signals.shape[3]
    by_slice = shape[2] < _FEWEST_SLICES
    slices: list[Any] = [*range(shape[2])] if by_slice else [slice(None)]
    axes, spacing = 2 if by_slice else 3, np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    align = _Aligner(spacing[:axes], tuple(shape[:axes]), affine[:3, :3] / spacing)
    matrices = np.tile(np.eye(4), (volumes, len(slices), 1, 1))
    rejected = np.zeros((volumes, len(slices)), dtype=bool)
    aligned = np.array(signals, dtype=np.float32)
    for volume in range(volumes):
        for s, where in enumerate(slices):
            moving = np.asarray(signals[:, :, where, volume], dtype=np.float64)
            fixed = static[:, :, where]
            if np.ptp(moving) == 0 or np.ptp(fixed) == 0 or np.array_equal(moving, fixed):
                continue
            matrix, helped = align.estimate(fixed, moving, kind)
            rejected[volume, s] = not helped
            if helped:
                matrices[volume, s] = align.in_world(matrix)
                # Splines may not make signals negative.
                aligned[:, :, where, volume] = np.maximum(align.at(moving, matrix), 0.0)
        share_of(progress)((volume + 1) / volumes)
    return aligned, Motion(matrices, by_slice, rejected)


@dataclass(frozen=True)
class _Aligner:
    """Registration in a frame whose axes are the image's, in mm, with the origin in the centre."""

    spacing: FloatArray
    size: tuple[int, ...]
    rotation: FloatArray

    @property
    def grid(self) -> FloatArray:
        """Voxel index to this frame."""
        n = len(self.size)
        result = np.diag([*self.spacing, 1.0])
        result[:n, n] = -0.5 * self.spacing * (np.array(self.size) - 1)
        return result

    def estimate(self, fixed: FloatArray, moving: FloatArray, kind: str) -> tuple[FloatArray, bool]:
        """Return the matrix from the fixed to the moving image, and whether it helps."""
        from dipy.align import transforms
        from dipy.align.imaffine import AffineRegistration, MutualInformationMetric

        n, grid = len(self.size), self.grid
        coarse = 2 if min(self.size) >= 24 else 1
        levels = {"level_iters": [40, 30], "sigmas": [1.5, 0.0], "factors": [coarse, 1]}
        search = AffineRegistration(metric=MutualInformationMetric(nbins=24), verbosity=0, **levels)
        fixed, moving = _stretch(fixed), _stretch(moving)
        places = {"static_grid2world": grid, "moving_grid2world": grid}
        names = ("Translation", "Rigid", "Affine")[: 3 if kind == "affine" else 2]
        matrix = np.eye(n + 1)
        for each in (getattr(transforms, f"{name}Transform{n}D")() for name in names):
            matrix = search.optimize(fixed, moving, each, None, starting_affine=matrix, **places).affine
        if not np.all(np.isfinite(matrix)):
            return np.eye(n + 1), False
        far = np.abs(matrix[:n, n]) > _LARGEST_SHARE * self.spacing * np.array(self.size)
        inner = matrix[:n, :n]
        if far.any() or turn_deg(inner) > _LARGEST_TURN or stretch(inner) > _LARGEST_STRETCH:
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


@dataclass(frozen=True)
class Drift:
    """The drift of a series: the (M,) factors to divide by, 1 first, and the relative error over the scan."""

    factor: FloatArray
    standard_error: float
    details: dict[str, Any]


def estimate_drift(signals: FloatArray, reference: BoolArray, acquisition: Acquisition, *, order: int = 1) -> Drift:
    """Estimate how the gain of the scanner changed over the scan, from a region that itself does not change.

    Volumes are taken to be in the order in which they were acquired. Those of equal weighting (b = 0 at one echo time,
    or equal b, δ, Δ and TE) share a level of their own, so that neither T2 nor diffusion is mistaken for drift; where
    too few are repeated, the levels follow -TE/T2 - b D + c b² instead. After Vos et al. 2017, doi 10.1002/mrm.26124,
    who use b = 0 volumes of one echo time. InputError if the region is empty or without signal, or the order is
    another; ProtocolError if time cannot be separated from echo time and diffusion with this order of volumes.

    Parameters
    ----------
    signals, reference : (I, J, K, M) ndarray, and (I, J, K) ndarray of bool
        Signals, and the region: saline, a phantom, or muscle.
    acquisition : Acquisition
        Protocol of the M volumes.
    order : {1, 2}
        Drift of the logarithm over the volumes: linear, or with a square.
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
    problem = "the drift cannot be separated from T2 and diffusion: time, echo time and b change together here"
    raise ProtocolError(problem, hint="leave --drift-reference out, or acquire some b = 0 volumes again at the end")


def correct_drift(signals: FloatArray, drift: Drift) -> FloatArray:
    """Divide the drift out of the signals, (I, J, K, M)."""
    return np.asarray(signals / drift.factor.astype(signals.dtype))


def _groups(acquisition: Acquisition) -> FloatArray:
    """Return a column per kind of volume, (M, kinds)."""
    encodings = acquisition.encodings()[1] if acquisition.has_timing else np.zeros(len(acquisition), dtype=int)
    index = np.where(acquisition.is_b0, -1, encodings)
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
    spread = float(np.sqrt((residual @ residual / left * np.linalg.inv(alone.T @ alone)).sum()))
    return (slope, spread) if spread < _MOST_UNCERTAIN else None
