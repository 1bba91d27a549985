"""Find the maps of one sample in its folders, and bring its histology onto the grid of an MRI slice."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image, parse_map_name, read_sidecar, sidecar_path
from histomri.core.presets import STRATEGIES as FITTED_STRATEGIES
from histomri.core.runs import require_one_run
from histomri.fitting.models import MODELS
from histomri.registration import Transform

# Those of a preset, and a threshold of one's own.
STRATEGIES = (*FITTED_STRATEGIES, "custom")

Fits = dict[tuple[str, str], dict[str, Image]]
Entities = dict[str, str]

MINIMUM_COVERAGE = 0.5  # a resampled histology value counts if this fraction of its interpolation weights is measured
_SAME_MM = 1e-3  # sform and qform are stored as float32, which costs up to a few 1e-5 mm


def read_mri(
    folder: Path, *, errors: bool = False, within_bounds: bool = False
) -> tuple[Fits, dict[str, Image], list[Entities]]:  # fmt: skip
    """Return the fitted maps by (model, strategy) and name, those of no model, and the entities of the file names.

    Maps lie in the folder or in its direct subfolders; model and strategy come from the sidecars. `errors` adds vCS_se;
    `within_bounds` makes none of them larger than that of a value of which nothing but its bounds of the fit is known:
    where a signal says nothing of a parameter, the error by its curvature has no limit, and one voxel would be all of
    the error of a mean.
    """
    fits: Fits = {}
    common: dict[str, Image] = {}
    names, read = [], list[Path]()
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for place in (folder, *subfolders):
        for path, entities in _maps(place, errors):
            if entities.get("model") == "dki":  # how well ADC and K were fitted, while these two carry no model
                continue
            maps = fits.setdefault(_model_of(path, entities), {}) if "model" in entities else common
            name = _name(entities)
            if name in maps:
                problem = f"a second map of {name} for the same model and strategy"
                raise InputError(problem, path=path, hint="one folder per sample")
            bounded = within_bounds and "stat" in entities
            maps[name] = _no_larger_than_bounds(path, entities["param"]) if bounded else Image.load(path)
            names.append(entities)
            read.append(path)
    require_one_run(read, sidecar_path)
    if not fits:
        raise InputError("holds no fitted maps (*_dwimap.nii.gz)", path=folder, hint="run histomri fit first")
    return fits, common, names


def _no_larger_than_bounds(path: Path, param: str) -> Image:
    """Return a map of errors, none of them above the standard deviation of values spread evenly over the bounds."""
    image, bounds = Image.load(path), read_sidecar(path).get("Parameters", {}).get("bounds", {})
    ends = bounds.get("fI" if param == "F" else param)  # F is fI, less the part of the vessels
    if ends is None:
        return image
    return replace(image, data=np.minimum(image.data, (ends[1] - ends[0]) / np.sqrt(12.0)))


def model_of(entity: str) -> str:
    """Return the name of a model from its entity in a file name, which carries no hyphens."""
    return {name.replace("-", ""): name for name in MODELS}.get(entity, entity)


def _name(entities: Entities) -> str:
    return f"{entities['param']}_{entities['stat']}" if "stat" in entities else entities["param"]


def _maps(folder: Path, errors: bool) -> Iterator[tuple[Path, Entities]]:
    """Yield the fitted maps of a folder, less their standard errors unless those are asked for."""
    if not folder.is_dir():
        raise InputError("no such folder", path=folder, hint="check the spelling")
    for path in sorted(folder.glob("*_dwimap.nii*")):
        entities = parse_map_name(path.name)
        if entities.get("suffix") != "dwimap" or "desc" in entities or "label" in entities:
            continue
        if "stat" not in entities or (errors and entities["stat"] == "se"):
            yield path, entities


def _model_of(path: Path, entities: Entities) -> tuple[str, str]:
    sidecar = read_sidecar(path)
    model = sidecar.get("Model") or model_of(entities["model"])
    strategy = sidecar.get("Strategy") or path.parent.name
    if strategy not in STRATEGIES:
        problem = "its sidecar does not say which measurements were fitted"
        hint = 'add "Strategy": "whole", "high-b" or "custom" to the sidecar, or put it in a folder of that name'
        raise InputError(problem, path=path, hint=hint)
    return str(model), str(strategy)


def same_grid(one: Image, other: Image) -> bool:
    """Tell whether two images have the same shape and lie in the same place, to a thousandth of a millimetre."""
    if one.data.shape != other.data.shape:
        return False
    corners = np.array(np.meshgrid(*[(0.0, float(n)) for n in (*one.data.shape, 1)[:3]], [1.0])).reshape(4, -1)
    return bool(np.abs((one.affine - other.affine) @ corners).max() < _SAME_MM)


def require_same_grid(images: Mapping[str, Image], what: str) -> Image:
    """Return the first image, after checking that the others share its grid."""
    (first_name, first), *others = images.items()
    for name, image in others:
        if not same_grid(first, image):
            problem = f"{what}: {name} {image.data.shape} is not on the grid of {first_name} {first.data.shape}"
            raise GeometryError(problem, hint="make all of them from the same image")
    return first


def slice_of(image: Image, mri_slice: int | None) -> Image:
    """Return the slice as a 2D image; a 2D image is its own only slice."""
    if image.data.ndim == 2:
        if mri_slice not in (None, 0):
            raise GeometryError(f"there is no slice {mri_slice}: the MRI is a single slice")
        return image
    return image.slice(0 if mri_slice is None else mri_slice)


def find_slice(histology: Image, mri: Image, transform: Transform | None) -> int:
    """Return the MRI slice that holds the centre of the histology, or without a transform the one on its own grid."""
    if mri.data.ndim == 2:
        if transform is None and not same_grid(histology, mri):
            raise _different_grids(histology, mri)
        return 0
    if transform is None:
        for k in range(mri.data.shape[2]):
            if same_grid(histology, mri.slice(k)):
                return k
        raise _different_grids(histology, mri)
    centre = np.append((np.array([*histology.data.shape, 1.0]) - 1) / 2, 1.0)
    mapped = np.asarray(transform.points((histology.affine @ centre)[None, :3])).reshape(-1)
    position = float((np.linalg.inv(mri.affine) @ np.append(mapped[:3], 1.0))[2])
    k = round(position)
    if not 0 <= k < mri.data.shape[2]:
        last = mri.data.shape[2] - 1
        problem = f"the transform puts the histology at slice {position:.1f}, and the MRI has slices 0 to {last}"
        raise GeometryError(problem, hint="use the transform that was made for this MRI, from histology to MRI")
    return k


def _different_grids(histology: Image, mri: Image) -> GeometryError:
    problem = f"the histology maps {histology.data.shape} and the MRI maps {mri.data.shape} lie on different grids"
    hint = "register them and pass the transform (--xfm), or compare means of whole samples (--per sample)"
    return GeometryError(problem, hint=hint)


def onto_slice(image: Image, like: Image, transform: Transform | None) -> tuple[FloatArray, FloatArray]:
    """Resample a histology map onto an MRI slice: values, and the measured part of the weights they rest on, (I, J).

    The values are NaN where that part, the coverage, is below `MINIMUM_COVERAGE`.
    """
    finite = np.isfinite(image.data)
    if transform is None:
        return np.where(finite, image.data, np.nan), finite.astype(float)
    # A rim of empty patches makes "outside the section" the same as "not measured", at the border too.
    affine = image.affine.copy()
    affine[:, 3] = image.affine @ np.array([-1.0, -1.0, 0.0, 1.0])
    padded = Image(np.pad(np.where(finite, image.data, np.nan), 1, constant_values=np.nan), affine)
    measured = Image(np.pad(finite.astype(float), 1), affine)
    coverage = np.nan_to_num(np.asarray(transform.resample(measured, like, order=1).data, dtype=float), nan=0.0)
    values = np.asarray(transform.resample(padded, like, order=1).data, dtype=float)
    # The tolerance keeps a voxel halfway between two patches from depending on rounding.
    return np.where(coverage >= MINIMUM_COVERAGE - 1e-6, values, np.nan), coverage
