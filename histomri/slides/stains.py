"""Stains: how much of each there is in a pixel, by colour deconvolution in QuPath's units.

By Beer and Lambert the optical density of a pixel is the sum of those of its stains (Ruifrok and Johnston 2001,
Anal Quant Cytol Histol 23:291): OD = -log10(value / background) = amounts @ vectors. Each vector has length 1, so that
an amount is an optical density and QuPath's thresholds (0.2 for positive) mean the same here.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import InputError
from histomri.core.files import require_file

_HINT = (
    'pass QuPath\'s own text, {"Name": "H-DAB", "Stain 1": "Hematoxylin", "Values 1": "0.65 0.70 0.29", "Stain 2": '
    '"DAB", "Values 2": "0.27 0.57 0.78", "Background": "243 243 243"}, or a file that holds it'
)
# Pixels darker than this in some channel are no glass.
_DARKEST_BACKGROUND = 150
_LEAST_GLASS = 0.005


@dataclass(frozen=True, eq=False)
class Stains:
    """Stain vectors of a slide.

    Attributes
    ----------
    names : tuple of str
        Of the three stains.
    vectors : (3, 3) ndarray
        A row per stain, red, green, blue optical density, of length 1.
    background_rgb : (3,) ndarray or None
        Colour of the glass; None if it has to be estimated from the slide.
    source : str
        Where the vectors are from.
    """

    names: tuple[str, str, str]
    vectors: FloatArray
    background_rgb: FloatArray | None = None
    source: str = "given"

    def __post_init__(self) -> None:
        vectors = np.array(self.vectors, dtype=float)
        if vectors.shape != (3, 3) or not np.isfinite(vectors).all():
            raise InputError("stain vectors are three times three finite numbers", hint=_HINT)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if (lengths < 1e-6).any() or abs(np.linalg.det(vectors / np.maximum(lengths, 1e-6))) < 1e-3:
            raise InputError("the stain vectors are too alike to separate the stains", hint=_HINT)
        object.__setattr__(self, "vectors", vectors / lengths)
        if self.background_rgb is not None:
            background = np.array(self.background_rgb, dtype=float)
            if background.shape != (3,) or not ((background >= 1) & (background <= 255)).all():
                problem = f"a background of {self.background_rgb} is not possible"
                raise InputError(problem, hint="give R,G,B, each from 1 to 255")
            object.__setattr__(self, "background_rgb", background)

    @classmethod
    def h_dab(cls) -> "Stains":
        """Return hematoxylin and DAB with the vectors of Ruifrok and Johnston, which scikit-image has."""
        from skimage.color import rgb_from_hdx

        return cls(("Hematoxylin", "DAB", "Residual"), rgb_from_hdx, None, "default H-DAB (Ruifrok and Johnston)")

    @classmethod
    def from_qupath(cls, text: str, source: str = "given") -> "Stains":
        """Read the text that QuPath shows and stores for stain vectors; a third stain may be missing.

        QuPath's background of 255 is its way of saying that none was set, so it is estimated then.
        """
        try:
            content = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError("the stain vectors are no JSON", hint=_HINT) from error
        if not isinstance(content, dict):
            raise InputError("the stain vectors are no JSON object", hint=_HINT)
        first, second = _numbers(content, "Values 1"), _numbers(content, "Values 2")
        third = _numbers(content, "Values 3") if "Values 3" in content else np.cross(first, second)
        one, two, three = (str(content.get(f"Stain {number}", "Residual")) for number in (1, 2, 3))
        background = _numbers(content, "Background") if "Background" in content else np.full(3, 255)
        glass = None if (background == 255).all() else background
        return cls((one, two, three), np.stack([first, second, third]), glass, source)

    @classmethod
    def read(cls, given: str, option: str = "--stains") -> "Stains":
        """Read stain vectors from QuPath's text itself, or from a file that holds it."""
        if given.lstrip().startswith("{"):
            return cls.from_qupath(given, option)
        path = require_file(given, "file of stain vectors")
        return cls.from_qupath(path.read_text(encoding="utf-8-sig", errors="replace"), path.name)

    @property
    def dab(self) -> int:
        """Number of the stain DAB."""
        found = [number for number, name in enumerate(self.names) if "dab" in name.lower()]
        if len(found) != 1:
            problem = f"the stains {', '.join(self.names)} do not have one that is called DAB"
            raise InputError(problem, hint="name it so")
        return found[0]

    def amount(self, rgb: NDArray[np.uint8], stain: int) -> NDArray[np.float32]:
        """Return how much of a stain, by its number, each pixel (..., 3) has, (...,), as optical density.

        As in QuPath, a channel brighter than the background has density 0, and amounts may be negative.
        """
        if self.background_rgb is None:
            raise InputError("the background has to be known before stains are separated")
        weights = np.linalg.inv(self.vectors)[:, stain]
        values = np.maximum(np.arange(256), 1)[:, None]
        table = (np.clip(-np.log10(values / self.background_rgb), 0, None) * weights).astype(np.float32)
        return np.asarray(table[rgb[..., 0], 0] + table[rgb[..., 1], 1] + table[rgb[..., 2], 2])

    def amounts(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return how much of each stain each pixel has, (..., 3); see `amount`."""
        return np.stack([self.amount(rgb, stain) for stain in range(3)], axis=-1)


def estimate_background(rgb: NDArray[np.uint8], tissue: BoolArray) -> tuple[FloatArray, str]:
    """Return the colour of the glass, (3,), and how it was found.

    Parameters
    ----------
    rgb : (h, w, 3) uint8 ndarray
        Thumbnail.
    tissue : (h, w) bool ndarray
        Where tissue is. Glass is the median of the rest, without pure white, which fills the parts that were not
        scanned. Without glass in the picture, its brightest half percent stands in: gaps and vessels.
    """
    glass = rgb[~tissue & (rgb < 255).any(axis=2) & (rgb.min(axis=2) >= _DARKEST_BACKGROUND)]
    if len(glass) >= _LEAST_GLASS * tissue.size:
        return np.median(glass, axis=0), "median of the glass"
    white = (rgb == 255).all(axis=2) & ~tissue
    if np.count_nonzero(white) >= _LEAST_GLASS * tissue.size:
        return np.full(3, 255.0), "white glass"
    return np.percentile(rgb.reshape(-1, 3), 99.5, axis=0), "brightest 0.5 % of the picture (it shows no glass)"


def _numbers(content: dict[str, Any], key: str) -> FloatArray:
    value = content.get(key)
    try:
        words = value.replace(",", " ").split() if isinstance(value, str) else list(value)  # type: ignore[arg-type]
        numbers = np.array([float(word) for word in words])
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.shape != (3,) or not np.isfinite(numbers).all():
        raise InputError(f"the stain vectors lack three numbers at {key!r}", hint=_HINT)
    return numbers
