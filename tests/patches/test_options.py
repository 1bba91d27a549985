"""The options of patches and ki67: what they refuse, and which files they say that they read."""

import json

import numpy as np
import pytest

from histomri.cells import CellOptions
from histomri.core.errors import InputError
from histomri.core.images import write_map
from histomri.core.options import flag_of
from histomri.patches import Ki67Options, PatchOptions
from histomri.slides import QupathGridOptions


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "pass one of patch_um, like and whole"),
        ({"patch_um": 100, "like": "a.nii"}, "pass one of patch_um, like and whole"),
        ({"whole": True, "patch_um": 100}, "pass one of patch_um, like and whole"),
        ({"whole": True, "step_um": 50}, "leave out whole or step_um"),
        ({"patch_um": 100, "step_um": 50, "assign": "clip"}, "leave out assign or step_um"),
        ({"patch_um": 100, "slide": "a.svs", "tissue": "cells"}, "leave out tissue or slide"),
        ({"patch_um": 0}, "patch_um: must be greater than 0"),
        ({"patch_um": 100, "sub": "a-b"}, "only letters and digits"),
    ],
)
def test_contradictions_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        PatchOptions.read(cells="c.parquet", **given)


def test_an_mri_that_sets_no_size_is_not_read(tmp_path):
    given = {"cells": tmp_path / "c.parquet", "like": tmp_path / "dwi.nii.gz"}
    assert given["like"] in set(PatchOptions.read(**given).reads())
    for unused in ({"like_mri": False, "patch_um": 100}, {"whole": True}):
        options = PatchOptions.read(**given, **unused)
        assert options.like is None and set(options.reads()) == {given["cells"]}


def test_every_file_that_is_opened_is_read(tmp_path):
    record = tmp_path / "A.histomri.json"
    for name in ("A.cells.tsv", "A.svs", "roi.geojson", "stains.json"):
        (tmp_path / name).write_text("x")
    (tmp_path / "qp" / "data" / "1").mkdir(parents=True)
    record.write_text(json.dumps({"schema": "histomri.qupath/1"}))
    table, slide, roi = tmp_path / "A.cells.tsv", tmp_path / "A.svs", tmp_path / "roi.geojson"
    project = tmp_path / "qp" / "project.qpproj"
    cells = CellOptions.read(exports=table, roi=roi, project=project)
    assert set(cells.reads()) == {table, roi, project, record, project.parent / "data"}
    patches = PatchOptions.read(cells=tmp_path / "c.parquet", slide=slide, patch_um=100)
    assert set(patches.reads()) == {tmp_path / "c.parquet", slide, record}
    assert set(PatchOptions.read(cells=table, patch_um=100).reads()) == {table, record}
    ki67 = Ki67Options.read(source=slide, roi=roi, stains=str(tmp_path / "stains.json"))
    assert set(ki67.reads()) == {slide, roi, record, tmp_path / "stains.json"}
    assert set(Ki67Options.read(source=slide, stains="estimate").reads()) == {slide, record}
    image, sidecar = write_map(tmp_path / "param-F_histomap.nii.gz", np.ones((2, 2)), np.eye(4))
    for name in ("x_xfm.json", "x_xfm_warp0.nii.gz"):
        (tmp_path / name).write_text("x")
    grid = QupathGridOptions.read(maps=[image], slide=slide, xfm=tmp_path / "x_xfm.json")
    expected = {image, sidecar, slide, record, tmp_path / "x_xfm.json", tmp_path / "x_xfm_warp0.nii.gz"}
    assert set(grid.reads()) == expected


@pytest.mark.parametrize("options", [PatchOptions, Ki67Options, QupathGridOptions, CellOptions])
def test_every_field_has_a_sentence_of_help(options):
    for name, field in options.model_fields.items():
        assert field.description and field.description.endswith("."), flag_of(name, field)
