"""The pixel size of a slide: one check of what is given, one rule where several sources state it, for every room."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from histomri.core.errors import InputError, UnitError
from histomri.core.files import read_json

PixelSize = tuple[float, float]
"""(x, y) in µm; the two are never averaged."""

_TOLERANCE = 0.01  # statements of one scanner differ by rounding only: 0.25 and 0.2522 are two resolutions
_LARGEST_UM = 1000.0
_ENDINGS = re.compile(r"(?:\.ome)?\.[^.]+$", re.IGNORECASE)
_TO_UM = {"µm": 1.0, "um": 1.0, "μm": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0}


def check_pixel_size(mpp: Any, option: str = "--mpp") -> PixelSize | None:
    """Return a pixel size as (x, y) µm, below 1000 µm; one number stands for both.

    Examples
    --------
    >>> check_pixel_size(0.25)
    (0.25, 0.25)
    """
    if mpp is None:
        return None
    try:
        pair = (float(mpp), float(mpp)) if isinstance(mpp, int | float) else tuple(float(value) for value in mpp)
    except (TypeError, ValueError):
        pair = ()
    if len(pair) != 2 or not all(0 < value < _LARGEST_UM for value in pair):
        problem = f"a pixel size of {mpp} µm is not possible"
        raise UnitError(problem, hint=f"pass {option} X or {option} X,Y in µm per pixel, such as 0.25")
    return pair[0], pair[1]


def settle_pixel_size(
    sources: Sequence[tuple[str, PixelSize | None]], path: str | Path, *, overrule: bool = False
) -> tuple[PixelSize | None, str]:
    """Return the pixel size that the first of several sources states, and the name of that source.

    The most trusted is the first; they must agree within 1 %, unless the first is to `overrule` the others. `path` is
    the slide, for the message.
    """
    known = [(name, pair) for name, pair in sources if pair is not None]
    if not known:
        return None, ""
    name, chosen = known[0]
    if not overrule and any(abs(a / b - 1) > _TOLERANCE for _, pair in known for a, b in zip(pair, chosen)):
        listing = ", ".join(f"{pair[0]:.5g} x {pair[1]:.5g} by {source}" for source, pair in known)
        problem = f"the pixel size is not settled: its sources disagree; in µm it is {listing}"
        hint = "correct the wrong one, or leave out --mpp; `histomri ki67` of a slide can overrule (--trust-mpp)"
        raise UnitError(problem, path=path, hint=hint)
    return chosen, name


@dataclass(frozen=True)
class SlideRecord:
    """The content of the JSON file that the QuPath export script writes (``<image>.histomri.json``)."""

    path: Path  # the JSON file
    pixel_size_um: PixelSize | None  # (x, y)
    size_px: tuple[int, int] | None  # (width, height) of the image as QuPath shows it
    stains: str | None  # QuPath's stain vectors, the text of its own setting
    image_type: str | None  # QuPath's image type, such as BRIGHTFIELD_H_DAB
    image: str | None  # name of the image
    n_cells: int | None  # number of exported cells
    complete: bool  # whether the export of cells was finished


def read_slide_record(path: str | Path) -> SlideRecord:
    """Read ``<image>.histomri.json``."""
    path = Path(path)
    content = read_json(path, "sidecar")
    if not isinstance(content, dict) or not str(content.get("schema", "")).startswith("histomri.qupath/"):
        raise InputError("is not a sidecar of the histomri export script", path=path, hint="export again or remove it")
    size = _required_pair(content, "pixel_width_um", "pixel_height_um", path)
    extent = _required_pair(content, "width_px", "height_px", path)
    stains, kind, name = (str(content.get(key) or "") or None for key in ("stains", "image_type", "image_name"))
    size_px = (int(extent[0]), int(extent[1])) if extent else None
    count = content.get("n_cells") if isinstance(content.get("n_cells"), int) else None
    return SlideRecord(path, size, size_px, stains, kind, name, count, content.get("complete") is True)


def slide_record_path(slide: Path) -> Path | None:
    """Return the JSON file beside a slide, None if there is none: ``A.svs`` has ``A.histomri.json``."""
    names = dict.fromkeys((_ENDINGS.sub("", slide.name), slide.stem))
    beside = (slide.with_name(f"{name}.histomri.json") for name in names)
    return next((path for path in beside if path.exists()), None)


def positive_pair(x: Any, y: Any) -> PixelSize | None:
    """Return two positive finite numbers, None if they are not that."""
    try:
        pair = float(x), float(y)
    except (TypeError, ValueError):
        return None
    return pair if all(0 < value < math.inf for value in pair) else None


def ome_pixel_size(xml: str | None) -> PixelSize | None:
    """Return the pixel size of the first image in OME-XML; None if it is in pixels or no known unit."""
    if not xml or "<!ENTITY" in xml:  # no OME writer makes these, and they can be made to fill the memory
        return None
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    pixels = next((node.attrib for node in root.iter() if node.tag.endswith("}Pixels")), {})
    pair = positive_pair(pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeY"))
    scales = [_TO_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), math.nan) for axis in "XY"]
    size = (pair[0] * scales[0], pair[1] * scales[1]) if pair is not None else (math.nan, math.nan)
    return size if all(0 < value < _LARGEST_UM for value in size) else None


def _required_pair(content: dict[str, Any], first: str, second: str, path: Path) -> PixelSize | None:
    values = content.get(first), content.get(second)
    if values == (None, None):
        return None
    are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if not are_numbers or (pair := positive_pair(*values)) is None:
        raise InputError(f"{first} and {second} must be positive numbers", path=path, hint="export again")
    return pair
