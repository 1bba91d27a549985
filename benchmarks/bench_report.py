"""How large the report of a study is, and how long a browser takes to open it.

python benchmarks/bench_report.py                                   of a study of 25 samples of 3000 voxels
python benchmarks/bench_report.py REPORT.html [REPORT.html ...]     of reports as histomri run wrote them

Chromium opens each from disk, without a graphics card. "loaded" is the page's own clock at its load event, after a
layout was forced; "painted" is the time until a screenshot lies on the disk, less that of an empty page.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe

REPEATS = 5
CHROMIUM = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
CLOCK = """<script>addEventListener("load", () => {
  void document.body.offsetHeight;
  document.body.dataset.loaded = performance.now();
});</script></body>"""


def main() -> None:
    """Print size and times of each report."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("reports", nargs="*", type=Path)
    chosen = arguments.parse_args()
    if CHROMIUM is None:
        sys.exit("needs Chromium")
    version = subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(describe("matplotlib"), version, sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        reports = chosen.reports or [make_heavy(Path(folder) / "study")]
        print(f"{'':40s}{'MB':>7s}{'loaded (s)':>14s}{'painted (s)':>14s}")
        empty = Path(folder) / "empty.html"
        empty.write_text("<!doctype html><body></body>")
        start = statistics.median(painted(empty) for _ in range(REPEATS))
        for report in reports:
            clocked = Path(folder) / "clocked.html"
            clocked.write_text(report.read_text(encoding="utf-8").replace("</body>", CLOCK), encoding="utf-8")
            times = [loaded(clocked) for _ in range(REPEATS)]
            until = [painted(report) - start for _ in range(REPEATS)]
            size = report.stat().st_size / 1e6
            print(f"{str(report)[-38:]:40s}{size:7.1f}{statistics.median(times):14.2f}{statistics.median(until):14.2f}")


def chromium(*options: str) -> str:
    """Run Chromium without a window and return what it prints."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            f"--user-data-dir={profile}", "--window-size=1300,1000", *options,
        ]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def loaded(page: Path) -> float:
    """Return seconds until the load event, by the page's own clock."""
    dom = chromium("--dump-dom", page.resolve().as_uri())
    return float(dom.rsplit('data-loaded="', 1)[1].split('"', 1)[0]) / 1e3


def painted(page: Path) -> float:
    """Return seconds until a screenshot is written, the start of the browser included."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        chromium(f"--screenshot={folder}/page.png", page.resolve().as_uri())
        return time.perf_counter() - start


def make_heavy(folder: Path) -> Path:
    """Write a study of 25 registered samples of about 3000 voxels, four fits each, on two scanners, and its report."""
    import json

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))
    import conftest

    make, outline = conftest.make_sample, conftest.lobe
    conftest.make_sample = lambda home, sub, kind, rng, n=(62, 74), group=None: make(home, sub, kind % 3, rng, n, group)
    conftest.lobe = lambda y, x: outline(y / 1.75, x / 1.75)
    names, groups = [f"s{place:02d}" for place in range(25)], ["healthy", "tumour"] * 13
    conftest.build_run(folder, samples=names, groups=groups[:25])
    study = json.loads((folder / "study.json").read_text())
    for place, record in enumerate(study["samples"]):
        record["scanner"] = ("3T", "1.5T")[place % 2]
    (folder / "study.json").write_text(json.dumps(study))
    start = time.perf_counter()
    path = conftest.write_report(folder)
    voxels = sum(1 for _ in (folder / "sub-s00" / "pairs_voxel.csv").open()) - 1
    print(f"report of 25 samples with {voxels} rows of voxels each: written in {time.perf_counter() - start:.0f} s")
    return path


if __name__ == "__main__":
    main()
