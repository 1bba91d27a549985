"""Where the tissue is on a slide."""

import numpy as np
from numpy.typing import NDArray

from histomri.arrays import BoolArray
from histomri.errors import InputError

# Optical densities between which the threshold may lie: below is noise of the lamp, above pale tissue would be lost.
_LEAST_OD, _MOST_OD = 0.03, 0.12
# Densities are cut here before the threshold is sought: otherwise it may fall between pale and dark tissue.
_DENSE_OD = 0.2


def tissue_mask(
    rgb: NDArray[np.uint8], *, threshold: float | None = None, min_size: float = 0.001, blur_px: float = 2.0
) -> BoolArray:
    """Find the tissue in a bright-field picture by its optical density.

    Parameters
    ----------
    rgb : (h, w, 3) uint8 ndarray
        Picture of the slide, such as a thumbnail at 4-16 µm per pixel.
    threshold : float, optional
        Optical density above which there is tissue; Otsu's threshold, kept between 0.03 and 0.12, if not given.
    min_size : float
        Specks and holes smaller than this fraction of the picture are removed.
    blur_px : float
        Gaussian blur before the threshold, so that the gaps between cells count as tissue.

    Returns
    -------
    (h, w) bool ndarray

    Raises
    ------
    InputError
        If the array is no RGB picture of 8 bits.
    """
    from skimage.filters import gaussian, threshold_otsu
    from skimage.morphology import remove_small_holes, remove_small_objects

    picture = np.asarray(rgb)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or picture.size == 0:
        raise InputError(f"a picture of shape (h, w, 3), 8 bits, was expected; got {picture.shape}, {picture.dtype}")
    # Glass is the brightest common value of each channel; it is not 255 on most scanners.
    glass = np.maximum(np.percentile(picture.reshape(-1, 3), 99.5, axis=0), 1.0)
    density = np.clip(-np.log10(np.maximum(picture, 1) / glass), 0, None).mean(axis=2)
    density = gaussian(density, sigma=blur_px) if blur_px > 0 else density
    if threshold is None:
        capped = np.minimum(density, _DENSE_OD)
        threshold = float(np.clip(threshold_otsu(capped), _LEAST_OD, _MOST_OD)) if np.ptp(capped) > 0 else _MOST_OD
    largest = max(int(min_size * density.size) - 1, 0)
    mask = remove_small_objects(density > threshold, max_size=largest)
    return np.asarray(remove_small_holes(mask, max_size=largest), dtype=bool)
