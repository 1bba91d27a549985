"""The study file: what a user writes in TOML, checked in full before anything runs."""

import os
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field, ValidationError

from histomri.core.errors import StudyError
from histomri.core.files import read_json, require_file, write_json
from histomri.core.presets import PresetName
from histomri.study.mistakes import STUDY_KEYS, Mistakes, study_error, tell, unknown
from histomri.study.options import (
    PATH_KEYS,
    SECTIONS,
    STUDY_PRESETS,
    PredictionOptions,
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
        path = Path(path)
        if path.is_file() and not path.stat().st_size:
            raise StudyError("is empty", path=path, hint="docs/study.md shows a whole study")
        require_file(path, "study file")
        content = read_json(path, "study file") if path.suffix == ".json" else _read_toml(path)
        try:
            study = cls.model_validate(_spread(content, path.resolve().parent))
        except ValidationError as error:
            raise study_error(tell(error, content["samples"]), path) from error
        except Mistakes as error:
            raise study_error(error.args[0], path) from error
        if mistakes := list(_missing(study)):
            raise study_error(mistakes, path)
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


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise StudyError("is not a UTF-8 text file", path=path, hint="save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        slashes = "write paths with /, on every system" if "Unescaped" in str(error) else None
        hint = slashes or "docs/study.md shows a whole study"
        raise StudyError(f"is not valid TOML: {error}", path=path, hint=hint) from error
    except RecursionError as error:
        raise StudyError("is nested too deeply to be read", path=path) from error


def _spread(content: Any, folder: Path) -> Any:
    """Give every sample the study's options, overridden by its own, and make its paths absolute."""
    if not isinstance(content, dict) or "samples" not in content:
        raise Mistakes(["there are no samples; add a [[samples]] table for each section"])
    if mistakes := list(_misplaced(content)):
        raise Mistakes(mistakes)
    common = {section: content.get(section, {}) for section in SECTIONS}
    samples = [_spread_sample(sample, common, folder) for sample in content["samples"]]
    whole = {**content.get("study", {}), "samples": samples}
    if isinstance(prediction := content.get("prediction"), dict) and "table" in prediction:
        prediction = {**prediction, "table": _absolute(prediction["table"], folder)}
    return whole if prediction is None else {**whole, "prediction": prediction}


def _misplaced(content: dict[str, Any]) -> Iterator[str]:
    """Yield what stands in the wrong place, or is no table where one is needed."""
    tables = ("study", "prediction", *SECTIONS)
    for key, value in content.items():
        if key not in (*tables, "samples"):
            yield unknown("", key, (*tables, "samples"))
        elif key in tables and not isinstance(value, dict):
            yield f"{key} must be one table: write [{key}] above its keys"
        elif key == "study":
            yield from (unknown("study", name, STUDY_KEYS) for name in value if name not in STUDY_KEYS)
    samples = content["samples"]
    if not isinstance(samples, list) or not all(isinstance(item, dict) for item in samples):
        yield "samples must be tables: write [[samples]] above each"


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
    yield from _ambiguous([sample.id for sample in study.samples])
    for sample in study.samples:
        for key, path in sample.files():
            beside = f"{path}.bval"  # a protocol may be named by what its files have in common
            if not os.path.isfile(path) and not (key == "protocol" and os.path.isfile(beside)):
                yield f"sample {sample.id}: {key}: {_no_file(path)}"
        new_noise = sample.fit.bootstrap and sample.fit.bootstrap_kind == "parametric"
        if sample.sigma is None and (new_noise or sample.fit.crlb):
            yield f"sample {sample.id}: fit.{'bootstrap' if new_noise else 'crlb'} needs the noise level; give sigma"
    named = any(sample.patient for sample in study.samples)
    for sample in study.samples:
        if named and "patient" in sample.measures:
            yield f"sample {sample.id}: measures.patient: other samples have a key patient; write it as they do"
    if study.prediction is not None:
        yield from _unpredictable(study, study.prediction)


def _ambiguous(ids: list[str]) -> Iterator[str]:
    times = Counter(ids)
    for item, number in sorted(times.items()):
        if number > 1:
            yield f"the id {item!r} stands {number} times; every sample needs its own"
    for folded, number in Counter(item.casefold() for item in times).items():
        if number > 1:
            alike = [item for item in times if item.casefold() == folded]
            yield f"the ids {' and '.join(alike)} differ in capitals only, which the folders of some systems cannot"


def _no_file(path: Path) -> str:
    """Say why a path is not that of a file."""
    if path == Path():
        return "is empty; leave the key out, or name a file"
    if os.path.isdir(path):
        return f"is a folder, and a file is needed: {path}"
    if path.name.replace(".", "").isdigit():
        return f"no such file: {path}; write a number without quotation marks"
    if not str(path).isprintable():
        return f"no such file: {str(path)!r}; write paths with /, as \\ has a meaning of its own in quotation marks"
    return f"no such file: {path}" + ("; write paths with /, on every system" if "\\" in str(path) else "")


def _unpredictable(study: Study, options: PredictionOptions) -> Iterator[str]:
    if options.table is not None:
        if not os.path.isfile(options.table):
            yield f"prediction: table: {_no_file(options.table)}"
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
