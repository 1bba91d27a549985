"""Pairing against brute force: every row must hold the histology that a loop over voxels finds at the same place."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.core.errors import GeometryError, InputError, UnitError
from histomri.core.images import Image, map_name, write_map
from histomri.pairing import PairedTable, PairOptions, pair_maps, pair_means
from histomri.registration import Transform

NY, NX = 7, 9
OBLIQUE = np.array([[-0.38, 0.03, 0.1, 4.0], [0.05, 0.36, -0.2, -3.0], [0.01, -0.04, 2.1, 9.0], [0, 0, 0, 1.0]])


def slide_affine(width_mm=0.386, height_mm=0.37):
    """A grid of patches in the world of a slide: x and y of the slide are the negatives of RAS x and y."""
    return np.array([[0, -width_mm, 0, -2.0], [-height_mm, 0, 0, -1.0], [0, 0, 2.2, 0], [0, 0, 0, 1.0]])


def histology(rng, holes=True):
    maps = {
        "vCS": rng.uniform(12, 30, (NY, NX)),
        "F": rng.uniform(0.3, 0.8, (NY, NX)),
        "CD": rng.uniform(1e3, 5e3, (NY, NX)),
    }
    if holes:
        maps["vCS"][2, 3] = np.nan
        maps["F"][0, :] = np.nan
    return {name: Image(data, slide_affine()) for name, data in maps.items()}


def mri(rng, shape=(NX, NY, 3), affine=OBLIQUE, models=("diff-in", "diff-in-ex"), strategies=("whole", "high-b")):
    fits = {}
    for model in models:
        for strategy in strategies:
            size, fraction = rng.uniform(10, 30, shape), rng.uniform(0.2, 0.9, shape)
            maps = {"vCS": size, "F": fraction, "CD": 1e9 * fraction / size**3, "BIC": rng.normal(size=shape)}
            maps["exit"] = rng.choice([1.0, 2.0, 0.0, -1.0], p=[0.7, 0.15, 0.1, 0.05], size=shape)
            fits[model, strategy] = {name: Image(data, affine) for name, data in maps.items()}
    return fits


def rotated(k=1):
    """Patch (row, column) lies at voxel (column, NY - 1 - row, k): a quarter turn."""
    to_voxel = np.array([[0, 1, 0, 0], [-1, 0, 0, NY - 1], [0, 0, 1, k], [0, 0, 0, 1.0]])
    return Transform(OBLIQUE @ to_voxel @ np.linalg.inv(slide_affine()))


def test_quarter_turn_pairs_each_voxel_with_its_patch(rng):
    section, fits = histology(rng), mri(rng)
    table = pair_maps(section, fits, rotated(), sample="a", group="g", scanner="s").data
    expected = {}
    for (model, strategy), maps in fits.items():
        for i in range(NX):
            for j in range(NY):
                row, column = NY - 1 - j, i
                sides = [section[name].data[row, column] for name in ("vCS", "F", "CD")]
                code = maps["exit"].data[i, j, 1]
                if np.isfinite(sides).all() and code in (1, 2):
                    own = [maps[name].data[i, j, 1] for name in ("vCS", "F", "CD", "BIC")]
                    expected[model, strategy, i, j, 1] = (*sides, *own, code == 2)
    names = ["vCS_histo_um", "F_histo", "CD_histo_mm2", "vCS_mri_um", "F_mri", "CD_mri_mm3", "BIC", "at_bound"]
    found = {
        tuple(row[:5]): tuple(row[5:]) for row in table[["model", "strategy", *"ijk", *names]].itertuples(index=False)
    }
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        # 1e-9 relative: the interpolation weights are 1 up to the rounding of the matrices
        np.testing.assert_allclose(np.array(found[key], float), np.array(values, float), rtol=1e-9)


def test_world_coordinates_are_those_of_the_mri_voxel(rng):
    table = pair_maps(histology(rng), mri(rng), rotated()).data
    index = table[["i", "j", "k"]].to_numpy()
    np.testing.assert_allclose(table[["x_mm", "y_mm", "z_mm"]], index @ OBLIQUE[:3, :3].T + OBLIQUE[:3, 3], atol=1e-12)


def test_same_grid_needs_no_transform(rng):
    section = histology(rng)
    fits = mri(rng, shape=(NY, NX), affine=slide_affine())
    table = pair_maps(section, fits).data
    assert len(table) > 50
    for row in table.itertuples():
        assert row.vCS_histo_um == section["vCS"].data[row.i, row.j]
        assert row.F_mri == fits[row.model, row.strategy]["F"].data[row.i, row.j]


def test_same_grid_is_found_among_the_slices_of_a_volume(rng):
    affine = slide_affine()
    affine[2, 3] = -2 * 2.2  # slice 2 of the volume is the plane of the slide
    table = pair_maps(histology(rng), mri(rng, shape=(NY, NX, 4), affine=affine))
    assert set(table.data["k"]) == {2}
    assert table.parameters["mri_slice"] == {"sample": 2}


def test_the_transform_says_which_slice(rng):
    for k in range(3):
        assert set(pair_maps(histology(rng), mri(rng), rotated(k)).data["k"]) == {k}


def test_a_transform_that_leads_away_is_refused(rng):
    with pytest.raises(GeometryError, match=r"puts the histology at slice 7\.0.*slices 0 to 2"):
        pair_maps(histology(rng), mri(rng), rotated(7))


def test_different_grids_without_a_transform_are_refused_with_a_hint(rng):
    with pytest.raises(GeometryError, match=r"--xfm.*--per sample"):
        pair_maps(histology(rng), mri(rng))
    shifted = slide_affine()
    shifted[0, 3] += 0.1
    with pytest.raises(GeometryError, match="different grids"):
        pair_maps(histology(rng), mri(rng, shape=(NY, NX), affine=shifted))


def bilinear(data, row, column):
    """Value and known weight at a fractional position; outside the array nothing is known."""
    total = weight = 0.0
    for r in (int(np.floor(row)), int(np.floor(row)) + 1):
        for c in (int(np.floor(column)), int(np.floor(column)) + 1):
            w = (1 - abs(row - r)) * (1 - abs(column - c))
            if 0 <= r < data.shape[0] and 0 <= c < data.shape[1] and np.isfinite(data[r, c]):
                total, weight = total + w * data[r, c], weight + w
    return (total / weight if weight else np.nan), weight


@settings(deadline=None, max_examples=15)
@given(st.floats(-np.pi, np.pi), st.floats(-1, 1), st.floats(-1, 1), st.integers(0, 2**31))
def test_interpolation_among_known_patches_against_brute_force(angle, dx, dy, seed):
    rng = np.random.default_rng(seed)
    section = histology(rng)
    c, s = np.cos(angle), np.sin(angle)
    shape = (8, 6)
    affine = np.diag([0.4, 0.33, 2.0, 1.0])
    matrix = np.array([[c, -s, 0, dx + 3.0], [s, c, 0, dy + 2.0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    fits = mri(rng, shape=shape, affine=affine, models=("diff-in",), strategies=("whole",))
    fits["diff-in", "whole"]["exit"].data[:] = 1
    found = pair_maps(section, fits, Transform(matrix)).data.set_index(["i", "j"])
    back = np.linalg.inv(section["F"].affine) @ np.linalg.inv(matrix) @ affine
    for i in range(shape[0]):
        for j in range(shape[1]):
            row, column = (back @ [i, j, 0, 1])[:2]
            size, covered = bilinear(section["vCS"].data, row, column)
            fraction, known = bilinear(section["F"].data, row, column)
            if min(abs(covered - 0.5), abs(known - 0.5)) < 1e-4:
                continue  # on the edge, rounding decides
            assert ((i, j) in found.index) == (covered > 0.5 and known > 0.5)
            if (i, j) in found.index:
                one = found.loc[(i, j)]
                # 1e-6: DIPY interpolates in double precision, the weights come from inverted matrices
                np.testing.assert_allclose(one["vCS_histo_um"], size, rtol=1e-6)
                np.testing.assert_allclose(one["F_histo"], fraction, rtol=1e-6)
                np.testing.assert_allclose(one["coverage_histo"], covered, atol=1e-6)


def test_everything_left_out_is_counted(rng):
    section, fits = histology(rng), mri(rng)
    mask = Image((rng.random((NX, NY, 3)) > 0.3).astype(float), OBLIQUE)
    table = pair_maps(section, fits, rotated(), mask=mask)
    measured = np.isfinite(section["vCS"].data) & np.isfinite(section["F"].data)
    measured = measured[::-1].T  # to voxel order
    inside = mask.data[:, :, 1] > 0
    for _, count in table.counts.iterrows():
        code = fits[count["model"], count["strategy"]]["exit"].data[:, :, 1]
        fitted = np.isin(code, (1, 2))
        mine = table.data.query("model == @count.model and strategy == @count.strategy")
        assert len(mine) == (fitted & inside & measured).sum()
        assert count["n_fitted"] == (fitted & inside).sum()
        assert count["n_without_histology"] == (fitted & inside & ~measured).sum()
        assert count["n_failed"] == ((code == -1) & inside).sum()
        assert count["n_without_mri"] == (measured & inside & ~fitted).sum()
        assert count["n_fitted"] - count["n_without_histology"] == len(mine)


def test_per_sample_averages_cell_density_over_voxels_and_votes(rng):
    table = pair_maps(
        histology(rng), mri(rng), rotated(), sample="01", common={"ADC": Image(rng.random((NX, NY, 3)), OBLIQUE)}
    )
    rows = table.per_sample()
    assert len(rows) == 4
    for row in rows.itertuples():
        mine = table.data[(table.data["model"] == row.model) & (table.data["strategy"] == row.strategy)]
        assert row.sample == "01" and row.n_voxels == len(mine)
        for name in ("vCS_mri_um", "F_mri", "CD_mri_mm3", "vCS_histo_um", "F_histo", "CD_histo_mm2", "ADC_um2_ms"):
            np.testing.assert_allclose(getattr(row, name), np.mean(mine[name].to_numpy()), rtol=1e-12)
            np.testing.assert_allclose(getattr(row, f"{name}_median"), np.median(mine[name].to_numpy()), rtol=1e-12)
        np.testing.assert_allclose(row.at_bound_share, (mine["exit"] == 2).mean())
    for strategy, part in rows.groupby("strategy"):
        voxels = {}
        for item in table.data[table.data["strategy"] == strategy].itertuples():
            voxels.setdefault((item.i, item.j), {})[item.model] = item.BIC
        voting = [values for values in voxels.values() if len(values) == 2]
        for row in part.itertuples():
            share = np.mean([min(values, key=values.get) == row.model for values in voting])
            np.testing.assert_allclose(row.BIC_vote, share, rtol=1e-12)
        assert part["BIC_best"].sum() == (part["BIC_vote"].nunique() == 2)
    assert rows["K"].isna().all()


def test_one_model_alone_has_no_vote(rng):
    rows = pair_maps(histology(rng), mri(rng, models=("diff-in",)), rotated()).per_sample()
    assert rows["BIC_vote"].isna().all() and not rows["BIC_best"].any()


def test_a_case_without_a_paired_voxel_keeps_its_row(rng):
    fits = mri(rng)
    fits["diff-in", "whole"]["exit"].data[:] = -1
    rows = pair_maps(histology(rng), fits, rotated()).per_sample().set_index(["model", "strategy"])
    assert rows.loc[("diff-in", "whole"), "n_voxels"] == 0
    assert np.isnan(rows.loc[("diff-in", "whole"), "vCS_mri_um"])
    assert rows.loc[("diff-in", "whole"), "n_failed"] > 0


def test_means_of_whole_samples(rng):
    section, fits = histology(rng), mri(rng, shape=(4, 5, 3))
    mask = Image((rng.random((4, 5, 3)) > 0.4).astype(float), OBLIQUE)
    table = pair_means(section, fits, mask=mask, sample="biopsy")
    assert table.level == "sample"
    for row in table.per_sample().itertuples():
        maps = fits[row.model, row.strategy]
        use = np.isin(maps["exit"].data, (1, 2)) & (mask.data > 0)
        assert row.n_voxels == use.sum() and row.n_patches == NY * NX - 1
        np.testing.assert_allclose(row.CD_mri_mm3, maps["CD"].data[use].mean(), rtol=1e-12)
        np.testing.assert_allclose(row.F_histo, np.nanmean(section["F"].data), rtol=1e-12)
        np.testing.assert_allclose(row.vCS_histo_um_median, np.nanmedian(section["vCS"].data), rtol=1e-12)


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.parquet"])
def test_saved_and_loaded(tmp_path, rng, name):
    table = pair_maps(histology(rng), mri(rng), rotated(), sample="01", group="NA")
    files = table.save(tmp_path / name)
    assert [path.name for path in files] == [name, "pairs.json"]
    again = PairedTable.load(tmp_path / name)
    assert (
        again.data["sample"].eq("01").all()
        and again.data["group"].eq("NA").all()
        and again.data["scanner"].isna().all()
    )
    assert again.level == "voxel" and again.counts["n_fitted"].tolist() == table.counts["n_fitted"].tolist()
    # seven digits are written to CSV
    np.testing.assert_allclose(again.data["CD_mri_mm3"], table.data["CD_mri_mm3"], rtol=1e-6)
    pd.testing.assert_frame_equal(again.per_sample(), table.per_sample(), rtol=1e-6, check_dtype=False)


def test_tables_of_samples_are_joined_by_name(rng):
    one, two = (
        pair_maps(histology(rng), mri(rng), rotated(), sample=name, group=group)
        for name, group in (("a", None), ("b", "x"))
    )
    both = PairedTable.join([one, two])
    assert len(both) == len(one) + len(two)
    rows = both.per_sample()
    assert rows["sample"].tolist() == ["a"] * 4 + ["b"] * 4
    assert both.parameters["mri_slice"] == {"a": 1, "b": 1}
    assert both.parameters["pairing"] == {"a": "voxels", "b": "voxels"}
    with pytest.raises(InputError, match="sample a comes twice"):
        PairedTable.join([one, one])


def test_every_column_is_described_and_its_unit_read_back(tmp_path, rng):
    """The measurements of the study file too: by their names, or by the sidecar where those say nothing."""
    table = pair_maps(histology(rng), mri(rng), rotated(), sample="a").summarised()
    own = {"volume_mm3": 12.0, "Ki67_fraction": 0.1, "age": 3.0, "ADC_per_water": 0.5, "AIC_best": True}
    path = tmp_path / "pairs.csv"
    replace(table, data=table.data.assign(**own), described={"age": {"Units": "weeks"}}).save(path)
    columns = json.loads((tmp_path / "pairs.json").read_text())["Columns"]
    assert all(entry.get("Description") for entry in columns.values())
    without = {"sample", "group", "scanner", "model", "strategy", "at_bound", "BIC_best", "AIC_best", "pairing"}
    assert {name for name, entry in columns.items() if "Units" not in entry} <= without
    assert columns["volume_mm3"]["Units"] == "mm^3" and columns["Ki67_fraction"]["Units"] == "1"
    other = pair_maps(histology(rng), mri(rng), rotated(), sample="b").summarised()
    joined = PairedTable.join([PairedTable.load(path), other]).save(tmp_path / "both.parquet")
    assert json.loads(joined[1].read_text())["Columns"]["age"]["Units"] == "weeks"
    old = replace(other, described={"age": {}, "AIC_vote": {}})  # sidecars of earlier versions describe less
    assert PairedTable.join([PairedTable.load(path), old]).described["age"]["Units"] == "weeks"
    wrong = replace(other, described={"age": {"Units": "days"}})
    with pytest.raises(UnitError, match="'age' is in 'weeks' and 'days'"):
        PairedTable.join([PairedTable.load(path), wrong])
    columns["vCS_mri_um"]["Units"] = "mm"
    (tmp_path / "pairs.json").write_text(json.dumps({"Columns": columns}))
    with pytest.raises(UnitError, match=r"'vCS_mri_um' of pairs\.csv is in 'mm'"):
        PairedTable.load(path)


def test_two_tables_never_share_a_sidecar(tmp_path, rng):
    table = pair_maps(histology(rng), mri(rng), rotated(), sample="a")
    table.save(tmp_path / "m1.csv")
    with pytest.raises(InputError, match=r"share its sidecar with m1\.csv"):
        table.summarised().save(tmp_path / "m1.parquet")
    assert not (tmp_path / "m1.parquet").exists() and PairedTable.load(tmp_path / "m1.csv").level == "voxel"


def test_each_sample_says_how_it_was_paired(rng, tmp_path):
    """A study of mice, registered, and biopsies, which cannot be."""
    mouse = pair_maps(histology(rng), mri(rng), rotated(), sample="mouse").summarised()
    biopsy = pair_means(histology(rng), mri(rng, shape=(4, 5, 3)), sample="biopsy")
    for parts in ([mouse, biopsy], [biopsy, mouse]):
        joined = PairedTable.join(parts)
        joined.save(tmp_path / "pairs.csv")
        again = PairedTable.load(tmp_path / "pairs.csv")
        assert again.parameters["pairing"] == {"mouse": "voxels", "biopsy": "means"}
        assert dict(zip(again.data["sample"], again.data["pairing"])) == again.parameters["pairing"]


def test_missing_maps_and_odd_grids_are_named(rng):
    section, fits = histology(rng), mri(rng)
    del section["F"]
    with pytest.raises(InputError, match="histology: the map F is missing"):
        pair_maps(section, fits, rotated())
    fits["diff-in", "whole"]["F"] = Image(np.ones((3, 4, 5)), OBLIQUE)
    with pytest.raises(GeometryError, match="diff-in whole F"):
        pair_maps(histology(rng), fits, rotated())
    with pytest.raises(InputError, match="no fitted MRI maps"):
        pair_maps(histology(rng), {}, rotated())


def test_weak_pairs_are_warned_about(rng):
    fits = mri(rng)
    for maps in fits.values():
        maps["exit"].data[:] = 2
        maps["exit"].data[2:] = 0
    texts = " ".join(pair_maps(histology(rng), fits, rotated(), sample="a").warnings)
    assert "a: only" in texts and "voxels are measured on both sides" in texts


def test_the_trimmed_mean_is_that_of_scipy(rng):
    from scipy.stats import trim_mean

    from histomri.analysis.summary import trimmed_mean

    for size in (1, 9, 10, 57):
        values = rng.standard_cauchy(size)
        assert trimmed_mean(np.append(values, np.nan)) == pytest.approx(trim_mean(values, 0.1), rel=1e-12)
    assert np.isnan(trimmed_mean(np.full(3, np.nan)))


def test_a_patient_stands_behind_the_sample_where_one_is_known(rng, tmp_path):
    """Also where the first sample has none, after saving, and in the means over voxels; without one nothing changes."""
    section, fits = histology(rng), mri(rng)
    labels = {"group": "g", "scanner": "s"}
    plain = [pair_maps(section, fits, rotated(), sample=name, **labels) for name in ("m1", "t1", "t2")]
    both = PairedTable.join([plain[0], plain[1].of_patient("007"), plain[2].of_patient("007")])
    assert list(both.data.columns[:3]) == ["sample", "patient", "group"]
    assert both.data.drop_duplicates("sample")["patient"].fillna("").tolist() == ["", "007", "007"]
    pd.testing.assert_frame_equal(both.data.drop(columns="patient"), PairedTable.join(plain).data)
    for ending in ("csv", "parquet"):
        (tmp_path / ending).mkdir()
        path, sidecar = both.save(tmp_path / ending / f"pairs.{ending}")
        again = PairedTable.load(path)
        assert set(again.data["patient"].dropna()) == {"007"}
        assert "Patient" in json.loads(sidecar.read_text())["Columns"]["patient"]["Description"]
        rows = again.summarised().data
        assert list(rows.columns[:3]) == ["sample", "patient", "group"]
        assert rows.drop_duplicates("sample")["patient"].fillna("").tolist() == ["", "007", "007"]
    pd.testing.assert_frame_equal(rows.drop(columns="patient"), PairedTable.join(plain).summarised().data)


def test_a_notebook_pairs_folders_and_sees_a_few_facts(rng, tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    maps, fits, transform = histology(rng), mri(rng, models=("diff-in",), strategies=("whole",)), rotated()
    for name, image in maps.items():
        write_map(tmp_path / "histo" / map_name(name, "histomap"), image.data, image.affine)
    for name in ("vCS", "F", "exit"):
        image = fits["diff-in", "whole"][name]
        write_map(tmp_path / "mri" / "whole" / map_name(name, "dwimap", model="diffin"), image.data, image.affine)
    path = transform.save(tmp_path / "xfm" / "x_xfm")[0]
    found = pair_maps(tmp_path / "histo", str(tmp_path / "mri"), path)
    truth = pair_maps(maps, fits, transform)
    assert 0 < len(found) == len(truth) and repr(found).startswith(f"PairedTable(rows: {len(found)}, a row is a: voxel")
    np.testing.assert_allclose(found.to_pandas()["vCS_histo_um"], truth.data["vCS_histo_um"], rtol=1e-5)
    assert "<table" in found._repr_html_() and found.plot("F").get_xlabel() == "F histology"
    pyplot.close("all")
    (tmp_path / "xfm" / "x_xfm_warp0.nii.gz").write_bytes(b"1")
    (tmp_path / "xfm" / "y_xfm.json").write_text("{}")
    options = PairOptions(
        histo_dir=tmp_path / "histo", mri_dir=tmp_path / "mri", xfm=path, voxel_out=tmp_path / "v.csv"
    )
    names = {file.name for file in options.reads()}
    assert {"histo", "mri", path.name, "x_xfm_warp0.nii.gz"} <= names and not {"y_xfm.json", "v.csv"} & names


def test_the_number_of_cells_follows_from_the_scatter_of_their_sizes_in_the_section(rng):
    section, fits = histology(rng), mri(rng)
    for maps in fits.values():
        maps["CDsphere"] = Image(6 / np.pi * maps["CD"].data, OBLIQUE)
    plain = pair_maps(section, fits, rotated()).data
    assert list(plain.columns)[-1] == "CDsphere_mri_mm3" and "cellNV_mri_mm3" not in plain
    # Lognormal diameters of CV 0.25 about 15 µm: mean cube and vCS from their moments.
    scale = 1 + 0.25**2
    cube, size = 15**3 * scale**3, 15 * scale**4.5
    constant = {"Dvol": cube ** (1 / 3), "vCSvol": size, "F": 0.6, "cellNV": 6e9 * 0.6 / np.pi / cube, "vCS": size}
    for names in (("Dvol", "vCSvol"), ("F", "cellNV", "vCS")):
        more = {name: Image(np.full((NY, NX), constant[name]), slide_affine()) for name in names}
        for table in (pair_maps(section | more, fits, rotated()).data, pair_means(section | more, fits).data):
            ratio = table["cellNV_mri_mm3"] / table["CDsphere_mri_mm3"]
            np.testing.assert_allclose(ratio, scale**10.5, rtol=1e-6)
