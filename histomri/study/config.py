"""The study file: what a user writes in TOML, checked in full before anything runs."""

import difflib
import itertools
import os
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field, ValidationError

from histomri.errors import StudyError
from histomri.files import read_json, require_file, write_json
from histomri.study.options import (
    PATH_KEYS,
    SECTIONS,
    STUDY_PRESETS,
    CellOptions,
    FitOptions,
    PatchOptions,
    PredictionOptions,
    PresetName,
    RegistrationOptions,
    Sample,
    Section,
    SigmaEstimate,
    shown,
)


class Study(Section):
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
        return {key: shown(value, show) for key, value in content.items()}


class _Mistakes(Exception):
    pass


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
    known = ("study", "samples", "prediction", *SECTIONS)
    if top := [key for key in content if key not in known]:
        raise _Mistakes([_unknown("", key, known) for key in top])
    if not isinstance(content["samples"], list) or not all(isinstance(item, dict) for item in content["samples"]):
        raise _Mistakes(["samples must be tables: write [[samples]] above each"])
    common = {section: content.get(section, {}) for section in SECTIONS}
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
    spread = {key: absolute(value) if key in PATH_KEYS else value for key, value in sample.items()}
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
    if any(sample.patient for sample in study.samples):
        for sample in study.samples:
            if "patient" in sample.measures:
                yield f"sample {sample.id}: measures.patient: other samples have a key patient; write it as they do"
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
    yield from _ungrouped(study, options)


def _ungrouped(study: Study, options: PredictionOptions) -> Iterator[str]:
    """Yield the samples that cannot be told to be from the same patient as others, or from another one."""
    name = options.group_by or "patient"
    labels = {sample.id: sample.label(name) for sample in study.samples}
    if not any(labels.values()):
        if options.group_by is not None:
            yield f"prediction: group_by: no sample has a {name!r}; give the samples theirs, or leave group_by out"
        return
    for sample in study.samples:
        if options.target in sample.measures and not labels[sample.id]:
            yield (
                f"sample {sample.id}: {name}: is missing; samples with the same one stay together in the prediction "
                f"of {options.target}. With group_by = 'sample' under [prediction] each stands alone"
            )


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
        inherited = where and where[0] in SECTIONS and where[0] not in sample
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
