"""The wheel holds every package, and no line of the project names a machine or a registry."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_every_folder_with_modules_is_in_the_package_list():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "histomri").rglob("*.py")}
    found = {".".join(folder.parts) for folder in folders} | {"histomri_cli"}
    assert listed == found
    for package in found - {"histomri_cli"}:
        assert (ROOT / package.replace(".", "/") / "__init__.py").exists(), f"{package} has no __init__.py"


def test_packages_offer_and_do_nothing_else():
    """A folder's __init__.py lists names: no definition hides there."""
    for path in (ROOT / "histomri").rglob("__init__.py"):
        lines = path.read_text().splitlines()
        assert not [line for line in lines if re.match(r"(def (?!__getattr__\b)|class )", line)], path


def test_every_file_that_is_read_at_run_time_is_in_the_wheel():
    """Stubs are not for type checkers alone: packages load their names by them."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for path in (ROOT / "histomri").rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc", ".nbi", ".nbc"):
            packages = [".".join(folder.relative_to(ROOT).parts) for folder in path.parents if ROOT in folder.parents]
            patterns = [
                (ROOT / package.replace(".", "/"), pattern) for package in packages for pattern in data.get(package, ())
            ] + [(path.parent, pattern) for pattern in data.get("*", ())]
            assert any(path in folder.glob(pattern) for folder, pattern in patterns), path


def test_no_tracked_file_names_this_machine():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listing.split():
        path = ROOT / name
        if path.is_file():
            assert str(ROOT.parent) + "/" not in path.read_text(errors="replace") or ROOT.parent == Path("/"), name
