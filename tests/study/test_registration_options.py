"""Every option of `histomri register` that belongs into a study arrives there under its own meaning."""

from pathlib import Path

import pytest

from histomri.study import sample as stages
from histomri.study.options import Sample

SAMPLE = {"id": "m1", "cells": ("m1.tsv",), "dwi": "m1.nii.gz", "protocol": "mouse-exvivo", "mri_slice": 2}
OPTIONS = {
    "kind": "affine",
    "engine": "dipy",
    "drive": "both",
    "flips": False,
    "angle": 90.0,
    "turned_over": False,
    "tilts": (-4.0, 4.0),
    "shrinkage": 0.1,
}


@pytest.mark.parametrize("landmarks", [None, "m1.csv"])
def test_options_arrive(tmp_path, monkeypatch, landmarks):
    given = {}
    monkeypatch.setattr(
        "histomri.study.stages.register.run_register", lambda moving, fixed, out, **options: given.update(options)
    )
    options = {**OPTIONS, "landmarks_for": "check"}
    sample = Sample.model_validate({**SAMPLE, "landmarks": landmarks, "registration": options})
    stages._register(sample, "mouse-exvivo", stages.SampleFolder(tmp_path), lambda done: None)
    same = {"kind", "engine", "drive", "flips", "turned_over", "shrinkage"}
    assert {name: given[name] for name in same} == {name: OPTIONS[name] for name in same}
    assert (given["angle_deg"], given["tilts_deg"], given["slice"]) == (90.0, (-4.0, 4.0), 2)
    # Without landmarks there is nothing to check by, and that is no mistake in a study of many samples.
    assert (given["landmarks"], given["landmarks_for"]) == ((Path("m1.csv"), "check") if landmarks else (None, "start"))
