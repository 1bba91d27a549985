"""A series of diffusion images with its protocol and mask, checked against each other; maps on its grid."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.display import Displayed
from histomri.core.errors import InputError, ProtocolError, UnitError
from histomri.core.images import write_map
from histomri.core.progress import Progress
from histomri.mri import Acquisition, DwiFile, open_dwi, read_acquisition


@dataclass(frozen=True, repr=False)
class Series(Displayed):
    """Images, protocol and mask that belong together.

    `inside`, (I, J, K) of bool, are the voxels of the mask, all without one; `protocol` and `mask` say where they are
    from. `excluded` are volumes that are left out of signals and acquisition, counted from 0.
    """

    images: DwiFile
    acquisition: Acquisition
    inside: BoolArray
    protocol: str | Path
    mask: str | Path | None
    excluded: tuple[int, ...] = ()

    @classmethod
    def open(
        cls, dwi: str | Path, protocol: str | Path, mask: str | Path | None = None, exclude: Iterable[int] = (),
        **reading: Any,
    ) -> "Series":  # fmt: skip
        """Open 4D images and read their protocol and mask, which must fit together.

        Volumes to exclude, counted from 0, are left out of both; InputError if there is none such, or none is left.
        `reading` are options of `read_acquisition`: a format, δ and Δ that the file does not say, or whether it has to.
        """
        acquisition = read_acquisition(protocol, dwi, **reading)
        images = open_dwi(dwi)
        excluded, count = tuple(sorted(set(exclude))), images.shape[3]
        _require_volumes(excluded, count, dwi)
        if excluded and len(acquisition) == count:
            acquisition = acquisition.select(~np.isin(np.arange(count), excluded))
        return cls(images, acquisition, images.read_mask(mask), protocol, mask, excluded)

    def check_volumes(self, numbers: Iterable[int]) -> "Series":
        """Return the series as it is; InputError if it lacks one of the volumes, or they are all."""
        _require_volumes(tuple(sorted(set(numbers))), self.images.shape[3], self.images.path)
        return self

    def within(self, region: BoolArray) -> "Series":
        """Return the series with the voxels of a region, (I, J, K), alone; InputError if none is in the mask."""
        inside = self.inside & region
        if not inside.any():
            raise InputError(f"no voxel of the regions lies{self.where}", path=self.mask, hint="check both images")
        return replace(self, inside=inside)

    @property
    def volumes(self) -> IntArray:
        """The number of each volume that is used, from 0, (M,)."""
        return np.setdiff1d(np.arange(self.images.shape[3]), self.excluded)

    @property
    def slices(self) -> IntArray:
        """The slice (third index, from 0) of each voxel of the mask, (V,)."""
        return np.asarray(self.inside.nonzero()[2])

    @property
    def sources(self) -> list[Path]:
        """The files it was read from."""
        return [Path(each) for each in (self.images.path, self.protocol, self.mask) if each is not None]

    def facts(self) -> dict[str, Any]:
        """Return what belongs together."""
        voxels = f"{int(self.inside.sum())} of {' x '.join(map(str, self.inside.shape))}"
        return {"images": self.images.path.name, "voxels": voxels, **self.acquisition.facts()}

    def read(self, progress: Progress | None = None) -> FloatArray:
        """Read the voxels of the mask, (V, M); InputError if no value is above 0."""
        signals = self.images.read(self.inside, progress)
        signals = signals[:, self.volumes] if self.excluded else signals
        with np.errstate(invalid="ignore"):
            empty = not np.any(signals > 0)
        if empty:
            what = "every value is NaN" if np.all(np.isnan(signals)) else "no value is above 0"
            hint = "check the images" + (", and that the mask lies on the tissue" if self.mask is not None else "")
            raise InputError(f"holds no signal{self.where}: {what}", path=self.images.path, hint=hint)
        return signals

    def read_values(self, path: str | Path | None) -> FloatArray | None:
        """Read a map for the voxels of the mask, (V,)."""
        return None if path is None else np.asarray(self.images.read_map(path)[self.inside])

    def read_positive(self, path: str | Path | None, name: str) -> FloatArray | None:
        """Read a map of S0, T2 (ms) or sigma for the voxels of the mask, (V,), some of which must be above 0."""
        values = self.read_values(path)
        if values is None:
            return None
        good = values[np.isfinite(values) & (values > 0)]
        if good.size == 0:
            problem = f"the map of {name} has no value above 0" + ("" if self.inside.all() else " inside the mask")
            raise InputError(problem, path=path, hint=f"give a map of {name} of the same tissue, or leave it out")
        if name == "T2" and good.max() < 1:
            hint = "give T2 in ms (it looks like seconds)"
            raise UnitError(f"T2 is at most {good.max():.3g}, too short for ms", path=path, hint=hint)
        return values

    @contextmanager
    def name_files(self) -> Iterator[None]:
        """Name the protocol, or else the images, in errors about them that do not say where they were found."""
        try:
            yield
        except InputError as error:
            if error.path is not None:
                raise
            path = self.protocol if isinstance(error, ProtocolError) else self.images.path
            raise type(error)(error.problem, path=path, hint=error.hint) from error

    def write(
        self, path: Path, values: FloatArray, *, parameters: dict[str, Any], sources: Iterable[Path] = (),
        **sidecar: Any,
    ) -> list[Path]:  # fmt: skip
        """Write values of the voxels of the mask, (V,) or (V, N), as a map; outside NaN, or 0 for exit codes."""
        outside = 0.0 if "_param-exit_" in f"_{path.name}" else np.nan
        grid = np.full((*self.inside.shape, *values.shape[1:]), outside, dtype=np.float32)
        grid[self.inside] = values
        every = [*self.sources, *sources]
        return write_map(path, grid, self.images.affine, sources=every, parameters=parameters, **sidecar)

    @property
    def where(self) -> str:
        """Words on the mask, for the end of a sentence."""
        return "" if self.mask is None else f" inside the mask {Path(self.mask).name}"


def _require_volumes(excluded: tuple[int, ...], count: int, dwi: str | Path) -> None:
    """Raise InputError for volumes to exclude, in their order, that are not there, or if none is left."""
    if excluded and not 0 <= excluded[0] <= excluded[-1] < count:
        wrong = next(volume for volume in excluded if not 0 <= volume < count)
        problem = f"there is no volume {wrong} to leave out: volumes run from 0 to {count - 1}"
        raise InputError(problem, path=dwi, hint="check --exclude-volumes")
    if len(excluded) == count:
        raise InputError("every volume is left out", path=dwi, hint="check --exclude-volumes")
