"""Commands made from the options classes: each field becomes an argument or an option of the command line."""

import inspect
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from histomri.core.errors import InputError
from histomri.core.files import clear_killed
from histomri.core.options import Choices, alternatives, flag_of, shown, validated, words_of
from histomri.study.step import Command

from .common import announce, number_pair, numbers, progress_bar, report_compiling


def make_command(command: Command) -> Callable[..., None]:
    """Return the function that typer turns into a command: its signature is that of the options class."""
    options = command.options_class
    fields = {name: field for name, field in options.model_fields.items() if not shown(field).hidden}

    def invoke(**typed: Any) -> None:
        out, quiet = typed.pop("out", None), typed.pop("quiet")
        set_by = _switched(fields, typed)
        values = {name: _parse(fields[name], name, value) for name, value in typed.items()} | set_by
        values = {name: value for name, value in values.items() if value is not None}
        chosen = validated(options, values, lambda name: flag_of(name, options.model_fields[name]))
        if out is not None:
            clear_killed(out if command.out == "folder" else out.parent)
        with progress_bar(command.name, quiet) as progress, report_compiling(quiet or command.panel != "MRI"):
            result = command.run(chosen, out, progress)
        announce(result, quiet)

    parameters = [each for name, field in fields.items() for each in (_parameter(name, field), *_switches(name, field))]
    parameters.sort(key=lambda parameter: (not _is_positional(fields, parameter), not _is_required(fields, parameter)))
    last = max((k for k, one in enumerate(parameters) if _is_positional(fields, one)), default=-1) + 1
    parameters[last:last] = [_out(command)] if command.out != "none" else []
    parameters.append(_keyword("quiet", bool, typer.Option("--quiet", "-q", help=_QUIET), False))
    invoke.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    invoke.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    invoke.__name__, invoke.__doc__ = command.name, inspect.getdoc(options)
    return invoke


_QUIET = "Print nothing but warnings and errors."


def _keyword(name: str, kind: Any, about: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, about])


def _out(command: Command) -> inspect.Parameter:
    help = "Folder for the results; made if missing." if command.out == "folder" else "File to write."
    default = inspect.Parameter.empty if command.default_out is None else Path(command.default_out)
    return _keyword("out", Path, typer.Option("--out", "-o", help=help), default)


def _is_positional(fields: dict[str, FieldInfo], parameter: inspect.Parameter) -> bool:
    return parameter.name in fields and shown(fields[parameter.name]).positional


def _is_required(fields: dict[str, FieldInfo], parameter: inspect.Parameter) -> bool:
    return parameter.name in fields and fields[parameter.name].is_required()


def _switch_name(flag: str) -> str:
    return "switch_" + flag.lstrip("-").replace("-", "_")


def _switches(name: str, field: FieldInfo) -> list[inspect.Parameter]:
    """Return the options without a value that set a field."""
    own = flag_of(name, field)
    return [
        _keyword(_switch_name(flag), bool, typer.Option(flag, help=f"The same as {own} {value}."), False)
        for flag, value in shown(field).switches.items()
    ]


def _switched(fields: dict[str, FieldInfo], typed: dict[str, Any]) -> dict[str, Any]:
    """Take the switches out of what was typed, and return the values that they set.

    Raises
    ------
    InputError
        If two contradict each other.
    """
    found: dict[str, Any] = {}
    for name, field in fields.items():
        on = [flag for flag in shown(field).switches if typed.pop(_switch_name(flag))]
        if len(on) > 1:
            raise InputError(f"{' and '.join(on)} exclude each other", hint="leave one of them out")
        if on:
            found[name] = shown(field).switches[on[0]]
    return found


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """Return the parameter of a field, of a type that typer knows."""
    about, kinds = shown(field), alternatives(field.annotation)
    kind, default = _typed(kinds, about.commas), field.get_default(call_default_factory=True)
    metavar = about.metavar or _metavar(kinds, about.commas)
    help = f"{field.description}{f' In {about.unit}.' if about.unit and metavar else ''}"
    extra: dict[str, Any] = {"help": help, "metavar": metavar or about.unit}
    if words := (*words_of(field.annotation), *about.completes):
        extra["autocompletion"] = lambda incomplete: [word for word in words if word.startswith(incomplete)]
        if kind is str:
            extra["help"] = f"{help} Or: {', '.join(words)}."  # brackets would be taken for markup
    if default is PydanticUndefined:
        default = inspect.Parameter.empty
    elif get_origin(kind) is list:
        extra["show_default"] = ", ".join(map(str, default)) if default else False
        default = None
    elif kind is str and isinstance(default, tuple):
        extra["show_default"], default = ",".join(f"{value:g}" for value in default), None
    elif kind is str and default is not None:
        default = str(default)
    optional = kind | None if default is None else kind
    if about.positional:
        return _keyword(name, optional, typer.Argument(**extra), default)
    if kind is bool and about.flag is None:
        flags = [flag_of(name, field) if default is False else f"{flag_of(name, field)}/--no-{name.replace('_', '-')}"]
    else:
        flags = [about.flag or flag_of(name, field)]
    if kind is bool:
        extra["metavar"] = None
    return _keyword(name, optional, typer.Option(*flags, **extra), default)


def _typed(kinds: tuple[Any, ...], commas: bool) -> Any:
    """Return the type that typer parses a value as; text where a field takes several kinds of value."""
    if len(kinds) > 1 or commas or _is_pair(kinds[0]):
        return str
    kind = kinds[0]
    if get_origin(kind) is tuple and Ellipsis not in get_args(kind):
        return kind
    if get_origin(kind) is tuple:
        one = _typed(alternatives(get_args(kind)[0]), False)
        # typer takes no list of literals.
        return list[Enum("Word", {word: word for word in get_args(one)}) if get_origin(one) is Literal else one]  # type: ignore[misc]
    return _literal(kind)


def _literal(kind: Any) -> Any:
    if isinstance(found := _choices(kind), Choices):
        return Literal[found.words]
    return kind


def _choices(kind: Any) -> Choices | None:
    if get_origin(kind) is not Annotated:
        return None
    return next((item for item in kind.__metadata__ if isinstance(item, Choices)), None)


def _is_pair(kind: Any) -> bool:
    return get_origin(kind) is tuple and Ellipsis not in get_args(kind) and _number(kind)


def _number(kind: Any) -> bool:
    return all(alternatives(each) == (float,) for each in get_args(kind) if each is not Ellipsis)


def _metavar(kinds: tuple[Any, ...], commas: bool) -> str | None:
    if any(_is_pair(kind) for kind in kinds):
        return "X[,Y]"
    if commas:
        return "X,Y,.."
    return "PATH|NUMBER" if Path in kinds and float in kinds else None


def _parse(field: FieldInfo, name: str, value: Any) -> Any:
    """Return a value as the options class expects it, from what typer read."""
    about, kinds = shown(field), alternatives(field.annotation)
    flag = flag_of(name, field)
    if isinstance(value, list):
        return tuple(each.value if isinstance(each, Enum) else each for each in value) or None
    if not isinstance(value, str):
        return value
    if any(_is_pair(kind) for kind in kinds):
        width = len(get_args(next(kind for kind in kinds if _is_pair(kind))))
        return number_pair(value, flag, "0.2268") if width == 2 else tuple(numbers(value, flag))
    if about.commas:
        parts = [part.strip() for part in value.split(",")]
        if alternatives(get_args(kinds[0])[0]) == (int,):  # what is none is refused with the others
            return tuple(int(part) if part.lstrip("-").isdigit() else part for part in parts)
        return tuple(numbers(value, flag)) if _number(kinds[0]) else tuple(parts)
    if value in words_of(field.annotation) or not {float, int} & set(kinds):
        return value
    try:
        return int(value) if int in kinds and value.lstrip("-").isdigit() else float(value)
    except ValueError:
        return value
