"""Whether points of a slide lie on the tissue that was registered, and if not, what their coordinates probably are."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.images import Image

MANY = 20
"""Objects from which on they are held against the tissue: a single annotation may lie around it."""
_ACROSS, _ON_TISSUE, _LIKELY, _LEAST_GAIN = 128, 0.9, 0.5, 0.2
_LEVELS = tuple(2.0**power for power in (1, 2, 3, 4, 5, 6))
_ALIKE = 0.02


def tissue_record(tissue: Image) -> dict[str, Any]:
    """Return a mask, 2D, as a transform keeps it: where it lies, and one bit for each of some 128 x 128 places."""
    step = max(1, -(-max(tissue.data.shape) // _ACROSS))
    inside = np.asarray(tissue.data > 0.5)
    rows, columns = (length // step * step for length in inside.shape)
    blocks = inside[:rows, :columns].reshape(rows // step, step, columns // step, step).any(axis=(1, 3))
    affine = tissue.affine @ np.diag([step, step, 1, 1])
    affine[:3, 3] = (tissue.affine @ np.array([(step - 1) / 2, (step - 1) / 2, 0, 1]))[:3]
    bits = base64.b64encode(np.packbits(blocks).tobytes()).decode("ascii")
    return {"Shape": list(blocks.shape), "Affine": affine.tolist(), "Bits": bits}


@dataclass(frozen=True, eq=False)
class Tissue:
    """Where the tissue of a registered image is: `inside` (I, J) on a grid, (4, 4) to its world; and its name."""

    inside: BoolArray
    affine: FloatArray
    name: str

    @classmethod
    def of(cls, record: Mapping[str, Any], name: str) -> "Tissue":
        """Return the tissue of a record, with a rim of one place: outlines are drawn generously."""
        shape = [int(length) for length in record["Shape"]]
        bits = np.frombuffer(base64.b64decode(record["Bits"]), dtype=np.uint8)
        inside = np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)
        padded = binary_dilation(np.pad(inside, 1), np.ones((3, 3), bool))
        affine = np.array(record["Affine"], dtype=float)
        affine[:3, 3] -= affine[:3, 0] + affine[:3, 1]
        return cls(padded, affine, name)

    @property
    def field_um(self) -> FloatArray:
        """Width and height of what the slide is known to show, µm."""
        far = self.affine @ np.array([self.inside.shape[0] - 1.0, self.inside.shape[1] - 1.0, 0.0, 1.0])
        return np.asarray(np.abs(np.stack([self.affine[:2, 3], far[:2]])).max(axis=0) * 1000)

    def covered(self, points: FloatArray) -> float:
        """Return over which part of the width and height of the tissue points, (N, 2|3), are spread, 1 at most."""
        i, j = np.nonzero(self.inside)
        there = np.column_stack([i, j]) @ self.affine[:2, :2].T
        low, high = 5, 95
        sizes = [np.subtract(*np.percentile(each[:, :2], (high, low), axis=0)) for each in (points, there)]
        return float(np.minimum(sizes[0] / np.maximum(sizes[1], 1e-9), 1).prod())

    def fraction(self, points: FloatArray) -> float:
        """Return which fraction of points, (N, 2|3) mm of its world, lies on it."""
        world = np.column_stack([points, np.zeros(len(points))])[:, :3]
        index = np.rint(((world - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T)[:, :2]).astype(int)
        known = np.all((index >= 0) & (index < self.inside.shape), axis=1)
        return float(self.inside[tuple(index[known].T)].sum() / max(len(points), 1))


def tissue_warning(tissue: Tissue, points: FloatArray, mpp: FloatArray | None, *, on_slide: bool) -> str | None:
    """Say that points, (N, 2|3) mm of the world of the tissue, do not lie on it, and what they probably are instead.

    Each point stands for a cell or a region. `mpp` (2,) is the size of a pixel, µm, by which they were brought from
    pixels of a slide, None if they were in µm or mm; `on_slide`, whether the world is that of a slide, in which wrong
    coordinates can be recognised. None is returned where nine tenths are on tissue.
    """
    found = tissue.fraction(points)
    if found >= _ON_TISSUE:
        return None
    text = f"{found:.0%} of the {len(points)} objects lie on the tissue of {tissue.name}, which was registered"
    tried = []
    if on_slide:
        tried = [
            (tissue.fraction(moved), tissue.covered(moved), reason)
            for moved, reason in _otherwise(points, tissue.field_um, mpp)
        ]
    # Much that is drawn together lies on tissue by chance: cells are spread over it.
    best, _, cause = max(tried, key=lambda each: each[0] * each[1], default=(0.0, 0.0, ""))
    if best < max(found + _LEAST_GAIN, _LIKELY):
        return f"only {text}: check the pixel size, and that they are of this section and in its coordinates"
    return f"only {text}, and {best:.0%} would {cause}"


def _otherwise(points: FloatArray, field_um: FloatArray, mpp: FloatArray | None) -> Iterator[tuple[FloatArray, str]]:
    """Give the points as they would lie if their coordinates were something else, and that in words."""
    um, size = -1000 * points[:, :2], "" if mpp is None else f"{mpp[0]:.4g}"
    if mpp is not None:
        as_um = um / mpp
        in_um = "if their coordinates were µm and not pixels: give --mpp 1"
        for level in _LEVELS:
            coarse = f"pixels of a coarser level of the pyramid ({level:.0f} times as large)"
            remedy = f"give --mpp {mpp[0] * level:.4g} in place of {size}"
            either = f"if their coordinates were {coarse}: {remedy}"
            if abs(mpp[0] * level - 1) < _ALIKE:
                either = f"if their coordinates were µm, or {coarse}: give --mpp 1"
            yield -um * level / 1000, either
            finer = f"if a pixel were {level:.0f} times smaller: give --mpp {mpp[0] / level:.4g} in place of {size}"
            yield -um / level / 1000, finer
        yield -as_um / 1000, in_um
    else:
        for factor in (*_LEVELS, *(1 / level for level in _LEVELS)):
            more = f"{factor:.0f} times as large" if factor > 1 else f"{1 / factor:.0f} times smaller"
            yield -um * factor / 1000, f"if they were {more}: their coordinates are probably pixels and not µm"
    yield -um[:, ::-1] / 1000, "if x and y were exchanged"
    yield -(um * (-1, 1) + (field_um[0], 0)) / 1000, "if x ran the other way (mirrored left to right)"
    yield -(um * (1, -1) + (0, field_um[1])) / 1000, "if y ran the other way (mirrored top to bottom)"
    yield -(field_um - um) / 1000, "if both axes ran the other way (turned by half a turn)"
