"""The report in headless Chromium: no errors, no requests, and everything moves."""

import json
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
  found.scatters = document.querySelectorAll("#samples .chart, section.sample .chart").length;
  const tip = document.querySelector("body > .tip"), voxels = section.querySelector(".chart");
  const dots = [...voxels.querySelectorAll("[data-values]")].map((group) => [
    group.dataset.values.split(";").length,
    [...group.querySelectorAll("path")].flatMap((path) => path.getAttribute("d").match(/M/g)).length,
  ]);
  found.dots = dots;
  voxels.scrollIntoView({ block: "center", behavior: "instant" });
  const hover = (chart, x, y) => {
    const at = new DOMPoint(x, y).matrixTransform(chart.getScreenCTM());
    chart.dispatchEvent(new PointerEvent("pointermove", { clientX: at.x, clientY: at.y, bubbles: true }));
    return tip.hidden ? null : tip.textContent;
  };
  const first = voxels.querySelector("[data-values]");
  const [, x, y] = first.querySelector("path").getAttribute("d").match(/^M(\S+) (\S+?)h/);
  found.voxel = [hover(voxels, Number(x), Number(y)), first.dataset.values.split(";")[0], hover(voxels, 0, 0)];
  const press = (key, shiftKey = false) => {
    voxels.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, bubbles: true }));
    return Number(voxels.querySelector(".ring").getAttribute("cx"));
  };
  found.walk = [press("ArrowRight"), press("ArrowRight"), press("ArrowRight", true), press("ArrowRight", true)];
  found.said = [found.said, voxels.closest(".card").querySelector("output").textContent];
  press("Escape");
  found.hidden = tip.hidden;
  const marker = document.querySelector("#samples .chart use[data-tip]");
  found.sample = [
    hover(marker.closest(".chart"), Number(marker.getAttribute("x")), Number(marker.getAttribute("y"))),
    marker.dataset.tip,
  ];
  const middle = (each) => {
    const frame = each.getBoundingClientRect();
    return [frame.left + frame.width / 2, frame.top + frame.height / 2];
  };
  const [a, b] = [marker, marker.closest(".chart").querySelector(".ring")].map(middle);
  found.off = Math.hypot(a[0] - b[0], a[1] - b[1]);
"""


@pytest.fixture(scope="module")
def browsed(finished_report, browse):
    return browse(finished_report, EXERCISE)


def test_no_errors_and_no_requests(browsed):
    found, console = browsed
    assert found["faults"] == [] and found["requests"] == []
    assert console == []


def test_the_slider_moves_the_divider_and_the_blend(browsed):
    found, _ = browsed
    assert found["before"] == "inset(0px 50% 0px 0px)" and found["after"] == "inset(0px 80% 0px 0px)"
    assert found["said"][0] == "20 % histology" and found["opacity"] == "0.2"
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


def test_every_scatter_plot_is_drawn(browsed, finished_run):
    found, _ = browsed
    assert found["scatters"] == 1 + 3  # the study's, and one per sample
    assert all(values == drawn for values, drawn in found["dots"])
    best = json.loads((finished_run / "scores.json").read_text())["models"][0]
    voxels = pd.read_csv(finished_run / "sub-control" / "pairs_voxel.csv")
    voxels = voxels[(voxels["model"] == best["model"]) & (voxels["strategy"] == best["strategy"])]
    wanted = [(~voxels["at_bound"]).sum(), voxels["at_bound"].sum()] * 2  # of vCS, and of F
    assert [values for values, _ in found["dots"]] == wanted


def test_the_hover_shows_the_values_of_a_voxel(browsed, finished_run):
    found, _ = browsed
    shown, values, away = found["voxel"]
    i, j, k, x, y = values.split()
    assert shown == f"voxel {i}, {j}, {k}\nvCS histology {x} µm\nvCS MRI {y} µm" and away is None
    voxels = pd.read_csv(finished_run / "sub-control" / "pairs_voxel.csv").set_index(["i", "j", "k"])
    best = json.loads((finished_run / "scores.json").read_text())["models"][0]
    rows = voxels[(voxels["model"] == best["model"]) & (voxels["strategy"] == best["strategy"])]
    row = rows.loc[(int(i), int(j), int(k))]
    assert (x, y) == (f"{row['vCS_histo_um']:.3g}", f"{row['vCS_mri_um']:.3g}")


def test_the_keyboard_walks_through_voxels_from_left_to_right(browsed):
    found, _ = browsed
    assert found["walk"] == sorted(found["walk"]) and found["walk"][3] > found["walk"][1]
    assert found["said"][1].startswith("voxel ") and " · vCS MRI " in found["said"][1]
    assert found["hidden"] is True


def test_the_hover_shows_the_values_of_a_sample(browsed, finished_run):
    found, _ = browsed
    shown, said = found["sample"]
    assert shown == said and found["off"] < 1
    name = shown.split(" (")[0]
    rows = pd.read_csv(finished_run / "pairs.csv").set_index(["sample", "model", "strategy"])
    best = json.loads((finished_run / "scores.json").read_text())["models"][0]
    row = rows.loc[(name, best["model"], best["strategy"])]
    wanted = f"vCS histology {row['vCS_histo_um']:.3g} µm\nvCS MRI {row['vCS_mri_um']:.3g} µm"
    assert shown == f"{name} ({row['group']})\n{wanted}"


def test_a_click_or_the_keyboard_shows_the_cells_of_a_patch(browsed, finished_run):
    found, _ = browsed
    total = len(pd.read_parquet(finished_run / "sub-control" / "cells.parquet"))
    everything = f"All patches. {total} cells."
    assert found["sizes"] == [everything, "The patch under this voxel. 8 cells.", everything, found["sizes"][1]]
    assert [re.sub(r"[\d.]+$", "#", text) for text in found["marks"]] == ["vCS histology #", "vCS MRI #"]
