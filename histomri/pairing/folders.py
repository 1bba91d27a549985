"""Find the maps of one sample in its folders."""

from collections.abc import Iterator
from pathlib import Path

from histomri.core.errors import InputError
from histomri.core.images import Image, parse_map_name, read_sidecar
from histomri.core.presets import STRATEGIES as FITTED_STRATEGIES
from histomri.fitting.models import MODELS

# Those of a preset, and a threshold of one's own.
STRATEGIES = (*FITTED_STRATEGIES, "custom")

Fits = dict[tuple[str, str], dict[str, Image]]
Entities = dict[str, str]


def read_histology(folder: Path, *, errors: bool = False) -> tuple[dict[str, Image], list[Entities]]:
    """Return the corrected maps of a folder by name, and the entities of their names; with `errors` also vCS_se, .."""
    found = list(_maps(folder, "histomap", errors))
    if not found:
        raise InputError("holds no histology maps (*_histomap.nii.gz)", path=folder, hint="run histomri patches first")
    maps: dict[str, Image] = {}
    for path, entities in found:
        name = _name(entities)
        if name in maps:
            raise InputError(f"holds several maps of {name}", path=folder, hint="one folder per sample")
        maps[name] = Image.load(path)
    return maps, [entities for _, entities in found]


def read_mri(folder: Path, *, errors: bool = False) -> tuple[Fits, dict[str, Image], list[Entities]]:
    """Return the fitted maps by (model, strategy) and name, those of no model, and the entities of the file names.

    Maps lie in the folder or in its direct subfolders; model and strategy come from the sidecars. `errors` adds vCS_se.
    """
    fits: Fits = {}
    common: dict[str, Image] = {}
    names = []
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for place in (folder, *subfolders):
        for path, entities in _maps(place, "dwimap", errors):
            if entities.get("model") == "dki":  # how well ADC and K were fitted, while these two carry no model
                continue
            maps = fits.setdefault(_model_of(path, entities), {}) if "model" in entities else common
            name = _name(entities)
            if name in maps:
                problem = f"a second map of {name} for the same model and strategy"
                raise InputError(problem, path=path, hint="one folder per sample")
            maps[name] = Image.load(path)
            names.append(entities)
    if not fits:
        raise InputError("holds no fitted maps (*_dwimap.nii.gz)", path=folder, hint="run histomri fit first")
    return fits, common, names


def model_of(entity: str) -> str:
    """Return the name of a model from its entity in a file name, which carries no hyphens."""
    return {name.replace("-", ""): name for name in MODELS}.get(entity, entity)


def _name(entities: Entities) -> str:
    return f"{entities['param']}_{entities['stat']}" if "stat" in entities else entities["param"]


def _maps(folder: Path, suffix: str, errors: bool) -> Iterator[tuple[Path, Entities]]:
    """Yield the maps of a folder, less the uncorrected ones and, unless asked for, the standard errors."""
    if not folder.is_dir():
        raise InputError("no such folder", path=folder, hint="check the spelling")
    for path in sorted(folder.glob(f"*_{suffix}.nii*")):
        entities = parse_map_name(path.name)
        if entities.get("suffix") != suffix or "desc" in entities:
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
