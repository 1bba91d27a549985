"""Regions that are left out of a registration: damaged, folded or foreign tissue, or what the other image lacks."""

from dataclasses import replace
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.registration.estimate import register
from histomri.registration.prepare import tissue_of
from histomri.registration.quality import Registration
from histomri.registration.transform import Transform

_LEAST_LEFT = 0.2
_HINT = "exclude less, or give landmarks"


def register_without(
    moving: Image, fixed: Image, *, moving_exclude: Image | None = None, fixed_exclude: Image | None = None,
    moving_mask: Image | None = None, fixed_mask: Image | None = None, **options: Any,
) -> Registration:  # fmt: skip
    """Register a section as `register` does, without regions of it or of the fixed image.

    The two are registered without the regions of the section, and without comparing outlines in those of the fixed
    image; what was found carries every region to the other image. Then all are cut out of the tissue of both, and the
    outlines are compared again, except in the regions and beside their edges. Both times all orientations are searched.

    Parameters
    ----------
    moving_exclude, fixed_exclude : Image, optional
        Regions, positive, on a grid of their own in the world of the moving and the fixed image.
    **options
        Those of `register`.

    Raises
    ------
    InputError
        If a region lies beside its image, or leaves less than a fifth of the tissue; and as by `register`.
    """
    section, tissue = (tissue_of(moving, moving_mask, "moving"), tissue_of(fixed, fixed_mask, "fixed"))
    for region, there, what in ((moving_exclude, section, "section"), (fixed_exclude, tissue, "fixed image")):
        if region is not None and not (_there(region, there) > 0.5).any():
            hint = "draw it on this image, and check its pixel size"
            raise InputError(f"no part of the excluded region lies on the {what}", hint=hint)
    own, other = cut(section, moving_exclude, "section"), cut(tissue, fixed_exclude, "fixed image")
    # Cut out on one side alone, a large region would look like missing tissue, and mislead the search.
    beside = None if fixed_exclude is None else Image(_there(fixed_exclude, fixed), fixed.affine)
    first = register(moving, fixed, moving_mask=own, fixed_mask=tissue, ignored=beside, **options)
    carried = _on_the_other(first, moving_exclude, tissue), _on_the_other(first.inverse(), fixed_exclude, section)
    own, other = cut(own, carried[1], "section"), cut(other, carried[0], "fixed image")
    ignored = Image(np.maximum(*(_there(region, fixed) for region in (fixed_exclude, carried[0]))), fixed.affine)
    found = register(moving, fixed, moving_mask=own, fixed_mask=other, ignored=ignored, **options)
    lost = [_area_mm2(before) - _area_mm2(after) for before, after in ((section, own), (tissue, other))]
    return replace(found, qc={**found.qc, "excluded_mm2": lost})


def cut(tissue: Image, region: Image | None, what: str) -> Image:
    """Return tissue without a region; an InputError is raised if hardly any is left."""
    if region is None:
        return tissue
    left = np.where(_there(region, tissue) > 0.5, 0.0, tissue.data)
    if (left > 0.5).sum() < _LEAST_LEFT * (tissue.data > 0.5).sum():
        problem = f"the excluded regions leave less than {_LEAST_LEFT:.0%} of the tissue of the {what}"
        raise InputError(problem, hint=_HINT)
    return Image(left, tissue.affine)


def _there(region: Image | None, like: Image) -> FloatArray:
    """Return the part of each place of an image that is in a region."""
    if region is None:
        return np.zeros(like.data.shape)
    plain = Image((np.nan_to_num(region.data) > 0).astype(float), region.affine)
    return np.asarray(np.nan_to_num(np.asarray(Transform.identity().resample(plain, like).data, dtype=float)))


def _on_the_other(transform: Transform, region: Image | None, like: Image) -> Image | None:
    """Return a region as it lies on the other image."""
    if region is None:
        return None
    plain = Image((np.nan_to_num(region.data) > 0).astype(float), region.affine)
    there = np.nan_to_num(np.asarray(transform.resample(plain, like).data, dtype=float))
    return Image((there > 0.5).astype(float), like.affine)


def _area_mm2(tissue: Image) -> float:
    return float((tissue.data > 0.5).sum() * np.linalg.norm(np.cross(*tissue.affine[:3, :2].T)))
