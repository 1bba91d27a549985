"""The examples in docstrings do what they show."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import histomri

ROOT = Path(histomri.__file__).resolve().parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module(name):
    found = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert found.attempted > 0 and found.failed == 0


def test_the_main_functions_have_an_example():
    """Of what the package offers, and what the rooms are used for."""
    found = [part for name in MODULES for part in doctest.DocTestFinder().find(import_module(name)) if part.examples]
    assert len(found) >= 30
