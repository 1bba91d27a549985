"""The stamp of a step's code changes with the code that made its result, and with no other."""

import shutil
from pathlib import Path

import pytest

import histomri
from histomri.core import provenance

FIT, PATCHES = "histomri.study.steps.fit", "histomri.study.steps.patches"


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the package that may be edited."""
    root = tmp_path / "histomri"
    shutil.copytree(Path(histomri.__file__).parent, root, ignore=shutil.ignore_patterns("__pycache__", "*.nb?"))
    monkeypatch.setattr(provenance, "_ROOT", root)
    _forget()
    yield root
    monkeypatch.undo()
    _forget()


def _forget():
    for function in (provenance.code_stamp, provenance._imports, provenance._files):
        function.cache_clear()


def edited(path):
    path.write_text(path.read_text().replace('"""', '"""Edited. ', 1))
    _forget()


def test_editing_the_report_repeats_no_fit_and_a_corrected_kernel_does(copy):
    before = {name: provenance.code_stamp(name) for name in (FIT, PATCHES)}
    for page in (copy / "report").rglob("*.py"):
        edited(page)
    assert {name: provenance.code_stamp(name) for name in (FIT, PATCHES)} == before
    edited(copy / "fitting" / "kernels.py")
    assert provenance.code_stamp(FIT) != before[FIT]
    assert provenance.code_stamp(PATCHES) == before[PATCHES]
    edited(copy / "cells" / "filters.py")
    assert provenance.code_stamp(PATCHES) != before[PATCHES]


def test_the_stamp_follows_imports_within_functions_and_behind_rooms_that_load_late(copy):
    found = provenance._closure(FIT)
    assert {"histomri.fitting.kernels", "histomri.mri.acquisition", "histomri.core.files"} <= found
    assert "histomri.mri.protocols.rows" in found, "forms of protocols register themselves"
    assert "histomri.registration.dipy_engine" in provenance._closure("histomri.study.steps.register")
    assert "histomri.registration.io.fsl" in provenance._closure("histomri.study.steps.apply")
    assert not {name for name in found if name.startswith(("histomri.report", "histomri.cells", "histomri.analysis"))}


def test_a_checkout_names_its_commit():
    version, _, commit = provenance.software_version().partition("+")
    assert version.replace(".", "").isdigit() and (not commit or ".g" in commit)
