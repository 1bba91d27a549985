"""`histomri cells`: exit codes, messages and files."""

import pytest
from typer.testing import CliRunner

from histomri.cells import CellTable
from histomri_cli.app import app

HEADER = "Image\tClass\tCentroid X px\tCentroid Y px\tNucleus: Area\tCell: Area\n"


def invoke(*words):
    return CliRunner().invoke(app, ["cells", *map(str, words)])


@pytest.fixture
def export(tmp_path):
    path = tmp_path / "a.tsv"
    rows = "A\tTumor\t10\t20\t120\t400\nA\tStroma\t30\t20\t120\t400\nA\tTumor\t30\t20\t120\tNaN\n"
    path.write_text(HEADER + rows)
    return path


def test_a_table_is_written_and_told(export, tmp_path):
    out = tmp_path / "out" / "cells.parquet"
    result = invoke(export, "-o", out, "--mpp", "0.5,0.25", "--classes", "Tumor")
    assert result.exit_code == 0
    assert "a.tsv: 3 rows read, 1 kept" in result.stdout
    assert "dropped: 1 without an area" in result.stdout
    assert "dropped: 1 of another class" in result.stdout
    assert "sizes are of cells; diameter 8.0 µm" in result.stdout
    assert f"wrote {out}" in result.stdout
    table = CellTable.load(out)
    assert table.data[["x_um", "y_um", "area_um2"]].to_numpy().tolist() == [[5, 5, 50]]
    assert [path.name for path in out.parent.iterdir()] == ["cells.parquet"]


def test_quiet_prints_warnings_only(tmp_path):
    path = tmp_path / "n.tsv"
    path.write_text("Centroid X px\tCentroid Y px\tNucleus: Area\n1\t2\t120\n")
    result = invoke(path, "-o", tmp_path / "c.parquet", "--mpp", "0.5", "-q")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "warning: the table has no cell outlines, only nuclei" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "a.tsv: the positions are in pixels and the pixel size is not known; pass --mpp"),
        (("--mpp", "half"), "--mpp half is not a number; write --mpp 0.2268 or --mpp 0.2268,0.2268"),
        (("--mpp", "1,2,3"), "--mpp 1,2,3 is not a number"),
        (("--mpp", "-1"), "--mpp: must be greater than 0"),
        (("--mpp", "0.5", "--area-unit", "mm2"), "is not one of"),
        (("--mpp", "0.5", "--roi", "gone.geojson"), "gone.geojson: no such region of interest file"),
        (("--mpp", "0.5", "--max-size-um", "1"), "no cell is left of 3 rows"),
        (("--mpp", "0.5", "--image", "B"), "holds no image 'B'"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(export, tmp_path, words, message):
    out = tmp_path / "out"
    result = invoke(export, "-o", out / "cells.parquet", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not out.exists()


def test_a_folder_as_output_is_refused(export, tmp_path):
    result = invoke(export, "-o", tmp_path, "--mpp", "0.5")
    assert result.exit_code == 2
    assert "is a folder, and the cell table is a file; pass -o" in result.stderr


@pytest.mark.parametrize("name", ["cells.csv", "cells", "cells.parquet.tsv", "a.tsv"])
def test_only_parquet_names_are_taken(export, tmp_path, name):
    before = export.read_bytes()
    result = invoke(export, "-o", tmp_path / name, "--mpp", "0.5")
    assert result.exit_code == 2
    assert "is no name for a Parquet file, which the cell table is; pass -o" in result.stderr
    assert ([path.name for path in tmp_path.iterdir()], export.read_bytes()) == (["a.tsv"], before)


def test_an_input_is_never_overwritten(export, tmp_path):
    disguised = export.rename(tmp_path / "a.parquet")
    before = disguised.read_bytes()
    result = invoke(disguised, "-o", disguised, "--mpp", "0.5")
    assert (result.exit_code, "is an input, and would be overwritten" in result.stderr) == (2, True)
    assert disguised.read_bytes() == before


def test_help_has_an_example():
    assert "Example: histomri cells" in invoke("--help").stdout
