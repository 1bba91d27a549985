"""Files that cannot be used are refused in words: which file, what is wrong, what to do."""

import gzip
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.cells import CellTable, read_cells
from histomri.core.errors import HistomriError, InputError, UnitError

GOOD = "Image\tCentroid X µm\tCentroid Y µm\tNucleus: Area\tCell: Area\n"
ROW = "A\t1\t2\t30\t100\n"
NIFTI = b"\x5c\x01\0\0" + bytes(340) + b"n+1\0"

BAD = {
    "empty": (b"", "the QuPath export is empty; export it again"),
    "blank": (b"\n \n\n", "holds nothing but blank lines"),
    "header only": (GOOD.encode(), "has a header and no rows; run the cell detection"),
    "header without end": (GOOD.strip().encode(), "has a header and no rows"),
    "cut in a row": ((GOOD + ROW + "A\t1\t2\t3\n").encode(), "has 4 values where the header has 5: the file is cut"),
    "row too long": ((GOOD + "A\t1\t2\t3\t4\t5\n").encode(), "has 6 values where the header has 5"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(50), "is a PNG picture, not a table of cells"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(50), "is a JPEG picture"),
    "tiff": (b"II*\0" + bytes(50), "is a TIFF picture"),
    "nifti": (NIFTI, "is a NIfTI image, not a table of cells"),
    "nifti, packed": (gzip.compress(NIFTI), "is a NIfTI image"),
    "qpdata": (b"\xac\xed\x00\x05" + bytes(50), r"is a QuPath data file \(\.qpdata\)"),
    "xls": (b"\xd0\xcf\x11\xe0" + bytes(50), "is an Excel workbook"),
    "pdf": (b"%PDF-1.4", "is a PDF document"),
    "binary": (bytes(range(256)), "is not a text file"),
    "gzip cut short": (gzip.compress((GOOD + ROW * 9000).encode())[:-30], "the archive is cut short or damaged"),
    "gzip of nothing": (gzip.compress(b""), "the file inside the archive is empty"),
    "zip cut short": (b"PK\x03\x04" + bytes(40), "the archive is cut short or damaged"),
    "prose": (b"Dear colleague\n", "is not a table: its first line is 'Dear colleague'"),
    "json": (b'{"type": "Nonsense"}', "JSON"),
    "no position": (b"Image\tCell: Area\nA\t3\n", "has no column 'Centroid X µm' or 'Centroid Y µm', so"),
    "half a position": ("Centroid X µm\tCell: Area\n1\t3\n".encode(), "has no column 'Centroid Y µm'"),
    "no area": ("Centroid X µm\tCentroid Y µm\n1\t3\n".encode(), "has no column 'Cell: Area' or 'Nucleus: Area'"),
    "old annotations": (
        "Name\tCentroid X µm\tCentroid Y µm\tArea µm^2\tPerimeter µm\nA\t1\t2\t3\t4\n".encode(),
        "is a table of annotations, not of cells",
    ),
    "annotations": (
        "Object type\tCentroid X µm\tCentroid Y µm\tArea µm^2\nAnnotation\t1\t2\t3\n".encode(),
        "holds no cells: its 1 objects are of type annotation",
    ),
    "words for numbers": ((GOOD + "A\tleft\t2\t30\t100\n").encode(), "column 'Centroid X µm' holds 'left', whi"),
    "mixed decimals": ((GOOD + "A\t1,5\t2\t3\t9\nA\t1.5\t2\t3\t9\n").encode(), r"column 'Centroid X µm' holds '1\.5'"),
    "no cell left": ((GOOD + "A\tNaN\t2\t30\t100\nA\t1\t2\t3\t-4\n").encode(), "no cell is left of 2 rows: 1 without"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_its_name(tmp_path, name):
    path = tmp_path / "bad.tsv"
    content, message = BAD[name]
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"bad\.tsv: .*{message}"):
        read_cells(path)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.tsv: no such QuPath export"):
        read_cells(tmp_path / "nowhere.tsv")
    with pytest.raises(InputError, match="is a folder"):
        read_cells(tmp_path)
    with pytest.raises(InputError, match="no QuPath export was given"):
        read_cells()


def test_a_zip_of_several_files_is_refused(tmp_path):
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.tsv", GOOD + ROW)
        archive.writestr("../../b.tsv", GOOD + ROW)
    with pytest.raises(InputError, match="is a zip of 2 files, and one table was expected"):
        read_cells(path)


def test_a_unit_that_is_not_known_names_the_option(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("Centroid X px\tCentroid Y px\tCell: Area\n1\t2\t3\n")
    with pytest.raises(UnitError, match="pass --mpp"):
        read_cells(path)
    for wrong in (0.0, -1.0, float("nan"), (0.2, 0.0)):
        with pytest.raises(InputError, match=r"mpp: must be (greater than 0|a finite number)"):
            read_cells(path, mpp=wrong)
    with pytest.raises(InputError, match="area_unit: must be 'um2' or 'px2'"):
        read_cells(path, mpp=0.5, area_unit="mm2")
    path.write_text("Centroid X µm\tCentroid Y µm\tCell: Area µm^2\n1\t2\t3\n", encoding="utf-8")
    with pytest.raises(UnitError, match="states its unit, and --area-unit px2 says otherwise"):
        read_cells(path, area_unit="px2")


def test_filters_that_keep_nothing_say_what_there_is(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("Class\t" + GOOD + "Tumor\t" + ROW + "\t" + ROW, encoding="utf-8")
    with pytest.raises(InputError, match="no cell is of class 'Stroma'; its classes are 'Tumor', 'None'"):
        read_cells(path, classes=["Stroma"])
    with pytest.raises(InputError, match="no cell is left of 2 rows: 2 larger than 1 µm"):
        read_cells(path, max_size_um=1)
    with pytest.raises(InputError, match="max_size_um: must be greater than 0"):
        read_cells(path, max_size_um=-1)
    assert len(read_cells(path, classes=["None"])) == 1
    path.write_text(GOOD + ROW, encoding="utf-8")
    with pytest.raises(InputError, match="has no classification"):
        read_cells(path, classes=["Tumor"])
    path.write_text(GOOD.replace("Image", "Parent") + ROW, encoding="utf-8")
    with pytest.raises(InputError, match="has no column 'Image'"):
        read_cells(path, image="A")


def test_a_last_line_without_end_is_told(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(GOOD + ROW.strip(), encoding="utf-8")
    table = read_cells(path)
    assert (len(table), table.metadata.dropped) == (1, {})
    assert "the last line of the file has no line end, so its last value may be cut" in table.metadata.warnings[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_row_cut_short_at_the_end_is_dropped_and_counted(tmp_path, encoding, end):
    path = tmp_path / "a.tsv"
    whole = (GOOD + ROW * 3).replace("\n", end)
    tabs = [place for place, letter in enumerate(whole) if letter == "\t" and place > whole.rstrip().rindex("\n")]
    for place in (tabs[0], tabs[-1]):
        path.write_bytes(whole[:place].encode(encoding))
        metadata = read_cells(path).metadata
        assert metadata.dropped == {"last row cut short": 1}
        assert (metadata.n_read, metadata.n_kept) == (3, 2)
        assert "cut short in its last row, which was left out" in metadata.warnings[0]


def test_short_rows_anywhere_else_are_an_error(tmp_path):
    path = tmp_path / "a.tsv"
    short = ROW[: ROW.rindex("\t")]
    for content in (
        ROW + short + "\n",
        short + "\n" + ROW + short,
        short + "\n" + ROW.rstrip(),
        ROW + ROW.strip() + "\t1",
    ):
        path.write_text(GOOD + content, encoding="utf-8")
        with pytest.raises(InputError, match="values where the header has"):
            read_cells(path)
    path.write_bytes(gzip.compress((GOOD + ROW + short).encode()))
    assert read_cells(path).metadata.dropped == {"last row cut short": 1}


def attempt(path):
    try:
        read_cells(path)
    except HistomriError as error:
        assert path.name in str(error)


@settings(deadline=None, max_examples=60)
@given(content=st.binary(max_size=200))
def test_random_bytes_never_give_a_traceback(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.tsv"
    path.write_bytes(content)
    attempt(path)


WORD = st.one_of(
    st.sampled_from(["", "NaN", "1", "-3.5", "1,5", "inf", "∞", "Cell", "Annotation", '"', '"a', "1e400", "\x00", "A"]),
    st.text(max_size=4),
)


@settings(deadline=None, max_examples=80)
@given(
    header=st.lists(st.sampled_from([*GOOD.strip().split("\t"), "Object type", "Name", "Class", "odd"]), max_size=7),
    rows=st.lists(st.lists(WORD, max_size=7), max_size=4),
    delimiter=st.sampled_from("\t,;"),
)
def test_random_tables_never_give_a_traceback(tmp_path_factory, header, rows, delimiter):
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.tsv"
    text = "\n".join(delimiter.join(row) for row in [header, *rows])
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    attempt(path)


def test_a_cell_table_refuses_what_is_no_cell():
    with pytest.raises(InputError, match="column x_um does not"):
        CellTable.from_columns([np.nan], [1], [1])
    with pytest.raises(InputError, match="positive areas only"):
        CellTable.from_columns([1], [1], [0])
    table = CellTable.from_columns([1], [1], [4 * np.pi])
    assert table.data["diameter_um"][0] == pytest.approx(4)
    with pytest.raises(InputError, match="needs the columns y_um"):
        CellTable(table.data.drop(columns="y_um"))


def test_a_saved_table_comes_back_whole(tmp_path):
    source = tmp_path / "a.tsv"
    source.write_text(GOOD + ROW + "A\t9\t9\t3\tNaN\n", encoding="utf-8")
    table = read_cells(source, mpp=(0.2, 0.3))
    table.save(tmp_path / "a.parquet")
    back = CellTable.load(tmp_path / "a.parquet")
    assert back.metadata == table.metadata
    assert back.data.equals(table.data)


def test_a_table_that_is_no_cell_table_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"a\.parquet: is not a Parquet file, or it is cut short; make it with"):
        CellTable.load(path)
    CellTable.from_columns([1], [1], [1]).data.to_parquet(path)
    with pytest.raises(InputError, match="no cell table of histomri"):
        CellTable.load(path)
    with pytest.raises(
        InputError, match="a Parquet file, not a table of cells; a table made by `histomri cells` goes into"
    ):
        read_cells(path)
