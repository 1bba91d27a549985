"""Diffusion images on disk, read volume by volume, and only the voxels that are wanted."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Pair

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.budget import require_memory
from histomri.core.errors import GeometryError, InputError
from histomri.core.nifti import open_nifti, read_volumes, read_voxels
from histomri.core.progress import Progress, share_of

_SHIFT = 0.1


@dataclass(frozen=True)
class DwiFile:
    """A series of diffusion images whose voxels stay on disk until asked for; the affine leads to RAS+ mm."""

    path: Path
    shape: tuple[int, int, int, int]
    affine: FloatArray
    _image: Any

    @property
    def warnings(self) -> tuple[str, ...]:
        """Faults of the header."""
        header = self._image.header
        if not isinstance(self._image, Nifti1Pair) or header["sform_code"] or header["qform_code"]:
            return ()
        return (
            f"{self.path.name}: the header has neither sform nor qform, so where the images lie in the world and "
            "which way they face is unknown; maps keep the place that readers assume",
        )

    def read(self, mask: BoolArray, progress: Progress | None = None) -> FloatArray:
        """Read the voxels of a mask (I, J, K), in the order of ``mask.nonzero()``: (V, M) float32.

        Memory is that of the result and of one volume. InputError if the file is cut short or damaged.
        """
        wanted = np.flatnonzero(mask)
        require_memory(4 * wanted.size * self.shape[3], self.path, "array of its voxels")
        signals = np.empty((wanted.size, self.shape[3]), dtype=np.float32)
        for volume, voxels in enumerate(read_volumes(self._image, self.path)):
            signals[:, volume] = voxels.ravel()[wanted]
            share_of(progress)((volume + 1) / self.shape[3])
        return signals

    def read_mask(self, path: str | Path | None) -> BoolArray:
        """Read a mask on the same grid, (I, J, K) of bool, which may not be empty; without a path, every voxel."""
        if path is None:
            return np.ones(self.shape[:3], dtype=bool)
        inside = np.asarray(np.nan_to_num(self.read_map(path), nan=0.0) > 0)
        if not inside.any():
            raise InputError("the mask is empty: no voxel is above 0", path=path, hint="give a mask of the tissue")
        return inside

    def read_map(self, path: str | Path) -> FloatArray:
        """Read a map on the same grid, (I, J, K)."""
        image = self.open_map(path)
        return read_voxels(image, path).reshape(self.shape[:3])

    def open_map(self, path: str | Path) -> Any:
        """Open a map without its voxels; GeometryError if its shape or its place in the world differs."""
        image = open_nifti(path)
        shape = tuple(image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        shape += (1,) * (3 - len(shape))
        hint = "resample it to the grid of the diffusion images"
        if shape != self.shape[:3]:
            problem = f"has {_times(image.shape)} voxels, and {self.path.name} has {_times(self.shape[:3])}"
            raise GeometryError(problem, path=path, hint=hint)
        off = _farthest_shift(np.asarray(image.affine, dtype=float), self.affine, self.shape[:3])
        if not off <= _SHIFT * np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)).min():
            problem = f"lies up to {off:.3g} mm from {self.path.name}, though the shapes agree"
            raise GeometryError(problem, path=path, hint=f"{hint}, or mend its header")
        return image


def open_dwi(path: str | Path) -> DwiFile:
    """Open a series of diffusion images without its voxels; InputError if it is no 4D NIfTI file of real numbers."""
    image = open_nifti(path)
    shape = tuple(int(n) for n in image.shape)
    if len(shape) != 4:
        problem = f"has {len(shape)} axes ({_times(shape)}), and a 4D series of diffusion images was expected"
        raise InputError(problem, path=path, hint="give all volumes in one 4D NIfTI file")
    if 0 in shape or image.get_data_dtype().kind not in "iuf":
        raise InputError("holds no real-valued voxels", path=path, hint="give magnitude images")
    affine = np.asarray(image.affine, dtype=float)
    if not np.all(np.isfinite(affine)) or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise GeometryError("the affine cannot be inverted", path=path, hint="mend the header of the image")
    return DwiFile(Path(path), (shape[0], shape[1], shape[2], shape[3]), affine, image)


def _farthest_shift(one: FloatArray, other: FloatArray, shape: tuple[int, ...]) -> float:
    """Return the largest distance between the same corner voxel in two worlds, mm."""
    corners = np.array([[*corner, 1.0] for corner in product(*((0, n - 1) for n in shape))])
    return float(np.max(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1)))


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
