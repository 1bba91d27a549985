"""A page with one image over another: what it needs, and what it does in a browser."""

import numpy as np
import pytest

from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.report import Layer, write_overlay

AFFINE = np.array([[0, -0.4, 0, 3.0], [-0.4, 0, 0, 2.0], [0, 0, 2.2, 0], [0, 0, 0, 1.0]])
EXERCISE = """
  const stage = document.querySelector(".stage"), slider = document.querySelector("input[type=range]");
  slider.value = 30; slider.dispatchEvent(new Event("input", { bubbles: true }));
  found.clip = stage.querySelector("img[data-above]:not([hidden])").style.clipPath;
  const frame = stage.getBoundingClientRect();
  const at = { clientX: frame.left + frame.width * 4.5 / 9, clientY: frame.top + frame.height * 2.5 / 7 };
  stage.dispatchEvent(new PointerEvent("pointermove", at));
  found.said = document.querySelector(".overlay output").textContent;
  stage.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown" }));
  found.below = document.querySelector(".overlay output").textContent;
"""


@pytest.fixture
def layers():
    row, column = np.indices((7, 9))
    coarse = Image(10.0 * row + column, AFFINE)
    # Twice as fine, over the same rectangle.
    finer = AFFINE @ np.diag([0.5, 0.5, 1, 1])
    finer[:3, 3] = (AFFINE @ [-0.25, -0.25, 0, 1])[:3]
    fine = Image(np.kron(coarse.data, np.ones((2, 2))), finer)
    return Layer("Cell size", coarse, "µm"), Layer("ADC", fine, "µm²/ms")


def test_slider_and_cursor_work_without_a_network(layers, tmp_path, browse):
    page = write_overlay(tmp_path / "qc.html", layers[:1], layers[1:], title="<b>m1", facts=[("Overlap", "0.96")])
    found, console = browse(page, EXERCISE)
    assert found["faults"] == [] and found["requests"] == [] and console == []
    assert found["clip"] == "inset(0px 70% 0px 0px)"
    # Row 2, column 4 holds 24 in both; one step down 34. Colours hold 255 levels, so values are those to 1 %.
    for text, value in ((found["said"], 24.0), (found["below"], 34.0)):
        one, other = (float(part.split(": ")[1].split()[0]) for part in text.split(" · "))
        assert abs(one - value) < 0.4 and abs(other - value) < 0.4
    assert "<b>m1" not in page.read_text() and "&lt;b&gt;m1" in page.read_text()


def test_images_of_different_places_are_refused(layers, tmp_path):
    one, other = layers
    moved = other.image.affine.copy()
    moved[0, 3] += 1.0
    with pytest.raises(GeometryError, match="ADC and Cell size do not cover the same rectangle"):
        write_overlay(tmp_path / "qc.html", [one], [Layer("ADC", Image(other.image.data, moved))], title="x")
    with pytest.raises(InputError, match="image above"):
        write_overlay(tmp_path / "qc.html", [], [other], title="x")
    assert not (tmp_path / "qc.html").exists()
