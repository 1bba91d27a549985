"""A study hands its options of registration on, and does not pair what could not be registered."""

from pathlib import Path

import numpy as np
import pytest

from histomri.core.errors import InputError
from histomri.registration import Transform
from histomri.study import sample as stages
from histomri.study.options import Sample

SAMPLE = {"id": "m1", "cells": ("m1.tsv",), "dwi": "m1.nii.gz", "protocol": "mouse-exvivo", "mri_slice": 2}
OPTIONS = {
    "kind": "affine",
    "engine": "dipy",
    "flips": False,
    "angle": 90.0,
    "turned_over": False,
    "tilts": (-4.0, 4.0),
    "shrinkage": 0.1,
}


def test_a_failed_registration_is_not_paired(tmp_path):
    record = {"Registration": {"QualityControl": {"verdict": "failed", "reasons": ["the outlines agree poorly"]}}}
    folder = stages.SampleFolder(tmp_path)
    folder.transform.parent.mkdir(parents=True)
    Transform(np.eye(4), info=record).save(folder.transform)
    with pytest.raises(InputError, match=r"the registration failed \(the outlines agree poorly\)"):
        stages._pair(Sample.model_validate(SAMPLE), "mouse-exvivo", folder, lambda done: None)


@pytest.mark.parametrize("landmarks", [None, "m1.csv"])
def test_options_arrive(tmp_path, monkeypatch, landmarks):
    given = []
    monkeypatch.setattr("histomri.study.steps.register.run", lambda options, out, progress: given.append(options))
    options = {**OPTIONS, "landmarks_for": "check"}
    sample = Sample.model_validate({**SAMPLE, "landmarks": landmarks, "registration": options})
    stages._register(sample, "mouse-exvivo", stages.SampleFolder(tmp_path), lambda done: None)
    assert {name: getattr(given[0], name) for name in OPTIONS} == OPTIONS
    assert (given[0].slice, given[0].figures) == (2, False)
    # Without landmarks there is nothing to check by, and that is no mistake in a study of many samples.
    wanted = (Path("m1.csv"), "check") if landmarks else (None, "start")
    assert (given[0].landmarks, given[0].landmarks_for) == wanted
