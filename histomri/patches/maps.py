"""The maps of one slide, in memory and as files."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely

from histomri.core.array_files import as_numbers
from histomri.core.arrays import FloatArray
from histomri.core.columns import column_of, unit_text
from histomri.core.display import Displayed
from histomri.core.door import reading
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import (
    HISTOLOGY_MAPS,
    PAPER,
    PAPER_UNCORRECTED,
    STATS,
    Image,
    map_name,
    parse_map_name,
    read_sidecar,
    sidecar_path,
    write_map,
)
from histomri.core.spatial import to_spatialdata
from histomri.patches.grid import PatchGrid

SHARED = ("nCells", "tissueFraction")  # the same as published and in 3D
_AGAIN = "make it again with `histomri patches`"


@dataclass(frozen=True, repr=False)
class PatchMaps(Displayed):
    """Maps of one slide; every array has the shape of the grid, background is NaN.

    The corrected maps are vCS, aCS, sdCS (µm), skewCS, F (1), CD (1/mm²), CDvol (1/mm³), nCells and tissueFraction.
    Where cells were measured in three dimensions, they are those of `add_volume_maps`, and `paper` holds the former:
    one name then never means two things.
    """

    maps: dict[str, FloatArray]  # corrected
    uncorrected: dict[str, FloatArray]  # as measured on the slide, without those that no correction touches
    grid: PatchGrid  # where the patches lie
    parameters: dict[str, Any] = field(default_factory=dict)  # choices made, for the sidecars
    warnings: tuple[str, ...] = ()  # reasons to trust the maps less
    errors: dict[str, FloatArray] = field(default_factory=dict)  # standard errors of corrected vCS, F, CD; may be empty
    systematic: dict[str, FloatArray] = field(default_factory=dict)  # errors common to all patches, of maps in 3D
    meanings: dict[str, str] = field(default_factory=dict)  # of maps whose name alone does not say it
    paper: "PatchMaps | None" = None  # the maps of profiles, as published, where the others are of cells in 3D

    def __post_init__(self) -> None:
        for name, ending, values in self._all():
            if name not in HISTOLOGY_MAPS:
                raise InputError(f"{name!r} is no histology map; they are {', '.join(HISTOLOGY_MAPS)}")
            if np.shape(values) != self.grid.shape:
                kind = {"": "maps", "_se": "errors", "_syst": "systematic"}.get(ending, ending.strip("_"))
                raise GeometryError(f"{kind}[{name!r}] has shape {np.shape(values)}, its grid {self.grid.shape}")

    def facts(self) -> dict[str, Any]:
        """Return the facts that `repr` shows."""
        rows, columns = self.grid.shape
        facts = {"patches": f"{rows} x {columns} of {self.grid.window_um[0]:.4g} x {self.grid.window_um[1]:.4g} µm"}
        for name in ("vCS", "F", "CD", "vCSvol", "Dvol", "nucleiNV", "cellNV"):
            if name in self.maps and np.isfinite(self.maps[name]).any():
                facts[f"median {name}"] = f"{np.nanmedian(self.maps[name]):.3g}{unit_text(column_of(name, 'histo'))}"
        return facts

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per patch, row by row: centre (µm), maps, their errors (``_se``), and the uncorrected maps.

        Columns of maps as published beside those in 3D end in ``_paper``.
        """
        row, column = np.indices(self.grid.shape).reshape(2, -1)
        centre = self.grid.centres_um().reshape(-1, 2)
        columns = {"row": row, "column": column, "x_um": centre[:, 0], "y_um": centre[:, 1]}
        columns |= {column_of(name, "histo") + ending: values.ravel() for name, ending, values in self._all()}
        return pd.DataFrame(columns)

    def _all(self) -> Iterator[tuple[str, str, FloatArray]]:
        """Yield every map: its name, an ending that says which kind it is, and its values."""
        groups = ((self.maps, ""), (self.errors, "_se"), (self.systematic, "_syst"), (self.uncorrected, "_uncorrected"))
        for maps, ending in groups:
            yield from ((name, ending, values) for name, values in maps.items())
        if self.paper is not None:
            published = self.paper._all()
            yield from ((name, f"{ending}_paper", values) for name, ending, values in published if name not in SHARED)

    def to_xarray(self) -> Any:
        """Return the maps as an `xarray.Dataset` over y and x (µm), with units; errors and uncorrected maps too.

        Needs the optional package: ``pip install 'histomri[notebook]'``.
        """
        try:
            from xarray import Dataset
        except ImportError as error:
            raise InputError("this needs the package xarray", hint="pip install 'histomri[notebook]'") from error
        centre = self.grid.centres_um()
        content = {}
        for name, ending, values in self._all():
            units, description = HISTOLOGY_MAPS[name][0], self._meaning(name, ending)
            content[name + ending] = ("y_um", "x_um"), values, {"units": units, "description": description}
        return Dataset(content, {"y_um": centre[:, 0, 1], "x_um": centre[0, :, 0]}, dict(self.parameters))

    def to_spatialdata(self, name: str = "patches") -> Any:
        """Return the patches as squares of a `spatialdata.SpatialData`, in µm, with the columns of `to_pandas`."""
        left, right, top, bottom = self.grid.edges_um
        boxes = shapely.box(left[None, :], top[:, None], right[None, :], bottom[:, None])
        return to_spatialdata({name: (boxes.ravel(), self.to_pandas())})

    def plot(self, name: str = "vCS", axes: Any = None, **options: Any) -> Any:
        """Draw a map with the slide's x to the right and y down; `options` go to imshow. Return the Axes."""
        from matplotlib import pyplot

        if name not in self.maps:
            raise InputError(f"there is no map of {name}", hint=f"take one of {', '.join(self.maps)}, or maps.paper")
        left, top, right, bottom = self.grid.bounds_um
        axes = axes if axes is not None else pyplot.subplots()[1]
        shown = axes.imshow(self.maps[name], extent=(left, right, bottom, top), **options)
        axes.figure.colorbar(shown, ax=axes, label=f"{name}{unit_text(column_of(name, 'histo'))}")
        axes.set(xlabel="x (µm)", ylabel="y (µm)", title=self._meaning(name))
        return axes

    def image(self, name: str) -> Image:
        """Return a corrected map with its affine."""
        return Image(self.maps[name], self.grid.affine)

    def _meaning(self, name: str, ending: str = "") -> str:
        own = self.paper if self.paper is not None and ending.endswith("_paper") else self
        return own.meanings.get(name, HISTOLOGY_MAPS[name][1])

    def save(self, folder: str | Path, sub: str | None = None, *, sources: Iterable[str | Path] = ()) -> list[Path]:
        """Write a NIfTI and a sidecar per map; return their paths.

        They are named ``sub-X_param-vCS_histomap.nii.gz`` and so on; those of `paper`
        ``sub-X_param-vCS_desc-paper_histomap.nii.gz``.
        """
        sources, written = tuple(sources), []
        for path, values, about in self._files(Path(folder), sub):
            written += write_map(path, values, self.grid.affine, sources=sources, **about)
        return written

    def paths(self, folder: str | Path, sub: str | None = None) -> list[Path]:
        """Return the paths of the NIfTI files that `save` would write."""
        return [path for path, _, _ in self._files(Path(folder), sub)]

    def _files(self, folder: Path, sub: str | None, desc: str | None = None) -> Iterator[tuple[Path, FloatArray, Any]]:
        """Yield the path of each map, its values, and what its sidecar says."""
        raw = "uncorrected" if desc is None else PAPER_UNCORRECTED
        groups = ((self.maps, None, desc), (self.uncorrected, None, raw), (self.errors, "se", desc),
                  (self.systematic, "syst", desc))  # fmt: skip
        for maps, stat, which in groups:
            for name, values in maps.items():
                if desc is not None and name in SHARED:
                    continue
                about = {"parameters": self.parameters, "Warnings": list(self.warnings), "Corrected": which != raw}
                if name in self.meanings:
                    about["Description"] = STATS.get(stat or "", "") + self.meanings[name]
                yield folder / map_name(name, "histomap", sub=sub, stat=stat, desc=which), values, about
        if self.paper is not None:
            yield from self.paper._files(folder, sub, PAPER)

    @classmethod
    def load(cls, folder: str | Path, sub: str | None = None) -> "PatchMaps":
        """Read the maps that `save` wrote; `sub` says which sample, if the folder holds several."""
        folder = Path(folder)
        found = {path: parse_map_name(path.name) for path in sorted(folder.glob("*_histomap.nii.gz"))}
        whole = {path: words for path, words in found.items() if words and "label" not in words}  # not of one class
        names = {path: words for path, words in whole.items() if sub in (None, words.get("sub"))}
        subs = sorted({entities.get("sub", "") for entities in names.values()})
        if not names:
            raise InputError("holds no histology maps", path=folder, hint="make them with `histomri patches`")
        if len(subs) > 1:
            raise InputError(f"holds the maps of {', '.join(subs)}", path=folder, hint="pass the label of one, sub")
        groups: dict[tuple[str, str], dict[str, FloatArray]] = defaultdict(dict)
        meanings: dict[str, dict[str, str]] = defaultdict(dict)
        grid: PatchGrid | None = None
        for path, entities in names.items():
            values, own = _load_one(path)
            grid = grid or own
            if own.shape != grid.shape or not np.allclose(own.affine, grid.affine, atol=1e-5):
                raise GeometryError("is not on the grid of the other maps in its folder", path=path)
            desc, stat, name = entities.get("desc", ""), entities.get("stat", ""), entities["param"]
            groups[desc, stat][name] = values
            text = None if stat else read_sidecar(path).get("Description")
            if text not in (None, HISTOLOGY_MAPS.get(name, ("", ""))[1]):
                meanings[desc][name] = str(text)
        assert grid is not None  # names is not empty
        about = {desc: _about(names, desc, grid) for desc in ("", PAPER)}
        paper = None
        if groups[PAPER, ""]:
            parts = (groups[key] for key in ((PAPER, ""), (PAPER_UNCORRECTED, ""), (PAPER, "se")))
            published, raw, errors = parts
            published |= {name: groups["", ""][name] for name in SHARED if name in groups["", ""]}
            own, parameters, warnings = about[PAPER]
            paper = cls(published, raw, own, parameters, warnings, errors, {}, dict(meanings[PAPER]))
        own, parameters, warnings = about[""]
        errors, systematic = groups["", "se"], groups["", "syst"]
        return cls(
            groups["", ""], groups["uncorrected", ""], own, parameters, warnings, errors, systematic,
            dict(meanings[""]), paper,
        )  # fmt: skip


def _about(names: dict[Path, dict[str, str]], desc: str, grid: PatchGrid) -> tuple[PatchGrid, dict[str, Any], Any]:
    """Return the grid with its windows, the settings and the warnings of the maps of one kind."""
    first = next((path for path, entities in names.items() if entities.get("desc", "") == desc), next(iter(names)))
    record = read_sidecar(first)
    parameters, warnings = record.get("Parameters", {}), record.get("Warnings", [])
    if not isinstance(parameters, dict) or not isinstance(warnings, list):
        raise InputError("is no sidecar of a histology map", path=sidecar_path(first), hint=_AGAIN)
    own = _with_windows(grid, parameters.get("Window_um", grid.patch_um), first)
    return own, parameters, tuple(map(str, warnings))


def _with_windows(grid: PatchGrid, given: Any, path: Path) -> PatchGrid:
    """Return the grid with the size of its windows, which only the sidecar has: the affine has their distance."""
    with reading(path, "sidecar", _AGAIN, f"its sidecar gives windows of {str(given)[:40]} µm", GeometryError):
        width, height = as_numbers(given).reshape(2).tolist()
        # The affine holds the distance as millimetres in single precision.
        whole = np.allclose((width, height), grid.patch_um, rtol=1e-5)
        return grid if whole else replace(grid, window_um=(width, height))


def _load_one(path: Path) -> tuple[FloatArray, PatchGrid]:
    image = Image.load(path)
    data = np.asarray(image.data, dtype=float)
    if data.ndim != 2:
        raise GeometryError("is not a map of one section", path=path)
    try:
        return data, PatchGrid.from_affine(image.affine, (data.shape[0], data.shape[1]))
    except GeometryError as error:
        raise GeometryError(error.problem, path=path, hint=_AGAIN) from error
