"""Where the tissue is on a slide."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import remove_small_holes, remove_small_objects

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import InputError
from histomri.slides.raster import mask_polygons
from histomri.slides.slide import Slide

# Optical densities between which the threshold may lie: below is noise of the lamp, above pale tissue would be lost.
_LEAST_OD, _MOST_OD = 0.03, 0.08
# Densities are cut here before the threshold is sought: otherwise it may fall between pale and dark tissue.
_DENSE_OD = 0.1
# Glass and pale tissue are brighter in every channel; on a fluorescence slide at least one colour is missing.
_DARKEST_GLASS = 60
# Some scanners fill the rest with black; no stain is that dark in all channels.
_BLACK = 8
_BLUR_UM = 10.0
_COARSEST_UM, _FINEST_UM = 8.0, 1.0


@dataclass(frozen=True, eq=False)
class Tissue:
    """The tissue of a slide."""

    mask: BoolArray  # (h, w): rows run down, columns to the right, from the top left corner of the slide
    um_per_px: tuple[float, float]  # pixel size of the mask, x and y

    @cached_property
    def region(self) -> BaseGeometry:
        """Outline with its holes as polygons in µm of the slide; empty if there is no tissue."""
        return mask_polygons(self.mask, self.um_per_px)

    @property
    def area_um2(self) -> float:
        """Area of the tissue."""
        return float(np.count_nonzero(self.mask) * self.um_per_px[0] * self.um_per_px[1])

    def inside(self, x_um: FloatArray, y_um: FloatArray) -> BoolArray:
        """Return which pixels are tissue, (h, w); `x_um` (w,) and `y_um` (h,) are centres of columns and rows."""
        column = np.clip((x_um / self.um_per_px[0]).astype(np.intp), 0, self.mask.shape[1] - 1)
        row = np.clip((y_um / self.um_per_px[1]).astype(np.intp), 0, self.mask.shape[0] - 1)
        return np.asarray(self.mask[row[:, None], column[None, :]])

    def to_pixels(self, pixel_size_um: tuple[float, float]) -> BaseGeometry:
        """Return the outline in pixels of the full-resolution image, as QuPath wants it."""
        return shapely.transform(self.region, lambda points: points / np.asarray(pixel_size_um))


def find_tissue(
    slide: Slide,
    um_per_px: float | None = None,
    *,
    threshold: float | None = None,
    min_area_um2: float = 20_000.0,
    max_hole_um2: float = 5_000.0,
) -> Tissue:
    """Find the tissue of a bright-field slide by its optical density.

    Parameters
    ----------
    slide : Slide
        With a known pixel size.
    um_per_px : float, optional
        Resolution at which it is sought; 8 µm, or finer (to 1 µm) for a picture smaller than 2 mm.
    threshold : float, optional
        Optical density above which there is tissue; sought between 0.03 and 0.08 if not given.
    min_area_um2 : float
        Smaller specks are left out; where the picture is small, those below a fiftieth of it.
    max_hole_um2 : float
        Holes up to this area count as tissue.

    Raises
    ------
    InputError
        If the slide is dark (fluorescence).
    """
    field = slide.field_um
    if um_per_px is None:
        um_per_px = float(np.clip(min(field) / 256, _FINEST_UM, _COARSEST_UM))
    view = slide.at(um_per_px)
    picture = slide.thumbnail(um_per_px)
    pixel_area = view.um_per_px[0] * view.um_per_px[1]
    speck = min(min_area_um2, field[0] * field[1] / 50) / pixel_area
    try:
        mask = _dense(picture, threshold, max(_BLUR_UM / um_per_px, 1.0))
    except InputError as error:
        raise InputError(error.problem, path=slide.path, hint=error.hint) from error
    return Tissue(_cleaned(mask, speck, max_hole_um2 / pixel_area), view.um_per_px)


def tissue_mask(
    rgb: NDArray[np.uint8], *, threshold: float | None = None, min_size: float = 0.001, blur_px: float = 2.0
) -> BoolArray:
    """Find the tissue in a bright-field picture by its optical density, (h, w).

    Parameters
    ----------
    rgb : (h, w, 3) uint8 ndarray
        Picture of the slide, such as a thumbnail at 4-16 µm per pixel.
    threshold : float, optional
        Optical density above which there is tissue; Otsu's threshold, kept between 0.03 and 0.08, if not given.
    min_size : float
        Specks and holes smaller than this fraction of the picture are removed.
    blur_px : float
        Gaussian blur before the threshold, so that the gaps between cells count as tissue.
    """
    mask = _dense(rgb, threshold, blur_px)
    return _cleaned(mask, min_size * mask.size, min_size * mask.size)


def _dense(rgb: NDArray[np.uint8], threshold: float | None, blur_px: float) -> BoolArray:
    picture = np.asarray(rgb)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or picture.size == 0:
        raise InputError(f"a picture of shape (h, w, 3), 8 bits, was expected; got {picture.shape}, {picture.dtype}")
    # Glass is the brightest common value of each channel; it is not 255 on most scanners.
    glass = np.percentile(picture.reshape(-1, 3), 99.5, axis=0)
    if glass.min() < _DARKEST_GLASS:
        raise InputError(
            "is dark: a fluorescence image? Tissue and stains are found on bright-field slides only",
            hint="give the region as --roi, and count cells in place of stain",
        )
    table = np.clip(-np.log10(np.maximum(np.arange(256), 1)[:, None] / glass), 0, None) / 3
    density = sum(table[picture[..., channel], channel] for channel in range(3))
    density = np.where((picture < _BLACK).all(axis=2), 0.0, density)
    density = gaussian(density, sigma=blur_px) if blur_px > 0 else density
    if threshold is None:
        capped = np.minimum(density, _DENSE_OD)
        threshold = float(np.clip(threshold_otsu(capped), _LEAST_OD, _MOST_OD)) if np.ptp(capped) > 0 else _MOST_OD
    return np.asarray(density > threshold)


def _cleaned(mask: BoolArray, speck_px: float, hole_px: float) -> BoolArray:
    mask = remove_small_objects(mask, max_size=max(int(speck_px) - 1, 0))
    return np.asarray(remove_small_holes(mask, max_size=max(int(hole_px) - 1, 0)), dtype=bool)
