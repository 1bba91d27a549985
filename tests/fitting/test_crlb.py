import numpy as np
import pandas as pd
import pytest

from histomri.core.errors import InputError, ProtocolError
from histomri.fitting import MODELS, Model, bound_of_protocol, crlb, predict
from histomri.mri import Acquisition


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("mouse-exvivo", (0.16, 0.29, 2.8)),
        ("invivo-3t", (0.22, 3.4, 8.5)),
        ("invivo-1.5t", (0.13, 2.7, 3.9)),
    ],
)
def test_high_b_of_the_published_protocols(protocol, expected):
    """Independent numbers, given to two digits: SNR 30, f 0.6, D0 1.5, L 18."""
    tissue = {"fI": 0.6, "D0I": 1.5, "vCS": 18.0}
    bound = crlb("diff-in", Acquisition.preset(protocol), 30, tissue, preset=protocol, strategy="high-b")
    for name, value in zip(tissue, expected):
        assert bound.sd[name][0] == pytest.approx(value, rel=0.03)
    assert bound.informative("D0I")[0] == (protocol == "mouse-exvivo")


def test_five_parameters_cannot_be_told_from_four_encodings():
    bound = crlb("diff-in-extd", Acquisition.preset("invivo-3t"), 30, preset="invivo-3t", strategy="high-b")
    assert bound.measurements == 6
    assert all(np.isinf(bound.sd[name][0]) for name in ("fI", "DEinf", "beta", "CD"))


def test_the_bound_against_derivatives_and_inverse_written_out(rng):
    """A single parameter free: SD = σ / |ds/dL|; two: the inverse of the 2 x 2 matrix by hand."""
    mouse = Acquisition.preset("mouse-exvivo")
    used = mouse.select(mouse.b_smm2 > 1000)
    one = Model("one", "one", ("vCS",), fixed={"fI": 0.5, "D0I": 1.4})
    step = 1e-4
    slope = (predict(one, {"vCS": 14 + step}, used) - predict(one, {"vCS": 14 - step}, used))[0] / (2 * step)
    bound = crlb(one, mouse, 50, {"vCS": 14.0})
    assert bound.sd["vCS"][0] == pytest.approx(1 / 50 / np.linalg.norm(slope), rel=1e-4)
    two = Model("two", "two", ("fI", "vCS"), fixed={"D0I": 1.4})
    shape = predict(two, {"fI": 1.0, "vCS": 14.0}, used)[0]
    a, b, c = shape @ shape, shape @ slope, slope @ slope
    assert crlb(two, mouse, 50, {"fI": 0.5, "vCS": 14.0}).sd["fI"][0] == pytest.approx(
        np.sqrt(c / (a * c - b * b)) / 50, rel=1e-4
    )


def test_the_bound_falls_with_snr_and_rises_with_relaxation():
    mouse = Acquisition.preset("mouse-exvivo")
    for model in MODELS:
        low, high = crlb(model, mouse, 30), crlb(model, mouse, 60)
        np.testing.assert_allclose(low.sd["vCS"], 2 * high.sd["vCS"], rtol=1e-9)
        assert crlb(model, mouse, 30, t2t_ms=40).sd["vCS"][0] > low.sd["vCS"][0]
    sizes = crlb("diff-in", mouse, 30, {"vCS": np.arange(10.0, 31.0)})
    assert sizes.sd["vCS"].shape == (21,) and np.all(np.diff(sizes.sd["fI"]) > 0)


def test_what_makes_no_sense_is_refused():
    mouse = Acquisition.preset("mouse-exvivo")
    for wrong, message in (({"snr": 0}, "above 0"), ({"parameters": {"size": 3}}, "no size")):
        with pytest.raises(InputError, match=message):
            crlb("diff-in", mouse, **{"snr": 30, **wrong})
    with pytest.raises(ProtocolError, match="no measurement"):
        crlb("diff-in", mouse, 30, bmin_smm2=5000)
    with pytest.raises(InputError, match="at least 0"):
        crlb("diff-in", mouse, 30, {"vCS": np.nan})


def test_the_report_names_what_the_data_cannot_tell(tmp_path):
    models = ["diff-in", "diff-in-extd"]
    result = bound_of_protocol(Acquisition.preset("invivo-3t"), snr=30, models=models, preset="invivo-3t")
    assert [path.name for path in result.save(tmp_path)] == ["crlb.csv", "crlb.json", "crlb.png"]
    assert "vCS ± " in result._repr_html_()
    table = pd.read_csv(tmp_path / "crlb.csv")
    row = table[(table.model == "diff-in") & (table.strategy == "high-b") & (table.vCS_um == 18)]
    assert row.set_index("parameter").loc["vCS", "sd"] == pytest.approx(8.5, rel=0.03)
    assert row.set_index("parameter").loc["D0I", "determined_by"] == "bounds"
    assert any("leave" in text and "beta" in text for text in result.warnings)
    assert (tmp_path / "crlb.png").read_bytes()[:4] == b"\x89PNG"
