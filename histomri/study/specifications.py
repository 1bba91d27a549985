"""The ways in which a study could have been analysed: what [multiverse] says, and the studies that follow from it."""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from histomri.analysis.multiverse import ANALYSIS
from histomri.core.errors import StudyError
from histomri.core.options import unknown_key
from histomri.study.graph import PER_SAMPLE
from histomri.study.study_file import Study

AS_REPORTED = "as reported"
# Varied if the study file has no section [multiverse].
USUAL: Mapping[str, tuple[Any, ...]] = {
    "patches.shrinkage": (0.0,),
    "patches.section": ("none",),
    "patches.min_cells": (5,),
}
_MOST = 5000  # more are no analysis, and take days
_STEPS = {step.section: step for step in PER_SAMPLE}


@dataclass(frozen=True)
class Variant:
    """A study in which some options of steps are others."""

    chosen: dict[str, Any]  # by section.option; AS_REPORTED where it is as in the study
    study: Study | None  # None if the options contradict each other
    problem: str = ""


def read_choices(given: Mapping[str, Any] | None) -> tuple[dict[str, tuple[Any, ...]], dict[str, tuple[str, ...]]]:
    """Return the values of options of steps, by ``section.option``, and of the choices of `ANALYSIS`.

    Raises
    ------
    StudyError
        Naming everything under [multiverse] that is no choice, or no list of values.
    """
    if given is None:
        return dict(USUAL), dict(ANALYSIS)
    steps: dict[str, tuple[Any, ...]] = {}
    analysis = {name: values[:1] for name, values in ANALYSIS.items()}
    errors = []
    for name, value in given.items():
        if name in ANALYSIS:
            wrong = not isinstance(value, list) or not value or not set(map(str, value)) <= set(ANALYSIS[name])
            if wrong:
                errors.append(f"multiverse.{name}: must be a list of {', '.join(ANALYSIS[name])}")
            else:
                analysis[name] = tuple(dict.fromkeys((ANALYSIS[name][0], *value)))
        elif name in _STEPS and isinstance(value, dict):
            for key, values in value.items():
                if key not in _STEPS[name].keys:
                    errors.append(f"multiverse.{name}." + unknown_key(key, _STEPS[name].keys))
                elif not isinstance(values, list) or not values:
                    errors.append(f"multiverse.{name}.{key}: must be a list of values to try")
                else:
                    steps[f"{name}.{key}"] = tuple(values)
        else:
            errors.append("multiverse." + unknown_key(name, (*ANALYSIS, *_STEPS)))
    if errors:
        raise StudyError(errors[0] if len(errors) == 1 else "\n  " + "\n  ".join(errors))
    return steps, analysis


def variants(
    content: Mapping[str, Any], path: Path, steps: dict[str, tuple[Any, ...]], *, usual: bool = False
) -> list[Variant]:
    """Return the study as it is, and in every combination of the values of options that makes another study.

    Parameters
    ----------
    content : mapping
        The study file.
    path : Path
        Where it stands; its paths are relative to it.
    steps : dict
        Values by ``section.option``, beside what the study has.
    usual : bool
        Whether they are the usual ones, which nobody asked for: those that cannot stand in the study are taken out.

    Raises
    ------
    StudyError
        If a value by itself cannot stand in the study, or there are more combinations than 5000.
    """
    number, unfit = 1, list[str]()
    for values in steps.values():
        number *= len(values) + 1
    if number > _MOST:
        raise StudyError(
            f"[multiverse] makes {number} studies, more than {_MOST}", path=path, hint="give fewer choices"
        )
    for name, values in steps.items():
        for value in values:
            if (found := _variant(content, path, {name: value})).study is None:
                if not usual:
                    raise StudyError(f"multiverse.{name} = {value!r}: {found.problem}", path=path)
                unfit.append(name)
    for name in dict.fromkeys(unfit):
        del steps[name]
    reported = Variant(dict.fromkeys(steps, AS_REPORTED), Study.of(content, path))
    kept, seen = [reported], {_identity(reported.study)}
    for chosen in _combinations(steps):
        found = _variant(content, path, {name: value for name, value in chosen.items() if value != AS_REPORTED})
        same = _identity(found.study) if found.study is not None else json.dumps(chosen, default=str)
        if same not in seen:
            seen.add(same)
            kept.append(Variant(chosen, found.study, found.problem))
    return kept


def _combinations(steps: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    for values in product(*((AS_REPORTED, *values) for values in steps.values())):
        yield dict(zip(steps, values))


def _variant(content: Mapping[str, Any], path: Path, options: Mapping[str, Any]) -> Variant:
    changed = deepcopy(dict(content))
    for name, value in options.items():
        section, key = name.split(".")
        changed.setdefault(section, {})[key] = value
        for sample in changed["samples"]:  # what a sample has for itself gives way
            if key in sample.get(section, {}):
                sample[section][key] = value
    try:
        return Variant(dict(options), Study.of(changed, path))
    except StudyError as error:
        return Variant(dict(options), None, error.problem.strip().replace("\n  ", "; "))


def _identity(study: Study | None) -> str:
    """Return what distinguishes a study from others: all that its samples are made with."""
    assert study is not None
    return json.dumps([study.resolved(sample, str) for sample in study.samples], sort_keys=True, default=str)
