"""The benchmark sets: their truth, and their inputs against it."""

import hashlib
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import map_coordinates

from histomri.cells import read_cells
from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.core.presets import PRESETS
from histomri.mri import Acquisition, read_acquisition
from histomri.simulation.benchmarks import SET_NAMES, SETS, get_set, write_benchmark
from histomri.simulation.benchmarks.declaration import data_path
from histomri.simulation.benchmarks.insilico import read_study
from histomri.simulation.benchmarks.liver import read_walks

# Of the files that the inputs are made of: other contents are another set, and need another version.
DATA = {
    "section_conditions.csv": "b545b53878de417b",
    "section_g1.csv.gz": "59ecde8affbede02",
    "section_g2.csv.gz": "b9edc2b83ac74cef",
    "section_g3.csv.gz": "e480dd420a33b572",
    "section_g4.csv.gz": "9dd82132c80578bb",
    "section_g5.csv.gz": "9cf613767dbb6a7f",
    "section_g6.csv.gz": "897ff54314db364b",
    "section_g7.csv.gz": "5d6fff5a43e708f0",
    "section_truth.csv": "b059edd2c8165f41",
    "walks_insilico-small.csv": "c839605555701897",
    "walks_invivo-1.5t.csv": "8231ce66ffe1bcf5",
    "walks_invivo-3t.csv": "c93a0007b95fab83",
    "walks_mouse-exvivo.csv": "1d03e69253c6c191",
}
DESIGN = ["F", "vCS_um", "D0I_um2_ms", "D0E_um2_ms"]


# ---------------------------------------------------------------- truth


def test_the_names_that_the_command_line_offers_are_those_of_the_sets():
    assert tuple(SETS) == SET_NAMES


@pytest.mark.parametrize("name", SET_NAMES)
def test_the_truth_is_the_published_one_and_its_ids_are_unique(name):
    chosen = get_set(name)
    truth = chosen.truth()
    assert not truth[list(chosen.ids)].duplicated().any()
    assert np.isfinite(truth[list(chosen.estimates)].to_numpy()).all()


def test_another_truth_is_refused():
    chosen = get_set("sections-nuclei")
    changed = chosen.truth()
    changed.loc[2, "F"] += 1e-5
    with pytest.raises(InputError, match="the truth of sections-nuclei made here is not that of version 1"):
        replace(chosen, make_truth=lambda: changed).truth()


def test_the_data_behind_the_inputs_are_unchanged():
    folder = data_path("walks_invivo-3t.csv").parent
    assert {each.name: hashlib.sha256(each.read_bytes()).hexdigest()[:16] for each in folder.iterdir()} == DATA


def test_the_design_of_the_paper():
    truth = get_set("insilico-paper").truth()
    assert (truth.groupby(["protocol", "kappa_um_s"]).size() == 1600).all()
    assert set(truth["kappa_um_s"]) == {10, 25, 50} and set(truth["protocol"]) == set(PRESETS)
    assert set(truth["F"]) == {0.197, 0.323, 0.406, 0.523} and set(truth["vCS_um"]) == {8, 16, 22, 30}
    mouse = truth[truth["protocol"] == "mouse-exvivo"]
    np.testing.assert_allclose(sorted(set(mouse["D0I_um2_ms"])), 0.8 + 0.2 * np.arange(10), atol=1e-12)
    assert sorted(set(truth[truth["protocol"] == "invivo-3t"]["D0E_um2_ms"]))[-1] == 3.0
    assert not mouse[[*DESIGN, "kappa_um_s"]].duplicated().any()


# ---------------------------------------------------------------- inputs


@pytest.mark.parametrize("name", ["liver-3t", "liver-1.5t", "liver-exvivo"])
def test_signals_lie_where_the_table_says_and_are_those_of_the_walks(name, tmp_path):
    write_benchmark(name, tmp_path)
    places = pd.read_csv(tmp_path / "ids.csv")
    (image,) = set(places["image"])
    protocol = image.removesuffix("_dwi.nii.gz")
    signals = nib.load(tmp_path / image).get_fdata()[places["i"], places["j"], places["k"]]
    truth = pd.read_csv(tmp_path / "truth" / "truth.csv").set_index("id").loc[places["id"]]
    walks = read_walks(protocol)
    # The walk of each voxel, found by its true parameters and not by its place.
    keys = {"F": "F", "vCS_um": "vCS_um", "kappa_um_s": "kappa_um_s", "cv": "cv"}
    given = pd.DataFrame({key: truth[column].to_numpy() for key, column in keys.items()}).assign(
        random=(truth["packing"] == "random").astype(int).to_numpy()
    )
    found = given.merge(walks, on=[*keys, "random"], how="left", validate="many_to_one")
    expected = 1000 * found[[f"s{volume}" for volume in range(signals.shape[1])]].to_numpy()
    sigma = float((tmp_path / f"{protocol}_sigma.txt").read_text())
    assert sigma == 20.0  # SNR 50
    # The second moment of a Rician magnitude is s² + 2 σ², its variance 4 σ² (s² + σ²); 5 standard errors of the mean.
    excess = np.mean(signals**2 - expected**2 - 2 * sigma**2, axis=0)
    spread = np.sqrt(np.mean(4 * sigma**2 * (expected**2 + sigma**2), axis=0) / len(signals))
    assert np.all(np.abs(excess) < 5 * spread)
    weak = np.corrcoef(signals[:, -1], expected[:, -1])[0, 1]
    assert weak > 0.9
    read, preset = (read_acquisition(next(tmp_path.glob("*_protocol.*"))), Acquisition.preset(protocol))
    np.testing.assert_allclose(read.b_smm2, preset.b_smm2, rtol=1e-9)
    np.testing.assert_allclose(read.te_ms, preset.te_ms)
    assert (read.waveforms is None) == (preset.waveforms is None)


@pytest.mark.parametrize("name", ["insilico-small", "sections-nuclei"])
def test_the_same_set_gives_the_same_inputs(name, tmp_path):
    first, second = (write_benchmark(name, tmp_path / folder) for folder in "ab")
    for one, other in zip(first, second, strict=True):
        if one.name.endswith(".nii.gz"):
            np.testing.assert_array_equal(nib.load(one).get_fdata(), nib.load(other).get_fdata())
        else:
            assert one.read_bytes() == other.read_bytes(), one.name


def test_set_json_says_what_results_need(tmp_path):
    write_benchmark("liver-3t", tmp_path)
    about = json.loads((tmp_path / "set.json").read_text())
    assert about["IdColumns"] == ["id"] and about["EstimateColumns"] == ["F", "vCS_um", "D0I_um2_ms"]
    text = (tmp_path / "truth" / "truth.csv").read_bytes()
    assert about["TruthSha256"] == hashlib.sha256(text).hexdigest() and about["Version"] == 1


def test_every_nucleus_of_the_sections_is_in_a_table_that_qupath_could_have_written(tmp_path, data):
    write_benchmark("sections-nuclei", tmp_path)
    known = pd.read_csv(data / "stereology" / "conditions.csv").set_index("condition")
    given = pd.read_csv(tmp_path / "conditions.csv").set_index("condition")
    truth = pd.read_csv(tmp_path / "truth" / "truth.csv")
    pd.testing.assert_frame_equal(truth, pd.read_csv(data / "stereology" / "truth.csv"), check_dtype=False)
    np.testing.assert_array_equal(given["field_area_um2"], known["field_area_um2"])
    assert not {"F_given", "mask_coverage_U"} & set(given.columns)  # which would give the truth away
    for name in known.index:
        cells = read_cells(tmp_path / f"{name}_cells.tsv", image=f"{name}_HE.svs")
        assert len(cells.data) == known.loc[name, "n_rows"]
        assert cells.data["nucleus_area_um2"].min() >= known.loc[name, "nucleus_limit_um2"]
        # A nucleus expanded by a rim is larger than the nucleus.
        assert (cells.data["area_um2"] > cells.data["nucleus_area_um2"]).all()
        wide = np.ceil(np.sqrt(known.loc[name, "n_tiles"])) * known.loc[name, "tile_side_um"]
        assert cells.data["x_um"].min() >= 0 and cells.data["x_um"].max() <= wide


def test_the_points_of_a_pair_show_the_same_tissue_in_both_images(tmp_path):
    write_benchmark("registration-lobes", tmp_path)
    points = pd.read_csv(tmp_path / "points.csv", dtype={"point": str})
    truth = pd.read_csv(tmp_path / "truth" / "truth.csv", dtype={"point": str})
    pd.testing.assert_frame_equal(points[["pair", "point"]], truth[["pair", "point"]])
    assert truth["pair"].nunique() == 20 and (truth.groupby("pair").size() == 100).all()
    axes = ["x_mm", "y_mm", "z_mm"]
    contrast = []
    for name in ("pair01", "pair08", "pair20"):
        rows = truth["pair"] == name
        mask = at(tmp_path / f"{name}_moving_mask.nii.gz", points.loc[rows, axes].to_numpy(), order=0)
        assert (mask == 1).all()
        maps = [at(tmp_path / f"{name}_moving_map{k}.nii.gz", points.loc[rows, axes].to_numpy(), 0) for k in (1, 2, 3)]
        mri = at(tmp_path / f"{name}_fixed.nii.gz", truth.loc[rows, axes].to_numpy(), order=1)
        assert np.mean(mri > 0.3) > 0.95  # tissue is 1 ± 0.2, its outside 0
        # The maps explain half to four fifths of the MRI by a curved function: of random places they would explain 6
        # of 99 parts.
        there = np.isfinite(maps).all(axis=0)
        design = np.column_stack([np.ones(there.sum()), *np.array(maps)[:, there], *np.array(maps)[:, there] ** 2])
        left = mri[there] - design @ np.linalg.lstsq(design, mri[there], rcond=None)[0]
        contrast.append(1 - left.var() / mri[there].var())
    assert min(contrast) > 0.25


def at(path, points, order):
    image = Image.load(path)
    index = np.linalg.inv(image.affine) @ np.column_stack([points, np.ones(len(points))]).T
    data = image.data if image.data.ndim == 2 else image.data[:, :, 0]
    return map_coordinates(data, index[:2], order=order, cval=np.nan)


# ---------------------------------------------------------------- insilico-paper reads the study


@pytest.fixture
def study(tmp_path, rng):
    """Return a folder as `histomri insilico` writes it, rows in any order, signals that name their tissue."""
    truth = get_set("insilico-paper").truth()
    folder = tmp_path / "study"
    folder.mkdir()
    for protocol, part in truth.groupby("protocol"):
        volumes = len(Acquisition.preset(protocol))
        design = part[["kappa_um_s", *DESIGN]].iloc[np.random.default_rng(5).permutation(len(part))]
        np.save(folder / f"signals_{protocol}.npy", marked(design, volumes))
        design.to_csv(folder / f"tissues_{protocol}.csv", index=False)
    return folder


def marked(design, volumes):
    """Return signals that name the tissue: the mean of its parameters, each over its largest value."""
    mark = (design[["kappa_um_s", *DESIGN]] / [50, 0.523, 30, 3, 3]).mean(axis=1).to_numpy()
    return np.repeat(mark[:, None], volumes, axis=1).astype(np.float32)


def test_signals_of_the_study_are_matched_by_their_tissue_and_not_by_their_order(study, tmp_path):
    write_benchmark("insilico-paper", tmp_path / "set", source=study)
    places = pd.read_csv(tmp_path / "set" / "ids.csv").set_index("id")
    truth = get_set("insilico-paper").truth()
    assert places["image"].nunique() == 9 and set(places.index) == set(truth["id"])
    part = truth[(truth["protocol"] == "invivo-3t") & (truth["kappa_um_s"] == 25)]
    where = places.loc[part["id"]]
    signals = nib.load(tmp_path / "set" / where["image"].iloc[0]).get_fdata()[where["i"], where["j"], where["k"]]
    expected = 1000 * marked(part, signals.shape[1])
    # Noise of SNR 30 over 21 volumes is 7; a wrong order would be off by some 150.
    assert np.sqrt(np.mean((signals.mean(axis=1) - expected[:, 0]) ** 2)) < 10


def test_a_study_that_lacks_tissues_or_volumes_is_refused(study):
    truth = get_set("insilico-paper").truth()
    design = truth[(truth["protocol"] == "invivo-3t") & (truth["kappa_um_s"] == 10)][DESIGN]
    table, path = study / "tissues_invivo-3t.csv", study / "signals_invivo-3t.npy"
    rows, signals = pd.read_csv(table), np.load(path)
    np.save(path, signals[:, :-1])
    with pytest.raises(InputError, match="is 4800 x 20, not 4800 tissues x 21 volumes"):
        read_study(study, "invivo-3t", 10.0, design)
    np.save(path, np.where(signals == signals[3, 3], np.nan, signals))
    with pytest.raises(InputError, match="holds signals that are not finite"):
        read_study(study, "invivo-3t", 10.0, design)
    low = np.flatnonzero(rows["kappa_um_s"] == 10)[:2]
    np.save(path, np.delete(signals, low, axis=0))
    rows.drop(index=low).to_csv(table, index=False)
    with pytest.raises(InputError, match="lacks 2 of 1600 tissues of the paper's design"):
        read_study(study, "invivo-3t", 10.0, design)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="the array of signals is empty; export it again"):
        read_study(study, "invivo-3t", 10.0, design)
    path.unlink()
    with pytest.raises(InputError, match="run `histomri insilico -o DIR` first"):
        read_study(study, "invivo-3t", 10.0, design)


def test_without_the_study_the_paper_s_set_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match="run `histomri insilico -o DIR` first, and give --from DIR"):
        write_benchmark("insilico-paper", tmp_path)
