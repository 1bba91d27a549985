"""Maps drawn on the grid of another image, with what their sidecars say of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from histomri.core.images import Image, open_nifti, parse_map_name, read_sidecar, write_map


def read_labels(path: Path, image: Image) -> Image:
    """Return an image with its voxels in the type of their file, of which nearest voxels are kept as they are."""
    data = np.asarray(open_nifti(path).dataobj)
    return Image(data.astype(data.dtype.newbyteorder("=")).reshape(image.data.shape), image.affine)


def write_drawn(
    out: Path,
    drawn: Image,
    source: Path,
    like: Path,
    *,
    xfms: Sequence[Path] = (),
    parameters: Mapping[str, Any] | None = None,
    dtype: DTypeLike = np.float32,
    sidecar: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a map on the grid of another image, with unit and description of the map it comes from."""
    found = read_sidecar(source)
    words = {key: found[key] for key in ("Units", "Description") if found.get(key)}
    if not parse_map_name(out.name).get("param"):
        words = {"Units": "arbitrary", "Description": f"{source.name} on the grid of {like.name}", **words}
    sources = [source, like, *xfms]
    keys = {**(sidecar or {}), **words}
    return write_map(out, drawn.data, drawn.affine, sources=sources, parameters=parameters, dtype=dtype, **keys)


def count_known(image: Image) -> int:
    """Return how many voxels hold a value, of labels how many are not 0."""
    labels = image.data.dtype.kind in "iu"
    return int(np.count_nonzero(image.data) if labels else np.isfinite(image.data).sum())
