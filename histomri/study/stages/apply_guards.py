"""What `histomri apply` refuses before it starts: options that would do nothing, wrong endings, lost files."""

import re
from collections.abc import Sequence
from pathlib import Path

from histomri.core.errors import InputError
from histomri.core.files import refuse_overwrite
from histomri.core.images import sidecar_path
from histomri.registration import own_warps
from histomri.study.stages.register_inputs import SLIDES

_SAMPLE = re.compile(r"sub-([0-9A-Za-z]+)_")
_KINDS = {
    "map": (".nii", ".nii.gz"),
    "slide": SLIDES,
    "GeoJSON file": (".geojson", ".json"),
    "table": (".csv", ".tsv"),
}
_ENDINGS = {**_KINDS, "slide": (".tif", ".tiff")}
_OPTIONS = {
    "map": ("--like", "--nearest", "--cubic"),
    "slide": ("--like", "--mpp", "--fixed-mpp", "--nearest", "--slice"),
    "GeoJSON file": ("--mpp", "--fixed-mpp"),
    "table": (),
}


def kind_of(input: Path) -> str:
    """Return "map", "slide", "GeoJSON file" or "table", by the ending of a file.

    Raises
    ------
    InputError
        If it is none of these.
    """
    for kind, endings in _KINDS.items():
        if input.name.lower().endswith(endings):
            return kind
    raise InputError(
        "a transform cannot be applied to this kind of file",
        path=input,
        hint="give .nii.gz, .geojson, .csv or a slide",
    )


def refuse_options(kind: str, given: dict[str, bool]) -> None:
    """Raise InputError for an option that would do nothing to this kind of file."""
    for option, present in given.items():
        if present and option not in _OPTIONS[kind]:
            raise InputError(f"{option} does nothing to a {kind}", hint=f"leave {option} out")


def refuse_outputs(kind: str, xfms: Sequence[Path], input: Path, out: Path, others: Sequence[Path | None]) -> None:
    """Raise InputError for a wrong ending, and for an output or its sidecar that would replace a file in use."""
    endings = _ENDINGS[kind]
    if not out.name.lower().endswith(endings):
        better = ".ome.tif" if kind == "slide" else ".nii.gz" if kind == "map" else endings[0]
        raise InputError(f"a {kind} becomes a file that ends otherwise", path=out, hint=f"let --out end in {better}")
    written = {"map": [out, sidecar_path(out)], "slide": [out, slide_sidecar(out)]}.get(kind, [out])
    used = [input, *xfms, *others, *(path for xfm in xfms for path in family(xfm))]
    if kind == "map":
        used.append(sidecar_path(input))
    for path in written:
        refuse_overwrite(path, used)


def refuse_other_samples(*paths: Path | None, otherwise: str = "rename one of them") -> None:
    """Raise InputError if files are of different samples, by the ``sub-`` that their names begin with."""
    labels = {path: found[1] for path in paths if path is not None and (found := _SAMPLE.match(path.name))}
    first = next(iter(labels.items()), None)
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


def family(xfm: Path) -> list[Path]:
    """Return the files that were written together with a transform: JSON, ITK text and displacements."""
    return [xfm.with_suffix(".json"), xfm.with_suffix(".tfm"), *own_warps(xfm.with_suffix(""))]
