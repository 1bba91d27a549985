"""Results in a notebook: short, drawn, and as tables."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from histomri.core.errors import InputError
from histomri.fitting import bound_of_protocol, fit, fit_dki, predict
from histomri.mri import Acquisition

MOUSE = Acquisition.preset("mouse-exvivo")
MASK = np.zeros((3, 4, 2), bool)
MASK[:, 1:3, 0] = True


@pytest.fixture(scope="module")
def signals():
    values = predict("diff-in", {"fI": np.linspace(0.4, 0.8, 6), "D0I": 1.5, "vCS": 16.0}, MOUSE)
    values[:, MOUSE.is_b0] = 1
    return values


def test_protocols_may_be_named_and_results_are_short(signals):
    result = fit(signals, "mouse-exvivo", "diff-in", strategy="high-b")
    assert repr(result).startswith("FitResult(model: diff-in, fitted: 6, at_bound: 0") and "median vCS: 16" in repr(
        result
    )
    assert "<td>diff-in</td>" in result._repr_html_()
    dki = fit_dki(signals, "mouse-exvivo")
    assert "median ADC" in repr(dki)
    for one in (result, dki):
        assert isinstance(one.plot(), Figure) and isinstance(one.plot(MASK), Figure)
    assert list(result.to_pandas().columns) == list(result.maps)
    assert (
        repr(MOUSE) == "Acquisition(volumes: 50, b (s/mm²): 0 to 2800, δ (ms): 10, Δ (ms): 15 to 30, TE (ms): 31 to 65)"
    )
    assert MOUSE.to_pandas().shape == (50, 4) and isinstance(MOUSE.plot(), Figure)
    bound = bound_of_protocol("mouse-exvivo", snr=50)
    assert "Diff-in (whole" in repr(bound) and set(bound.to_pandas().determined_by) <= {"data", "bounds"}


def test_maps_lie_where_the_mask_says(signals, monkeypatch):
    # xarray is an extra; all that is asked of it is to take names, axes and values.
    monkeypatch.setitem(sys.modules, "xarray", SimpleNamespace(Dataset=lambda values, attrs: (values, attrs)))
    result = fit(signals, MOUSE, "diff-in", strategy="high-b")
    values, attrs = result.to_xarray(MASK)
    axes, grid = values["fI"]
    assert (axes, grid.shape, attrs) == (("i", "j", "k"), (3, 4, 2), {"model": "diff-in"})
    np.testing.assert_array_equal(grid[MASK], result.maps["fI"])
    assert np.isnan(grid[~MASK]).all()
    assert result.to_xarray()[0]["fI"][0] == ("voxel",)
    with pytest.raises(InputError, match="the mask has 24 voxels, and the fit 6"):
        result.to_xarray(np.ones((3, 4, 2), bool))
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(InputError, match="pip install xarray"):
        result.to_xarray()


def test_functions_say_what_they_need(signals):
    with pytest.raises(InputError, match=r"signals are an array .*Series\.open"):
        fit("dwi.nii.gz", MOUSE)
    with pytest.raises(InputError, match="the protocol is a list; give an Acquisition, a protocol file, or the name"):
        fit(signals, [0, 1000])
