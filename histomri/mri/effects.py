"""What the steps of the preparation did to the images, as a picture: before, after, and the difference."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.mri.acquisition import Acquisition

_PANELS = ("before", "after", "after - before")
_NAMES = {"spoilt": ("spoilt", "most alike", "ratio"), "mask": ("before", "in the mask", "outside")}


@dataclass(frozen=True)
class Effect:
    """One volume before and after a step, (I, J, K); the slice to show is that of most signal unless one is named."""

    step: str
    title: str
    before: FloatArray
    after: FloatArray
    slice: int = -1

    @property
    def shown(self) -> int:
        """The slice to show."""
        return self.slice if self.slice >= 0 else int(np.argmax(self.before.sum(axis=(0, 1))))


def most_alike(acquisition: Acquisition, volume: int) -> int:
    """Return the other volume whose b, TE and Δ are nearest to those of a volume."""
    te = np.zeros(len(acquisition)) if acquisition.te_ms is None else acquisition.te_ms
    b = acquisition.b_smm2
    far = np.abs(b - b[volume]) / 100 + np.abs(te - te[volume]) / 10
    far = far + np.abs(acquisition.Delta_ms - acquisition.Delta_ms[volume]) / 20
    far[volume] = np.inf
    return int(np.argmin(far))


def draw_effects(effects: Sequence[Effect]) -> Any:
    """Draw a row of three panels for each step; returns the matplotlib Figure."""
    from matplotlib.figure import Figure

    shape = effects[0].before.shape
    height = 2.4 * shape[1] / shape[0] if shape[1] < 2 * shape[0] else 4.8
    figure = Figure(figsize=(8.4, len(effects) * (height + 0.45)), layout="constrained")
    for row, effect in zip(figure.subplots(len(effects), 3, squeeze=False), effects):
        k = effect.shown
        before, after = (np.asarray(each[:, :, k], dtype=float) for each in (effect.before, effect.after))
        top = max(float(np.percentile(np.concatenate([before, after]), 99.5)), 1e-12)
        last, scale, colours = after - before, 0.0, "RdBu_r"
        if effect.step == "spoilt":
            seen = (after > 0.1 * top) | (before > 0.1 * top)
            last, scale, colours = np.where(seen, before / np.maximum(after, 1e-12), np.nan), 2.0, "RdBu_r"
        names = _NAMES.get(effect.step, _PANELS)
        for axes, picture, name in zip(row, (before, after), names):
            # i to the right, j upwards, as most viewers show a slice.
            axes.imshow(picture.T, origin="lower", cmap="gray", vmin=0, vmax=top)
            axes.set_title(name, fontsize=8)
        limit = scale or max(float(np.percentile(np.abs(last), 99.5)), 1e-3 * top)
        drawn = row[2].imshow(last.T, origin="lower", cmap=colours, vmin=0 if scale else -limit, vmax=limit)
        row[2].set_title(names[2], fontsize=8)
        figure.colorbar(drawn, ax=row[2], shrink=0.8).ax.tick_params(labelsize=6)
        for axes in row:
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(f"{effect.step}\n{effect.title}\nslice {k}", fontsize=7)
    return figure
