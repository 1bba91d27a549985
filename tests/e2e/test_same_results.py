"""The same results whichever way they were made: by commands or by a study, alone or in processes or on a cluster."""

import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from histomri_cli.app import app


def histomri(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.stderr
    return done


def maps_in(folder):
    """Every map below a folder, by its name without the label of the sample."""
    found = sorted(folder.rglob("*.nii.gz"))
    names = [str(path.relative_to(folder)).replace("sub-control1_", "") for path in found]
    return {name: np.asarray(nib.load(path).dataobj) for name, path in zip(names, found)}


def test_commands_and_the_steps_of_a_study_give_identical_maps(demo, tmp_path):
    """With the defaults of the commands, on the files of the demo, which names the defaults of a study only."""
    inputs, study = demo.out / "inputs", demo.out / "sub-control1"
    dwi, mask = inputs / "control1_dwi.nii.gz", inputs / "control1_mask.nii.gz"
    protocol = ("--protocol", inputs / "protocol.txt", "--mask", mask)
    histomri("cells", inputs / "control1_cells.tsv", "-o", tmp_path / "cells.parquet")
    histomri("patches", tmp_path / "cells.parquet", "--like", dwi, "-o", tmp_path / "histo")
    lines = (inputs / "study.toml").read_text().splitlines()
    sigma = next(line.split("=")[1].split("#")[0].strip() for line in lines if line.startswith("sigma"))
    histomri("fit", dwi, *protocol, "--sigma", sigma, "-o", tmp_path / "mri")
    histomri("dki", dwi, *protocol, "--sigma", sigma, "-o", tmp_path / "mri")
    histomri(
        "register", tmp_path / "histo/param-F_histomap.nii.gz", dwi, "--fixed-mask", mask, "--slice", 2,
        "--moving-mask", tmp_path / "histo/desc-tissue_mask.nii.gz", "--no-figures", "-o", tmp_path / "xfm",
    )  # fmt: skip
    xfm = tmp_path / "xfm/from-histo_to-dwi_mode-image_xfm.json"
    histomri(
        "pair", tmp_path / "histo", tmp_path / "mri", "--xfm", xfm, "--sample", "control1", "--group", "control",
        "--scanner", "9.4T", "--mask", mask, "--slice", 2, "--draws", 60, "-o", tmp_path / "pairs.csv",
    )  # fmt: skip
    for folder in ("histo", "mri", "xfm"):
        ours, theirs = maps_in(tmp_path / folder), maps_in(study / folder)
        assert ours.keys() == theirs.keys() and len(ours) > 0
        for name, values in ours.items():
            np.testing.assert_array_equal(values, theirs[name], err_msg=name)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "pairs.csv"), pd.read_csv(study / "pairs_voxel.csv"))


def tables_and_maps(out):
    """The content of every table and map of the results."""
    tables = {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.csv"))}
    return tables, {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.tfm"))}, maps_in(out)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Three livers so small that each takes seconds, and their results by one process."""
    folder = tmp_path_factory.mktemp("small")
    histomri("simulate", "liver", "-o", folder / "inputs", "--samples", 3, "--area-mm2", 6, "-q")
    histomri("run", folder / "inputs/study.toml", "-o", folder / "alone", "-q")
    return folder


@pytest.mark.filterwarnings("default")  # distributed has warnings of its own
@pytest.mark.parametrize("way", [("--jobs", 3), ("--dask", "local")], ids=["jobs", "dask"])
def test_processes_and_a_cluster_give_what_one_process_gives(small, tmp_path, way):
    histomri("run", small / "inputs/study.toml", "-o", tmp_path / "out", *way, "-q")
    ours, alone = tables_and_maps(tmp_path / "out"), tables_and_maps(small / "alone")
    assert ours[0] == alone[0] and ours[1] == alone[1] and ours[2].keys() == alone[2].keys()
    for name, values in ours[2].items():
        np.testing.assert_array_equal(values, alone[2][name], err_msg=name)


def test_finished_tables_scores_and_statistics_are_not_made_again(small, tmp_path):
    shutil.copytree(small / "alone", tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.csv")}
    done = histomri("run", small / "inputs/study.toml", "-o", tmp_path / "out")
    assert "22 steps kept from an earlier run" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_results_of_another_version_are_made_again_with_one_line_that_says_why(small, tmp_path):
    """Their records had no schema, and no record of the tables."""
    out = tmp_path / "out"
    shutil.copytree(small / "alone", out)
    (out / "stages.json").unlink()
    (out / "statistics/old.csv").write_text("a table that is not written any more")
    for record in out.glob("sub-*/stages.json"):
        record.write_text('{"inputs": {}, "stages": {}}')
    done = histomri("run", small / "inputs/study.toml", "-o", out, "-q")
    said = [line for line in done.stderr.splitlines() if "another version" in line]
    names = "control1, infiltrated1, necrotic1"
    assert said == [f"warning: the results of another version of histomri were made again: {names}"]
    assert not (out / "statistics/old.csv").exists()
    assert tables_and_maps(out)[0] == tables_and_maps(small / "alone")[0]


def test_every_optional_step_can_be_asked_for(small, tmp_path):
    """Each has its section, its results and its place in the record."""
    text = (small / "inputs/study.toml").read_text()
    shutil.copytree(small / "inputs", tmp_path / "inputs")
    sections = (
        "[preprocess]\nmotion = false\nunring = false\n[t2ivim]\n[crlb]\nsnr = 40\n[qupath_grid]\nmpp = 0.5\n"
        "[ki67]\nmin_cells = 100\n[harmonise]\nbatch = 'group'\nmean_only = true\n"
    )
    head, *samples = text.split("[[samples]]")
    classified = tmp_path / "inputs/ki67.tsv"
    rows = ["Image\tObject type\tClassification\tCentroid X µm\tCentroid Y µm\tNucleus: Area µm^2"]
    rows += [f"a\tDetection\t{'Positive' if n % 3 == 0 else 'Negative'}\t{n % 40 * 12}\t{n // 40 * 12}\t60"
             for n in range(1600)]  # fmt: skip
    classified.write_text("\n".join(rows) + "\n")
    one = samples[0].rstrip() + f'\nki67_source = "{classified.name}"\n'
    (tmp_path / "inputs/study.toml").write_text("[[samples]]".join([head + sections, one]))
    done = CliRunner().invoke(app, ["run", str(tmp_path / "inputs/study.toml"), "-o", str(tmp_path / "out"), "-q"])
    assert done.exit_code == 0, done.stderr
    folder = tmp_path / "out/sub-control1"
    for name in (
        "preprocessed/sub-control1_desc-preproc_dwi.nii.gz",
        "t2ivim/sub-control1_param-S0_desc-t2ivim_dwimap.nii.gz",
        "crlb/crlb.csv",
        "ki67/ki67.json",
        "sub-control1_qupath.geojson",
    ):
        assert (folder / name).exists(), name
    assert "harmonise: " in done.stderr  # one sample has no batches to bring together, and the rest is finished
