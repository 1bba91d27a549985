"""Stage: a slide drawn where its MRI is, tile by tile."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.files import atomic_path, provenance, write_json
from histomri.core.images import Image
from histomri.core.orientation import handedness_warnings, slide_warnings
from histomri.registration import Transform, slice_found, slide_image, warp_tiles
from histomri.slides import Slide, open_slide
from histomri.study.result import StepResult
from histomri.study.stages.apply_guards import slide_sidecar
from histomri.study.stages.register_inputs import Mpp, is_slide, load_first_volume

_TILE = 256
_LITTLE = 0.01
_SAME_SIZE = 0.02
_MOST_PIXELS = 4_000_000_000


def apply_to_slide(
    transform: Transform,
    xfms: Sequence[Path],
    slide: Path,
    out: Path,
    like: Path | None,
    *,
    um_per_px: float,
    mpp: Mpp = None,
    like_mpp: Mpp = None,
    slice: int | None = None,
    order: int = 1,
) -> StepResult:
    """Draw a slide over an MRI slice or another slide, as a tiled OME-TIFF with a JSON file that says where it is.

    Parameters
    ----------
    transform : Transform
        From the world of the slide to that of the MRI.
    xfms : sequence of Path
        Its files.
    slide, out, like : Path
        The slide, the TIFF to write, and the MRI or the slide whose field of view it gets.
    um_per_px : float
        Pixel size of the result in µm of the world it is drawn in.
    mpp, like_mpp : float or (x, y), optional
        Pixel sizes of the slides in µm, if they do not tell it.
    slice : int, optional
        Slice of the MRI; the one that was registered if not given.
    order : {0, 1}
        Nearest pixel or linear interpolation.

    Raises
    ------
    InputError
        If something is missing, or the result would have more than 4 thousand million pixels.
    """
    if like is None:
        raise InputError("a slide needs an MRI or a slide to be drawn on", path=slide, hint="pass --like IMAGE")
    if not (np.isfinite(um_per_px) and um_per_px > 0):
        raise InputError(f"a pixel size of {um_per_px} µm is not possible", hint="pass --um-per-px above 0")
    if is_slide(like):
        with open_slide(like, mpp=like_mpp) as below:
            affine, shape = _grid_of_slide(below.field_um, um_per_px)
    else:
        affine, shape = _grid(_flat(load_first_volume(like), like, transform, slice), um_per_px)
    if shape[0] * shape[1] > _MOST_PIXELS:
        raise InputError(f"the result would have {shape[0]} x {shape[1]} pixels", hint="pass a larger --um-per-px")
    doubts = (*slide_warnings(transform.info), *handedness_warnings([like]))
    with open_slide(slide, mpp=mpp) as opened:
        doubts += _other_slide(transform, opened)
        # A section that has shrunk must be read finer than it is drawn.
        picture = opened.at(um_per_px / float(np.linalg.svd(transform.matrix[:3, :3], compute_uv=False)[0]))
        drawn = _write(out, _tiles(transform, picture, affine, shape, order), shape, um_per_px)
    note = {"Units": "mm", "CoordinateSystem": "fixed world, RAS+", "AffineRowColumnToWorld": affine}
    told = provenance([slide, like, *xfms], {"UmPerPx": um_per_px, "Order": order})
    sidecar = write_json(slide_sidecar(out), {**note, **told})
    message = f"{shape[1]} x {shape[0]} pixels of {um_per_px:g} µm, {100 * drawn:.2g} % not white"
    return StepResult((out, sidecar), (message,), (*doubts, *_warnings(drawn, like)), {"drawn": drawn})


def _other_slide(transform: Transform, slide: Slide) -> tuple[str, ...]:
    """Warn of a slide that is not as large as the one that was registered."""
    record = transform.info.get("Moving")
    if not isinstance(record, dict) or not {"Size_px", "PixelSize_um"} <= set(record):
        return ()
    field = np.multiply(record["Size_px"], record["PixelSize_um"])
    if np.allclose(slide.field_um, field, rtol=_SAME_SIZE):
        return ()
    return (
        f"{slide.path.name} is of {slide.field_um[0]:.0f} x {slide.field_um[1]:.0f} µm, and the "
        f"registered {record.get('Slide')} of {field[0]:.0f} x {field[1]:.0f} µm: is it another slide, or another "
        "picture of it?",
    )


def _warnings(drawn: float, like: Path) -> tuple[str, ...]:
    if not drawn:
        return (f"nothing of the slide lies in the field of view of {like.name}",)
    if drawn < _LITTLE:
        return (
            f"only {100 * drawn:.2g} % of the picture is not white: check that {like.name} is, or is in the world of, "
            "the image that was registered, and that the slide is the section's",
        )
    return ()


def _flat(like: Image, path: Path, transform: Transform, k: int | None) -> Image:
    if like.data.ndim == 2:
        return like
    if k is None:
        k = slice_found(transform.info)
    if k is None:
        raise InputError("has several slices, and the transform does not tell which", path=path, hint="pass --slice")
    if not 0 <= k < like.data.shape[2]:
        raise GeometryError(f"there is no slice {k}", path=path)
    return like.slice(k)


def _grid(like: Image, um_per_px: float) -> tuple[FloatArray, tuple[int, int]]:
    """Return affine and shape of a picture that covers a slice, the way up in which radiologists look at it."""
    from histomri.report.pictures import View

    view, step = View.of(like), um_per_px / 1000
    order = (1, 0) if view.transpose else (0, 1)
    size = np.array([like.data.shape[axis] for axis in order])
    voxel = np.array([like.voxel_mm[axis] for axis in order])
    edges = np.stack([like.affine[:3, axis] for axis in order])
    corner = like.affine[:3, 3] - edges.sum(axis=0) / 2
    for n, flipped in enumerate((view.flip_rows, view.flip_columns)):
        if flipped:
            corner = corner + size[n] * edges[n]
            edges[n] *= -1
    shape = np.maximum(np.rint(size * voxel / step), 1).astype(int)
    affine = np.eye(4)
    affine[:3, :2] = (edges / voxel[:, None] * step).T
    affine[:3, 2] = like.affine[:3, 2]
    affine[:3, 3] = corner + affine[:3, :2].sum(axis=1) / 2
    return affine, (int(shape[0]), int(shape[1]))


def _grid_of_slide(field_um: tuple[float, float], um_per_px: float) -> tuple[FloatArray, tuple[int, int]]:
    """Return affine and shape of a picture that covers a slide, from its top left corner."""
    shape = max(round(field_um[1] / um_per_px), 1), max(round(field_um[0] / um_per_px), 1)
    return slide_image(np.zeros((1, 1)), um_per_px).affine, shape


def _tiles(
    transform: Transform, picture: Any, affine: FloatArray, shape: tuple[int, int], order: int
) -> Iterator[NDArray[np.uint8]]:
    for _, _, piece in warp_tiles(transform, picture, affine, shape, size=_TILE, order=order):
        tile = np.full((_TILE, _TILE, 3), 255, np.uint8)
        tile[: piece.shape[0], : piece.shape[1]] = piece
        yield tile


def _write(path: Path, tiles: Iterator[NDArray[np.uint8]], shape: tuple[int, int], um_per_px: float) -> float:
    """Write tiles as they come, and return the share of pixels that are not white."""
    import tifffile

    coloured = 0

    def counted() -> Iterator[NDArray[np.uint8]]:
        nonlocal coloured
        for tile in tiles:
            coloured += int((tile < 255).any(axis=2).sum())
            yield tile

    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            counted(),
            shape=(*shape, 3),
            dtype=np.uint8,
            tile=(_TILE, _TILE),
            photometric="rgb",
            compression="zlib",
            bigtiff=shape[0] * shape[1] > 1_000_000_000,
            ome=True,
            resolution=(1e4 / um_per_px, 1e4 / um_per_px),
            resolutionunit="CENTIMETER",
            metadata={
                "axes": "YXS",
                "PhysicalSizeX": um_per_px,
                "PhysicalSizeY": um_per_px,
                "PhysicalSizeXUnit": "µm",
                "PhysicalSizeYUnit": "µm",
            },
        )
    return coloured / (shape[0] * shape[1])
