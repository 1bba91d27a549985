"""`histomri cells`: classes of regions, and one table for each image of a file."""

import gzip
import json

import numpy as np
import pytest

from histomri.cells import CellTable, read_cells, read_images
from histomri.core.errors import InputError


@pytest.fixture
def several(tmp_path, rng):
    """An export of three images, in turns."""
    rows = ["Image,Class,Centroid X µm,Centroid Y µm,Cell: Area µm^2"]
    names = ("A01.vsi - 20x_01", "A02, left.svs", "B.ndpi")
    for k, (x, y) in enumerate(rng.uniform(0, 500, (300, 2))):
        rows.append(f'"{names[k % 3]}",{"Tumor" if k % 3 else ""},{x},{y},{100 + 10 * (k % 3)}')
    path = tmp_path / "all.csv.gz"
    path.write_bytes(gzip.compress("\n".join([*rows, ""]).encode()))
    return path, names


def test_one_table_for_each_image(run, several, tmp_path):
    path, names = several
    result = run("cells", path, "-o", tmp_path / "out", "--per-image")
    assert result.exit_code == 0, result.output
    assert "B.ndpi: all.csv.gz: 100 rows read, 100 kept" in result.stdout
    files = ("A01.vsi_-_20x_01", "A02_left", "B")
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == sorted(
        f"{name}.{kind}" for name in files for kind in ("json", "parquet")
    )
    for image, name in zip(names, files):
        table, alone = CellTable.load(tmp_path / "out" / f"{name}.parquet"), read_cells(path, image=image)
        assert table.metadata.image == image
        np.testing.assert_array_equal(table.data["x_um"], alone.data["x_um"])
        assert table.data["classification"].astype(str).tolist() == alone.data["classification"].astype(str).tolist()
        record = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert (record["image"], record["n_read"], record["n_kept"]) == (image, 100, 100)


def test_mistakes_are_told_and_nothing_is_written(run, several, tmp_path):
    path, _ = several
    other = tmp_path / "one.tsv"
    other.write_text("Centroid X um\tCentroid Y um\tCell: Area um^2\n1\t2\t90\n3\t9\t90\n")
    cases = (
        ((path, "--per-image", "--image", "B.ndpi"), "--per-image takes all images of a file; leave out --image"),
        ((path, "--per-image", "--roi", "r.geojson"), "--per-image takes all images of a file"),
        ((path, other, "--per-image"), "--per-image takes one file"),
        ((other, "--per-image"), "one.tsv: has no column 'Image' to tell images apart"),
        ((path, "--per-image", "--classes", "Tumor"), "image 'A01.vsi - 20x_01': no cell is of class 'Tumor'"),
    )
    for words, message in cases:
        result = run("cells", *words, "-o", tmp_path / "out")
        assert (result.exit_code, message in result.stderr) == (2, True), result.output
        assert not (tmp_path / "out").exists()


def test_images_whose_tables_would_have_one_name(tmp_path, run):
    head, row = "Image\tCentroid X um\tCentroid Y um\tCell: Area um^2\n", "\t1\t2\t90\n"
    (tmp_path / "a.tsv").write_text(head + "A.svs" + row + "A.ndpi" + row)
    assert run("cells", tmp_path / "a.tsv", "-o", tmp_path / "out", "--per-image").exit_code == 0
    assert {each.stem for each in (tmp_path / "out").glob("*.parquet")} == {"A.svs", "A.ndpi"}
    (tmp_path / "a.tsv").write_text(head + "A 1.svs" + row + "A_1.svs" + row)
    result = run("cells", tmp_path / "a.tsv", "-o", tmp_path / "none", "--per-image")
    assert "tables of the images 'A 1.svs', 'A_1.svs' would have one name" in result.stderr
    (tmp_path / "a.tsv").write_text(head + "A.svs" + row + row)
    with pytest.raises(InputError, match="1 of its 2 rows name no image"):
        read_images(tmp_path / "a.tsv")


def test_classes_of_regions(run, tmp_path, data):
    table = data / "histology" / "selected.cells.tsv"
    result = run("cells", table, "-o", tmp_path / "c.parquet", "--roi-classes", "Tumor,Tissue")
    assert result.exit_code == 0 and "warning: Tissue has no cells of its own and was left out" in result.stderr
    result = run("cells", table, "-o", tmp_path / "d.parquet", "--roi-classes", "Tumour")
    assert (result.exit_code, "no annotation is of class 'Tumour' (is it 'Tumor'?)" in result.stderr) == (2, True)
    result = run("cells", table, "-o", tmp_path / "d.parquet", "--core", "A-1")
    assert (result.exit_code, "holds no TMA cores" in result.stderr) == (2, True)
    assert not (tmp_path / "d.parquet").exists()
