"""Turn slices the right way up."""

from dataclasses import dataclass

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.images import Image

_NAMES = (("L", "R"), ("P", "A"), ("I", "S"))  # negative, positive end of each world axis


@dataclass(frozen=True)
class View:
    """How an array becomes a picture whose right and lower edges point to negative world coordinates.

    For an axial slice this is the radiological convention (patient's left on the right, back below); a histology grid,
    whose world is laid out for it, stays as it is.
    """

    transpose: bool  # whether the first array axis runs across
    flip_rows: bool  # whether the picture's axes are then reversed
    flip_columns: bool
    pixel_mm: tuple[float, float]  # width and height
    edges: tuple[str, str, str, str]  # what lies at the left, right, upper and lower edge

    @classmethod
    def of(cls, image: Image) -> "View":
        """Choose the view of a 2D image by the world axes its own axes follow most closely."""
        axes = image.affine[:3, :2] / image.voxel_mm[:2]
        first, second = int(np.argmax(np.abs(axes[:, 0]))), int(np.argmax(np.abs(axes[:, 1])))
        if first == second:  # both lean on one world axis: the weaker takes the next best
            weak = 0 if abs(axes[first, 0]) < abs(axes[first, 1]) else 1
            other = np.abs(axes[:, weak]).copy()
            other[first] = -1
            first, second = (int(np.argmax(other)), second) if weak == 0 else (first, int(np.argmax(other)))
        # The world axis further down the list x, y, z stands upright.
        transpose = first < second
        rows, columns = (1, 0) if transpose else (0, 1)
        upright, across = (second, first) if transpose else (first, second)
        flip_rows, flip_columns = bool(axes[upright, rows] > 0), bool(axes[across, columns] > 0)
        size = (float(image.voxel_mm[columns]), float(image.voxel_mm[rows]))
        edges = (_NAMES[across][1], _NAMES[across][0], _NAMES[upright][1], _NAMES[upright][0])
        return cls(transpose, flip_rows, flip_columns, size, edges)

    def show(self, data: FloatArray) -> FloatArray:
        """Return the array as a picture: rows downwards, columns to the right."""
        picture = data.T if self.transpose else data
        picture = picture[::-1] if self.flip_rows else picture
        return picture[:, ::-1] if self.flip_columns else picture
