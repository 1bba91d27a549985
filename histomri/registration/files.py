"""Images as users hand them over: in memory, or as a file, of a series the first volume."""

from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image, open_nifti

_VOLUMES = (".nii", ".nii.gz", ".hdr", ".img", ".mgz", ".mgh")


def as_image(image: Any, what: str) -> Image:
    """Return an Image, read from a path if it is one; `what` names it in the message."""
    if isinstance(image, str | Path):
        return load_first_volume(Path(image))
    if not isinstance(image, Image):
        raise InputError(
            f"the {what} is a {type(image).__name__}, and an Image or the path of a NIfTI file is needed",
            hint="wrap an array as histomri.core.images.Image(array, affine)",
        )
    return image


def load_first_volume(path: Path) -> Image:
    """Read an image; of a 4D series the first volume alone."""
    if path.is_file() and not path.name.lower().endswith(_VOLUMES):
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
