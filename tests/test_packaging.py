"""The wheel holds every package, and no line of the project names a machine or a registry."""

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
        assert not [line for line in lines if line.startswith(("def ", "class "))], path


def test_no_tracked_file_names_this_machine():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listing.split():
        path = ROOT / name
        if path.is_file():
            assert str(ROOT.parent) + "/" not in path.read_text(errors="replace") or ROOT.parent == Path("/"), name
