"""Pictures of sections as images in the world of their slide, so that one section can be laid on another."""

import numpy as np
from numpy.typing import NDArray

from histomri.arrays import FloatArray
from histomri.errors import GeometryError
from histomri.maps import Image

_WHITEST = 99.5


def slide_image(picture: FloatArray | NDArray[np.bool_], um_per_px: float | tuple[float, float]) -> Image:
    """Return a picture, (h, w), as an image in the world of its slide: x and y run against those of the slide, in mm.

    Raises
    ------
    GeometryError
        If it is not two-dimensional, or a pixel has no size.
    """
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
    from scipy.ndimage import gaussian_filter
    from skimage.filters import threshold_otsu

    density = gaussian_filter(_density(rgb), blur_px)
    return np.asarray(density > threshold_otsu(density))


def density_image(
    rgb: NDArray[np.uint8], um_per_px: float | tuple[float, float], mask: NDArray[np.bool_], *, shrink: int = 1
) -> Image:
    """Return the optical density of a bright-field picture within its tissue, averaged over blocks of pixels.

    Parameters
    ----------
    rgb : (h, w, 3) uint8 ndarray
        Thumbnail.
    um_per_px : float or (x, y)
        Its pixel size.
    mask : (h, w) bool ndarray
        Where its tissue is.
    shrink : int
        Pixels per edge of a block; blocks with less than half tissue are NaN.
    """
    density = _density(rgb)
    rows, columns = (length // shrink for length in mask.shape)
    cut = (slice(0, rows * shrink), slice(0, columns * shrink))
    blocks = (rows, shrink, columns, shrink)
    share = mask[cut].reshape(blocks).mean(axis=(1, 3))
    total = np.where(mask, density, 0.0)[cut].reshape(blocks).mean(axis=(1, 3))
    values = np.where(share >= 0.5, total / np.maximum(share, 1e-12), np.nan)
    size = np.broadcast_to(np.asarray(um_per_px, dtype=float), 2) * shrink
    return slide_image(values, (float(size[0]), float(size[1])))


def _density(rgb: NDArray[np.uint8]) -> FloatArray:
    glass = np.maximum(np.percentile(rgb.reshape(-1, 3), _WHITEST, axis=0), 1.0)
    return np.asarray(np.clip(-np.log10(np.maximum(rgb, 1) / glass), 0, None).mean(axis=2))
