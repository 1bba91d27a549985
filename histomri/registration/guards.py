"""What is refused before anything starts: outputs that would replace files in use, and files of different samples."""

import re
from pathlib import Path

from histomri.core.errors import InputError
from histomri.core.files import refuse_overwrite
from histomri.core.images import sidecar_path
from histomri.registration.io.native import family
from histomri.registration.options import INPUTS, ApplyOptions

_SAMPLE = re.compile(r"sub-([0-9A-Za-z]+)_")
_ENDINGS = {**INPUTS, "slide": (".tif", ".tiff")}


def refuse_outputs(options: ApplyOptions, out: Path) -> None:
    """Raise InputError for a wrong ending, and for an output or its sidecar that would replace a file in use."""
    kind, endings = options.kind, _ENDINGS[options.kind]
    if not out.name.lower().endswith(endings):
        better = {"slide": ".ome.tif", "map": ".nii.gz"}.get(kind, endings[0])
        raise InputError(f"a {kind} becomes a file that ends otherwise", path=out, hint=f"let --out end in {better}")
    written = {"map": [out, sidecar_path(out)], "slide": [out, slide_sidecar(out)]}.get(kind, [out])
    xfms = options.xfm, *options.then
    used = [options.input, *xfms, options.like, options.moving, options.fixed]
    used += [path for xfm in xfms for path in family(xfm)]
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
