"""Mistakes in a study file in words: where, what, and what was probably meant."""

import difflib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from histomri.core.errors import StudyError
from histomri.study.options import (
    SECTIONS,
    CellOptions,
    FitOptions,
    PatchOptions,
    PredictionOptions,
    RegistrationOptions,
    Sample,
)

STUDY_KEYS = ("name", "preset")
_MODELS: dict[str, type[BaseModel]] = {
    "cell_options": CellOptions,
    "patches": PatchOptions,
    "fit": FitOptions,
    "registration": RegistrationOptions,
    "prediction": PredictionOptions,
}
# What the validator says of a wrong type, in words of TOML.
_WORDS = {
    "string_type": "must be text, in quotation marks",
    "path_type": "must be a path, in quotation marks",
    "float_type": "must be a number, without quotation marks",
    "int_type": "must be a whole number, without quotation marks",
    "bool_type": "must be true or false, without quotation marks",
    "finite_number": "must be a finite number; leave out what is not known",
    "tuple_type": "must be a list, in [ ]",
    "dict_type": "must be a table, such as {{ Ki67_fraction = 0.12 }}",
    "model_type": "must be a table, with its keys below a heading or in {{ }}",
    "too_short": "must have at least {min_length} item{s}",
    "too_long": "must have {max_length} items",
    "string_too_short": "is empty; leave it out",
    "string_pattern_mismatch": "begins with a letter, and has letters, digits and _ only",
    "literal_error": "must be {expected}",
}


class Mistakes(Exception):
    """Mistakes that leave nothing to validate; the argument lists them in words."""


def study_error(mistakes: Iterable[str], path: Path) -> StudyError:
    """Return one error for all mistakes of a study file."""
    texts = list(dict.fromkeys(mistakes))
    return StudyError(texts[0] if len(texts) == 1 else "\n  " + "\n  ".join(texts), path=path)


def unknown(place: str, key: str, known: tuple[str, ...]) -> str:
    """Say that a key is not known at a place, and which one comes close."""
    where = f"{place}{'.' if place else ''}{key}: unknown key; "
    if place and key in ("prediction", *SECTIONS):
        return f"{where}it is a section of its own, [{key}]"
    close = difflib.get_close_matches(key.lower(), known, n=1)
    return where + (f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}")


def tell(error: ValidationError, samples: list[dict[str, Any]]) -> Iterator[str]:
    """Yield one line per mistake, with the sample's id; what only follows from another mistake is left out."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for item in error.errors():
        found.setdefault(_without_branches(item), []).append(item)
    for loc, items in found.items():
        if not any(len(other) > len(loc) and other[: len(loc)] == loc for other in found):
            yield _tell(items, loc, samples)


def _without_branches(item: Any) -> tuple[Any, ...]:
    """Return the place of a mistake, less the kinds of value that a key could have had and that were tried in turn."""
    if item["type"] == "extra_forbidden":
        return tuple(item["loc"])
    models: tuple[type[BaseModel], ...] = (Sample, *_MODELS.values())
    keys = {*STUDY_KEYS, "samples", *_MODELS, *(key for model in models for key in model.model_fields)}
    place = tuple(itertools.takewhile(lambda part: isinstance(part, int) or part in keys, item["loc"]))
    return tuple(item["loc"][: len(place) + 1]) if place[-1:] == ("measures",) else place


def _nearest(items: list[Any]) -> list[Any]:
    """Return, of what every kind of value that was tried says, that of the kind which was meant, if one can tell."""
    right_kind = [item for item in items if item["type"] == "finite_number" or item["type"] not in _WORDS]
    return right_kind[-1:] or items


def _tell(items: list[Any], loc: tuple[Any, ...], samples: list[dict[str, Any]]) -> str:
    item, about, where = items[0], "", loc
    if loc[0] in STUDY_KEYS:
        where = ("study", *loc)
    if len(loc) > 1 and loc[0] == "samples":
        where, sample = loc[2:], samples[loc[1]]
        inherited = where and where[0] in SECTIONS and where[0] not in sample
        about = "" if inherited else f"sample {sample.get('id') or loc[1] + 1}: "
    place = ".".join(map(str, where))
    if item["type"] == "extra_forbidden":
        known = _MODELS.get(str(loc[-2]), Sample).model_fields
        return about + unknown(".".join(map(str, where[:-1])), str(where[-1]), tuple(known))
    texts = dict.fromkeys(_in_words(each, item["loc"] == loc) for each in _nearest(items))
    return f"{about}{place}: {', or '.join(texts)}"


def _in_words(item: Any, whole: bool) -> str:
    """Say what is wrong with a value, or (not `whole`) with a part of it."""
    if item["type"] == "missing":
        return "is missing" if whole else "has too few values"
    if item["type"] in _WORDS:
        numbers = item.get("ctx", {})
        return _WORDS[item["type"]].format(s="s" if numbers.get("min_length") != 1 else "", **numbers)
    return str(item["msg"]).removeprefix("Value error, ")
