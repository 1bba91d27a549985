"""What a registration starts from: maps and MRI as NIfTI, or slides, each with its tissue."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histomri.cells import read_regions
from histomri.core.arrays import BoolArray
from histomri.core.errors import GeometryError, InputError, UnitError
from histomri.core.images import Image, open_nifti
from histomri.registration import Transform, dense_mask, density_image, slide_image
from histomri.slides import Raster, open_slide, tissue_mask
from histomri.slides.slide import RGB

_WHOLE = (".svs", ".ndpi", ".scn", ".mrxs", ".vms", ".vmu", ".bif", ".svslide", ".tif", ".tiff")
SLIDES = (*_WHOLE, ".png", ".jpg", ".jpeg")
Mpp = float | tuple[float, float] | None

_OVERVIEW_PX = 1600
"""Longest side of the picture in which tissue is sought: an outline is needed to a hundredth of a section."""
_ACROSS_PX = 64
"""Pixels across the tissue of the density that is drawn and compared."""
_CUT = 0.1
"""Share of the edge of a picture that is tissue, from which the picture cuts the section."""
_BLUR = 1 / 45
"""Scale of what is dense, of the longest side of the smaller picture."""
_LEAST_SHARE = 0.001
_MOST_POINTS, _LEAST_WITHIN = 5000, 0.5


@dataclass(frozen=True, eq=False)
class Overview:
    """A picture of a whole slide.

    Attributes
    ----------
    path : Path
        The slide.
    rgb : (h, w, 3) uint8 ndarray
    um_per_px : (x, y)
        Pixel size of the picture.
    pixel_size_um : (x, y)
        Pixel size of the slide, in which QuPath tells positions.
    slide_size_px : (width, height)
        Of the slide.
    """

    path: Path
    rgb: RGB
    um_per_px: tuple[float, float]
    pixel_size_um: tuple[float, float]
    slide_size_px: tuple[int, int]

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return self.rgb.shape[1], self.rgb.shape[0]

    def read(self, x: int, y: int, width: int, height: int) -> RGB:
        """Return a part of the picture."""
        return self.rgb[y : y + height, x : x + width]

    @property
    def name(self) -> str:
        """Name of the slide without its ending."""
        return self.path.name.split(".")[0]

    @property
    def record(self) -> dict[str, Any]:
        """What a transform keeps of the slide, so that pixels can be carried to it and from it."""
        return {"Slide": self.path.name, "PixelSize_um": list(self.pixel_size_um), "Size_px": list(self.slide_size_px)}


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two images: a map, an MRI, or the optical density of a slide within its tissue.

    Attributes
    ----------
    path : Path
    image : Image
    mask : Image or None
        Its tissue, if it is known.
    overview : Overview or None
        The picture, if it is a slide.
    """

    path: Path
    image: Image
    mask: Image | None
    overview: Overview | None = None


def is_slide(path: Path) -> bool:
    """Tell whether a file is a slide or a picture of one, by its ending."""
    return path.name.lower().endswith(SLIDES)


def read_sides(
    paths: tuple[Path, Path], masks: tuple[Path | None, Path | None], mpp: Mpp, fixed_mpp: Mpp
) -> tuple[Side, Side, tuple[str, ...]]:
    """Read both images and their masks.

    Parameters
    ----------
    paths : (Path, Path)
        Moving and fixed image: NIfTI, or slides.
    masks : (Path or None, Path or None)
        Their tissue: NIfTI, or annotations of QuPath (GeoJSON) for a slide.
    mpp, fixed_mpp : float or (x, y), optional
        Pixel sizes of the slides in µm. Where `fixed_mpp` is not given and the fixed slide tells none, it is `mpp`.

    Returns
    -------
    moving, fixed : Side
    notes : tuple of str
        What a person should know about the tissue that was found.

    Raises
    ------
    InputError
        If a file cannot be read, shows no tissue, or is neither NIfTI nor a slide.
    """
    views = (
        _overview(paths[0], mpp, None, "--mpp") if is_slide(paths[0]) else None,
        _overview(paths[1], fixed_mpp, mpp, "--fixed-mpp") if is_slide(paths[1]) else None,
    )
    inside = [None if view is None else _inside(view, mask) for view, mask in zip(views, masks, strict=True)]
    notes: tuple[str, ...] = ()
    if masks == (None, None) and None not in views and any(_is_cut(tissue) for tissue in inside if tissue is not None):
        # Tissue that fills the picture has no outline of its own; a dense region in it, such as a tumour, has one.
        seen = [view for view in views if view is not None]
        blur_um = _BLUR * min(max(np.multiply(view.size_px, view.um_per_px)) for view in seen)
        inside = [_large(dense_mask(view.rgb, blur_px=blur_um / view.um_per_px[0])) for view in seen]
        notes = (
            "tissue runs over the edge of a picture, so the outlines of its dense parts were matched; --moving-mask "
            "and --fixed-mask take annotations of QuPath (GeoJSON) in their place",
        )
    moving, fixed = (_side(*each) for each in zip(paths, views, inside, masks, strict=True))
    return moving, fixed, notes


def _side(path: Path, view: Overview | None, inside: BoolArray | None, mask: Path | None) -> Side:
    if view is None or inside is None:
        image = load_first_volume(path)
        return Side(path, image, None if mask is None else _mask_of(image, mask, path))
    if not inside.any():
        raise InputError("shows no tissue", path=path, hint="give its outline as a mask, GeoJSON of QuPath")
    shrink = max(int(np.sqrt(inside.sum()) / _ACROSS_PX), 1)
    return Side(
        path,
        density_image(view.rgb, view.um_per_px, inside, shrink=shrink),
        slide_image(inside, view.um_per_px),
        view,
    )


def _overview(path: Path, mpp: Mpp, spare: Mpp, option: str) -> Overview:
    """Read the picture of a slide; `spare` is its pixel size if neither `mpp` nor the slide tells one."""
    with open_slide(path, mpp=mpp) as slide:
        told = slide.pixel_size_um
    with open_slide(path, mpp=spare if told is None else mpp) as slide:
        if slide.pixel_size_um is None:
            raise UnitError("the slide states no pixel size", path=path, hint=f"pass {option}, in µm per pixel")
        view = slide.at(max(slide.field_um) / _OVERVIEW_PX)
        return Overview(path, view.read(0, 0, *view.size_px), view.um_per_px, slide.pixel_size_um, slide.size_px)


def _inside(view: Overview, mask: Path | None) -> BoolArray:
    """Return which pixels of a picture are tissue."""
    rows, columns = view.rgb.shape[:2]
    if mask is None:
        try:
            found = tissue_mask(view.rgb, min_size=_LEAST_SHARE)
        except InputError as error:
            raise InputError(
                error.problem, path=view.path, hint="give its outline as a mask, GeoJSON of QuPath"
            ) from error
        return _large(found)
    if mask.name.lower().endswith((".geojson", ".json")):
        x, y = ((np.arange(n) + 0.5) * um for n, um in zip((columns, rows), view.um_per_px, strict=True))
        found = Raster(read_regions(mask, view.pixel_size_um)).inside(x, y)
    else:
        grid = slide_image(np.zeros((rows, columns)), view.um_per_px)
        found = Transform.identity().resample(load_first_volume(mask), grid, order=0).data > 0
    if not found.any():
        raise InputError(f"no part of it lies on {view.path.name}", path=mask, hint="give a mask of this slide")
    return np.asarray(found)


def _large(tissue: BoolArray) -> BoolArray:
    """Leave out dust, pen marks and the like."""
    from histomri.registration.outlines import tissue_mask as large_pieces

    if not tissue.any() or tissue.all():
        return tissue
    return np.asarray(large_pieces(slide_image(np.where(tissue, 1.0, np.nan), 1.0)) > 0)


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
    share = float(np.all((index > -slack) & (index < last + slack), axis=1).mean())
    if share < _LEAST_WITHIN:
        raise GeometryError(
            f"only {share:.0%} of the mask lies within {path.name}",
            path=mask,
            hint="give a mask that was drawn on this image",
        )
    return read


def _is_cut(tissue: BoolArray) -> bool:
    edge = np.concatenate([tissue[0], tissue[-1], tissue[:, 0], tissue[:, -1]])
    return bool(edge.mean() > _CUT)


def load_first_volume(path: Path) -> Image:
    """Read an image; of a 4D series the first volume alone."""
    if path.is_file() and not path.name.lower().endswith((".nii", ".nii.gz", ".hdr", ".img", ".mgz", ".mgh")):
        raise InputError(
            "is neither a NIfTI image nor a slide, by its ending",
            path=path,
            hint="give .nii or .nii.gz, or a slide such as .svs, .ndpi, .ome.tif, .png",
        )
    image = open_nifti(path)
    if len(image.shape) != 4 or image.shape[3] == 1:
        return Image.load(path)
    try:
        volume = np.asarray(image.dataobj[..., 0], dtype=np.float32)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"the voxels cannot be read, the file is cut short or damaged ({error})", path=path) from error
    try:
        return Image(volume[..., 0] if volume.shape[2] == 1 else volume, np.asarray(image.affine, dtype=float))
    except GeometryError as error:
        raise GeometryError(error.problem, path=path, hint=error.hint) from error
