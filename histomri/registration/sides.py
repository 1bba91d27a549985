"""The two images of a registration, each with its tissue: a map, an MRI, or the picture of a slide."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histomri.core.arrays import BoolArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.registration.files import load_first_volume
from histomri.registration.outlines import tissue_mask
from histomri.registration.sections import dense_mask, density_image, slide_image
from histomri.registration.transform import Transform

_ACROSS_PX = 64
"""Pixels across the tissue of the density that is drawn and compared."""
_CUT = 0.1
"""Fraction of the edge of a picture that is tissue, from which the picture cuts the section."""
_BLUR = 1 / 45
"""Scale of what is dense, of the longest side of the smaller picture."""
_MOST_POINTS, _LEAST_WITHIN = 5000, 0.5


@dataclass(frozen=True, eq=False)
class Overview:
    """A picture (h, w, 3) of a whole slide, with its own pixel size, and size and pixel size of the slide."""

    path: Path
    rgb: NDArray[np.uint8]
    um_per_px: tuple[float, float]
    pixel_size_um: tuple[float, float]
    slide_size_px: tuple[int, int]

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return self.rgb.shape[1], self.rgb.shape[0]

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a part of the picture."""
        return self.rgb[y : y + height, x : x + width]

    @property
    def record(self) -> dict[str, Any]:
        """What a transform keeps of the slide, so that pixels can be carried to it and from it."""
        return {"Slide": self.path.name, "PixelSize_um": list(self.pixel_size_um), "Size_px": list(self.slide_size_px)}


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two images: a map, an MRI, or the optical density of a slide within its tissue.

    `mask` is its tissue if that is known, and `overview` the picture if it is a slide.
    """

    path: Path
    image: Image
    mask: Image | None = None
    overview: Overview | None = None

    @classmethod
    def of_file(cls, path: Path, mask: Path | None = None) -> "Side":
        """Read a NIfTI image and its mask."""
        image = load_first_volume(path)
        return cls(path, image, None if mask is None else _mask_of(image, mask, path))

    @classmethod
    def of_slide(cls, view: Overview, inside: BoolArray) -> "Side":
        """Return the density of a slide where it is `inside` the tissue, (h, w)."""
        if not inside.any():
            raise InputError("shows no tissue", path=view.path, hint="give its outline as a mask, GeoJSON of QuPath")
        shrink = max(int(np.sqrt(inside.sum()) / _ACROSS_PX), 1)
        density = density_image(view.rgb, view.um_per_px, inside, shrink=shrink)
        return cls(view.path, density, slide_image(inside, view.um_per_px), view)

    def name(self, otherwise: str) -> str:
        """Return the name of the slide without its ending; `otherwise` for what is no slide."""
        return otherwise if self.overview is None else self.path.name.split(".")[0]


def whole_section(tissue: BoolArray) -> BoolArray:
    """Return the tissue (h, w) of a picture without dust, pen marks and the like."""
    if not tissue.any() or tissue.all():
        return tissue
    return np.asarray(tissue_mask(slide_image(np.where(tissue, 1.0, np.nan), 1.0)) > 0)


def inside_mask(mask: Path, view: Overview) -> BoolArray:
    """Return which pixels of a picture of a slide lie within a NIfTI mask in the world of the slide."""
    grid = slide_image(np.zeros(view.rgb.shape[:2]), view.um_per_px)
    return np.asarray(Transform.identity().resample(load_first_volume(mask), grid, order=0).data > 0)


def comparable_tissue(views: Sequence[Overview], inside: Sequence[BoolArray]) -> tuple[list[BoolArray], str]:
    """Return tissue of two slides whose outlines can be matched, and a note if that is not all of their tissue.

    Tissue that fills the picture has no outline of its own; a dense region in it, such as a tumour, has one.
    """
    if not any(_is_cut(tissue) for tissue in inside):
        return list(inside), ""
    blur_um = _BLUR * min(max(np.multiply(view.size_px, view.um_per_px)) for view in views)
    dense = [whole_section(dense_mask(view.rgb, blur_px=blur_um / view.um_per_px[0])) for view in views]
    return dense, (
        "tissue runs over the edge of a picture, so the outlines of its dense parts were matched; --moving-mask "
        "and --fixed-mask take annotations of QuPath (GeoJSON) in their place"
    )


def _is_cut(tissue: BoolArray) -> bool:
    edge = np.concatenate([tissue[0], tissue[-1], tissue[:, 0], tissue[:, -1]])
    return bool(edge.mean() > _CUT)


def _mask_of(image: Image, mask: Path, path: Path) -> Image:
    """Read the mask of an image; its grid may be another one, its place may not."""
    read = load_first_volume(mask)
    inside = np.argwhere(np.nan_to_num(read.data) > 0)
    if not len(inside):
        raise InputError("is empty as a mask: no voxel is above 0", path=mask)
    inside = inside[:: len(inside) // _MOST_POINTS + 1]
    world = inside @ read.affine[:3, : inside.shape[1]].T + read.affine[:3, 3]
    index = (world - image.affine[:3, 3]) @ np.linalg.inv(image.affine[:3, :3]).T
    last = np.array([*image.data.shape, 1][:3]) - 1
    slack = np.array([1.0, 1.0, 1.0 + read.voxel_mm[-1] / image.voxel_mm[2]])
    fraction = float(np.all((index > -slack) & (index < last + slack), axis=1).mean())
    if fraction < _LEAST_WITHIN:
        raise GeometryError(
            f"only {fraction:.0%} of the mask lies within {path.name}",
            path=mask,
            hint="give a mask that was drawn on this image",
        )
    return read
