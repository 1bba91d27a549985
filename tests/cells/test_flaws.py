"""Tables with flaws: repeated headers, missing empty fields, separators between thousands."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.cells import read_cells
from histomri.core.errors import InputError

DATA = Path(__file__).parents[1] / "data" / "histology"
HEADER = "Image\tCentroid X µm\tCentroid Y µm\tCell: Area\tNote\tMore\n"


def test_the_case_files():
    table = read_cells(DATA / "ragged_trailing_empty.tsv")
    assert len(table) == 300
    assert any(
        "60 rows lack the last field, which is empty in all other rows" in text for text in table.metadata.warnings
    )
    assert len(read_cells(DATA / "excel_de_thousands.csv")) == 200
    with pytest.raises(InputError, match=r"'5,118\.0', which is not a number"):
        read_cells(DATA / "excel_us_thousands.csv")


@settings(deadline=None, max_examples=30)
@given(
    rows=st.lists(st.integers(0, 2), min_size=1, max_size=12), headers=st.lists(st.integers(0, 12), max_size=3),
    encoding=st.sampled_from(["utf-8", "utf-16"]), end=st.sampled_from(["\n", "\r\n"]), ended=st.booleans(),
)  # fmt: skip
def test_flaws_are_mended_and_counted(tmp_path_factory, rows, headers, encoding, end, ended):
    """Each row lacks up to two of its empty fields; the header comes again in places."""
    lines = [f"A\t{30 * i}\t5\t90" + "\t" * (2 - lacking) for i, lacking in enumerate(rows)]
    for place in sorted(headers, reverse=True):
        lines.insert(min(place, len(rows)), HEADER.strip("\n"))
    path = tmp_path_factory.mktemp("flaws") / "t.tsv"
    text = HEADER + "\n".join(lines) + ("\n" if ended or rows[-1] else "")
    path.write_bytes(text.replace("\n", end).encode(encoding))
    table = read_cells(path)
    assert table.data["x_um"].tolist() == [30 * i for i in range(len(rows))]
    assert table.metadata.dropped == ({"line that repeats the header": len(headers)} if headers else {})
    assert table.metadata.n_read == len(rows) + len(headers)
    warnings = " ".join(table.metadata.warnings)
    assert ("rows lack the last field" in warnings) == any(rows)


def test_a_field_that_is_missing_elsewhere_is_an_error(tmp_path):
    path = tmp_path / "t.tsv"
    for rows in ("A\t1\t2\t90\tx\ty\nA\t9\t2\t90\tx\n", "A\t1\t2\n", "A\t1\t2\t90\t\t\nA\t1\t2\n"):
        path.write_text(HEADER + rows, encoding="utf-8")
        with pytest.raises(InputError, match="values where the header has 6"):
            read_cells(path)


@pytest.mark.parametrize("sign", [".", ","])
def test_separators_between_thousands_are_refused(tmp_path, sign):
    path = tmp_path / "t.csv"
    head = "Centroid X µm;Centroid Y µm;Cell: Area\n"
    path.write_text(head + f"511;20;90\n9{sign}990;30;95\n1{sign}204;44;91\n", encoding="utf-8")
    with pytest.raises(InputError, match="between thousands, which would be read as decimals; save it again without"):
        read_cells(path)
    path.write_text(head + f"511{sign}5;20;90\n9{sign}990;30;95\n1{sign}204;44;91\n", encoding="utf-8")
    assert read_cells(path).data["x_um"].tolist() == [511.5, 9.99, 1.204]
