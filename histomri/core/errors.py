"""Errors meant for the person at the keyboard: what is wrong, where, and what to do."""

from pathlib import Path


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


class UnitError(InputError):
    """A unit is missing, unknown or implausible."""


class ProtocolError(InputError):
    """A diffusion protocol is missing, malformed, or does not belong to the data."""


class GeometryError(InputError):
    """Two images that must share a grid, or a space, do not."""


class StudyError(InputError):
    """The study file has a mistake."""
