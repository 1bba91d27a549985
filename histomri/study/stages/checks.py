"""Checks on the way into and out of a fit: that its inputs hold something, and that something was fitted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from histomri.arrays import BoolArray, FloatArray
from histomri.errors import InputError, ProtocolError, UnitError
from histomri.fitting import FitResult
from histomri.mri import DwiFile


@contextmanager
def blame(protocol: str | Path) -> Iterator[None]:
    """Name the protocol in the errors about it that do not say where they were found."""
    try:
        yield
    except ProtocolError as error:
        if error.path is not None:
            raise
        raise ProtocolError(error.problem, path=protocol, way_out=error.way_out) from error


def read_signals(
    images: DwiFile, inside: BoolArray, mask: str | Path | None, progress: Callable[[float], None]
) -> FloatArray:
    """Read the voxels of a mask, (V, M).

    Raises
    ------
    InputError
        If no value is above 0.
    """
    signals = images.read(inside, progress)
    with np.errstate(invalid="ignore"):
        empty = not np.any(signals > 0)
    if empty:
        what = "every value is NaN" if np.all(np.isnan(signals)) else "no value is above 0"
        raise InputError(
            f"holds no signal{_inside(mask)}: {what}",
            path=images.path,
            way_out="check the images" + (", and that the mask lies on the tissue" if mask is not None else ""),
        )
    return signals


def read_positive(path: str | Path | None, name: str, images: DwiFile, inside: BoolArray) -> FloatArray | None:
    """Read a map of S0, T2 or sigma for the voxels of a mask, (V,).

    Raises
    ------
    InputError
        If no value inside the mask is finite and above 0.
    UnitError
        If it is T2 and can only be in seconds.
    """
    if path is None:
        return None
    values = np.asarray(images.read_map(path)[inside])
    good = values[np.isfinite(values) & (values > 0)]
    if good.size == 0:
        raise InputError(
            f"the map of {name} has no value above 0" + ("" if inside.all() else " inside the mask"),
            path=path,
            way_out=f"give a map of {name} of the same tissue, or leave it out",
        )
    if name == "T2" and good.max() < 1:
        raise UnitError(
            f"T2 is at most {good.max():.3g}, too short for ms",
            path=path,
            way_out="give T2 in ms (it looks like seconds)",
        )
    return values


def require_fitted(result: FitResult, title: str, images: DwiFile, mask: str | Path | None) -> None:
    """Refuse a result that holds nothing.

    Raises
    ------
    InputError
        If not one voxel was fitted.
    """
    counts = result.counts
    if counts["fitted"] + counts["at_bound"]:
        return
    raise InputError(
        f"{title} could not be fitted in a single voxel{_inside(mask)} ({counts['background']} background, "
        f"{counts['failed']} failed: signal not finite, no signal to normalise by, or no noise level above 0)",
        path=images.path,
        way_out="check the images, the mask, and the maps given with them",
    )


def _inside(mask: str | Path | None) -> str:
    return "" if mask is None else f" inside the mask {Path(mask).name}"
