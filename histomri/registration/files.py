"""Files that registrations read and write: images as users hand them over, maps on other grids, and what is refused."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from histomri.core.errors import GeometryError, InputError
from histomri.core.files import refuse_overwrite
from histomri.core.images import Image, open_nifti, parse_map_name, read_sidecar, sidecar_path, write_map
from histomri.registration.io.native import family
from histomri.registration.options import INPUTS, ApplyOptions

_VOLUMES = (".nii", ".nii.gz", ".hdr", ".img", ".mgz", ".mgh")
_SAMPLE = re.compile(r"sub-([0-9A-Za-z]+)_")
_ENDINGS = {**INPUTS, "slide": (".tif", ".tiff")}


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


def refuse_outputs(options: ApplyOptions, out: Path) -> None:
    """Raise InputError for a wrong ending, and for an output or its sidecar that would replace a file in use."""
    kind, endings = options.kind, _ENDINGS[options.kind]
    if not out.name.lower().endswith(endings):
        better = {"slide": ".ome.tif", "map": ".nii.gz"}.get(kind, endings[0])
        raise InputError(f"a {kind} becomes a file that ends otherwise", path=out, hint=f"let --out end in {better}")
    written = {"map": [out, sidecar_path(out)], "slide": [out, slide_sidecar(out)]}.get(kind, [out])
    used = [options.input, *options.transforms, options.like, options.moving, options.fixed]
    used += [path for xfm in options.transforms for path in family(xfm)]
    if kind == "map":
        used.append(sidecar_path(options.input))
    for path in written:
        refuse_overwrite(path, used)


def refuse_other_samples(*paths: Path | None, otherwise: str = "rename one of them") -> None:
    """Raise InputError if files are of different samples, by the ``sub-`` that their names begin with."""
    labels = {path: found[1] for path in paths if path is not None and (found := _SAMPLE.match(path.name))}
    first: tuple[Path, str] | None = next(iter(labels.items()), None)
    for path, label in labels.items():
        if first is not None and label != first[1]:
            raise InputError(
                f"is of sample {label}, and {first[0].name} of sample {first[1]}",
                path=path,
                hint=f"give files of one sample, or {otherwise} if they are",
            )


def slide_sidecar(out: Path) -> Path:
    """Return the JSON file beside a warped slide."""
    return out.with_name(f"{out.name.split('.')[0]}.json")
