"""Regions of interest as a label image on the grid of diffusion images, and the mean signal of each of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.display import Displayed
from histomri.core.errors import GeometryError, InputError
from histomri.core.tables import line_of, read_table
from histomri.mri import DwiFile, SpoiltVolume

_NUMBER_NAMES, _NAME_NAMES = ("label", "index", "value", "id"), ("name", "region")
# Fewer voxels of clean slices than this do not stand for a region.
_ENOUGH = 20


@dataclass(frozen=True, repr=False)
class Labels(Displayed):
    """A label image: the label of each voxel, (I, J, K), 0 outside every region, and names of labels."""

    image: IntArray
    names: Mapping[int, str]
    warnings: tuple[str, ...]

    @classmethod
    def read(cls, path: str | Path, images: DwiFile, names: str | Path | None = None) -> "Labels":
        """Read a label image that lies on the grid of diffusion images.

        InputError if its values are no whole numbers of at least 0, all are 0, or the table of names has a label twice;
        GeometryError if it lies on another grid.

        Parameters
        ----------
        path, names : path-like
            NIfTI image; table with the columns label (or index, as BIDS has it) and name.
        """
        try:
            values = images.read_map(path)
        except GeometryError as error:
            hint = f"resample the labels to the grid of {images.path.name} with nearest neighbours"
            raise GeometryError(error.problem, path=path, hint=hint) from error
        values = np.nan_to_num(values, nan=0.0)
        wrong = (values != np.round(values)) | (values < 0) | ~np.isfinite(values)
        if wrong.any():
            problem = f"is no label image: it holds {values[wrong][0]:g}, and labels are whole numbers from 0"
            raise InputError(problem, path=path, hint="resample labels with nearest neighbours")
        image = values.astype(np.int64)
        if not image.any():
            raise InputError("holds no label: every voxel is 0", path=path, hint="give an image with a number a region")
        named = {} if names is None else _read_names(Path(names))
        missing = [f"{label} ({name})" for label, name in named.items() if not np.any(image == label) and label != 0]
        text = f"labels: {Path(names or path).name} names {', '.join(missing)}, of which the image has no voxel"
        return cls(image, named, (text,) if missing else ())

    def facts(self) -> dict[str, Any]:
        """Return the labels with their names and numbers of voxels."""
        found, counts = np.unique(self.image[self.image > 0], return_counts=True)
        return {self.title(int(label)): f"{count} voxels" for label, count in zip(found, counts)}

    def title(self, label: int) -> str:
        """Return what a label is called: its number, and its name if it has one."""
        name = self.names.get(label)
        return f"label {label}" + (f" ({name})" if name else "")


def _read_names(path: Path) -> dict[int, str]:
    table = read_table(path)
    number, name = (
        next((each for each in table.names if each.strip().lower() in known), known[0])
        for known in (_NUMBER_NAMES, _NAME_NAMES)
    )
    table.require(number, name)
    labels, names = table.number(number), table.text(name, complete=True)
    wrong = labels.isna() | (labels != labels.round()) | (labels < 0)
    if wrong.any():
        problem = f"column '{number}', line {line_of(wrong)}: a label is a whole number from 0"
        raise InputError(problem, path=path, hint="give the number that the voxels of the region have")
    if labels.duplicated().any():
        problem = (
            f"column '{number}', line {line_of(labels.duplicated())}: label {labels[labels.duplicated()].iloc[0]:g}"
        )
        raise InputError(f"{problem} comes twice", path=path, hint="give each label one name")
    return {int(label): text for label, text in zip(labels, names)}


@dataclass(frozen=True, repr=False)
class LabelMeans(Displayed):
    """Noise-corrected mean signals of regions, as if each were a voxel with a smaller noise level.

    `labels`, `titles`, `voxels` (averaged), `left_out` (not finite, without signal, or of a slice with a spoilt volume)
    are (L,), `signals` (L, M), `sigma` (L,), and `kept` (L, M) says which volumes are fitted. `members` are the voxels
    that were averaged, of each label.
    """

    labels: IntArray
    titles: tuple[str, ...]
    names: tuple[str, ...]
    voxels: IntArray
    left_out: IntArray
    signals: FloatArray
    sigma: FloatArray
    kept: BoolArray
    members: tuple[IntArray, ...]
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def facts(self) -> dict[str, Any]:
        """Return the regions with how many voxels were averaged."""
        return {title: f"{count} voxels" for title, count in zip(self.titles, self.voxels)}


def mean_of_labels(
    signals: FloatArray, sigma: FloatArray | float, regions: Labels, inside: BoolArray, *,
    spoilt: Iterable[SpoiltVolume] = (), volumes: IntArray | None = None,
) -> LabelMeans:  # fmt: skip
    """Average signals over the voxels of each label: sqrt(max(mean(S²) - 2 sigma², 0)), with error sigma/√n.

    The mean square of a Rician signal is s² + 2 sigma² (Gudbjartsson and Patz 1995, doi 10.1002/mrm.1910340618), so the
    noise floor is gone. Voxels of slices in which a volume is spoilt are left out; if fewer than 20 or a tenth would be
    left, the volume is left out of the region instead. InputError if no label has a voxel with signal inside the mask.

    Parameters
    ----------
    signals, sigma : (V, M) ndarray, and (V,) ndarray or float
        Raw signals of the voxels of the mask, and their noise levels.
    regions, inside : Labels, and (I, J, K) ndarray of bool
        The regions, and the mask.
    spoilt, volumes : SpoiltVolume, and (M,) ndarray of int
        Volumes that are spoilt in a slice, and the number of each volume in the series.

    Examples
    --------
    >>> import numpy as np
    >>> regions = Labels(np.array([[[1, 1, 2]]]), {1: "tumour"}, ())
    >>> means = mean_of_labels(np.array([[3.0], [4.0], [5.0]]), 0.5, regions, regions.image > 0)
    >>> means.titles, means.signals.round(3).ravel(), means.sigma.round(3)
    (('label 1 (tumour)', 'label 2'), array([3.464, 4.95 ]), array([0.354, 0.5  ]))
    """
    every, slices = regions.image[inside], inside.nonzero()[2]
    level = np.broadcast_to(np.asarray(sigma, dtype=float), every.shape)
    with np.errstate(invalid="ignore"):
        good = np.isfinite(signals).all(axis=1) & (signals > 0).any(axis=1) & np.isfinite(level) & (level > 0)
    names = np.unique(regions.image[regions.image > 0])
    numbers = np.arange(signals.shape[1]) if volumes is None else volumes
    kept, parts, found = np.ones((names.size, signals.shape[1]), dtype=bool), list[IntArray](), list(spoilt)
    for k, label in enumerate(names):
        mine = np.flatnonzero((every == label) & good)
        here = [each for each in found if each.slice in slices[mine]]
        clean = mine[~np.isin(slices[mine], [each.slice for each in here])]
        if here and clean.size < max(_ENOUGH, mine.size / 10):
            kept[k] = ~np.isin(numbers, [each.volume for each in here])
            clean = mine
        parts.append(clean)
    counts = np.array([part.size for part in parts])
    if not counts.any():
        hint = "check that the labels lie on tissue" + ("" if inside.all() else ", inside the mask")
        raise InputError("no label has a voxel with signal" + ("" if inside.all() else " inside the mask"), hint=hint)
    means, errors = np.zeros((names.size, signals.shape[1])), np.full(names.size, np.nan)
    for k, part in enumerate(parts):
        if part.size:
            power = float(np.mean(level[part] ** 2))
            square = (signals[part].astype(float) ** 2).mean(axis=0)
            means[k], errors[k] = np.sqrt(np.maximum(square - 2 * power, 0.0)), np.sqrt(power / part.size)
    titles = tuple(regions.title(int(label)) for label in names)
    total = np.array([np.count_nonzero(regions.image == label) for label in names])
    words = _words_on_losses(titles, total, counts, kept, numbers)
    called = tuple(regions.names.get(int(label), "") for label in names)
    return LabelMeans(names, titles, called, counts, total - counts, means, errors, kept, tuple(parts), words)


def _words_on_losses(
    titles: tuple[str, ...], total: IntArray, used: IntArray, kept: BoolArray, numbers: IntArray
) -> tuple[str, ...]:
    """Say which labels are empty, and which lost most of their voxels, or volumes."""
    empty = [f"{title}, {count} voxels" for title, count, left in zip(titles, total, used) if not left]
    poor = [f"{title}: {left} of {count}" for title, count, left in zip(titles, total, used) if 0 < left < count / 2]
    words = []
    if empty:
        words.append(f"labels without signal inside the mask, not fitted: {'; '.join(empty)}")
    if poor:
        words.append(f"labels of which less than half of the voxels could be used: {'; '.join(poor)}")
    for title, row in zip(titles, kept):
        if not row.all():
            words.append(f"{title}: volumes {', '.join(map(str, numbers[~row]))} are spoilt in its slices, left out")
    return tuple(words)
