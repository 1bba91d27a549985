"""Pictures of sections as images in the world of their slide, so that one section can be laid on another."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError
from histomri.core.images import Image
from histomri.registration.quality import Registration
from histomri.registration.transform import Transform
from histomri.registration.warping import Picture, warp_region

_WHITEST = 99.5
_ASIDE = (0.1, 0.2)
"""How far aside the densities are compared as well, of the size of the tissue."""
_CLEAR_PEAK = 0.05
_LEAST_SHARED = 200
_LARGEST_PICTURE_PX = 900


def slide_image(picture: FloatArray | NDArray[np.bool_], um_per_px: float | tuple[float, float]) -> Image:
    """Return a picture (h, w) as an image in the world of its slide, in mm; its x and y run against the slide's."""
    size = np.broadcast_to(np.asarray(um_per_px, dtype=float), 2) / 1000
    if np.ndim(picture) != 2 or not np.all(np.isfinite(size)) or np.any(size <= 0):
        raise GeometryError("a picture of shape (h, w) and a pixel size in µm above 0 are needed")
    affine = np.array([[0, -size[0], 0, -size[0] / 2], [-size[1], 0, 0, -size[1] / 2], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    return Image(np.asarray(picture, dtype=float), affine)


def dense_mask(rgb: NDArray[np.uint8], *, blur_px: float = 20.0) -> NDArray[np.bool_]:
    """Return where a section is dense on a large scale: the outline to match where the tissue itself fills the picture.

    In spongy or cropped tissue the outline of all that is stained differs from stain to stain; that of a dense region,
    such as a tumour, does not.
    """
    density = gaussian_filter(_density(rgb), blur_px)
    return np.asarray(density > threshold_otsu(density))


def density_image(
    rgb: NDArray[np.uint8], um_per_px: float | tuple[float, float], mask: NDArray[np.bool_], *, shrink: int = 1
) -> Image:
    """Return the optical density of a bright-field picture (h, w, 3) within its tissue, averaged over blocks of pixels.

    A block has an edge of `shrink` pixels, and is NaN if less than half of it is tissue, by the mask (h, w).
    """
    density = _density(rgb)
    rows, columns = (length // shrink for length in mask.shape)
    cut = (slice(0, rows * shrink), slice(0, columns * shrink))
    blocks = (rows, shrink, columns, shrink)
    fraction = mask[cut].reshape(blocks).mean(axis=(1, 3))
    total = np.where(mask, density, 0.0)[cut].reshape(blocks).mean(axis=(1, 3))
    values = np.where(fraction >= 0.5, total / np.maximum(fraction, 1e-12), np.nan)
    size = np.broadcast_to(np.asarray(um_per_px, dtype=float), 2) * shrink
    return slide_image(values, (float(size[0]), float(size[1])))


def _density(rgb: NDArray[np.uint8]) -> FloatArray:
    glass = np.maximum(np.percentile(rgb.reshape(-1, 3), _WHITEST, axis=0), 1.0)
    return np.asarray(np.clip(-np.log10(np.maximum(rgb, 1) / glass), 0, None).mean(axis=2))


def compare_densities(found: Registration, moving: Image, fixed: Image) -> Registration:
    """Hold the densities of two sections, which the outlines know nothing of, against the result.

    The same structures are dense in two stains. Where the sections lie right, their densities, NaN where there is no
    tissue, are more alike than where one is moved aside by a tenth or a fifth of the tissue. `qc` gets ``density_r``,
    the correlation of the densities, and ``density_lead``, how much lower the best aside is: 0.05 or more makes
    "failed" a "check"; below 0, "good" becomes a "check".
    """
    here = _correlation(found, moving, fixed)
    size = np.sqrt(np.isfinite(fixed.data).sum()) * fixed.voxel_mm[:2]
    directions = (fixed.affine[:3, :2] / fixed.voxel_mm[:2]) * size
    angles = np.arange(8) * np.pi / 4
    asides = [fraction * directions @ (np.cos(angle), np.sin(angle)) for fraction in _ASIDE for angle in angles]
    beside = [_correlation(_moved(shift).compose(found), moving, fixed) for shift in asides]
    known = [r for r in beside if r is not None]
    if here is None or not known:
        return replace(found, qc={**found.qc, "density_r": here, "density_lead": None})
    margin = here - max(known)
    verdict, reasons = found.verdict, list(found.qc["reasons"])
    if margin >= _CLEAR_PEAK and verdict == "failed":
        verdict = "check"
        reasons.append(f"the densities agree nowhere around as well as here (r {here:.2f}, {margin:.2f} more)")
    elif margin < 0:
        verdict = "check" if verdict == "good" else verdict
        reasons.append(f"the densities agree better beside this place (r {here:.2f} here, {here - margin:.2f} there)")
    qc = {"verdict": verdict, "reasons": reasons, "density_r": here, "density_lead": margin}
    return replace(found, qc={**found.qc, **qc})


def _correlation(transform: Transform, moving: Image, fixed: Image) -> float | None:
    there = transform.resample(moving, fixed).data
    known = np.isfinite(there) & np.isfinite(fixed.data)
    if known.sum() < _LEAST_SHARED or np.ptp(there[known]) == 0 or np.ptp(fixed.data[known]) == 0:
        return None
    return float(np.corrcoef(there[known], fixed.data[known])[0, 1])


def _moved(shift: FloatArray) -> Transform:
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    return Transform(matrix)


@dataclass(frozen=True, eq=False)
class SlidePictures:
    """Two slides in colour on one grid, one as it lies on the other, and the size of that one."""

    moved: NDArray[np.uint8]
    fixed: NDArray[np.uint8]
    size_mm: tuple[float, float]

    @classmethod
    def of(cls, found: Transform, moving: Picture, fixed: Picture) -> "SlidePictures":
        """Draw both on the grid of the fixed one, at most 900 pixels long."""
        width, height = fixed.size_px
        step = -(-max(width, height) // _LARGEST_PICTURE_PX)
        still = fixed.read(0, 0, width, height)[::step, ::step]
        um = np.asarray(fixed.um_per_px) * step
        grid = slide_image(np.zeros(still.shape[:2]), (float(um[0]), float(um[1])))
        moved = warp_region(found, moving, grid.affine, still.shape[:2])
        size = um * (still.shape[1], still.shape[0]) / 1000
        return cls(moved, still, (float(size[0]), float(size[1])))
