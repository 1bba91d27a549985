"""One tile or strip of a TIFF file, decoded by tifffile and, for JPEG, LZW and the like, imagecodecs."""

from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.errors import InputError
from histomri.slides.slide import RGB

# A tile is decoded whole, so its size bounds the memory from below.
_LARGEST_SEGMENT = 64_000_000


def segment_shape(page: Any) -> tuple[int, int]:
    """Return (height, width) of the tiles or strips of a page."""
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return min(int(page.rowsperstrip or page.imagelength), int(page.imagelength)), int(page.imagewidth)


def read_segment(page: Any, index: int, rows: int, path: Path) -> RGB:
    """Read tile or strip `index` of a page as (rows, width, samples).

    Parameters
    ----------
    page : tifffile.TiffPage
    index : int
        Number of the tile or strip.
    rows : int
        Its height; the last strip of a page is lower than the others.
    path : Path
        The file, for messages.

    Raises
    ------
    InputError
        If it is damaged, too large, or needs a decoder that is missing.
    """
    height, width = rows, segment_shape(page)[1]
    samples = 1 if page.planarconfig == 2 else int(page.samplesperpixel)
    if height * width > _LARGEST_SEGMENT:
        raise InputError(
            f"is stored in pieces of {height * width / 1e6:,.0f} million pixels, which have to be read whole",
            path=path,
            hint="save it as a tiled pyramid, for example from QuPath as OME-TIFF",
        )
    count = page.databytecounts[index]
    if count == 0:  # a tile that was never scanned
        return np.full((height, width, samples), 255, np.uint8)
    page.parent.filehandle.seek(page.dataoffsets[index])
    data = page.parent.filehandle.read(count)
    if len(data) < count:
        raise InputError("the slide is cut short", path=path, hint="copy it again")
    picture = _decoded(page, data, index, path)
    if picture.shape[0] < height or picture.shape[1:] != (width, samples):
        raise InputError(f"piece {index} of the slide is damaged", path=path, hint="copy it again")
    return picture[:height]


def _decoded(page: Any, data: bytes, index: int, path: Path) -> RGB:
    try:
        picture = np.asarray(page.decode(data, index, jpegtables=page.jpegtables)[0])
    except (ValueError, OSError, RuntimeError, IndexError, ArithmeticError) as error:
        if "imagecodecs" in str(error) and "requires" in str(error):
            name = getattr(page.compression, "name", page.compression)
            raise InputError(
                f"is compressed as {name}, which needs the package imagecodecs",
                path=path,
                hint="install it (pip install imagecodecs), or save the slide from QuPath as OME-TIFF, JPEG",
            ) from error
        raise InputError(f"the slide is damaged ({error})", path=path, hint="copy it again") from error
    return picture.reshape(picture.shape[-3:])
