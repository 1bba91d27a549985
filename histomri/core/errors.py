"""Errors meant for the person at the keyboard: what is wrong, where, and what to do."""

from collections.abc import Sequence
from pathlib import Path

_SHOWN = 40  # mistakes of a file in one message


class HistomriError(Exception):
    """Base of every error that histomri raises on purpose; the command line prints it and exits with 2."""


class InputError(HistomriError, ValueError):
    """Something given by the user cannot be used.

    Parameters
    ----------
    problem : str
        What is wrong, in one clause.
    path : path-like, optional
        The file it was found in; only its name is printed when the message says where anyway.
    hint : str, optional
        What to do about it, such as the option to pass.
    """

    def __init__(self, problem: str, *, path: str | Path | None = None, hint: str | None = None) -> None:
        self.problem, self.path, self.hint = problem, path, hint
        where = f"{path}: " if path is not None else ""
        remedy = f"; {hint}" if hint else ""
        super().__init__(f"{where}{problem}{remedy}")


class InputErrors(InputError):
    """Several things in one file cannot be used.

    Parameters
    ----------
    errors : sequence of InputError
        Two or more.
    path : path-like, optional
        The file.
    """

    def __init__(self, errors: Sequence[InputError], path: str | Path | None = None) -> None:
        self.errors = tuple(errors)
        lines = [f"{error.problem}; {error.hint}" if error.hint else error.problem for error in errors]
        more = [f".. and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        super().__init__("\n  ".join([f"{len(lines)} mistakes:", *lines[:_SHOWN], *more]), path=path)


def raise_together(errors: Sequence[InputError], path: str | Path | None = None) -> None:
    """Raise all errors of a file as one, each but once; nothing if there is none."""
    each = [one for error in errors for one in (error.errors if isinstance(error, InputErrors) else (error,))]
    each = list({error.problem: error for error in each}.values())
    if len(each) > 1:
        raise InputErrors(each, path)
    if each:
        raise each[0]


class UnitError(InputError):
    """A unit is missing, unknown or implausible."""


class ProtocolError(InputError):
    """A diffusion protocol is missing, malformed, or does not belong to the data."""


class GeometryError(InputError):
    """Two images that must share a grid, or a space, do not."""


class StudyError(InputError):
    """The study file has a mistake."""
