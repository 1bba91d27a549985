"""Bounds and the T2 of blood as text on the command line and in study files, without anything heavy."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from histomri.core.errors import InputError

BloodT2 = Literal["preset", "free", "1.5t", "3t"] | Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


def parse_bound(text: str) -> tuple[str, tuple[float, float]]:
    """Return name and bounds from text such as ``D0I=0.8,2.6``; ValueError if it is something else."""
    name, _, numbers = text.partition("=")
    try:
        lower, upper = map(float, numbers.split(","))
    except ValueError:
        lower = upper = math.nan
    if not (name.strip().isidentifier() and math.isfinite(lower) and math.isfinite(upper)):
        raise ValueError(f"{text!r} is not NAME=LOW,HIGH, such as D0I=0.8,2.6")
    return name.strip(), (lower, upper)


def parse_bounds(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return bounds by name; InputError if a parameter is named twice."""
    pairs = [parse_bound(text) for text in texts]
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"the bounds of {twice[0]} are given twice", hint="give them once")
    return dict(pairs)
