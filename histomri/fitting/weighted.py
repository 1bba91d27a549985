"""The compiled fit with a weight of each measurement: that of `kernels`, on rows that no two measurements share.

It is apart from the plain fit, which stays as it is to the last bit, and compiled only when it is asked for.
"""

from typing import Any

import numpy as np
from numba import njit

from histomri.core.arrays import FloatArray
from histomri.core.kernel_cache import source_hash
from histomri.fitting import kernels
from histomri.fitting.objective import FAST


def _compile(sources: int, kind: int) -> Any:
    @njit(cache=True, nogil=True, **FAST)
    def fit_voxels(y: Any, sigma: Any, weights: Any, setup: Any, grid: Any, limits: Any, tolerance: Any,
                   out: Any) -> None:  # fmt: skip
        """Fit every voxel: y, sigma and weights (V, M), out (V, N_OUT)."""
        _ = sources  # part of the key of the cache
        data = np.zeros((3, setup[3].size))
        data[1] = 1.0
        if kind < 3:
            room, scratch = _ALLOCATE_PAIR(grid[1], setup[3].size)
        else:
            room, scratch = _ALLOCATE_COMPOSED(grid, len(tolerance[4]), setup[7].shape[0], setup[3].size)
        for v in range(y.shape[0]):
            for m in range(y.shape[1]):
                variance = sigma[v, m] * sigma[v, m]
                data[0, m], data[1, m], data[2, m] = y[v, m], variance, weights[v, m] / variance
            if kind == 0:
                _INSIDE(data, setup, grid, limits, tolerance, room, scratch, out[v])
            elif kind == 1:
                _BOTH(data, setup, grid, limits, tolerance, room, scratch, out[v])
            elif kind == 2:
                _RICIAN(data, setup, grid, limits, tolerance, room, scratch, out[v])
            elif kind == 3:
                _COMPOSED(data, setup, grid, limits, tolerance, room, scratch, out[v])
            else:
                _COMPOSED_RICIAN(data, setup, grid, limits, tolerance, room, scratch, out[v])

    return fit_voxels


_INSIDE, _BOTH, _RICIAN = kernels._INSIDE, kernels._BOTH, kernels._RICIAN
_COMPOSED, _COMPOSED_RICIAN = kernels._COMPOSED, kernels._COMPOSED_RICIAN
_ALLOCATE_PAIR, _ALLOCATE_COMPOSED = kernels._allocate_pair, kernels._allocate_composed
_SOURCES = source_hash(__file__, "kernels", "box_qp", "composed", "objective", "starts")
_KERNELS = tuple(_compile(_SOURCES, kind) for kind in range(5))


def fit_weighted(
    kind: int, rest: tuple[Any, ...], y: FloatArray, sigma: FloatArray, weights: FloatArray, out: FloatArray
) -> None:
    """Fit voxels, (V, M), into out, (V, N_OUT), as the kernel of `kernels.FIT_VOXELS` of this kind does."""
    _KERNELS[kind](y, sigma, weights, *rest, out)
