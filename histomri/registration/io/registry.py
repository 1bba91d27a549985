"""The formats of transforms: each module of this folder registers one, and is found because it is there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from histomri.core.door import reading, require_file
from histomri.core.errors import InputError
from histomri.core.images import Image

Images = tuple[Image | None, Image | None]
"""The moving and the fixed image, which the matrices of some programs count from."""


@dataclass(frozen=True)
class TransformFormat:
    """A format of transforms.

    A file with one of its `endings`, in lower case, is of this format if it `holds`. `read` takes the path and the two
    images, without which the numbers mean nothing if it `needs_images`; what it raises on a damaged file is reported.
    `companions` are files that are opened together with one, `warnings` what a person should know before using the
    transform, and `write` is that of the format in which transforms are saved.
    """

    name: str
    endings: tuple[str, ...]
    read: Callable[[Path, Images], Any]
    holds: Callable[[Path], bool] = field(default=lambda path: True)
    needs_images: bool = False
    companions: Callable[[Path], Sequence[Path]] = field(default=lambda path: ())
    warnings: Callable[[Any, Path], Sequence[str]] = field(default=lambda transform, path: ())
    write: Callable[[Any, str | Path], list[Path]] | None = None


_FORMATS: list[TransformFormat] = []


def register_format(added: TransformFormat) -> None:
    """Make a format known."""
    _FORMATS.append(added)


@cache
def formats() -> tuple[TransformFormat, ...]:
    """Return every format, once the modules of this folder have registered them."""
    for module in sorted(found.name for found in iter_modules([str(Path(__file__).parent)])):
        import_module(f"{__package__}.{module}")
    return tuple(_FORMATS)


def format_of(path: Path) -> TransformFormat | None:
    """Return the format of a file, by its ending and, where several share one, its content."""
    name = path.name.lower()
    return next((one for one in formats() if name.endswith(one.endings) and one.holds(path)), None)


def load_transform(path: str | Path, moving: Image | None = None, fixed: Image | None = None) -> Any:
    """Read a transform of ours or of another program; see `Transform.load`."""
    path = require_file(path, "transform")
    found = format_of(path)
    if found is None:
        known = dict.fromkeys(ending for one in formats() for ending in one.endings)
        raise InputError(f"'{path.suffix}' is no ending of a transform", path=path, hint=f"give {', '.join(known)}")
    if found.needs_images and (moving is None or fixed is None):
        problem = f"is an {found.name}, which counts mm along the axes of the two images it was made with"
        raise InputError(problem, path=path, hint="give both: Transform.load(path, moving=.., fixed=..)")
    with reading(path, found.name):
        return found.read(path, (moving, fixed))


def save_transform(transform: Any, path: str | Path) -> list[Path]:
    """Write a transform; see `Transform.save`."""
    return next(one.write for one in formats() if one.write is not None)(transform, path)


def needs_images(path: Path) -> bool:
    """Whether a file can be read only together with the two images it was made with."""
    found = format_of(path) if path.is_file() else None
    return found is not None and found.needs_images


def companions(path: Path) -> list[Path]:
    """Return the other files that are opened together with a transform."""
    found = format_of(path) if path.is_file() else None
    return [] if found is None else list(found.companions(path))
