"""Unfolding of profiles against simulated tissue of known truth (tests/data/stereology)."""

import numpy as np
import pandas as pd
import pytest

from histomri.cells import CellMetadata, CellTable
from histomri.patches import PatchGrid, summarise_patches


@pytest.fixture
def tissue(data):
    """Return the profiles of a tissue as one field, what is known of it, and the truth."""

    def read(name, outline):
        known, truth = (
            pd.read_csv(data / "stereology" / f"{table}.csv").set_index("condition").loc[name]
            for table in ("conditions", "truth")
        )
        rows = pd.read_csv(data / "stereology" / f"{name}_every.csv.gz")
        area = rows[f"{outline}_cell_area_um2"].to_numpy()
        area = area[area > 0]  # a mask may lie wholly under its neighbours
        side = float(np.sqrt(known.field_area_um2))  # where a profile lies does not matter to the whole
        place = np.full(area.size, side / 2)
        cells = CellTable.from_columns(place, place, area, metadata=CellMetadata(field_um=(side, side)))
        maps = summarise_patches(
            cells, PatchGrid((0, 0), (side, side), (1, 1)), preset="none", section="wicksell",
            shrinkage=known.shrinkage_p, section_thickness_um=known.t_um,
        )  # fmt: skip
        return maps, known, truth

    return read


# Limits in per cent: those that an estimate from every profile must keep. Drawn masks cannot overlap, and where cells
# do in projection (t 2 µm) they come out smaller.
@pytest.mark.parametrize(
    ("name", "outline", "low", "high"),
    [("g4", "outline", -1, 1), ("g4", "mask", -2, 1), ("g7", "outline", -1, 1), ("g7", "mask", -2, 1)],
)
def test_volume_weighted_size_of_every_profile(tissue, name, outline, low, high):
    maps, known, truth = tissue(name, outline)
    assert low < 100 * (maps.maps["vCS"].item() / truth.vCS_um - 1) < high
    # The section was cut from shrunken tissue: sizes are stretched after it is undone.
    assert maps.parameters["ShrinkageStretch"] == pytest.approx(1 / (1 - known.shrinkage_p), rel=1e-12)


@pytest.mark.parametrize("name", ["g4", "g7"])
def test_fraction_and_number_of_every_profile(tissue, name):
    maps, known, truth = tissue(name, "outline")
    # A thin section shows areas in the proportion of volumes (Delesse); a thick one shows more of each cell, by
    # 1 + 1.5 t <D²>/<D³> for spheres, with the mean and CV of the truth in the frame of the slide. 3.5 % as of the
    # best estimate from such profiles.
    mean = truth.D_mean_um * (1 - known.shrinkage_p)
    second, third = mean**2 * (1 + truth.D_CV**2), mean**3 * (1 + truth.D_CV**2) ** 3
    more = 1 + 1.5 * known.t_um * second / third
    assert maps.maps["F"].item() / more == pytest.approx(truth.F, rel=0.035)
    # Profiles per volume, N_A / (<D> + t): 0.1.0 loses the caps that nobody sees, -5 to -19 %.
    assert -20 < 100 * (maps.maps["CDvol"].item() / truth.N_V_per_mm3 - 1) < 0
