"""The pixel size of a slide: several sources may tell it, and they have to agree."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histomri.core.errors import InputError, UnitError
from histomri.core.files import read_json

Pair = tuple[float, float]

# Two statements of one scanner differ by rounding only: 0.25 and 0.2522 are two resolutions.
_TOLERANCE = 0.01
_ENDINGS = re.compile(r"(?:\.ome)?\.[^.]+$", re.IGNORECASE)


@dataclass(frozen=True)
class SlideRecord:
    """What the JSON that the QuPath export script writes (``<image>.histomri.json``) tells of a slide.

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
    """

    path: Path
    pixel_size_um: Pair | None = None
    size_px: tuple[int, int] | None = None
    stains: str | None = None
    image_type: str | None = None


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
    size = _positive_pair(content, "pixel_width_um", "pixel_height_um", path)
    extent = _positive_pair(content, "width_px", "height_px", path)
    words = {key: str(content[key]) if content.get(key) else None for key in ("stains", "image_type")}
    return SlideRecord(path, size, (int(extent[0]), int(extent[1])) if extent else None, **words)


def record_of(slide: Path) -> SlideRecord | None:
    """Return what the JSON beside a slide tells, None if there is none: ``A.svs`` has ``A.histomri.json``."""
    names = dict.fromkeys((_ENDINGS.sub("", slide.name), slide.stem))
    beside = (slide.with_name(f"{name}.histomri.json") for name in names)
    found = next((path for path in beside if path.exists()), None)
    return None if found is None else read_slide_record(found)


def check_pixel_size(mpp: float | Sequence[float] | None) -> Pair | None:
    """Return a pixel size given by the user as (x, y) µm.

    Raises
    ------
    UnitError
        If it is not one or two positive numbers below 1000.
    """
    if mpp is None:
        return None
    pair = tuple(float(value) for value in mpp) if isinstance(mpp, tuple | list) else (float(mpp), float(mpp))  # type: ignore[arg-type]
    if len(pair) != 2 or not all(math.isfinite(value) and 0 < value < 1000 for value in pair):
        raise UnitError(
            f"a pixel size of {mpp} µm is not possible",
            hint="pass --mpp X or --mpp X,Y in µm per pixel, such as 0.25",
        )
    return pair[0], pair[1]


def settle_pixel_size(
    sources: Sequence[tuple[str, Pair | None]], path: str | Path, *, overrule: bool = False
) -> tuple[Pair | None, str]:
    """Choose the pixel size among what several sources say, the most trusted first.

    Parameters
    ----------
    sources : sequence of (name, (x, y) or None)
        In the order of trust; None means that the source does not tell.
    path : path-like
        The slide, for the message.
    overrule : bool
        The first source that tells is right, whatever the others say.

    Returns
    -------
    (x, y) or None
        Pixel size in µm.
    str
        The source it is from.

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
        raise UnitError(
            f"the pixel size is not settled; in µm it is {listing}",
            path=path,
            hint="correct the wrong one; only `histomri ki67` of a slide can overrule it (--mpp, --trust-mpp)",
        )
    return chosen, name


def _positive_pair(content: dict[str, Any], first: str, second: str, path: Path) -> Pair | None:
    values = [content.get(first), content.get(second)]
    if values == [None, None]:
        return None
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != 2 or not all(math.isfinite(value) and value > 0 for value in numbers):
        raise InputError(f"{first} and {second} must be positive numbers", path=path, hint="export again")
    return numbers[0], numbers[1]
