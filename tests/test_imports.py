"""No module needs itself: the imports of the package have no circle, rooms that load late included."""

import ast
import graphlib
import re
from pathlib import Path

import histomri

ROOT = Path(histomri.__file__).resolve().parent


def place(name):
    """Return the file of a module or package of histomri, without its ending; None if there is none."""
    path = ROOT.joinpath(*name.split(".")[1:])
    return path if path.with_suffix(".py").exists() or (path / "__init__.py").exists() else None


def defined_in(package, name):
    """Return the module that a name of a package comes from: a module of it, or what its stub says."""
    if place(f"{package}.{name}"):
        return f"{package}.{name}"
    stub = ROOT.joinpath(*package.split(".")[1:], "__init__.pyi")
    found = re.search(rf"from \.([\w.]+) import {name} as", stub.read_text()) if stub.exists() else None
    return f"{package}.{found[1]}" if found else package


def test_imports_have_no_circle():
    graph = {}
    for path in ROOT.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        own = [node for node in nodes if (node.module or "").startswith("histomri")]
        graph[module] = {defined_in(node.module, alias.name) for node in own for alias in node.names} - {module}
    assert len(graph) > 200
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules
