"""Facts about one file that contradict each other: measured areas and outlines, positions and sizes."""

from pathlib import Path
from typing import Literal

import numpy as np

from histomri.cells.parsed_export import ParsedExport, ScaleFact
from histomri.cells.sidecar import Calibration
from histomri.core.errors import InputError, UnitError

Areas = Literal["measured", "outlines"] | None
_WRONG, _ODD = 1.10, 1.04  # QuPath simplifies outlines after it measured them: 1 % on average, 3 % at most
_ENOUGH = 20  # cells from which a pixel size can be told for sure
_SCATTERED = 0.3  # of log(area): beyond this the measured areas are of something else, not in another unit


def check_scales(export: ParsedExport, calibration: Calibration, areas: Areas) -> tuple[str, ...]:
    """Compare measured areas with those of the outlines under the pixel size; return warnings.

    Raises
    ------
    UnitError
        If they differ by a factor, as with a wrong pixel size, and the user has not said which to take.
    """
    size = calibration.pixel_size_um
    pixel_um2 = None if size is None else size[0] * size[1]
    notes = [text for fact in export.scales if fact.other and (text := _two_areas(fact, pixel_um2)) is not None]
    if pixel_um2 is None:
        return tuple(notes)
    for fact in export.scales:
        if fact.other:
            continue
        factor = _factor(fact, pixel_um2)
        if max(factor, 1 / factor) < _ODD:
            continue
        text = _disagreement(fact, factor)
        if fact.spread > _SCATTERED:
            notes.append(f"{text}, but not by one factor: is the measurement of another outline?")
        elif fact.n >= _ENOUGH and max(factor, 1 / factor) > _WRONG and areas is None:
            raise _wrong_size(export.path, calibration, fact, text)
        else:
            notes.append(text)
    return tuple(notes)


def _two_areas(fact: ScaleFact, pixel_um2: float | None) -> str | None:
    """Return a warning if two measured areas of the same objects are not in one proportion that their units allow."""
    if fact.unit == fact.other_unit:
        expected = [1.0]
    elif fact.unit == "um2":
        in_px = [] if pixel_um2 is None else [pixel_um2]
        expected = in_px if fact.other_unit == "px2" else [1.0, *in_px]
    else:
        expected = [1.0]
    factors = [fact.ratio / one for one in expected]
    if not factors or min(max(factor, 1 / factor) for factor in factors) < _WRONG:
        return None
    factor = min(factors, key=lambda one: abs(np.log(one)))
    text = f"{fact.raw!r} is {factor:.3g} times {fact.other!r} (median of {fact.n:,})"
    return f"{text}: one was measured at another pixel size; was the slide calibrated anew? {fact.raw!r} was used"


def _factor(fact: ScaleFact, pixel_um2: float) -> float:
    """Return measured area / area of the outline, in the unit that the name states, or the likelier one of two."""
    in_px, in_um = fact.ratio, fact.ratio / pixel_um2
    if fact.unit in ("um2", "um"):
        return in_um
    if fact.unit in ("px2", "px"):
        return in_px
    return in_um if abs(np.log(in_um)) <= abs(np.log(in_px)) else in_px


def _disagreement(fact: ScaleFact, factor: float) -> str:
    return f"the measured areas ({fact.raw!r}) are {factor:.3g} times those of the outlines (median of {fact.n:,})"


def _wrong_size(path: Path, calibration: Calibration, fact: ScaleFact, text: str) -> InputError:
    x_um, y_um = calibration.pixel_size_um or (np.nan, np.nan)
    implied = np.sqrt(fact.ratio * x_um / y_um)
    size = f"{x_um:.4g}" if abs(x_um / y_um - 1) < 1e-3 else f"{x_um:.4g} x {y_um:.4g}"
    problem = f"{text} at a pixel size of {size} µm ({calibration.source}): they fit a pixel size of {implied:.4g} µm"
    hint = (
        f"pass --mpp {implied:.4g} if the pixel size is wrong; if the slide was calibrated anew after the measurement, "
        "pass --areas outlines (or --areas measured to take the measured ones)"
    )
    return UnitError(problem, path=path, hint=hint)
