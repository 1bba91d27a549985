"""The two images of `histomri register` from their files: maps and MRI as NIfTI, or slides."""

from pathlib import Path

import numpy as np

from histomri.cells import read_regions
from histomri.core.arrays import BoolArray
from histomri.core.errors import InputError, UnitError
from histomri.registration.options import RegisterOptions, is_slide
from histomri.registration.sides import Overview, Side, comparable_tissue, inside_mask, whole_section
from histomri.slides import Raster, open_slide, tissue_mask

_OVERVIEW_PX = 1600
"""Longest side of the picture in which tissue is sought: an outline is needed to a hundredth of a section."""
_LEAST_FRACTION = 0.001
_HINT = "give its outline as a mask, GeoJSON of QuPath"
Mpp = tuple[float, float] | None


def read_sides(options: RegisterOptions) -> tuple[Side, Side, tuple[str, ...]]:
    """Read both images and their masks; also return what a person should know about the tissue that was found.

    Where neither `fixed_mpp` nor the fixed slide gives a pixel size, it is `mpp`.
    """
    paths, masks = (options.moving, options.fixed), (options.moving_mask, options.fixed_mask)
    views = (
        _overview(paths[0], options.mpp, None, "--mpp") if is_slide(paths[0]) else None,
        _overview(paths[1], options.fixed_mpp, options.mpp, "--fixed-mpp") if is_slide(paths[1]) else None,
    )
    inside = [None if view is None else _inside(view, mask) for view, mask in zip(views, masks, strict=True)]
    note = ""
    if masks == (None, None) and None not in views:
        found = [each for each in views if each is not None], [each for each in inside if each is not None]
        inside[:], note = comparable_tissue(*found)
    moving, fixed = (
        Side.of_file(path, mask) if view is None or tissue is None else Side.of_slide(view, tissue)
        for path, view, tissue, mask in zip(paths, views, inside, masks, strict=True)
    )
    return moving, fixed, (note,) if note else ()


def _overview(path: Path, mpp: Mpp, spare: Mpp, option: str) -> Overview:
    """Read the picture of a slide; `spare` is its pixel size if neither `mpp` nor the slide gives one."""
    with open_slide(path, mpp=mpp) as slide:
        known = slide.pixel_size_um
    with open_slide(path, mpp=spare if known is None else mpp) as slide:
        if slide.pixel_size_um is None:
            raise UnitError("the slide states no pixel size", path=path, hint=f"pass {option}, in µm per pixel")
        view = slide.at(max(slide.field_um) / _OVERVIEW_PX)
        return Overview(path, view.read(0, 0, *view.size_px), view.um_per_px, slide.pixel_size_um, slide.size_px)


def _inside(view: Overview, mask: Path | None) -> BoolArray:
    """Return which pixels of a picture are tissue."""
    if mask is None:
        try:
            return whole_section(tissue_mask(view.rgb, min_size=_LEAST_FRACTION))
        except InputError as error:
            raise InputError(error.problem, path=view.path, hint=_HINT) from error
    if mask.name.lower().endswith((".geojson", ".json")):
        x, y = ((np.arange(n) + 0.5) * um for n, um in zip(view.size_px, view.um_per_px, strict=True))
        found = Raster(read_regions(mask, view.pixel_size_um)).inside(x, y)
    else:
        found = inside_mask(mask, view)
    if not found.any():
        raise InputError(f"no part of it lies on {view.path.name}", path=mask, hint="give a mask of this slide")
    return np.asarray(found)
