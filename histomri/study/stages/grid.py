"""Voxels of a mask put back on their grid."""

import numpy as np

from histomri.arrays import BoolArray, FloatArray


def on_grid(values: FloatArray, inside: BoolArray, name: str) -> FloatArray:
    """Put the voxels of a mask back on their grid; NaN outside, exit code 0 for the exit map."""
    grid = np.full(inside.shape, 0.0 if name == "exit" else np.nan, dtype=np.float32)
    grid[inside] = values
    return grid
