"""The report in headless Chromium: no errors, no requests, and everything moves."""

import json
import re
import shutil
import subprocess

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which is not installed")

# Runs after the page's own scripts and writes what it found into the page.
PROBE = """
<script>
window.faults = [];
window.addEventListener("error", (event) => window.faults.push(String(event.message)));
window.addEventListener("unhandledrejection", (event) => window.faults.push(String(event.reason)));
document.addEventListener("securitypolicyviolation", (event) => window.faults.push("blocked " + event.blockedURI));
</script>
"""
EXERCISE = """
<script>
window.addEventListener("load", () => setTimeout(() => {
  const found = {};
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
  found.scatters = window.Bokeh.documents.flatMap((d) => d.roots()).length;
  found.canvases = document.querySelectorAll(".plots figure > div").length;
  found.requests = performance.getEntriesByType("resource").map((e) => e.name).filter((n) => !n.startsWith("data:"));
  found.faults = window.faults;
  document.body.setAttribute("data-found", JSON.stringify(found));
}, 1500));
</script>
"""


@pytest.fixture(scope="module")
def browsed(finished_report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    html = finished_report.read_text(encoding="utf-8")
    probed = folder / "probed.html"
    probed.write_text(
        html.replace("<style>", PROBE + "<style>", 1).replace("</body>", EXERCISE + "</body>"), encoding="utf-8"
    )
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=15000", "--enable-logging=stderr", "--v=0",
            "--window-size=1400,1200", "--dump-dom", probed.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    match = re.search(r'data-found="([^"]*)"', done.stdout)
    assert match is not None, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(match[1].replace("&quot;", '"').replace("&amp;", "&")), console


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
    assert sum("µm" in value for value in found["values"]) == 2
    assert re.fullmatch(r"\d+,\d+", found["at"])


def test_every_scatter_plot_is_drawn(browsed):
    found, _ = browsed
    assert found["scatters"] == found["canvases"] == 3 + 3 * 2  # the study's, and two per sample
