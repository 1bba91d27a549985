"""Stage: a transform applied to a map, to annotations or to points."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from histomri.arrays import FloatArray
from histomri.errors import InputError
from histomri.files import atomic_path, provenance, read_json, require_file, write_text
from histomri.maps import Image, parse_map_name, read_sidecar, write_map
from histomri.registration import Transform
from histomri.study.stages.apply_guards import family, kind_of, refuse_options, refuse_outputs
from histomri.study.stages.apply_slide import apply_to_slide
from histomri.study.stages.result import StageResult

_GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon")


def run_apply(
    xfm: Path,
    input: Path,
    out: Path,
    *,
    like: Path | None = None,
    inverse: bool = False,
    mpp: float | tuple[float, float] | None = None,
    order: int = 1,
    um_per_px: float = 10.0,
    slice: int | None = None,
) -> StageResult:
    """Apply a transform to a file.

    Parameters
    ----------
    xfm : Path
        Transform, .json or an affine of ITK, ANTs or FSL.
    input : Path
        A NIfTI map (drawn on the grid of `like`); a slide (drawn over the field of view of `like`); a GeoJSON file in
        pixels of the slide (becomes mm of the fixed world); or a CSV with the columns x_mm, y_mm[, z_mm] (other columns
        are kept).
    out : Path
        File to write.
    like : Path, optional
        NIfTI image whose grid a resampled map gets.
    inverse : bool
        Go from the fixed world to the moving world. A GeoJSON file is then expected in mm and becomes pixels.
    mpp : float or (float, float), optional
        Pixel size of the slide in µm, for GeoJSON, and for slides that do not tell it.
    order : {0, 1}
        Interpolation of maps and slides: 1 linear, 0 nearest (labels).
    um_per_px : float
        Pixel size of a warped slide in µm.
    slice : int, optional
        Slice of `like` that a slide is drawn over; the one that was registered if not given.
    """
    require_file(input)
    kind = kind_of(input)
    options = {"--like": like is not None, "--mpp": mpp is not None, "--nearest": order == 0}
    refuse_options(kind, {**options, "--slice": slice is not None})
    refuse_outputs(kind, xfm, input, out, like)
    transform = _load(xfm, input if kind == "map" else None, like, inverse)

    def applied() -> StageResult:
        if kind == "map":
            return _apply_to_map(transform, xfm, input, out, like, order, inverse)
        if kind == "GeoJSON file":
            return _apply_to_geojson(transform, xfm, input, out, mpp, inverse)
        if kind == "table":
            return _apply_to_table(transform, input, out)
        if inverse:
            raise InputError(
                "a slide lies in the world of the section", path=input, way_out="leave --inverse out, or give a map"
            )
        return apply_to_slide(transform, xfm, input, out, like, um_per_px=um_per_px, mpp=mpp, slice=slice, order=order)

    result = applied()
    return replace(result, warnings=(*_lost_bending(xfm), *result.warnings))


def _lost_bending(xfm: Path) -> tuple[str, ...]:
    """Warn of an ITK text file whose transform was bent: the bending lies in other files."""
    warps = [path for path in family(xfm) if path.name.endswith(".nii.gz")]
    if xfm.suffix.lower() != ".tfm" or not warps:
        return ()
    json_file = xfm.with_suffix(".json").name
    return (f"{xfm.name} is the affine part alone, without the bending in {warps[0].name}: pass {json_file}",)


def _load(xfm: Path, image: Path | None, like: Path | None, inverse: bool) -> Transform:
    """Read a transform, with the two images that a matrix of FSL needs."""
    images: dict[str, Image] = {}
    if xfm.suffix.lower() == ".mat" and image is not None and like is not None:
        from histomri.study.stages.register import load_first_volume

        moving, fixed = (like, image) if inverse else (image, like)
        images = {"moving": load_first_volume(moving), "fixed": load_first_volume(fixed)}
    transform = Transform.load(xfm, **images)
    return transform.inverse() if inverse else transform


def _apply_to_map(
    transform: Transform, xfm: Path, input: Path, out: Path, like: Path | None, order: int, inverse: bool
) -> StageResult:
    if like is None:
        raise InputError("a map needs a grid to be drawn on", path=input, way_out="pass --like IMAGE")
    from histomri.study.stages.register import handedness_warnings, load_first_volume

    result = transform.resample(Image.load(input), load_first_volume(like), order=order)
    known = int(np.isfinite(result.data).sum())
    sidecar = read_sidecar(input)
    words = {key: sidecar[key] for key in ("Units", "Description") if sidecar.get(key)}
    if not parse_map_name(out.name).get("param"):
        words = {"Units": "arbitrary", "Description": f"{input.name} on the grid of {like.name}", **words}
    outputs = write_map(
        out,
        result.data,
        result.affine,
        sources=[input, like, xfm],
        parameters={"Inverse": inverse, "Order": order},
        **words,
    )
    warnings = handedness_warnings([input, like])
    if not known:
        warnings += ("no voxel of the result is known: the image and the grid do not overlap",)
    return StageResult(tuple(outputs), (f"{known} voxels known",), warnings, {"n_known": known})


def _apply_to_table(transform: Transform, input: Path, out: Path) -> StageResult:
    import pandas as pd

    separator = "\t" if input.name.lower().endswith(".tsv") else ","
    try:
        table = pd.read_csv(input, sep=separator, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"is not a readable table ({error})", path=input) from error
    columns = [name for name in ("x_mm", "y_mm", "z_mm") if name in table]
    if columns[:2] != ["x_mm", "y_mm"]:
        raise InputError(
            "lacks the columns x_mm and y_mm", path=input, way_out="points are in mm, in the image's world"
        )
    points = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise InputError(f"row {bad[0] + 1} holds no finite number ({len(bad)} such rows)", path=input)
    for name, values in zip(("x_mm", "y_mm", "z_mm"), transform.points(points).T, strict=True):
        table[name] = values
    with atomic_path(out) as temporary:
        table.to_csv(
            temporary, sep="\t" if out.name.lower().endswith(".tsv") else ",", index=False, lineterminator="\n"
        )
    return StageResult((out,), (f"{len(table)} points",), (), {"n_points": len(table)})


def _apply_to_geojson(
    transform: Transform,
    xfm: Path,
    input: Path,
    out: Path,
    mpp: float | tuple[float, float] | None,
    inverse: bool,
) -> StageResult:
    content = read_json(input, "GeoJSON file")
    if mpp is None:
        raise InputError(
            "the coordinates are pixels of the slide", path=input, way_out="pass --mpp with its pixel size"
        )
    size = np.broadcast_to(np.asarray(mpp, dtype=float), 2)
    if not np.all(np.isfinite(size)) or np.any(size <= 0):
        raise InputError(f"a pixel size of {mpp} µm is impossible", way_out="pass --mpp X or X,Y in µm")
    _check_units(_declared_units(content), inverse, input)
    geometries = _geometries(content, input)
    positions = [position for geometry in geometries for position in _positions(geometry["coordinates"], input)]
    if not positions:
        raise InputError("holds no coordinates", path=input)
    moved = _slide_to_world(transform, positions, size) if not inverse else _world_to_slide(transform, positions, size)
    for position, point in zip(positions, moved.tolist(), strict=True):
        position[:] = point
    if isinstance(content, list):
        content = {"type": "FeatureCollection", "features": content}
    units = (
        {"Units": "px", "PixelSize_um": size} if inverse else {"Units": "mm", "CoordinateSystem": "fixed world, RAS+"}
    )
    content["histomri"] = {**units, **provenance([input, xfm], {"Inverse": inverse, "Mpp": size})}
    write_text(out, json.dumps(content, ensure_ascii=False, default=lambda array: array.tolist()) + "\n")
    message = f"{len(geometries)} geometries with {len(positions)} points, now in {units['Units']}"
    return StageResult((out,), (message,), (), {"n_geometries": len(geometries), "n_points": len(positions)})


def _check_units(declared: str | None, inverse: bool, path: Path) -> None:
    """Refuse coordinates that are not, or not known to be, in the units of where they start."""
    if declared == "mm" and not inverse:
        raise InputError("is in mm already, and pixels are expected", path=path, way_out="pass --inverse to go back")
    if inverse and declared != "mm":
        raise InputError(
            "is in pixels, as far as is known, and the way back starts from mm",
            path=path,
            way_out='leave --inverse out, or, if it is in mm of the MRI, add "histomri": {"Units": "mm"} to it',
        )


def _slide_to_world(transform: Transform, positions: list[Any], size: FloatArray) -> FloatArray:
    """Pixels to mm of the fixed world; x and y of the slide run against those of its world."""
    pixels = np.array([position[:2] for position in positions], dtype=float)
    return transform.points(-pixels * size / 1000)


def _world_to_slide(transform: Transform, positions: list[Any], size: FloatArray) -> FloatArray:
    points = np.array([[*position[:3], 0.0][:3] for position in positions], dtype=float)
    return np.asarray(-transform.points(points)[:, :2] * 1000 / size)


def _declared_units(content: Any) -> str | None:
    note = content.get("histomri") if isinstance(content, dict) else None
    return note.get("Units") if isinstance(note, dict) else None


def _geometries(content: Any, path: Path) -> list[dict[str, Any]]:
    """Return every geometry in a GeoJSON document, the nuclei that QuPath keeps beside the cells included."""
    found, waiting = [], [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += [entry for entry in item if isinstance(entry, dict)]
        elif isinstance(item, dict):
            if item.get("type") in _GEOMETRIES and isinstance(item.get("coordinates"), list):
                found.append(item)
            else:
                waiting += [entry for key, entry in item.items() if key != "properties"]
                properties = item.get("properties")
                if isinstance(properties, dict):  # QuBaLab keeps the nucleus of a cell here
                    waiting.append(properties.get("extra_geometries"))
    if not found:
        raise InputError("holds no GeoJSON geometry", path=path)
    return found


def _positions(coordinates: list[Any], path: Path) -> list[list[float]]:
    """Return the innermost lists of nested coordinates, each a position."""
    found, waiting = [], [coordinates]
    while waiting:
        item = waiting.pop()
        if item and all(isinstance(entry, list) for entry in item):
            waiting += item
        elif len(item) >= 2 and all(isinstance(entry, int | float) and np.isfinite(entry) for entry in item):
            found.append(item)
        else:
            raise InputError("has a position that is not two or three finite numbers", path=path)
    return found
