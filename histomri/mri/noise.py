"""Noise of a diffusion series as users give it, or by DIPY: Marchenko-Pastur PCA, or the noise of the background."""

import warnings
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import find_objects, maximum_filter, uniform_filter

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.mri import DwiFile, Series

DIPY = f"DIPY {version('dipy')}"
NOISE_METHODS = ("mppca", "piesno")
# Bigger patches mix tissues and cost time with the square of the number of volumes.
_LARGEST_RADIUS = 5
_LEAST_BACKGROUND, _SAME_LAW = 0.02, 0.03
_METHODS = {"estimate": "mppca", "mppca": "mppca", "piesno": "piesno"}
# The widest patch of MP-PCA: it is read beyond the mask, so that voxels at its rim have neighbours.
_MARGIN = 5


@dataclass(frozen=True)
class NoiseLevel:
    """The noise of a series: standard deviation of the real and the imaginary channel.

    Sigma, (I, J, K), is in the units of the signal; NaN outside the mask.
    """

    sigma: FloatArray
    method: str  # how it was estimated, with the version that did it
    details: dict[str, Any] = field(default_factory=dict)  # settings and the median, for the sidecar


def estimate_noise(signals: FloatArray, mask: BoolArray | None = None, method: str = "mppca") -> NoiseLevel:
    """Estimate the noise level of each voxel, where a mask wants it.

    Veraart et al. 2016, doi 10.1016/j.neuroimage.2016.08.016; Koay et al. 2009, doi 10.1016/j.jmr.2009.03.005.
    InputError if the image is too small for patches, or has no background.

    Parameters
    ----------
    signals, mask : (I, J, K, M) ndarray, and (I, J, K) ndarray of bool, optional
        Raw signals: neither interpolated nor filtered, or the noise is no longer what it was.
    method : {"mppca", "piesno"}
        From the spectrum of small patches (any field of view; at least about as many voxels per patch as volumes),
        or slice by slice from the air around the sample (needs a background that was not masked away).
    """
    if method not in NOISE_METHODS:
        raise InputError(f"there is no noise estimate {method!r}", hint=f"choose among {', '.join(NOISE_METHODS)}")
    return _piesno(signals, mask) if method == "piesno" else denoise(signals, mask)[1]


def parse_patch(text: str) -> tuple[int, ...]:
    """Return the patch that a text such as ``7x7x3`` names; ``5x5`` is slice by slice. ValueError for another text."""
    words = text.lower().replace("×", "x").split("x")
    sizes = tuple(int(word) for word in words if word.strip().isdigit())
    if len(sizes) != len(words) or len(sizes) not in (2, 3) or not all(size % 2 and 1 <= size <= 15 for size in sizes):
        raise ValueError(f"'{text}' is no patch; give odd numbers of voxels up to 15, such as 7x7x3, or 5x5 in a slice")
    return sizes if len(sizes) == 3 else (*sizes, 1)


def denoise(
    signals: FloatArray, mask: BoolArray | None = None, patch: str | None = None
) -> tuple[FloatArray, NoiseLevel]:
    """Denoise raw signals, (I, J, K, M), by Marchenko-Pastur PCA within a mask, (I, J, K) of bool; the rest is kept.

    Returns float32 signals and the noise that was removed; about five times the memory of the input is used meanwhile.
    InputError if the image is too small for patches, or for the patch asked for, such as ``7x7x3`` or ``5x5``.
    """
    from dipy.denoise.localpca import mppca

    radius = patch_radius(signals.shape) if patch is None else _asked_radius(signals.shape, parse_patch(patch))
    inside = np.ones(signals.shape[:3], dtype=bool) if mask is None else mask
    # Voxels at the rim are only reached by patches centred within the field of view, some way inside.
    centres = maximum_filter(inside, size=tuple(2 * radius + 1))
    values = np.ascontiguousarray(signals, dtype=np.float32)
    # A background set to zero holds no noise, and patches of it would lower or spoil the estimates around.
    enough = max(0.3, 1.05 * signals.shape[3] / float(np.prod(2 * radius + 1)))
    filled = np.any(values > 0, axis=3).astype(np.float32)
    centres &= uniform_filter(filled, size=tuple(2 * radius + 1), mode="nearest") > enough
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        # Where no patch reaches, or one holds no noise at all: put right below.
        warnings.simplefilter("ignore", RuntimeWarning)
        cleaned, sigma = mppca(values, mask=centres, patch_radius=radius, return_sigma=True, suppress_warning=True)
    reached = inside & np.isfinite(sigma) & np.all(np.isfinite(cleaned), axis=3) & (sigma > 0)
    cleaned = np.where(reached[..., None], cleaned, values)
    sigma = np.where(reached, sigma, np.nan).astype(np.float32)
    details = {
        "PatchRadius": radius.tolist(),
        "Patch": "x".join(str(2 * each + 1) for each in radius),
        "MedianSigma": float(np.median(sigma[reached])) if reached.any() else None,
        "VoxelsNotReached": int(np.count_nonzero(inside & ~reached)),
    }
    return cleaned, NoiseLevel(sigma, f"MP-PCA ({DIPY})", details)


def patch_radius(shape: tuple[int, ...]) -> IntArray:
    """Return the radius of patches along i, j, k: 2, wider in plane where that holds under two voxels per volume."""
    # With hardly more voxels than volumes the noise comes out a tenth too small.
    most = np.array([(n - 1) // 2 for n in shape[:3]])
    radius = np.minimum(most, 2)
    while np.prod(2 * radius + 1) < 2 * shape[3] and np.any((radius[:2] < most[:2]) & (radius[:2] < _LARGEST_RADIUS)):
        radius[:2] = np.minimum(np.minimum(radius[:2] + 1, most[:2]), _LARGEST_RADIUS)
    if shape[3] < 5 or np.prod(2 * radius + 1) < 9:
        problem = f"an image of {' x '.join(str(n) for n in shape)} is too small to estimate its noise"
        raise InputError(problem, hint="give --sigma a number, or preprocess with --no-denoise")
    return np.asarray(radius)


def _asked_radius(shape: tuple[int, ...], sizes: tuple[int, ...]) -> IntArray:
    name = "x".join(map(str, sizes))
    if any(size > n for size, n in zip(sizes, shape)):
        problem = f"a patch of {name} voxels does not fit into an image of {' x '.join(map(str, shape[:3]))}"
        raise InputError(problem, hint="give a smaller --patch, such as 5x5 for single slices")
    if np.prod(sizes) < 9 or shape[3] < 5:
        problem = f"a patch of {name} voxels and {shape[3]} volumes are too few to separate noise from signal"
        raise InputError(problem, hint="give a --patch of more voxels, or --no-denoise")
    return np.array([size // 2 for size in sizes])


def _piesno(signals: FloatArray, mask: BoolArray | None) -> NoiseLevel:
    from dipy.denoise.noise_estimate import piesno

    level, background = piesno(np.asarray(signals, dtype=np.float32), 1, return_mask=True)
    good = (background.mean(axis=(0, 1)) >= _LEAST_BACKGROUND) & (np.asarray(level) > 0)
    # PIESNO compares sums of squares only, and may settle on tissue; noise alone also has the mean of its law.
    good &= [_is_rayleigh(signals[:, :, k][background[:, :, k]]) for k in range(good.size)]
    if not good.any():
        hint = "use --sigma estimate (MP-PCA), or images whose background was not masked away"
        raise InputError("no background of pure noise was found, so PIESNO has nothing to measure", hint=hint)
    # Slices filled by the sample take the level of the others.
    levels = np.where(good, level, np.median(np.asarray(level)[good]))
    sigma = np.broadcast_to(levels, signals.shape[:3]).astype(np.float32)
    details = {"MedianSigma": float(np.median(levels)), "BackgroundVoxels": int(background[..., good].sum())}
    details["SlicesWithoutBackground"] = int(np.count_nonzero(~good))
    inside = sigma if mask is None else np.where(mask, sigma, np.nan)
    return NoiseLevel(inside, f"PIESNO ({DIPY})", details)


def _is_rayleigh(values: FloatArray) -> bool:
    """Tell whether magnitudes can be pure noise: the square of their mean is π/4 of the mean of their squares."""
    power = float(np.mean(np.square(values, dtype=np.float64))) if values.size else 0.0
    return power > 0 and abs(float(np.mean(values, dtype=np.float64)) ** 2 / power / (np.pi / 4) - 1) < _SAME_LAW


@dataclass(frozen=True)
class Sigma:
    """A noise level: a number, or (V,) for the voxels of a mask, in the units of the signal."""

    level: float | FloatArray | None
    record: dict[str, Any] = field(default_factory=dict)  # where it is from, for the sidecar
    source: Path | None = None  # the map it was read from
    warnings: tuple[str, ...] = ()  # where it may be wrong


def read_sigma(sigma: float | str | Path | None, series: Series) -> Sigma:
    """Read or estimate the noise level of the voxels of a series.

    It is given as a number in the units of the signal; a NIfTI map of it; ``estimate`` (or ``mppca``) for MP-PCA, or
    ``piesno`` for the noise of the background. The estimates need the images as the scanner made them, and the memory
    of the part of the series that holds the mask, five times. InputError if it cannot be read or estimated, or is
    nowhere above 0 inside the mask.
    """
    if sigma is None:
        return Sigma(None, {"Method": "none"})
    if isinstance(sigma, float | int):
        return Sigma(float(sigma), {"Method": "number", "Sigma": float(sigma)})
    if str(sigma).lower() in _METHODS:
        return _estimated(_METHODS[str(sigma).lower()], series.images, series.inside)
    path = Path(sigma)
    if not path.exists():
        problem = f"--sigma {sigma} is neither a number, estimate nor piesno, and there is no such NIfTI image"
        raise InputError(problem, hint="check the spelling and the folder")
    return Sigma(series.read_positive(path, "sigma"), {"Method": "map", "File": path.name}, path)


def _estimated(method: str, images: DwiFile, inside: BoolArray) -> Sigma:
    # The background that PIESNO measures may lie anywhere.
    around = find_objects(inside.astype(np.int8))[0] if method == "mppca" else tuple(slice(0, n) for n in inside.shape)
    corner = tuple(slice(max(each.start - _MARGIN, 0), each.stop + _MARGIN) for each in around)
    box = np.zeros(inside.shape, dtype=bool)
    box[corner] = True
    wanted = inside[corner]
    signals = images.read(box).reshape(*wanted.shape, images.shape[3])
    try:
        noise = estimate_noise(signals, wanted, method)
    except InputError as error:
        raise InputError(error.problem, path=images.path, hint=error.hint) from error
    level = noise.sigma[wanted]
    record = {"Method": noise.method, **noise.details}
    if not (missing := int(np.count_nonzero(~np.isfinite(level)))):
        return Sigma(level, record)
    if missing == level.size:
        raise InputError("no voxel has an estimate of its noise", path=images.path, hint="give --sigma")
    warning = f"sigma: {missing} voxels have no estimate and take the median of the others"
    return Sigma(np.where(np.isfinite(level), level, np.nanmedian(level)), record, None, (warning,))
