"""The page of options in the docs: `python -m histomri_cli.option_tables > docs/options.md`."""

from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from histomri.core.options import Choices, alternatives, flag_of, shown, words_of
from histomri.study.graph import COMMANDS, PER_SAMPLE, PER_STUDY

_HEAD = """# Options

Every option of every command, made from their declarations. An option has the same name on the command line
(`--patch-um`) and in its section of the study file (`patch_um`), and the same default. Inputs are files and facts of
one sample: a study takes them from the keys of the sample, or from an earlier step.
"""
_KINDS = {"Path": "path", "str": "text", "float": "number", "int": "whole number", "bool": "yes or no"}


def tables() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *(line for command in COMMANDS if command.panel for line in _table(command))])


def _table(command: Any) -> Iterator[str]:
    options = command.options_class
    steps = [step for step in (*PER_SAMPLE, *PER_STUDY) if step.command is command]
    sections = ", ".join(f"`[{step.section}]`" for step in steps if step.section)
    yield f"## {command.name}\n"
    yield (options.__doc__ or "").strip().splitlines()[0] + (f" Section {sections}." if sections else "") + "\n"
    yield "| command line | study file | value | default | |"
    yield "|---|---|---|---|---|"
    # What must be given comes first, as in the help.
    for name, field in sorted(options.model_fields.items(), key=lambda item: not item[1].is_required()):
        role = shown(field).role
        key = f"`{name}`" if role == "option" and steps else "input" if role == "input" else ""
        flags = [] if shown(field).hidden else [flag_of(name, field), *shown(field).switches]
        flag = ", ".join(f"`{each}`" for each in flags)
        yield f"| {flag} | {key} | {_kind(field)} | {_default(field)} | {field.description} |"
    yield ""


def _kind(field: FieldInfo) -> str:
    words = [f"`{word}`" for word in words_of(field.annotation)]
    kinds = [_name(kind) for kind in alternatives(field.annotation)]
    text = ", ".join(dict.fromkeys([*words, *(kind for kind in kinds if kind)]))
    unit = f" {shown(field).unit}" if shown(field).unit else ""
    return f"{text}{unit}{_bounds(field)}".replace("|", "\\|")


def _name(kind: Any) -> str:
    if get_origin(kind) is tuple:
        parts = [_name(each) for part in get_args(kind) if part is not Ellipsis for each in alternatives(part)]
        inner = ", ".join(dict.fromkeys(part for part in parts if part))
        return f"list of {inner}" if Ellipsis in get_args(kind) and inner else inner
    if get_origin(kind) is Annotated and any(isinstance(item, Choices) for item in kind.__metadata__):
        return ""
    return _KINDS.get(getattr(kind, "__name__", ""), "")


def _bounds(field: FieldInfo) -> str:
    signs = {Gt: (">", "gt"), Ge: ("≥", "ge"), Lt: ("<", "lt"), Le: ("≤", "le")}
    found = [
        f"{signs[type(item)][0]} {getattr(item, signs[type(item)][1]):g}"
        for item in _metadata(field.annotation, field.metadata)
        if type(item) in signs
    ]
    return f" ({', '.join(dict.fromkeys(found))})" if found else ""


def _metadata(annotation: Any, own: list[Any]) -> list[Any]:
    found = list(own)
    if get_origin(annotation) is Annotated:
        for item in annotation.__metadata__:
            found += item.metadata if isinstance(item, FieldInfo) else [item]
        return _metadata(get_args(annotation)[0], found)
    for part in get_args(annotation):
        if part is not Ellipsis:
            found += _metadata(part, [])
    return found


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None or value == ():
        return ""
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    print(tables())
