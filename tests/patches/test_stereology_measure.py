"""Which kind of outline gives which quantities, what is refused, and that maps add up."""

import numpy as np
import pandas as pd
import pytest

from histomri.core.errors import InputError
from histomri.patches import PatchGrid
from histomri.patches.stereology import Profiles, Tolerances, is_rim, measure
from histomri.patches.tissue import Extent
from histomri.simulation.scenes import FIELD_UM, SCENES, draw_scene

FIELD = Extent((0.0, 0.0, FIELD_UM, FIELD_UM), None, "field")
FACTS = {"thickness_um": 4.0, "smallest_um2": 10.0, "field_um2": FIELD_UM**2}


@pytest.fixture(scope="module")
def shown():
    return draw_scene(np.random.default_rng(5), SCENES["clusters of 60 um"], seen=6000)


def profiles(shown, **more):
    return Profiles(shown.nucleus_um2, shown.cell_um2, shown.x_um, shown.y_um, **more)


def grown(shown, rim_um=5.0):
    """Return cells as nuclei with a rim."""
    return np.pi * (np.sqrt(shown.nucleus_um2 / np.pi) + rim_um) ** 2


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("N", {"nucleiNV", "nucD", "nucCV", "Dvol", "vCSvol"}),
        ("R", {"nucleiNV", "nucD", "nucCV", "Dvol", "vCSvol", "rimSize", "rimFraction"}),
        ("M", {"nucleiNV", "nucD", "nucCV", "Dvol", "vCS", "F"}),
        ("E", {"cellNV", "vCS", "F"}),
    ],
)
def test_each_kind_gives_its_own_quantities_with_both_errors(shown, kind, names):
    cells = grown(shown) if kind == "R" else shown.cell_um2
    given = Profiles(shown.nucleus_um2, cells, shown.x_um, shown.y_um)
    found = measure(given, kind=kind, cell_fraction=0.6, extent=FIELD, **FACTS)
    assert set(found.estimates) == names
    for name, one in found.estimates.items():
        assert one.low < one.value < one.high and one.stat > 0, name
        assert one.syst > 0 or name == "rimFraction"
        assert one.total >= max(one.stat, one.syst)
    keys = {"Kind", "Thickness_um", "Smallest_um2", "Shrinkage", "F_assumed", "Chi2", "Invisible", "MaskCoverage"}
    assert keys <= set(found.settings) and found.settings["Kind"] == kind
    assert (found.settings["F_assumed"] == 0.6) == (kind in "NR")


@pytest.mark.parametrize(
    ("kind", "name"), [("N", "nucleiNV"), ("M", "F"), ("M", "nucleiNV"), ("E", "cellNV"), ("E", "F")]
)
def test_maps_weighted_by_area_add_up_to_the_whole(shown, kind, name):
    found = measure(profiles(shown), kind=kind, extent=FIELD, **FACTS)
    part = found.patches(name, PatchGrid((0.0, 0.0), (500.0, 250.0), (10, 5)))
    assert np.nanmean(part.value) == pytest.approx(found[name].value, rel=1e-9)
    assert part.design_effect >= 1 and (part.stat > 0).all()


def test_one_patch_is_the_whole(shown):
    found = measure(profiles(shown), kind="M", extent=FIELD, cell_fraction=None, **FACTS)
    for name in ("nucleiNV", "F", "vCS", "Dvol"):
        part = found.patches(name, PatchGrid((0.0, 0.0), (FIELD_UM, FIELD_UM), (1, 1)))
        assert part.value[0] == pytest.approx(found[name].value, rel=1e-9)
        assert "too few whole patches" in part.flags[0]


def test_an_empty_patch_has_no_size_and_no_nuclei(shown):
    found = measure(profiles(shown), kind="M", extent=FIELD, **FACTS)
    grid = PatchGrid((0.0, 0.0), (FIELD_UM, FIELD_UM), (1, 2))
    assert found.patches("nucleiNV", grid).value[1] == 0 and np.isnan(found.patches("vCS", grid).value[1])


def test_shrinkage_is_undone_once_at_the_end(shown):
    one, two = (measure(profiles(shown), kind="M", shrinkage=p, **FACTS) for p in (0.0, 0.2))
    powers = {"nucleiNV": -3, "nucD": 1, "nucCV": 0, "vCS": 1, "Dvol": 1, "F": 0}
    for name, power in powers.items():
        assert two[name].value == pytest.approx(one[name].value * 1.25**power, rel=1e-12)


def test_the_volume_per_cell_follows_from_density_and_fraction(shown):
    found = measure(profiles(shown), kind="N", cell_fraction=0.6, **FACTS)
    assert np.pi / 6 * found["Dvol"].value ** 3 * found["nucleiNV"].value == pytest.approx(0.6e9, rel=1e-12)


def test_nuclei_off_the_middle_make_cells_larger(shown):
    offset, plane = np.full(shown.x_um.size, 1.5), {**FACTS, "thickness_um": 0.0}
    plain, off, noise = (
        measure(profiles(shown, offset_um=o), kind="M", offset_noise_um2=n, **plane)["Dvol"].value
        for o, n in ((None, 0.0), (offset, 0.0), (offset, 2.25))
    )
    assert off > plain and noise == plain
    assert off**2 - plain**2 == pytest.approx(2 * 2.25, rel=0.1)  # a plane cuts all beyond their middle


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_eccentric_nuclei_are_corrected_to_the_truth(rng, noise):
    """Nuclei 2 µm off the middle of cells of 16 µm: without correction cells come out too small."""
    number, thickness, depth = 50_000, 4.0, 25.0
    cell = 16.0 * np.exp(0.15 * rng.standard_normal(number))
    nucleus = 0.5 * cell * (1.0 + 0.05 * rng.standard_normal(number))
    away = rng.standard_normal((number, 3))
    away *= 2.0 / np.linalg.norm(away, axis=1, keepdims=True)
    height = depth * (rng.random(number) - 0.5)
    outside = np.maximum(np.abs(np.stack([height, height + away[:, 2]])) - 0.5 * thickness, 0.0)
    areas = np.pi / 4.0 * (np.stack([nucleus, cell]) ** 2 - 4.0 * outside**2)
    seen = areas[0] >= 10.0
    offset = np.hypot(*(away[:, :2] + np.sqrt(noise / 2.0) * rng.standard_normal((number, 2))).T)
    truth = {"Dvol": np.cbrt(np.mean(cell**3)), "vCS": (np.mean(cell**7) / np.mean(cell**3)) ** 0.25}
    facts = {"kind": "M", "thickness_um": thickness, "smallest_um2": 10.0, "field_um2": 1e7}
    plain = measure(Profiles(*areas[:, seen]), **facts)
    found = measure(Profiles(*areas[:, seen], offset_um=offset[seen]), offset_noise_um2=noise, **facts)
    assert found["Dvol"].value == pytest.approx(truth["Dvol"], rel=0.004)
    assert found["vCS"].value == pytest.approx(truth["vCS"], rel=0.01)
    # What was missing: of D², 2 <o²> where the middle of the nucleus lies beyond the slab, 7 of 11 µm.
    assert found["Dvol"].value / plain["Dvol"].value - 1 == pytest.approx(8 / 3 / 16**2 * 7 / 11, rel=0.1)
    assert found.settings["NucleusOffset_um"] == pytest.approx(np.sqrt(2 / 3) * 2.0, rel=0.02)
    assert plain.settings["NucleusOffset_um"] is None and "are not known" in " ".join(plain.flags)


def test_outlines_that_lie_over_each_other_are_no_masks(shown):
    found = [measure(profiles(shown), kind="M", mask_coverage=0.9, overlap=o, **FACTS) for o in (0.0, 0.1)]
    assert found[0]["F"].upper == pytest.approx(0.9) and found[1]["F"].upper is None
    assert "whole projections" in " ".join(found[1].flags)


def test_dense_masks_leave_an_interval(data):
    known = pd.read_csv(data / "stereology" / "conditions.csv").set_index("condition").loc["g5"]
    table = pd.read_csv(data / "stereology" / "g5.csv.gz")
    found = measure(
        Profiles(table["nucleus_area_um2"].to_numpy(), table["mask_cell_area_um2"].to_numpy()), kind="M",
        thickness_um=4.0, smallest_um2=10.0, shrinkage=known["shrinkage_p"], field_um2=known["field_area_um2"],
        mask_coverage=known["mask_coverage_U"],
    )  # fmt: skip
    assert found["F"].value < known["F_given"] < found["F"].upper == pytest.approx(known["mask_coverage_U"])
    assert "lower bound" in " ".join(found.flags)


def test_what_masks_cover_is_estimated_where_cells_without_a_nucleus_have_none(data):
    known = pd.read_csv(data / "stereology" / "conditions.csv").set_index("condition")
    for name, row in known.iterrows():
        table = pd.read_csv(data / "stereology" / f"{name}.csv.gz")
        found = measure(
            Profiles(table["nucleus_area_um2"].to_numpy(), table["mask_cell_area_um2"].to_numpy()), kind="M",
            thickness_um=row["t_um"], smallest_um2=10.0, shrinkage=row["shrinkage_p"], field_um2=row["field_area_um2"],
            tolerances=Tolerances(0.0, 0.0, 0.0, 0.0, (0.1, 0.1)),
        )  # fmt: skip
        assert found.settings["MaskCoverageFrom"] == "estimate"
        assert found.settings["MaskCoverage"] == pytest.approx(row["mask_coverage_U"], abs=0.05), name
        assert (found["F"].upper is not None) == (row["mask_coverage_U"] > 0.85)


def test_rims_are_told_from_cells(data):
    for name in ("g1", "g2", "g4", "g7"):
        table = pd.read_csv(data / "stereology" / f"{name}.csv.gz")
        nucleus = table["nucleus_area_um2"].to_numpy()
        assert is_rim(nucleus, table["rim_cell_area_um2"].to_numpy())
        for kind in ("mask", "outline"):
            assert not is_rim(nucleus, table[f"{kind}_cell_area_um2"].to_numpy())


def test_few_nuclei_give_no_number_without_a_reason(shown):
    few = Profiles(shown.nucleus_um2[:20], shown.cell_um2[:20], shown.x_um[:20], shown.y_um[:20])
    found = measure(few, kind="M", **FACTS)
    assert all(np.isnan(one.value) and "too few" in one.reason for one in found.estimates.values())


def test_sampling_errors_need_places_and_say_so(shown):
    found = measure(Profiles(shown.nucleus_um2), kind="N", **FACTS)
    assert np.isnan(found["nucleiNV"].stat) and "positions" in found["nucleiNV"].reason
    with pytest.raises(InputError, match="positions"):
        found.patches("nucleiNV", PatchGrid((0.0, 0.0), (500.0, 500.0), (5, 5)))
    assert "no cell fraction" in " ".join(found.flags)


def test_few_cells_take_their_sizes_from_the_nuclei(shown):
    few = Profiles(shown.nucleus_um2[:200], shown.cell_um2[:200])
    found = measure(few, kind="M", **FACTS)
    whole = measure(profiles(shown), kind="M", **FACTS)
    assert "few nuclei" in " ".join(found.flags)
    assert found["vCS"].value == pytest.approx(whole["vCS"].value, rel=0.08)


def test_impossible_facts_are_refused(shown):
    given = profiles(shown)
    for change, why in (
        ({"thickness_um": None}, "thickness"),
        ({"thickness_um": -1.0}, "thick"),
        ({"shrinkage": 0.95}, "shrinkage"),
        ({"field_um2": 0.0}, "field"),
        ({"cell_fraction": 1.2}, "fill"),
        ({"cell_fraction": 0.0}, "fill"),
        ({"scatter": 2.0}, "scatter"),
        ({"kind": "Q"}, "no kind"),
    ):
        with pytest.raises(InputError, match=why):
            measure(given, **{"kind": "N", **FACTS, **change})
    with pytest.raises(InputError, match="need the areas of the nuclei"):
        measure(Profiles(cell_um2=shown.cell_um2), kind="R", **FACTS)
    with pytest.raises(InputError, match="rim of fixed width"):
        measure(Profiles(shown.nucleus_um2, grown(shown)), kind="M", **FACTS)
    with pytest.raises(InputError, match="different lengths"):
        measure(Profiles(shown.nucleus_um2, shown.cell_um2[:-1]), kind="M", **FACTS)
    found = measure(given, kind="N", **FACTS)
    with pytest.raises(InputError, match="no map of vCS"):
        found.patches("vCS", PatchGrid((0.0, 0.0), (500.0, 500.0), (5, 5)))
    with pytest.raises(InputError, match="overlap"):
        found.patches("nucleiNV", PatchGrid((0.0, 0.0), (250.0, 250.0), (5, 5), window_um=(500.0, 500.0)))


def test_many_cells_are_looked_up_in_a_table_with_the_same_sums(shown, monkeypatch):
    from histomri.patches.stereology import cell_size, unfold_sizes

    found = unfold_sizes(shown.nucleus_um2, 4.0, 10.0)
    one = cell_size.cell_sums(found, shown.nucleus_um2, shown.cell_um2, offset2_um2=1.0)
    monkeypatch.setattr(cell_size, "_LEAST_FOR_TABLE", 1000)
    other = cell_size.cell_sums(found, shown.nucleus_um2, shown.cell_um2, offset2_um2=1.0)
    for name in ("number", "squared", "cubed", "seventh"):
        exact, quick = getattr(one, name), getattr(other, name)
        assert quick.sum() == pytest.approx(exact.sum(), rel=1e-3)  # a thirtieth of the errors of the model
        assert np.sqrt(np.mean((quick / exact - 1) ** 2)) < 0.01
