"""The door: damage is noticed while a file is read, memory is asked for first, and mistakes are not hidden."""

import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from histomri.cells import read_cells
from histomri.core import nifti
from histomri.core.array_files import as_numbers, read_array, read_arrays, read_parquet
from histomri.core.budget import memory_budget, require_memory
from histomri.core.door import Inflated, check_png, check_zip, parse_json, read_toml, reading
from histomri.core.errors import InputError, ProtocolError
from histomri.core.images import Image
from histomri.core.tables import read_table

HEADER = "Image\tObject ID\tClass\tCentroid X µm\tCentroid Y µm\tCell: Area\n"


def cells(rng):
    rows = rng.uniform((10, 10, 60), (900, 900, 250), (60, 3)).round(2)
    return (HEADER + "".join(f"a\ti{k}\tT\t{x}\t{y}\t{a}\n" for k, (x, y, a) in enumerate(rows))).encode()


def zipped(content, name="a.tsv"):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def volume(rng, packed=True):
    image = nib.Nifti1Image(rng.normal(100, 10, (6, 5, 4)).astype(np.float32), np.diag([2.0, 2, 3, 1]))
    return gzip.compress(image.to_bytes(), mtime=0) if packed else image.to_bytes()


@pytest.mark.parametrize(
    ("name", "make", "read"),
    [
        ("a.nii.gz", volume, lambda path: Image.load(path).data),
        ("a.tsv.gz", lambda rng: gzip.compress(cells(rng), mtime=0), lambda path: read_cells(path).data.to_csv()),
        ("a.zip", lambda rng: zipped(cells(rng)), lambda path: read_cells(path).data.to_csv()),
    ],
)
def test_no_flipped_bit_of_an_archive_changes_a_value(tmp_path, rng, name, make, read):
    """400 bits each; the few of a header that hold a date or the name of a system change nothing that is read."""
    content, path = make(rng), tmp_path / name
    path.write_bytes(content)
    right, draw, refused = read(path), random.Random(5), 0
    for _ in range(400):
        at = draw.randrange(8 * len(content))
        path.write_bytes(content[: at // 8] + bytes([content[at // 8] ^ (1 << at % 8)]) + content[at // 8 + 1 :])
        try:
            assert np.array_equal(read(path), right), at
        except InputError as error:
            assert error.path == path
            refused += 1
    assert refused >= 380


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_a_gzip_file_is_inflated_as_gzip_does(tmp_path, rng, size):
    parts = [rng.integers(0, 9, 300_000, dtype=np.uint8).tobytes(), b"", rng.bytes(5000)]
    path = tmp_path / "a.gz"
    path.write_bytes(b"".join(map(gzip.compress, parts)) + bytes(100))  # members in a row, and zeros after them
    found = bytearray()
    with Inflated(path) as stream:
        while part := stream.read(size) if size > 7 or len(found) < 500 else stream.read(1 << 16):
            found += part
    assert bytes(found) == gzip.decompress(path.read_bytes()) == b"".join(parts)


# Byte and format of the fields of a NIfTI-1 header, from the standard (nifti1.h).
HEADERS = {
    "no axis": (40, "<h", 0, "0 axes"),
    "eight axes": (40, "<h", 8, "8 axes"),
    "a negative size": (42, "<h", -6, "-6 x 5 x 4 voxels"),
    "no voxel": (44, "<h", 0, "not possible"),
    "more voxels than the file has": (42, "<h", 32767, "is cut short or damaged: 32767 x 5 x 4"),
    "an infinite offset": (108, "<f", np.inf, "its header is not possible"),
    "a negative offset": (108, "<f", -352.0, "its header is not possible"),
    "an offset behind the end": (108, "<f", 1e6, "is cut short or damaged"),
    "a slope that is no number": (112, "<f", np.nan, "slope nan"),
    "an infinite intercept": (116, "<f", np.inf, "intercept inf"),
    "an affine that is no number": (280, "<f", np.nan, "the affine in its header is not finite"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("fault", HEADERS)
def test_a_nifti_header_that_is_not_possible_is_refused(tmp_path, rng, fault, packed):
    at, form, value, message = HEADERS[fault]
    content = bytearray(volume(rng, packed=False))
    struct.pack_into(form, content, at, value)
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    path.write_bytes(gzip.compress(content) if packed else content)
    if packed and "cut short" in message:
        message = "cut short or damaged"
    with pytest.raises(InputError, match=message) as caught:
        Image.load(path)
    assert caught.value.path == path


def test_memory_is_asked_for_before_it_is_taken(tmp_path, rng, monkeypatch):
    monkeypatch.setenv("HISTOMRI_MEMORY", "1M")
    assert memory_budget() == 1 << 20
    for name, make in {
        "a.nii.gz": lambda path: nib.save(nib.Nifti1Image(np.zeros((90, 90, 90), np.int16), np.eye(4)), path),
        "a.csv": lambda path: path.write_text("a,b\n" + "1,2\n" * 100_000),
        "a.parquet": lambda path: pd.DataFrame({"a": np.zeros(300_000), "b": 1.0}).to_parquet(path),
        "a.npy": lambda path: np.save(path, np.zeros(200_000)),
        "a.json": lambda path: path.write_text("[" + "1," * 500_000 + "1]"),
    }.items():
        make(path := tmp_path / name)
        read = {"a.nii.gz": Image.load, "a.npy": read_array, "a.json": read_whole}.get(name, read_table)
        with pytest.raises(InputError, match=r"GiB of memory, and 0\.0 GiB are allowed; .*set HISTOMRI_MEMORY"):
            read(path)
    monkeypatch.setenv("HISTOMRI_MEMORY", "64 MB")
    assert Image.load(tmp_path / "a.nii.gz").data.shape == (90, 90, 90)
    monkeypatch.setenv("HISTOMRI_MEMORY", "much")
    with pytest.raises(InputError, match="HISTOMRI_MEMORY is 'much', which is no size; set it as in"):
        require_memory(1, "a", "file")


def read_whole(path):
    from histomri.core.door import read_json

    return read_json(path)


def test_the_default_budget_is_a_quarter_of_the_machine(monkeypatch):
    monkeypatch.delenv("HISTOMRI_MEMORY", raising=False)
    lines = Path("/proc/meminfo").read_text().splitlines()
    physical = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal"))
    assert 0 < memory_budget() <= physical / 4 * 1.001


def test_mistakes_of_histomri_are_not_taken_for_damage(tmp_path, rng, monkeypatch):
    path = tmp_path / "a.nii"
    path.write_bytes(volume(rng, packed=False))
    monkeypatch.setattr(nifti, "np", None)
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute"):
        Image.load(path)
    with pytest.raises(NameError), reading("a", "file"):
        undefined  # noqa: B018, F821
    with pytest.raises(NameError), reading("a", "file", unchecked=True):
        undefined  # noqa: B018, F821


def test_whatever_a_library_raises_is_one_message_with_the_file():
    class Odd(Exception):
        pass

    said = r"a\.x: is not a readable thing \(first line\); copy or export it again"
    for error in (
        Odd("first line\nsecond"),
        OSError("first line"),
        zlib.error("first line"),
        StopIteration("first line"),
    ):
        with pytest.raises(InputError, match=said), reading("a.x", "thing"):
            raise error
    words = ("a.x", "thing", "do it", "{} here", ProtocolError)
    with pytest.raises(ProtocolError, match=r"a\.x: 'b' is missing here; do it"), reading(*words):
        {}["b"]
    with pytest.raises(InputError, match=r"a\.x: the thing needs more memory than"), reading("a.x", "thing"):
        raise MemoryError
    with pytest.raises(InputError, match=r"b\.x: wrong"), reading("a.x", "thing"):
        raise InputError("wrong", path="b.x")


@pytest.mark.parametrize("digits", [21, 400, 5000])
def test_whole_numbers_beyond_64_bits_are_refused(tmp_path, digits):
    with pytest.raises(InputError, match=f"a whole number of {digits} digits"):
        parse_json(f'{{"a": [1, {"7" * digits}]}}', "a.json")
    (tmp_path / "a.toml").write_text(f"[s]\na = {'7' * digits}\n")
    with pytest.raises(InputError, match="is not valid TOML"):
        read_toml(tmp_path / "a.toml", "study file")
    assert parse_json(f"[{2**63}, {-(2**63)}, 1e400]", "a.json") == [2**63, -(2**63), float("inf")]


def test_a_zip_is_read_to_its_end_and_its_headers_agree(tmp_path):
    path, content = tmp_path / "a.zip", zipped(b"0123456789" * 50)
    path.write_bytes(content)
    assert check_zip(path, "thing") == {"a.tsv": 500}
    at = content.index(b"PK\x01\x02")
    for place, said in ((at + 24, "contradict"), (22, "contradict"), (40, "")):  # size in either header, the data
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(InputError, match=f"is not a readable thing .*{said}"), reading(path, "thing"):
            check_zip(path, "thing")
    path.write_bytes(zipped(bytes(30_000_000)))
    assert len(check_zip(path, "thing")) == 1
    with pytest.raises(InputError, match="unpacks to 30,000,000 bytes, as no workbook does"):
        check_zip(path, "workbook", most_ratio=100)


def test_checksums_of_arrays_parquet_and_png(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(1000.0))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    with pytest.raises(InputError, match=r"a\.npz: is not a readable result \(Bad CRC-32"):
        read_arrays(tmp_path / "a.npz", "result")
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"a": np.random.default_rng(0).normal(size=1000)})
    pq.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False, write_page_checksum=True)
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[:900] + bytes([content[900] ^ 1]) + content[901:])
    with pytest.raises(InputError, match=r"a\.parquet: is not a readable table"):
        read_parquet(tmp_path / "a.parquet", "table")
    from PIL import Image as Picture

    Picture.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "a.png")
    check_png(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    with pytest.raises(ValueError, match="a checksum in it differs"):
        check_png(tmp_path / "a.png")


def test_a_stray_cell_in_the_far_corner_of_a_sheet_takes_no_memory(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["a", "b"], [1, 2], [3, 4]):
        book.active.append(row)
    book.active.cell(1_048_576, 16_384, 1)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="line 1048576 has a cell in a column without a name"):
        read_table(tmp_path / "a.xlsx")


def test_numbers_of_json():
    assert as_numbers([[1, 2.5], [3, 4]]).tolist() == [[1, 2.5], [3, 4]]
    for wrong in ({"a": 1}, [[1], [2, 3]], ["x"], [None, {}], json.loads("[1, [2]]")):
        with pytest.raises(ValueError, match=r"."):
            as_numbers(wrong)
