"""How objects show themselves in a terminal and in a notebook: a few facts, never all their numbers."""

from collections.abc import Mapping
from html import escape
from typing import Any


class Displayed:
    """Gives a class a short repr and a small HTML table, from the facts it names.

    A dataclass that uses it is declared with ``repr=False``.
    """

    def facts(self) -> Mapping[str, Any]:
        """Return what to know at a glance: label to value, both shown as text."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """Return one line with the facts."""
        return f"{type(self).__name__}({', '.join(f'{name}: {value}' for name, value in self.facts().items())})"

    def _repr_html_(self) -> str:
        """Return the facts as a table, for a notebook."""
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>"
            for name, value in self.facts().items()
        )
        return f"<table><caption>{escape(type(self).__name__)}</caption>{rows}</table>"
