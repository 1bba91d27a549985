import json

import numpy as np
import pytest

from histomri.core.errors import InputError
from histomri.fitting import FitResult, fit, predict
from histomri.mri import Acquisition

MOUSE = Acquisition.preset("mouse-exvivo")
SIGNALS = predict("diff-in", {"fI": [0.4, 0.6, 0.5], "D0I": 1.4, "vCS": [14.0, 17.0, 20.0]}, MOUSE)


def test_a_result_comes_back_as_it_was(tmp_path):
    result = fit(SIGNALS, MOUSE, "diff-in", sigma=0.01, s0=1.0)
    result.parameters["level"] = {"MedianSigma": np.float32(0.5), "Missing": float("nan")}
    back = FitResult.load(result.save(tmp_path / "fit.npz"))
    assert (back.model, back.warnings, back.counts) == (result.model, result.warnings, result.counts)
    assert back.maps.keys() == result.maps.keys()
    for name, values in result.maps.items():
        assert back.maps[name].dtype == values.dtype
        np.testing.assert_array_equal(back.maps[name], values)
    level = back.parameters.pop("level")
    assert level["MedianSigma"] == 0.5 and np.isnan(level["Missing"])
    result.parameters.pop("level")
    assert back.parameters == result.parameters
    np.testing.assert_array_equal(back.predict(MOUSE), result.predict(MOUSE))
    with np.load(tmp_path / "fit.npz", allow_pickle=False) as stored:
        assert json.loads(str(stored["record"]))["GeneratedBy"][0]["Name"] == "histomri"


def test_what_is_no_result_is_refused(tmp_path):
    result = FitResult("dki", {"exit": np.ones(2)})
    with pytest.raises(InputError, match=r"ending in \.npz"):
        result.save(tmp_path / "fit.json")
    path = tmp_path / "fit.npz"
    whole = result.save(path).read_bytes()
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    np.save(tmp_path / "array.npy", np.ones(3))
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "pickle.npz", record=objects)
    (tmp_path / "text.npz").write_text("fI vCS")
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("other.npz", "array.npy", "pickle.npz", "text.npz", "cut.npz"):
        with pytest.raises(InputError, match="no saved result of a fit"):
            FitResult.load(tmp_path / name)
    with pytest.raises(InputError, match="no such result of a fit"):
        FitResult.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("given", "strategy", "threshold"),
    [
        ({}, "whole", 1000),
        ({"bmin_smm2": 1000}, "whole", 1000),
        ({"bmin_smm2": 1800.0}, "high-b", 1800),
        ({"bmin_smm2": 1500}, "custom", 1500),
        ({"bmin_smm2": 1800, "strategy": "high-b"}, "high-b", 1800),
    ],
)
def test_the_strategy_recorded_is_that_of_the_threshold(given, strategy, threshold):
    settings = fit(SIGNALS, MOUSE, s0=1.0, **given).parameters
    assert (settings["strategy"], settings["bmin_smm2"]) == (strategy, threshold)


def test_a_threshold_and_a_strategy_that_differ_are_refused():
    with pytest.raises(InputError, match="not both"):
        fit(SIGNALS, MOUSE, s0=1.0, bmin_smm2=1500, strategy="whole")
    with pytest.raises(InputError, match="at least 0"):
        fit(SIGNALS, MOUSE, s0=1.0, bmin_smm2=float("nan"))
    with pytest.raises(InputError, match="no strategy 'custom'"):
        fit(SIGNALS, MOUSE, s0=1.0, strategy="custom")
