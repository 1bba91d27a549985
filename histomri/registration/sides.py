"""The two images of a registration, each with its tissue: a map, an MRI, or the picture of a slide in its world."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import GeometryError, InputError, UnitError
from histomri.core.images import Image
from histomri.registration.files import load_first_volume
from histomri.registration.options import RegisterOptions, is_geojson, is_slide
from histomri.registration.outlines import tissue_mask
from histomri.registration.quality import Registration
from histomri.registration.transform import Transform

_WHITEST, _CLEAR_PEAK, _LEAST_SHARED = 99.5, 0.05, 200
_ASIDE = (0.1, 0.2)  # how far aside the densities are compared as well, of the size of the tissue
_ACROSS_PX = 64  # pixels across the tissue of the density that is drawn and compared
_CUT = 0.1  # fraction of the edge of a picture that is tissue, from which the picture cuts the section
_BLUR = 1 / 45  # scale of what is dense, of the longest side of the smaller picture
_MOST_POINTS, _LEAST_WITHIN, _LEAST_FRACTION, _MANY, _FINER = 5000, 0.5, 0.001, 20, 4
_OVERVIEW_PX = 1600
"""Longest side of the picture in which tissue is sought: an outline is needed to a hundredth of a section."""
_HINT = "give its outline as a mask, GeoJSON of QuPath"
Mpp = tuple[float, float] | None


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
    rows, columns = (length // shrink for length in mask.shape)
    cut, blocks = (slice(0, rows * shrink), slice(0, columns * shrink)), (rows, shrink, columns, shrink)
    fraction = mask[cut].reshape(blocks).mean(axis=(1, 3))
    total = np.where(mask, _density(rgb), 0.0)[cut].reshape(blocks).mean(axis=(1, 3))
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
    beside = (_correlation(Transform.shift(shift).compose(found), moving, fixed) for shift in asides)
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
    """An image, its tissue if known, and its picture if it is a slide: then the image is its density within tissue."""

    path: Path
    image: Image
    mask: Image | None = None
    overview: Overview | None = None
    excluded: Image | None = None  # regions that are left out, on a grid of their own

    @classmethod
    def of_file(cls, path: Path, mask: Path | None = None) -> "Side":
        """Read a NIfTI image and its mask."""
        image = load_first_volume(path)
        return cls(path, image, None if mask is None else _mask_of(image, mask, path))

    @classmethod
    def of_slide(cls, view: Overview, inside: BoolArray) -> "Side":
        """Return the density of a slide where it is `inside` the tissue, (h, w)."""
        if not inside.any():
            raise InputError("shows no tissue", path=view.path, hint=_HINT)
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


@dataclass(frozen=True)
class SlideReader:
    """What reads slides, given by the caller: this room knows transforms, not the formats of slides and annotations.

    `open` is `histomri.slides.open_slide`, `tissue` is `histomri.slides.tissue_mask`, and `regions` takes a file of
    annotations and the pixel size to a `histomri.slides.Raster` of them.
    """

    open: Callable[..., Any]
    tissue: Callable[..., BoolArray]
    regions: Callable[[Path, tuple[float, float]], Any]


def read_sides(options: RegisterOptions, slides: SlideReader) -> tuple[Side, Side, tuple[str, ...]]:
    """Read both images and their masks; also return what a person should know about the tissue that was found.

    Where neither `fixed_mpp` nor the fixed slide gives a pixel size, it is `mpp`.
    """
    paths, masks = (options.moving, options.fixed), (options.moving_mask, options.fixed_mask)
    sizes = ((options.mpp, None, "--mpp"), (options.fixed_mpp, options.mpp, "--fixed-mpp"))
    views = [_overview(path, *size, slides) if is_slide(path) else None for path, size in zip(paths, sizes)]
    inside = [None if view is None else _inside(view, mask, slides) for view, mask in zip(views, masks, strict=True)]
    note = ""
    known = [each for each in views if each is not None], [each for each in inside if each is not None]
    if masks == (None, None) and len(known[0]) == 2:
        inside[:], note = comparable_tissue(*known)
    moving, fixed = (
        Side.of_file(path, mask) if view is None or tissue is None else Side.of_slide(view, tissue)
        for path, view, tissue, mask in zip(paths, views, inside, masks, strict=True)
    )
    regions = (options.exclude, options.mpp), (options.fixed_exclude, options.fixed_mpp or options.mpp)
    moving, fixed = (
        side if path is None else replace(side, excluded=_excluded(side, path, mpp, slides))
        for side, (path, mpp) in zip((moving, fixed), regions, strict=True)
    )
    return moving, fixed, (note,) if note else ()


def _excluded(side: Side, path: Path, mpp: Mpp, slides: SlideReader) -> Image:
    """Read regions of an image that are left out: annotations of its slide, or a NIfTI mask."""
    if not is_geojson(path):
        return load_first_volume(path)
    size = mpp if side.overview is None else side.overview.pixel_size_um
    if size is None:
        raise UnitError("the regions are in pixels of the slide", path=path, hint="pass --mpp, in µm per pixel")
    if side.overview is not None:
        (width, height), um = side.overview.size_px, side.overview.um_per_px
    else:  # a map of the slide, whose x and y run against those of its world
        ends = [(i, j, 0.0, 1.0) for i in (0, side.image.data.shape[0]) for j in (0, side.image.data.shape[1])]
        far = np.abs(np.array(ends) @ side.image.affine.T)[:, :2].max(axis=0) * 1000
        um = (1000 * float(side.image.voxel_mm[:2].min()) / _FINER,) * 2
        width, height = (int(np.ceil(length / each)) + 1 for length, each in zip(far, um, strict=True))
    x, y = ((np.arange(n) + 0.5) * each for n, each in zip((width, height), um, strict=True))
    found = slides.regions(path, size).inside(x, y)
    if not found.any():
        problem = f"no part of it lies on {side.path.name}"
        raise InputError(problem, path=path, hint="give regions of this slide, and its pixel size")
    return slide_image(found, um)


def _overview(path: Path, mpp: Mpp, spare: Mpp, option: str, slides: SlideReader) -> Overview:
    """Read the picture of a slide; `spare` is its pixel size if neither `mpp` nor the slide gives one."""
    with slides.open(path, mpp=mpp) as slide:
        known = slide.pixel_size_um
    with slides.open(path, mpp=spare if known is None else mpp) as slide:
        if slide.pixel_size_um is None:
            raise UnitError("the slide states no pixel size", path=path, hint=f"pass {option}, in µm per pixel")
        view = slide.at(max(slide.field_um) / _OVERVIEW_PX)
        return Overview(path, view.read(0, 0, *view.size_px), view.um_per_px, slide.pixel_size_um, slide.size_px)


def _inside(view: Overview, mask: Path | None, slides: SlideReader) -> BoolArray:
    """Return which pixels of a picture are tissue, (h, w): found in it, or within annotations or a NIfTI mask."""
    if mask is None:
        try:
            return whole_section(slides.tissue(view.rgb, min_size=_LEAST_FRACTION))
        except InputError as error:
            raise InputError(error.problem, path=view.path, hint=_HINT) from error
    if mask.name.lower().endswith((".geojson", ".json")):
        x, y = ((np.arange(n) + 0.5) * um for n, um in zip(view.size_px, view.um_per_px, strict=True))
        found = slides.regions(mask, view.pixel_size_um).inside(x, y)
    else:
        grid = slide_image(np.zeros(view.rgb.shape[:2]), view.um_per_px)
        found = Transform.identity().resample(load_first_volume(mask), grid, order=0).data > 0
    if not found.any():
        raise InputError(f"no part of it lies on {view.path.name}", path=mask, hint="give a mask of this slide")
    return np.asarray(found)


def comparable_tissue(views: Sequence[Overview], inside: Sequence[BoolArray]) -> tuple[list[BoolArray], str]:
    """Return tissue of two slides whose outlines can be matched, and a note if that is not all of their tissue.

    Tissue that fills the picture has no outline of its own; a dense region in it, such as a tumour, has one.
    """
    edges = (np.concatenate([tissue[0], tissue[-1], tissue[:, 0], tissue[:, -1]]) for tissue in inside)
    if not any(edge.mean() > _CUT for edge in edges):
        return list(inside), ""
    blur_um = _BLUR * min(max(np.multiply(view.size_px, view.um_per_px)) for view in views)
    dense = [whole_section(dense_mask(view.rgb, blur_px=blur_um / view.um_per_px[0])) for view in views]
    instead = "--moving-mask and --fixed-mask take annotations of QuPath (GeoJSON) in their place"
    return dense, f"tissue runs over the edge of a picture, so the outlines of its dense parts were matched; {instead}"


def _mask_of(image: Image, mask: Path, path: Path) -> Image:
    """Read the mask of an image; its grid may be another one, its place may not."""
    read = load_first_volume(mask)
    if not len(inside := np.argwhere(np.nan_to_num(read.data) > 0)):
        raise InputError("is empty as a mask: no voxel is above 0", path=mask)
    inside = inside[:: len(inside) // _MOST_POINTS + 1]
    world = inside @ read.affine[:3, : inside.shape[1]].T + read.affine[:3, 3]
    slack = np.array([1.0, 1.0, 1.0 + read.voxel_mm[-1] / image.voxel_mm[2]])
    if (fraction := _fraction_within(image, world, slack)) < _LEAST_WITHIN:
        problem = f"only {fraction:.0%} of the mask lies within {path.name}"
        hint = "give a mask that was drawn on this image"
        wrong = {1000.0: (path.name, mask.name), 0.001: (mask.name, path.name)}
        # Along its normal a slice is as thick as its header says, whatever the unit of its pixels.
        loose = np.array([1.0, 1.0, 1000.0]) * slack
        for factor, (in_um, in_mm) in wrong.items():
            if _fraction_within(image, world * factor, loose) >= _LEAST_WITHIN:
                hint = f"{in_um} is probably in µm and {in_mm} in mm: set the pixel size of {in_um} in mm"
        raise GeometryError(problem, path=mask, hint=hint)
    return read


def _fraction_within(image: Image, world: FloatArray, slack: FloatArray) -> float:
    """Return which fraction of points, (N, 3) mm, lies in an image, or at most `slack` voxels beside it.

    Many that lie in a single voxel are no mask of it: none of them counts.
    """
    index = (world - image.affine[:3, 3]) @ np.linalg.inv(image.affine[:3, :3]).T
    if len(index) > _MANY and np.ptp(index, axis=0)[:2].max() < 1:
        return 0.0
    last = np.array([*image.data.shape, 1][:3]) - 1
    return float(np.all((index > -slack) & (index < last + slack), axis=1).mean())
