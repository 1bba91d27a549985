"""Contradictions between options, found from the declarations of the engines before anything is loaded."""

import json
import sys
from subprocess import run

import pytest

from histomri.core.errors import InputError
from histomri.registration.options import ENGINES, SEARCH_OPTIONS, ApplyOptions, RegisterOptions

NII = {"moving": "m.nii.gz", "fixed": "f.nii.gz"}
MARKS = {"landmarks": "l.csv"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"turned_over": True, "flips": False}, "turned_over and flips contradict each other"),
        ({"tilts": (-4.0, 40.0)}, "tilts: must be at most 15"),
        ({"landmarks_for": "only"}, "give landmarks"),
        ({"fixed_landmarks": "f.csv"}, "give landmarks"),
        ({**MARKS, "landmarks_for": "only", "angle": 20.0}, "angle does nothing where landmarks alone settle"),
        ({**MARKS, "landmarks_for": "only", "tilts": (4.0,)}, "tilts does nothing where landmarks alone settle"),
        ({**MARKS, "landmarks_for": "only", "flips": False}, "flips does nothing"),
        ({**MARKS, "landmarks_for": "only", "turned_over": False}, "turned_over does nothing"),
        ({**MARKS, "landmarks_for": "only", "engine": "dipy"}, "engine does nothing"),
        ({**MARKS, "landmarks_for": "only", "kind": "syn"}, 'kind "syn" cannot be found where landmarks alone'),
        ({**MARKS, "engine": "dipy"}, 'engine "dipy" cannot hold landmarks'),
        ({**MARKS, "kind": "syn"}, 'engine "dipy" cannot hold landmarks'),
        ({**MARKS, "angle": 20.0}, "angle does nothing where landmarks replace the search"),
        ({"kind": "tps"}, 'kind "tps" cannot be found by the engine "robust"'),
        ({"fixed_mpp": 0.5}, "fixed_mpp does nothing: f.nii.gz is no slide"),
        ({"mpp": 0.5}, "mpp does nothing"),
        ({"drive": "both"}, "drive: unknown key since 0.2; leave it out"),
    ],
)
def test_register_refuses(options, message):
    with pytest.raises(InputError, match=message):
        RegisterOptions.read(**NII, **options)


@pytest.mark.parametrize(
    "options",
    [
        {**MARKS, "landmarks_for": "check", "engine": "dipy"},
        {**MARKS, "landmarks_for": "check", "angle": 20.0},
        {**MARKS, "landmarks_for": "only", "kind": "tps"},
        {**MARKS, "tilts": (-4.0, 4.0), "turned_over": True},
        {"engine": "dipy", "kind": "affine", "tilts": (4.0,)},
        {**MARKS, "fixed_landmarks": "f.csv", "mpp": 0.5},
    ],
)
def test_register_accepts(options):
    RegisterOptions.read(**NII, **options)


def test_engines_declare_what_they_can_hold():
    for engine in ENGINES.values():
        assert engine.holds <= set(SEARCH_OPTIONS) <= set(RegisterOptions.model_fields)
        assert {"finish", "objection", "problem"} <= set(dir(engine.load()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input": "p.csv", "like": "l.nii.gz"}, "like does nothing to a table"),
        ({"input": "p.csv", "mpp": 0.5}, "mpp does nothing to a table"),
        ({"input": "p.csv", "interpolation": "nearest"}, "interpolation nearest does nothing to a table"),
        ({"input": "r.geojson", "slice": 2}, "slice does nothing to a GeoJSON file"),
        ({"input": "m.nii.gz", "like": "l.nii.gz", "fixed_mpp": 0.5}, "fixed_mpp does nothing to a map"),
        (
            {"input": "s.svs", "like": "l.nii.gz", "interpolation": "cubic"},
            "interpolation cubic does nothing to a slide",
        ),
        ({"input": "m.nii.gz"}, "a map needs a grid to be drawn on; give like"),
        ({"input": "s.svs"}, "a slide needs an MRI or a slide"),
        ({"input": "p.txt"}, "cannot be applied to this kind of file"),
    ],
)
def test_apply_refuses(given, message):
    with pytest.raises(InputError, match=message):
        ApplyOptions.read(xfm="x.json", **given)


def test_companions_are_read_too(tmp_path):
    def touch(name, content="{}"):
        (tmp_path / name).write_text(content)
        return tmp_path / name

    names = ("sub-1_param-F_histomap.nii.gz", "sub-1_param-F_histomap.json", "HE.ome.tif", "HE.histomri.json")
    moving, sidecar, slide, record = map(touch, names)
    options = RegisterOptions.read(moving=moving, fixed=slide)
    assert set(options.reads()) == {moving, sidecar, slide, record}
    xfm = touch("x_xfm.json", json.dumps({"Format": "histomri-transform"}))
    itk, warp = touch("x_xfm.tfm"), touch("x_xfm_warp0.nii.gz")
    found = set(ApplyOptions.read(xfm=xfm, input=moving, like=slide).reads())
    assert found >= {xfm, itk, warp, moving, sidecar, slide, record}
    assert found == set(ApplyOptions.read(xfm=itk, input=moving, like=slide).reads())


def test_the_declarations_are_light():
    code = "import sys, histomri.registration.options; print({'scipy', 'dipy', 'nibabel', 'pandas'} & set(sys.modules))"
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
