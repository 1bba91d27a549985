"""Pixels, scales and outlines against direct computations."""

import base64
import io

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from histomri.report.pictures import Scale, fit_scale, levels, number, outline, png
from histomri.report.text import correlation_text, decimals, merge_warnings


@pytest.fixture
def scale():
    return Scale(10.0, 30.0, "viridis", "µm", "Cell size")


def test_png_holds_one_pixel_per_value(rng, scale):
    picture = rng.uniform(5, 35, (7, 9))
    picture[2, 4] = np.nan
    kind, content = png(picture, scale).split(",")
    assert kind == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    pixels = np.asarray(image.convert("RGBA")) / 255
    share = np.round(254 * np.clip((np.nan_to_num(picture) - 10) / 20, 0, 1)) / 254  # a palette has 255 colours
    known = np.isfinite(picture)
    np.testing.assert_allclose(pixels[known], colormaps["viridis"](share)[known], atol=0.5 / 255 + 1e-6)
    assert pixels[2, 4, 3] == 0
    np.testing.assert_array_equal(np.asarray(image), levels(picture, scale))  # what the page reads under the cursor


def test_levels_give_the_values_back(rng, scale):
    picture = rng.uniform(10, 30, (7, 9))
    picture[0, 0] = np.nan
    coded = levels(picture, scale).astype(float)
    assert coded[0, 0] == 0 and (coded[np.isfinite(picture)] > 0).all()
    back = 10 + (coded - 1) / 254 * 20
    np.testing.assert_allclose(back[np.isfinite(picture)], picture[np.isfinite(picture)], atol=20 / 254 / 2 + 1e-9)


def test_scales_are_round_and_cover_most(rng):
    values = rng.normal(20, 2, 5000)
    scale = fit_scale([values[:2000], values[2000:]], "viridis", "µm", "")
    assert scale.low <= np.percentile(values, 2) and scale.high >= np.percentile(values, 98)
    assert scale.high - scale.low < 12
    assert scale.low * 4 == round(scale.low * 4)
    flat = fit_scale([np.full(5, 3.0)], "viridis", "", "")
    assert flat.low < 3 < flat.high
    empty = fit_scale([], "viridis", "", "")
    assert empty.low < empty.high


def test_ticks_lie_where_they_say(scale):
    for tick in scale.ticks():
        assert float(tick["label"]) == pytest.approx(10 + float(tick["left"]) / 100 * 20, abs=0.01)
    assert scale.gradient().startswith("linear-gradient(to right, #440154")


def test_outline_walks_round_every_pixel_border(rng):
    inside = rng.random((7, 9)) > 0.5
    path = outline(inside)
    expected = set()
    for y in range(7):
        for x in range(9):
            if inside[y, x]:
                for border in (f"M{x} {y}h1", f"M{x} {y + 1}h1", f"M{x} {y}v1", f"M{x + 1} {y}v1"):
                    expected ^= {border}  # a border between two inside pixels is none
    assert set(path.replace("M", " M").split(" M")[1:]) == {item[1:] for item in expected}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (-2.0, "−2"), (76291, "76\u202f300"), (999, "999"), (1234567, "1\u202f230\u202f000")],
)
def test_numbers_for_people(value, text):
    assert number(value) == text


def test_missing_numbers_are_a_dash():
    assert decimals(None) == decimals(float("nan")) == "–"
    assert decimals(-0.5) == "−0.50"
    assert correlation_text([1, 2], [2, 1])["line"] == "No correlation: 2 pairs are too few for a correlation."
    assert "three pairs give no confidence interval" in correlation_text([1, 2, 4], [2, 1, 5])["line"]


def test_alike_warnings_of_several_samples_are_said_once():
    merged = [
        ("m1", "Diff-in-ex: in 68 % of the voxels at a bound"),
        ("m1", "m1: only 12 voxels"),
        ("m2", "Diff-in-ex: in 9.5 % of the voxels at a bound"),
        ("m2", "sub-m2_dwi.nii.gz: 3 volumes"),
        ("m3", "sub-m3_dwi.nii.gz: 3 volumes"),
    ]
    assert merge_warnings(merged) == [
        {"text": "Diff-in-ex: in 9.5–68 % of the voxels at a bound", "about": "m1, m2"},
        {"text": "only 12 voxels", "about": "m1"},
        {"text": "sub-m2_dwi.nii.gz: 3 volumes", "about": "m2"},
        {"text": "sub-m3_dwi.nii.gz: 3 volumes", "about": "m3"},
    ]
