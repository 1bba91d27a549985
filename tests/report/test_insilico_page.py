"""The page of an in-silico study: figures to scale, numbers at the points, and no network."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Circle

from histomri.core.errors import InputError
from histomri.report import write_insilico_page
from histomri.report.figures.insilico_tissue import substrates_card
from histomri.simulation.options import InsilicoOptions
from histomri.simulation.walker.substrates import Lattice
from histomri.study.steps import insilico

EXERCISE = r"""
  const chart = document.querySelector("#tcs-snr30 .chart");
  const press = () => chart.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", cancelable: true }));
  found.words = [];
  for (const point of chart.querySelectorAll("[data-tip]")) {
    press();
    found.words.push(chart.closest(".card").querySelector("output").textContent);
  }
  found.wide = document.documentElement.scrollWidth > innerWidth;
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("insilico")
    options = InsilicoOptions(
        protocols=("invivo-3t",), walkers=200, fractions=(0.2, 0.45), diameters_um=(10.0, 24.0), diffusivities=2,
        kappa=(10.0, 50.0), models=("diff-in", "diff-in-ex"), jobs=1,
    )  # fmt: skip
    insilico.run(options, out)
    return out


def test_points_say_the_scores_of_the_table_and_nothing_is_loaded(folder, browse):
    found, console = browse(folder / "insilico.html", EXERCISE)
    assert (found["requests"], found["faults"], console, found["wide"]) == ([], [], [], False)
    names = {"diff-in": "Diff-in", "diff-in-ex": "Diff-in-ex"}
    table = pd.read_csv(folder / "tableS1.csv")
    expected = [
        f"{names[row['model']]} · κ {row['kappa_um_s']:g} µm/s · TCS {row['TCS']:.2f} "
        f"[{row['TCS_low']:.2f}, {row['TCS_high']:.2f}]".replace("-0", "\u22120")
        for row in table.to_dict("records")
    ]
    assert len(expected) == 2 * 2 * 2 and sorted(found["words"]) == sorted(expected)


def test_a_damaged_table_is_named(folder, tmp_path):
    for path in folder.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tableS2.csv").unlink()
    with pytest.raises(InputError, match=r"tableS2\.csv: no such table of an in-silico study"):
        write_insilico_page(tmp_path)


def test_a_figure_that_cannot_be_drawn_costs_itself_alone(folder, tmp_path):
    for path in folder.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    record = json.loads((tmp_path / "insilico.json").read_text())
    (tmp_path / "insilico.json").write_text(json.dumps({**record, "Design": {**record["Design"], "fractions": []}}))
    page = write_insilico_page(tmp_path).read_text()
    assert "Substrates: this section could not be made" in page and 'id="adc-time"' in page


def test_the_substrates_are_drawn_to_scale():
    """The distance of the drawn cells is that of the lattice in which the water walks."""
    card = substrates_card((0.2, 0.5236), (8.0, 30.0))
    shown = iter([(8.0, 0.2), (8.0, 0.5236), (30.0, 0.2), (30.0, 0.5236)])
    for axes, (size, fraction) in zip(card.chart.figure.axes, shown, strict=True):
        circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
        x = np.unique([circle.center[0] for circle in circles])
        np.testing.assert_allclose(np.diff(x), Lattice(size, fraction).edge_um, rtol=1e-12)
        assert {2 * circle.radius for circle in circles} == {size}
        assert x[-1] > axes.get_xlim()[1] - size  # to the edge of the picture
