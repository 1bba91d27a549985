"""Options of a command, declared once: one class per command, from which everything else that names them is made.

The command line, the section of the study file, the key of a step, the settings in the report and the table in the
docs all read these declarations. A field is an *input* (a file or fact that a study takes from the sample or from an
earlier step), an *option* (a key of the section of the study file), or an *output* (one more file to write).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.fields import FieldInfo

from histomri.core.errors import InputError

Model = TypeVar("Model", bound="Options")
Role = Literal["input", "option", "output"]

# Python takes true for 1 and "no" for false; options that say so are mistaken.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Positive = Annotated[Number, Field(gt=0)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Shrinkage = Annotated[Number, Field(ge=0, lt=1)]
Seed = Annotated[Whole, Field(ge=0)]
SizeName = Literal["paper", "volume"]  # which numbers of a section are compared with MRI
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Pair = Annotated[
    tuple[Positive, Positive], BeforeValidator(lambda one: (one, one) if isinstance(one, int | float) else one)
]


def _sample_label(value: str) -> str:
    if re.fullmatch("[0-9A-Za-z]+", value) is None:
        raise ValueError(f"{value!r} names files, so it may hold only letters and digits without accents")
    return value


SampleLabel = Annotated[str, AfterValidator(_sample_label)]


@dataclass(frozen=True)
class Shown:
    """How a field is shown on the command line.

    Attributes
    ----------
    role : {"input", "option", "output"}
    flag : str or None
        Its name there, if not that of the field: ``--model``, or ``--figures/--no-figures``.
    positional : bool
        Whether it is an argument.
    metavar : str or None
    unit : str or None
        Unit of the number.
    commas : bool
        Whether several values are written in one, with commas between them, and not one by one.
    hidden : bool
        Whether only a study file has it.
    completes : tuple of str
        Words that are offered besides other values, such as names of presets beside paths.
    switches : mapping
        Options without a value that set the field, by name: ``{"--nearest": "nearest"}``.
    """

    role: Role = "option"
    flag: str | None = None
    positional: bool = False
    metavar: str | None = None
    unit: str | None = None
    commas: bool = False
    hidden: bool = False
    completes: tuple[str, ...] = ()
    switches: Mapping[str, Any] = field(default_factory=dict)


def argument(help: str, *, metavar: str | None = None, default: Any = ..., role: Role = "input") -> Any:
    """Declare an input that is an argument of the command line."""
    return Field(default, description=help, json_schema_extra={"shown": Shown(role, positional=True, metavar=metavar)})  # type: ignore[dict-item]


def given(default: Any, help: str, *, flag: str | None = None, **shown: Any) -> Any:
    """Declare an input that is an option of the command line: a file or fact of one sample."""
    return Field(default, description=help, json_schema_extra={"shown": Shown("input", flag, **shown)})  # type: ignore[dict-item]


def option(default: Any, help: str, *, flag: str | None = None, **shown: Any) -> Any:
    """Declare an option; in a study file it stands in the section of its command."""
    return Field(default, description=help, json_schema_extra={"shown": Shown("option", flag, **shown)})  # type: ignore[dict-item]


def output(default: Any, help: str, *, flag: str | None = None, **shown: Any) -> Any:
    """Declare one more file to write."""
    return Field(default, description=help, json_schema_extra={"shown": Shown("output", flag, **shown)})  # type: ignore[dict-item]


@dataclass(frozen=True)
class Choices:
    """The words that a value may be, where declarations elsewhere give them: ``Annotated[str, Choices(NAMES)]``."""

    words: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Validate membership, as pydantic asks for it."""
        from pydantic_core import core_schema

        return core_schema.literal_schema(list(self.words))


class Options(BaseModel):
    """The options of one command; an unknown key is an error, and nothing changes after validation.

    The docstring of a subclass is the help of its command.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    removed: ClassVar[Mapping[str, str]] = {}  # keys of earlier versions: what became of them

    @classmethod
    def read(cls, **values: Any) -> Self:
        """Validate values as given in Python, or raise one InputError that lists every error."""
        return validated(cls, values, lambda name: name)

    @classmethod
    def role(cls, name: str) -> Role:
        """Return the role of a field."""
        return shown(cls.model_fields[name]).role

    @classmethod
    def names(cls, role: Role) -> tuple[str, ...]:
        """Return the names of the fields that have a role."""
        return tuple(name for name in cls.model_fields if cls.role(name) == role)

    def reads(self) -> Iterator[Path]:
        """Yield every file whose content the command depends on; a folder stands for all files in it.

        A subclass adds the companions of its files: what else is opened because a file of that name was given.
        """
        for name in self.model_fields_set | set(type(self).model_fields):
            if self.role(name) != "output":
                yield from paths_in(getattr(self, name))


def shown(field: FieldInfo) -> Shown:
    """Return how a field is shown."""
    extra = field.json_schema_extra
    found = extra.get("shown") if isinstance(extra, dict) else None
    return found if isinstance(found, Shown) else Shown()


def flag_of(name: str, field: FieldInfo) -> str:
    """Return the name of a field on the command line: an argument in capitals, an option with its dashes."""
    about = shown(field)
    if about.positional:
        return about.metavar or name.upper()
    return (about.flag or f"--{name.replace('_', '-')}").split("/")[0]


def paths_in(value: Any) -> Iterator[Path]:
    """Yield the paths in a value of a field."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from paths_in(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from paths_in(item)


def plain(value: Any, show: Callable[[Path], Any]) -> Any:
    """Return plain data in which each path is written by `show`."""
    if isinstance(value, tuple | list):
        return [plain(item, show) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item, show) for key, item in value.items()}
    if isinstance(value, BaseModel):
        return plain(dict(value), show)
    return show(value) if isinstance(value, Path) else value


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the types that a value may have: the members of a union, without None and without annotations."""
    while get_origin(annotation) is Annotated:
        if any(isinstance(item, Choices) for item in annotation.__metadata__):
            return (annotation,)
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        return tuple(one for item in get_args(annotation) if item is not type(None) for one in alternatives(item))
    return (annotation,)


def words_of(annotation: Any) -> tuple[str, ...]:
    """Return the words that a value may be: those of a Literal or of `Choices`, alone or beside other kinds."""
    found: list[str] = []
    for kind in alternatives(annotation):
        if get_origin(kind) is Literal:
            found += map(str, get_args(kind))
        elif get_origin(kind) is Annotated:
            found += [word for item in kind.__metadata__ if isinstance(item, Choices) for word in item.words]
        elif get_origin(kind) is tuple:
            found += [word for part in get_args(kind) if part is not Ellipsis for word in words_of(part)]
    return tuple(found)


def validated(options: type[Model], values: Mapping[str, Any], name_of: Callable[[str], str], **where: Any) -> Model:
    """Validate values, or raise one InputError that lists every error.

    Parameters
    ----------
    options : type of Options
    values : mapping
    name_of : callable
        From the name of a field to what the person who gave it calls it.
    **where
        `path` and `hint` of the error.
    """
    try:
        return options.model_validate(dict(values))
    except ValidationError as error:
        # The quotation marks of a study file mean nothing elsewhere.
        found = (re.sub(", (in|without) quotation marks", "", text) for text in format_errors(error, options, name_of))
        texts = list(dict.fromkeys(found))
        raise InputError(texts[0] if len(texts) == 1 else "\n  " + "\n  ".join(texts), **where) from error


# What the validator reports of a wrong type, in words of a study file and of the command line.
_TYPE_ERRORS = {
    "missing": "is missing",
    "string_type": "must be text, in quotation marks",
    "path_type": "must be a path, in quotation marks",
    "float_type": "must be a number, without quotation marks",
    "int_type": "must be a whole number, without quotation marks",
    "int_from_float": "must be a whole number",
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
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
}


def format_errors(
    error: ValidationError, options: type[BaseModel], name_of: Callable[[str], str], known: Iterable[str] = ()
) -> Iterator[str]:
    """Yield one line per field that is wrong; `{field}` in the text of a validator becomes the field's name."""
    found: dict[Any, list[Any]] = {}
    for item in error.errors():
        found.setdefault(item["loc"][0] if item["loc"] else None, []).append(item)
    for name, items in found.items():
        if name is None:
            for item in items:
                text = str(item["msg"]).removeprefix("Value error, ")
                yield re.sub(r"\{(\w+)\}", lambda match: name_of(match[1]), text)
        elif items[0]["type"] == "extra_forbidden":
            hint = getattr(options, "removed", {}).get(name)
            names = list(known) or [name_of(each) for each in options.model_fields]
            yield f"{name}: unknown key since 0.2; {hint}" if hint else unknown_key(str(name), names)
        else:
            yield from _value_errors(options.model_fields[str(name)], name_of(str(name)), items)


def _value_errors(field: FieldInfo, name: str, items: list[Any]) -> Iterator[str]:
    """Yield what is wrong with a value; of a table, with each of its keys."""
    parts: dict[str, list[Any]] = {}
    is_table = any(get_origin(kind) is dict for kind in alternatives(field.annotation))
    for item in items:
        key = f".{item['loc'][1]}" if is_table and len(item["loc"]) > 1 else ""
        parts.setdefault(key, []).append(item)
    for key, found in parts.items():
        texts = dict.fromkeys(_problem(item, len(item["loc"]) == 1) for item in _most_telling(found))
        yield f"{name}{key}: {', or '.join(texts)}"


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Return the message about a key that is not known, with the one that comes close."""
    import difflib

    known = list(known)
    close = difflib.get_close_matches(key.lower(), known, n=1)
    return f"{key}: unknown key; " + (f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}")


def _most_telling(items: list[Any]) -> list[Any]:
    """Return, of what every kind of value that was tried reports, that of the kind that was meant, if that is clear."""
    kinds = ("_type", "literal_error", "missing", "int_from_float")
    right_kind = [item for item in items if not item["type"].endswith(kinds)]
    return right_kind[-1:] or items


def _problem(item: Any, whole: bool) -> str:
    """Say what is wrong with a value, or (not `whole`) with a part of it."""
    if item["type"] == "missing" and not whole:
        return "has too few values"
    if item["type"] in _TYPE_ERRORS:
        context = item.get("ctx", {})
        return _TYPE_ERRORS[item["type"]].format(s="s" if context.get("min_length") != 1 else "", **context)
    return str(item["msg"]).removeprefix("Value error, ")


def check(function: Callable[[Any], Any]) -> AfterValidator:
    """Return a check of one value, for use in an annotation; it raises ValueError with what is wrong."""
    return AfterValidator(function)
