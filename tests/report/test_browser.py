"""The report in headless Chromium: no errors, no requests, and everything moves."""

import re

import pandas as pd
import pytest

EXERCISE = r"""
  const box = document.querySelector(".overlay"), slider = box.querySelector("input[type=range]");
  const top = () => box.querySelector("img[data-above]:not([hidden])");
  const move = (value) => { slider.value = value; slider.dispatchEvent(new Event("input", { bubbles: true })); };
  found.before = top().style.clipPath;
  move(20);
  found.after = top().style.clipPath;
  found.said = slider.getAttribute("aria-valuetext");
  box.querySelector("input[value=fade]").click();
  found.opacity = top().style.opacity;
  const below = box.querySelector("select[data-pick=below]");
  below.value = "vCS";
  below.dispatchEvent(new Event("input", { bubbles: true }));
  found.below = box.querySelector("img[data-below]:not([hidden])").dataset.below;
  const section = document.querySelector("section.sample");
  const pick = section.querySelector("select[data-fit-of]");
  const figures = () => [...section.querySelectorAll("figure[data-fit]:not([hidden])")];
  const shown = () => [...new Set(figures().map((figure) => figure.dataset.fit))];
  found.fit = shown();
  pick.value = "diff-in-ex--whole";
  pick.dispatchEvent(new Event("change"));
  found.changed = shown();
  const onGrid = (map) => map.dataset.grid.endsWith("-mri") && map.offsetParent;
  const maps = [...section.querySelectorAll(".pixels")].filter(onGrid);
  const frame = maps[0].getBoundingClientRect();
  const [clientX, clientY] = [frame.left + frame.width * 0.42, frame.top + frame.height * 0.45];
  maps[0].dispatchEvent(new PointerEvent("pointermove", { clientX, clientY }));
  found.values = maps.map((m) => m.closest("figure").querySelector("output").textContent);
  maps[0].dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
  found.at = maps[0].dataset.at;
  const card = section.querySelector(".sizes"), what = () => card.querySelector(".what").textContent;
  found.sizes = [what()];
  maps[0].dispatchEvent(new MouseEvent("click", { clientX, clientY }));
  found.sizes.push(what());
  found.marks = [...card.querySelectorAll("text.label")].map((each) => each.textContent);
  maps[0].dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
  found.sizes.push(what());
  maps[0].dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
  found.sizes.push(what());
  found.overlay = section.querySelector(".overlay output").textContent;
  found.scatters = window.Bokeh.documents.flatMap((d) => d.roots()).length;
  found.canvases = document.querySelectorAll(".plots figure > div").length;
  // Bokeh listens for a mouse on its canvas; the point is where its own data say.
  const roots = window.Bokeh.documents.flatMap((d) => d.roots());
  const pointsOf = (root) => root.renderers.filter((each) => "sample" in each.data_source.data)[0];
  const plot = roots.find(pointsOf), view = window.Bokeh.index.find_one(plot);
  const data = pointsOf(plot).data_source.data, canvas = view.canvas_view.events_el;
  // Bokeh goes by the place on the page, and Chromium takes the place in the window of a made-up event for that.
  window.scrollTo({ top: 0, behavior: "instant" });
  const edge = canvas.getBoundingClientRect(), [x, y] = [data.x[0], data.y[0]];
  const at = {
    clientX: edge.left + view.frame.x_scale.compute(x), clientY: edge.top + view.frame.y_scale.compute(y),
  };
  canvas.dispatchEvent(
    new PointerEvent("pointermove", { ...at, bubbles: true, pointerType: "mouse", isPrimary: true }),
  );
  await new Promise((resolve) => setTimeout(resolve, 500));
  const texts = (root) => [...root.querySelectorAll("*")].flatMap(
    (e) => [e.classList.contains("bk-tooltip-row-value") ? e.textContent.trim() : "",
            ...(e.shadowRoot ? texts(e.shadowRoot) : [])],
  );
  found.hover = texts(document).filter(Boolean);
  found.hovered = [data.sample[0], x, y];
"""


@pytest.fixture(scope="module")
def browsed(finished_report, browse):
    return browse(finished_report, EXERCISE)


def test_no_errors_and_no_requests(browsed):
    found, console = browsed
    assert found["faults"] == [] and found["requests"] == []
    assert all("[bokeh" in line and "error" not in line.lower() for line in console), console


def test_the_slider_moves_the_divider_and_the_blend(browsed):
    found, _ = browsed
    assert found["before"] == "inset(0px 50% 0px 0px)" and found["after"] == "inset(0px 80% 0px 0px)"
    assert found["said"] == "20 % histology" and found["opacity"] == "0.2"
    assert found["below"] == "vCS"


def test_the_model_can_be_changed(browsed):
    found, _ = browsed
    assert len(found["fit"]) == 1 and found["fit"] != found["changed"] == ["diff-in-ex--whole"]


def test_the_cursor_reads_all_maps_of_a_grid(browsed):
    found, _ = browsed
    assert len(found["values"]) == 6  # three quantities, histology and MRI
    assert all(re.match(r"[≥≤]? ?\d", value) for value in found["values"]), found["values"]
    assert [value.split(" ± ")[1:] for value in found["values"] if "µm" in value] == [
        ["0.5 µm"],
        ["1.2 µm"],
    ]  # of 0.5 and 1.25
    assert sum("±" in value for value in found["values"]) == 2  # the others came without errors
    assert re.fullmatch(r"\d+,\d+", found["at"])
    assert re.fullmatch(r"above, Cell size vCS: .* µm · below, Cell size vCS: .* µm", found["overlay"])


def test_every_scatter_plot_is_drawn(browsed):
    found, _ = browsed
    assert found["scatters"] == found["canvases"] == 3 + 3 * 2  # the study's, and two per sample


def test_the_hover_shows_the_values_of_a_sample(browsed):
    found, _ = browsed
    sample, x, y = found["hovered"]
    assert sample in found["hover"]
    assert f"{x:.3f}" in found["hover"] and f"{y:.3f}" in found["hover"], found["hover"]


def test_a_click_or_the_keyboard_shows_the_cells_of_a_patch(browsed, finished_run):
    found, _ = browsed
    total = len(pd.read_parquet(finished_run / "sub-control" / "cells.parquet"))
    everything = f"All patches. {total} cells."
    assert found["sizes"] == [everything, "The patch under this voxel. 8 cells.", everything, found["sizes"][1]]
    assert [re.sub(r"[\d.]+$", "#", text) for text in found["marks"]] == ["vCS histology #", "vCS MRI #"]
