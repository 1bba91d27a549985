"""The noise level as users give it: a number, a map, or a method to estimate it with."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import InputError
from histomri.mri.images import DwiFile
from histomri.mri.noise import estimate_noise
from histomri.mri.series import Series

_METHODS = {"estimate": "mppca", "mppca": "mppca", "piesno": "piesno"}
# The widest patch of MP-PCA: it is read beyond the mask, so that voxels at its rim have neighbours.
_MARGIN = 5


@dataclass(frozen=True)
class Sigma:
    """A noise level: a number, or (V,) for the voxels of a mask, in the units of the signal."""

    level: float | FloatArray | None
    record: dict[str, Any] = field(default_factory=dict)  # where it is from, for the sidecar
    source: Path | None = None  # the map it was read from
    warnings: tuple[str, ...] = ()  # where it may be wrong


def read_sigma(sigma: float | str | Path | None, series: Series) -> Sigma:
    """Read or estimate the noise level of the voxels of a series.

    It is given as a number in the units of the signal; a NIfTI map of it; ``estimate`` (or ``mppca``) for MP-PCA, or
    ``piesno`` for the noise of the background. The estimates need the images as the scanner made them, and the memory
    of the part of the series that holds the mask, five times. InputError if it cannot be read or estimated, or is
    nowhere above 0 inside the mask.
    """
    if sigma is None:
        return Sigma(None, {"Method": "none"})
    if isinstance(sigma, float | int):
        return Sigma(float(sigma), {"Method": "number", "Sigma": float(sigma)})
    if str(sigma).lower() in _METHODS:
        return _estimated(_METHODS[str(sigma).lower()], series.images, series.inside)
    path = Path(sigma)
    if not path.exists():
        problem = f"--sigma {sigma} is neither a number, estimate nor piesno, and there is no such NIfTI image"
        raise InputError(problem, hint="check the spelling and the folder")
    return Sigma(series.read_positive(path, "sigma"), {"Method": "map", "File": path.name}, path)


def _estimated(method: str, images: DwiFile, inside: BoolArray) -> Sigma:
    # The background that PIESNO measures may lie anywhere.
    around = find_objects(inside.astype(np.int8))[0] if method == "mppca" else tuple(slice(0, n) for n in inside.shape)
    corner = tuple(slice(max(each.start - _MARGIN, 0), each.stop + _MARGIN) for each in around)
    box = np.zeros(inside.shape, dtype=bool)
    box[corner] = True
    wanted = inside[corner]
    signals = images.read(box).reshape(*wanted.shape, images.shape[3])
    try:
        noise = estimate_noise(signals, wanted, method)
    except InputError as error:
        raise InputError(error.problem, path=images.path, hint=error.hint) from error
    level = noise.sigma[wanted]
    record = {"Method": noise.method, **noise.details}
    if not (missing := int(np.count_nonzero(~np.isfinite(level)))):
        return Sigma(level, record)
    if missing == level.size:
        raise InputError("no voxel has an estimate of its noise", path=images.path, hint="give --sigma")
    warning = f"sigma: {missing} voxels have no estimate and take the median of the others"
    return Sigma(np.where(np.isfinite(level), level, np.nanmedian(level)), record, None, (warning,))
