"""Bruker's method file (ParaVision): JCAMP-DX with the effective b-values, δ, Δ and TE of a diffusion scan."""

import re

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import ProtocolError
from histomri.mri.plausibility import B0_BELOW_SMM2
from histomri.mri.protocols.columns import Columns
from histomri.mri.protocols.formats import Format, Source, register

_REPEATED = re.compile(r"@(\d+)\*\(([^()]*)\)")


def _parameters(source: Source) -> dict[str, str]:
    """Return the parameters of a JCAMP-DX file as text: what follows ##$NAME=, without sizes and comments."""
    # Comments begin with $$; the reader of lines has taken away what follows #, which begins every parameter here.
    text = re.sub(r"\$\$.*", "", source.path.read_text(encoding="utf-8", errors="replace"))
    pairs = (part.split("=", 1) for part in re.split(r"(?m)^##\$", text)[1:])
    found = {pair[0].strip(): re.split(r"(?m)^##", pair[1])[0].strip() for pair in pairs if len(pair) == 2}
    return {name: re.sub(r"^\([ \d,]+\)\s*", "", value) for name, value in found.items()}


def _numbers(parameters: dict[str, str], name: str) -> FloatArray | None:
    """Return the numbers of a parameter; None if it is not there. Runs of equal ones are written @3*(0.5)."""
    if name not in parameters:
        return None
    text = _REPEATED.sub(lambda match: f"{match[2]} " * int(match[1]), parameters[name])
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError as error:
        raise ProtocolError(f"{name} is not a list of numbers: {text[:40]!r}") from error
    if values.size == 0:
        raise ProtocolError(f"{name} is empty")
    return values


def _read(source: Source) -> Columns:
    parameters = _parameters(source)
    b = _numbers(parameters, "PVM_DwEffBval")
    if b is None:
        hint = "give the method file of a diffusion scan"
        raise ProtocolError("has no effective b-values (PVM_DwEffBval): it is no diffusion scan", hint=hint)
    te = _numbers(parameters, "PVM_EchoTime")
    effective = _numbers(parameters, "EffectiveTE")
    if effective is not None and effective.size > 1:
        hint = "give a table of b, δ, Δ and TE, a column per volume"
        raise ProtocolError(f"has {effective.size} echo times (EffectiveTE), in no order that it states", hint=hint)
    te = te if effective is None else effective
    delta, separation = (_shared(name, _numbers(parameters, name)) for name in ("PVM_DwGradDur", "PVM_DwGradSep"))
    repeats = _numbers(parameters, "PVM_NRepetitions")
    if repeats is not None and source.volumes == b.size * int(repeats[0]):
        b = np.tile(b, int(repeats[0]))
    echo = None if te is None else float(te[0])
    return Columns(b, delta, separation, echo, b0_below_smm2=_b0_below(parameters, b))


def _shared(name: str, values: FloatArray | None) -> float | None:
    """Return a time that all volumes share, ms."""
    if values is None or np.ptp(values) == 0:
        return None if values is None else float(values[0])
    problem = f"{name} has {values.size} different values, in no order that it states"
    raise ProtocolError(problem, hint="give .bval, .gdur and .gsep files")


def _b0_below(parameters: dict[str, str], b: FloatArray) -> float | None:
    """Return a limit above the volumes that the scan calls A0, of which imaging gradients make b = 15 to 40 s/mm²."""
    count = _numbers(parameters, "PVM_DwAoImages")
    if count is None or not 0 < int(count[0]) < b.size:
        return None
    a0, others = np.split(np.sort(b), [int(count[0])])
    # Where a weighted volume is nearly as weak, the file does not tell which is which.
    return float(a0[-1]) + 1.0 if B0_BELOW_SMM2 <= a0[-1] < min(others[0] / 2, 100.0) else None


register(
    Format(
        form="Bruker's method file",
        recognises=lambda source: source.path.is_file() and "##$PVM_" in _head(source),
        read=_read,
        name="bruker",
    )
)


def _head(source: Source) -> str:
    with source.path.open(encoding="utf-8", errors="replace") as file:
        return file.read(200_000) if file.read(8).startswith("##TITLE") else ""
