"""The options of the commands on diffusion images: contradictions are refused, and every file read is named."""

import pytest

from histomri.core.errors import InputError
from histomri.fitting.options import CrlbOptions, DkiOptions, FitOptions, T2IvimOptions
from histomri.mri.options import PreprocessOptions


def options(**values):
    return FitOptions.read(**{"dwi": "dwi.nii.gz", "protocol": "mouse-exvivo", **values})


def test_no_default_models_beside_a_dictionary():
    assert options().fitted_models == ("diff-in", "diff-in-ex")
    assert options(dictionary_table="t.csv").fitted_models == ()
    assert options(dictionary_table="t.csv", models=("diff-in",)).fitted_models == ("diff-in",)


def test_a_threshold_replaces_the_strategies():
    assert (options().fitted_strategies, options().has_folders) == (("whole", "high-b"), True)
    assert (options(bmin=1500).fitted_strategies, options(bmin=1500).has_folders) == ((None,), False)
    assert options(bmin=1800, strategies=("high-b",)).fitted_strategies == ("high-b",)
    one = options(strategies=("whole", "whole"))
    assert (one.fitted_strategies, one.has_folders) == (("whole",), False)
    assert options(strategies=("whole",), strategy_folders=True).has_folders


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"noise": "rician"}, "rician likelihood needs the noise level; give sigma"),
        ({"bootstrap": 1}, "bootstrap: 1 repeat has no spread"),
        ({"crlb": True, "sigma": 2.0, "dictionary_table": "t.csv"}, "crlb needs a model"),
        ({"t2ivim": True, "s0": "s0.nii"}, "leave t2ivim or the maps out"),
        ({"sigma": -1.0}, "sigma: must be greater than 0"),
        ({"kurtosis": 6.0}, "kurtosis: must be at most 5"),
        ({"models": ()}, "models: must have at least 1 item"),
        ({"protocol": " "}, "protocol: no protocol is named"),
    ],
)
def test_contradictions_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        options(**values)


def test_every_file_that_is_read_is_named(tmp_path):
    for name in ("d.nii", "d.bval", "p.gdur", "p.gsep", "p.bval", "p.te", "other.te", "m.img", "m.hdr", "a.json"):
        (tmp_path / name).write_text("{}" if name == "a.json" else "0 1000")

    def named(one):
        return {path.name for path in one.reads()}

    dwi, mask, protocol = tmp_path / "d.nii", tmp_path / "m.img", tmp_path / "p.bval"
    parts = {"p.bval", "p.gdur", "p.gsep", "p.te"}
    for kind in (FitOptions, T2IvimOptions, DkiOptions):
        found = named(kind.read(dwi=dwi, protocol=protocol, mask=mask))
        assert found == {"d.nii", "d.bval", "m.img", "m.hdr", *parts}
        # A common stem, and a sidecar that takes the b-values from beside the images.
        assert named(kind.read(dwi=dwi, protocol=tmp_path / "p")) == {"d.nii", "d.bval", *parts}
        assert named(kind.read(dwi=dwi, protocol=tmp_path / "a.json")) == {"d.nii", "a.json", "d.bval"}
        assert named(kind.read(dwi=dwi, protocol="invivo-3t")) == {"d.nii"}
    maps = {name: tmp_path / f"{name}.nii" for name in ("s0", "fv", "t2t", "sigma")}
    every = FitOptions.read(dwi=dwi, protocol="invivo-3t", **maps, dictionary=(tmp_path / "s.npy", tmp_path / "p.npy"))
    assert named(every) == {"d.nii", "s0.nii", "fv.nii", "t2t.nii", "sigma.nii", "s.npy", "p.npy"}
    assert named(CrlbOptions.read(protocol=protocol)) == parts
    given = PreprocessOptions.read(dwi=dwi, protocol="invivo-3t", drift_reference=mask)
    assert named(given) == {"d.nii", "m.img", "m.hdr"}
