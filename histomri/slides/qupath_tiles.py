"""Maps as tiles that QuPath lays on the slide.

A slide's world is that of its maps: x and y in mm are those in µm, divided by -1000. A map of the section lies in that
world; an MRI lies in its own, and a function carries its points into that of the section.
"""

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray, IntArray
from histomri.core.calibration import PixelSize, check_pixel_size, read_slide_record, settle_pixel_size
from histomri.core.display import Displayed
from histomri.core.errors import GeometryError, InputError, UnitError
from histomri.core.files import atomic_path, provenance
from histomri.core.images import Image, parse_map_name, read_sidecar
from histomri.slides.openers import open_slide

_CHUNK = 20_000
# As qupath_scripts/show_histomri_results.groovy reads them, which turns them into QuPath's way of writing.
_UNITS = {"um": "um", "um^2": "um2", "um^2/ms": "um2_ms", "mm^-2": "mm2", "mm^-3": "mm3", "ms": "ms"}
_KNOWN = ("vCS", "aCS", "sdCS", "skewCS", "F", "fI", "CD", "CDvol", "D0I", "DEinf", "beta", "T2T", "ADC", "K")
_SIDES = {"histo": "Histology", "mri": "MRI"}
_IN_QUPATH = {"um": "µm", "um2": "µm^2", "um2_ms": "µm^2/ms", "mm2": "1/mm^2", "mm3": "1/mm^3", "ms": "ms"}
_SAME_GRID_MM = 1e-4
_SMALL_TILE_PX = 4.0
_ROUNDED_PX = 0.01  # coordinates are written so exactly; tiles that overlap the slide by less only touch it
_LEAST_COSINE = 0.5  # of 60 degrees: a section that stands steeper on the slices is a wrong transform
_TILE = (
    '{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[CORNERS]]},'
    '"properties":{"objectType":"tile","measurements":{MEASURED}}}'
)
_CORNERS = ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5))


@dataclass(frozen=True, repr=False)
class SlideTiles(Displayed):
    """Tiles on a slide with the measurements of maps."""

    corners_px: FloatArray  # (N, 4, 2): in pixels of the full-resolution slide, x first
    values: FloatArray  # (N, M): measurements, NaN where there is none
    names: tuple[str, ...]  # of the M measurements
    pixel_size_um: PixelSize  # (x, y)
    n_empty: int = 0  # voxels without a value, which are left out
    n_beside: int = 0  # tiles beside the slide, which are left out, too
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.corners_px)

    def facts(self) -> dict[str, Any]:
        """Return the facts that `repr` shows."""
        return {"tiles": f"{len(self):,}", "measurements": ", ".join(self.names), "beside the slide": self.n_beside}

    def messages(self) -> tuple[str, ...]:
        """Return a line for the user."""
        beside = f", {self.n_beside:,} beside the slide" if self.n_beside else ""
        left_out = f"left out: {self.n_empty:,} without a value{beside}"
        return (f"{len(self):,} tiles with {', '.join(self.names)}; {left_out}",)

    def save(self, path: str | Path, *, sources: Iterable[str | Path] = ()) -> list[Path]:
        """Write the tiles as GeoJSON (.geojson or .geojson.gz) for QuPath, atomically."""
        path, size = Path(path), self.pixel_size_um
        note = {"Units": "px", "PixelSize_um": size, "Measurements": list(self.names), **provenance(sources)}
        head = '{"type":"FeatureCollection","histomri":' + json.dumps(note, ensure_ascii=False) + ',"features":[\n'
        with ExitStack() as files:
            target: Any = files.enter_context(files.enter_context(atomic_path(path)).open("wb"))
            if path.name.lower().endswith(".gz"):
                target = files.enter_context(gzip.GzipFile(filename="", fileobj=target, mode="wb", mtime=0))
            target.write(head.encode())
            for number, text in enumerate(self._features()):
                target.write(((",\n" if number else "") + text).encode())
            target.write(b"\n]}\n")
        return [path]

    def _features(self) -> Iterator[str]:
        """Yield the features in pieces; tiles that lack the same measurements are written with one format."""
        ring = np.concatenate([self.corners_px, self.corners_px[:, :1]], axis=1).reshape(len(self), 10)
        known = np.isfinite(self.values)
        for start in range(0, len(self), _CHUNK):
            part = slice(start, start + _CHUNK)
            patterns, which = np.unique(known[part], axis=0, return_inverse=True)
            for number, pattern in enumerate(patterns):
                rows = np.flatnonzero(which.ravel() == number)
                names = [json.dumps(name, ensure_ascii=False) for name, there in zip(self.names, pattern) if there]
                # A % in a name would be taken for a place to fill in.
                measured = ",".join(name.replace("%", "%%") + ":%.7g" for name in names)
                template = _TILE.replace("CORNERS", ",".join(["[%.2f,%.2f]"] * 5)).replace("MEASURED", measured)
                numbers = np.concatenate([ring[part][rows], self.values[part][rows][:, pattern]], axis=1)
                yield ",\n".join([template] * len(rows)) % tuple(numbers.ravel().tolist())


def section_tiles(
    maps: Mapping[str, Image], pixel_size_um: float | PixelSize, *, size_px: tuple[int, int] | None = None,
    to_section: Callable[[FloatArray], FloatArray] | None = None,
) -> SlideTiles:  # fmt: skip
    """Return the voxels that the section passes through as tiles of its slide.

    Parameters
    ----------
    maps : mapping of str to Image
        Maps of one grid by the name of the measurement; see `load_measurements`.
    pixel_size_um, size_px : float or (x, y); (width, height), optional
        Of the full-resolution slide; tiles beside it are left out.
    to_section : callable, optional
        Carries points (N, 3) mm from the world of the maps to that of the section, such as
        ``transform.inverse().points``; not needed for maps of the section itself.

    Raises
    ------
    GeometryError
        If the section passes through no voxel that has a value, stands across the slices, or no tile lies on the slide.
    UnitError
        If tiles would be smaller than a pixel.
    """
    size = check_pixel_size(pixel_size_um)
    assert size is not None  # it is required
    corners_um, index, n_empty = _cut_voxels(list(maps.values()), to_section or (lambda points: points))
    values = np.stack([_volume(image)[tuple(index.T)] for image in maps.values()], axis=1).astype(float)
    corners = corners_um / np.asarray(size)
    warnings = _check_size(corners, size)
    # By their bounding boxes, as is good enough for tiles.
    low, high = corners.min(axis=1), corners.max(axis=1)
    end = np.inf if size_px is None else np.asarray(size_px) - _ROUNDED_PX
    inside = (high > _ROUNDED_PX).all(axis=1) & (low < end).all(axis=1)
    if not inside.any():
        (low_x, low_y), (high_x, high_y) = low.min(axis=0), high.max(axis=0)
        span = f"they span x {low_x:.0f} to {high_x:.0f} and y {low_y:.0f} to {high_y:.0f} px"
        hint = "check the pixel size and --xfm" if to_section else "check the pixel size; pass --xfm for an MRI map"
        raise GeometryError(f"none of {len(corners):,} tiles lies on the slide: {span}", hint=hint)
    beside = int(np.count_nonzero(~inside))
    if beside > len(inside) - beside:
        warnings += (f"{beside:,} of {len(inside):,} tiles lie beside the slide: is it the right one?",)
    return SlideTiles(corners[inside], values[inside], tuple(maps), size, n_empty, beside, warnings)


def load_measurements(paths: Sequence[str | Path], *, moved: bool = False) -> dict[str, Image]:
    """Load maps (NIfTI) of one grid, each under a name for QuPath, such as ``vCS_mri_um``.

    `moved` says whether a transform leads from the section to the maps: those of the section need none, those of an
    MRI do. Raises InputError if a map cannot be read, lies in the wrong world, or two would have one name, and
    GeometryError if the maps are not of one grid.
    """
    if not paths:
        raise InputError("no map was given")
    loaded = [_Map(Path(path), Image.load(path), parse_map_name(Path(path).name), read_sidecar(path)) for path in paths]
    first = loaded[0]
    hint = "maps of one grid share tiles; write the others into another file"
    for item in loaded:
        if item.image.data.shape != first.image.data.shape:
            shapes = [" x ".join(map(str, one.image.data.shape)) for one in (item, first)]
            problem = f"has {shapes[0]} voxels, and {first.path.name} has {shapes[1]}"
            raise GeometryError(problem, path=item.path, hint=hint)
        if not np.allclose(item.image.affine, first.image.affine, atol=_SAME_GRID_MM, rtol=0):
            problem = f"lies elsewhere than {first.path.name}: their affines differ"
            raise GeometryError(problem, path=item.path, hint=hint)
        _check_world(item, moved)
    return dict(zip(_measurement_names(loaded), (item.image for item in loaded)))


def slide_calibration(
    slide: Path | None, mpp: float | PixelSize | None = None
) -> tuple[PixelSize, tuple[int, int] | None, str]:
    """Return pixel size, size in pixels if it is known, and the source of the pixel size.

    `slide` is a slide or the ``.histomri.json`` of its export.
    """
    given, size_px = check_pixel_size(mpp), None
    sources = [("--mpp", given)]
    if slide is not None and str(slide).lower().endswith(".json"):
        record = read_slide_record(slide)
        size_px = record.size_px
        sources.append((record.path.name, record.pixel_size_um))
    elif slide is not None:
        with open_slide(slide, mpp=given) as opened:
            size_px = opened.size_px
            sources.append((slide.name, opened.pixel_size_um))
    size, source = settle_pixel_size(sources, slide or "slide")
    if size is None:
        problem = "QuPath's coordinates are pixels, and the pixel size of the slide is not known"
        hint = "pass --mpp in µm per pixel, or --slide with the slide or its .histomri.json"
        raise UnitError(problem, path=slide, hint=hint)
    return size, size_px, source


@dataclass(frozen=True)
class _Map:
    path: Path
    image: Image
    entities: dict[str, str]
    sidecar: dict[str, Any]

    @property
    def of_section(self) -> bool:
        """Whether it lies in the world of the slide, by its name and its affine."""
        affine = self.image.affine
        patches = not affine[0, 0] and not affine[1, 1] and affine[0, 1] < 0 and affine[1, 0] < 0
        return self.entities.get("suffix") == "histomap" and "space" not in self.entities and bool(patches)

    @property
    def plain_name(self) -> str:
        quantity = self.entities.get("param") or re.sub(r"\.nii(\.gz)?$", "", self.path.name)
        if "param" not in self.entities or quantity not in _KNOWN:
            return quantity
        side = {"histomap": "histo", "dwimap": "mri"}[self.entities["suffix"]]
        unit = _UNITS.get(str(self.sidecar.get("Units")))
        return "_".join(part for part in (quantity, side, unit) if part)


def _check_world(item: _Map, moved: bool) -> None:
    if moved and item.of_section:
        hint = "leave out --xfm"
        raise InputError("is a map of the section itself, which needs no transform", path=item.path, hint=hint)
    space = item.entities.get("space")
    elsewhere = space not in (None, "histo")
    if not moved and (elsewhere or item.entities.get("suffix") == "dwimap"):
        kind = f"lies in the space {space}" if elsewhere else "is an MRI map"
        hint = "pass the transform of `histomri register`, --xfm"
        raise InputError(f"{kind}, and where the section lies in it is not known", path=item.path, hint=hint)


def _check_size(corners: FloatArray, size: PixelSize) -> tuple[str, ...]:
    """Refuse tiles within a pixel; warn of small ones, which a photograph of the section may have."""
    edge = float(np.median(np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)))
    text = f"px wide with pixels of {size[0]:g} x {size[1]:g} µm"
    if edge < 1:
        hint = "pass the pixel size of the full-resolution slide in µm, such as --mpp 0.25"
        raise UnitError(f"the tiles would be {edge:.2g} {text}", hint=hint)
    return (f"the tiles are {edge:.2g} {text}: is the pixel size in µm?",) if edge < _SMALL_TILE_PX else ()


def _volume(image: Image) -> FloatArray:
    return image.data[..., None] if image.data.ndim == 2 else image.data


def _cut_voxels(
    images: Sequence[Image], to_section: Callable[[FloatArray], FloatArray]
) -> tuple[FloatArray, IntArray, int]:
    """Return the voxels with a value that the plane of the section passes through, as it cuts them.

    The plane of the section is z = 0 of its world. Each voxel is a column between its two faces across the third axis;
    the tile's corners are where the plane meets the four edges of that column. Of two voxels that share a face in the
    plane, one is taken. The result is corners in µm of the slide (N, 4, 2), the voxel of each (N, 3), and how many
    have none.
    """
    known = np.any([np.isfinite(_volume(image)) for image in images], axis=0)
    index = np.argwhere(known)
    if not len(index):
        raise InputError("the map holds no value: all of it is background")
    affine = images[0].affine

    def place(voxels: FloatArray) -> FloatArray:
        return to_section(voxels @ affine[:3, :3].T + affine[:3, 3])

    near, far = (place(index + np.array([0, 0, step])) for step in (-0.5, 0.5))
    crossed = (near[:, 2] < 0) != (far[:, 2] < 0)
    hint = "check that the transform belongs to this map"
    if not crossed.any():
        ends = np.concatenate([near[:, 2], far[:, 2]])
        where = f"they lie {ends.min():.2f} to {ends.max():.2f} mm from it"
        raise GeometryError(f"the section does not pass through a voxel that has a value: {where}", hint=hint)
    chosen, along = index[crossed], (far - near)[crossed]
    if (np.abs(along[:, 2]) < _LEAST_COSINE * np.linalg.norm(along, axis=1)).any():
        raise GeometryError("the section stands across the slices of the map, in place of lying in one", hint=hint)

    def cut(edge: FloatArray) -> FloatArray:
        """Return where the lines along the third axis meet the section, (N, 2) µm."""
        near, far = (place(edge + np.array([0, 0, step])) for step in (-0.5, 0.5))
        fraction = near[:, 2] / (near[:, 2] - far[:, 2])
        point = near + fraction[:, None] * (far - near)
        return np.asarray(point[:, :2] * -1000)

    corners = np.stack([cut(chosen + np.array([i, j, 0.0])) for i, j in _CORNERS], axis=1)
    return corners, chosen, known.shape[0] * known.shape[1] - len(chosen)


def _measurement_names(maps: Sequence[_Map]) -> list[str]:
    """Return a name per map, such as vCS_mri_um; with marks that distinguish several maps of one quantity."""
    plain = [item.plain_name for item in maps]
    names: list[str] = []
    for item, name in zip(maps, plain):
        marks = [item.entities[key] for key in ("stat", "desc") if key in item.entities]
        others = [one for one, other in zip(maps, plain) if other == name and one is not item]
        for key in ("model", "sub"):
            if any(one.entities.get(key) != item.entities.get(key) for one in others):
                marks.append(item.entities.get(key, "-"))
        if any(one.sidecar.get("Strategy") != item.sidecar.get("Strategy") for one in others):
            marks.append(str(item.sidecar.get("Strategy")))
        full = f"{_friendly(name)} ({', '.join(marks)})" if marks else name
        if full in names:
            hint = "write it into another file, or rename it"
            raise InputError(f"would be the second measurement called {full}", path=item.path, hint=hint)
        names.append(full)
    return names


def _friendly(name: str) -> str:
    """Return a plain name as QuPath writes names; the script leaves those with marks alone."""
    quantity, _, rest = name.partition("_")
    side, _, unit = rest.partition("_")
    parts = [_SIDES.get(side, ""), quantity if side in _SIDES else name, _IN_QUPATH.get(unit, "")]
    return " ".join(part for part in parts if part)
