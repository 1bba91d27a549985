"""The stage `qupath_grid`: maps as tiles that QuPath lays on the slide.

A slide's world is that of its maps: x and y in mm are those in µm, divided by -1000. A map of the section lies in that
world; an MRI lies in its own, and the transform (section to MRI) is gone through backwards.
"""

import gzip
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import GeometryError, InputError, UnitError
from histomri.core.files import atomic_path, provenance
from histomri.core.images import Image, parse_map_name, read_sidecar
from histomri.registration import Transform
from histomri.slides import open_slide, read_slide_record, settle_pixel_size
from histomri.slides.calibration import check_pixel_size
from histomri.study.result import StepResult

_CHUNK = 20_000
# As qupath_scripts/show_histomri_results.groovy reads them, which turns them into QuPath's way of writing.
_UNITS = {"um": "um", "um^2": "um2", "um^2/ms": "um2_ms", "mm^-2": "mm2", "mm^-3": "mm3", "ms": "ms"}
_KNOWN = ("vCS", "aCS", "sdCS", "skewCS", "F", "fI", "CD", "CDvol", "D0I", "DEinf", "beta", "T2T", "ADC", "K")
_SIDES = {"histo": "Histology", "mri": "MRI"}
_IN_QUPATH = {"um": "µm", "um2": "µm^2", "um2_ms": "µm^2/ms", "mm2": "1/mm^2", "mm3": "1/mm^3", "ms": "ms"}
_SAME_GRID_MM = 1e-4
_SMALL_TILE_PX = 4.0
_ROUNDED_PX = 0.01  # coordinates are written so exactly; tiles that overlap the slide by less only touch it
# Cosine of 60 degrees: a section that stands steeper on the slices is a wrong transform.
_LEAST_COSINE = 0.5


@dataclass(frozen=True)
class _Map:
    path: Path
    image: Image
    entities: dict[str, str]
    sidecar: dict[str, Any]

    @property
    def of_section(self) -> bool:
        """Whether it lies in the world of the slide, as far as its name and its affine tell."""
        affine = self.image.affine
        patches = not affine[0, 0] and not affine[1, 1] and affine[0, 1] < 0 and affine[1, 0] < 0
        return self.entities.get("suffix") == "histomap" and "space" not in self.entities and bool(patches)


@dataclass(frozen=True)
class _Tiles:
    """Corners in µm of the slide, (N, 4, 2), and the voxel that each tile is, (N, 3)."""

    corners_um: FloatArray
    index: IntArray
    n_empty: int


def run_qupath_grid(
    maps: Sequence[Path],
    out: Path,
    *,
    mpp: float | tuple[float, float] | None = None,
    slide: Path | None = None,
    xfm: Path | None = None,
) -> StepResult:
    """Write maps of one grid as GeoJSON tiles, a measurement per map, in pixels of the full-resolution slide.

    Parameters
    ----------
    maps : sequence of Path
        NIfTI maps with one shape and one affine.
    out : Path
        File to write, .geojson or .geojson.gz.
    mpp : float or (x, y), optional
        Pixel size of the slide in µm.
    slide : Path, optional
        The slide, or its ``<image>.histomri.json``: tells pixel size and size; tiles beside the slide are left out.
    xfm : Path, optional
        Transform from the section to the MRI, if the maps are of the MRI.

    Raises
    ------
    InputError
        If an input cannot be used; nothing is written then.
    """
    out = Path(out)
    if not out.name.lower().endswith((".geojson", ".geojson.gz", ".json", ".json.gz")):
        raise InputError("the tiles are GeoJSON", path=out, hint="let --out end in .geojson or .geojson.gz")
    if out.is_dir():
        raise InputError("is a folder, and the tiles are a file", path=out)
    loaded = _load([Path(path) for path in maps])
    _check_world(loaded, xfm)
    size, extent, told_by = _calibration(mpp, slide)
    transform = Transform.identity() if xfm is None else Transform.load(xfm)
    tiles = _tiles(loaded, transform)
    names = _measurement_names(loaded)
    values = np.stack([_volume(item.image)[tuple(tiles.index.T)] for item in loaded], axis=1).astype(float)
    corners = tiles.corners_um / np.asarray(size)
    notes = _check_tiles(corners, size, loaded[0].path)
    inside = _on_slide(corners, extent)
    if not inside.any():
        span = corners.reshape(-1, 2)
        raise GeometryError(
            f"none of {len(corners):,} tiles lies on the slide: they span x {span[:, 0].min():.0f} to "
            f"{span[:, 0].max():.0f} and y {span[:, 1].min():.0f} to {span[:, 1].max():.0f} px",
            path=loaded[0].path,
            hint="check the pixel size" + (", or pass --xfm if it is an MRI map" if xfm is None else " and --xfm"),
        )
    corners, values = corners[inside], values[inside]
    note = {
        "Units": "px",
        "PixelSize_um": size,
        "Measurements": names,
        **provenance([*maps, *([xfm] if xfm else [])]),
    }
    _write(out, corners, values, names, note)
    beside = int(np.count_nonzero(~inside))
    lines = (
        f"{len(corners):,} tiles with {', '.join(names)}; left out: {tiles.n_empty:,} without a value"
        + (f", {beside:,} beside the slide" if beside else ""),
        f"pixel size {size[0]:.4g} x {size[1]:.4g} µm by {told_by}",
        "put it into the folder histomri_results of the QuPath project, or pass it to show_histomri_results.groovy",
    )
    few = beside > len(corners)
    doubts = (f"{beside:,} of {len(inside):,} tiles lie beside the slide: is it the right one?",) if few else ()
    summary = {"n_tiles": len(corners), "n_empty": tiles.n_empty, "n_beside": beside, "measurements": names}
    return StepResult((out,), lines, (*notes, *doubts), summary)


def _load(paths: Sequence[Path]) -> list[_Map]:
    if not paths:
        raise InputError("no map was given")
    loaded = [_Map(path, Image.load(path), parse_map_name(path.name), read_sidecar(path)) for path in paths]
    first = loaded[0]
    for item in loaded[1:]:
        if item.image.data.shape != first.image.data.shape:
            shapes = [" x ".join(map(str, one.image.data.shape)) for one in (item, first)]
            raise GeometryError(
                f"has {shapes[0]} voxels, and {first.path.name} has {shapes[1]}",
                path=item.path,
                hint="maps of one grid share tiles; write the others into another file",
            )
        if not np.allclose(item.image.affine, first.image.affine, atol=_SAME_GRID_MM, rtol=0):
            raise GeometryError(
                f"lies elsewhere than {first.path.name}: their affines differ",
                path=item.path,
                hint="maps of one grid share tiles; write the others into another file",
            )
    return loaded


def _check_world(maps: Sequence[_Map], xfm: Path | None) -> None:
    for item in maps:
        if xfm is not None and item.of_section:
            raise InputError(
                "is a map of the section itself, which needs no transform", path=item.path, hint="leave out --xfm"
            )
        elsewhere = item.entities.get("space") not in (None, "histo")
        if xfm is None and (elsewhere or item.entities.get("suffix") == "dwimap"):
            raise InputError(
                f"lies in the space {item.entities['space']}, and where the section lies in it is not known"
                if elsewhere
                else "is an MRI map, and where the section lies in it is not known",
                path=item.path,
                hint="pass the transform of `histomri register`, --xfm",
            )


def _check_tiles(corners: FloatArray, size: tuple[float, float], path: Path) -> tuple[str, ...]:
    """Refuse tiles within a pixel; tell small ones, which a photograph of the section may have."""
    edge = float(np.median(np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)))
    words = f"px wide with pixels of {size[0]:g} x {size[1]:g} µm"
    if edge < 1:
        hint = "pass the pixel size of the full-resolution slide in µm, such as --mpp 0.25"
        raise UnitError(f"its tiles would be {edge:.2g} {words}", path=path, hint=hint)
    return (f"the tiles are {edge:.2g} {words}: is the pixel size in µm?",) if edge < _SMALL_TILE_PX else ()


def _calibration(
    mpp: float | tuple[float, float] | None, slide: Path | None
) -> tuple[tuple[float, float], tuple[int, int] | None, str]:
    """Return pixel size, size of the slide in pixels if known, and who told the pixel size."""
    given, extent = check_pixel_size(mpp), None
    sources = [("--mpp", given)]
    if slide is not None and str(slide).lower().endswith(".json"):
        record = read_slide_record(slide)
        extent = record.size_px
        sources.append((record.path.name, record.pixel_size_um))
    elif slide is not None:
        with open_slide(slide, mpp=given) as opened:
            extent = opened.size_px
            sources.append((slide.name, opened.pixel_size_um))
    size, told_by = settle_pixel_size(sources, slide or "slide")
    if size is None:
        raise UnitError(
            "QuPath's coordinates are pixels, and the pixel size of the slide is not known",
            path=slide,
            hint="pass --mpp in µm per pixel, or --slide with the slide or its .histomri.json",
        )
    return size, extent, told_by


def _volume(image: Image) -> FloatArray:
    return image.data[..., None] if image.data.ndim == 2 else image.data


def _tiles(maps: Sequence[_Map], transform: Transform) -> _Tiles:
    """Return the voxels with a value that the plane of the section passes through, as it cuts them.

    The plane of the section is z = 0 of its world. Each voxel is a column between its two faces across the third axis;
    the tile's corners are where the plane meets the four edges of that column. Of two voxels that share a face in the
    plane, one is taken.
    """
    known = np.any([np.isfinite(_volume(item.image)) for item in maps], axis=0)
    index = np.argwhere(known)
    if not len(index):
        raise InputError("holds no value: all of it is background", path=maps[0].path)
    affine, back = maps[0].image.affine, transform.inverse()
    near, far = (_to_slide(index + np.array([0, 0, step]), affine, back) for step in (-0.5, 0.5))
    crossed = (near[:, 2] < 0) != (far[:, 2] < 0)
    if not crossed.any():
        ends = np.concatenate([near[:, 2], far[:, 2]])
        raise GeometryError(
            "the section does not pass through a voxel that has a value: they lie "
            f"{ends.min():.2f} to {ends.max():.2f} mm from it",
            path=maps[0].path,
            hint="check that the transform belongs to this map",
        )
    chosen, along = index[crossed], (far - near)[crossed]
    if (np.abs(along[:, 2]) < _LEAST_COSINE * np.linalg.norm(along, axis=1)).any():
        raise GeometryError(
            "the section stands across the slices of the map, in place of lying in one",
            path=maps[0].path,
            hint="check that the transform belongs to this map",
        )
    corners = [_cut(chosen + np.array([i, j, 0.0]), affine, back) for i, j in _CORNERS]
    empty = known.shape[0] * known.shape[1] - len(chosen)
    return _Tiles(np.stack(corners, axis=1), chosen, empty)


_CORNERS = ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5))


def _cut(index: FloatArray, affine: FloatArray, back: Transform) -> FloatArray:
    """Return where the line through `index` along the third axis meets the section, (N, 2) µm."""
    near, far = (_to_slide(index + np.array([0, 0, step]), affine, back) for step in (-0.5, 0.5))
    share = near[:, 2] / (near[:, 2] - far[:, 2])
    point = near + share[:, None] * (far - near)
    return np.asarray(point[:, :2] * -1000)


def _to_slide(index: FloatArray, affine: FloatArray, back: Transform) -> FloatArray:
    """Return voxel indices as points of the section's world, (N, 3) mm."""
    return back.points(index @ affine[:3, :3].T + affine[:3, 3])


def _on_slide(corners: FloatArray, extent: tuple[int, int] | None) -> BoolArray:
    """Return which tiles overlap the slide (by their bounding boxes)."""
    low, high = corners.min(axis=1), corners.max(axis=1)
    inside = (high > _ROUNDED_PX).all(axis=1)
    return np.asarray(inside if extent is None else inside & (low < np.asarray(extent) - _ROUNDED_PX).all(axis=1))


def _measurement_names(maps: Sequence[_Map]) -> list[str]:
    """Return a name per map, such as vCS_mri_um; with what tells them apart if one quantity comes several times."""
    plain = [_plain_name(item) for item in maps]
    names = []
    for item, name in zip(maps, plain):
        marks = [item.entities[key] for key in ("stat", "desc") if key in item.entities]
        if plain.count(name) > 1:
            others = [one for one, other in zip(maps, plain) if other == name and one is not item]
            for key in ("model", "sub"):
                if any(one.entities.get(key) != item.entities.get(key) for one in others):
                    marks.append(item.entities.get(key, "-"))
            if any(one.sidecar.get("Strategy") != item.sidecar.get("Strategy") for one in others):
                marks.append(str(item.sidecar.get("Strategy")))
        names.append(f"{_friendly(name)} ({', '.join(marks)})" if marks else name)
    for number, name in enumerate(names):
        if name in names[:number]:
            raise InputError(
                f"would be the second measurement called {name}",
                path=maps[number].path,
                hint="write it into another file, or rename it",
            )
    return names


def _plain_name(item: _Map) -> str:
    quantity = item.entities.get("param")
    if quantity is None:
        return re.sub(r"\.nii(\.gz)?$", "", item.path.name)
    if quantity not in _KNOWN:
        return quantity
    side = {"histomap": "histo", "dwimap": "mri"}[item.entities["suffix"]]
    unit = _UNITS.get(str(item.sidecar.get("Units")))
    return "_".join(part for part in (quantity, side, unit) if part)


def _friendly(name: str) -> str:
    """Return a plain name as QuPath writes names; the script leaves those with marks alone."""
    quantity, _, rest = name.partition("_")
    side, _, unit = rest.partition("_")
    words = [_SIDES.get(side, ""), quantity if side in _SIDES else name, _IN_QUPATH.get(unit, "")]
    return " ".join(word for word in words if word)


def _write(out: Path, corners: FloatArray, values: FloatArray, names: Sequence[str], note: dict[str, Any]) -> None:
    with atomic_path(out) as temporary, temporary.open("wb") as raw:
        if out.name.lower().endswith(".gz"):
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed:
                _stream(packed, corners, values, names, note)
        else:
            _stream(raw, corners, values, names, note)


def _stream(
    target: IO[bytes] | gzip.GzipFile,
    corners: FloatArray,
    values: FloatArray,
    names: Sequence[str],
    note: dict[str, Any],
) -> None:
    stream = io.TextIOWrapper(target, encoding="utf-8", newline="\n")
    head = json.dumps(note, ensure_ascii=False)
    stream.write('{"type":"FeatureCollection","histomri":' + head + ',"features":[\n')
    for number, text in enumerate(_features(corners, values, names)):
        stream.write((",\n" if number else "") + text)
    stream.write("\n]}\n")
    stream.flush()
    stream.detach()


def _features(corners: FloatArray, values: FloatArray, names: Sequence[str]) -> Iterator[str]:
    """Give the features in pieces; tiles that lack the same measurements are written with one format."""
    ring = np.concatenate([corners, corners[:, :1]], axis=1).reshape(len(corners), 10)
    known = np.isfinite(values)
    for start in range(0, len(corners), _CHUNK):
        part = slice(start, start + _CHUNK)
        patterns, which = np.unique(known[part], axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            rows = np.flatnonzero(which.ravel() == number)
            # A % in a name would be taken for a place to fill in.
            words = [json.dumps(name, ensure_ascii=False).replace("%", "%%") for name in np.asarray(names)[pattern]]
            template = (
                '{"type":"Feature","geometry":{"type":"Polygon","coordinates":[['
                + ",".join(["[%.2f,%.2f]"] * 5)
                + ']]},"properties":{"objectType":"tile","measurements":{'
                + ",".join(f"{word}:%.7g" for word in words)
                + "}}}"
            )
            numbers = np.concatenate([ring[part][rows], values[part][rows][:, pattern]], axis=1)
            yield ",\n".join([template] * len(rows)) % tuple(numbers.ravel().tolist())
