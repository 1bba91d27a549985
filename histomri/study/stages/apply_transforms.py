"""The transform that `histomri apply` applies: one file, or several, one after the other."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.registration import Transform, doubts_of, is_fsl
from histomri.study.stages.register_inputs import load_first_volume


def load_chain(paths: Sequence[Path], images: tuple[Path | None, Path | None]) -> tuple[Transform, tuple[str, ...]]:
    """Read transforms and chain them, the first one first.

    Parameters
    ----------
    paths : sequence of Path
        One or more.
    images : (Path or None, Path or None)
        Moving and fixed image, which the first one needs if it is a matrix of FSL.

    Returns
    -------
    chain : Transform
    doubts : tuple of str
        What a person should know before using it.

    Raises
    ------
    InputError
        If a file cannot be read, or a matrix of FSL lacks its images.
    """
    links = [_load(path, images if n == 0 else (None, None)) for n, path in enumerate(paths)]
    chain = links[0]
    for link in links[1:]:
        chain = link.compose(chain)
    doubts = [doubt for link, path in zip(links, paths, strict=True) for doubt in doubts_of(link, path)]
    doubts += [
        doubt
        for (one, other), names in zip(pairwise(links), pairwise(path.name for path in paths), strict=True)
        if (doubt := _break(one, other, *names))
    ]
    return chain, tuple(doubts)


def _load(path: Path, images: tuple[Path | None, Path | None]) -> Transform:
    if not is_fsl(path):
        return Transform.load(path)
    moving, fixed = images
    if moving is None or fixed is None:
        raise InputError(
            "is an FSL matrix, which counts mm along the axes of the two images it was made with",
            path=path,
            hint="give it first, with --moving IMAGE and --fixed IMAGE",
        )
    loaded: dict[str, Image] = {"moving": load_first_volume(moving), "fixed": load_first_volume(fixed)}
    return Transform.load(path, **loaded)


def _break(one: Transform, other: Transform, first: str, second: str) -> str | None:
    """Say where one transform does not end where the next begins, as far as their records tell."""
    ends, begins = one.info.get("Fixed") or {}, other.info.get("Moving") or {}
    slides = ends.get("Slide"), begins.get("Slide")
    on_mri = slides[0] is None and (slides[1] is not None or len(ends.get("Shape", ())) == 3)
    if ends and begins and on_mri:
        return (
            f"{first} ends on an MRI, and {second} begins on a section: check the order of the transforms, the first "
            "comes first"
        )
    if None not in slides and slides[0] != slides[1]:
        return (
            f"{first} ends on {slides[0]}, and {second} begins on {slides[1]}: unless these are two pictures of one "
            "slide, the transforms do not belong together, or their order is wrong"
        )
    return None
