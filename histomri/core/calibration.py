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

# Two statements of one scanner differ by rounding only: 0.25 and 0.2522 are two resolutions.
_TOLERANCE = 0.01
_LARGEST_UM = 1000.0
_ENDINGS = re.compile(r"(?:\.ome)?\.[^.]+$", re.IGNORECASE)
_TO_UM = {"µm": 1.0, "um": 1.0, "μm": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0}


def check_pixel_size(mpp: Any, option: str = "--mpp") -> PixelSize | None:
    """Return a pixel size as (x, y) µm; one number stands for both.

    Raises
    ------
    UnitError
        If it is not one or two positive numbers below 1000.

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
    if len(pair) != 2 or not all(math.isfinite(value) and 0 < value < _LARGEST_UM for value in pair):
        problem = f"a pixel size of {mpp} µm is not possible"
        raise UnitError(problem, hint=f"pass {option} X or {option} X,Y in µm per pixel, such as 0.25")
    return pair[0], pair[1]


def settle_pixel_size(
    sources: Sequence[tuple[str, PixelSize | None]], path: str | Path, *, overrule: bool = False
) -> tuple[PixelSize | None, str]:
    """Return the pixel size that the first of several sources states, and the name of that source.

    Parameters
    ----------
    sources : sequence of (name, (x, y) or None)
        The most trusted first; None means that the source states none.
    path : path-like
        The slide, for the message.
    overrule : bool
        Take the first source that states one, whatever the others say.

    Raises
    ------
    UnitError
        If two sources disagree by more than 1 %; the message lists them all.
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
    """The content of the JSON file that the QuPath export script writes (``<image>.histomri.json``).

    Attributes
    ----------
    path : Path
        The JSON file.
    pixel_size_um : (x, y) or None
    size_px : (width, height) or None
        Of the image as QuPath shows it.
    stains : str or None
        QuPath's stain vectors, the text of its own setting.
    image_type : str or None
        QuPath's image type, such as BRIGHTFIELD_H_DAB.
    image : str or None
        Name of the image.
    n_cells : int or None
        Number of exported cells.
    complete : bool
        Whether the export of cells was finished.
    """

    path: Path
    pixel_size_um: PixelSize | None = None
    size_px: tuple[int, int] | None = None
    stains: str | None = None
    image_type: str | None = None
    image: str | None = None
    n_cells: int | None = None
    complete: bool = False


def read_slide_record(path: str | Path) -> SlideRecord:
    """Read ``<image>.histomri.json``.

    Raises
    ------
    InputError
        If it is no such file, or holds sizes that are no positive numbers.
    """
    path = Path(path)
    content = read_json(path, "sidecar")
    if not isinstance(content, dict) or not str(content.get("schema", "")).startswith("histomri.qupath/"):
        raise InputError("is not a sidecar of the histomri export script", path=path, hint="export again or remove it")
    size = _required_pair(content, "pixel_width_um", "pixel_height_um", path)
    extent = _required_pair(content, "width_px", "height_px", path)
    stains, kind, name = (str(content.get(key) or "") or None for key in ("stains", "image_type", "image_name"))
    count = content.get("n_cells")
    return SlideRecord(
        path,
        size,
        (int(extent[0]), int(extent[1])) if extent else None,
        stains,
        kind,
        name,
        count if isinstance(count, int) else None,
        content.get("complete") is True,
    )


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
    return pair if all(map(math.isfinite, pair)) and min(pair) > 0 else None


def ome_pixel_size(xml: str | None) -> PixelSize | None:
    """Return the pixel size of the first image in OME-XML; None if it is in pixels or no known unit."""
    if not xml or "<!ENTITY" in xml:  # no OME writer makes these, and they can be made to fill the memory
        return None
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    pixels = next((node for node in root.iter() if node.tag.endswith("}Pixels")), None)
    if pixels is None:
        return None
    pair = positive_pair(pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeY"))
    scales = [_TO_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XY"]
    if pair is None or scales[0] is None or scales[1] is None:
        return None
    size = pair[0] * scales[0], pair[1] * scales[1]
    return size if max(size) < _LARGEST_UM else None


def _required_pair(content: dict[str, Any], first: str, second: str, path: Path) -> PixelSize | None:
    values = content.get(first), content.get(second)
    if values == (None, None):
        return None
    are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if not are_numbers or (pair := positive_pair(*values)) is None:
        raise InputError(f"{first} and {second} must be positive numbers", path=path, hint="export again")
    return pair
