"""A results folder as a run leaves it, small and made up, with every kind of trouble on request."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import ScoreOptions
from histomri.core.files import write_json
from histomri.core.images import map_name, write_map
from histomri.pairing import PairedTable, PairOptions
from histomri.registration import Transform
from histomri.report import write_report
from histomri.study.steps import pair, score

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None
)
# Runs before the page's own scripts and notes what goes wrong.
PROBE = """
<script>
window.faults = [];
window.addEventListener("error", (event) => window.faults.push(String(event.message)));
window.addEventListener("unhandledrejection", (event) => window.faults.push(String(event.reason)));
document.addEventListener("securitypolicyviolation", (event) => window.faults.push("blocked " + event.blockedURI));
</script>
"""
AFTERWARDS = """
<script>
window.addEventListener("load", () => setTimeout(async () => {
  const found = {};
  %s
  found.requests = performance.getEntriesByType("resource").map((e) => e.name).filter((n) => !n.startsWith("data:"));
  found.faults = window.faults;
  document.body.setAttribute("data-found", JSON.stringify(found));
}, 1500));
</script>
"""

MODELS = (
    ("diff-in", "whole", 0.5),
    ("diff-in", "high-b", 0.25),
    ("diff-in-ex", "whole", 0.9),
    ("diff-in-ex", "high-b", 1.2),
)
MRI = np.array([[-0.386, 0, 0, 9.0], [0, 0.386, 0, -7.0], [0, 0, 2.216, -2.0], [0, 0, 0, 1.0]])


def slide_affine(size_mm):
    return np.array([[0, -size_mm, 0, -3.0], [-size_mm, 0, 0, -2.0], [0, 0, 2.2, 0], [0, 0, 0, 1.0]])


def lobe(y, x):
    """A smooth, lopsided outline with a hole, so that no turn or flip of it looks the same."""
    angle, radius = np.arctan2(y, x), np.hypot(x / 1.25, y)
    edge = 6.2 + 0.8 * np.cos(3 * angle + 0.7) + 0.7 * np.sin(2 * angle)
    return (radius < edge) & (np.hypot(x - 2.2, y + 1.4) > 0.9)


def truth(y, x, kind):
    size = 20 + 2.5 * np.sin(0.55 * x + kind) * np.cos(0.4 * y) - 2.2 * kind
    fraction = 0.62 + 0.1 * np.cos(0.5 * x - 0.3 * y + kind) - 0.05 * kind
    return size - 6 * np.exp(-((x + 3) ** 2 + (y - 1) ** 2) / 3), fraction + 0.15 * np.exp(
        -((x + 3) ** 2 + (y - 1) ** 2) / 3
    )


def make_sample(home: Path, sub: str, kind: int, rng, n=(40, 50), group=None) -> None:
    ny, nx = n
    angle, scale, k = 0.5 + 0.6 * kind, 1.15, 2
    # MRI: centred coordinates of the slice
    shape = (nx, ny + 6, 4)
    i, j = np.meshgrid(*(np.arange(size) for size in shape[:2]), indexing="ij")
    x = (i - (shape[0] - 1) / 2) * 0.386
    y = (j - (shape[1] - 1) / 2) * 0.386
    centre = MRI @ [(shape[0] - 1) / 2, (shape[1] - 1) / 2, k, 1]
    size, fraction = truth(y, x, kind)
    inside = lobe(y, x)
    volume = np.full(shape, np.nan)
    for model, strategy, noise in MODELS:
        vcs = np.clip(size + noise * 2.5 * rng.normal(size=size.shape) + noise, 8, 40)
        share = np.clip(fraction + noise * 0.08 * rng.normal(size=size.shape), 0, 1)
        code = np.where(rng.random(size.shape) < 0.08, 2.0, 1.0)
        errors = volume.copy()
        errors[:, :, k] = np.where(inside, 1.25, np.nan)
        name = map_name("vCS", "dwimap", sub=sub, model=model, stat="se")
        write_map(home / "mri" / strategy / name, errors, MRI, Model=model, Strategy=strategy)
        maps = {"vCS": vcs, "F": share, "CD": 1e9 * share / vcs**3, "BIC": noise * 10 + rng.normal(size=size.shape) * 6}
        for name, data in {**maps, "exit": code}.items():
            whole = volume.copy() if name != "exit" else np.zeros(shape)
            whole[:, :, k] = np.where(inside, data, 0 if name == "exit" else np.nan)
            path = home / "mri" / strategy / map_name(name, "dwimap", sub=sub, model=model)
            write_map(
                path,
                whole,
                MRI,
                Model=model,
                Strategy=strategy,
                parameters={"preset": "mouse-exvivo", "noise": "offset-gaussian"},
            )
    for name, data in {"ADC": 1.4 - 0.9 * fraction + 0.04 * rng.normal(size=size.shape), "K": 0.5 * fraction}.items():
        whole = volume.copy()
        whole[:, :, k] = np.where(inside, data, np.nan)
        write_map(home / "mri" / map_name(name, "dwimap", sub=sub), whole, MRI)
    # Histology: the same field, turned, shrunk and shifted
    row, column = np.meshgrid(np.arange(ny), np.arange(nx), indexing="ij")
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    step = 0.386
    local = np.stack([-(column - (nx - 1) / 2) * step, -(row - (ny - 1) / 2) * step])
    mapped = scale * np.einsum("ab,brc->arc", turn, local)
    # world x of the MRI falls with i, world y grows with j
    size, fraction = truth(mapped[1], -mapped[0], kind)
    inside = lobe(mapped[1], -mapped[0])
    affine = slide_affine(step)
    middle = affine @ [(ny - 1) / 2, (nx - 1) / 2, 0, 1]
    matrix = np.eye(4)
    matrix[:2, :2] = scale * turn
    matrix[:3, 3] = centre[:3] - matrix[:3, :3] @ middle[:3]
    settings = {
        "SizeFactor": 1.46,
        "preset": "mouse-exvivo",
        "section": "sphere-mean",
        "shrinkage": 0.129,
        "patch_um": [386.0, 386.0],
    }
    histology = {
        "vCS": size + rng.normal(size=size.shape),
        "F": fraction,
        "CD": 4e5 * fraction / size**1.5,
        "nCells": fraction * 300,
    }
    for name, data in histology.items():
        write_map(
            home / "histo" / map_name(name, "histomap", sub=sub),
            np.where(inside, data, np.nan),
            affine,
            parameters=settings,
        )
    write_map(home / "histo" / map_name("vCS", "histomap", sub=sub, stat="se"), np.where(inside, 0.5, np.nan), affine)
    # A few cells in every patch that has tissue, larger ones to the right.
    row, column = (np.repeat(index, 8) for index in np.nonzero(inside))
    x, y = (
        1000 * (step * (index + rng.uniform(-0.45, 0.45, index.size)) + offset)
        for index, offset in ((column, 3.0), (row, 2.0))
    )
    cells = {"x_um": x, "y_um": y, "diameter_um": 8 + 0.2 * column + rng.uniform(0, 1, column.size)}
    pd.DataFrame(cells).to_parquet(home / "cells.parquet")
    files = Transform(matrix).save(home / "xfm" / f"sub-{sub}_from-histo_to-dwi_mode-image_xfm.json")
    pair.run(
        PairOptions(histo_dir=home / "histo", mri_dir=home / "mri", xfm=files[0], sample=sub, group=group),
        home / "pairs_voxel.csv",
    )


def build_run(
    out: Path,
    samples=("control", "infiltrated", "necrotic"),
    groups=("wild type", "tumour", "tumour"),
    name="Mouse livers",
    fail=None,
    n=(40, 50),
) -> Path:
    rng = np.random.default_rng(5)
    records, tables = [], []
    for kind, (sub, group) in enumerate(zip(samples, groups)):
        record = {
            "id": sub,
            "group": group,
            "scanner": "9.4 T",
            "status": "ok",
            "stage": None,
            "reason": None,
            "mri_slice": 2,
            "warnings": [],
            "messages": {"cells": [f"{sub}: 52 310 cells read, 412 dropped (outside the ROI)"], "pair": []},
            "summary": {"register": {"verdict": "good", "confidence": 0.082, "dice": 0.957, "scale": 1.147}},
            "seconds": {"cells": 1.2, "fit": 8.0},
        }
        if sub == fail:
            record |= {
                "status": "failed",
                "stage": "fit",
                "reason": f"sub-{sub}_dwi.nii.gz: 9 volumes, and the protocol has 10",
                "summary": {},
            }
            (out / f"sub-{sub}").mkdir(parents=True)
        else:
            make_sample(out / f"sub-{sub}", sub, kind, rng, n, group)
            tables.append(PairedTable.load(out / f"sub-{sub}" / "pairs_voxel.csv"))
        records.append(record)
    if len(records) > 1:
        records[1]["warnings"] = ["18 % of the tissue has no counterpart on the MRI"]
        records[1]["summary"] = {"register": {"verdict": "check", "confidence": 0.021, "dice": 0.902, "scale": 1.12}}
    PairedTable.join(tables).summarised().save(out / "pairs.csv")
    scored = score.run(ScoreOptions(table=out / "pairs.csv"), out)
    study = {
        "name": name,
        "preset": "mouse-exvivo",
        "histomri_version": "0.1.0",
        "started": "2025-11-22T09:00:00+00:00",
        "finished": "2025-11-22T09:01:12+00:00",
        "parameters": {
            "samples": [
                {
                    "id": sub,
                    "cells": [f"{sub}.tsv"],
                    "dwi": f"{sub}_dwi.nii.gz",
                    "fit": {"models": ["diff-in", "diff-in-ex"]},
                }
                for sub in samples
            ]
        },
        "samples": records,
        "warnings": list(scored.warnings),
    }
    write_json(out / "study.json", study)
    return out


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> Path:
    """Three samples, all finished; read only."""
    return build_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Path:
    """The same with few voxels, for tests that write many reports; read only."""
    return build_run(tmp_path_factory.mktemp("small"), n=(16, 20))


@pytest.fixture(scope="session")
def finished_report(finished_run) -> Path:
    """Its report; read only."""
    return write_report(finished_run)


@pytest.fixture
def change_study() -> Callable[[Path, Callable[[dict], None]], None]:
    """Change study.json of a run."""

    def change(folder: Path, edit: Callable[[dict], None]) -> None:
        study = json.loads((folder / "study.json").read_text())
        edit(study)
        write_json(folder / "study.json", study)

    return change


@pytest.fixture(scope="session")
def browse(tmp_path_factory) -> Callable[[Path, str], tuple[dict, list[str]]]:
    """Open a page in headless Chromium, run a script that fills `found`, return `found` and the console's lines."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium, which is not installed")

    def look(page: Path, exercise: str) -> tuple[dict, list[str]]:
        folder = tmp_path_factory.mktemp("browser")
        html = page.read_text(encoding="utf-8")
        probed = folder / "probed.html"
        html = html.replace("<style>", PROBE + "<style>", 1)
        probed.write_text(html.replace("</body>", AFTERWARDS % exercise + "</body>"), encoding="utf-8")
        done = subprocess.run(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=15000", "--enable-logging=stderr",
                "--v=0", "--window-size=1400,1200", "--dump-dom", probed.as_uri(),
            ],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        match = re.search(r'data-found="([^"]*)"', done.stdout)
        assert match is not None, done.stderr[-2000:]
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        return json.loads(match[1].replace("&quot;", '"').replace("&lt;", "<").replace("&amp;", "&")), console

    return look
