"""The study file: what a user writes in TOML, checked in full before anything runs."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from histomri.core.door import read_json, read_toml, require_file
from histomri.core.errors import InputError, StudyError
from histomri.core.files import write_json
from histomri.core.options import Choices, Options, alternatives, format_errors, plain, unknown_key, words_of
from histomri.core.presets import PRESET_NAMES
from histomri.study.contradictions import contradictions
from histomri.study.cores import expand_cores
from histomri.study.graph import PER_SAMPLE, PER_STUDY
from histomri.study.plan import Plan
from histomri.study.sample import Sample
from histomri.study.sources import Place
from histomri.study.step import Step, build

SECTIONS = {step.section: step for step in (*PER_SAMPLE, *PER_STUDY)}
_SAMPLE_SECTIONS = tuple(step.section for step in PER_SAMPLE)
_SAMPLE_KEYS = tuple(name for name in Sample.model_fields if name != "options")
_EXAMPLE = "docs/study.md shows a whole study"
_SAVED = "a saved study names no folder outside of it: copy it beside the study file, or give its place as study.folder"


class _Head(BaseModel):
    """The table [study]."""

    model_config = ConfigDict(extra="forbid")

    name: str
    preset: Annotated[str, Choices(PRESET_NAMES)]
    simulated: bool = False
    folder: str = "."


@dataclass(frozen=True)
class Study:
    """A validated study; paths are absolute, and each sample holds the options that apply to it.

    Attributes
    ----------
    name, preset : str
    samples : tuple of Sample
    options : mapping
        The sections for the steps over all samples.
    simulated : bool
        Whether the data were made by a program; the report says so everywhere.
    plan : Plan, optional
        What was decided before the results were seen.
    multiverse : mapping, optional
        The section [multiverse]: choices that `histomri multiverse` varies.
    home : Path, optional
        The folder of the study file, which its relative paths start from.
    """

    name: str
    preset: str
    samples: tuple[Sample, ...]
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    simulated: bool = False
    plan: Plan | None = None
    multiverse: Mapping[str, Any] | None = None
    home: Path | None = None

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
            raise StudyError("is empty", path=path, hint=_EXAMPLE)
        require_file(path, "study file")
        return cls.of(read_content(path), path)

    @classmethod
    def of(cls, content: Any, path: Path) -> "Study":
        """Check the content of a study file, whose paths are relative to the folder of `path`; errors as `load`."""
        _report(_wrong_shapes(content), path)
        study, errors = _validate(content, _home(content, path))
        _report(errors, path)
        assert study is not None
        _report(contradictions(study), path)
        return study

    def save(self, path: str | Path) -> Path:
        """Write the study as it will be run, every default spelled out, as JSON that `load` reads.

        Paths start from the folder of the study file, whose place is the key `folder`, so that inputs and results can
        be moved together. No folder outside of the study and its results is named: of a file there, its name is
        written, and of a study that lies elsewhere than its results, no `folder`.
        """
        folder = Path(path).resolve().parent
        home = self.home or folder
        together = home.is_relative_to(folder) or folder.is_relative_to(home)
        within = folder if home.is_relative_to(folder) else home

        def show(file: Path) -> str:
            inside = next((one for one in (file, file.resolve()) if one.is_relative_to(within)), None)
            return file.name if inside is None else _way(home, inside)

        samples = [self.resolved(sample, show) for sample in self.samples]
        head: dict[str, Any] = {"study": {"name": self.name, "preset": self.preset, "simulated": self.simulated}}
        if together and home != folder:
            head["study"]["folder"] = _way(folder, home)
        head |= {"plan": self.plan.plain()} if self.plan is not None else {}
        head |= {"multiverse": self.multiverse} if self.multiverse is not None else {}
        return write_json(path, {**head, **self.resolved_options(show), "samples": samples})

    @property
    def fits(self) -> set[tuple[str, str]]:
        """Model and strategy of every fit of the samples."""
        found = set()
        for sample in self.samples:
            options: Any = build(SECTIONS["fit"], self.place(sample))
            strategies = [strategy or "custom" for strategy in options.fitted_strategies]
            found |= {(model, strategy) for model in options.fitted_models for strategy in strategies}
        return found

    def resolved(self, sample: Sample, show: Callable[[Path], str]) -> dict[str, Any]:
        """Return a sample as plain data with every default spelled out, each path written by `show`."""
        place = self.place(sample)
        content = sample.keys(show)
        for step in PER_SAMPLE:
            if step.name in place.active:
                content[step.section] = _settings(step, build(step, place), show)
            elif step.section in sample.options:
                content[step.section] = plain(sample.options[step.section], show)
        return content

    def resolved_options(self, show: Callable[[Path], str]) -> dict[str, Any]:
        """Return the sections of the steps over all samples as plain data."""
        return {
            step.section: plain({**_defaults(step), **self.options[step.section]}, show)
            for step in PER_STUDY
            if step.section in self.options
        }

    def place(self, sample: Sample, folder: Path = Path(), *, planned: bool = True) -> Place:
        """Return the place where the steps of a sample run."""
        active = frozenset(step.name for step in PER_SAMPLE if step.is_wanted(sample))
        preset = sample.preset or self.preset
        return Place(folder, preset, sample, active=active, planned=planned, options=sample.options)


def _settings(step: Step, options: Options, show: Callable[[Path], str]) -> dict[str, Any]:
    content = {name: getattr(options, name) for name in step.keys}
    return {name: plain(value, show) for name, value in content.items() if value is not None}


def _defaults(step: Step) -> dict[str, Any]:
    fields = step.command.options_class.model_fields
    own = {name: fields[name].default for name in step.keys if not fields[name].is_required()}
    return {name: value for name, value in own.items() if value is not None}


def _report(errors: Iterator[str] | list[str], path: Path) -> None:
    """Raise one error for all that is wrong with a study file, if anything is."""
    texts = list(dict.fromkeys(errors))
    if texts:
        lost = path.suffix == ".json" and any("no such file" in text for text in texts)
        hint = _SAVED if lost else None
        raise StudyError(texts[0] if len(texts) == 1 else "\n  " + "\n  ".join(texts), path=path, hint=hint)


def read_content(path: Path) -> Any:
    """Return what a study file holds, not checked yet."""
    return read_json(path, "study file") if path.suffix == ".json" else _read_toml(path)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path, "study file")
    except InputError as error:
        raise StudyError(error.problem, path=path, hint=error.hint or _EXAMPLE) from error


def _wrong_shapes(content: Any) -> Iterator[str]:
    """Yield what stands in the wrong place, or is no table where one is needed."""
    if not isinstance(content, dict) or "samples" not in content:
        yield "there are no samples; add a [[samples]] table for each section"
        return
    tables = ("study", "plan", "multiverse", *SECTIONS)
    for key, value in content.items():
        if key not in (*tables, "samples"):
            yield unknown_key(key, (*tables, "samples"))
        elif key in tables and not isinstance(value, dict):
            yield f"{key} must be one table: write [{key}] above its keys"
    samples = content["samples"]
    if not isinstance(samples, list) or not all(isinstance(item, dict) for item in samples):
        yield "samples must be tables: write [[samples]] above each"
    elif not samples:
        yield "samples: must have at least 1 item"
    if isinstance(content.get("study"), dict):
        yield from _misplaced(content["study"])


def _misplaced(head: dict[str, Any]) -> Iterator[str]:
    for name in head:
        if name in SECTIONS:
            yield f"study.{name}: unknown key; it is a section of its own, [{name}]"
        elif name not in _Head.model_fields:
            yield "study." + unknown_key(name, tuple(_Head.model_fields))


def _way(start: Path, end: Path) -> str:
    """Return the path from one folder to another or to a file, both of one drive."""
    shared = Path(os.path.commonpath([start, end]))
    return Path(*[".."] * len(start.relative_to(shared).parts), end.relative_to(shared)).as_posix()


def _home(content: dict[str, Any], path: Path) -> Path:
    """Return the folder that relative paths start from: that of the study file, or what it names as `folder`."""
    named = content["study"].get("folder", ".") if isinstance(content.get("study"), dict) else "."
    return Path(os.path.normpath(path.resolve().parent / (named if isinstance(named, str) else ".")))


def _validate(content: dict[str, Any], folder: Path) -> tuple[Study | None, list[str]]:
    """Return the study, None if it cannot be made, and everything that is wrong with it."""
    errors: list[str] = []
    try:
        head = _Head.model_validate(content.get("study", {}))
    except ValidationError as error:
        errors += format_errors(error, _Head, lambda name: f"study.{name}")
        head = None
    plan = None
    if "plan" in content:
        try:
            plan = Plan.model_validate(content["plan"])
        except ValidationError as error:
            errors += format_errors(error, Plan, lambda name: f"plan.{name}")
    common = {name: _absolute(SECTIONS[name], dict(content[name]), folder) for name in SECTIONS if name in content}
    samples = []
    entries, wrong = expand_cores(content["samples"], folder)
    errors += wrong
    for number, given in enumerate(entries, 1):
        who = f"sample {given.get('id') or number}: "
        sample, wrong = _validate_sample(given, common, folder)
        errors += (who + text for text in wrong)
        if sample is not None:
            samples.append((who, sample))
    group = {step.section: common[step.section] for step in PER_STUDY if step.section in common}
    own = tuple(each for _, each in samples)
    more = (plan, content.get("multiverse"), folder)
    study = Study(head.name, head.preset, own, group, head.simulated, *more) if head else None
    preset = study or Study("", PRESET_NAMES[0], ())
    found = [(who, list(dict.fromkeys(_option_errors(preset, sample)))) for who, sample in samples]
    for who, texts in found:
        # What is wrong with every sample stands in the sections that they share.
        shared = len(found) > 1 and {text for text in texts if all(text in others for _, others in found)}
        errors += [text if shared and text in shared else who + text for text in texts]
    for step in PER_STUDY:
        if step.section in group:
            errors += _unknown_options(step, group[step.section])
            errors += _wrong_options(step, group[step.section])
    return study, errors


def _validate_sample(
    given: Mapping[str, Any], common: Mapping[str, Mapping[str, Any]], folder: Path
) -> tuple[Sample | None, list[str]]:
    keys = {name: value for name, value in given.items() if name not in _SAMPLE_SECTIONS}
    if "options" in keys:
        return None, [unknown_key("options", (*_SAMPLE_KEYS, *_SAMPLE_SECTIONS))]
    errors, options = [], {}
    for section in _SAMPLE_SECTIONS:
        own = given.get(section)
        if own is not None and not isinstance(own, dict):
            errors.append(f"{section}: must be a table, with its keys below a heading or in {{ }}")
        elif own is not None or section in common:
            options[section] = {**common.get(section, {}), **_absolute(SECTIONS[section], own or {}, folder)}
    keys = {name: _resolve(Sample.model_fields[name].annotation, value, folder) if name in _SAMPLE_KEYS else value
            for name, value in keys.items()}  # fmt: skip
    try:
        return Sample(**keys, options=options), errors
    except ValidationError as error:
        known = (*_SAMPLE_KEYS, *_SAMPLE_SECTIONS)
        return None, [*errors, *format_errors(error, Sample, lambda name: name, known)]


def _absolute(step: Step, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the values of a section, relative paths taken from the folder of the study file."""
    fields = step.command.options_class.model_fields
    return {
        name: _resolve(fields[name].annotation, value, folder) if name in fields else value
        for name, value in values.items()
    }


def _resolve(annotation: Any, value: Any, folder: Path) -> Any:
    """Return a value with its paths absolute: text, where a path is meant and no word of ours stands."""
    if isinstance(value, list):
        return [_resolve(annotation, item, folder) for item in value]
    if not isinstance(value, str) or not _takes_path(annotation) or value in words_of(annotation):
        return value
    return Path(os.path.normpath(folder / value)) if value else Path()


def _takes_path(annotation: Any) -> bool:
    kinds = alternatives(annotation)
    return Path in kinds or any(_takes_path(part) for kind in kinds for part in getattr(kind, "__args__", ()))


def _option_errors(study: Study, sample: Sample) -> Iterator[str]:
    """Yield what is wrong with the options of a sample."""
    place = study.place(sample)
    for step in PER_SAMPLE:
        section = sample.options.get(step.section, {})
        yield from _unknown_options(step, section)
        if step.name not in place.active:
            given = {key: value for key, value in section.items() if (key, value) != ("kind", "none")}
            yield from _wrong_options(step, given)
            continue
        try:
            build(step, place)
        except ValidationError as error:
            texts = format_errors(error, step.command.options_class, partial(_name, step))
            yield from (text for text in texts if ": unknown key" not in text)  # those are named above


def _name(step: Step, field: str) -> str:
    """Return what the study file calls a field of a step."""
    source = step.source(field)
    return f"{step.section}.{field}" if source is None else source.key or field


def _unknown_options(step: Step, section: Mapping[str, Any]) -> Iterator[str]:
    known = step.keys
    for name in section:
        if name not in known:
            hint = step.command.options_class.removed.get(name)
            yield f"{step.section}." + (f"{name}: unknown key since 0.2; {hint}" if hint else unknown_key(name, known))


def _wrong_options(step: Step, section: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the section of a step whose inputs are not there."""
    try:
        step.command.options_class.model_validate(dict(section))
    except ValidationError as error:
        missing = {str(item["loc"][0]) for item in error.errors() if item["type"] == "missing"}
        inputs = {name for name in missing if step.source(name) is not None}
        for text in format_errors(error, step.command.options_class, lambda name: f"{step.section}.{name}"):
            if text.split(":")[0].split(".")[-1] not in inputs:
                yield text
