"""The study file: what a user writes in TOML, checked in full before anything runs."""

import difflib
import itertools
import os
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from histomri.errors import StudyError
from histomri.files import read_json, require_file, write_json

ModelName = Literal["diff-in", "diff-in-ex", "diff-in-ex-fast", "diff-in-extd", "diff-in-extd-fast"]
Strategy = Literal["whole", "high-b"]
SigmaEstimate = Literal["estimate", "mppca", "piesno"]
PresetName = Literal["mouse-exvivo", "invivo-3t", "invivo-1.5t"]
Positive = Annotated[float, Field(gt=0)]
Pair = tuple[Positive, Positive]

# Preset of a study -> (preset of the histology, preset of the MRI fit).
STUDY_PRESETS: dict[str, tuple[str, str]] = {
    "mouse-exvivo": ("mouse-exvivo", "mouse-exvivo"),
    "invivo-3t": ("human-biopsy", "invivo-3t"),
    "invivo-1.5t": ("human-biopsy", "invivo-1.5t"),
}
# Diffusivity of free water where the tissue was scanned: saline at room temperature, and 37 °C, µm²/ms.
FREE_WATER_UM2_MS = {"mouse-exvivo": 2.4, "invivo-3t": 3.0, "invivo-1.5t": 3.0}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CellOptions(_Section):
    """How the cell tables are read; the options of `histomri cells`."""

    mpp: Positive | Pair | None = None
    area_unit: Literal["um2", "px2"] | None = None
    classes: tuple[str, ...] | None = None
    min_size_um: Positive | None = None
    max_size_um: Positive | None = None
    min_probability: Annotated[float, Field(ge=0, le=1)] | None = None
    image: str | None = None
    project: Path | None = None
    detections: Literal["nuclei", "cells"] = "nuclei"
    geometries: bool = False


class PatchOptions(_Section):
    """How patch maps are made; the options of `histomri patches`."""

    preset: Literal["mouse-exvivo", "human-biopsy", "none"] | None = None
    whole: bool = False
    like_mri: bool = True
    patch_um: Positive | Pair | None = None
    thickness_um: Positive | None = None
    section: Literal["sphere-mean", "wicksell", "none"] | None = None
    section_thickness_um: Positive = 4.0
    shrinkage: Annotated[float, Field(ge=0, lt=1)] | None = None
    min_cells: Annotated[int, Field(ge=1)] = 1
    min_tissue: Annotated[float, Field(ge=0, le=1)] = 0.25
    tissue: Literal["cells", "field"] = "cells"
    assign: Literal["centroid", "clip"] = "centroid"
    step_um: Positive | Pair | None = None

    @model_validator(mode="after")
    def _one_size(self) -> "PatchOptions":
        if self.whole and self.patch_um is not None:
            raise ValueError("one patch for the whole tissue has no patch_um; leave out one of the two")
        if not self.whole and not self.like_mri and self.patch_um is None:
            raise ValueError("with like_mri = false the patch size must be given: patch_um = 386")
        if self.like_mri and self.patch_um is not None:
            raise ValueError("patches are either like the MRI or of size patch_um; add like_mri = false")
        if self.assign == "clip" and self.step_um is not None:
            raise ValueError("overlapping patches (step_um) cannot share cells by area; leave out assign or step_um")
        return self


class FitOptions(_Section):
    """Which models are fitted, and how; the options of `histomri fit`."""

    preset: PresetName | None = None
    models: Annotated[tuple[ModelName, ...], Field(min_length=1)] = ("diff-in", "diff-in-ex")
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1)] = ("whole", "high-b")
    noise: Literal["offset-gaussian", "rician", "none"] | None = None
    bic: Literal["schwarz", "paper"] = "schwarz"
    t2ivim: bool | None = None
    kurtosis: float | Literal["free"] | None = None
    dki: bool = True
    residuals: bool = False
    bootstrap: Literal[0] | Annotated[int, Field(ge=2)] = 0
    bootstrap_kind: Literal["parametric", "residual"] = "parametric"
    seed: Annotated[int, Field(ge=0)] = 0
    crlb: bool = False


class RegistrationOptions(_Section):
    """How the section is laid on its MRI slice; the options of `histomri register`. `none` pairs ROI means only."""

    kind: Literal["similarity", "affine", "bspline", "syn", "none"] = "bspline"
    flips: bool = True
    shrinkage: Annotated[float, Field(ge=0, lt=1)] | None = None


class PredictionOptions(_Section):
    """What is predicted from two metrics, such as tumour volume; the options of `histomri predict`."""

    target: str
    table: Path | None = None
    x: str = "D0I_mri_um2_ms"
    y: str = "vCS_mri_um"
    group_by: str | None = None
    bases: Annotated[tuple[Literal["cubic", "printed"], ...], Field(min_length=1)] = ("cubic", "printed")
    log10: bool = True
    folds: Annotated[int, Field(ge=2)] = 5
    seed: Annotated[int, Field(ge=0)] = 0
    model: ModelName | None = None
    strategy: Strategy | None = None


_SECTIONS = ("cell_options", "patches", "fit", "registration")
_FILE_KEYS = ("dwi", "mask", "sigma", "roi", "slide", "s0", "fv", "t2t", "landmarks")
_PATH_KEYS = ("cells", "protocol", *_FILE_KEYS)


class Sample(_Section):
    """One section of histology and its MRI, with the options that differ from the rest of the study."""

    id: str
    cells: Annotated[tuple[Path, ...], Field(min_length=1)]
    dwi: Path
    protocol: str
    group: str | None = None
    scanner: str | None = None
    preset: PresetName | None = None
    measures: dict[Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_]*$")], float] = {}
    mask: Path | None = None
    sigma: Positive | SigmaEstimate | Path | None = None
    roi: Path | None = None
    slide: Path | None = None
    mri_slice: Annotated[int, Field(ge=0)] | None = None
    s0: Path | None = None
    fv: Path | None = None
    t2t: Path | None = None
    landmarks: Path | None = None
    cell_options: CellOptions = CellOptions()
    patches: PatchOptions = PatchOptions()
    fit: FitOptions = FitOptions()
    registration: RegistrationOptions = RegistrationOptions()

    @field_validator("cells", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else [value]

    @field_validator("id")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not (value.isascii() and value.isalnum()):
            raise ValueError(f"{value!r} names files, so it may hold only letters and digits without accents")
        return value

    @field_validator("measures")
    @classmethod
    def _new(cls, value: dict[str, float]) -> dict[str, float]:
        if not value:
            return value
        from histomri.pairing.columns import describe_columns

        if taken := [name for name in value if name in describe_columns()]:
            raise ValueError(f"{taken[0]} is a column of histomri; give yours another name")
        return value

    def files(self) -> Iterator[tuple[str, Path]]:
        """Yield (key, path) of every file the sample names."""
        for path in self.cells:
            yield "cells", path
        for key in _FILE_KEYS:
            value = getattr(self, key)
            if isinstance(value, Path):
                yield key, value
        if self.cell_options.project is not None:
            yield "cell_options.project", self.cell_options.project
        if isinstance(protocol := protocol_source(self.protocol), Path):
            yield "protocol", protocol

    def dump(self, show: Callable[[Path], str]) -> dict[str, Any]:
        """Return the sample as plain data, unset keys left out, each path written by `show`."""
        content = self.model_dump(exclude_none=True)
        if isinstance(protocol := protocol_source(self.protocol), Path):
            content["protocol"] = protocol
        return {key: _shown(value, show) for key, value in content.items()}


def _shown(value: Any, show: Callable[[Path], str]) -> Any:
    if isinstance(value, tuple):
        return [_shown(item, show) for item in value]
    if isinstance(value, dict):
        return {key: _shown(item, show) for key, item in value.items()}
    return show(value) if isinstance(value, Path) else value


class Study(_Section):
    """A validated study; paths are absolute, and each sample holds the options that apply to it."""

    name: str
    preset: PresetName
    samples: Annotated[tuple[Sample, ...], Field(min_length=1)]
    prediction: PredictionOptions | None = None

    @classmethod
    def load(cls, path: str | Path) -> "Study":
        """Read and check a study file (TOML, or the JSON that `save` writes).

        Raises
        ------
        StudyError
            One message that lists every unknown key, wrong value, duplicate id and missing file.
        """
        path = require_file(path, "study file")
        content = read_json(path, "study file") if path.suffix == ".json" else _read_toml(path)
        try:
            study = cls.model_validate(_spread(content, path.resolve().parent))
        except ValidationError as error:
            raise _told(list(_tell_all(error, content)), path) from error
        except _Mistakes as error:
            raise _told(error.args[0], path) from error
        if mistakes := list(_missing(study)):
            raise _told(mistakes, path)
        return study

    def save(self, path: str | Path) -> Path:
        """Write the study as it will be run, every default spelled out, as JSON that `load` reads.

        Paths are relative to the file, so that inputs and results can be moved together.
        """
        folder = Path(path).resolve().parent
        samples = [sample.dump(lambda file: os.path.relpath(file, folder)) for sample in self.samples]
        content = {"study": {"name": self.name, "preset": self.preset}, "samples": samples}
        if self.prediction is not None:
            content["prediction"] = self.dump_prediction(lambda file: os.path.relpath(file, folder))
        return write_json(path, content)

    def dump_prediction(self, show: Callable[[Path], str]) -> dict[str, Any]:
        """Return the options of the prediction as plain data, empty if there is none, the path written by `show`."""
        content = self.prediction.model_dump(exclude_none=True) if self.prediction is not None else {}
        return {key: _shown(value, show) for key, value in content.items()}


class _Mistakes(Exception):
    pass


def protocol_source(protocol: str) -> Path | str:
    """Return the protocol as a path, or as the name of a preset."""
    return protocol if protocol in STUDY_PRESETS else Path(protocol)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise StudyError("is not a UTF-8 text file", path=path) from error
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"is not valid TOML: {error}", path=path, way_out="docs/study.md shows a whole one") from error


def _spread(content: Any, folder: Path) -> Any:
    """Give every sample the study's options, overridden by its own, and make its paths absolute."""
    if not isinstance(content, dict) or "samples" not in content:
        raise _Mistakes(["there are no samples; add a [[samples]] table for each section"])
    known = ("study", "samples", "prediction", *_SECTIONS)
    if top := [key for key in content if key not in known]:
        raise _Mistakes([_unknown("", key, known) for key in top])
    if not isinstance(content["samples"], list) or not all(isinstance(item, dict) for item in content["samples"]):
        raise _Mistakes(["samples must be tables: write [[samples]] above each"])
    common = {section: content.get(section, {}) for section in _SECTIONS}
    samples = [_spread_sample(sample, common, folder) for sample in content["samples"]]
    study = content.get("study", {})
    whole = {**study, "samples": samples} if isinstance(study, dict) else {"study": study, "samples": samples}
    if isinstance(prediction := content.get("prediction"), dict) and "table" in prediction:
        prediction = {**prediction, "table": _absolute(prediction["table"], folder)}
    return whole if prediction is None else {**whole, "prediction": prediction}


def _absolute(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_absolute(item, folder) for item in value]
    return os.path.normpath(folder / value) if isinstance(value, str) and value else value


def _spread_sample(sample: dict[str, Any], common: dict[str, Any], folder: Path) -> dict[str, Any]:
    absolute = partial(_absolute, folder=folder)
    spread = {key: absolute(value) if key in _PATH_KEYS else value for key, value in sample.items()}
    for key, words in (("protocol", STUDY_PRESETS), ("sigma", get_args(SigmaEstimate))):
        if isinstance(sample.get(key), str) and sample[key] in words:  # a word of ours, and no file
            spread[key] = sample[key]
    for section, options in common.items():
        own = sample.get(section, {})
        if isinstance(options, dict) and isinstance(own, dict):
            spread[section] = {**options, **own}
            if "project" in spread[section]:
                spread[section]["project"] = absolute(spread[section]["project"])
    return spread


def _missing(study: Study) -> Iterator[str]:
    ids = [sample.id for sample in study.samples]
    for repeated in sorted({item for item in ids if ids.count(item) > 1}):
        yield f"the id {repeated!r} stands {ids.count(repeated)} times; every sample needs its own"
    for sample in study.samples:
        for key, path in sample.files():
            if not path.is_file() and not (key == "protocol" and path.with_name(path.name + ".bval").is_file()):
                yield f"sample {sample.id}: {key}: no such file: {path}"
        new_noise = sample.fit.bootstrap and sample.fit.bootstrap_kind == "parametric"
        if sample.sigma is None and (new_noise or sample.fit.crlb):
            yield f"sample {sample.id}: fit.{'bootstrap' if new_noise else 'crlb'} needs the noise level; give sigma"
    if study.prediction is not None:
        yield from _unpredictable(study, study.prediction)


def _unpredictable(study: Study, options: PredictionOptions) -> Iterator[str]:
    if options.table is not None:
        if not options.table.is_file():
            yield f"prediction: table: no such file: {options.table}"
        return
    given = sorted({name for sample in study.samples for name in sample.measures})
    if options.target not in given:
        there = f"they have {', '.join(given)}" if given else "they have none"
        yield (
            f"prediction: target: {options.target!r} is no measurement of the samples (measures); {there}. "
            "Give the table that holds it with table"
        )
    if options.group_by is not None:
        yield "prediction: group_by: is a column of a table, and samples of the study have no such column; leave it out"


def _tell_all(error: ValidationError, content: Any) -> Iterator[str]:
    """Yield one line per mistake, with the sample's id; what only follows from another mistake is left out."""
    samples = content["samples"]
    told: dict[tuple[Any, ...], list[str]] = {}
    for item in error.errors():
        loc = _without_branches(item)
        told.setdefault(loc, []).append(_tell(item, loc, samples))
    for loc, texts in told.items():
        if not any(len(other) > len(loc) and other[: len(loc)] == loc for other in told):
            yield texts[-1]


def _without_branches(item: Any) -> tuple[Any, ...]:
    """Return the place of a mistake, less the kinds of value that a key could have had and that were tried in turn."""
    if item["type"] == "extra_forbidden":
        return tuple(item["loc"])
    models = (Study, Sample, CellOptions, PatchOptions, FitOptions, RegistrationOptions, PredictionOptions)
    keys = {key for model in models for key in model.model_fields}
    return tuple(itertools.takewhile(lambda part: isinstance(part, int) or part in keys, item["loc"]))


def _tell(item: Any, loc: tuple[Any, ...], samples: Any) -> str:
    about, where = "", loc
    if len(loc) > 1 and loc[0] == "samples":
        where, sample = loc[2:], samples[loc[1]]
        inherited = where and where[0] in _SECTIONS and where[0] not in sample
        about = "" if inherited else f"sample {sample.get('id', loc[1] + 1)}: "
    place = ".".join(map(str, where))
    if item["type"] == "extra_forbidden":
        return about + _unknown(
            ".".join(map(str, where[:-1])), str(where[-1]), _keys_at([str(part) for part in loc[:-1]])
        )
    if item["type"] == "missing":
        return f"{about}{place}: is missing"
    return f"{about}{place}: {item['msg'].removeprefix('Value error, ')}"


def _keys_at(location: list[str]) -> tuple[str, ...]:
    sections: dict[str, type[BaseModel]] = {
        "cell_options": CellOptions,
        "patches": PatchOptions,
        "fit": FitOptions,
        "registration": RegistrationOptions,
        "prediction": PredictionOptions,
    }
    model: type[BaseModel] = Study if not location else sections.get(location[-1], Sample)
    return tuple(model.model_fields)


def _unknown(place: str, key: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return f"{place}{'.' if place else ''}{key}: unknown key; {hint}"


def _told(mistakes: list[str], path: Path) -> StudyError:
    mistakes = list(dict.fromkeys(mistakes))
    return StudyError(mistakes[0] if len(mistakes) == 1 else "\n  " + "\n  ".join(mistakes), path=path)
