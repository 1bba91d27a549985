"""Every option of `histomri register` that belongs into a study arrives there under its own meaning."""

import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from histomri.core.errors import InputError
from histomri.registration import Transform
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


@pytest.mark.parametrize(
    ("options", "landmarks", "said"),
    [
        ({"turned_over": True, "flips": False}, None, "contradict each other"),
        ({"tilts": [-4, 40]}, None, "up to 15 degrees"),
        ({"landmarks_for": "only"}, None, "needs landmarks"),
        ({"landmarks_for": "only", "angle": 20, "flips": True}, "m1.csv", "leave out angle$"),
        ({"landmarks_for": "only", "kind": "syn"}, "m1.csv", "leave out kind"),
        ({"engine": "dipy"}, "m1.csv", "DIPY cannot hold landmarks"),
        ({"angle": 20}, "m1.csv", "landmarks tell the rotation"),
    ],
)
def test_contradictions_are_told_before_anything_is_done(options, landmarks, said):
    with pytest.raises(ValidationError) as refused:
        Sample.model_validate({**SAMPLE, "landmarks": landmarks, "registration": options})
    assert re.search(said, refused.value.errors()[0]["msg"])


@pytest.mark.parametrize("options", [{"kind": "none", "flips": True}, {"landmarks_for": "check", "engine": "dipy"}])
def test_options_of_a_study_that_a_sample_does_not_need_are_no_mistake(options):
    assert Sample.model_validate({**SAMPLE, "registration": options}).registration.kind == options.get(
        "kind", "bspline"
    )


def test_a_failed_registration_is_not_paired(tmp_path):
    record = {"Registration": {"QualityControl": {"verdict": "failed", "reasons": ["the outlines agree poorly"]}}}
    folder = stages.SampleFolder(tmp_path)
    folder.transform.parent.mkdir(parents=True)
    Transform(np.eye(4), info=record).save(folder.transform)
    with pytest.raises(InputError, match=r"the registration failed \(the outlines agree poorly\)"):
        stages._pair(Sample.model_validate(SAMPLE), "mouse-exvivo", folder, lambda done: None)


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
