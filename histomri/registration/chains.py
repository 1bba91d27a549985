"""The transform that is applied: one file, or several, one after the other."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from histomri.core.errors import InputError
from histomri.registration.files import load_first_volume
from histomri.registration.io.registry import needs_images, quality_warnings
from histomri.registration.options import ApplyOptions, is_slide
from histomri.registration.transform import Transform


def load_chain(options: ApplyOptions) -> tuple[Transform, tuple[str, ...]]:
    """Read the transforms that the options name, and chain them, the first one first.

    Also returned is what a person should know before using the chain.
    """
    paths = options.transforms
    links = [_load(path, _images(options) if n == 0 else (None, None)) for n, path in enumerate(paths)]
    chain = links[0]
    for link in links[1:]:
        chain = link.compose(chain)
    warnings = [text for link, path in zip(links, paths, strict=True) for text in quality_warnings(link, path)]
    warnings += [
        text
        for (one, other), names in zip(pairwise(links), pairwise(path.name for path in paths), strict=True)
        if (text := _break(one, other, *names))
    ]
    return chain, tuple(warnings)


def _images(options: ApplyOptions) -> tuple[Path | None, Path | None]:
    """Return moving and fixed image of a matrix of FSL or AFNI: those given, else what a map is drawn from and on."""
    chosen = options.moving, options.fixed
    if chosen != (None, None) and not needs_images(options.xfm):
        raise InputError(
            "--moving and --fixed are for a matrix of FSL or AFNI alone",
            path=options.xfm,
            hint="leave --moving and --fixed out",
        )
    like = None if options.like is None or is_slide(options.like) else options.like
    images: tuple[Path | None, Path | None] = (options.input if options.kind == "map" else None, like)
    if options.then:  # the map is then drawn on the grid of another image
        images = (None, None)
    moving, fixed = images[::-1] if options.inverse else images
    return chosen[0] or moving, chosen[1] or fixed


def _load(path: Path, images: Sequence[Path | None]) -> Transform:
    if not needs_images(path):
        return Transform.load(path)
    moving, fixed = images
    if moving is None or fixed is None:
        raise InputError(
            "is a matrix that counts mm along the axes of the two images it was made with",
            path=path,
            hint="give it first, with --moving IMAGE and --fixed IMAGE",
        )
    return Transform.load(path, moving=load_first_volume(moving), fixed=load_first_volume(fixed))


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
